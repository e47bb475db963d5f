"""The commander: its words survive the parser, and it gives up with a reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from grex_ros.demo.files import demo_bag
from grex_ros.demo.pictures import read_bag
from grex_ros.demo.run import started
from grex_ros.grounding.command import parse_command
from grex_ros.scenes.expressions import demo_commands
from grex_ros.scenes.programs import evaluate

pytest.importorskip("rosbags", reason="bags are read with rosbags")


@pytest.mark.parametrize("number", range(3))
def test_its_commands_are_understood_as_they_are_meant(number: int) -> None:
    view = read_bag(demo_bag(), number)[0].truth.view
    said = set()
    for seed in range(40):
        commands = demo_commands(view, np.random.default_rng(seed))
        assert len(commands) == 7
        for text, expression in commands:
            command = parse_command(text)
            assert command is not None
            assert command.expression == expression.text.lower()
            assert command.action and text.startswith(command.action)
            assert evaluate(expression.program, view) == set(expression.targets)
            said.add(text)
    assert len(said) > 60, "other seeds must bring other words"


def commander(out: Path, timeout: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "grex_ros.demo.commander", "--ros-args"]
    command += ["-p", f"timeout:={timeout}", "-p", f"out:='{out}'"]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_without_a_camera_it_gives_up(tmp_path: Path) -> None:
    done = commander(tmp_path, 1.0)
    assert done.returncode == 1
    assert "gave up: no picture came from the camera within 1 s" in done.stdout
    assert "Traceback" not in done.stderr


def test_without_a_node_it_gives_up(tmp_path: Path) -> None:
    camera = [sys.executable, "-m", "grex_ros.demo.camera", "--ros-args", "-p", "source:=bag"]
    with started({"camera": camera}, os.environ, tmp_path):
        done = commander(tmp_path, 20.0)
    assert done.returncode == 1
    assert "from the bag demo_bag" in done.stdout
    assert "gave up: no answer came from the node within 20 s" in done.stdout
