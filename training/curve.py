"""Draws the losses of runs: ``python -m training.curve runs/tabletop docs/training_curve.png``."""

from __future__ import annotations

import json
import statistics
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import matplotlib
import typer

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

PANELS = {
    "find every object": ("heat", "objectness", "cell_giou", "giou", "region_dice"),
    "choose the ones meant": ("target", "no_target", "count", "dice"),
    "find words": ("alignment", "generation"),
}


def draw(rows: list[dict[str, float]], out: Path) -> None:
    """Panels of loss terms over minutes, those of which a run has some; ``rows`` as in a run's
    log.jsonl."""
    known = set().union(*rows)
    panels = {title: [n for n in names if n in known] for title, names in PANELS.items()}
    panels = {title: names for title, names in panels.items() if names}
    size = (5.5 * len(panels), 4)
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=size, constrained_layout=True, squeeze=False
    )
    minutes = [row["seconds"] / 60 for row in rows]
    for axis, (title, names) in zip(axes[0], panels.items(), strict=True):
        for name in names:
            axis.plot(minutes, [row.get(name, float("nan")) for row in rows], label=name)
        axis.set(title=title, xlabel="minutes of training", ylabel="loss", yscale="log")
        axis.grid(alpha=0.3)
        below = (0.5, -0.13)
        axis.legend(
            fontsize=8, ncols=len(names), loc="upper center", bbox_to_anchor=below, frameon=False
        )
    figure.suptitle(f"{int(rows[-1]['step'])} steps")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)
    pyplot.close(figure)


def read_rows(run: Path) -> list[dict[str, float]]:
    """The rows of a run's log, without those of few steps, at its end and where it was stopped and
    resumed: such a mean says little."""
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows]
    means_of = [step - before for before, step in pairwise([0, *steps])]
    usual = statistics.median(means_of) if rows else 0
    return [row for row, number in zip(rows, means_of, strict=True) if 2 * number >= usual]


def main(
    runs: Annotated[list[Path], typer.Argument(help="folders of runs, one after the other")],
    out: Annotated[Path, typer.Argument(help="picture to write")],
) -> None:
    """Draw the loss terms of one or several runs over time."""
    rows: list[dict[str, float]] = []
    for run in runs:
        found = read_rows(run)
        if not found:
            raise typer.BadParameter(f"{run}/log.jsonl is empty: the run has not come far enough")
        seconds, steps = (rows[-1][n] if rows else 0 for n in ("seconds", "step"))
        for row in found:
            rows.append(row | {"seconds": row["seconds"] + seconds, "step": row["step"] + steps})
    draw(rows, out)
    print(f"wrote {out}")


if __name__ == "__main__":
    typer.run(main)
