"""The scores of an evaluation: by kind of expression, as JSON values and as tables."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from grex_ros.metrics import grec, greg, gres
from grex_ros.metrics.average_precision import average_precision
from grex_ros.metrics.strata import kind, summarise_each

if TYPE_CHECKING:
    from training.describing import Descriptions
    from training.scoring import Evaluation, Result

Scores = dict[str, dict[str, Any]]

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
GREG_COLUMNS = {
    "references": "references",
    **{f"BLEU-{n}": f"bleu{n}" for n in (1, 2, 3, 4)},
    "ROUGE-L": "rouge_l",
    "METEOR": "meteor",
    "CIDEr": "cider",
    "consistent": "consistency",
}


@dataclass(frozen=True)
class ScoreTable:
    """Rows of texts under headings; ``breaks`` are the rows that a section ends with."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    breaks: frozenset[int] = frozenset()


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


def scores(results: Sequence[Result], tasks: Iterable[str] = ("gres", "grec")) -> Scores:
    """GRES and GREC scores of a set of results, in percent."""
    found: Scores = {}
    if "gres" in tasks:
        found["gres"] = asdict(gres.summarise(result.mask for result in results))
    if "grec" in tasks:
        found["grec"] = {
            **asdict(grec.summarise(result.boxes for result in results)),
            "ap50": average_precision(result.ranked for result in results),
        }
        found["grec_iou"] = asdict(grec.summarise(result.boxes_iou for result in results))
    return found


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


def report(evaluation: Evaluation, tasks: Iterable[str] = ("gres", "grec")) -> dict[str, Any]:
    """Everything about the answers as plain JSON values; scores in percent."""
    results = evaluation.results
    return {
        "complete": evaluation.complete,
        "images": evaluation.images,
        "expressions": len(results),
        "seconds_per_image": evaluation.seconds / evaluation.images if evaluation.images else None,
        "overall": scores(results, tasks),
        **{
            section: {name: scores(members, tasks) for name, members in members_of.items()}
            for section, members_of in groups(results).items()
        },
        "answers": [
            {
                "image_id": result.image_id,
                "sent_id": result.expression.sent_id,
                "text": result.expression.text,
                "targets": len(result.expression.ann_ids),
                "no_target_score": round(result.no_target_score, 6),
                "refused": result.mask.predicted_no_target,
                "iou": round(result.mask.iou, 6),
                "boxes": result.boxes.kept,
                "boxes_right": result.boxes.correct,
            }
            for result in results
        ],
    }


def greg_report(descriptions: Descriptions) -> dict[str, Any]:
    """Everything about the descriptions as plain JSON values; scores in percent."""
    results = descriptions.results
    by_kind = greg.summarise(description.sample for description in results)
    return {
        "complete": descriptions.complete,
        "images": descriptions.images,
        "seconds_per_set": descriptions.seconds / len(results) if results else None,
        "counted_by": greg.implementations(),
        **{name: asdict(found) for name, found in by_kind.items()},
        "descriptions": [
            {
                "image_id": description.image_id,
                "ann_ids": description.ann_ids,
                "text": description.sample.text,
                "references": description.sample.references,
                "consistent": description.sample.found,
            }
            for description in results
        ],
    }


def tables(content: dict[str, Any]) -> list[ScoreTable]:
    """The tables of a report; a dash stands where nothing was there to be scored."""
    found = []
    if content.get("overall"):
        rows = [("overall", content["overall"])]
        rows += [*content["strata"].items(), *content["categories"].items()]
        breaks = frozenset({0, len(content["strata"]), len(rows) - 1})  # a line after the strata
        iou = {"Pr@F1 (IoU)": "pr_f1"}
        for title, parts in (
            ("GRES: masks, percent", {"gres": GRES_COLUMNS}),
            ("GREC: boxes, percent", {"grec": GREC_COLUMNS, "grec_iou": iou}),
        ):
            if next(iter(parts)) not in content["overall"]:
                continue
            lines = tuple(
                (
                    name,
                    str(next(row[part] for part in parts)["expressions"]),
                    *(
                        _cell(row[part][key])
                        for part, keys in parts.items()
                        for key in keys.values()
                    ),
                )
                for name, row in rows
            )
            headings = (
                "expressions",
                "number",
                *(name for keys in parts.values() for name in keys),
            )
            found.append(ScoreTable(title, headings, lines, breaks))
    if content.get("greg"):
        lines = tuple(
            (
                name,
                str(content["greg"][name]["expressions"]),
                *(_cell(content["greg"][name][key]) for key in GREG_COLUMNS.values()),
            )
            for name in ("overall", "single", "multi")
            if name in content["greg"]
        )
        title = "GREG: words, percent"
        found.append(ScoreTable(title, ("sets", "number", *GREG_COLUMNS), lines, frozenset({0})))
    return found


