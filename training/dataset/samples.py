"""Training samples: a picture, its annotated objects, and some of its expressions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from grex_ros.model.config import RelaConfig
from grex_ros.model.rela import STRIDE
from training.criterion import PictureTruth

from . import official
from .grefcoco import DatasetError, Record, instance_mask, merged_mask
from .photometric import photometric


@dataclass
class Sample:
    """One picture at the model's size and E of its expressions."""

    index: int  # the picture's place in the dataset
    pixels: Tensor  # (3, h, w) uint8 RGB, without padding
    truth: PictureTruth
    texts: list[str]


class TrainingPictures(Dataset[Sample]):
    """Pictures of a gRefCOCO-layout dataset; several expressions share one image pass.

    Args:
        records: as loaded by :func:`training.dataset.grefcoco.load_grefcoco`.
        cfg: the model's config (picture size).
        expressions: E, expressions drawn per picture and visit.
        augment: change brightness, contrast, colour balance, noise and blur. Never mirrored:
            left would become right.
    """

    def __init__(
        self, records: list[Record], cfg: RelaConfig, expressions: int, augment: bool
    ) -> None:
        self.records = [r for r in records if r.instances and r.expressions]
        self.cfg, self.count, self.augment = cfg, expressions, augment
        self._objects: dict[int, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        record = self.records[index]
        image = cv2.imread(str(record.image_path), cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise DatasetError(f"cannot read picture {record.image_path} (image {record.image_id})")
        height, width = self._size(record)
        if image.shape[:2] != (height, width):
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        generator = np.random.default_rng(int(torch.randint(2**62, ()).item()))
        if self.augment:
            image = photometric(image, generator)
        if index not in self._objects:
            self._objects[index] = self._annotated(record, height, width)
        masks, boxes = self._objects[index]
        chosen = generator.choice(
            len(record.expressions), self.count, replace=len(record.expressions) < self.count
        )
        column = {instance.ann_id: k for k, instance in enumerate(record.instances)}
        meant = torch.zeros(self.count, len(record.instances))
        texts = []
        for row, k in enumerate(chosen):
            expression = record.expressions[k]
            texts.append(expression.text)
            for ann_id in expression.ann_ids:
                meant[row, column[ann_id]] = 1
        pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        names = [instance.name for instance in record.instances]
        truth = PictureTruth(masks.float() / 255, boxes, meant, names)
        return Sample(index, pixels, truth, texts)

    def _size(self, record: Record) -> tuple[int, int]:
        side = self.cfg.image_size
        if not self.cfg.keep_aspect:
            return side, side
        scale = side / max(record.height, record.width)
        return round(record.height * scale), round(record.width * scale)

    def _annotated(self, record: Record, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Masks (K, H/4, W/4) uint8 of the padded picture, each cell averaged; boxes (K, 4)."""
        padded = (height + -height % STRIDE, width + -width % STRIDE)
        masks, boxes = [], []
        for instance in record.instances:
            found = instance_mask(instance, record.height, record.width)
            full: np.ndarray = found.astype(np.uint8) * 255
            if full.shape != (height, width):
                full = cv2.resize(full, (width, height), interpolation=cv2.INTER_AREA)
            mask = torch.from_numpy(full).float()[None, None]
            mask = F.pad(mask, (0, padded[1] - width, 0, padded[0] - height))
            masks.append(F.avg_pool2d(mask, 4)[0, 0].round().to(torch.uint8))
            x0, y0, x1, y1 = instance.box
            sx = width / record.width / padded[1]
            sy = height / record.height / padded[0]
            boxes.append(((x0 + x1) / 2 * sx, (y0 + y1) / 2 * sy, (x1 - x0) * sx, (y1 - y0) * sy))
        return torch.stack(masks), torch.tensor(boxes)


@dataclass
class OfficialSample:
    """One picture at the model's size and one of its expressions."""

    pixels: Tensor  # (3, S, S) uint8 RGB
    union: Tensor  # (S, S) float32 0 or 1: all that the expression means
    empty: bool  # it means nothing
    text: str


class OfficialPictures(Dataset[OfficialSample]):
    """Every expression with its picture, as the official data mapper gives them: squeezed to a
    square, not augmented.

    Args:
        records: as loaded by :func:`training.dataset.grefcoco.load_grefcoco`, with ``raw``.
        cfg: the model's config. ValueError if it pads its pictures.
    """

    def __init__(self, records: list[Record], cfg: RelaConfig) -> None:
        if cfg.keep_aspect or cfg.image_size % STRIDE:
            raise ValueError(
                f"the official recipe takes squares of a multiple of {STRIDE} pixels, which "
                f"preset {cfg.name} with image_size {cfg.image_size} does not"
            )
        self.side = cfg.image_size
        self.pairs = [(record, said) for record in records for said in record.expressions]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> OfficialSample:
        record, said = self.pairs[index]
        pixels = official.read_image(record, self.side).transpose(2, 0, 1)
        meant = replace(record, instances=record.targets(said))
        union = merged_mask(official.squeeze(meant, self.side), said)
        return OfficialSample(
            torch.from_numpy(np.ascontiguousarray(pixels)),
            torch.from_numpy(union).float(),
            said.no_target,
            said.text,
        )


def collate(samples: list[Any]) -> list[Any]:
    """Pictures may differ in size, so a batch stays a list."""
    return samples
