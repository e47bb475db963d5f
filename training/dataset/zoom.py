"""Pictures that are scaled and stretched a little, about their middle.

Nothing is mirrored and the middle stays where it is, so left and right, halves of the picture, the
order in a row and every count stay true; no annotated object is cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

SCALE = (0.65, 1.5)  # of the picture's sides
STRETCH = (0.8, 1.25)  # of the width in proportion to the height


@dataclass(frozen=True)
class Zoom:
    """The picture of (height, width) pixels becomes ``inner`` (height, width) and is laid on a
    canvas of its old size, its corner at ``corner`` (y, x), which is negative where it is cut."""

    size: tuple[int, int]
    inner: tuple[int, int]
    corner: tuple[int, int]

    def picture(self, image: np.ndarray, fill: tuple[int, ...]) -> np.ndarray:
        """(h, w, 3) uint8 of any size -> (*size, 3), with ``fill`` around it."""
        shrinks = self.inner[0] < image.shape[0]
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        scaled = cv2.resize(image, self.inner[::-1], interpolation=method)
        out = np.empty((*self.size, 3), np.uint8)
        out[:] = fill
        (ty, tx), (sy, sx) = zip(*map(_overlap, self.corner, self.inner, self.size), strict=True)
        out[ty, tx] = scaled[sy, sx]
        return out

    def masks(self, masks: np.ndarray, cell: int) -> np.ndarray:
        """(K, h, w) uint8 whose cells are ``cell`` pixels wide, moved likewise."""
        (ay, ax), (by, bx) = self._scale, self.corner
        # Of pixel centres: x -> a (x + 0.5) + b / cell - 0.5.
        matrix = np.array(
            [[ax, 0, ax / 2 + bx / cell - 0.5], [0, ay, ay / 2 + by / cell - 0.5]], np.float64
        )
        size = masks.shape[:0:-1]
        moved = [cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_LINEAR) for mask in masks]
        return np.stack(moved)

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """(K, 4) x0, y0, x1, y1 in pixels of the unchanged picture, moved likewise."""
        (ay, ax), (by, bx) = self._scale, self.corner
        return boxes * (ax, ay, ax, ay) + (bx, by, bx, by)

    @property
    def _scale(self) -> tuple[float, float]:
        return self.inner[0] / self.size[0], self.inner[1] / self.size[1]


def random_zoom(size: tuple[int, int], boxes: np.ndarray, rng: np.random.Generator) -> Zoom:
    """A zoom of a picture of ``size`` (height, width) that keeps all ``boxes`` (K, 4) whole."""
    scale = np.exp(rng.uniform(*np.log(SCALE)))
    stretch = np.exp(rng.uniform(*np.log(STRETCH)) / 2)
    middle = np.array(size[::-1]) / 2
    reach = np.abs(boxes.reshape(-1, 2, 2) - middle).max((0, 1), initial=1)
    x, y = middle / reach  # largest scale of each axis
    scale = min(scale, max(x, 1) / stretch, max(y, 1) * stretch)
    inner = (max(round(size[0] * scale / stretch), 8), max(round(size[1] * scale * stretch), 8))
    corner = ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)
    return Zoom(size, inner, corner)


def _overlap(corner: int, inner: int, size: int) -> tuple[slice, slice]:
    """Along one axis: where on the canvas, and which part of the scaled picture."""
    start, end = max(corner, 0), min(corner + inner, size)
    return slice(start, end), slice(start - corner, end - corner)