def remarks(content: dict[str, Any]) -> list[str]:
    """What is to be said below the tables, a sentence or two each."""
    lines = []
    for name, numbers in content.get("official", {}).items():
        values = [f"{k} -" if v is None else f"{k} {v:.4f}" for k, v in numbers.items()]
        lines.append(f"official {name.upper()}: {', '.join(values)}")
    calibration = content.get("calibration")
    if calibration and calibration["ece"] is not None:
        lines.append(
            f"no-target score: ECE {100 * calibration['ece']:.1f} % where "
            f"{100 * calibration['no_target_prior']:.1f} % of the expressions mean nothing"
        )
    if content.get("images"):
        lines.append(
            f"{content['images']} images, {content['expressions']} expressions, "
            f"{1000 * content['seconds_per_image']:.0f} ms an image "
            "with all its expressions and regions"
        )
    described = content.get("greg")
    if described:
        counted = "; ".join(f"{name}: {how}" for name, how in described["counted_by"].items())
        lines.append(f"GREG counted by {counted}")
        if described["seconds_per_set"] is not None:
            lines.append(
                f"{described['images']} images, {described['overall']['expressions']} sets "
                f"described, {1000 * described['seconds_per_set']:.0f} ms a set"
            )
    if content.get("greg_left_out"):
        lines.append(content["greg_left_out"])
    return lines


def print_report(content: dict[str, Any], console: Console) -> None:
    """Prints the tables of a report and what is to be said below them."""
    for table in tables(content):
        drawn = Table(title=table.title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
        for index, heading in enumerate(table.headings):
            drawn.add_column(heading, justify="right" if index else "left", no_wrap=index == 0)
        for index, row in enumerate(table.rows):
            name = row[0].replace("no-target, ", "  ")
            drawn.add_row(name, *row[1:], end_section=index in table.breaks)
        console.print(drawn)
    for line in remarks(content):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def heading(content: dict[str, Any]) -> str:
    """What was evaluated, in one line."""
    return (
        f"{content['model']} on {content['dataset']}, split {content['split']}, "
        f"{content['size']} size, {content['device']}"
    )


def thresholds_line(content: dict[str, Any]) -> str:
    """The thresholds of the answers, in one line."""
    values = ", ".join(f"{name} {value:g}" for name, value in content["thresholds"].items())
    early = "" if content.get("complete", True) else " Stopped early: of a part of the split."
    return f"Thresholds: {values}.{early}"


def as_markdown(content: dict[str, Any]) -> str:
    """The report as a Markdown page."""
    parts = [f"# {heading(content)}", thresholds_line(content)]
    for table in tables(content):
        names = [table.headings, ("---", *["---:"] * (len(table.headings) - 1)), *table.rows]
        lines = ("| " + " | ".join(row) + " |" for row in names)
        parts += [f"## {table.title}", "\n".join(lines)]
    calibration = content.get("calibration")
    if calibration:
        names = [
            ("no-target score", "expressions", "mean score", "mean nothing"),
            ("---", "---:", "---:", "---:"),
        ]
        names += [
            (
                f"{b['low']:.1f} to {b['high']:.1f}",
                str(b["expressions"]),
                _cell(b["score"], 3),
                _cell(b["no_target"], 3),
            )
            for b in calibration["bins"]
        ]
        parts += ["## Calibration of the no-target score", "![curves](calibration.png)"]
        parts.append("\n".join("| " + " | ".join(row) + " |" for row in names))
    parts.append("\n".join(f"- {line}" for line in remarks(content)))
    return "\n\n".join(parts) + "\n"


def as_html(content: dict[str, Any]) -> str:
    """The tables and what is to be said below them, as a part of an HTML page."""
    parts = [f"<p>{html.escape(thresholds_line(content))}</p>"]
    for table in tables(content):
        rows = [
            "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"
            for tag, lines in (("th", (table.headings,)), ("td", table.rows))
            for row in lines
        ]
        parts.append(f"<h2>{html.escape(table.title)}</h2><table>{''.join(rows)}</table>")
    items = "".join(f"<li>{html.escape(line)}</li>" for line in remarks(content))
    return "\n".join([*parts, f"<ul>{items}</ul>"])


def _cell(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
