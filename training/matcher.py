"""Hungarian matching of regions and annotated objects (DETR, Mask2Former)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def box_corners(boxes: Tensor) -> Tensor:
    """(..., 4) centre x, y, width, height -> x0, y0, x1, y1."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat((centre - size / 2, centre + size / 2), -1)


def generalized_iou(a: Tensor, b: Tensor) -> Tensor:
    """GIoU (Rezatofighi et al.) of corner boxes, broadcast over (..., 4)."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    inner = (high - low).clamp(min=0).prod(-1)
    area_a, area_b = ((x[..., 2:] - x[..., :2]).clamp(min=0).prod(-1) for x in (a, b))
    union = area_a + area_b - inner
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    return inner / union.clamp(min=1e-7) - (hull - union) / hull.clamp(min=1e-7)


def dice_cost(logits: Tensor, masks: Tensor) -> Tensor:
    """(..., Q, N) logits and (..., K, N) masks -> (..., Q, K) dice losses, 0..1."""
    p = logits.sigmoid()
    both = p @ masks.transpose(-1, -2)
    return 1 - (2 * both + 1) / (p.sum(-1)[..., None] + masks.sum(-1)[..., None, :] + 1)


@torch.no_grad()
def match(
    masks: Tensor,
    boxes: Tensor,
    objectness: Tensor,
    true_masks: Sequence[Tensor],
    true_boxes: Sequence[Tensor],
) -> list[tuple[Tensor, Tensor]]:
    """Which region stands for which object in each of P pictures.

    Args:
        masks: (P, Q, h, w) logits. boxes: (P, Q, 4) centre form. objectness: (P, Q) logits.
        true_masks: P of (K, h, w) 0..1. true_boxes: P of (K, 4) centre form.

    Returns:
        Indices of regions and of objects, both (min(Q, K),), of every picture.
    """
    # All pictures at once, and one wait for a GPU; what fills up the objects is left out below.
    wanted, places = (pad_sequence(list(x), batch_first=True) for x in (true_masks, true_boxes))
    corners = box_corners(boxes)[:, :, None], box_corners(places)[:, None]
    cost = (
        5 * torch.cdist(boxes, places, p=1)
        - 2 * generalized_iou(*corners)
        + 5 * dice_cost(masks.flatten(2), wanted.flatten(2))
        - objectness.sigmoid()[..., None]
    )
    costs = torch.nan_to_num(cost, nan=1e3).cpu().numpy()
    pairs = [
        np.stack(linear_sum_assignment(each[:, : len(own)]))
        for each, own in zip(costs, true_boxes, strict=True)
    ]
    indices = torch.from_numpy(np.concatenate(pairs, 1)).to(masks.device)
    regions, objects = (row.split([pair.shape[1] for pair in pairs]) for row in indices)
    return list(zip(regions, objects, strict=True))


def flat_matches(matches: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Picture, region and object of every pair, each (N,)."""
    regions, objects = (torch.cat([pair[k] for pair in matches]) for k in (0, 1))
    return owners([len(pair[0]) for pair in matches], regions.device), regions, objects


def owners(counts: Sequence[int], device: torch.device) -> Tensor:
    """0 ``counts[0]`` times, 1 ``counts[1]`` times, and so on: whose row each one is."""
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(device)
