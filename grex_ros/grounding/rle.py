"""Masks as COCO's compressed run lengths, the form that every COCO tool reads.

The mask is read column by column as alternating runs of background and target, background first.
From the fourth count on, a count is written as its difference to the count two before it. Each
number becomes groups of five bits, lowest first, in one printable character each: bit 5 says that
more follow, bit 4 of the last group is the sign. The format is that of the COCO API (``maskApi``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt


class Rle(TypedDict):
    """A compressed mask: ``size`` is [height, width] in pixels, ``counts`` the characters."""

    size: list[int]
    counts: str


def encode(mask: npt.ArrayLike) -> Rle:
    """Compress a mask (H, W); all but zero is target. ValueError unless it is two-dimensional."""
    target = np.asarray(mask, dtype=bool)
    if target.ndim != 2:
        raise ValueError(f"a mask has two dimensions, not {target.ndim}")
    pixels = target.ravel(order="F")
    edges = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    counts = np.diff(edges, prepend=0, append=pixels.size).tolist()
    if pixels.size and pixels[0]:
        counts.insert(0, 0)
    return {"size": [int(side) for side in target.shape], "counts": _to_text(counts)}


def decode(rle: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """The mask (H, W); counts are text, bytes or a list. ValueError where they do not fit it."""
    height, width = (int(side) for side in rle["size"])
    if height < 0 or width < 0:
        raise ValueError(f"the size {height} x {width} is negative")
    counts = rle["counts"]
    if isinstance(counts, bytes):
        counts = counts.decode("ascii")
    runs = _from_text(counts) if isinstance(counts, str) else [int(count) for count in counts]
    if any(run < 0 for run in runs) or sum(runs) != height * width:
        raise ValueError(f"the run lengths do not fill a mask of {height} x {width} pixels")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(height, width, order="F")


def _to_text(counts: list[int]) -> str:
    characters = []
    for index, count in enumerate(counts):
        number = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            group = number & 0x1F
            number >>= 5
            more = number != (-1 if group & 0x10 else 0)
            characters.append(chr(48 + (group | 0x20 if more else group)))
    return "".join(characters)


def _from_text(text: str) -> list[int]:
    counts: list[int] = []
    number = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64:
            raise ValueError(f"{character!r} is no character of a compressed mask")
        number |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        if group & 0x10:
            number -= 1 << shift
        counts.append(number + counts[-2] if len(counts) > 2 else number)
        number = shift = 0
    if shift:
        raise ValueError("the compressed mask ends in the middle of a number")
    return counts
