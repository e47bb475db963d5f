"""AP@0.5 of boxes: are the boxes that an expression means ranked before all others?

Counted by pycocotools, the COCO evaluator (pip install pycocotools), as detection of one category
where every expression is a picture of its own: the boxes of all expressions are ranked together by
score, boxes given to a no-target expression are false positives, and precision is averaged at 101
recalls. No threshold is applied and no number of boxes is too large.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .grec import as_boxes, as_scores

_CATEGORY = 1


@dataclass(frozen=True, eq=False)
class RankedBoxes:
    """One expression: all its predicted ``boxes`` (N, 4) with ``scores`` (N,), however low, and the
    boxes of its ``targets`` (M, 4); all (x0, y0, x1, y1) in pixels, N and M may be 0."""

    boxes: np.ndarray
    scores: np.ndarray
    targets: np.ndarray


def average_precision(
    samples: Iterable[RankedBoxes], *, iou_threshold: float = 0.5
) -> float | None:
    """AP in percent at one IoU threshold; None where no expression has a target.

    Raises ValueError if boxes and scores do not fit, ImportError without pycocotools.
    """
    coco, coco_eval = load_pycocotools()
    images, targets, found = [], [], []
    most = 0
    for number, sample in enumerate(samples, 1):
        boxes = as_boxes(sample.boxes)
        scores = as_scores(sample.scores, len(boxes))
        images.append({"id": number})
        targets += [
            {**_entry(number, box), "area": float(np.prod(box[2:] - box[:2])), "iscrowd": 0}
            for box in as_boxes(sample.targets)
        ]
        found += [
            {**_entry(number, box), "score": float(score)}
            for box, score in zip(boxes, scores, strict=True)
        ]
        most = max(most, len(boxes))
    if not targets:
        return None
    if not found:
        return 0.0
    for number, target in enumerate(targets, 1):  # COCOeval takes an id of 0 for "not matched"
        target["id"] = number
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        truth = coco()
        truth.dataset = {
            "info": {},
            "images": images,
            "annotations": targets,
            "categories": [{"id": _CATEGORY, "name": "target"}],
        }
        truth.createIndex()
        evaluation = coco_eval(truth, truth.loadRes(found), "bbox")
        evaluation.params.iouThrs = np.array([iou_threshold])
        evaluation.params.maxDets = [most]
        evaluation.params.areaRng = [[0, np.inf]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    # COCOeval adds 2e-16 to each denominator: rounded, so that perfect is 100.
    return round(100 * float(evaluation.eval["precision"].mean()), 10)


def load_pycocotools() -> tuple[Any, Any]:
    """The classes COCO and COCOeval; the ImportError of a missing library says how to get it."""
    try:
        from pycocotools.coco import COCO  # type: ignore[import-untyped,unused-ignore]
        from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise ImportError("AP is counted by pycocotools: pip install pycocotools") from error
    return COCO, COCOeval


def _entry(image: int, box: np.ndarray) -> dict[str, Any]:
    x0, y0, x1, y1 = box.tolist()
    return {"image_id": image, "category_id": _CATEGORY, "bbox": [x0, y0, x1 - x0, y1 - y0]}
