"""Scores a checkpoint on a dataset in gRefCOCO's layout: GRES (masks) and GREC (boxes).

    python -m training.evaluate --dataset data/tabletop --split val --json out.json
    python -m training.evaluate --dataset data/grefcoco --checkpoint swin_base.safetensors \\
        --size official

``--size picture`` scores what a robot would be given: masks at the picture's own size, empty where
the answer is "no target", and the boxes of the objects that passed the model's own threshold.

``--size official`` scores as the published numbers are taken: pictures squeezed to 480 x 480 and
targets drawn at that size (``training.dataset.official``), ``raw`` sentences, GREC boxes from a
score of 0.7 on. A preset without instance heads is read by ``official_decision``, and the mask of
an expression that it refuses stays in the union of cIoU.

AP@0.5 takes all regions in both modes, however low they score; of two on one object the better.
"""

from __future__ import annotations

import enum
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import numpy as np
import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from grex_ros.grounding.objects import Grounding, Status
from grex_ros.metrics import grec, gres
from grex_ros.metrics.average_precision import RankedBoxes, load_pycocotools
from training.dataset import official
from training.dataset.grefcoco import (
    REFS_FILE,
    DatasetError,
    Record,
    ReferringExpression,
    load_grefcoco,
    merged_mask,
    read_image,
)
from training.score_report import official_scores, print_report, report

if TYPE_CHECKING:
    from grex_ros.grounding.grounder import Grounder, Thresholds

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
    ``ranked`` are the boxes of all regions."""

    image_id: int
    expression: ReferringExpression
    mask: gres.GresSample
    boxes: grec.GrecSample
    boxes_iou: grec.GrecSample
    ranked: RankedBoxes


@dataclass
class Evaluation:
    """All answers; not ``complete`` if it was stopped. ``seconds`` is the predictor's own time."""

    results: list[Result] = field(default_factory=list)
    images: int = 0
    seconds: float = 0.0
    complete: bool = False


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
    try:
        for record in records:
            if rules.size is Size.OFFICIAL:
                image, record = official.read_image(record), official.squeeze(record)
            else:
                image = read_image(record)
            texts = [expression.text for expression in record.expressions]
            start = time.perf_counter()
            answers = predict(image, texts)
            decisions = list(decide(image, texts)) if decide else None
            evaluation.seconds += time.perf_counter() - start
            evaluation.results.extend(score_image(record, answers, rules, decisions))
            evaluation.images += 1
        evaluation.complete = True
    except KeyboardInterrupt:
        pass
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
        # Regions are taken best first: a higher threshold leaves the first ones as they are.
        found = answer.objects if answer.no_target_score < rules.no_target else ()
        objects = tuple(thing for thing in found if thing.score >= rules.target)
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
        results.append(Result(record.image_id, expression, mask, by_giou, by_iou, ranked))
    return results


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


def main(
    dataset: Annotated[Path, typer.Option(help="Folder in gRefCOCO's layout.")] = Path(
        "data/tabletop"
    ),
    split: Annotated[str, typer.Option(help="Split to score: train, val, testA, ...")] = "val",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights; the package's tabletop model by default.")
    ] = None,
    size: Annotated[
        Size, typer.Option(help="Masks at the picture's own size, or 480 x 480 as published.")
    ] = Size.PICTURE,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many images.")] = None,
    target_threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Least score of an object.", show_default="the model's"),
    ] = None,
    mask_threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Least probability of a pixel.", show_default="the model's"
        ),
    ] = None,
    no_target_threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="No-target score from which it refuses.", show_default="the model's"
        ),
    ] = None,
    box_threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Least score of a box in GREC.",
            show_default=f"--target-threshold; {OFFICIAL_BOX_THRESHOLD} in official size",
        ),
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write all scores and answers here.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write the worst answers here, with pictures.")
    ] = None,
    worst: Annotated[int, typer.Option(min=1, help="How many answers --html shows.")] = 24,
) -> None:
    """Score a checkpoint on a dataset: GRES and GREC, overall and by kind of expression."""
    from grex_ros.grounding.grounder import Grounder
    from grex_ros.model.checkpoint import CheckpointError

    console, errors = Console(), Console(stderr=True)
    published = size is Size.OFFICIAL
    try:
        if html and published:
            raise ValueError("--html shows pictures at their own size; leave --size official out")
        load_pycocotools()  # before the work, not after it
        records = load_grefcoco(dataset, split, raw=published)[:limit]
        grounder = Grounder.from_checkpoint(
            checkpoint, device=device, precision="float32" if published else "auto"
        )
    except (DatasetError, CheckpointError, ValueError, ImportError) as error:
        errors.print(f"evaluate: {error}", style="red", markup=False)
        raise typer.Exit(1) from error
    given = {"target": target_threshold, "mask": mask_threshold, "no_target": no_target_threshold}
    thresholds = replace(
        grounder.thresholds, **{name: value for name, value in given.items() if value is not None}
    )
    if box_threshold is None:
        box_threshold = OFFICIAL_BOX_THRESHOLD if published else thresholds.target
    rules = Rules(size, thresholds.target, thresholds.no_target, box_threshold)
    everything = predictor(grounder, replace(thresholds, target=0.0, no_target=1.0))
    by_channels = published and not grounder.model.cfg.instance_heads
    decide = official_decider(grounder) if by_channels else None
    run_lengths = sum(official.has_run_lengths(i) for record in records for i in record.instances)
    if published and run_lengths:
        errors.print(
            f"evaluate: {run_lengths} masks are run lengths, which the official code refuses; "
            "they are resized to 480 x 480 by the nearest pixel",
            style="yellow",
        )

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=errors, transient=True) as progress:
            pictures = progress.track(records, description=f"{split} images")
            evaluation = evaluate(pictures, everything, rules, decide)
    except DatasetError as error:
        errors.print(f"evaluate: {error}", style="red", markup=False)
        raise typer.Exit(1) from error
    content = {
        "model": grounder.name,
        "device": str(grounder.device),
        "size": size.value,
        "decision": "official" if decide else "objects",
        "thresholds": {**asdict(thresholds), "boxes": box_threshold},
        "dataset": str(dataset),
        "split": split,
        "limit": limit,
        "refs_sha256": hashlib.sha256((dataset / REFS_FILE).read_bytes()).hexdigest(),
        "units": "percent",
        **report(evaluation),
        **({"official": official_scores(evaluation.results)} if published else {}),
    }
    console.print(
        f"{content['model']} on {dataset}, split {split}, {size.value} size, {content['device']}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
    print_report(content, console)
    if json_path:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if not evaluation.complete:
        errors.print("evaluate: stopped early; these are the scores so far", style="yellow")
        raise typer.Exit(130)
    if html:
        from training.contact_sheet import write_worst

        shown = predictor(grounder, thresholds)
        write_worst(html, records, evaluation.results, shown, count=worst)


if __name__ == "__main__":
    typer.run(main)
