"""Scores a checkpoint on a dataset in gRefCOCO's layout: GRES (masks) and GREC (boxes).

    python -m training.evaluate --dataset data/tabletop --split val --json out.json

What is scored is what a robot would be given: masks at the picture's own size, empty where the
answer is "no target", and the boxes of the objects that passed the model's own threshold. Official
GRES numbers are taken on pictures squeezed to 480 x 480 and keep the mask of a refused expression
in the union of cIoU; official GREC numbers keep boxes with a score of at least 0.7.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from grex_ros.grounding.objects import Grounding, Status
from grex_ros.metrics import grec, gres
from training.dataset.grefcoco import (
    REFS_FILE,
    DatasetError,
    Record,
    ReferringExpression,
    load_grefcoco,
    merged_mask,
    read_image,
)

if TYPE_CHECKING:
    from grex_ros.grounding.grounder import Grounder

Predict: TypeAlias = Callable[[np.ndarray, Sequence[str]], Sequence[Grounding]]
"""Image (H, W, 3) uint8 RGB and expressions in, one Grounding for each expression out."""


@dataclass(frozen=True)
class Result:
    """How one expression was answered; ``boxes`` by GIoU as officially, ``boxes_iou`` by IoU."""

    image_id: int
    expression: ReferringExpression
    mask: gres.GresSample
    boxes: grec.GrecSample
    boxes_iou: grec.GrecSample

    @property
    def strata(self) -> tuple[str, ...]:
        """single, multi or no-target; no-target again by whether the thing named is in view."""
        expression = self.expression
        if not expression.no_target:
            return ("single" if len(expression.ann_ids) == 1 else "multi",)
        if not expression.falsified:
            return ("no-target",)
        kind = "easy" if expression.falsified == "easy" else "deceptive"
        return ("no-target", f"no-target, {kind}")


@dataclass
class Evaluation:
    """All answers; not ``complete`` if it was stopped. ``seconds`` is the predictor's own time."""

    results: list[Result] = field(default_factory=list)
    images: int = 0
    seconds: float = 0.0
    complete: bool = False


def evaluate(records: Iterable[Record], predict: Predict) -> Evaluation:
    """Asks every expression of every record, image by image; Ctrl-C ends it with what there is.

    Raises DatasetError for a picture that cannot be read or is of another size than its record,
    RuntimeError for a predictor that answers with an error or not every expression.
    """
    evaluation = Evaluation()
    try:
        for record in records:
            image = read_image(record)
            start = time.perf_counter()
            answers = predict(image, [expression.text for expression in record.expressions])
            evaluation.seconds += time.perf_counter() - start
            evaluation.results.extend(score_image(record, answers))
            evaluation.images += 1
        evaluation.complete = True
    except KeyboardInterrupt:
        pass
    return evaluation


def score_image(record: Record, answers: Sequence[Grounding]) -> list[Result]:
    """Scores the answers to all expressions of a record, given in the same order."""
    if len(answers) != len(record.expressions):
        raise RuntimeError(
            f"image_id {record.image_id}: {len(answers)} answers "
            f"to {len(record.expressions)} expressions"
        )
    masks: dict[tuple[int, ...], np.ndarray] = {}  # paraphrases share their targets
    results = []
    for expression, answer in zip(record.expressions, answers, strict=True):
        if answer.status not in (Status.TARGETS, Status.NO_TARGET):
            raise RuntimeError(
                f"image_id {record.image_id}, sent_id {expression.sent_id} "
                f"({expression.text!r}): {answer.status.name}: {answer.status_message}"
            )
        if expression.ann_ids not in masks:
            masks[expression.ann_ids] = merged_mask(record, expression)
        mask = gres.score_expression(
            answer.mask(),
            masks[expression.ann_ids],
            predicted_no_target=answer.status == Status.NO_TARGET,
            no_target=expression.no_target,
        )
        boxes = [thing.box for thing in answer.objects]
        scores = [thing.score for thing in answer.objects]
        targets = [instance.box for instance in record.targets(expression)]
        by_giou, by_iou = (
            # The predictor has applied its own threshold already: every box it returns is kept.
            grec.score_expression(boxes, scores, targets, overlap=overlap, score_threshold=0.0)
            for overlap in ("giou", "iou")
        )
        results.append(Result(record.image_id, expression, mask, by_giou, by_iou))
    return results


def groups(results: Iterable[Result]) -> dict[str, dict[str, list[Result]]]:
    """The results by stratum (see Result.strata) and by category, each in the order printed."""
    strata: dict[str, list[Result]] = {}
    categories: dict[str, list[Result]] = {}
    for result in results:
        for name in result.strata:
            strata.setdefault(name, []).append(result)
        if result.expression.category:
            categories.setdefault(result.expression.category, []).append(result)
    order = ("single", "multi", "no-target", "no-target, easy", "no-target, deceptive")
    return {
        "strata": {name: strata[name] for name in order if name in strata},
        "categories": dict(sorted(categories.items())),
    }


