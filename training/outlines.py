"""What the mask refiner is taught: objects as they are drawn, in windows around regions' boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from grex_ros.model.mask_refiner import crop, surroundings
from grex_ros.model.region_decoder import RegionState

from .criterion import PictureTruth, dice_loss
from .matcher import box_corners, generalized_iou

LEAST = 0.4  # GIoU of a region's box and that of the object which it is taken to stand for
MOST = 24  # windows in one picture
EACH = 2  # of a region
SHIFT, STRETCH = 0.05, 0.1  # of boxes, in parts of their sides and as a logarithm


@dataclass
class Closeup:
    """A picture and its objects, all that there is to see of them."""

    seen: Tensor  # (3, h, w) uint8, as the model sees it
    whole: Tensor  # (3, H, W) uint8, at its own size
    masks: Tensor  # (K, H, W) uint8 0 or 1


@torch.no_grad()
def windows(
    state: RegionState, truth: Sequence[PictureTruth], closeups: Sequence[Closeup], side: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Regions that stand for an object, each in some windows around its box, which is moved a
    little; of a picture at random up to :data:`MOST`.

    Returns:
        Pixels (N, 3, S, S) 0..255, masks so far (N, S, S) as logits, and what they should be (N, S,
        S), 0..1.
    """
    assert state.boxes is not None
    found: list[tuple[Tensor, ...]] = []
    for i, (true, close) in enumerate(zip(truth, closeups, strict=True)):
        boxes = state.boxes[i].float()
        giou = generalized_iou(box_corners(boxes)[:, None], box_corners(true.boxes)[None])
        best, item = giou.max(1)
        region = torch.nonzero((best >= LEAST) & true.outlined[item]).flatten().repeat(EACH)
        region = region[torch.randperm(len(region), device=region.device)[:MOST]]
        centre, sides = boxes[region].chunk(2, 1)
        centre = centre + SHIFT * sides * torch.randn_like(sides)
        sides = sides * (STRETCH * torch.randn_like(sides)).exp()
        corners, pixels, coarse = surroundings(
            state.masks[i, region].float(),
            torch.cat((centre, sides), 1),
            close.seen,
            close.whole,
            side,
        )
        drawn = crop(close.masks[item[region]][:, None], corners, side)[:, 0]
        found.append((pixels, coarse, drawn))
    pixels, coarse, drawn = (torch.cat(parts) for parts in zip(*found, strict=True))
    return pixels, coarse, drawn


def outline_losses(logits: Tensor, drawn: Tensor) -> dict[str, Tensor]:
    """Cross-entropy and Dice loss of masks (N, S, S); nothing is learned from none."""
    if not len(logits):
        return {name: 0 * logits.sum() for name in ("outline", "outline_dice")}
    pixels = F.binary_cross_entropy_with_logits(logits, drawn)
    dice = dice_loss(logits.sigmoid().flatten(1), drawn.flatten(1)).mean()
    return {"outline": pixels, "outline_dice": dice}
