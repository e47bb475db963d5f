"""The guided filter (He, Sun, Tang 2013) with a colour guide, for masks in small crops.

It explains a mask, in every window, as a linear function of the colours there, and so moves its
edge to where colours change.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .tables import constant_table

RADIUS = 12  # of the window, in pixels of a crop
SMOOTHNESS = 1e-4  # variance of colours (0..1) below which a window counts as plain
FAINT = 0.02  # probability below which a pixel is surely none of the object
LEAST = 0.5  # what the surest pixel of a filtered mask must have


class GuidedFilter:
    """The filter over one set of crops; what hangs on their colours alone is computed once. In full
    precision also under autocast: variances are small differences."""

    def __init__(self, colors: Tensor) -> None:
        """``colors`` (N, 3, S, S), 0..1."""
        with torch.autocast(colors.device.type, enabled=False):
            self.colors = colors.float()
            planes = window_mean(torch.cat((self.colors, products(self.colors)), 1))
            self.mean, squared = planes.split([3, 6], 1)
            self.inverse = inverse(squared - products(self.mean))

    def __call__(self, probability: Tensor) -> Tensor:
        """Mask probabilities (N, S, S) -> (N, S, S), about 0..1."""
        with torch.autocast(probability.device.type, enabled=False):
            return self._filter(probability.float())

    def _filter(self, probability: Tensor) -> Tensor:
        mask = probability[:, None]
        crossed, mask = window_mean(torch.cat((mask * self.colors, mask), 1)).split([3, 1], 1)
        slope = times(self.inverse, crossed - mask * self.mean)
        offset = mask - (slope * self.mean).sum(1, keepdim=True)
        linear = window_mean(torch.cat((slope, offset), 1))
        found = (linear[:, :3] * self.colors).sum(1) + linear[:, 3]
        found = found * (probability > FAINT)  # farther off the same colour is another thing
        # What the filter would wipe out stays as it was.
        lost = found.amax((1, 2)) < LEAST
        return torch.where(lost[:, None, None], probability, found)


def window_mean(x: Tensor) -> Tensor:
    """(N, C, H, W) -> the mean over the square window around every pixel; the edge goes on outside.
    As products with matrices, many times faster than pooling at this size."""
    rows, columns = (window_shares(int(side), x) for side in x.shape[-2:])  # fixed in an export
    return rows @ x @ columns.T


@constant_table()
def window_shares(size: int, device: torch.device) -> Tensor:
    """(size, size): the share of place j in the mean around place i."""
    place = torch.arange(size, device=device)
    around = place[:, None] + torch.arange(-RADIUS, RADIUS + 1, device=device)
    there = around.clamp(0, size - 1)[..., None] == place
    return there.float().mean(1)


def products(x: Tensor) -> Tensor:
    """(N, 3, S, S) -> (N, 6, S, S): of every two channels, the upper triangle row by row."""
    r, g, b = x.unbind(1)
    return torch.stack((r * r, r * g, r * b, g * g, g * b, b * b), 1)


def inverse(covariance: Tensor) -> Tensor:
    """Of symmetric matrices (N, 6, S, S), upper triangle row by row, made regular. By cofactors,
    many times faster than a solver here."""
    a, b, c, d, e, f = covariance.unbind(1)
    a, d, f = a + SMOOTHNESS, d + SMOOTHNESS, f + SMOOTHNESS
    aa, ab, ac = d * f - e * e, c * e - b * f, b * e - c * d
    bb, bc, cc = a * f - c * c, b * c - a * e, a * d - b * b
    return torch.stack((aa, ab, ac, bb, bc, cc), 1) / (a * aa + b * ab + c * ac)[:, None]


def times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Products of symmetric matrices (N, 6, S, S) and vectors (N, 3, S, S)."""
    a, b, c, d, e, f = matrices.unbind(1)
    x, y, z = vectors.unbind(1)
    return torch.stack((a * x + b * y + c * z, b * x + d * y + e * z, c * x + e * y + f * z), 1)
