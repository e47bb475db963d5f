"""The mask refiner's lessons: what is shown to it, what it should draw, and a run that does so."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from grex_ros.model.checkpoint import DEFAULT_CHECKPOINT, load_checkpoint, save_checkpoint
from grex_ros.model.config import RelaConfig
from grex_ros.model.guided_filter import GuidedFilter
from grex_ros.model.mask_refiner import MaskRefiner
from grex_ros.model.region_decoder import RegionState
from grex_ros.model.rela import ReLA
from tests.training.test_train import make_dataset
from training import outlines
from training.config import TrainConfig
from training.criterion import PictureTruth
from training.dataset.load import load_dataset
from training.dataset.samples import Batch, TrainingPictures
from training.outlines import EACH, Closeup, outline_losses
from training.parameters import parameter_groups
from training.train import Trainer

CFG = RelaConfig.preset("tabletop").at_size(320)


def closeup() -> tuple[Closeup, PictureTruth]:
    """Two discs in a picture of 128 x 64, seen at half its size; the second is only a box."""
    masks = np.zeros((2, 64, 128), np.uint8)
    cv2.circle(masks[0], (30, 30), 16, 1, -1)
    cv2.circle(masks[1], (90, 30), 20, 1, -1)
    whole = torch.from_numpy(masks.sum(0, dtype=np.uint8) * 200).expand(3, -1, -1)
    boxes = torch.tensor([[30.5, 30.5, 33, 33], [90.5, 30.5, 41, 41]])
    boxes = boxes / torch.tensor([128.0, 64.0, 128.0, 64.0])
    drawn = torch.from_numpy(masks)
    truth = PictureTruth(
        drawn.float()[:, 4::8, 4::8], boxes, torch.ones(1, 2), ["disc"] * 2,
        torch.tensor([True, False]),
    )  # fmt: skip
    return Closeup(whole[:, ::2, ::2], whole, drawn), truth


def state(boxes: Tensor) -> RegionState:
    """Regions with these boxes (Q, 4) and masks of nothing but noise."""
    masks = torch.randn(1, len(boxes), 8, 16)
    return RegionState([], [], [], masks, masks, masks, masks, boxes=boxes[None])


def test_what_is_drawn_lies_over_what_is_shown() -> None:
    torch.manual_seed(0)
    close, truth = closeup()
    pixels, coarse, drawn = outlines.windows(state(truth.boxes), [truth], [close], 32)
    # Windows of the first object alone: of the second only the box is known.
    assert pixels.shape == (EACH, 3, 32, 32) and coarse.shape == drawn.shape == (EACH, 32, 32)
    for picture, mask in zip(pixels[:, 0] / 200, drawn, strict=True):
        assert 0.3 < float(mask.mean()) < 0.7
        torch.testing.assert_close(picture, mask, atol=0.5, rtol=0)
        assert (picture - mask).abs().mean() < 0.03


def test_regions_on_nothing_are_not_learned_from_and_of_many_some() -> None:
    torch.manual_seed(0)
    close, truth = closeup()
    away = torch.tensor([[0.9, 0.9, 0.1, 0.1], [0.5, 0.5, 1.0, 1.0]])
    assert not len(outlines.windows(state(away), [truth], [close], 32)[0])
    many = truth.boxes[:1].repeat(40, 1)
    _, coarse, drawn = outlines.windows(state(many), [truth], [close], 32)
    assert len(drawn) == outlines.MOST
    assert not drawn[0].equal(drawn[1])  # each window is moved a little
    assert len({float(x) for x in coarse.mean((1, 2))}) == outlines.MOST  # none is drawn twice


def test_a_refiner_learns_where_edges_are() -> None:
    torch.manual_seed(0)
    close, truth = closeup()
    refiner = MaskRefiner()
    optimizer = torch.optim.AdamW(refiner.parameters(), 2e-3)
    losses = []
    for _ in range(60):
        many = truth.boxes[:1].repeat(8, 1)
        pixels, coarse, drawn = outlines.windows(state(many), [truth], [close], 32)
        edged = GuidedFilter(pixels / 255)(coarse.sigmoid())
        loss = sum(outline_losses(refiner(pixels / 128 - 1, coarse, edged), drawn).values())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
        losses.append(float(loss.detach()))  # type: ignore[union-attr]
    assert losses[-1] < 0.4 * losses[0]


def test_losses() -> None:
    drawn = torch.zeros(2, 8, 8)
    drawn[:, 2:6, 2:6] = 1
    right = {name: float(x) for name, x in outline_losses(30 * drawn - 15, drawn).items()}
    assert max(right.values()) < 1e-3
    wrong = {name: float(x) for name, x in outline_losses(15 - 30 * drawn, drawn).items()}
    assert wrong["outline"] == pytest.approx(15) and wrong["outline_dice"] > 0.9
    nothing = torch.zeros(0, 8, 8, requires_grad=True)
    sum(outline_losses(nothing, drawn[:0]).values()).backward()  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("squares"), 4)


@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_a_closeup_is_the_picture_at_its_own_size(dataset: Path, mirror: float) -> None:
    records = load_dataset(dataset, "train")
    pictures = TrainingPictures(records, CFG, 1, False, zoom=1.0, mirror=mirror, closeups=True)
    sample = pictures.sample(0, np.random.default_rng(0))
    close = sample.closeup
    assert close is not None and close.seen.equal(sample.pixels)
    assert close.seen.shape == (3, 240, 320) and close.whole.shape == (3, 48, 64)
    assert close.masks.shape == (2, 48, 64)
    red, blue = (close.whole[:, mask.bool()].float().mean(1) for mask in close.masks)
    assert red[0] > 200 > 60 > red[2] and blue[2] > 200 > 60 > blue[0]
    # Where the truth of the smaller picture has them, mirrored or not.
    for mask, cells in zip(close.masks, sample.truth.masks, strict=True):
        small = cv2.resize(mask.numpy().astype(np.float32), (80, 60), interpolation=cv2.INTER_AREA)
        assert np.abs(small - cells[:60].numpy()).mean() < 0.02
    again = Batch.of([sample, sample]).samples(torch.device("cpu"))[1].closeup
    assert again is not None and again.whole.equal(close.whole) and again.masks.equal(close.masks)


def test_what_learns() -> None:
    model = ReLA(CFG)
    assert model.mask_refiner is not None
    groups = parameter_groups(model, TrainConfig(steps=1, only_refiner=True))
    trained = {id(p) for group in groups for p in group["params"]}
    assert trained == {id(p) for p in model.mask_refiner.parameters()}
    for config in (TrainConfig(steps=1), TrainConfig(steps=1, freeze_image=True)):
        model = ReLA(CFG)
        parameter_groups(model, config)
        assert model.mask_refiner is not None and model.generation is not None
        assert not any(p.requires_grad for p in model.mask_refiner.parameters())
        assert all(p.requires_grad for p in model.generation.parameters())


def test_a_run_from_weights_of_before(dataset: Path, tmp_path: Path) -> None:
    shipped, metadata = load_checkpoint(DEFAULT_CHECKPOINT)
    before = ReLA(shipped.cfg.replace(refine_side=0))
    before.load_state_dict(shipped.state_dict(), strict=False)
    save_checkpoint(before, tmp_path / "before.safetensors", metadata)
    config = TrainConfig(
        dataset=str(dataset), steps=3, batch_size=2, expressions=1, only_refiner=True,
        learning_rate=2e-3, ema_decay=0.8, overlay_minutes=0,
    )  # fmt: skip
    trainer = Trainer(config, tmp_path / "run", ("red", "square"))
    trainer.start_from(tmp_path / "before.safetensors")
    start = {n: v.clone() for n, v in trainer.model.state_dict().items()}
    batch = trainer.inputs.collate([trainer.pictures[i] for i in range(2)])
    assert set(trainer.train_step(batch)) == {"loss", "outline", "outline_dice"}
    trainer.train()
    changed = {n for n, v in trainer.model.state_dict().items() if not v.equal(start[n])}
    assert changed and all(n.startswith("mask_refiner.") for n in changed)

    trainer.export(tmp_path / "out.safetensors")
    model, _ = load_checkpoint(tmp_path / "out.safetensors")
    assert model.mask_refiner is not None and model.cfg.generation_words == ("red", "square")
    assert model.mask_refiner.out.weight.abs().sum() > 0
