"""GREC: is the set of boxes exactly the set that the expression means?

Counts as the official evaluator of gRefCOCO does (github.com/henghuiding/gRefCOCO, ``mdetr``):
boxes with a score of at least 0.7 are kept; the pair of highest overlap is matched first and each
box once, as long as the overlap is at least 0.5; F1 = 2 TP / (2 TP + FP + FN); an expression is
right if F1 reaches 1. A no-target expression is right if no box is kept.

The official overlap is **GIoU**, although the metric is published as Pr@(F1=1, IoU>=0.5). GIoU is
never above IoU, so the official count is the stricter one. Both are here; published numbers use
"giou".
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Overlap = Literal["giou", "iou"]


@dataclass(frozen=True)
class GrecSample:
    """The counts of one expression: kept boxes, targets, pairs among them, and the verdict."""

    kept: int
    targets: int
    matched: int
    correct: bool

    @property
    def no_target(self) -> bool:
        """Nothing in the image was meant."""
        return self.targets == 0


@dataclass(frozen=True)
class GrecScores:
    """Scores of a set of expressions in percent; None where nothing was there to be scored.

    - pr_f1: expressions answered rightly, no-target ones included: the official Pr@(F1=1)
    - n_acc: no-target expressions without a kept box
    - t_acc: expressions with targets that have a kept box, right or wrong
    """

    expressions: int
    targeted: int
    pr_f1: float | None
    n_acc: float | None
    t_acc: float | None


def score_expression(
    boxes: npt.ArrayLike,
    scores: npt.ArrayLike,
    targets: npt.ArrayLike,
    *,
    overlap: Overlap = "giou",
    score_threshold: float = 0.7,
    overlap_threshold: float = 0.5,
    f1_threshold: float = 1.0,
) -> GrecSample:
    """Counts one answer.

    ``boxes`` (N, 4) and ``targets`` (M, 4) are (x0, y0, x1, y1) in pixels, ``scores`` (N,); N and M
    may be 0. Scores are compared in double precision, so that a float32 0.7 stays below 0.7, as it
    does officially. Raises ValueError if the shapes do not fit.
    """
    predicted, wanted = as_boxes(boxes), as_boxes(targets)
    kept = predicted[as_scores(scores, len(predicted)) >= score_threshold]
    if len(wanted) == 0:
        return GrecSample(len(kept), 0, 0, len(kept) == 0)
    matched = count_matches(overlaps(kept, wanted, overlap), overlap_threshold)
    f1 = 2 * matched / (len(kept) + len(wanted))  # 2 TP + FP + FN = kept + wanted
    return GrecSample(len(kept), len(wanted), matched, f1 >= f1_threshold)


def summarise(samples: Iterable[GrecSample]) -> GrecScores:
    """Scores of a set of expressions; see GrecScores."""
    every = list(samples)
    targeted = [sample for sample in every if not sample.no_target]
    return GrecScores(
        expressions=len(every),
        targeted=len(targeted),
        pr_f1=_percent([sample.correct for sample in every]),
        n_acc=_percent([sample.correct for sample in every if sample.no_target]),
        t_acc=_percent([sample.kept > 0 for sample in targeted]),
    )


def official_report(scores: GrecScores) -> dict[str, float]:
    """The scores under the names and in the units of the official evaluator: fractions.

    What is None here is NaN; the official evaluator raises ZeroDivisionError unless there are both
    expressions with and without targets.
    """
    named = {"F1_score": scores.pr_f1, "T_acc": scores.t_acc, "N_acc": scores.n_acc}
    return {key: math.nan if value is None else value / 100 for key, value in named.items()}


def overlaps(predicted: np.ndarray, targets: np.ndarray, overlap: Overlap) -> np.ndarray:
    """Overlap of every pair, (N, M) for boxes (N, 4) and (M, 4): IoU (0 to 1) or GIoU (-1 to 1).

    GIoU = IoU - (enclosing box - union) / enclosing box. Two empty boxes in one place have 0.
    Computed in float32, as officially: it decides pairs that lie on the threshold.
    """
    predicted, targets = predicted.astype(np.float32), targets.astype(np.float32)
    a, b = predicted[:, None], targets[None]  # (N, 1, 4), (1, M, 4)
    intersection = _area(np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:]))
    union = _area(a[..., :2], a[..., 2:]) + _area(b[..., :2], b[..., 2:]) - intersection
    iou = _ratio(intersection, union)
    if overlap == "iou":
        return iou
    enclosing = _area(np.minimum(a[..., :2], b[..., :2]), np.maximum(a[..., 2:], b[..., 2:]))
    return iou - _ratio(enclosing - union, enclosing)


def count_matches(pairs: np.ndarray, threshold: float) -> int:
    """Pairs found greedily in ``pairs`` (N, M): the highest first, each row and column once."""
    left, least = np.array(pairs, dtype=np.float32), np.float32(threshold)
    matched = 0
    for _ in range(min(left.shape)):
        row, column = np.unravel_index(np.argmax(left), left.shape)
        if left[row, column] < least:
            break
        matched += 1
        left[row, :] = left[:, column] = -np.inf
    return matched


def as_boxes(values: npt.ArrayLike) -> np.ndarray:
    """Boxes (N, 4) in float64; no boxes at all may have any shape. ValueError for another shape."""
    boxes = np.asarray(values, dtype=np.float64)
    if boxes.size == 0:
        return boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes (N, 4) wanted, got {boxes.shape}")
    return boxes


def as_scores(values: npt.ArrayLike, boxes: int) -> np.ndarray:
    """The scores (N,) of so many boxes in float64; ValueError for another number."""
    scores = np.asarray(values, dtype=np.float64).reshape(-1)
    if len(scores) != boxes:
        raise ValueError(f"{boxes} boxes, but {len(scores)} scores")
    return scores


def _area(top_left: np.ndarray, bottom_right: np.ndarray) -> np.ndarray:
    sides = np.clip(bottom_right - top_left, 0, None)
    area: np.ndarray = sides[..., 0] * sides[..., 1]
    return area


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _percent(values: list[bool]) -> float | None:
    return 100 * sum(values) / len(values) if values else None
