"""GREC scores against the official evaluator's own numbers, and by hand where it has none.

``tests/data/metrics_grec.json`` holds boxes, scores and what the official evaluator said of them.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grex_ros.metrics.grec import (
    GrecSample,
    GrecScores,
    count_matches,
    official_report,
    overlaps,
    score_expression,
    summarise,
)

DATA = json.loads((Path(__file__).parents[1] / "data" / "metrics_grec.json").read_text())
SAMPLES: list[dict[str, Any]] = DATA["samples"]
EXPECTED: dict[str, dict[str, Any]] = DATA["expected"]


def score(sample: dict[str, Any], **settings: Any) -> GrecSample:
    targets = [[x, y, x + width, y + height] for x, y, width, height in sample["gt"]]
    return score_expression(sample["boxes"], sample["scores"], targets, **settings)


@pytest.mark.parametrize("index", range(len(SAMPLES)))
def test_every_verdict_equals_the_official_one(index: int) -> None:
    got = score(SAMPLES[index])
    official = bool(SAMPLES[index]["correct"]), SAMPLES[index]["detected_above_threshold"]
    assert (got.correct, got.kept) == official, SAMPLES[index]["tag"]


@pytest.mark.parametrize(
    ("name", "chosen", "settings"),
    [
        ("all", slice(None), {}),
        ("first27", slice(27), {}),
        ("random_only", slice(27, None), {}),
        ("thresh_score_0p5", slice(None), {"score_threshold": 0.5}),
        ("thresh_iou_0p7", slice(None), {"overlap_threshold": 0.7}),
        ("thresh_F1_0p6", slice(None), {"f1_threshold": 0.6}),
    ],
)
def test_report_equals_the_official_one(name: str, chosen: slice, settings: dict) -> None:
    scores = summarise(score(sample, **settings) for sample in SAMPLES[chosen])
    assert scores.pr_f1 == pytest.approx(100 * EXPECTED[name]["F1_score"], abs=1e-10)
    assert scores.n_acc == pytest.approx(100 * EXPECTED[name]["N_acc"], abs=1e-10)
    assert scores.t_acc == pytest.approx(100 * EXPECTED[name]["T_acc"], abs=1e-10)
    assert official_report(scores) == pytest.approx(EXPECTED[name], abs=1e-12)


def test_iou_accepts_the_shifted_box_that_giou_rejects() -> None:
    (shifted,) = (s for s in SAMPLES if "GIoU < 0.5" in s["tag"])
    assert not score(shifted).correct
    assert score(shifted, overlap="iou").correct


def test_a_pair_on_the_threshold_is_decided_in_float32() -> None:
    """Half of the target, 0.49999997 in the official evaluator's precision."""
    target, half = [4.24, 15.24, 30.04, 16.94], [4.24, 15.24, 17.14, 16.94]
    assert not score_expression([half], [0.9], [target]).correct
    assert score_expression([half], [0.9], [target], overlap_threshold=0.4999).correct


def test_sets_on_which_the_official_code_raises() -> None:
    raising = {name for name, value in EXPECTED.items() if "exception" in value}
    assert raising == {"targets_only", "no_targets_only", "prediction_list_empty", "no_samples"}

    hit = score_expression([[0, 0, 10, 10]], [0.9], [[0, 0, 10, 10]])
    refused = score_expression([], [], [])
    missed = score_expression([], [], [[0, 0, 10, 10]])
    assert summarise([hit, missed]) == GrecScores(2, 2, 50.0, None, 50.0)
    assert summarise([refused]) == GrecScores(1, 0, 100.0, 100.0, None)
    assert summarise([]) == GrecScores(0, 0, None, None, None)
    report = official_report(summarise([hit, missed]))
    assert report["F1_score"] == report["T_acc"] == 0.5 and math.isnan(report["N_acc"])


def test_overlaps_by_hand() -> None:
    a = np.array([[0.0, 0, 10, 10], [20, 20, 20, 20]])
    b = np.array([[0.0, 0, 10, 5], [5, 5, 15, 15], [20, 20, 20, 20], [30, 0, 40, 10]])
    iou = [[0.5, 25 / 175, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(overlaps(a, b, "iou"), iou)
    giou = [
        [0.5, 25 / 175 - (225 - 175) / 225, -(400 - 100) / 400, -(400 - 200) / 400],
        [-(400 - 50) / 400, -(225 - 100) / 225, 0, -(400 - 100) / 400],
    ]
    np.testing.assert_allclose(overlaps(a, b, "giou"), giou)


def test_matching_is_greedy_and_one_to_one() -> None:
    pairs = np.array([[0.9, 0.8], [0.85, 0.1]])  # the best assignment would match both
    assert count_matches(pairs, 0.5) == 1
    assert count_matches(np.array([[0.9], [0.9]]), 0.5) == 1
    assert count_matches(np.array([[0.5, 0.0], [0.0, 0.49]]), 0.5) == 1
    assert count_matches(np.zeros((0, 3)), 0.5) == 0


@pytest.mark.parametrize(
    ("boxes", "scores", "says"),
    [([[0, 0, 1, 1]], [], "1 boxes, but 0 scores"), ([[0, 0, 1]], [0.9], r"boxes \(N, 4\)")],
)
def test_what_does_not_fit_is_refused(boxes: Any, scores: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        score_expression(boxes, scores, [[0, 0, 1, 1]])
