"""The way back: from a set of objects in a picture to an expression that means exactly them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .objects import GroundedObject, crop_mask, mask_iou

SAME = 0.5  # least IoU of two that are the same object

Region: TypeAlias = Sequence[float] | npt.NDArray[Any]
"""A box x0, y0, x1, y1 in pixels, or a mask (H, W), bool or non-zero, of the whole picture."""


class RegionError(ValueError):
    """A box or mask cannot be used; the message is a phrase for a person and names it."""


@dataclass(frozen=True)
class Description:
    """What a set of objects is called.

    Attributes:
        text: the expression, never empty.
        verified: whether it means the same set when it is grounded again; None = not tried.
        score: its log-probability, normalised by its length; the higher the better.
        candidates: all expressions that were considered, best score first.
        latency: seconds, without those of the picture.
    """

    text: str
    verified: bool | None
    score: float
    candidates: tuple[str, ...]
    latency: float


@dataclass(frozen=True)
class GivenObject:
    """One object to be described: its box inside the picture, x0, y0, x1, y1 in pixels, and where
    it is known its mask, (H, W) bool, which the box encloses."""

    box: tuple[float, float, float, float]
    mask: npt.NDArray[np.bool_] | None = None


def read_regions(regions: Sequence[Region], size: tuple[int, int]) -> list[GivenObject]:
    """Checks boxes and masks; ``size`` is the picture's, height and width.

    Raises:
        RegionError: there is none, or one has no pixel of the picture; it is named by its place.
    """
    if not len(regions):
        raise RegionError("there is no object to describe: give at least one box or mask")
    return [_read_region(region, size, place) for place, region in enumerate(regions, start=1)]


def _read_region(region: Region, size: tuple[int, int], place: int) -> GivenObject:
    try:
        found = np.asarray(region)
        if found.ndim == 2:
            found = found != 0
        else:
            found = found.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise RegionError(f"object {place} is neither a box nor a mask: {error}") from error
    if found.ndim == 2:
        if found.shape != size:
            raise RegionError(
                f"the mask of object {place} has {found.shape[1]} x {found.shape[0]} pixels, "
                f"the picture {size[1]} x {size[0]}"
            )
        cropped = crop_mask(found)
        if cropped is None:
            raise RegionError(f"the mask of object {place} is empty")
        return GivenObject(cropped[0], found)
    if found.shape != (4,) or not np.isfinite(found).all():
        raise RegionError(f"object {place} is no box of four numbers x0, y0, x1, y1: {region}")
    low = np.clip(found[:2], 0, size[::-1])
    high = np.clip(found[2:], 0, size[::-1])
    if not (low < high).all():
        raise RegionError(
            f"the box of object {place}, {_numbers(found)}, has no pixel of the picture of "
            f"{size[1]} x {size[0]}; a box is x0, y0, x1, y1"
        )
    return GivenObject((*low.tolist(), *high.tolist()))


def _numbers(values: npt.NDArray[Any]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def same_objects(found: Sequence[GroundedObject], given: Sequence[GivenObject]) -> bool:
    """Whether there are as many, each with an IoU of 0.5 or more with one of the others: of masks
    where both have one, else of boxes."""
    if len(found) != len(given):
        return False
    pairs = [
        (overlap, i, k)
        for i, a in enumerate(found)
        for k, b in enumerate(given)
        if (overlap := _overlap(a, b)) >= SAME
    ]
    left, right = set[int](), set[int]()
    for _, i, k in sorted(pairs, reverse=True):
        if i not in left and k not in right:
            left.add(i)
            right.add(k)
    return len(left) == len(given)


def _overlap(a: GroundedObject, b: GivenObject) -> float:
    """IoU of masks or boxes."""
    if b.mask is not None:
        x0, y0, x1, y1 = (int(side) for side in b.box)
        return mask_iou((a.box, a.mask), ((x0, y0, x1, y1), b.mask[y0:y1, x0:x1]))
    sides = [min(a.box[k + 2], b.box[k + 2]) - max(a.box[k], b.box[k]) for k in (0, 1)]
    inner = max(sides[0], 0.0) * max(sides[1], 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a.box, b.box)]
    return inner / (sum(areas) - inner)
