"""Checks datasets before a training run meets their faults.

    python -m training.validate data/tabletop
    python -m training.validate data/refer:refcoco+ --images --json report.json

Says per split how much there is, then everything that loading would refuse or leave out, and what
is loaded but most likely wrong, with file and id of the first few. Ends with 1 if anything would be
refused, else with 0. ``--images`` opens every picture, too; ``--json -`` prints JSON alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from training.dataset.checks import Checked, check_dataset, shared_pictures
from training.dataset.coco import DatasetFiles
from training.dataset.findings import Level
from training.dataset.load import find_dataset, find_datasets
from training.dataset.records import DatasetError

_COLORS = {Level.REFUSED: "red", Level.LEFT_OUT: "yellow", Level.WARNING: "yellow"}
_errors = Console(stderr=True, soft_wrap=True)


def validate(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="a dataset, or DIR:name of one of several")
    ],
    images: Annotated[bool, typer.Option("--images", help="open every picture")] = False,
    json_path: Annotated[
        str, typer.Option("--json", metavar="FILE", help="write the report as JSON; - prints it")
    ] = "",
) -> None:
    """Check the datasets in a folder: ids, sentences, masks, boxes, splits and pictures."""
    try:
        datasets = [check_dataset(f, _track, pictures=images) for f in _find(folder)]
    except (DatasetError, ImportError) as error:
        _errors.print(f"[red]{escape(str(error))}")
        raise typer.Exit(1) from error
    shared = shared_pictures(datasets)
    refused = sum(checked.findings.count(Level.REFUSED) for checked in datasets)
    report = {
        "ok": not refused,
        "datasets": [checked.as_json() for checked in datasets],
        "shared_pictures": shared,
    }
    if json_path == "-":
        print(json.dumps(report, indent=2))
    else:
        _print(datasets, shared)
        if json_path:
            Path(json_path).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    raise typer.Exit(1 if refused else 0)


def _find(folder: str) -> list[DatasetFiles]:
    several = find_datasets(Path(folder)) if Path(folder).is_dir() else []
    return several or [find_dataset(folder)]


def _track(things: Iterable[Any], what: str, total: int) -> Iterable[Any]:
    silent = not sys.stderr.isatty()
    return track(things, what, total, console=_errors, transient=True, disable=silent)


def _print(datasets: list[Checked], shared: list[str]) -> None:
    # Wide where nobody sees it at once: a path cut into columns cannot be searched for.
    console = Console(width=None if sys.stdout.isatty() else 160)
    for checked in datasets:
        findings = checked.findings
        title = f"{checked.files.name}: {checked.files.refs_path}"
        table = Table(title=escape(title), title_justify="left")
        table.add_column("split")
        for column in ("pictures", "objects", "references", "expressions"):
            table.add_column(column, justify="right")
        for column in ("single", "multi", "no target"):
            table.add_column(column, justify="right")
        for name, n in checked.splits.items():
            kinds = [
                f"{k:,} ({k / max(n.expressions, 1):.1%})" for k in (n.single, n.multi, n.no_target)
            ]
            numbers = [n.pictures, n.instances, n.references, n.expressions]
            table.add_row(escape(name), *(f"{number:,}" for number in numbers), *kinds)
        console.print(table)
        if findings.sorted():
            table = Table("", "found", "number", "the first ones")
            table.columns[2].justify = "right"
            for finding in findings.sorted():
                color = _COLORS.get(finding.level, "dim")
                examples = escape("\n".join(finding.examples))
                table.add_row(
                    f"[{color}]{finding.level.value}", finding.what, f"{finding.count:,}", examples
                )
            console.print(table)
        console.print(
            f"{findings.count(Level.REFUSED):,} refused, {findings.count(Level.LEFT_OUT):,} left "
            f"out, {findings.count(Level.WARNING):,} warnings; sha256 {checked.refs_sha256}\n",
            highlight=False,
        )
    for line in shared:
        console.print(f"[yellow]warning[/] {escape(line)}", highlight=False)


if __name__ == "__main__":
    typer.run(validate)
