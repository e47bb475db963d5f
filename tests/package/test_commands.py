"""The commands that people are told to type are there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.package.source_imports import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))


def documents() -> list[Path]:
    """README and the other pages for people."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_promised_targets_are_there() -> None:
    assert {"demo", "test", "venv", "lint", "clean", "help"} <= TARGETS


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_commands_in_the_documents_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert set(re.findall(r"\bmake ([a-z]+)\b(?=`|\s*$|\s+[A-Z]+=|\s+#)", text, re.M)) <= TARGETS
    for file in re.findall(r"ros2 launch grex_ros (\S+\.launch\.py)", text):
        assert (ROOT / "launch" / file).exists(), file
    for module in re.findall(r"python3? -m (training\.\w+)", text):
        assert (ROOT / (module.replace(".", "/") + ".py")).exists(), module


def test_readme_shows_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in text and "make test" in text and "colcon build" in text


def test_continuous_integration_runs_the_tests_and_nothing_else() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = [line for line in script.read_text().splitlines() if line and line[0] != "#"]
    assert commands[-1] == "exec make test" and commands[0] == "set -eu"


@pytest.mark.parametrize(
    ("python", "reason"),
    [("/nowhere/python3", "is not to be found"), ("/bin/false", "is not Python 3.10 to 3.13")],
)
def test_a_wrong_python_is_one_line(tmp_path: Path, python: str, reason: str) -> None:
    run = subprocess.run(
        ["sh", ROOT / "tools" / "create_venv.sh", tmp_path / "venv", python],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1 and run.stderr.count("\n") == 1 and reason in run.stderr
    assert not (tmp_path / "venv").exists()


def test_what_the_machine_lacks_is_named_with_the_command(tmp_path: Path) -> None:
    """A Python without the venv module and without headers, on a machine without a compiler."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "uname"):
        (programs / name).symlink_to(Path("/bin") / name)
    python = programs / "python3"
    python.write_text(
        "#!/bin/sh\n"
        'case "$2" in *ensurepip*) exit 1 ;; *Python.h*) echo /nowhere ;;'
        ' *"%d.%d"*) echo 3.11 ;; esac\n'
    )
    python.chmod(0o755)
    run = subprocess.run(
        ["sh", ROOT / "tools" / "create_venv.sh", tmp_path / "venv"],
        capture_output=True,
        text=True,
        env={"PATH": str(programs)},
    )
    assert run.returncode == 1
    assert run.stderr.strip().endswith("apt install python3.11-venv python3.11-dev gcc g++")
