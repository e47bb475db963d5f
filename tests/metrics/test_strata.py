"""Scores of single, multi and no-target expressions, on the official evaluators' own numbers."""

from __future__ import annotations

import numpy as np
import pytest

from grex_ros.metrics import grec, gres
from grex_ros.metrics.average_precision import RankedBoxes, average_precision
from grex_ros.metrics.strata import kind, summarise_each
from tests.metrics.test_grec import SAMPLES, score
from tests.metrics.test_gres import samples_of


def test_kinds() -> None:
    assert [kind(n) for n in (0, 1, 2, 7)] == ["no-target", "single", "multi", "multi"]


def test_order_and_members() -> None:
    got = summarise_each("abcdef", [0, 3, 1, 0, 1, 2], list)
    assert list(got.items()) == [
        ("single", ["c", "e"]),
        ("multi", ["b", "f"]),
        ("no-target", ["a", "d"]),
    ]
    assert summarise_each("ab", [2, 2], list) == {"multi": ["a", "b"]}
    assert summarise_each("", [], list) == {}


def test_every_sample_needs_its_number() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        summarise_each("ab", [1], list)


@pytest.mark.parametrize("overlap", ["giou", "iou"])
def test_boxes_by_kind(overlap: grec.Overlap) -> None:
    samples = [score(sample, overlap=overlap) for sample in SAMPLES]
    each = summarise_each(samples, [s.targets for s in samples], grec.summarise)
    verdicts: dict[str, list[bool]] = {"single": [], "multi": [], "no-target": []}
    for number, sample in zip((len(s["gt"]) for s in SAMPLES), samples, strict=True):
        verdicts["no-target" if not number else "single" if number == 1 else "multi"].append(
            sample.correct
        )
    assert {name: scores.expressions for name, scores in each.items()} == {
        name: len(of_kind) for name, of_kind in verdicts.items()
    }
    for name, of_kind in verdicts.items():
        assert each[name].pr_f1 == pytest.approx(100 * np.mean(of_kind))
    overall = grec.summarise(samples)
    assert each["no-target"].pr_f1 == each["no-target"].n_acc == overall.n_acc
    assert each["single"].n_acc is each["multi"].n_acc is each["no-target"].t_acc is None


@pytest.mark.parametrize("case", ["random_grefcoco", "edge_grefcoco", "random_plus_edge"])
def test_masks_by_kind(case: str) -> None:
    """The fixtures do not say how many objects a target mask has: take every other for two."""
    samples = samples_of(case)
    numbers = [0 if s.no_target else 1 + n % 2 for n, s in enumerate(samples)]
    each = summarise_each(samples, numbers, gres.summarise)
    overall = gres.summarise(samples)
    assert {s.expressions for s in each.values()} == {numbers.count(n) for n in (0, 1, 2)}
    assert each["no-target"].giou == each["no-target"].n_acc == overall.n_acc
    assert each["no-target"].t_acc is each["no-target"].miou is each["single"].n_acc is None
    for key in ("miou", "t_acc", "pr70", "pr80", "pr90"):
        parts = [(getattr(each[name], key), each[name].targeted) for name in ("single", "multi")]
        together = sum(value * count for value, count in parts) / sum(count for _, count in parts)
        assert getattr(overall, key) == pytest.approx(together), key
    intersection = {"single": 0, "multi": 0}
    union = {"single": 0, "multi": 0}
    for sample, number in zip(samples, numbers, strict=True):
        if number:
            intersection[kind(number)] += sample.intersection
            union[kind(number)] += sample.union
    for name in intersection:
        assert each[name].ciou == pytest.approx(100 * intersection[name] / union[name])


def test_average_precision_by_kind() -> None:
    pytest.importorskip("pycocotools")
    box, other = np.array([[0, 0, 10, 10]]), np.array([[50, 50, 60, 60]])
    both = np.concatenate([box, other])
    samples = [
        RankedBoxes(box, np.array([0.5]), box),
        RankedBoxes(both, np.array([0.9, 0.2]), both),
        RankedBoxes(other, np.array([0.7]), np.zeros((0, 4))),
    ]
    each = summarise_each(samples, [1, 2, 0], average_precision)
    assert each == {"single": 100.0, "multi": 100.0, "no-target": None}
    assert average_precision(samples) == pytest.approx(100 * (34 + 67 * 3 / 4) / 101)
