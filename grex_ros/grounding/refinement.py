"""The masks of regions at the picture's own size, each drawn in a window around its box.

What draws them is :meth:`~grex_ros.model.rela.ReLA.draw_masks`; here they get their places in the
picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from grex_ros.model.mask_refiner import boxes_in_whole

from .objects import Cropped, box_iou, crop_mask
from .pictures import full_size

AGREED = 0.55  # IoU of a region's box and the one around its mask, below which ...
LESS = (0.5, 1.0, 1.5, 2.25, 3.25)  # ... so much less sureness, as logits, is tried
SPECK = 0.05  # parts of a mask below this share of the largest one are left out
WARM_UP = (1, 2, 4, 8)  # regions

Draw = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Floats = npt.NDArray[np.float32]


class RegionMasks:
    """The regions of one picture, each drawn when it is first asked for.

    Args:
        draw: :meth:`ReLA.draw_masks`, or what does the same.
        seen: (3, h, w) uint8, the picture as the model sees it, without padding.
        image: (3, H, W) uint8, the picture itself, on the same device.
    """

    def __init__(self, draw: Draw, seen: Tensor, image: Tensor) -> None:
        self.draw, self.seen, self.image = draw, seen, image
        self._found: dict[tuple[int, float], Cropped | None] = {}

    def __call__(
        self, logits: Tensor, boxes: Tensor, regions: Sequence[int], threshold: float
    ) -> list[Cropped | None]:
        """Box and mask, as in :class:`GroundedObject`, of some ``regions`` of the picture's mask
        logits (Q, h/4, w/4) and boxes (Q, 4), centre x, y, width, height in parts of the padded
        picture, which are always the same; None for one that is empty.

        A pixel belongs to a mask from the probability ``threshold`` on; where that is 0, all do.
        """
        height, width = self.image.shape[1:]
        if threshold <= 0:
            return [((0, 0, width, height), np.ones((height, width), bool)) for _ in regions]
        new = [q for q in regions if (q, threshold) not in self._found]
        if new:
            which = torch.tensor(new, device=logits.device)
            masks, corners = self.draw(logits[which], boxes[which].float(), self.seen, self.image)
            least = math.log(threshold) - math.log1p(-threshold) if threshold < 1 else math.inf
            # One copy to the CPU for all: each would wait for the GPU.
            own = boxes_in_whole(boxes[which].float(), logits, self.seen, self.image)
            drawn = torch.cat((masks.float().flatten(1), corners, own), 1).cpu().numpy()
            for q, row in zip(new, drawn, strict=True):
                crop = row[:-8].reshape(masks.shape[1:])
                mask = fitting(crop, row[-8:-4], (height, width), least, row[-4:].tolist())
                if mask is None:  # what is nowhere near its box stays as the model has drawn it
                    mask = self._far(logits[q], least)
                self._found[q, threshold] = mask
        return [self._found[q, threshold] for q in regions]

    @torch.inference_mode()
    def warm_up(self, logits: Tensor, boxes: Tensor) -> None:
        """Draws several numbers of regions, which a GPU does in a graph each."""
        for n in WARM_UP:
            self.draw(logits[:n], boxes[:n].float(), self.seen, self.image)

    def forget(self) -> None:
        """The same picture, but other regions."""
        self._found.clear()

    def _far(self, logits: Tensor, least: float) -> Cropped | None:
        seen, whole = ((x.shape[1], x.shape[2]) for x in (self.seen, self.image))
        found = full_size(logits[None].float(), seen, whole)[0] >= least
        return crop_clean(found.cpu().numpy())


def fitting(
    logits: Floats,
    corners: npt.NDArray[np.floating],
    size: tuple[int, int],
    least: float,
    box: Sequence[float],
) -> Cropped | None:
    """What :func:`place` gives; where the box (4,) of the region has little to do with the one
    around the mask, which may show the handle of a pan alone, the mask at that of some lower
    thresholds which fits it best."""
    mask = place(logits, corners, size, least)
    agreed = 0.0 if mask is None else box_iou(mask[0], box)
    if mask is None or agreed >= AGREED:
        return mask
    for less in LESS:
        found = place(logits, corners, size, least - less)
        if found is not None and (fits := box_iou(found[0], box)) > agreed:
            mask, agreed = found, fits
    return mask


def place(
    logits: Floats, corners: npt.NDArray[np.floating], size: tuple[int, int], least: float
) -> Cropped | None:
    """Tight box and mask in a picture of ``size`` (height, width) of what is at least ``least`` in
    a crop (S, S) that was cut with these corners x0, y0, x1, y1 in pixels."""
    low = np.floor(corners[:2].clip(0)).astype(int)
    high = np.ceil(np.minimum(corners[2:], size[::-1])).astype(int)
    if (high <= low).any():
        return None
    per_pixel = logits.shape[0] / (corners[2:] - corners[:2])
    first = (low + 0.5 - corners[:2]) * per_pixel - 0.5  # the crop's place of the first pixel
    matrix = np.array([[per_pixel[0], 0, first[0]], [0, per_pixel[1], first[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    there = cv2.warpAffine(
        logits, matrix, (high - low).tolist(), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    found = crop_clean(there >= least)
    return None if found is None else moved(found, *low.tolist())


def crop_clean(mask: npt.NDArray[np.bool_]) -> Cropped | None:
    """Tight box and crop of a mask (H, W) without its specks. They are looked for where the mask
    is: in a whole picture that takes longer than to draw the mask."""
    around = crop_mask(mask)
    if around is None:
        return None
    (left, top, _, _), part = around
    found = crop_mask(without_specks(part))
    return None if found is None else moved(found, left, top)


def moved(cropped: Cropped, x: int, y: int) -> Cropped:
    """The same mask so many pixels to the right and further down."""
    (x0, y0, x1, y1), mask = cropped
    return (x0 + x, y0 + y, x1 + x, y1 + y), mask


def without_specks(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The mask (H, W) without parts below a twentieth of the largest: a neighbour's pixels of the
    same colour would widen the box."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    if count <= 2:  # the background and one part
        return mask
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return (areas >= max(SPECK * areas.max(), 1))[labels]
