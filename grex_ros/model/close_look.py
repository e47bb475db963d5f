"""A second look at likely objects, close up.

In the whole picture an object covers a few cells of the maps that regions see, enough to find it
and to tell its colour, too few to tell a cup from a can. Here the trunk sees the object's
surroundings once more, cut out of the picture at its own size and brought to one size, as the
region-wise networks of R-CNN (Girshick et al. 2014) did, and what it sees is added to the region.
The trunk's first stages are shared, its late ones have weights of their own: of one object, its
kind is asked, of a whole picture, where objects are. Those see the region's mask as well, since
what covers an object is in its crop, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import RelaConfig
from .efficientnet import LateStages
from .mask_refiner import Source, crops_of, cut, in_whole
from .proposals import box_waves
from .region_decoder import RegionState
from .tables import map_size

SIDE = 112  # pixels of a crop
CELLS = SIDE // 8  # along a side of what the trunk's first stages make of it
REACH = 1.3  # side of the square that is cut out, in longer sides of the box
# Of a picture, pixels along a side for one of a crop:
ENOUGH = 0.9  # that the picture as the model sees it must have where the whole has more than ...
PLAIN = 1.5  # up to which one sample will do
COARSE = 3.0  # and beyond which four will not
LEAST = 0.05  # probability of being an object from which a region is looked at
GRID = 3  # cells along each side that are told apart
HIDDEN = 384
DROPPED = 0.3  # of what is seen and thought, in training


class CloseLook(nn.Module):
    """What is added to a region for what the trunk sees in its crop. Untrained, it is nothing."""

    def __init__(self, cfg: RelaConfig, channels: tuple[int, ...]) -> None:
        """``channels`` of the trunk's maps of strides 4, 8, 16 and 32."""
        super().__init__()
        dim = cfg.hidden_dim
        self.dim = dim
        _, fine, middle, coarse = channels
        self.outline = nn.Conv2d(1, fine, 3, padding=1, bias=False)
        self.late = LateStages()
        self.norms = nn.ModuleList(nn.LayerNorm(c) for c in (fine, middle, coarse))
        self.see = nn.Linear(fine + GRID * GRID * (middle + coarse), HIDDEN)
        self.norm = nn.LayerNorm(dim)
        self.region = nn.Linear(2 * dim, HIDDEN)
        self.think = nn.Linear(HIDDEN, HIDDEN)
        self.tell = nn.Linear(HIDDEN, dim)
        for parameter in (self.outline.weight, self.tell.weight, self.tell.bias):
            nn.init.zeros_(parameter)

    def sense(self, begun: Tensor, masks: Tensor) -> Tensor:
        """What the trunk's first stages made of M crops (M, C, CELLS, CELLS) and where in them
        the objects are (M, CELLS, CELLS), 0..1 -> (M, features)."""
        begun = begun + self.outline(masks[:, None].to(begun.dtype))
        middle, coarse = self.late(begun)
        # Seven cells, of which the middle ones count twice, are three; the coarse map has as many.
        maps = begun.mean((2, 3), keepdim=True), F.avg_pool2d(middle, 3, 2), coarse
        each = zip(self.norms, maps, strict=True)
        return torch.cat([norm(m.flatten(2).transpose(1, 2)).flatten(1) for norm, m in each], 1)

    def forward(self, begun: Tensor, masks: Tensor, regions: Tensor, boxes: Tensor) -> Tensor:
        """``begun`` and ``masks`` (see :meth:`sense`) of the crops of ``regions`` (M, C) with
        ``boxes`` (M, 4) in 0..1 -> what is added to them (M, C)."""
        learns = self.training and self.tell.weight.requires_grad
        seen = F.dropout(self.sense(begun, masks), DROPPED, learns)
        about = torch.cat((self.norm(regions), box_waves(boxes, self.dim).to(regions.dtype)), 1)
        hidden = F.relu(self.see(seen) + self.region(about))
        hidden = F.dropout(hidden, DROPPED, learns)
        return self.tell(F.relu(self.think(hidden)))


