"""A few steps of the real training on a tiny dataset: it learns, resumes, and exports."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from grex_ros.grounding.grounder import Grounder
from grex_ros.model.checkpoint import load_checkpoint
from grex_ros.model.config import RelaConfig
from grex_ros.model.rela import ReLA
from tests.training.tiny_dataset import Said, write_dataset
from training.config import TrainConfig
from training.dataset.load import load_dataset
from training.dataset.photometric import photometric
from training.dataset.records import DatasetError
from training.dataset.samples import OfficialPictures, TrainingPictures
from training.parameters import build_model, load_trunk, parameter_groups, undecayed
from training.schedule import learning_rate_factor, moving_average, stop_signals
from training.train import Trainer

COLORS = {"red": (220, 30, 30), "blue": (30, 30, 220)}


def make_dataset(root: Path, pictures: int = 2) -> Path:
    """Pictures with a red and a blue square, in gRefCOCO's layout."""
    images, boxes = {}, {}
    for image_id in range(1, pictures + 1):
        image = np.full((48, 64, 3), 128, np.uint8)
        boxes[image_id] = {}
        for k, color in enumerate(COLORS.values()):
            x, y = 8 + 32 * k, 8 + 4 * image_id
            image[y : y + 16, x : x + 16] = color
            boxes[image_id][k] = (x, y, x + 16, y + 16)
        images[image_id] = image
    said: list[Said] = [
        ("the red square", [0], {}),
        ("all squares", [0, 1], {}),
        ("the dog", [], {}),
    ]
    return write_dataset(root, images, boxes, said, split="train", suffix=".jpg")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("squares"))


