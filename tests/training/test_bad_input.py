"""Data and checkpoints that cannot be used end a run with the name of what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from grex_ros.model.checkpoint import CheckpointError, save_checkpoint
from grex_ros.model.config import RelaConfig
from grex_ros.model.rela import ReLA
from tests.training.test_resume import SMALL
from tests.training.test_train import make_dataset
from training.config import TrainConfig
from training.dataset.load import load_dataset
from training.dataset.records import DatasetError
from training.dataset.samples import OfficialPictures, TrainingPictures
from training.train import Trainer

NAME = "COCO_train2014_000000000002.jpg"


def samples_of(root: Path) -> None:
    """Every sample of both kinds."""
    rng = np.random.default_rng(0)
    tabletop, tiny = RelaConfig.preset("tabletop"), RelaConfig.preset("tiny")
    objects = TrainingPictures(load_dataset(root, "train"), tabletop, 1, augment=False)
    pairs = OfficialPictures(load_dataset(root, "train", raw=True), tiny.replace(image_size=64))
    for source in (objects, pairs):
        with pytest.raises(DatasetError, match=NAME):
            for index in range(len(source)):
                source.sample(index, rng)


@pytest.mark.parametrize("damage", ["text", "empty", "cut", "other size"])
def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path, damage: str) -> None:
    root = make_dataset(tmp_path / "data")
    picture = root / "images" / "train2014" / NAME
    content = picture.read_bytes()
    if damage == "other size":
        instances = root / "grefcoco" / "instances.json"
        described: dict[str, Any] = json.loads(instances.read_text())
        described["images"][1]["width"] += 1
        for annotation in described["annotations"]:
            if annotation["image_id"] == 2:  # outlines know no size
                annotation["segmentation"] = [[1, 1, 9, 1, 9, 9]]
        instances.write_text(json.dumps(described))
    else:
        broken = {"text": b"not a picture", "empty": b"", "cut": content[: len(content) // 2]}
        picture.write_bytes(broken[damage])
    samples_of(root)


def test_a_picture_that_is_not_there_is_named(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data")
    (root / "images" / "train2014" / NAME).unlink()
    with pytest.raises(DatasetError, match=NAME):
        load_dataset(root, "train")


def test_what_changes_nothing_untrained_may_be_new(tmp_path: Path) -> None:
    """But not be lost."""
    root = make_dataset(tmp_path / "data")
    without, weights = SMALL | {"region_geometry": False}, tmp_path / "weights.safetensors"

    def trainer(model: dict[str, object], run: str) -> Trainer:
        config = TrainConfig(dataset=str(root), steps=1, model=model)
        return Trainer(config, tmp_path / run)

    old = trainer(without, "old")
    old.export(weights)
    new = trainer(SMALL, "new")
    new.start_from(weights)
    name = "region_decoder.region_word.0.attn.in_proj_weight"
    there = old.model.get_parameter(name).half().float()
    assert torch.equal(new.model.get_parameter(name), there)
    new.export(weights)
    with pytest.raises(CheckpointError, match="region_geometry: True -> False"):
        old.start_from(weights)


def test_training_starts_from_no_other_model(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data")
    trainer = Trainer(TrainConfig(dataset=str(root), steps=1, model=SMALL), tmp_path / "run")
    before = {n: v.clone() for n, v in trainer.model.state_dict().items()}
    weights = tmp_path / "other.safetensors"
    save_checkpoint(ReLA(RelaConfig.preset("tiny")), weights)
    with pytest.raises(CheckpointError, match=r"other\.safetensors .*backbone: 'swin' -> 'eff"):
        trainer.start_from(weights)
    weights.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"other\.safetensors cannot be started from"):
        trainer.start_from(weights)
    with pytest.raises(CheckpointError, match=r"none\.safetensors"):
        trainer.start_from(tmp_path / "none.safetensors")
    after = trainer.model.state_dict()
    assert all((after[name] == value).all() for name, value in before.items())
