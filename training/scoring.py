"""Asks a model every expression of a dataset, and counts each answer: GRES and GREC.

``Size.PICTURE`` is what a robot would be given: masks at the picture's own size, empty where the
answer is "no target", and the boxes of the objects that passed the model's own threshold.

``Size.OFFICIAL`` is how the published numbers are taken: pictures squeezed to 480 x 480 and targets
drawn at that size (``training.dataset.official``), ``raw`` sentences, GREC boxes from a score of
0.7 on. A preset without instance heads is read by ``official_decision``, and the mask of an
expression that it refuses stays in the union of cIoU.

AP@0.5 takes all regions in both modes, however low they score; of two on one object the better.
"""

from __future__ import annotations

import contextlib
import enum
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import numpy as np

from grex_ros.grounding.objects import GroundedObject, Grounding, Status
from grex_ros.metrics import grec, gres
from grex_ros.metrics.average_precision import RankedBoxes
from training.dataset import official
from training.dataset.records import Record, ReferringExpression, merged_mask, read_image

if TYPE_CHECKING:
    from grex_ros.grounding.grounder import Grounder
    from grex_ros.grounding.reading import Thresholds

Predict: TypeAlias = Callable[[np.ndarray, Sequence[str]], Sequence[Grounding]]
"""Image (H, W, 3) uint8 RGB and expressions in, one Grounding for each expression out."""

Decide: TypeAlias = Callable[[np.ndarray, Sequence[str]], Iterable[tuple[np.ndarray, bool]]]
"""The same in; out the mask (H, W) and whether it is refused, for each expression."""

OFFICIAL_BOX_THRESHOLD = 0.7


class Size(str, enum.Enum):
    """At which size pictures are scored; see the module."""

    PICTURE = "picture"
    OFFICIAL = "official"


@dataclass(frozen=True)
class Rules:
    """How answers are counted.

    Attributes:
        size: of pictures and masks.
        target: least score of an object.
        no_target: from this no-target score on, the answer is a refusal.
        boxes: least score of an object whose box counts in GREC.
    """

    size: Size = Size.PICTURE
    target: float = 0.5
    no_target: float = 0.5
    boxes: float = 0.5


DEFAULT_RULES = Rules()


@dataclass(frozen=True)
class Result:
    """How one expression was answered; ``boxes`` by GIoU as officially, ``boxes_iou`` by IoU;
    ``ranked`` are the boxes of all regions. ``no_target_score`` is the model's, whatever decided.
    """

    image_id: int
    expression: ReferringExpression
    mask: gres.GresSample
    boxes: grec.GrecSample
    boxes_iou: grec.GrecSample
    ranked: RankedBoxes
    no_target_score: float


T = TypeVar("T")


