"""Training samples: a picture, its annotated objects, and some of its expressions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from grex_ros.model.config import RelaConfig
from grex_ros.model.rela import STRIDE
from training.criterion import PictureTruth
from training.outlines import Closeup

from . import official
from .mirror import mirrored_text
from .paraphrase import paraphrased
from .photometric import photometric
from .records import DatasetError, Record, instance_mask, merged_mask, read_image
from .substitution import Substitutes
from .zoom import random_zoom

CELL = 4  # pixels: a cell of the mask features
TRUTH = ("masks", "boxes", "meant", "outlined")  # tensors of a PictureTruth


@dataclass
class Sample:
    """One picture at the model's size and E of its expressions."""

    index: int  # the picture's place in the dataset
    pixels: Tensor  # (3, h, w) uint8 RGB, without padding
    truth: PictureTruth
    texts: list[str]
    closeup: Closeup | None = None


@dataclass
class Said:
    """What is said of a picture: texts, and which of its K objects each means."""

    texts: list[str]
    meant: Tensor  # (E, K) 1 = the expression means the object

    @property
    def empty(self) -> list[bool]:
        """Which expressions mean nothing."""
        return (self.meant.sum(1) == 0).tolist()


class TrainingPictures:
    """Pictures with their objects; several expressions share one image pass.

    Args:
        records: as the loaders of ``training.dataset`` give them. Pictures in which nothing is
            annotated, or of which nothing is said, are left out.
        cfg: the model's config (picture size).
        expressions: E, expressions drawn per picture and visit.
        augment: change brightness, contrast, colour balance, noise and blur.
        mirror: share of pictures that are mirrored, and their words with them (:mod:`.mirror`).
        closeups: keep the pictures and their objects at their own size, too; none is zoomed.
        zoom: share of pictures that are scaled and stretched (:mod:`.zoom`).
        substitution: share of expressions that come from another picture (:mod:`.substitution`).
        paraphrase: share of expressions that are said in rarer words (:mod:`.paraphrase`).
    """

    def __init__(
        self,
        records: Sequence[Record],
        cfg: RelaConfig,
        expressions: int,
        augment: bool,
        zoom: float = 0.0,
        substitution: float = 0.0,
        mirror: float = 0.0,
        closeups: bool = False,
        paraphrase: float = 0.0,
    ) -> None:
        self.records = [r for r in records if r.instances and r.expressions]
        self.cfg, self.count, self.augment = cfg, expressions, augment
        self.zoom, self.substitution, self.mirror = zoom, substitution, mirror
        self.closeups, self.paraphrase = closeups, paraphrase
        self.substitutes = Substitutes(self.records if substitution else ())
        self._objects: dict[tuple[int, bool], tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.records)

    def said(self, index: int, rng: np.random.Generator) -> Said:
        """Some expressions of picture ``index``."""
        record = self.records[index]
        chosen = rng.choice(
            len(record.expressions), self.count, replace=len(record.expressions) < self.count
        )
        column = {instance.ann_id: k for k, instance in enumerate(record.instances)}
        said = Said([], torch.zeros(self.count, len(record.instances)))
        for row, k in enumerate(chosen):
            expression = record.expressions[k]
            foreign = rng.random() < self.substitution and self.substitutes.draw(record, rng)
            text = foreign or expression.text
            if rng.random() < self.paraphrase:
                text = paraphrased(text, rng)
            said.texts.append(text)
            for ann_id in () if foreign else expression.ann_ids:
                said.meant[row, column[ann_id]] = 1
        return said

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """Picture ``index`` and what is said of it. DatasetError if it cannot be read, or is of
        another size than its record says."""
        record = self.records[index]
        said = self.said(index, rng)  # first, so that it does not hang on the picture
        image = read_image(record)
        height, width = size = self.shape(index)
        mirrored = bool(rng.random() < self.mirror)
        if mirrored:
            image = image[:, ::-1].copy()
            said.texts = [mirrored_text(text) for text in said.texts]
        if (index, mirrored) not in self._objects:
            self._objects[index, mirrored] = self._annotated(record, height, width, mirrored)
        masks, boxes = self._objects[index, mirrored]
        if self.closeups:
            image = whole = photometric(image, rng) if self.augment else image
        if rng.random() < self.zoom and not self.closeups:
            moved = random_zoom(size, boxes, rng)
            fill = tuple(round(value) for value in self.cfg.pixel_mean)
            image = moved.picture(image, fill)
            masks, boxes = moved.masks(masks, CELL), moved.boxes(boxes)
        elif image.shape[:2] != size:
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        if self.augment and not self.closeups:
            image = photometric(image, rng)
        truth = PictureTruth(
            torch.from_numpy(masks).float() / 255,
            _relative(boxes, *(4 * side for side in masks.shape[1:])),
            said.meant,
            [instance.name for instance in record.instances],
            torch.tensor([instance.outlined for instance in record.instances]),
        )
        sample = Sample(index, _channels_first(image), truth, said.texts)
        if self.closeups:
            drawn = self._drawn(record, mirrored)
            sample.closeup = Closeup(sample.pixels, _channels_first(whole), drawn)
        return sample

    @staticmethod
    def _drawn(record: Record, mirrored: bool) -> Tensor:
        """:attr:`Closeup.masks`."""
        masks = np.stack([instance_mask(i, record.height, record.width) for i in record.instances])
        return torch.from_numpy(np.ascontiguousarray(masks[:, :, ::-1] if mirrored else masks))

    def shape(self, index: int) -> tuple[int, int]:
        """Height and width of picture ``index`` in a sample."""
        side, record = self.cfg.image_size, self.records[index]
        if not self.cfg.keep_aspect:
            return side, side
        scale = side / max(record.height, record.width)
        return round(record.height * scale), round(record.width * scale)

    def _annotated(
        self, record: Record, height: int, width: int, mirrored: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Masks (K, H/4, W/4) uint8 of the padded picture, each cell averaged; boxes (K, 4) x0,
        y0, x1, y1 in pixels."""
        padded = (height + -height % STRIDE, width + -width % STRIDE)
        masks = []
        for instance in record.instances:
            try:
                found = instance_mask(instance, record.height, record.width)
            except DatasetError as error:
                raise DatasetError(f"{record.image_path}: {error}") from error
            full: np.ndarray = found.astype(np.uint8) * 255
            if full.shape != (height, width):
                full = cv2.resize(full, (width, height), interpolation=cv2.INTER_AREA)
            if mirrored:
                full = full[:, ::-1].copy()
            mask = torch.from_numpy(full).float()[None, None]
            mask = F.pad(mask, (0, padded[1] - width, 0, padded[0] - height))
            masks.append(F.avg_pool2d(mask, CELL)[0, 0].round().to(torch.uint8).numpy())
        scale = (width / record.width, height / record.height)
        boxes = np.array([instance.box for instance in record.instances]) * (*scale, *scale)
        if mirrored:
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
        return np.stack(masks), boxes


@dataclass
class OfficialSample:
    """One picture at the model's size and one of its expressions."""

    index: int  # the expression's place in the dataset
    pixels: Tensor  # (3, S, S) uint8 RGB
    union: Tensor  # (S, S) float32 0 or 1: all that the expression means
    empty: bool  # it means nothing
    text: str

    def pin_memory(self) -> OfficialSample:
        """The same with its picture where a GPU reads it fastest; a DataLoader asks for it."""
        return replace(self, pixels=self.pixels.pin_memory())


class OfficialPictures:
    """Every expression with its picture, as the official data mapper gives them: squeezed to a
    square, not augmented.

    Args:
        records: as the loaders of ``training.dataset`` give them, with ``raw``.
        cfg: the model's config. ValueError if it pads its pictures.
        substitution: share of expressions that come from another picture (:mod:`.substitution`);
            officially none.
    """

    def __init__(
        self, records: Sequence[Record], cfg: RelaConfig, substitution: float = 0.0
    ) -> None:
        if cfg.keep_aspect or cfg.image_size % STRIDE:
            raise ValueError(
                f"the official recipe takes squares of a multiple of {STRIDE} pixels, which "
                f"preset {cfg.name} with image_size {cfg.image_size} does not"
            )
        self.side, self.substitution = cfg.image_size, substitution
        self.pairs = [(record, said) for record in records for said in record.expressions]
        self.substitutes = Substitutes(records if substitution else ())

    def __len__(self) -> int:
        return len(self.pairs)

    def shape(self, index: int) -> tuple[int, int]:
        """Height and width of the picture in every sample."""
        return self.side, self.side

    def said(self, index: int, rng: np.random.Generator) -> Said:
        """Expression ``index``, or what stands for it."""
        record, said = self.pairs[index]
        foreign = rng.random() < self.substitution and self.substitutes.draw(record, rng)
        meant = [not foreign and i.ann_id in said.ann_ids for i in record.instances]
        return Said([foreign or said.text], torch.tensor([meant]).float())

    def sample(self, index: int, rng: np.random.Generator) -> OfficialSample:
        """Expression ``index`` with its picture. DatasetError if that cannot be read."""
        record, expression = self.pairs[index]
        said = self.said(index, rng)
        pixels = official.read_image(record, self.side).transpose(2, 0, 1)
        if said.empty[0]:
            expression = replace(expression, ann_ids=())
        meant = replace(record, instances=record.targets(expression))
        union = merged_mask(official.squeeze(meant, self.side), expression)
        return OfficialSample(
            index,
            torch.from_numpy(np.ascontiguousarray(pixels)),
            torch.from_numpy(union).float(),
            said.empty[0],
            said.texts[0],
        )


def pad_alike(samples: Sequence[Sample], mode: str = "constant") -> list[Sample]:
    """The samples with masks (K, H/4, W/4) and boxes of one padded size (H, W), the least that
    holds every picture, so that they can share a pass. ``mode`` of ``F.pad``."""
    height = max(s.truth.masks.shape[1] for s in samples)
    width = max(s.truth.masks.shape[2] for s in samples)
    if all(s.truth.masks.shape[1:] == (height, width) for s in samples):
        return list(samples)
    out = []
    for sample in samples:
        truth = sample.truth
        h, w = truth.masks.shape[1:]
        masks = F.pad(truth.masks, (0, width - w, 0, height - h), mode)
        boxes = truth.boxes * truth.boxes.new_tensor([w / width, h / height] * 2)
        out.append(replace(sample, truth=replace(truth, masks=masks, boxes=boxes)))
    return out


@dataclass
class Batch:
    """Samples with their tensors end to end: few to send to another process and to a GPU."""

    tensors: dict[str, Tensor]  # pixels, masks, boxes, meant, outlined; of closeups whole, drawn
    shapes: list[dict[str, torch.Size]]  # of every sample
    about: list[tuple[int, list[str], list[str]]]  # index, texts, names of the objects
    # All texts as :class:`Tokenizer` gives them, where they are to be encoded anew, and what
    # :func:`target_sentences` makes of them.
    words: tuple[Tensor, Tensor] | None = None
    sentences: Tensor | None = None

    @staticmethod
    def of(samples: Sequence[Sample]) -> Batch:
        """The batch of ``samples``, in their order."""
        parts = [{name: getattr(s.truth, name) for name in TRUTH} for s in samples]
        for part, sample in zip(parts, samples, strict=True):
            part["pixels"] = sample.pixels
            if sample.closeup is not None:
                part["whole"], part["drawn"] = sample.closeup.whole, sample.closeup.masks
        return Batch(
            {name: torch.cat([part[name].flatten() for part in parts]) for name in parts[0]},
            [{name: value.shape for name, value in part.items()} for part in parts],
            [(s.index, s.texts, s.truth.names) for s in samples],
        )

    def pin_memory(self) -> Batch:
        """The same where a GPU reads it fastest; a DataLoader asks for it."""
        return replace(self, tensors={name: t.pin_memory() for name, t in self.tensors.items()})

    def samples(self, device: torch.device) -> list[Sample]:
        """The samples, on ``device``."""
        parts: dict[str, tuple[Tensor, ...]] = {}
        for name, tensor in self.tensors.items():
            sizes = [shape[name].numel() for shape in self.shapes]
            parts[name] = tensor.to(device, non_blocking=True).split(sizes)
        found = []
        for i, (index, texts, names) in enumerate(self.about):
            views = {name: part[i].view(self.shapes[i][name]) for name, part in parts.items()}
            pixels, closeup = views.pop("pixels"), None
            if "whole" in views:
                closeup = Closeup(pixels, views.pop("whole"), views.pop("drawn"))
            found.append(Sample(index, pixels, PictureTruth(names=names, **views), texts, closeup))
        return found


def _channels_first(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _relative(boxes: np.ndarray, height: int, width: int) -> Tensor:
    """(K, 4) x0, y0, x1, y1 in pixels -> centre x, y, width, height in 0..1."""
    low, high = boxes[:, :2], boxes[:, 2:]
    size = np.array((width, height))
    return torch.from_numpy(
        np.concatenate(((low + high) / 2 / size, (high - low) / size), 1)
    ).float()
