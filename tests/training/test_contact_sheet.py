"""The page of worst answers: which ones, and what stands beside them."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from grex_ros.grounding import rle
from grex_ros.grounding.objects import Grounding, Status
from grex_ros.metrics.greg import GregSample
from training.contact_sheet import (
    descriptions_section,
    pick_some,
    pick_worst,
    truth,
    worst_section,
    write_page,
)
from training.dataset.records import Instance, Record, ReferringExpression, merged_mask
from training.describing import Description
from training.scoring import evaluate

SIZE = (120, 200)


def instance(ann_id: int, x0: int, y0: int, x1: int, y1: int) -> Instance:
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return Instance(ann_id, 1, "cup", (x0, y0, x1, y1), rle.encode(mask))


@pytest.fixture
def record(tmp_path: Path) -> Record:
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), np.full((*SIZE, 3), 128, np.uint8))
    expressions = (
        ReferringExpression(1, 1, "both <cups>", (10, 11)),
        ReferringExpression(2, 2, "the left cup", (10,)),
        ReferringExpression(3, 3, "the unicorn", ()),
    )
    return Record(
        7, path, *SIZE, expressions, (instance(10, 2, 3, 12, 23), instance(11, 150, 80, 190, 110))
    )


def test_truth_has_the_masks_of_the_targets_in_tight_boxes(record: Record) -> None:
    both, _, nothing = (truth(record, expression) for expression in record.expressions)
    assert both.status == Status.TARGETS
    assert [item.box for item in both.objects] == [(2, 3, 12, 23), (150, 80, 190, 110)]
    np.testing.assert_array_equal(both.mask() > 0, merged_mask(record, record.expressions[0]))
    assert nothing.status == Status.NO_TARGET and nothing.objects == ()


def test_the_truth_scores_a_hundred(record: Record) -> None:
    def perfect(image: np.ndarray, expressions: Sequence[str]) -> list[Grounding]:
        return [truth(record, expression) for expression in record.expressions]

    results = evaluate([record], perfect).results
    assert [r.mask.iou for r in results] == [1.0, 1.0, 1.0]
    assert all(r.boxes.correct for r in results)


def test_the_page_shows_the_worst_first_with_answer_and_truth(
    record: Record, tmp_path: Path
) -> None:
    asked: list[str] = []

    def first_cup(image: np.ndarray, expressions: Sequence[str]) -> list[Grounding]:
        asked.extend(expressions)
        said = truth(record, record.expressions[1])
        return [replace(said, expression=text) for text in expressions]

    results = evaluate([record], first_cup).results
    assert [r.expression.sent_id for r in pick_worst(results, 5)] == [3, 1, 2]

    asked.clear()
    path = tmp_path / "deep" / "worst.html"
    section = worst_section([record], results, first_cup, count=2)
    write_page(path, "Answers <1>", [section])
    page = path.read_text(encoding="utf-8")
    assert "<h1>Answers &lt;1&gt;</h1>" in page
    assert asked == ["the unicorn", "both <cups>"]
    assert page.index("the unicorn") < page.index("both &lt;cups&gt;")
    assert "said 1 object, meant no target" in page and "said 1 object, meant 2 objects" in page

    pictures = [
        cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        for data in re.findall(r'base64,([^"]+)"', page)
    ]
    assert len(pictures) == 4
    for picture in pictures:
        assert picture.shape[1] == SIZE[1] and picture.shape[0] >= SIZE[0]
    right = (slice(80, 110), slice(150, 190))  # the second cup: painted in the truth only
    assert np.abs(pictures[2][right].astype(int) - 128).mean() < 10
    assert np.abs(pictures[3][right].astype(int) - 128).mean() > 20


def test_descriptions_stand_beside_what_people_said(record: Record) -> None:
    descriptions = [
        Description(7, (11,), GregSample("the <right> cup", ("the other cup", "a cup"), 1, False)),
        Description(7, (10, 11), GregSample("both cups", ("both <cups>",), 2, True)),
    ]
    assert pick_some(descriptions, 1) == descriptions[:1]
    section = descriptions_section([record], descriptions, count=12)
    assert "the &lt;right&gt; cup" in section and "the other cup / a cup" in section
    assert "means 2 objects; grounded again it finds the same set" in section
    assert "means 1 object; grounded again it finds another set" in section
    assert section.count("data:image/jpeg;base64,") == 2
