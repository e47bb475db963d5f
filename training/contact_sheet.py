"""The worst answers of an evaluation as one HTML page: what was answered beside what is true."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from grex_ros.grounding.objects import GroundedObject, Grounding, Status, crop_mask
from grex_ros.grounding.overlay import draw_overlay
from training.dataset.grefcoco import Record, ReferringExpression, instance_mask, read_image

if TYPE_CHECKING:
    from training.evaluate import Result

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Worst answers</title><style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2em; background: #fafafa; color: #222 }}
figure {{ display: inline-block; width: 42em; max-width: 100%; margin: 0 1.5em 2em 0;
  vertical-align: top }}
img {{ width: 49%; border: 1px solid #ccc }}
figcaption b {{ font-size: 1.1em }}
</style></head><body>
<h1>{count} worst answers</h1>
<p>Left: the answer. Right: the truth.</p>
{figures}
</body></html>
"""


def truth(record: Record, expression: ReferringExpression) -> Grounding:
    """The right answer in the form of an answer, every object with score 1."""
    objects: list[GroundedObject] = []
    for instance in record.targets(expression):
        cropped = crop_mask(instance_mask(instance, record.height, record.width))
        if cropped is not None:
            objects.append(GroundedObject(len(objects) + 1, 1.0, *cropped))
    return Grounding(
        expression=expression.text,
        status=Status.NO_TARGET if expression.no_target else Status.TARGETS,
        status_message="Nothing in view is meant." if expression.no_target else "",
        no_target_score=float(expression.no_target),
        objects=tuple(objects),
        size=(record.height, record.width),
        latency=0.0,
    )


def pick_worst(results: Sequence[Result], count: int) -> list[Result]:
    """The answers of lowest IoU; among equals a fixed random choice, so that all kinds appear."""
    order = np.random.default_rng(0).permutation(len(results))
    return sorted((results[index] for index in order), key=lambda result: result.mask.iou)[:count]


def write_worst(
    path: Path,
    records: Iterable[Record],
    results: Sequence[Result],
    predict: Callable[[np.ndarray, Sequence[str]], Sequence[Grounding]],
    *,
    count: int,
) -> None:
    """Asks the worst answers again and writes them as a page with its pictures inside."""
    by_id = {record.image_id: record for record in records}
    figures = []
    for result in pick_worst(results, count):
        record = by_id[result.image_id]
        image = read_image(record)
        (answer,) = predict(image, [result.expression.text])
        figures.append(_figure(image, result, answer, truth(record, result.expression)))
    path.parent.mkdir(parents=True, exist_ok=True)
    page = _PAGE.format(count=len(figures), figures="\n".join(figures))
    path.write_text(page, encoding="utf-8")


def _figure(image: np.ndarray, result: Result, answer: Grounding, right: Grounding) -> str:
    pictures = "".join(
        f'<img src="data:image/jpeg;base64,{_jpeg(draw_overlay(image, shown, title))}" alt="">'
        for shown, title in ((answer, "answer"), (right, "truth"))
    )
    said = "no target" if result.mask.predicted_no_target else _objects(result.boxes.kept)
    meant = "no target" if result.mask.no_target else _objects(result.boxes.targets)
    words = (
        f"<b>{html.escape(result.expression.text)}</b><br>"
        f"said {said}, meant {meant}; IoU {result.mask.iou:.2f}, "
        f"no-target score {answer.no_target_score:.2f}; "
        f"image {result.image_id}, sentence {result.expression.sent_id} "
        f"{html.escape(result.expression.category)} {html.escape(result.expression.falsified)}"
    )
    return f"<figure>{pictures}<figcaption>{words}</figcaption></figure>"


def _objects(count: int) -> str:
    return "1 object" if count == 1 else f"{count} objects"


def _jpeg(image: np.ndarray) -> str:
    """Base64 of the picture (H, W, 3) RGB as JPEG."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise RuntimeError("the picture could not be encoded as JPEG")
    return base64.b64encode(data.tobytes()).decode("ascii")
