"""The one door between a program and the model: picture and expressions in, answers out."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from grex_ros.model.checkpoint import DEFAULT_CHECKPOINT, file_digest, load_checkpoint
from grex_ros.model.region_decoder import RegionState, RelaOutput
from grex_ros.model.rela import STRIDE, ReLA
from grex_ros.model.text_encoder import Tokenizer, wheel_folder

from .objects import GroundedObject, Grounding, Status, crop_mask

PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
TEXT_CACHE = 256  # expressions whose word features are kept


@dataclass(frozen=True)
class Thresholds:
    """When something is said to be there, each 0..1.

    Attributes:
        target: least score of an object (target score x (1 - no-target score)).
        mask: least probability of a pixel of an object.
        no_target: from this no-target score on, the answer is "no target".
    """

    target: float = 0.5
    mask: float = 0.5
    no_target: float = 0.5


class Grounder:
    """Grounds expressions in pictures. Not thread safe."""

    def __init__(
        self, model: ReLA, tokenizer: Tokenizer, name: str, thresholds: Thresholds
    ) -> None:
        if not model.cfg.instance_heads:
            raise ValueError(f"{model.cfg.name} has no instance heads, so it finds no objects")
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.name = name
        self.thresholds = thresholds
        self.dtype = torch.float32
        self._words: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()
        self._state: RegionState | None = None
        self._size = (0, 0)  # height, width of the picture
        self._scaled = (0, 0)  # ... as the model sees it, without padding
        self._image_seconds = 0.0

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.pixel_mean.device

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        device: str = "auto",
        precision: str = "auto",
    ) -> Grounder:
        """Loads a checkpoint; None = the one in the package.

        Args:
            path: a .safetensors file.
            device: auto (GPU where there is one), cpu, cuda, cuda:1, ...
            precision: auto (float16 on a GPU, float32 on the CPU), float32, float16, bfloat16.

        Raises:
            CheckpointError: the file cannot be used; the message says what to do.
            ValueError: no such device or precision here.
        """
        place = choose_device(device)
        if precision != "auto" and precision not in PRECISIONS:
            raise ValueError(f"precision must be auto, {', '.join(PRECISIONS)}, not {precision!r}")
        if precision == "float16" and place.type == "cpu":
            raise ValueError("float16 needs a GPU; use float32 on the CPU")
        file = DEFAULT_CHECKPOINT if path is None or path == "" else path
        model, metadata = load_checkpoint(file)
        tokenizer = Tokenizer(wheel_folder(model.cfg.text_wheel), model.cfg.max_tokens)
        thresholds = Thresholds(no_target=float(metadata.get("no_target_threshold", 0.5)))
        name = f"{model.cfg.name}@{file_digest(file)[:12]}"
        grounder = cls(model.to(place), tokenizer, name, thresholds)
        if precision == "auto":
            precision = "float16" if place.type == "cuda" else "float32"
        grounder.dtype = PRECISIONS[precision]
        return grounder

    @torch.inference_mode()
    def set_image(self, image: npt.NDArray[np.uint8]) -> None:
        """Encodes a picture, (H, W, 3) uint8 RGB, once for all expressions that follow.

        Raises:
            ValueError: another shape or type.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(f"image must be (H, W, 3) uint8, not {image.shape} {image.dtype}")
        start = time.perf_counter()
        self._state = None
        self._size = image.shape[:2]
        scaled = resize_for(self.model, image)
        self._scaled = scaled.shape[:2]
        pixels = torch.from_numpy(scaled).permute(2, 0, 1).to(self.device)
        with self._autocast():
            batch = self.model.normalise([pixels]).contiguous(memory_format=torch.channels_last)
            self._state = self.model.encode_image(batch)
        self._image_seconds = time.perf_counter() - start

    @torch.inference_mode()
    def ground(self, expressions: Sequence[str]) -> list[Grounding]:
        """One answer per expression, about the picture of :meth:`set_image`, in their order.

        Raises:
            RuntimeError: there is no picture yet.
        """
        if self._state is None:
            raise RuntimeError("set_image() comes first")
        if not expressions:
            return []
        start = time.perf_counter()
        words, mask = self._encode(expressions)
        with self._autocast():
            out = self.model.ground(self._state.repeat([len(expressions)]), words, mask)
        answers = [self._answer(text, out, i) for i, text in enumerate(expressions)]
        seconds = self._image_seconds + (time.perf_counter() - start) / len(expressions)
        return [replace(answer, latency=seconds) for answer in answers]

    def _autocast(self) -> torch.autocast:
        enabled = self.dtype is not torch.float32
        dtype = self.dtype if enabled else torch.bfloat16
        return torch.autocast(self.device.type, dtype=dtype, enabled=enabled)

    def _encode(self, expressions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Word features (B, L, C) and mask (B, L), each expression encoded once."""
        for text in expressions:
            if text not in self._words:
                tokens, mask = (t.to(self.device) for t in self.tokenizer([text]))
                with self._autocast():
                    self._words[text] = self.model.encode_text(tokens, mask)[0], mask[0]
            self._words.move_to_end(text)
        pad = torch.nn.utils.rnn.pad_sequence
        found = [self._words[text] for text in expressions]
        while len(self._words) > TEXT_CACHE:
            self._words.popitem(last=False)
        return pad([w for w, _ in found], True), pad([m for _, m in found], True)

    def _answer(self, text: str, out: RelaOutput, i: int) -> Grounding:
        assert out.target is not None
        no_target = float(out.no_target[i].float().softmax(0)[1])
        scores = out.target[i].float().sigmoid() * (1 - no_target)
        if not (np.isfinite(no_target) and bool(torch.isfinite(scores).all())):
            raise FloatingPointError("the model's output is not a number")
        objects: tuple[GroundedObject, ...] = ()
        if no_target < self.thresholds.no_target:
            objects = self._objects(scores, out.masks[0])
        if objects:
            status, message = Status.TARGETS, ""
        elif no_target >= self.thresholds.no_target:
            status, message = Status.NO_TARGET, f'Nothing in view is "{text}".'
        else:
            status = Status.NO_TARGET
            message = f'No object in view is "{text}" with enough certainty.'
        return Grounding(text, status, message, no_target, objects, self._size, 0.0)

    def _objects(self, scores: Tensor, masks: Tensor) -> tuple[GroundedObject, ...]:
        """Objects from scores (Q,) and mask logits (Q, H/4, W/4), best first."""
        keep = torch.nonzero(scores >= self.thresholds.target)[:, 0]
        keep = keep[scores[keep].argsort(descending=True)]
        if not len(keep):
            return ()
        probability = full_size(masks[keep].float(), self._scaled, self._size).sigmoid()
        found = (probability >= self.thresholds.mask).cpu().numpy()
        objects: list[GroundedObject] = []
        taken = np.zeros(self._size, bool)
        for score, mask in zip(scores[keep].tolist(), found, strict=True):
            # Two regions on one object: the better one stands.
            area = int(mask.sum())
            if not area or int((mask & taken).sum()) > 0.5 * area:
                continue
            taken |= mask
            cropped = crop_mask(mask)
            assert cropped is not None
            objects.append(GroundedObject(len(objects) + 1, score, *cropped))
        return tuple(objects)


def choose_device(name: str) -> torch.device:
    """The torch device called ``name``; auto = a GPU where there is one. ValueError if absent."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:0") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r} was asked for, but torch sees no GPU; use auto or cpu")
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device {name!r} is not supported; use auto, cpu or cuda")
    return device


def resize_for(model: ReLA, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The picture at the size that the model wants, without padding."""
    side = model.cfg.image_size
    if model.cfg.keep_aspect:
        scale = side / max(image.shape[:2])
        height, width = (max(1, round(n * scale)) for n in image.shape[:2])
    else:
        height = width = side
    if (height, width) == image.shape[:2]:
        return image
    shrink = height < image.shape[0]
    interpolation = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    resized = cv2.resize(image, (width, height), interpolation=interpolation)
    return resized.astype(np.uint8, copy=False)


def full_size(logits: Tensor, scaled: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Mask logits (N, h, w) of the padded picture -> (N, H, W) of the picture.

    ``scaled`` is the size that the model saw without padding, ``size`` the picture's own.
    """
    padded = tuple(n + -n % STRIDE for n in scaled)
    x = F.interpolate(logits[None], padded, mode="bilinear", align_corners=False)
    x = x[:, :, : scaled[0], : scaled[1]]
    return F.interpolate(x, size, mode="bilinear", align_corners=False)[0]
