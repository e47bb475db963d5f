"""Asks a model for an expression of every set of objects that a dataset has expressions of: GREG.

A set is asked for once, by the true boxes of its objects; what people said of it in this picture
are the references. The expression is then grounded in the same picture: it is consistent if it
finds as many objects, each with an IoU of 0.5 or more with one of the set. The model judges itself
there, so consistency is no proof that a person would understand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from grex_ros.metrics.greg import GregSample, same_set, tokenize
from training.dataset.records import DatasetError, Record, read_image
from training.scoring import Answers, Predict, Rules, kept_objects

if TYPE_CHECKING:
    from grex_ros.grounding.grounder import Grounder

Box: TypeAlias = tuple[float, float, float, float]
Describe: TypeAlias = Callable[[np.ndarray, Sequence[Sequence[Box]]], Sequence[str]]
"""Image (H, W, 3) uint8 RGB and sets of boxes in, one expression for each set out."""


@dataclass(frozen=True)
class Description:
    """What was said of one set of objects of a picture."""

    image_id: int
    ann_ids: tuple[int, ...]
    sample: GregSample


class Descriptions(Answers[Description]):
    """All descriptions."""


def target_sets(record: Record) -> dict[tuple[int, ...], tuple[str, ...]]:
    """The sets of ann_ids that anything is said of, with all that is said: one wording once."""
    said: dict[tuple[int, ...], dict[tuple[str, ...], str]] = {}
    for expression in record.expressions:
        words = tuple(tokenize(expression.text))
        if words and not expression.no_target:
            of_set = said.setdefault(tuple(sorted(expression.ann_ids)), {})
            of_set.setdefault(words, expression.text)
    return {ann_ids: tuple(texts.values()) for ann_ids, texts in said.items()}


def describe_all(
    records: Iterable[Record], describe: Describe, predict: Predict, rules: Rules
) -> Descriptions:
    """Describes every set of every record; Ctrl-C ends it with what there is.

    ``predict`` may give objects of any score: the rules' thresholds are applied here. Raises
    DatasetError for a picture or a box that cannot be used, RuntimeError for a set without an
    expression.
    """
    descriptions = Descriptions()
    with descriptions.until_stopped():
        for record in records:
            sets = target_sets(record)
            if sets:
                image = read_image(record)
                boxes = {instance.ann_id: instance.box for instance in record.instances}
                asked = [[boxes[ann_id] for ann_id in ann_ids] for ann_ids in sets]
                try:
                    with descriptions.timed():
                        texts = describe(image, asked)
                except ValueError as error:  # a box without a pixel of the picture
                    raise DatasetError(f"{record.image_path}: {error}") from error
                if len(texts) != len(asked):
                    raise RuntimeError(
                        f"image_id {record.image_id}: {len(texts)} expressions of {len(asked)} sets"
                    )
                found = _found_again(image, texts, asked, predict, rules)
                descriptions.results += [
                    Description(
                        record.image_id, ann_ids, GregSample(text, said, len(ann_ids), again)
                    )
                    for (ann_ids, said), text, again in zip(sets.items(), texts, found, strict=True)
                ]
            descriptions.images += 1
    return descriptions


def _found_again(
    image: np.ndarray,
    texts: Sequence[str],
    sets: Sequence[Sequence[Box]],
    predict: Predict,
    rules: Rules,
) -> list[bool]:
    spoken = [text for text in texts if tokenize(text)]
    answers = iter(predict(image, spoken) if spoken else ())
    return [
        bool(tokenize(text))
        and same_set([item.box for item in kept_objects(next(answers), rules)], boxes)
        for text, boxes in zip(texts, sets, strict=True)
    ]


def why_silent(grounder: Grounder) -> str:
    """Why the model cannot describe, as a sentence; empty if it can."""
    cfg = grounder.model.cfg
    if cfg.generation_layers and cfg.generation_words:
        return ""
    return f"GREG is left out: {grounder.name} has no generation head"


def describer(grounder: Grounder) -> Describe:
    """A Grounder's descriptions, the best found each; unverified, as consistency is measured."""

    def describe(image: np.ndarray, sets: Sequence[Sequence[Box]]) -> list[str]:
        grounder.set_image(image)
        return [grounder.describe(boxes, verify=False).text for boxes in sets]

    return describe