@dataclass
class Answers(Generic[T]):
    """What a model was asked so far; not ``complete`` if it was stopped. ``seconds`` is the model's
    own time."""

    results: list[T] = field(default_factory=list)
    images: int = 0
    seconds: float = 0.0
    complete: bool = False

    @contextlib.contextmanager
    def until_stopped(self) -> Iterator[None]:
        """Ctrl-C ends the block with what there is."""
        with contextlib.suppress(KeyboardInterrupt):
            yield
            self.complete = True

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Counts the time of the block."""
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start


class Evaluation(Answers[Result]):
    """All answers to expressions."""


def evaluate(
    records: Iterable[Record],
    predict: Predict,
    rules: Rules = DEFAULT_RULES,
    decide: Decide | None = None,
) -> Evaluation:
    """Asks every expression of every record, image by image; Ctrl-C ends it with what there is.

    ``predict`` may give objects of any score: the rules' thresholds are applied here. Where there
    is a ``decide``, the masks and refusals are its, and ``predict`` gives the boxes.

    Raises DatasetError for a picture that cannot be read or is of another size than its record,
    RuntimeError for a predictor that answers with an error or not every expression.
    """
    evaluation = Evaluation()
    with evaluation.until_stopped():
        for record in records:
            if rules.size is Size.OFFICIAL:
                image, record = official.read_image(record), official.squeeze(record)
            else:
                image = read_image(record)
            texts = [expression.text for expression in record.expressions]
            with evaluation.timed():
                answers = predict(image, texts)
                decisions = list(decide(image, texts)) if decide else None
            evaluation.results.extend(score_image(record, answers, rules, decisions))
            evaluation.images += 1
    return evaluation


def score_image(
    record: Record,
    answers: Sequence[Grounding],
    rules: Rules = DEFAULT_RULES,
    decisions: Sequence[tuple[np.ndarray, bool]] | None = None,
) -> list[Result]:
    """Scores the answers to all expressions of a record, given in the same order; ``decisions``
    are masks and refusals that count instead of those of the answers."""
    if len(answers) != len(record.expressions):
        raise RuntimeError(
            f"image_id {record.image_id}: {len(answers)} answers "
            f"to {len(record.expressions)} expressions"
        )
    masks: dict[tuple[int, ...], np.ndarray] = {}  # paraphrases share their targets
    results = []
    for index, (expression, answer) in enumerate(zip(record.expressions, answers, strict=True)):
        if answer.status not in (Status.TARGETS, Status.NO_TARGET):
            raise RuntimeError(
                f"image_id {record.image_id}, sent_id {expression.sent_id} "
                f"({expression.text!r}): {answer.status.name}: {answer.status_message}"
            )
        if expression.ann_ids not in masks:
            masks[expression.ann_ids] = merged_mask(record, expression)
        objects = kept_objects(answer, rules)
        predicted, refused = replace(answer, objects=objects).mask(), not objects
        if decisions:
            predicted, refused = decisions[index]
        mask = gres.score_expression(
            predicted,
            masks[expression.ann_ids],
            predicted_no_target=refused,
            no_target=expression.no_target,
        )
        targets = [instance.box for instance in record.targets(expression)]
        found = answer.objects if answer.no_target_score < rules.no_target else ()
        boxes, scores = [thing.box for thing in found], [thing.score for thing in found]
        by_giou, by_iou = (
            grec.score_expression(
                boxes, scores, targets, overlap=overlap, score_threshold=rules.boxes
            )
            for overlap in ("giou", "iou")
        )
        ranked = RankedBoxes(
            np.array([thing.box for thing in answer.objects]),
            np.array([thing.score for thing in answer.objects]),
            np.array(targets),
        )
        score = answer.no_target_score
        results.append(Result(record.image_id, expression, mask, by_giou, by_iou, ranked, score))
    return results


def kept_objects(answer: Grounding, rules: Rules) -> tuple[GroundedObject, ...]:
    """The objects of an answer of any score that pass the rules' thresholds; none is a refusal.

    Regions are taken best first: a higher threshold leaves the first ones as they are.
    """
    if answer.no_target_score >= rules.no_target:
        return ()
    return tuple(thing for thing in answer.objects if thing.score >= rules.target)


def predictor(grounder: Grounder, thresholds: Thresholds) -> Predict:
    """A Grounder with these thresholds as a predictor: one image pass for all expressions."""

    def predict(image: np.ndarray, expressions: Sequence[str]) -> list[Grounding]:
        grounder.thresholds = thresholds
        grounder.set_image(image)
        return grounder.ground(expressions)

    return predict


def official_decider(grounder: Grounder) -> Decide:
    """The official reading of a Grounder's model, one expression at a time as officially; the
    image must have the model's own size, a multiple of 32."""
    import torch

    from grex_ros.model.rela import official_decision

    def decide(image: np.ndarray, expressions: Sequence[str]) -> Iterator[tuple[np.ndarray, bool]]:
        pixels = torch.from_numpy(image.transpose(2, 0, 1).copy()).to(grounder.device)
        tokenizer = grounder.tokenizer
        for text in expressions:
            tokens, words = tokenizer([text], pad_to=tokenizer.max_tokens)
            with torch.inference_mode():
                out = grounder.model(
                    [pixels], tokens.to(grounder.device), words.to(grounder.device)
                )
                mask, refused = official_decision(out, image.shape[:2])
            yield mask[0].cpu().numpy(), bool(refused[0])

    return decide
