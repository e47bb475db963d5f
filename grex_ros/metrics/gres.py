"""GRES: how well a mask and a no-target decision answer an expression.

Counts as the official evaluator of ReLA does (github.com/henghuiding/ReLA, version of August 2023):

    target(s) there, answered          IoU = I / U (0 if U is 0)
    target(s) there, "no target" said  IoU = 0, I = 0, U keeps the union with the predicted mask
    no target, "no target" said        IoU = 1, I = U = 0, whatever the mask is
    no target, answered                IoU = 0, I = 0, U = area of the predicted mask, even if empty

The official numbers are taken on pictures squeezed to 480 x 480 pixels; these functions take the
masks at any size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

PRECISION_THRESHOLDS = (0.7, 0.8, 0.9)


@dataclass(frozen=True)
class GresSample:
    """The counts of one expression; areas in pixels, ``iou`` from 0 to 1."""

    intersection: int
    union: int
    iou: float
    predicted_no_target: bool
    no_target: bool


@dataclass(frozen=True)
class GresScores:
    """Scores of a set of expressions, all in percent; None where nothing was there to be scored.

    - giou: mean IoU over all expressions, a rightly refused one counting 1
    - ciou: summed intersection over summed union; None if the union is empty
    - n_acc: no-target expressions that were refused
    - t_acc: expressions with targets that were not refused
    - pr70, pr80, pr90: expressions with targets whose IoU is at least 0.7, 0.8, 0.9
    - miou: mean IoU over the expressions with targets
    """

    expressions: int
    targeted: int
    giou: float | None
    ciou: float | None
    n_acc: float | None
    t_acc: float | None
    pr70: float | None
    pr80: float | None
    pr90: float | None
    miou: float | None


def score_expression(
    predicted: np.ndarray, target: np.ndarray, *, predicted_no_target: bool, no_target: bool
) -> GresSample:
    """Counts one answer.

    Masks are (H, W), nonzero = target. If both flags are set the masks are not looked at.
    Raises ValueError if they are not two masks of one size.
    """
    predicted, target = np.asarray(predicted) != 0, np.asarray(target) != 0
    if predicted.ndim != 2 or predicted.shape != target.shape:
        raise ValueError(f"masks of one size (H, W) wanted, got {predicted.shape}, {target.shape}")
    if predicted_no_target and no_target:
        return GresSample(0, 0, 1.0, True, True)
    union = int(np.count_nonzero(predicted | target))
    if predicted_no_target or no_target:
        return GresSample(0, union, 0.0, predicted_no_target, no_target)
    intersection = int(np.count_nonzero(predicted & target))
    iou = intersection / union if union else 0.0
    return GresSample(intersection, union, iou, False, False)


def summarise(samples: Iterable[GresSample]) -> GresScores:
    """Scores of a set of expressions; see GresScores."""
    every = list(samples)
    targeted = [sample for sample in every if not sample.no_target]
    refusals = [sample.predicted_no_target for sample in every if sample.no_target]
    union = sum(sample.union for sample in every)
    pr70, pr80, pr90 = (
        _percent([sample.iou >= threshold for sample in targeted])
        for threshold in PRECISION_THRESHOLDS
    )
    return GresScores(
        expressions=len(every),
        targeted=len(targeted),
        giou=_percent([sample.iou for sample in every]),
        ciou=100 * sum(sample.intersection for sample in every) / union if union else None,
        n_acc=_percent(refusals),
        t_acc=_percent([not sample.predicted_no_target for sample in targeted]),
        pr70=pr70,
        pr80=pr80,
        pr90=pr90,
        miou=_percent([sample.iou for sample in targeted]),
    )


def official_report(scores: GresScores) -> dict[str, float]:
    """The scores under the names, in the units and with the conventions of the official evaluator.

    T_acc and N_acc are fractions, the rest percent. Without a no-target expression both are 0.
    What is None here is NaN; the official evaluator has NaN for cIoU only, and raises
    ZeroDivisionError where no expression has a target.
    """
    without_no_target = scores.targeted == scores.expressions

    def number(value: float | None, scale: float = 1.0) -> float:
        return math.nan if value is None else value * scale

    return {
        "gIoU": number(scores.giou),
        "cIoU": number(scores.ciou),
        "T_acc": 0.0 if without_no_target else number(scores.t_acc, 0.01),
        "N_acc": 0.0 if without_no_target else number(scores.n_acc, 0.01),
        "Pr@0.7": number(scores.pr70),
        "Pr@0.8": number(scores.pr80),
        "Pr@0.9": number(scores.pr90),
    }


def _percent(values: list[float] | list[bool]) -> float | None:
    return 100 * math.fsum(values) / len(values) if values else None
