"""From scores of single regions to the probability that each belongs to the set that is meant."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

TWINS = 0.5  # IoU of two boxes that are taken for one object


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
    others = _count_of_others(alone)
    inside = alone * (others * number[:, 1:, None]).sum(1)
    outside = (1 - alone) * (others * number[:, :-1, None]).sum(1)
    return inside / np.maximum(inside + outside, np.finfo(float).tiny)


def _count_of_others(alone: Floats) -> Floats:
    """Chances (B, Q) -> (B, K, Q): that k of the regions besides each one are members.

    The product of the factors 1 - p + p z of all others has these numbers as coefficients; it is
    taken at the roots of unity (as a discrete Fourier transform) and leaves out each in turn.
    """
    most = alone.shape[1]
    root = np.exp(-2j * np.pi * np.arange(most) / most)[:, None]
    factor = 1 - alone[:, None] + alone[:, None] * root
    product = np.ones_like(factor)
    product[..., 1:] = factor[..., :-1].cumprod(2)
    product[..., :-1] *= factor[..., :0:-1].cumprod(2)[..., ::-1]
    return np.maximum(np.fft.ifft(product, axis=1).real, 0.0)


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


def raised(member: Floats, shift: float) -> Floats:
    """Probabilities (B, Q) as of :func:`membership` with ``shift`` added to the logits of as many
    regions of a row as are expected to be members, best first, at least one: where one object is
    meant and two are about as likely, a shift for all would make both of them the answer. A
    negative shift is for all."""
    if shift < 0:
        return shifted(member, shift)
    expected = np.maximum(np.rint(member.sum(1, keepdims=True)), 1)
    rank = np.argsort(np.argsort(-member, 1, kind="stable"), 1)
    return np.where(rank < expected, shifted(member, shift), member)


def sigmoid(x: Floats) -> Floats:
    """Probabilities of logits."""
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))
