"""An evaluation as one HTML page that needs no other file: the scores, the worst answers beside
the truth, and a sample of the descriptions beside what people said."""

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
from grex_ros.metrics.strata import kind
from training.dataset.records import Record, ReferringExpression, instance_mask, read_image

if TYPE_CHECKING:
    from training.describing import Description
    from training.scoring import Result

WIDTH = 480  # most pixels of a picture
QUALITY = 75  # of a JPEG: 50 answers with their truths stay below 8 MB

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2em; background: #fafafa; color: #222 }}
figure {{ display: inline-block; width: 42em; max-width: 100%; margin: 0 1.5em 2em 0;
  vertical-align: top }}
figure img {{ width: 49%; border: 1px solid #ccc }}
figcaption b {{ font-size: 1.1em }}
table {{ border-collapse: collapse }}
th, td {{ padding: .15em .8em; text-align: right; border-bottom: 1px solid #ddd }}
th:first-child, td:first-child {{ text-align: left }}
</style></head><body>
<h1>{title}</h1>
{sections}
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


def pick_some(descriptions: Sequence[Description], count: int) -> list[Description]:
    """A fixed random choice, half of it with several objects as far as there are so many."""
    order = np.random.default_rng(0).permutation(len(descriptions))
    shuffled = [descriptions[index] for index in order]
    several = [d for d in shuffled if d.sample.targets > 1][: count // 2]
    single = [d for d in shuffled if d.sample.targets == 1][: count - len(several)]
    return single + several


def worst_section(
    records: Iterable[Record],
    results: Sequence[Result],
    predict: Callable[[np.ndarray, Sequence[str]], Sequence[Grounding]],
    *,
    count: int,
) -> str:
    """Asks the worst answers again and shows them, worst first, each beside the truth."""
    by_id = {record.image_id: record for record in records}
    figures = []
    for result in pick_worst(results, count):
        record = by_id[result.image_id]
        image = read_image(record)
        (answer,) = predict(image, [result.expression.text])
        figures.append(_answer(image, result, answer, truth(record, result.expression)))
    head = f"<h2>{len(figures)} worst answers</h2>\n<p>Left: the answer. Right: the truth.</p>"
    return "\n".join([head, *figures])


def descriptions_section(
    records: Iterable[Record], descriptions: Sequence[Description], *, count: int
) -> str:
    """A sample of descriptions, each with the objects that it was to mean and what people said."""
    by_id = {record.image_id: record for record in records}
    figures = []
    for description in pick_some(descriptions, count):
        record, sample = by_id[description.image_id], description.sample
        meant = ReferringExpression(-1, -1, sample.text, description.ann_ids)
        words = (
            f"<b>{html.escape(sample.text) or '(nothing)'}</b><br>"
            f"means {_objects(sample.targets)}; grounded again it "
            f"{'finds the same set' if sample.found else 'finds another set'}; "
            f"image {description.image_id}<br>"
            f"References: {html.escape(' / '.join(sample.references))}"
        )
        picture = _picture(read_image(record), truth(record, meant), "described")
        figures.append(f"<figure>{picture}<figcaption>{words}</figcaption></figure>")
    head = f"<h2>{len(figures)} descriptions of {len(descriptions)}, chosen at random</h2>"
    return "\n".join([head, *figures])


def image_section(title: str, path: Path) -> str:
    """A PNG file under a heading."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<h2>{html.escape(title)}</h2><img src="data:image/png;base64,{data}" alt="">'


def write_page(path: Path, title: str, sections: Iterable[str]) -> None:
    """Writes a page of ready sections."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page = _PAGE.format(title=html.escape(title), sections="\n".join(sections))
    path.write_text(page, encoding="utf-8")


def _answer(image: np.ndarray, result: Result, answer: Grounding, right: Grounding) -> str:
    pictures = _picture(image, answer, "answer") + _picture(image, right, "truth")
    said = "no target" if result.mask.predicted_no_target else _objects(result.boxes.kept)
    meant = "no target" if result.mask.no_target else _objects(result.boxes.targets)
    about = [kind(result.boxes.targets), result.expression.category, result.expression.falsified]
    words = (
        f"<b>{html.escape(result.expression.text)}</b><br>"
        f"said {said}, meant {meant}; IoU {result.mask.iou:.2f}, "
        f"boxes {'right' if result.boxes.correct else 'wrong'}, "
        f"no-target score {answer.no_target_score:.2f}; "
        f"{html.escape(', '.join(word for word in about if word))}; "
        f"image {result.image_id}, sentence {result.expression.sent_id}"
    )
    return f"<figure>{pictures}<figcaption>{words}</figcaption></figure>"


def _objects(count: int) -> str:
    return "1 object" if count == 1 else f"{count} objects"


def _picture(image: np.ndarray, shown: Grounding, title: str) -> str:
    return f'<img src="data:image/jpeg;base64,{_jpeg(draw_overlay(image, shown, title))}" alt="">'


def _jpeg(image: np.ndarray) -> str:
    """Base64 of the picture (H, W, 3) RGB as JPEG, at most WIDTH wide."""
    scale = WIDTH / image.shape[1]
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise RuntimeError("the picture could not be encoded as JPEG")
    return base64.b64encode(data.tobytes()).decode("ascii")
