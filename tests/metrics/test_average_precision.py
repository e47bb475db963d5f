"""AP@0.5 against values counted by hand: precision at 101 recalls, 0 to 1."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from grex_ros.metrics.average_precision import RankedBoxes, average_precision

pytest.importorskip("pycocotools")

LEFT, RIGHT, FAR = [0, 0, 10, 10], [20, 0, 30, 10], [80, 80, 95, 95]


def ranked(found: list[tuple[list[float], float]], targets: list[list[float]]) -> RankedBoxes:
    boxes, scores = [box for box, _ in found], [score for _, score in found]
    return RankedBoxes(np.array(boxes), np.array(scores), np.array(targets))


PERFECT = [
    ranked([(LEFT, 0.9)], [LEFT]),
    ranked([(RIGHT, 0.8), (LEFT, 0.2)], [LEFT, RIGHT]),
    ranked([], []),
]


def test_every_target_found_and_nothing_else_is_a_hundred() -> None:
    assert average_precision(PERFECT) == 100.0


@pytest.mark.parametrize(
    ("samples", "percent"),
    [
        # One target. A wrong box below the right one costs nothing, above it half.
        ([ranked([(LEFT, 0.9), (FAR, 0.1)], [LEFT])], 100.0),
        ([ranked([(LEFT, 0.1), (FAR, 0.9)], [LEFT])], 50.0),
        # The same when the wrong box belongs to a no-target expression.
        ([ranked([(LEFT, 0.5)], [LEFT]), ranked([(FAR, 0.4)], [])], 100.0),
        ([ranked([(LEFT, 0.5)], [LEFT]), ranked([(FAR, 0.6)], [])], 50.0),
        # One of two found: precision 1 at the recalls 0 to 0.50, then 0.
        ([ranked([(LEFT, 0.9)], [LEFT, RIGHT])], 100 * 51 / 101),
        ([ranked([(LEFT, 0.9)], [LEFT]), ranked([], [RIGHT])], 100 * 51 / 101),
        # right, wrong, right: precision 1 up to recall 0.50, then 2/3
        (
            [ranked([(LEFT, 0.9), (RIGHT, 0.3)], [LEFT, RIGHT]), ranked([(FAR, 0.6)], [])],
            100 * (51 + 50 * 2 / 3) / 101,
        ),
        # A second box on the same object is wrong.
        (
            [ranked([(LEFT, 0.9), (LEFT, 0.8), (RIGHT, 0.7)], [LEFT, RIGHT])],
            100 * (51 + 100 / 3) / 101,
        ),
        # IoU exactly 0.5 counts, less does not.
        ([ranked([([0, 0, 10, 5], 0.9)], [LEFT])], 100.0),
        ([ranked([([0, 0, 10, 4.9], 0.9)], [LEFT])], 0.0),
        # A box on an object of another expression's is wrong.
        ([ranked([(RIGHT, 0.9)], [LEFT]), ranked([(LEFT, 0.9)], [RIGHT])], 0.0),
        ([ranked([], [LEFT]), ranked([], [])], 0.0),
    ],
)
def test_by_hand(samples: list[RankedBoxes], percent: float) -> None:
    assert average_precision(samples) == pytest.approx(percent, abs=1e-9)


def test_scores_count_by_rank_alone() -> None:
    low = [RankedBoxes(s.boxes, s.scores * 1e-6, s.targets) for s in PERFECT]
    assert average_precision(low) == 100.0


def test_the_hundred_and_first_box_still_counts() -> None:
    wrong = [(FAR, 0.9 - 0.001 * n) for n in range(100)]
    assert average_precision([ranked([*wrong, (LEFT, 0.1)], [LEFT])]) == pytest.approx(100 / 101)


def test_another_iou_threshold() -> None:
    samples = [ranked([([0, 0, 10, 7], 0.9)], [LEFT])]
    assert average_precision(samples, iou_threshold=0.7) == 100.0
    assert average_precision(samples, iou_threshold=0.75) == 0.0


@pytest.mark.parametrize("samples", [[], [ranked([], [])], [ranked([(LEFT, 0.9)], [])]])
def test_without_any_target_there_is_none(samples: list[RankedBoxes]) -> None:
    assert average_precision(samples) is None


def test_nothing_is_printed(capsys: pytest.CaptureFixture) -> None:
    average_precision(PERFECT)
    assert capsys.readouterr() == ("", "")


def test_boxes_and_scores_must_fit() -> None:
    with pytest.raises(ValueError, match="1 boxes, but 2 scores"):
        average_precision([RankedBoxes(np.array([LEFT]), np.array([0.1, 0.2]), np.array([LEFT]))])


@pytest.mark.parametrize("samples", [[], PERFECT])
def test_a_missing_library_is_named(samples: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pycocotools.coco", "pycocotools.cocoeval"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match="pip install pycocotools"):
        average_precision(samples)
