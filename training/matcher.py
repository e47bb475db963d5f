"""Hungarian matching of regions and annotated objects (DETR, Mask2Former)."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


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
    """(Q, N) logits and (K, N) masks -> (Q, K) dice losses, 0..1."""
    p = logits.sigmoid()
    return 1 - (2 * p @ masks.T + 1) / (p.sum(1)[:, None] + masks.sum(1)[None] + 1)


@torch.no_grad()
def match(
    masks: Tensor, boxes: Tensor, objectness: Tensor, true_masks: Tensor, true_boxes: Tensor
) -> tuple[Tensor, Tensor]:
    """Which region stands for which object in one picture.

    Args:
        masks: (Q, h, w) logits. boxes: (Q, 4) centre form. objectness: (Q,) logits.
        true_masks: (K, h, w) 0..1. true_boxes: (K, 4) centre form.

    Returns:
        Indices of regions and of objects, both (min(Q, K),).
    """
    cost = (
        5 * torch.cdist(boxes, true_boxes, p=1)
        - 2 * generalized_iou(box_corners(boxes)[:, None], box_corners(true_boxes)[None])
        + 5 * dice_cost(masks.flatten(1), true_masks.flatten(1))
        - objectness.sigmoid()[:, None]
    )
    rows, columns = linear_sum_assignment(torch.nan_to_num(cost, nan=1e3).cpu().numpy())
    device = masks.device
    return torch.as_tensor(rows, device=device), torch.as_tensor(columns, device=device)
