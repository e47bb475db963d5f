"""The calibration of scores that are known by hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from grex_ros.metrics import grec, gres
from grex_ros.metrics.average_precision import RankedBoxes
from training.dataset.records import ReferringExpression
from training.reliability import calibration_error, draw, reliability, report, trade_off
from training.scoring import Result


def result(score: float, best: float | None, no_target: bool) -> Result:
    """An answer with this no-target score and best object's score."""
    scores = np.array([] if best is None else [best])
    return Result(
        1,
        ReferringExpression(1, 1, "the cup", () if no_target else (1,)),
        gres.GresSample(0, 0, 0.0, False, no_target),
        grec.GrecSample(0, 0, 0, False),
        grec.GrecSample(0, 0, 0, False),
        RankedBoxes(np.zeros((len(scores), 4)), scores, np.zeros((0, 4))),
        score,
    )


def test_bins_of_known_scores() -> None:
    scores = [0.0, 0.1, 0.3, 0.5, 0.74, 0.75, 1.0]
    truth = [0, 0, 1, 0, 1, 1, 1]
    bins = reliability(scores, truth, bins=4)
    assert [(b.low, b.high, b.expressions) for b in bins] == [
        (0.0, 0.25, 2),
        (0.25, 0.5, 1),
        (0.5, 0.75, 2),
        (0.75, 1.0, 2),
    ]
    assert [b.no_target for b in bins] == [0.0, 1.0, 0.5, 1.0]
    assert [b.score for b in bins] == pytest.approx([0.05, 0.3, 0.62, 0.875])
    error = (2 * 0.05 + 1 * 0.7 + 2 * 0.12 + 2 * 0.125) / 7
    assert calibration_error(bins) == pytest.approx(error)


def test_scores_that_keep_their_word_have_no_error() -> None:
    truth = np.arange(1000) % 10 < 3  # three of ten, said to be 0.3
    assert calibration_error(reliability(np.full(1000, 0.3), truth)) == pytest.approx(0)
    assert calibration_error(reliability(np.full(1000, 0.8), truth)) == pytest.approx(0.5)
    assert calibration_error(reliability(truth.astype(float), truth)) == 0.0


def test_nothing_and_nonsense() -> None:
    bins = reliability([], [])
    assert calibration_error(bins) is None and bins[0].score is bins[0].no_target is None
    with pytest.raises(ValueError, match="between 0 and 1"):
        reliability([1.5], [True])
    with pytest.raises(ValueError, match="between 0 and 1"):
        reliability([float("nan")], [True])


ANSWERS = [
    result(0.9, 0.05, True),
    result(0.2, 0.7, True),
    result(0.1, 0.8, False),
    result(0.4, 0.6, False),
    result(0.1, None, False),  # refused for want of an object
]


def test_the_trade_off_at_every_threshold() -> None:
    curve = trade_off(ANSWERS, target=0.5)
    at = {round(t, 2): i for i, t in enumerate(curve["threshold"])}
    points = {t: (curve["n_acc"][i], curve["t_acc"][i]) for t, i in at.items()}
    assert points[0.0] == (100.0, 0.0)
    assert points[0.15] == (100.0, pytest.approx(100 / 3, abs=1e-3))
    assert points[0.3] == (50.0, pytest.approx(100 / 3, abs=1e-3))
    assert points[0.5] == (50.0, pytest.approx(200 / 3, abs=1e-3))
    assert points[1.0] == (50.0, pytest.approx(200 / 3, abs=1e-3))
    alone = {t: (curve["n_acc_alone"][i], curve["t_acc_alone"][i]) for t, i in at.items()}
    assert alone[0.5] == (50.0, 100.0) and alone[1.0] == (0.0, 100.0)


def test_the_drawing_is_a_picture_whatever_is_missing(tmp_path: Path) -> None:
    for name, answers in {"all": ANSWERS, "nothing": []}.items():
        content = report(answers, 0.5, 0.5)
        draw(content, tmp_path / f"{name}.png")
        picture = cv2.imread(str(tmp_path / f"{name}.png"))
        assert picture is not None and picture.shape[1] > 2 * picture.shape[0]
        assert picture.std() > 10
    assert report(ANSWERS, 0.5, 0.5)["no_target_prior"] == 0.4
