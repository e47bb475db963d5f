"""Between a picture's own size and the size that the model sees."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
import torch.nn.functional as F
from torch import Tensor

from grex_ros.model.config import RelaConfig
from grex_ros.model.generation import box_inside
from grex_ros.model.rela import STRIDE

from .description import GivenObject


def model_size(cfg: RelaConfig, height: int, width: int) -> tuple[int, int]:
    """Height and width at which the model sees a picture, without padding."""
    if not cfg.keep_aspect:
        return cfg.image_size, cfg.image_size
    scale = cfg.image_size / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize(cfg: RelaConfig, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The picture (H, W, 3) at the size that the model sees, on the CPU.

    Pillow's bilinear filter where the aspect is not kept, as in the official data mapper; OpenCV's
    area average, which is faster, elsewhere.
    """
    height, width = model_size(cfg, *image.shape[:2])
    if (height, width) == image.shape[:2]:
        return image
    if not cfg.keep_aspect:
        squeezed = PIL.Image.fromarray(image).resize((width, height), PIL.Image.Resampling.BILINEAR)
        return np.array(squeezed)
    shrink = height < image.shape[0]
    interpolation = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    resized = cv2.resize(image, (width, height), interpolation=interpolation)
    return resized.astype(np.uint8, copy=False)


def resize_on_device(cfg: RelaConfig, pixels: Tensor) -> Tensor:
    """What :func:`resize` does, for pixels (3, H, W) uint8 on any device; equal to one level."""
    size = model_size(cfg, pixels.shape[1], pixels.shape[2])
    if size == tuple(pixels.shape[1:]):
        return pixels
    x = pixels.float()
    if cfg.keep_aspect and size[0] < pixels.shape[1]:
        rows, columns = (_area(n, of, x.device) for n, of in zip(size, x.shape[1:], strict=True))
        x = rows @ x @ columns.T
    else:
        x = F.interpolate(x[None], size, mode="bilinear", antialias=not cfg.keep_aspect)[0]
    return x.round().clamp(0, 255).to(torch.uint8)


@functools.lru_cache(maxsize=16)
def _area(count: int, size: int, device: torch.device) -> Tensor:
    """What share of each of ``count`` cells each of ``size`` pixels in a row has, (count, size).
    Torch's own area filter weighs all pixels that a cell touches alike."""
    edge = torch.arange(count + 1, dtype=torch.float64)[:, None] * (size / count)
    pixel = torch.arange(size, dtype=torch.float64)
    overlap = torch.minimum(edge[1:], pixel + 1) - torch.maximum(edge[:-1], pixel)
    return (overlap.clamp(min=0) * (count / size)).float().to(device)


class PictureLoader:
    """Brings pictures to the model's device, for a GPU through memory that it reads fastest."""

    def __init__(self, cfg: RelaConfig) -> None:
        self.cfg = cfg
        self._pinned: Tensor | None = None

    def __call__(self, image: npt.NDArray[np.uint8], device: torch.device) -> tuple[Tensor, Tensor]:
        """(H, W, 3) uint8 -> the picture (3, H, W) and as large as the model sees it (3, h, w),
        uint8 on ``device``."""
        if device.type == "cpu":
            whole = image.copy()  # the caller may go on to draw on it
            return (
                torch.from_numpy(whole).permute(2, 0, 1),
                torch.from_numpy(resize(self.cfg, whole)).permute(2, 0, 1),
            )
        if self._pinned is None or self._pinned.shape != image.shape:
            self._pinned = torch.empty(image.shape, dtype=torch.uint8, pin_memory=True)
        # The picture before may still be on its way from there.
        torch.cuda.current_stream(device).synchronize()
        np.copyto(self._pinned.numpy(), image)
        there = self._pinned.to(device, non_blocking=True).permute(2, 0, 1)
        return there, resize_on_device(self.cfg, there)


def full_size(logits: Tensor, scaled: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Logits (N, h, w) of the padded picture -> (N, H, W) of the picture.

    ``scaled`` is the size that the model saw without padding, ``size`` the picture's own.
    """
    padded = tuple(n + -n % STRIDE for n in scaled)
    x = F.interpolate(logits[None], padded, mode="bilinear", align_corners=False)
    x = x[:, :, : scaled[0], : scaled[1]]
    if scaled == size:
        return x[0]
    return F.interpolate(x, size, mode="bilinear", align_corners=False)[0]


def given_tensors(
    given: Sequence[GivenObject],
    size: tuple[int, int],
    scaled: tuple[int, int],
    cells: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """What :func:`~grex_ros.model.generation.choose` takes, on the CPU.

    Args:
        size: height and width of the picture; scaled: of what the model sees, without padding;
            cells: of the mask features of the padded picture.
    """
    padded = (4 * cells[0], 4 * cells[1])
    scale = (scaled[1] / size[1] / padded[1], scaled[0] / size[0] / padded[0])
    boxes = torch.tensor([item.box for item in given], dtype=torch.float32)
    boxes = boxes * torch.tensor(scale * 2)
    low, high = boxes.chunk(2, 1)
    boxes = torch.cat(((low + high) / 2, high - low), 1)
    inside = box_inside(boxes, *cells)
    for i, item in enumerate(given):
        if item.mask is not None:
            inside[i] = _mask_cells(item.mask, scaled, padded)
    return boxes, inside, torch.tensor([item.mask is not None for item in given])


def _mask_cells(
    mask: npt.NDArray[np.bool_], scaled: tuple[int, int], padded: tuple[int, int]
) -> Tensor:
    """How much of every cell a mask covers, 0..1, as training makes it of annotated masks."""
    full: npt.NDArray[Any] = mask.astype(np.float32)
    if full.shape != scaled:
        full = cv2.resize(full, scaled[::-1], interpolation=cv2.INTER_AREA)
    rows, columns = padded[0] - scaled[0], padded[1] - scaled[1]
    return F.avg_pool2d(F.pad(torch.from_numpy(full)[None, None], (0, columns, 0, rows)), 4)[0, 0]
