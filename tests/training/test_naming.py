"""How often regions fit the right names: counted by hand, and by the command on drawn scenes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from training import generate, naming
from training.dataset.records import Instance
from training.naming import Naming

KNOWN = [
    Instance(i, 1, category, (0, 0, 9, 9), [], color=color)
    for i, (color, category) in enumerate(
        [
            ("red", "cup"),
            ("blue", "cup"),
            ("red", "can"),
            ("blue", "can"),
            ("", "glass"),
            ("", "oar"),
        ]
    )
]


@pytest.mark.parametrize(
    ("fits", "expected"),
    [
        ([9, 1, 2, 3, 4, 5], {"name", "among_five", "in_picture", "kind", "color"}),
        ([8, 1, 9, 3, 4, 5], {"among_five", "in_picture", "color"}),  # the red can is not there
        ([7, 8, 9, 3, 4, 5], {"among_five", "color"}),  # ... the blue cup is
        ([7, 9, 1, 3, 4, 5], {"among_five", "kind"}),
        ([0, 1, 2, 3, 9, 5], set()),
    ],
)
def test_a_red_cup_beside_a_blue_one(fits: list[float], expected: set[str]) -> None:
    naming = Naming()
    naming.count(torch.tensor(fits), KNOWN[0], {"red cup", "blue cup"}, KNOWN)
    counted = {name for name, number in vars(naming).items() if number}
    assert counted == expected | {"found"}


def run(module: object, *words: str) -> str:
    app = typer.Typer()
    app.command()(module.main)  # type: ignore[attr-defined]
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "100"})
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.timeout(300)
def test_the_shipped_weights_know_most_names(tmp_path: Path) -> None:
    data = str(tmp_path)
    scenes = ["--scenes", "4", "--look", "plain", "--splits", "val:1", "--workers", "1"]
    run(generate, "--out", data, *scenes)
    printed = run(naming, "--dataset", data)
    numbers = [float(n) for n in re.findall(r"([\d.]+) %", printed)]
    assert len(numbers) == 6 and all(number > 60 for number in numbers)


def test_what_cannot_be_counted_is_said(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(naming.main)
    result = CliRunner().invoke(app, ["--dataset", str(tmp_path / "nothing")])
    assert result.exit_code == 1 and "naming: " in result.output
