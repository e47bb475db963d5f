"""The answer: the set of objects that an expression means in a picture."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Cropped = tuple[tuple[int, int, int, int], npt.NDArray[np.bool_]]  # tight box, and what is in it


class Status(enum.IntEnum):
    """What an answer says; zero is never success. Equal to the constants of Grounding.msg."""

    UNKNOWN = 0
    TARGETS = 1
    NO_TARGET = 2
    NO_COMMAND = 3
    INVALID_COMMAND = 4
    STALE_IMAGE = 5
    INVALID_IMAGE = 6
    ERROR = 7


@dataclass(frozen=True)
class GroundedObject:
    """One object that is meant.

    Attributes:
        id: 1..n, the object's value in the label image.
        score: 0..1.
        box: x0, y0, x1, y1 in pixels of the input image, end exclusive; encloses the mask tightly.
        mask: bool (y1 - y0, x1 - x0), the crop of the box.
    """

    id: int
    score: float
    box: tuple[int, int, int, int]
    mask: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Grounding:
    """The answer for one picture and one expression.

    Attributes:
        expression: the words that were grounded.
        status: TARGETS exactly if ``objects`` is not empty.
        status_message: a sentence for a person; empty only with TARGETS.
        no_target_score: probability that nothing in view is meant.
        objects: best score first.
        size: height and width of the picture, pixels.
        latency: seconds.
    """

    expression: str
    status: Status
    status_message: str
    no_target_score: float
    objects: tuple[GroundedObject, ...]
    size: tuple[int, int]
    latency: float

    def label_image(self) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
        """(H, W), 0 = background, else the object's id; the best score is painted last. uint8, or
        uint16 above 254 objects."""
        wide = len(self.objects) > 254
        labels = np.zeros(self.size, np.uint16 if wide else np.uint8)
        for item in reversed(self.objects):
            x0, y0, x1, y1 = item.box
            labels[y0:y1, x0:x1][item.mask] = item.id
        return labels

    def mask(self) -> npt.NDArray[np.uint8]:
        """(H, W), 255 where any object is."""
        return np.where(self.label_image() > 0, 255, 0).astype(np.uint8)


def crop_mask(mask: npt.NDArray[np.bool_]) -> Cropped | None:
    """Tight box and crop of a mask (H, W); None if the mask is empty."""
    rows = np.flatnonzero(mask.any(1))
    if not len(rows):
        return None
    columns = np.flatnonzero(mask.any(0))
    y0, y1 = int(rows[0]), int(rows[-1]) + 1
    x0, x1 = int(columns[0]), int(columns[-1]) + 1
    return (x0, y0, x1, y1), np.ascontiguousarray(mask[y0:y1, x0:x1])


def box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes x0, y0, x1, y1."""
    sides = (min(a[k + 2], b[k + 2]) - max(a[k], b[k]) for k in (0, 1))
    both = math.prod(max(side, 0.0) for side in sides)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return both / max(areas - both, 1e-9)


def mask_iou(a: Cropped, b: Cropped) -> float:
    """IoU 0..1 of two masks that are not empty, each a crop of the same picture."""
    (ax0, ay0, ax1, ay1), mask = a
    (bx0, by0, bx1, by1), other = b
    x0, y0, x1, y1 = max(ax0, bx0), max(ay0, by0), min(ax1, bx1), min(ay1, by1)
    if x1 <= x0 or y1 <= y0:
        return 0.0
    ours = mask[y0 - ay0 : y1 - ay0, x0 - ax0 : x1 - ax0]
    both = int((ours & other[y0 - by0 : y1 - by0, x0 - bx0 : x1 - bx0]).sum())
    return both / (int(mask.sum()) + int(other.sum()) - both)
