"""Where each corner of a mesh lies in the texture that is printed on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from grex_ros.scenes.parts import Part, Shape
from grex_ros.scenes.prints import PLAIN_ROWS, SIZE

_FLAT_SIDED = frozenset({"box", "block", "book", "carton", "cutting board", "tray", ""})
_FROM_ABOVE = frozenset({"plate"})
_WHOLE = frozenset({"apple", "ball", "banana", "carrot", "lemon", "orange", "pear", "loaf"})
_PRINTED_ROWS = 1 - PLAIN_ROWS / SIZE


def wrap(shape: Shape, part: Part) -> NDArray[np.float32] | None:
    """Texture coordinates (F, 3, 2) of the faces' corners; None for a part that takes no print."""
    if part.paint != "main":
        return None
    mesh = part.mesh
    corners = mesh.vertices[mesh.faces]  # (F, 3, xyz)
    low, high = shape.vertices.min(0), shape.vertices.max(0)
    share = (corners - low) / np.maximum(high - low, 1e-6)
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing /= np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-12)
    imported = shape.name.startswith("household_")
    if shape.kind in _FROM_ABOVE:
        at = np.stack([share[..., 0], 1 - share[..., 1]], -1)
    elif shape.kind in _FLAT_SIDED or imported:
        at = _boxed(share, facing)
    else:
        at = _rolled(corners, share)
        if shape.kind not in _WHOLE:
            first = next(p for p in shape.parts if p.paint == "main")
            middle = corners.mean(1)[:, :2]
            inner = np.einsum("ij,ij->i", facing[:, :2], middle) < 0
            plain = inner | (np.abs(facing[:, 2]) > 0.9) | (part is not first)
            at[plain] = (0.5, 2.0)
    at[..., 1] = np.where(at[..., 1] > 1.5, (1 + _PRINTED_ROWS) / 2, at[..., 1] * _PRINTED_ROWS)
    return np.asarray(at, np.float32)


def _boxed(share: NDArray[np.float64], facing: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every side of a box shows the whole texture."""
    axis = np.abs(facing).argmax(1)
    sign = np.sign(np.take_along_axis(facing, axis[:, None], 1))
    x, y, z = share[..., 0], share[..., 1], share[..., 2]
    right = np.select(
        [axis[:, None] == 0, axis[:, None] == 1],
        [np.where(sign > 0, y, 1 - y), np.where(sign > 0, 1 - x, x)],
        np.where(sign > 0, x, 1 - x),
    )
    up = np.where(axis[:, None] == 2, y, z)
    return np.stack([right, 1 - up], -1)


def _rolled(corners: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Around the upright axis."""
    radius = np.hypot(corners[..., 0], corners[..., 1])
    around = np.arctan2(corners[..., 1], corners[..., 0]) / (2 * np.pi) + 0.5
    # a corner on the axis takes its neighbours' side, and no face spans the seam
    away = np.where(radius > 1e-6, around, np.nan)
    span = np.nanmax(np.nan_to_num(away, nan=-1), 1) - np.nanmin(np.nan_to_num(away, nan=2), 1)
    around = np.where((span > 0.5)[:, None] & (around < 0.5), around + 1, around)
    away = np.where(radius > 1e-6, around, 0)
    mean = away.sum(1) / np.maximum((radius > 1e-6).sum(1), 1)
    around = np.where(radius > 1e-6, around, mean[:, None])
    return np.stack([around, 1 - share[..., 2]], -1)
