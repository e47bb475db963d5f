"""Two processes that share a batch learn what one process learns from the whole batch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
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


def start(folders: Sequence[Path], more: Mapping[str, str]) -> subprocess.Popen:
    """One process, as ``accelerate launch`` or ``torchrun`` start them."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    command = [sys.executable, "-m", "tests.training.distributed_run", *map(str, folders)]
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
    folders = {}
    for name, changes in (
        ("two", {"batch_size": 2}),
        ("double", {"batch_size": 4}),
        ("passes", {"batch_size": 2, "accumulation": 2}),
    ):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        text = yaml.safe_dump({**RUN, "dataset": str(root), **changes})
        (folders[name] / "run.yaml").write_text(text)
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    running = [start([folders["double"], folders["passes"]], {})]
    for rank in ("0", "1"):
        running.append(start([folders["two"]], {**world, "RANK": rank, "LOCAL_RANK": rank}))
    outputs = [process.communicate()[0] for process in running]
    assert all(process.returncode == 0 for process in running), outputs

    expected, loss = learned(tmp_path / "double")
    for name in ("two", "passes"):
        found, other = learned(tmp_path / name)
        if name == "passes":  # the log of two is that of the first process, of its own half
            assert other == pytest.approx(loss, rel=1e-4)
        assert found.keys() == expected.keys()
        largest = max(float(value.abs().max()) for value in expected.values())
        for key, value in expected.items():
            # The keys' biases have a gradient of zero, but for rounding.
            atol = max(1e-3 * float(value.abs().max()), 2e-6 * largest)
            torch.testing.assert_close(found[key], value, atol=atol, rtol=0, msg=f"{name} {key}")
    assert any(value.any() for value in expected.values())
