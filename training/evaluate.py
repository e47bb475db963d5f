"""Scores a checkpoint on a dataset: GRES (masks), GREC (boxes) and GREG (words).

    python -m training.evaluate --dataset data/tabletop --split val --out out/val
    python -m training.evaluate --dataset data/grefcoco --checkpoint swin_base.safetensors \\
        --size official --tasks gres,grec

Scores are printed for all expressions, for those that mean one object, several and none (easy and
deceptive apart) and for every kind of expression that the dataset names. ``--out`` writes

    scores.json      all scores, answers, descriptions and the calibration, as numbers
    scores.md        the tables
    calibration.png  how far the no-target score can be believed (training.reliability)
    worst.html       the same, the worst answers beside the truth, a sample of the descriptions

How answers are counted says ``training.scoring``, how descriptions ``training.describing``; GREG is
left out for a model without a generation head. GREG takes pictures at their own size always.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from grex_ros.metrics.average_precision import load_pycocotools
from grex_ros.metrics.greg import load_scorers
from training import contact_sheet, reliability
from training.dataset import official
from training.dataset.load import find_dataset, load_dataset
from training.dataset.records import DatasetError, Record
from training.describing import Descriptions, describe_all, describer, why_silent
from training.score_report import (
    as_html,
    as_markdown,
    greg_report,
    heading,
    official_scores,
    print_report,
    report,
)
from training.scoring import (
    OFFICIAL_BOX_THRESHOLD,
    Evaluation,
    Rules,
    Size,
    evaluate,
    official_decider,
    predictor,
)

if TYPE_CHECKING:
    from grex_ros.grounding.grounder import Grounder
    from grex_ros.grounding.reading import Thresholds

TASKS = ("gres", "grec", "greg")
DESCRIPTIONS_SHOWN = 12


def read_tasks(text: str) -> list[str]:
    """The tasks named in a list with commas, in the order of TASKS; ValueError for another."""
    named = {name.strip().lower() for name in text.split(",") if name.strip()}
    if not named or named - set(TASKS):
        raise ValueError(f"--tasks takes some of {', '.join(TASKS)}, not {text!r}")
    return [task for task in TASKS if task in named]


def main(
    dataset: Annotated[
        str, typer.Option(help="Folder of a dataset; folder:name where it holds several.")
    ] = "data/tabletop",
    split: Annotated[str, typer.Option(help="Split to score: train, val, testA, ...")] = "val",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights; the package's tabletop model by default.")
    ] = None,
    tasks: Annotated[str, typer.Option(help="What to score.")] = ",".join(TASKS),
    out: Annotated[
        Path | None, typer.Option(help="Write all scores and the page of worst answers here.")
    ] = None,
    size: Annotated[
        Size, typer.Option(help="Masks at the picture's own size, or 480 x 480 as published.")
    ] = Size.PICTURE,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    engine: Annotated[str, typer.Option(help="auto, torch, onnxruntime, openvino.")] = "auto",
    image_size: Annotated[
        int, typer.Option(min=0, help="Longer side at which pictures are seen; 0 = as it says.")
    ] = 0,
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
    worst: Annotated[int, typer.Option(min=1, help="How many answers worst.html shows.")] = 50,
) -> None:
    """Score a checkpoint on a dataset: GRES, GREC and GREG, overall and by kind of expression."""
    from grex_ros.grounding.grounder import Grounder
    from grex_ros.model.checkpoint import CheckpointError

    console, errors = Console(), Console(stderr=True)
    published = size is Size.OFFICIAL
    try:
        wanted = read_tasks(tasks)
        load_pycocotools()  # before the work, not after it
        files = find_dataset(dataset)
        records = load_dataset(dataset, split, raw=published)[:limit]
        grounder = Grounder.from_checkpoint(
            checkpoint,
            device=device,
            precision="float32" if published else "auto",
            engine=engine,
            image_size=image_size,
        )
        silent = why_silent(grounder) if "greg" in wanted else ""
        if "greg" in wanted and not silent:
            load_scorers()
        if out:
            out.mkdir(parents=True, exist_ok=True)
    except (DatasetError, CheckpointError, ValueError, ImportError, OSError) as error:
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
    evaluation, descriptions = Evaluation(complete=True), Descriptions()
    try:
        with Progress(*columns, console=errors, transient=True) as progress:
            if {"gres", "grec"} & set(wanted):
                pictures = progress.track(records, description=f"{split} images")
                evaluation = evaluate(pictures, everything, rules, decide)
            if "greg" in wanted and not silent and evaluation.complete:
                pictures = progress.track(records, description=f"{split} images, words")
                as_used = predictor(grounder, thresholds)
                descriptions = describe_all(pictures, describer(grounder), as_used, rules)
    except DatasetError as error:
        errors.print(f"evaluate: {error}", style="red", markup=False)
        raise typer.Exit(1) from error
    content: dict[str, Any] = {
        "model": grounder.name,
        "device": str(grounder.device),
        "size": size.value,
        "image_size": grounder.model.cfg.image_size,
        "decision": "official" if decide else "objects",
        "tasks": wanted,
        "thresholds": {**asdict(thresholds), "boxes": box_threshold},
        "dataset": dataset,
        "split": split,
        "limit": limit,
        "refs_sha256": hashlib.sha256(files.refs_path.read_bytes()).hexdigest(),
        "units": "percent",
    }
    if {"gres", "grec"} & set(wanted):
        content |= report(evaluation, wanted)
        # Where the channels decide, no object is needed for an answer.
        least = -1.0 if decide else rules.target
        content["calibration"] = reliability.report(evaluation.results, least, rules.no_target)
        if published:
            content["official"] = official_scores(evaluation.results)
    if descriptions.images:
        content["greg"] = greg_report(descriptions)
    elif silent:
        content["greg_left_out"] = silent
    console.print(heading(content), soft_wrap=True, highlight=False, markup=False)
    print_report(content, console)
    asked_all = evaluation.complete and (
        descriptions.complete or bool(silent) or "greg" not in wanted
    )
    if out:
        try:
            shown = None if published else grounder
            write_report(out, content, records, evaluation, descriptions, shown, thresholds, worst)
        except KeyboardInterrupt:
            asked_all = False
        console.print(f"written to {out}", soft_wrap=True, highlight=False, markup=False)
    if not asked_all:
        errors.print("evaluate: stopped early; these are the scores so far", style="yellow")
        raise typer.Exit(130)


def write_report(
    out: Path,
    content: dict[str, Any],
    records: Sequence[Record],
    evaluation: Evaluation,
    descriptions: Descriptions,
    grounder: Grounder | None,
    thresholds: Thresholds,
    worst: int,
) -> None:
    """Writes everything into a folder. The numbers come first: the page asks the worst answers
    again, of the ``grounder``; without one they are not shown."""
    (out / "scores.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (out / "scores.md").write_text(as_markdown(content), encoding="utf-8")
    sections = [as_html(content)]
    if content.get("calibration"):
        plot = out / "calibration.png"
        reliability.draw(content["calibration"], plot)
        sections.append(contact_sheet.image_section("Calibration of the no-target score", plot))
    if evaluation.results and grounder:
        again = predictor(grounder, thresholds)
        sections.append(
            contact_sheet.worst_section(records, evaluation.results, again, count=worst)
        )
    if descriptions.results:
        found = descriptions.results
        sections.append(
            contact_sheet.descriptions_section(records, found, count=DESCRIPTIONS_SHOWN)
        )
    contact_sheet.write_page(out / "worst.html", heading(content), sections)


if __name__ == "__main__":
    typer.run(main)