def scores(results: Sequence[Result]) -> dict[str, dict[str, Any]]:
    """GRES and GREC scores of a set of results, in percent."""
    return {
        "gres": asdict(gres.summarise(result.mask for result in results)),
        "grec": asdict(grec.summarise(result.boxes for result in results)),
        "grec_iou": asdict(grec.summarise(result.boxes_iou for result in results)),
    }


def report(evaluation: Evaluation) -> dict[str, Any]:
    """Everything about an evaluation as plain JSON values; scores in percent."""
    results = evaluation.results
    return {
        "complete": evaluation.complete,
        "images": evaluation.images,
        "expressions": len(results),
        "seconds_per_image": evaluation.seconds / evaluation.images if evaluation.images else None,
        "overall": scores(results),
        **{
            section: {name: scores(members) for name, members in members_of.items()}
            for section, members_of in groups(results).items()
        },
        "answers": [
            {
                "image_id": result.image_id,
                "sent_id": result.expression.sent_id,
                "text": result.expression.text,
                "targets": len(result.expression.ann_ids),
                "refused": result.mask.predicted_no_target,
                "iou": round(result.mask.iou, 6),
                "boxes": result.boxes.kept,
                "boxes_right": result.boxes.correct,
            }
            for result in results
        ],
    }


GRES_COLUMNS = {
    "gIoU": "giou",
    "cIoU": "ciou",
    "mIoU": "miou",
    "N-acc": "n_acc",
    "T-acc": "t_acc",
    "Pr@0.7": "pr70",
    "Pr@0.8": "pr80",
    "Pr@0.9": "pr90",
}
GREC_COLUMNS = {"Pr@F1": "pr_f1", "N-acc": "n_acc", "T-acc": "t_acc"}


def print_report(content: dict[str, Any], console: Console) -> None:
    """Prints the tables of a report; a dash stands where nothing was there to be scored."""
    rows = [("overall", content["overall"])]
    rows += [*content["strata"].items(), *content["categories"].items()]
    sections = {len(content["strata"]), len(rows) - 1}  # a line after the strata
    for title, kinds in (
        ("GRES: masks, percent", [("gres", "", GRES_COLUMNS)]),
        (
            "GREC: boxes, percent",
            [("grec", "", GREC_COLUMNS), ("grec_iou", " (IoU)", {"Pr@F1": "pr_f1"})],
        ),
    ):
        table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
        table.add_column("expressions", no_wrap=True)
        table.add_column("number", justify="right")
        for _, suffix, columns in kinds:
            for heading in columns:
                table.add_column(heading + suffix, justify="right")
        for index, (name, row) in enumerate(rows):
            cells = [
                "-" if row[kind][key] is None else f"{row[kind][key]:.1f}"
                for kind, _, columns in kinds
                for key in columns.values()
            ]
            table.add_row(
                name.replace("no-target, ", "  "),
                str(row["gres"]["expressions"]),
                *cells,
                end_section=index == 0 or index in sections,
            )
        console.print(table)
    if content["images"]:
        console.print(
            f"{content['images']} images, {content['expressions']} expressions, "
            f"{1000 * content['seconds_per_image']:.0f} ms an image with all its expressions",
            soft_wrap=True,
            highlight=False,
        )


def predictor(grounder: Grounder) -> Predict:
    """A Grounder as a predictor: one image pass for all expressions."""

    def predict(image: np.ndarray, expressions: Sequence[str]) -> list[Grounding]:
        grounder.set_image(image)
        return grounder.ground(expressions)

    return predict


def main(
    dataset: Annotated[Path, typer.Option(help="Folder in gRefCOCO's layout.")] = Path(
        "data/tabletop"
    ),
    split: Annotated[str, typer.Option(help="Split to score: train, val, testA, ...")] = "val",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights; the package's tabletop model by default.")
    ] = None,
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
    try:
        records = load_grefcoco(dataset, split)[:limit]
        grounder = Grounder.from_checkpoint(checkpoint, device=device)
    except (DatasetError, CheckpointError, ValueError) as error:
        errors.print(f"evaluate: {error}", style="red", markup=False)
        raise typer.Exit(1) from error
    given = {"target": target_threshold, "mask": mask_threshold, "no_target": no_target_threshold}
    grounder.thresholds = replace(
        grounder.thresholds, **{name: value for name, value in given.items() if value is not None}
    )
    predict = predictor(grounder)

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=errors, transient=True) as progress:
            evaluation = evaluate(progress.track(records, description=f"{split} images"), predict)
    except DatasetError as error:
        errors.print(f"evaluate: {error}", style="red", markup=False)
        raise typer.Exit(1) from error
    content = {
        "model": grounder.name,
        "device": str(grounder.device),
        "thresholds": asdict(grounder.thresholds),
        "dataset": str(dataset),
        "split": split,
        "limit": limit,
        "refs_sha256": hashlib.sha256((dataset / REFS_FILE).read_bytes()).hexdigest(),
        "units": "percent",
        **report(evaluation),
    }
    console.print(
        f"{content['model']} on {dataset}, split {split}, {content['device']}",
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

        write_worst(html, records, evaluation.results, predict, count=worst)


if __name__ == "__main__":
    typer.run(main)
