"""GRES scores against the official evaluator's own numbers, and by hand where it has none.

``tests/data/metrics_gres.*`` holds masks, flags and what the official ReLA evaluator said of them.
"""

from __future__ import annotations

import json
import math
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grex_ros.metrics.gres import (
    GresSample,
    GresScores,
    official_report,
    score_expression,
    summarise,
)

DATA = Path(__file__).parents[1] / "data"
CASES: dict[str, dict[str, Any]] = json.loads((DATA / "metrics_gres.json").read_text())
MASKS = np.load(DATA / "metrics_gres.npz")
WITH_NUMBERS = [n for n, c in CASES.items() if c["n"] and "exception" not in c["expected"]]
WITH_EXCEPTION = [n for n, c in CASES.items() if "exception" in c["expected"]]


def samples_of(name: str) -> list[GresSample]:
    case = CASES[name]
    shape = (case["n"], case["height"], case["width"])
    predicted, target = (
        np.unpackbits(MASKS[f"{name}@{kind}"], count=math.prod(shape)).reshape(shape)
        for kind in ("pred", "gt")
    )
    return [
        score_expression(p, t, predicted_no_target=bool(said), no_target=bool(true))
        for p, t, said, true in zip(predicted, target, case["pred_nt"], case["gt_nt"], strict=True)
    ]


def test_the_cases_are_all_there() -> None:
    assert len(WITH_NUMBERS) == 11
    assert WITH_EXCEPTION == [
        "mixed_sources_refcoco_only_empty_in_grefcoco",
        "single_no_target_hit",
        "single_no_target_miss",
    ]


@pytest.mark.parametrize("name", WITH_NUMBERS)
def test_counts_of_every_expression_equal_the_official_ones(name: str) -> None:
    for index, (sample, official) in enumerate(
        zip(samples_of(name), CASES[name]["per_sample"], strict=True)
    ):
        got = {"I": sample.intersection, "U": sample.union, "IoU": sample.iou}
        assert got == official, CASES[name]["tag"][index]


@pytest.mark.parametrize("name", WITH_NUMBERS)
def test_report_equals_the_official_one(name: str) -> None:
    samples, sources = samples_of(name), CASES[name]["source"]
    for source, official in CASES[name]["expected"].items():
        chosen = [s for s, of in zip(samples, sources, strict=True) if source in (of, "full")]
        report = official_report(summarise(chosen))
        for key, value in official.items():
            assert report[key] == pytest.approx(float(value), abs=1e-10, nan_ok=True), key


@pytest.mark.parametrize(
    ("name", "giou", "ciou", "n_acc"),
    [("single_no_target_hit", 100.0, None, 100.0), ("single_no_target_miss", 0.0, 0.0, 0.0)],
)
def test_only_no_target_has_scores_where_the_official_code_raises(
    name: str, giou: float, ciou: float | None, n_acc: float
) -> None:
    scores = summarise(samples_of(name))
    assert scores == GresScores(1, 0, giou, ciou, n_acc, None, None, None, None, None)
    report = official_report(scores)
    assert report["N_acc"] == n_acc / 100
    assert math.isnan(report["Pr@0.7"]) and math.isnan(report["T_acc"])


def test_nothing_at_all_is_none_everywhere() -> None:
    assert astuple(summarise([])) == (0, 0) + (None,) * 8


def test_only_targets_have_a_t_acc_of_their_own_but_zero_officially() -> None:
    scores = summarise(samples_of("targets_only_grefcoco"))
    refused = sum(CASES["targets_only_grefcoco"]["pred_nt"])
    assert scores.t_acc == pytest.approx(100 * (25 - refused) / 25)
    assert scores.n_acc is None
    assert official_report(scores)["T_acc"] == official_report(scores)["N_acc"] == 0


def test_four_answers_by_hand() -> None:
    half, full, empty = np.zeros((4, 4)), np.ones((4, 4)), np.zeros((4, 4))
    half[:2] = 255
    samples = [
        score_expression(half, full, predicted_no_target=False, no_target=False),  # IoU 8 / 16
        score_expression(half, full, predicted_no_target=True, no_target=False),  # 0, U 16
        score_expression(half, empty, predicted_no_target=False, no_target=True),  # 0, U 8
        score_expression(half, empty, predicted_no_target=True, no_target=True),  # 1, U 0
    ]
    assert summarise(samples) == GresScores(
        expressions=4,
        targeted=2,
        giou=100 * 1.5 / 4,
        ciou=100 * 8 / 40,
        n_acc=50.0,
        t_acc=50.0,
        pr70=0.0,
        pr80=0.0,
        pr90=0.0,
        miou=25.0,
    )


@pytest.mark.parametrize("shape", [(4, 5), (16,), (1, 4, 4)])
def test_masks_of_different_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one size"):
        score_expression(
            np.zeros(shape), np.zeros((4, 4)), predicted_no_target=False, no_target=False
        )
