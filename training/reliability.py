"""How far the no-target score can be believed, and what another threshold would do.

The reliability diagram compares the score with how often nothing was meant, in bins of the score;
the expected calibration error (ECE) is the mean distance of the two, bins weighted by their
expressions. Both depend on how many of the expressions mean nothing, which is stated beside them.

The trade-off has N-acc and T-acc at every threshold of the no-target score: of the answers as they
are given, which also refuse where no object scores enough, and of the no-target score alone. An
object's score has the factor 1 - no-target score: above 1 - target threshold the former is flat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from training.scoring import Result

BINS = 10
STEPS = 101


@dataclass(frozen=True)
class Bin:
    """Expressions with a no-target score from ``low`` up to ``high``: how many, their mean score,
    and the share of them that mean nothing, 0..1; both None in an empty bin."""

    low: float
    high: float
    expressions: int
    score: float | None
    no_target: float | None


def reliability(scores: npt.ArrayLike, no_target: npt.ArrayLike, bins: int = BINS) -> list[Bin]:
    """Bins of equal width of scores (N,) in 0..1 of expressions with the truths (N,) bool; a score
    of exactly 1 belongs to the last one. ValueError for scores outside 0..1."""
    score, truth = np.asarray(scores, float).reshape(-1), np.asarray(no_target, bool).reshape(-1)
    if len(score) and not (score.min() >= 0 and score.max() <= 1):
        raise ValueError("no-target scores must lie between 0 and 1")
    place = np.minimum((score * bins).astype(int), bins - 1)
    found = []
    for i in range(bins):
        inside = place == i
        number = int(inside.sum())
        means = (float(v[inside].mean()) if number else None for v in (score, truth))
        found.append(Bin(i / bins, (i + 1) / bins, number, *means))
    return found


def calibration_error(bins: Sequence[Bin]) -> float | None:
    """ECE, 0..1; None without expressions."""
    total = sum(b.expressions for b in bins)
    if not total:
        return None
    distances = (
        b.expressions * abs(b.score - b.no_target)
        for b in bins
        if b.score is not None and b.no_target is not None
    )
    return sum(distances) / total


def trade_off(results: Sequence[Result], target: float) -> dict[str, list[float | None]]:
    """N-acc and T-acc in percent at thresholds of the no-target score from 0 to 1; an answer
    without an object of score ``target`` is a refusal at all of them, but not in ``n_acc_alone``
    and ``t_acc_alone``. None without expressions."""
    thresholds = np.linspace(0, 1, STEPS)
    score = np.array([result.no_target_score for result in results])
    best = np.array([result.ranked.scores.max(initial=-1.0) for result in results])
    truth = np.array([result.mask.no_target for result in results], bool)
    alone = score[None] >= thresholds[:, None]  # (STEPS, N)
    refused = alone | (best < target)[None]
    return {
        "threshold": [round(float(t), 6) for t in thresholds],
        "n_acc": _percent(refused[:, truth]),
        "t_acc": _percent(~refused[:, ~truth]),
        "n_acc_alone": _percent(alone[:, truth]),
        "t_acc_alone": _percent(~alone[:, ~truth]),
    }


def report(results: Sequence[Result], target: float, no_target: float) -> dict[str, Any]:
    """Bins, ECE and trade-off as JSON values; ``target`` and ``no_target`` are the thresholds."""
    truth = [result.mask.no_target for result in results]
    bins = reliability([result.no_target_score for result in results], truth)
    return {
        "no_target_prior": sum(truth) / len(truth) if truth else None,
        "ece": calibration_error(bins),
        "bins": [asdict(b) for b in bins],
        "threshold": no_target,
        "trade_off": trade_off(results, target),
    }


def draw(content: dict[str, Any], path: Path) -> None:
    """Draws a report into an image file, .svg or .png; needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    bins = content["bins"]
    width = 1 / len(bins)
    filled = [b for b in bins if b["expressions"]]
    left.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="believable")
    left.bar(
        [b["low"] + width / 2 for b in filled],
        [b["no_target"] for b in filled],
        0.92 * width,
        color="tab:blue",
        alpha=0.45,
        label="measured",
    )
    left.plot(
        [b["score"] for b in filled], [b["no_target"] for b in filled], "o-", color="tab:blue"
    )
    error = content["ece"]
    left.set(
        title="Reliability" if error is None else f"Reliability, ECE {100 * error:.1f} %",
        xlabel="no-target score",
        ylabel="share that means nothing",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    left.legend(loc="upper left")
    middle.bar(
        [b["low"] + width / 2 for b in bins],
        [b["expressions"] for b in bins],
        0.92 * width,
        color="0.5",
    )
    prior = content["no_target_prior"]
    middle.set(
        title="Scores" if prior is None else f"Scores; {100 * prior:.0f} % mean nothing",
        xlabel="no-target score",
        ylabel="expressions",
        xlim=(0, 1),
    )
    curve = content["trade_off"]
    for key, name, color in (("n_acc", "N-acc", "tab:red"), ("t_acc", "T-acc", "tab:green")):
        if None not in curve[key]:
            right.plot(curve["threshold"], curve[key], color=color, label=name)
            alone = curve[f"{key}_alone"]
            right.plot(curve["threshold"], alone, ":", color=color, label=f"{name}, score alone")
    right.axvline(content["threshold"], color="0.6", linestyle="--", label="threshold used")
    right.set(
        title="Another threshold", xlabel="threshold of the no-target score", ylabel="percent"
    )
    right.set(xlim=(0, 1), ylim=(0, 102))
    right.legend(loc="lower center")
    figure.savefig(path, dpi=110)


def _percent(hits: np.ndarray) -> list[float | None]:
    if not hits.shape[1]:
        return [None] * len(hits)
    return [round(float(value), 4) for value in 100 * hits.mean(1)]
