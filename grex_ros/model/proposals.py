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
LATER = 1e3  # is taken from the warmth of cells that come after all others
BOX_START = 0.15  # width and height, of the image, of a box before training


@dataclass
class Proposals:
    """What the cells say, and the regions chosen from them."""

    heat: Tensor  # (B, h, w) logits: an object's centre is in this cell
    # (B, h, w, 4) centre x, y, width, height in 0..1; None where no gradient is wanted.
    cell_boxes: Tensor | None
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
        cells = self.norm(memory.permute(0, 2, 3, 1)).flatten(1, 2)
        heat = self.heat(cells).view(b, h, w)
        about = [cells, pixel_centres(h, w, memory).expand(b, -1, -1)]
        if hints is not None:
            heat = heat + hints.centre
            about += [hints.trust.flatten(1, 2), hints.boxes.flatten(1, 2)]
        warmth, chosen = self._candidates(heat.detach())
        cell_boxes = None
        if torch.is_grad_enabled():
            all_boxes = self._boxes(*about)
            cell_boxes, boxes = all_boxes.view(b, h, w, 4), picked(all_boxes, chosen)
        else:  # nobody learns from the others
            boxes = self._boxes(*(picked(x, chosen) for x in about))
        if self.distinct:
            own = self._differing(warmth, boxes)
            chosen, boxes = chosen.gather(1, own), picked(boxes, own)
        return Proposals(heat, cell_boxes, self.content(picked(cells, chosen)), boxes)

    def _boxes(
        self,
        cells: Tensor,
        centres: Tensor,
        trust: Tensor | None = None,
        hinted: Tensor | None = None,
    ) -> Tensor:
        """Of cells (B, N, C), normed, at ``centres`` (B, N, 2) and with hints (B, N, 1) and
        (B, N, 4), the boxes (B, N, 4)."""
        start = torch.cat((centres, torch.full_like(centres, BOX_START)), -1)
        sides = self.box(cells) + inverse_sigmoid(start)
        if trust is not None and hinted is not None:
            sides = sides + trust * (inverse_sigmoid(hinted) - sides)
        return sides.sigmoid()

    def _candidates(self, heat: Tensor) -> tuple[Tensor, Tensor]:
        """Of ``heat`` (B, h, w) the cells (B, N) that may become regions, and how warm they are,
        warmest first. Where boxes need not differ, those are the regions' own: cells that are the
        warmest of the three by three around them before others."""
        if self.distinct:
            return _warmest(heat.flatten(1), CANDIDATES)
        peaks = F.max_pool2d(heat[:, None], 3, 1, 1)[:, 0] == heat
        return _warmest(torch.where(peaks, heat, heat - LATER).flatten(1), self.regions)

    def _differing(self, warmth: Tensor, boxes: Tensor) -> Tensor:
        """(B, Q) those of candidates (B, N), warmest first, whose boxes are not those of warmer
        ones, before others: of an object that another one partly hides, the centre is often
        beside a warmer cell of the other."""
        own = distinct(boxes, SAME_CELL)
        return _warmest(torch.where(own, warmth, warmth - LATER), self.regions)[1]


def _warmest(warmth: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` warmest of (B, N), and which they are; of fewer the last stands in for what
    lacks, colder than all."""
    # Always padded: an export has one count, whatever the size of the picture.
    best = F.pad(warmth, (0, count), value=-torch.inf).topk(count)
    return best.values, best.indices.clamp(max=warmth.shape[1] - 1)


def picked(x: Tensor, index: Tensor) -> Tensor:
    """Of ``x`` (B, N, ...) those of ``index`` (B, M)."""
    return x.gather(1, index.view(*index.shape, *[1] * (x.dim() - 2)).expand(-1, -1, *x.shape[2:]))


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
