"""Boxes that lie over each other, and which of them stand for one object."""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = 4  # of suppression


def box_overlap(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes (..., N, 4) and (..., Q, 4), centre form -> (..., N, Q)."""
    a, b = a[..., :, None, :], b[..., None, :, :]
    inner = torch.ones((), dtype=a.dtype, device=a.device)
    for k in (0, 1):  # one number at a time: engines are slow where the last dimension is short
        low = torch.maximum(a[..., k] - a[..., k + 2] / 2, b[..., k] - b[..., k + 2] / 2)
        high = torch.minimum(a[..., k] + a[..., k + 2] / 2, b[..., k] + b[..., k + 2] / 2)
        inner = inner * (high - low).clamp(min=0)
    total = a[..., 2] * a[..., 3] + b[..., 2] * b[..., 3]
    return inner / (total - inner).clamp(min=1e-9)


def distinct(boxes: Tensor, same: float) -> Tensor:
    """Which of boxes (B, N, 4), centre form, best first, have an IoU above ``same`` with no better
    one of that kind; (B, N) bool.

    In a fixed number of steps, each over all pairs (Cluster-NMS, Zheng et al. 2020), which any
    engine can run; in a chain of more boxes than steps, each over the next, the last may be wrong.
    """
    boxes = boxes.detach().float()
    over = (box_overlap(boxes, boxes) > same).to(boxes.dtype).tril(-1)
    kept = torch.ones_like(over[..., :1])
    for _ in range(STEPS):
        kept = (over @ kept == 0).to(boxes.dtype)
    return kept[..., 0] > 0
