"""Regions that start where the image shows an object, instead of from learned queries.

Every cell of the stride-8 memory says whether an object's centre lies in it and how large the
object is (as CenterNet does); the best of those whose boxes differ become the regions.
Convolution-like dense training finds objects after hundreds of steps where learned queries need
many thousands.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import RelaConfig
from .distinct import distinct
from .heads import MLP, inverse_sigmoid
from .tables import pixel_centres

CANDIDATES = 256  # cells among which distinct boxes are sought
SAME_CELL = 0.5  # IoU above which the boxes of two cells are taken for one
BOX_START = 0.15  # width and height, of the image, of a box before training


@dataclass
class Proposals:
    """What the cells say, and the regions chosen from them."""

    heat: Tensor  # (B, h, w) logits: an object's centre is in this cell
    cell_boxes: Tensor  # (B, h, w, 4) centre x, y, width, height in 0..1
    content: Tensor  # (B, Q, C)
    boxes: Tensor  # (B, Q, 4)


@dataclass
class Hints:
    """What a detector says of every cell of B pictures."""

    centre: Tensor  # (B, h, w): to be added to the logit that an object's centre lies here
    trust: Tensor  # (B, h, w, 1): how far its box counts, 0..1
    boxes: Tensor  # (B, h, w, 4)


class RegionProposals(nn.Module):
    """Picks ``cfg.regions`` peaks of a map of object centres."""

    def __init__(self, cfg: RelaConfig) -> None:
        super().__init__()
        dim = cfg.hidden_dim
        self.regions, self.distinct = cfg.regions, cfg.distinct_regions
        self.norm = nn.LayerNorm(dim)
        self.heat = MLP(dim, dim, 1, 2)
        self.box = MLP(dim, dim, 4, 2)
        self.content = nn.Linear(dim, dim)
        for name in ("box.layers.1.weight", "box.layers.1.bias"):
            nn.init.zeros_(self.get_parameter(name))
        nn.init.constant_(self.get_parameter("heat.layers.1.bias"), -3.0)  # few cells are centres

    def forward(self, memory: Tensor, hints: Hints | None = None) -> Proposals:
        """``memory`` (B, C, h, w), and what a detector has to say of its cells."""
        b, _, h, w = memory.shape
        cells = self.norm(memory.permute(0, 2, 3, 1))
        heat = self.heat(cells)[..., 0]
        centres = pixel_centres(h, w, memory).view(h, w, 2)
        start = torch.cat((centres, torch.full_like(centres, BOX_START)), -1)
        sides = self.box(cells) + inverse_sigmoid(start)
        if hints is not None:
            heat = heat + hints.centre
            sides = sides + hints.trust * (inverse_sigmoid(hints.boxes) - sides)
        boxes = sides.sigmoid()
        cells_of_regions = self._distinct if self.distinct else self._peaks
        best = cells_of_regions(heat.detach(), boxes)[..., None]
        content = self.content(cells.flatten(1, 2).gather(1, best.expand(-1, -1, cells.shape[-1])))
        chosen = boxes.flatten(1, 2).gather(1, best.expand(-1, -1, 4))
        return Proposals(heat, boxes, content, chosen)

    def _peaks(self, heat: Tensor, boxes: Tensor) -> Tensor:
        """(B, Q) cells that are the warmest of the three by three around them."""
        return self._warmest(heat, F.max_pool2d(heat[:, None], 3, 1, 1)[:, 0] == heat)

    def _distinct(self, heat: Tensor, boxes: Tensor) -> Tensor:
        """(B, Q) cells whose boxes are not those of warmer cells: of an object that another one
        partly hides, the centre is often beside a warmer cell of the other."""
        cells = heat.shape[1] * heat.shape[2]
        # An export has one number of candidates, also where there are fewer cells.
        score = F.pad(heat.flatten(1), (0, CANDIDATES), value=-torch.inf)
        order = score.topk(CANDIDATES).indices
        where = order.clamp(max=cells - 1)[..., None].expand(-1, -1, 4)
        own = distinct(boxes.flatten(1, 2).gather(1, where), SAME_CELL)
        kept = torch.zeros_like(score, dtype=torch.bool).scatter(1, order, own)[:, :cells]
        return self._warmest(heat, kept.view_as(heat))

    def _warmest(self, heat: Tensor, first: Tensor) -> Tensor:
        """(B, Q) indices of cells, those that are ``first`` (B, h, w) before the others."""
        score = torch.where(first, heat, heat - 1e3).flatten(1)
        cells = score.shape[1]
        if cells < self.regions:  # a tiny picture: some regions stand twice
            score = F.pad(score, (0, self.regions - cells), value=-torch.inf)
        return score.topk(self.regions).indices.clamp(max=cells - 1)


def box_waves(boxes: Tensor, dim: int) -> Tensor:
    """(..., 4) boxes in 0..1 -> (..., dim) sines and cosines, dim / 8 frequencies a number."""
    frequency = 2.0 ** torch.linspace(0, 6, dim // 8, device=boxes.device) * torch.pi / 2
    angle = (boxes[..., None] * frequency.to(boxes.dtype)).flatten(-2)
    return torch.cat((angle.sin(), angle.cos()), -1)


def outside_box(boxes: Tensor, height: int, width: int) -> Tensor:
    """How far each cell is beyond each box: (B, Q, 4) -> (B, Q, height, width); 0 inside the box
    widened by a fifth, 1 where the distance from the centre is half a box more."""
    centres = pixel_centres(height, width, boxes)
    half = (boxes[..., 2:] / 2).clamp(min=0.5 / width)
    x = (centres.view(height, width, 2)[0, :, 0] - boxes[..., 0, None]).abs() / half[..., 0, None]
    y = (centres.view(height, width, 2)[:, 0, 1] - boxes[..., 1, None]).abs() / half[..., 1, None]
    return F.relu(torch.maximum(x[..., None, :], y[..., :, None]) - 1.2)