def test_samples_agree_with_the_dataset(dataset: Path) -> None:
    records = load_dataset(dataset, "train")
    pictures = TrainingPictures(records, RelaConfig.preset("tabletop").at_size(320), 3, False)
    sample = pictures.sample(0, np.random.default_rng(0))
    assert sample.pixels.shape == (3, 240, 320)
    assert sample.truth.masks.shape == (2, 64, 80)  # a quarter of 256 x 320
    assert sorted(sample.texts) == ["all squares", "the dog", "the red square"]
    meant = dict(zip(sample.texts, sample.truth.meant.tolist(), strict=True))
    assert meant == {"the red square": [1, 0], "all squares": [1, 1], "the dog": [0, 0]}
    for mask, box, color in zip(
        sample.truth.masks, sample.truth.boxes, COLORS.values(), strict=True
    ):
        cx, cy = (box[:2] * torch.tensor([320, 256])).round().int().tolist()
        pixel = sample.pixels[:, cy, cx].int()
        assert (pixel - torch.tensor(color)).abs().max() < 40  # the box is on the square
        assert mask[cy // 4, cx // 4] == 1
        # 16 of 64 pixels wide, five times enlarged, a quarter of that: 20 cells a side
        assert float(mask.sum()) == pytest.approx(400, rel=0.02)


def test_a_missing_picture_is_named(dataset: Path) -> None:
    records = load_dataset(dataset, "train")
    pictures = TrainingPictures(records, RelaConfig.preset("tabletop"), 1, augment=False)
    broken = dataset / "images" / "train2014" / "COCO_train2014_000000000002.jpg"
    content = broken.read_bytes()
    broken.write_bytes(b"not a picture")
    try:
        with pytest.raises(DatasetError, match="000000000002"):
            pictures.sample(1, np.random.default_rng(0))
    finally:
        broken.write_bytes(content)


def test_photometric_keeps_size_and_range() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for seed in range(20):
        changed = photometric(image, np.random.default_rng(seed))
        assert changed.shape == image.shape and changed.dtype == np.uint8
        assert (changed != image).any()


def test_schedule() -> None:
    assert learning_rate_factor(0, 0.1) == 0
    assert learning_rate_factor(0.1, 0.1) == pytest.approx(1)
    assert learning_rate_factor(1, 0.1) == pytest.approx(0.01)


def test_what_is_trained() -> None:
    model = ReLA(RelaConfig.preset("tabletop"))
    groups = parameter_groups(model, TrainConfig(steps=1, frozen_stages=3))
    trained = {id(p) for g in groups for p in g["params"]}
    names = {n for n, p in model.named_parameters() if id(p) in trained}
    frozen = ("text_encoder.", "backbone.stem", "backbone.stages.2")
    assert not any(n.startswith(frozen) for n in names)
    assert any(n.startswith("backbone.stages.3") for n in names)
    assert sum(len(g["params"]) for g in groups) == len(names)  # none twice


def test_trunk_weights_of_another_network_are_refused() -> None:
    model = ReLA(RelaConfig.preset("tabletop"))
    model.backbone.stages[2][0].layers[0] = torch.nn.Conv2d(24, 10, 1, bias=False)
    with pytest.raises(ValueError, match="another network"):
        load_trunk(model.backbone)


def test_moving_average_forgets_the_start_and_then_keeps_its_window() -> None:
    update = moving_average(0.9)
    kept = [torch.tensor([100.0])]
    for count in range(200):
        update(kept, [torch.tensor([1.0])], torch.tensor(count))
    assert float(kept[0]) == pytest.approx(1.0, abs=1e-3)
    update(kept, [torch.tensor([2.0])], torch.tensor(200))
    assert float(kept[0]) == pytest.approx(1.1, abs=1e-3)


def test_signals_are_noted_and_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_signals() as stopped:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopped == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.timeout(300)
def test_train_stop_resume_export(dataset: Path, tmp_path: Path) -> None:
    config = TrainConfig(
        dataset=str(dataset), steps=3, batch_size=1, expressions=3, warmup=0.1, ema_decay=0.5
    )
    out = tmp_path / "run"
    first = Trainer(config, out)
    before = {n: p.clone() for n, p in first.model.named_parameters()}
    first.train()
    assert first.step == 3
    changed = {n for n, p in first.model.named_parameters() if not torch.equal(p, before[n])}
    assert any(n.startswith("region_decoder.proposals") for n in changed)
    assert any(n.startswith("text_adapter") for n in changed)
    assert not any(n.startswith("text_encoder") for n in changed)

    resumed = Trainer(TrainConfig(**{**config.__dict__, "steps": 4}), out)
    assert resumed.step == 3
    for name, value in first.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    resumed.train()
    assert resumed.step == 4

    weights = tmp_path / "model.safetensors"
    resumed.export(weights)
    grounder = Grounder.from_checkpoint(weights, device="cpu")
    grounder.set_image(np.zeros((48, 64, 3), np.uint8))
    assert len(grounder.ground(["the red square", "the dog"])) == 2


@pytest.mark.timeout(300)
def test_words_alone_leave_the_image_part_as_it_is(dataset: Path, tmp_path: Path) -> None:
    config = TrainConfig(
        dataset=str(dataset), steps=2, batch_size=2, expressions=3, freeze_image=True
    )
    trainer = Trainer(config, tmp_path / "run")
    before = {n: p.clone() for n, p in trainer.model.state_dict().items()}
    trainer.train()
    after = trainer.model.state_dict()
    changed = {n for n in before if not torch.equal(before[n], after[n])}
    assert any(n.startswith("region_decoder.region_word") for n in changed)
    image = ("backbone.", "pixel_decoder.", "region_decoder.proposals", "region_decoder.head.norm")
    assert not any(n.startswith(image) for n in changed)

    samples = [trainer.pictures[i] for i in range(2)]
    kept = trainer.inputs.regions(samples, torch.device("cpu"))
    trainer.model.eval()
    with torch.no_grad():
        fresh = trainer.model.encode_image(trainer.model.normalise([s.pixels for s in samples]))
    torch.testing.assert_close(kept.state.regions, fresh.regions, atol=5e-3, rtol=5e-3)
    torch.testing.assert_close(kept.state.mask_features, fresh.mask_features, atol=2e-2, rtol=5e-3)


def test_pretrained_parts_are_in_the_model() -> None:
    model = build_model(RelaConfig.preset("tabletop"))
    fresh = ReLA(RelaConfig.preset("tabletop"))
    name = "text_encoder.embeddings.word_embeddings.weight"
    assert not torch.equal(model.state_dict()[name], fresh.state_dict()[name])
    assert float(model.backbone.stem[1].running_var.std()) > 0  # fresh batch norms are all 1


# --- presets without instance heads: the official recipe ----------------------------------


def official_config(dataset: Path, **changes: Any) -> TrainConfig:
    """A run of a few steps that learns fast; of the BERT's two layers, the first."""
    values = {"steps": 8, "batch_size": 6, "image_size": 64, "text_layers": 1, "ema_decay": 0.0}
    values |= {"learning_rate": 1e-3, "backbone_learning_rate": 1e-3, "clip_norm": 0.01}
    return TrainConfig(preset="tiny", dataset=str(dataset), **(values | changes))


def test_official_samples_are_squeezed_pictures_with_one_expression_each(dataset: Path) -> None:
    records = load_dataset(dataset, "train", raw=True)
    cfg = RelaConfig.preset("tiny").replace(image_size=96)
    pictures = OfficialPictures(records, cfg)
    samples = [pictures.sample(i, np.random.default_rng(0)) for i in range(len(pictures))]
    assert [s.text for s in samples] == ["the red square", "all squares", "the dog"] * 2
    assert [s.empty for s in samples] == [False, False, True] * 2
    # 16 x 16 of 48 x 64 pixels become 32 x 24
    assert [int(s.union.sum()) for s in samples] == [768, 1536, 0] * 2
    for sample in samples[::3]:
        assert sample.pixels.shape == (3, 96, 96) and sample.union.shape == (96, 96)
        inside = sample.pixels.float()[:, sample.union == 1].mean(1)
        assert (inside - torch.tensor(COLORS["red"])).abs().max() < 30
    with pytest.raises(ValueError, match="multiple of 32 .* tiny with image_size 100"):
        OfficialPictures(records, cfg.replace(image_size=100))


def test_official_weight_decay_spares_norms_embeddings_and_relative_positions() -> None:
    model = ReLA(RelaConfig.preset("tiny"))
    spared = undecayed(model)
    assert {
        "backbone.patch_norm.weight",
        "backbone.stages.0.blocks.0.attn.relative_position_bias_table",
        "pixel_decoder.lateral_norm.bias",
        "region_decoder.query_feat.weight",
        "region_decoder.head.norm.bias",
    } <= spared
    decayed = {name for name, _ in model.named_parameters()} - spared
    assert {
        "text_encoder.encoder.layer.0.output.LayerNorm.weight",
        "backbone.patch_embed.bias",
        "pixel_decoder.level_embed",
        "region_decoder.word_gate",
    } <= decayed


@pytest.mark.timeout(300)
def test_the_official_recipe_learns_and_leaves_the_frozen_part_as_it_is(
    dataset: Path, tmp_path: Path
) -> None:
    rate = 3e-5  # larger ones bounce: whether step 6 is below step 1 would hang on the machine
    rates = {"learning_rate": rate, "backbone_learning_rate": rate}
    trainer = Trainer(official_config(dataset, decay_steps=[20], **rates), tmp_path / "run")
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    batch = [trainer.pictures[i] for i in range(3)]
    terms = [trainer.train_step(batch) for _ in range(6)]
    assert set(terms[0]) == {"loss", "mask", "minimap", "no_target"}
    weighted = 5 * terms[0]["mask"] + 0.5 * (terms[0]["minimap"] + terms[0]["no_target"])
    assert terms[0]["loss"] == pytest.approx(weighted)
    assert terms[-1]["loss"] < 0.5 * terms[0]["loss"]

    unchanged = {n for n, p in trainer.model.named_parameters() if torch.equal(p, before[n])}
    frozen = ("text_encoder.embeddings.", "text_encoder.encoder.layer.1.")
    # Both matrices of a gate start at zero, as officially, so neither gets a gradient.
    assert unchanged == {n for n in before if n.startswith(frozen) or ".gate." in n}

    assert {group["lr"] for group in trainer.optimizer.param_groups} == {rate}
    trainer.step = 20
    trainer.train_step(batch)
    assert [g["lr"] for g in trainer.optimizer.param_groups] == pytest.approx([rate / 10] * 4)


@pytest.mark.timeout(300)
def test_a_resumed_official_run_equals_an_uninterrupted_one(dataset: Path, tmp_path: Path) -> None:
    config = official_config(dataset, steps=1)
    Trainer(config, tmp_path).train()
    config = official_config(dataset, steps=4)
    straight = Trainer(config, tmp_path)
    batch = [straight.pictures[i] for i in range(3)]
    straight.train_step(batch)
    straight.save()
    expected = straight.train_step(batch)
    resumed = Trainer(config, tmp_path)
    assert resumed.step == 2
    assert resumed.train_step(batch) == expected
    for name, value in straight.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name

    weights = tmp_path / "model.safetensors"
    resumed.export(weights)
    exported = load_checkpoint(weights)[0].state_dict()
    for name, value in resumed.model.state_dict().items():  # no moving average; the BERT as well
        assert torch.equal(exported[name], value.half().float()), name
    grounder = Grounder.from_checkpoint(weights, device="cpu")
    grounder.set_image(np.zeros((48, 64, 3), np.uint8))
    assert len(grounder.ground(["the red square", "the dog"])) == 2
