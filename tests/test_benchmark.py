"""`grex benchmark`: what it times, and what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch
from typer.testing import CliRunner

from grex_ros.benchmark import AGAIN, BATCH, FIRST, FRAME, FURTHER, busy_processes
from grex_ros.cli import app

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_the_shipped_model() -> None:
    result = RUNNER.invoke(app, ["benchmark", "--device", "cpu", "--runs", "2", "--json"])
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout.strip().splitlines()[-1])
    assert record["model"].startswith("tabletop@")
    assert (record["device"], record["precision"], record["image"]) == (
        "cpu",
        "float32",
        [480, 640],
    )
    assert set(record["end_to_end"]) == {FIRST, FRAME, FURTHER, AGAIN, BATCH}
    for timings in (record["end_to_end"], record["stages"]):
        for timing in timings.values():
            assert 0 < timing["least"] <= timing["median"] <= timing["most"]
    assert record["objects"] >= 1  # or the masks would not be timed
    assert record["peak_memory"] > 1e8


def test_busy_processes_compute_until_the_end() -> None:
    with pytest.raises(KeyboardInterrupt), busy_processes(2) as started:
        assert [process.poll() for process in started] == [None, None]
        raise KeyboardInterrupt
    assert all(process.returncode for process in started)


def test_what_ran_beside_it_is_said() -> None:
    arguments = ["benchmark", "--preset", "tiny", "--device", "cpu", "--runs", "1", "--busy", "1"]
    result = RUNNER.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "beside 1 busy processes" in result.stdout


@pytest.mark.parametrize("preset", ["tiny", "tabletop"])
def test_a_preset_with_random_weights(preset: str) -> None:
    arguments = [
        "benchmark",
        "--preset",
        preset,
        *(["--image-size", "256"] if preset == "tabletop" else []),
        "--device",
        "cpu",
        "--runs",
        "1",
        "--threads",
        "1",
    ]
    result = RUNNER.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert f"{preset}, random weights" in result.stdout
    assert f"seen at {256 if preset == 'tabletop' else 480}" in result.stdout
    for stage in ("text", "backbone", "pixel decoder", "region decoder", "post"):
        assert stage in result.stdout
    assert "1 threads" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "huge"], "known: swin_base"),
        (["--preset", "tiny", "--checkpoint", "x"], "not both"),
        (["--precision", "int8"], "precision must be"),
        (["--image-size", "2000"], "image_size must be between"),
        (["--preset", "tiny", "--image-size", "512"], "480 x 480 pixels alone"),
        (["--precision", "float16", "--device", "cpu"], "float16 needs a GPU"),
        (["--checkpoint", "nowhere.safetensors"], "does not exist"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], words: str) -> None:
    result = RUNNER.invoke(app, ["benchmark", *arguments])
    assert result.exit_code == 2
    assert words in result.stderr and len(result.stderr.strip().splitlines()) == 1
