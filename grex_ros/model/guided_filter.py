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


def guided(probability: Tensor, colors: Tensor) -> Tensor:
    """Mask probabilities (N, S, S) and the colours (N, 3, S, S) under them, 0..1 -> (N, S, S),
    about 0..1. In full precision also under autocast: variances are small differences."""
    with torch.autocast(probability.device.type, enabled=False):
        return _guided(probability.float(), colors.float())


def _guided(probability: Tensor, colors: Tensor) -> Tensor:
    r, g, b = colors.unbind(1)
    squared = torch.stack((r * r, r * g, r * b, g * g, g * b, b * b), 1)
    crossed = probability[:, None] * colors
    planes = window_mean(torch.cat((colors, squared, crossed, probability[:, None]), 1))
    mean, squared, crossed, mask = planes.split([3, 6, 3, 1], 1)
    r, g, b = mean.unbind(1)
    covariance = squared - torch.stack((r * r, r * g, r * b, g * g, g * b, b * b), 1)
    slope = solve(covariance, crossed - mask * mean)
    offset = mask - (slope * mean).sum(1, keepdim=True)
    linear = window_mean(torch.cat((slope, offset), 1))
    found = (linear[:, :3] * colors).sum(1) + linear[:, 3]
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


def solve(covariance: Tensor, right: Tensor) -> Tensor:
    """The solutions (N, 3, S, S) of symmetric systems (N, 6, S, S), upper triangle row by row, made
    regular, for right sides (N, 3, S, S). By cofactors, many times faster than a solver here."""
    a, b, c, d, e, f = covariance.unbind(1)
    a, d, f = a + SMOOTHNESS, d + SMOOTHNESS, f + SMOOTHNESS
    aa, ab, ac = d * f - e * e, c * e - b * f, b * e - c * d
    bb, bc, cc = a * f - c * c, b * c - a * e, a * d - b * b
    x, y, z = right.unbind(1)
    solved = (aa * x + ab * y + ac * z, ab * x + bb * y + bc * z, ac * x + bc * y + cc * z)
    return torch.stack(solved, 1) / (a * aa + b * ab + c * ac)[:, None]
