"""The masks of regions at the picture's own size, their edges on those of the picture.

The model draws masks with cells of four pixels. A guided filter (He, Sun, Tang 2013, with a colour
guide) explains a mask, in every window, as a linear function of the colours there, and so moves its
edge to where colours change. What a mask has far from its region's box is another thing's.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from grex_ros.model.pixel_decoder import map_size
from grex_ros.model.rela import STRIDE

from .objects import Cropped, crop_mask
from .pictures import full_size

RADIUS = 6  # of the window, in pixels of what the model sees: a cell and a half
SMOOTHNESS = 1e-4  # variance of colours (0..1) below which a window counts as plain
FAINT = 0.02  # probability below which a pixel is surely none of the object
SPECK = 0.05  # parts of a mask below this share of the largest one are left out
MARGIN = 0.1  # of a box's sides, around it: what a mask may have there
LEAST_MARGIN = 4  # ... in pixels of what the model sees: a cell
LEAST = 0.5  # what the surest pixel of a refined mask must have


class RegionMasks:
    """The regions of one picture, each refined when it is first asked for.

    Args:
        seen: (3, h, w) uint8, the picture as the model sees it, without padding.
        image: (3, H, W) uint8, the picture itself, on the same device.
    """

    def __init__(self, seen: Tensor, image: Tensor) -> None:
        self.seen, self.image = seen, image
        self._found: dict[tuple[int, float], Cropped | None] = {}

    def __call__(
        self, logits: Tensor, boxes: Tensor, regions: Sequence[int], threshold: float
    ) -> list[Cropped | None]:
        """Box and mask, as in :class:`GroundedObject`, of some ``regions`` of the picture's mask
        logits (Q, h/4, w/4) and boxes (Q, 4), centre x, y, width, height in parts of the padded
        picture, which are always the same; None for one that is empty.

        A pixel belongs to a mask from the probability ``threshold`` on; where that is 0, all do.
        """
        if threshold <= 0:
            height, width = self.image.shape[1:]
            return [((0, 0, width, height), np.ones((height, width), bool)) for _ in regions]
        new = [q for q in regions if (q, threshold) not in self._found]
        if new:
            which = torch.tensor(new, device=logits.device)
            found = self._masks(logits[which].float(), boxes[which].float(), threshold)
            self._found |= {(q, threshold): mask for q, mask in zip(new, found, strict=True)}
        return [self._found[q, threshold] for q in regions]

    def forget(self) -> None:
        """The same picture, but other regions."""
        self._found.clear()

    def _masks(self, logits: Tensor, boxes: Tensor, threshold: float) -> list[Cropped | None]:
        size = (self.seen.shape[1], self.seen.shape[2])
        probability = near_boxes(full_size(logits, size, size).sigmoid(), boxes)
        if probability.device.type == "cpu":
            return [self._mask(p, threshold) for p in probability]
        # One pass over all is as fast as over one.
        masks = refine(probability, self.seen, self.image) >= threshold
        return [crop_clean(mask) for mask in masks.cpu().numpy()]

    def _mask(self, probability: Tensor, threshold: float) -> Cropped | None:
        """Refines the part of the picture in which something can be."""
        around = crop_mask((probability > FAINT).numpy())
        if around is None:
            return None
        (height, width), (h, w) = self.image.shape[1:], probability.shape
        x0, y0, x1, y1 = around[0]
        x0, y0 = max(x0 - 2 * RADIUS, 0), max(y0 - 2 * RADIUS, 0)
        x1, y1 = min(x1 + 2 * RADIUS, w), min(y1 + 2 * RADIUS, h)
        left, top = x0 * width // w, y0 * height // h
        right, bottom = -(-x1 * width // w), -(-y1 * height // h)  # rounded up
        refined = refine(
            probability[None, y0:y1, x0:x1],
            self.seen[:, y0:y1, x0:x1],
            self.image[:, top:bottom, left:right],
        )
        found = crop_clean((refined[0] >= threshold).numpy())
        return None if found is None else moved(found, left, top)


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


def near_boxes(probability: Tensor, boxes: Tensor) -> Tensor:
    """Mask probabilities (N, h, w) of a picture without what is far from each one's box (N, 4), in
    parts of the padded picture; a mask that is nowhere near its box stays as it is."""
    h, w = probability.shape[1:]
    padded = map_size(w + -w % STRIDE, h + -h % STRIDE, boxes)
    centre, sides = boxes[:, :2] * padded, boxes[:, 2:] * padded
    reach = sides / 2 + (MARGIN * sides).clamp(min=LEAST_MARGIN)
    x, y = (torch.arange(length, device=boxes.device) + 0.5 for length in (w, h))
    near_x = (x - centre[:, :1]).abs() < reach[:, :1]
    near_y = (y - centre[:, 1:]).abs() < reach[:, 1:]
    near = probability * (near_y[:, :, None] & near_x[:, None])
    lost = near.amax((1, 2)) < LEAST
    return torch.where(lost[:, None, None], probability, near)


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


def refine(probability: Tensor, seen: Tensor, image: Tensor) -> Tensor:
    """Mask probabilities (N, h, w) of a picture, or a part of it -> (N, H, W), about 0..1.

    Args:
        probability: of every pixel of ``seen``.
        seen: (3, h, w) uint8, as the model sees it.
        image: (3, H, W) uint8, the same at the size that the masks are wanted in.
    """
    n, shape = len(probability), (image.shape[1], image.shape[2])
    guide = seen.contiguous().float() / 255
    r, g, b = guide
    squared = torch.stack((r * r, r * g, r * b, g * g, g * b, b * b))
    crossed = (probability[:, None] * guide).flatten(0, 1)
    planes = _window(torch.cat((guide, squared, probability, crossed)))
    mean, squared, masks, crossed = planes.split([3, 6, n, 3 * n])
    r, g, b = mean
    covariance = squared - torch.stack((r * r, r * g, r * b, g * g, g * b, b * b))
    both = crossed.unflatten(0, (n, 3)) - masks[:, None] * mean  # of mask and colours
    slope = _solve(covariance, both)
    offset = masks - (slope * mean).sum(1)
    linear = _window(torch.cat((slope, offset[:, None]), 1).flatten(0, 1)).unflatten(0, (n, 4))
    # Farther off the same colour is another thing.
    linear = linear * (probability > FAINT)[:, None]
    if linear.shape[2:] != shape:
        linear = F.interpolate(linear, shape, mode="bilinear", align_corners=False)
    guide = image.contiguous().float() / 255
    refined = (linear[:, :3] * guide).sum(1) + linear[:, 3]
    # What the filter would wipe out stays as the model has drawn it.
    lost = refined.amax((1, 2)) < LEAST
    if refined.device.type != "cpu" or lost.any():  # a GPU draws sooner than it answers
        drawn = F.interpolate(probability[None], shape, mode="bilinear", align_corners=False)[0]
        refined = torch.where(lost[:, None, None], drawn, refined)
    return refined


def _window(x: Tensor) -> Tensor:
    """(C, h, w) -> the mean over the square window around every pixel; the picture's edge goes on
    outside. On a CPU by OpenCV's running sums, which is 20 times faster."""
    side = 2 * RADIUS + 1
    if x.device.type == "cpu":
        edge = cv2.BORDER_REPLICATE
        means = [cv2.blur(plane, (side, side), borderType=edge) for plane in x.numpy()]
        return torch.from_numpy(np.stack(means))
    return window_on_device(x)


def window_on_device(x: Tensor) -> Tensor:
    """What :func:`_window` does, by operations that every device has."""
    side = 2 * RADIUS + 1
    x = F.pad(x[None], (RADIUS,) * 4, "replicate")
    return F.avg_pool2d(F.avg_pool2d(x, (side, 1), 1), (1, side), 1)[0]


def _solve(covariance: Tensor, right: Tensor) -> Tensor:
    """The solutions (N, 3, h, w) of symmetric systems (6, h, w), upper triangle row by row, made
    regular, for right sides (N, 3, h, w). By cofactors, many times faster than a solver here."""
    a, b, c, d, e, f = covariance
    a, d, f = a + SMOOTHNESS, d + SMOOTHNESS, f + SMOOTHNESS
    aa, ab, ac = d * f - e * e, c * e - b * f, b * e - c * d
    bb, bc, cc = a * f - c * c, b * c - a * e, a * d - b * b
    x, y, z = right.unbind(1)
    solved = (aa * x + ab * y + ac * z, ab * x + bb * y + bc * z, ac * x + bc * y + cc * z)
    return torch.stack(solved, 1) / (a * aa + b * ab + c * ac)
