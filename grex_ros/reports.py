"""Tables that the command `grex` prints of engines and imported checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from grex_ros.model.engine_check import SMALL, Difference
from grex_ros.model.official import ImportReport

EngineRow = tuple[str, Difference | None, dict[str, float]]
"""Name, difference from torch (None for torch), seconds of every step."""


def print_engines(rows: Sequence[EngineRow]) -> None:
    """Times of every engine, and how far it is from torch."""
    names = Column("engine", min_width=max(len(name) for name, _, _ in rows))
    table = Table(names, *rows[0][2], *SMALL, "same", box=SIMPLE, padding=(0, 1, 0, 0))
    for name, difference, seconds in rows:
        cells = [f"{1000 * value:.1f}" for value in seconds.values()]
        if difference is not None:
            cells += [f"{getattr(difference, kind):.0e}" for kind in SMALL]
            cells += ["yes" if difference.small else "[red]no[/]"]
        table.add_row(name, *cells)
    limits = [f"{limit:.0e}" for limit in SMALL.values()]
    table.add_section()
    table.add_row("may be", *[""] * len(rows[0][2]), *limits)
    console = Console()
    console.print(table)
    steps = ", ".join(rows[0][2])
    console.print(
        f"{steps}: the steps (two masks are drawn), median milliseconds. Then how far from "
        "torch at the worst place of several pictures and expressions: word features and logits in "
        "standard deviations, boxes in parts of the picture, masks as share of pixels."
    )


def print_import(path: Path, report: ImportReport) -> None:
    """What was imported from an official checkpoint to ``path``."""
    gate = f"{report.trained_lang_weight:.4g}"
    if report.lang_weight == "published":
        gate = f"0, as published results were made; the file has {gate}"
    table = Table(show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for row in (
        ("preset", report.preset),
        ("branch", report.branch),
        ("tensors", str(report.tensors)),
        ("parameters", f"{report.parameters / 1e6:.1f} M"),
        ("lang_weight", gate),
        ("ignored", ", ".join(report.ignored) or "nothing"),
        ("written", f"{path}, {report.size / 1e6:.1f} MB"),
        ("sha256", report.digest),
    ):
        table.add_row(*map(escape, row))
    Console().print(table)
