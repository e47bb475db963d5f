"""Boxes set right by what lies in and around them, as the later stages of a Cascade R-CNN do.

A region attends what its mask covers, so where its box was off, it never saw the edges that would
tell. Here a grid of points over the box, and beyond it, looks at the fine maps again.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import RelaConfig
from .proposals import box_waves

GRID = 7  # points along each side
REACH = 1.5  # how far they span, in sides of the box
CHANNELS = 32  # that a point sees of each map
HIDDEN = 256
MOST = 1.5  # change of the logarithm of a side, and of the centre in sides
LEAST = 1e-3  # a side, of the picture's


class BoxRefiner(nn.Module):
    """Moves and scales boxes."""

    def __init__(self, cfg: RelaConfig) -> None:
        super().__init__()
        dim = cfg.hidden_dim
        self.dim = dim
        self.fine = nn.Conv2d(cfg.mask_dim, CHANNELS, 1)
        self.middle = nn.Conv2d(dim, CHANNELS, 1)
        self.look = nn.Linear(GRID * GRID * 2 * CHANNELS, HIDDEN)
        self.region = nn.Linear(2 * dim, HIDDEN)
        self.think = nn.Linear(HIDDEN, HIDDEN)
        self.change = nn.Linear(HIDDEN, 4)
        nn.init.zeros_(self.change.weight)  # at first boxes stay as they are
        nn.init.zeros_(self.change.bias)

    def maps(self, mask_features: Tensor, memory: Tensor) -> list[Tensor]:
        """What points may see of mask features (B, M, H/4, W/4) and the memory of stride 8."""
        return [self.fine(mask_features), self.middle(memory)]

    def forward(self, boxes: Tensor, regions: Tensor, maps: list[Tensor]) -> Tensor:
        """Boxes (B, Q, 4), centre x, y, width, height in 0..1, and their regions (B, Q, C), normed
        -> boxes."""
        start = boxes.detach()
        step = torch.linspace(-REACH / 2, REACH / 2, GRID, device=boxes.device, dtype=boxes.dtype)
        y, x = torch.meshgrid(step, step, indexing="ij")
        grid = torch.stack((x, y), -1).flatten(0, 1)
        points = start[..., None, :2] + start[..., None, 2:] * grid  # (B, Q, GRID * GRID, 2)
        seen = torch.cat([pick(m, points) for m in maps], -1).flatten(2)
        about = torch.cat((regions, box_waves(start, self.dim).to(regions.dtype)), -1)
        hidden = F.relu(self.look(seen) + self.region(about))
        change = self.change(F.relu(self.think(hidden))).clamp(-MOST, MOST).to(boxes.dtype)
        centre = boxes[..., :2] + boxes[..., 2:] * change[..., :2]
        size = boxes[..., 2:] * change[..., 2:].exp()
        return torch.cat((centre.clamp(0, 1), size.clamp(LEAST, 1)), -1)


def pick(seen: Tensor, points: Tensor) -> Tensor:
    """Of maps (B, C, h, w) the cells in which points (B, Q, P, 2), x and y in 0..1, lie, or those
    at the edge that are nearest; (B, Q, P, C)."""
    height, width = seen.shape[2:]
    x, y = points.float().unbind(-1)  # half of a bit is a cell in half precision
    column = (x * width).long().clamp(0, width - 1)
    row = (y * height).long().clamp(0, height - 1)
    cell = row * width + column
    index = cell.flatten(1)[..., None].expand(-1, -1, seen.shape[1])
    found = seen.flatten(2).transpose(1, 2).gather(1, index)
    return found.unflatten(1, points.shape[1:3])
