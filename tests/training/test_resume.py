"""A run that was killed and resumed equals one that was not; a failed save costs nothing."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.test_train import make_dataset
from tests.training.tiny_dataset import write_dataset
from training.config import DatasetConfig, TrainConfig, as_dict
from training.saving import SaveError, read_state, write_state
from training.train import Trainer

SMALL = {"hidden_dim": 32, "heads": 2, "mask_dim": 16, "decoder_ffn": 32, "pixel_ffn": 32}
SMALL |= {"regions": 4, "generation_layers": 1, "coco_detector": False, "close_looks": 3}
TEXT = {"text_dim": 32, "text_heads": 2, "text_ffn": 64}
OBJECTS = {"model": SMALL, "image_size": 64, "zoom": 0.5, "expressions": 4}
WORDS = {**OBJECTS, "freeze_image": True}
OFFICIAL = {"preset": "tiny", "model": TEXT, "image_size": 64, "text_layers": 1}
OFFICIAL |= {"accumulation": 2, "drop_path": 0.3}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[DatasetConfig, ...]:
    """Wide pictures, and tall ones."""
    folder = tmp_path_factory.mktemp("data")
    wide = make_dataset(folder / "wide", 3)
    tall = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    boxes = {7: {0: (4, 4, 20, 30), 1: (24, 34, 44, 60)}}
    said = [("the thing above", [0], {}), ("two things", [0, 1], {})]
    write_dataset(folder / "tall", {7: tall}, boxes, said, split="train")
    return DatasetConfig(str(wide)), DatasetConfig(str(folder / "tall"), share=0.5)


def config(sources: tuple[DatasetConfig, ...], **changes: Any) -> TrainConfig:
    """Six steps with everything random that there is."""
    values = {"steps": 6, "batch_size": 2, "substitution": 0.3, "ema_decay": 0.5} | changes
    return TrainConfig(datasets=sources, **values)


def steps(trainer: Trainer, count: int) -> None:
    batches = trainer._batches()
    for _ in range(count):
        trainer.train_step(*(next(batches) for _ in range(trainer.config.accumulation)))


def everything(trainer: Trainer) -> dict[str, torch.Tensor]:
    state = {f"model {n}": v for n, v in trainer.model.state_dict().items()}
    state |= {f"ema {n}": v for n, v in trainer.ema.state_dict().items()}
    for number, moments in trainer.optimizer.state_dict()["state"].items():
        state |= {f"optimizer {number} {n}": v for n, v in moments.items()}
    return state


@pytest.mark.parametrize(
    "changes", [OBJECTS, WORDS, OFFICIAL], ids=["objects", "words", "official"]
)
def test_three_steps_killed_and_three_more_are_six(
    sources: tuple[DatasetConfig, ...], tmp_path: Path, changes: dict[str, Any]
) -> None:
    settings = config(sources, **changes)
    straight = Trainer(settings, tmp_path / "straight")
    straight.train()
    assert straight.step == 6

    killed = Trainer(settings, tmp_path / "killed")
    steps(killed, 3)
    killed.save()
    steps(killed, 1)  # lost with the process
    resumed = Trainer(settings.replace(workers=1), tmp_path / "killed")
    assert resumed.step == 3
    resumed.train()
    expected, found = everything(straight), everything(resumed)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    lost = everything(killed)
    assert any(not torch.equal(lost[name], value) for name, value in expected.items())


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_leaves_the_state_before(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    settings = TrainConfig(steps=1)
    write_state({"config": {}, "weights": torch.ones(1000)}, path)
    for size in (0, 5_000, 39_000):  # at the start, in the middle, at the end
        with largest_file(size), pytest.raises(SaveError, match=r"cannot be saved.*still there"):
            write_state({"config": {}, "weights": torch.zeros(10_000)}, path)
        assert torch.equal(torch.load(path)["weights"], torch.ones(1000))
        assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]
    assert read_state(tmp_path / "none.pt", settings) is None


def test_a_disk_that_says_so_only_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SaveError, match="No space left on device"):
        write_state({}, tmp_path / "last.pt")
    assert not list(tmp_path.iterdir())


def test_a_state_of_another_run_names_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    before = TrainConfig(steps=5, datasets=(DatasetConfig("here"),))
    write_state({"config": as_dict(before)}, path)
    assert read_state(path, before.replace(steps=9, workers=3)) is not None
    for changes, message in (
        ({"preset": "tiny"}, "preset: 'tabletop' -> 'tiny'"),
        ({"learning_rate": 1.0}, "learning_rate: 0.0004 -> 1.0"),
        ({"loss": type(before.loss)(dice=7.0)}, "loss.dice: 1.0 -> 7.0"),
        ({"datasets": (DatasetConfig("there"),)}, "datasets: .*here.* -> .*there"),
        ({"model": {"image_layers": 1}}, "model.image_layers: None -> 1"),
    ):
        with pytest.raises(SaveError, match=message):
            read_state(path, before.replace(**changes))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(SaveError, match="damaged"):
        read_state(path, before)
