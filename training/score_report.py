"""The scores of an evaluation: by kind of expression, as JSON values and as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from grex_ros.metrics import grec, gres
from grex_ros.metrics.average_precision import average_precision
from grex_ros.metrics.strata import kind, summarise_each

if TYPE_CHECKING:
    from training.evaluate import Evaluation, Result


def groups(results: Sequence[Result]) -> dict[str, dict[str, list[Result]]]:
    """The results by stratum and by category, each in the order printed: single, multi, no-target;
    no-target again by whether the thing named is in view."""
    strata = summarise_each(results, [len(r.expression.ann_ids) for r in results], list)
    categories: dict[str, list[Result]] = {}
    for result in results:
        if result.expression.category:
            categories.setdefault(result.expression.category, []).append(result)
    for easy, name in ((True, "easy"), (False, "deceptive")):
        chosen = [
            result
            for result in strata.get(kind(0), [])
            if result.expression.falsified and (result.expression.falsified == "easy") == easy
        ]
        if chosen:
            strata[f"{kind(0)}, {name}"] = chosen
    return {"strata": strata, "categories": dict(sorted(categories.items()))}


def scores(results: Sequence[Result]) -> dict[str, dict[str, Any]]:
    """GRES and GREC scores of a set of results, in percent."""
    return {
        "gres": asdict(gres.summarise(result.mask for result in results)),
        "grec": {
            **asdict(grec.summarise(result.boxes for result in results)),
            "ap50": average_precision(result.ranked for result in results),
        },
        "grec_iou": asdict(grec.summarise(result.boxes_iou for result in results)),
    }


def official_scores(results: Sequence[Result]) -> dict[str, dict[str, float | None]]:
    """Under the names and in the units of the official evaluators; None where they have NaN."""
    reports = {
        "gres": gres.official_report(gres.summarise(result.mask for result in results)),
        "grec": grec.official_report(grec.summarise(result.boxes for result in results)),
    }
    return {
        name: {key: None if math.isnan(value) else value for key, value in report.items()}
        for name, report in reports.items()
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
GREC_COLUMNS = {"Pr@F1": "pr_f1", "N-acc": "n_acc", "T-acc": "t_acc", "AP@0.5": "ap50"}


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
    for name, numbers in content.get("official", {}).items():
        values = [f"{k} -" if v is None else f"{k} {v:.4f}" for k, v in numbers.items()]
        console.print(f"official {name.upper()}: {', '.join(values)}", soft_wrap=True)
    if content["images"]:
        console.print(
            f"{content['images']} images, {content['expressions']} expressions, "
            f"{1000 * content['seconds_per_image']:.0f} ms an image "
            "with all its expressions and regions",
            soft_wrap=True,
            highlight=False,
        )