def squares(boxes: Tensor, padded: tuple[int, int]) -> Tensor:
    """What is cut out around boxes (N, 4), centre x, y, width, height in parts of the padded
    picture: corners (N, 4) x0, y0, x1, y1 in pixels of it; ``padded`` is its height and width."""
    # Half of a bit is a pixel in half precision; of a model that is out of its mind, anything.
    boxes = boxes.float().nan_to_num(0.5)
    size = map_size(padded[1], padded[0], boxes)
    centre = boxes[:, :2] * size
    half = (boxes[:, 2:] * size).amax(1, keepdim=True) * REACH / 2
    return torch.cat((centre - half, centre + half), 1)


def close_masks(logits: Tensor, boxes: Tensor) -> Tensor:
    """Masks of regions (N, h/4, w/4) of the padded picture, logits, and their boxes (N, 4) -> how
    much of every cell of their squares is theirs (N, CELLS, CELLS), 0..1."""
    padded = 4 * logits.shape[1], 4 * logits.shape[2]
    found = cut(logits[:, None].float(), squares(boxes, padded) / 4, 2 * CELLS)
    return F.avg_pool2d(found.sigmoid(), 2)[:, 0]


def close_crops(boxes: Tensor, padded: tuple[int, int], seen: Tensor, whole: Tensor) -> Tensor:
    """Pictures of the squares around boxes.

    Args:
        boxes: (N, 4) centre x, y, width, height in parts of the padded picture.
        padded: its height and width in pixels.
        seen: (3, h, w) uint8, the picture as the model sees it, without padding.
        whole: (3, H, W) uint8, the picture itself, on the same device.

    Returns:
        Pixels (N, 3, SIDE, SIDE), 0..255.
    """
    corners = squares(boxes, padded)
    finer = in_whole(corners, seen, whole)
    per_whole, per_seen = ((c[:, 2:] - c[:, :2]).amax(1) / SIDE for c in (finer, corners))
    fine = per_whole <= PLAIN
    near = ~fine & (per_whole <= COARSE) & (per_seen < ENOUGH)
    plain = per_seen <= PLAIN
    sources = (
        Source(whole, finer, fine, 1),
        Source(whole, finer, near, 2),
        Source(seen, corners, ~fine & ~near & plain, 1),
        Source(seen, corners, ~fine & ~near & ~plain, 2),
    )
    return crops_of(sources, SIDE)


def likely_objects(objectness: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Logits (B, Q) -> the regions (B, N) that are most likely objects, int64, N = ``most`` or all
    of them, and which are likely enough to be looked at, bool."""
    best = objectness.topk(min(most, objectness.shape[1]), dim=1)
    return best.indices, best.values.sigmoid() >= LEAST


Tell = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def look_close(
    state: RegionState, most: int, tell: Tell, seen: Tensor, whole: Tensor
) -> RegionState:
    """The state of one picture with what ``tell`` (crops, masks, regions, boxes;
    see :meth:`~grex_ros.model.rela.ReLA.tell_close`) says of its likely objects; ``seen`` and
    ``whole`` as :func:`close_crops` takes them."""
    assert state.objectness is not None and state.boxes is not None
    (where,), (likely,) = likely_objects(state.objectness, most)
    on_cpu = where.device.type == "cpu"
    if on_cpu:  # a GPU looks at all of them, sooner than it would tell how many there are
        where = where[likely]
        if not len(where):
            return state
    boxes = state.boxes[0, where]
    height, width = state.masks.shape[2:]
    crops = close_crops(boxes, (4 * height, 4 * width), seen, whole)
    masks = close_masks(state.masks[0, where], boxes)
    told = tell(crops, masks, state.regions[where, 0], boxes)
    if not on_cpu:
        told = told * likely[:, None]
    regions = state.regions.index_add(0, where, told[:, None].to(state.regions.dtype))
    return replace(state, regions=regions)
