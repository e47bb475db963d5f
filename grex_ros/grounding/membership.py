"""From scores of single regions to the probability that each belongs to the set that is meant."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

TWINS = 0.7  # IoU of two boxes that are taken for one object


def membership(target: Floats, count: Floats | None, boxes: Floats) -> Floats:
    """Probability (B, Q) that a region is one of those that an expression means, if it means any.

    The regions are asked one by one, so alone they know neither how many there should be ("the cup
    left of the bowl" is one) nor that there must be one. A set S of regions has the probability of
    its members and non-members times that of the count |S|, and is not empty; a region's is the
    sum over the sets with it (the marginal of a Poisson binomial distribution times that of the
    count). Of two regions on one object only the better one can be a member.

    Args:
        target: logits (B, Q).
        count: logits (B, N) of 0, 1, ... and of N - 1 or more objects; None if nobody counts.
        boxes: (1 or B, Q, 4) centre x, y, width, height.
    """
    alone = np.where(_has_better_twin(target, boxes), 0.0, sigmoid(target))
    most = alone.shape[1]
    number = np.ones((len(alone), most + 1))  # chance of 0, 1, ... members
    if count is not None:
        some = np.exp(count[:, 1:] - count[:, 1:].max(1, keepdims=True))
        number[:, 1:] = some[:, np.minimum(np.arange(most), some.shape[1] - 1)]
    number[:, 0] = 0.0
    # others[b, i, k]: k of the regions besides i are members.
    others = np.zeros((*alone.shape, most))
    others[..., 0] = 1.0
    for j in range(most):
        chance = np.repeat(alone[:, None, j : j + 1], most, 1)
        chance[:, j] = 0.0
        grown = others * (1 - chance)
        grown[..., 1:] += others[..., :-1] * chance
        others = grown
    inside = alone * (others * number[:, None, 1:]).sum(2)
    outside = (1 - alone) * (others * number[:, None, :-1]).sum(2)
    return inside / np.maximum(inside + outside, np.finfo(float).tiny)


def _has_better_twin(target: Floats, boxes: Floats) -> npt.NDArray[np.bool_]:
    """(B, Q), whether another region with a higher logit (of equal ones, the first) is there."""
    low, high = boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2
    sides = np.minimum(high[:, :, None], high[:, None]) - np.maximum(low[:, :, None], low[:, None])
    both = np.maximum(sides, 0).prod(-1)
    area = (high - low).prod(-1)
    either = np.maximum(area[:, :, None] + area[:, None] - both, np.finfo(float).tiny)
    order = np.arange(target.shape[1])
    better = target[:, None] > target[:, :, None]
    better |= (target[:, None] == target[:, :, None]) & (order < order[:, None])
    return np.asarray((better & (both > TWINS * either)).any(2))


def shifted(chance: Floats | np.float64, shift: float) -> Floats:
    """Probabilities with ``shift`` added to their logits."""
    odds = np.exp(np.clip(shift, -700, 700)) * chance  # no overflow
    return np.asarray(odds / (odds + (1 - chance)))


def sigmoid(x: Floats) -> Floats:
    """Probabilities of logits."""
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))
