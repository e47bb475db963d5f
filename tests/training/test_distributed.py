"""Two processes that share a batch learn what one process learns from the whole batch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from tests.package.source_imports import ROOT
from tests.training.test_train import make_dataset

RUN = {
    "preset": "tiny",
    "model": {"text_dim": 32, "text_heads": 2, "text_ffn": 64},
    "image_size": 64,
    "text_layers": 1,
    "steps": 1,
    "learning_rate": 1e-3,
    "backbone_learning_rate": 1e-3,
    "overlay_minutes": 0,
}


def start(folder: Path, values: dict, rank: int, world: int, port: int) -> subprocess.Popen:
    """One of ``world`` processes, as ``accelerate launch`` or ``torchrun`` start them."""
    folder.mkdir(exist_ok=True)
    config = folder / "run.yaml"
    config.write_text(yaml.safe_dump(values))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    if world > 1:
        env |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", "tests.training.distributed_run", str(config), str(folder)]
    return subprocess.Popen(
        command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def learned(folder: Path) -> tuple[dict[int, torch.Tensor], float]:
    """The first moments of AdamW, which after one step are the gradients (its step itself divides
    by their size, and makes much of the noise of those near zero), and the loss."""
    state = torch.load(folder / "last.pt", weights_only=True)
    row = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    assert row["step"] == 1
    moments = {key: values["exp_avg"] for key, values in state["optimizer"]["state"].items()}
    return moments, row["loss"]


def test_two_processes_equal_one_with_the_double_batch(tmp_path: Path) -> None:
    # Every expression means one square, so all halves of a batch have as many pixels of each class.
    root = make_dataset(tmp_path / "data", 4)
    refs_file = root / "grefcoco" / "grefs(unc).json"
    refs = [ref for ref in json.loads(refs_file.read_text()) if len(ref["ann_id"]) == 1]
    refs_file.write_text(json.dumps([ref for ref in refs if ref["ann_id"] != [-1]]))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    values = {**RUN, "dataset": str(root)}
    running = [
        start(tmp_path / "two", {**values, "batch_size": 2}, 0, 2, port),
        start(tmp_path / "two", {**values, "batch_size": 2}, 1, 2, port),
    ]
    outputs = [process.communicate()[0] for process in running]
    assert all(process.returncode == 0 for process in running), outputs
    for name, changes in (
        ("double", {"batch_size": 4}),
        ("passes", {"batch_size": 2, "accumulation": 2}),
    ):
        process = start(tmp_path / name, {**values, **changes}, 0, 1, port)
        output = process.communicate()[0]
        assert process.returncode == 0, output

    expected, loss = learned(tmp_path / "double")
    for name in ("two", "passes"):
        found, other = learned(tmp_path / name)
        if name == "passes":  # the log of two is that of the first process, of its own half
            assert other == pytest.approx(loss, rel=1e-4)
        assert found.keys() == expected.keys()
        largest = max(float(value.abs().max()) for value in expected.values())
        for key, value in expected.items():
            atol = max(1e-3 * float(value.abs().max()), 1e-6 * largest)
            torch.testing.assert_close(found[key], value, atol=atol, rtol=0, msg=f"{name} {key}")
    assert any(value.any() for value in expected.values())
