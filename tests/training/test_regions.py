"""Regions before the words come: what is seen of them close up, and how they are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from grex_ros.model.close_look import close_crops
from grex_ros.model.rela import ReLA
from tests.model.test_inference import looking
from tests.model.test_rela import SMALL, picture
from tests.training.test_resume import SMALL as TINY
from tests.training.test_train import make_dataset
from training.config import ConfigError, TrainConfig
from training.criterion import PictureTruth
from training.dataset.load import load_dataset
from training.dataset.mixture import Mixture
from training.dataset.records import read_image
from training.dataset.samples import Sample, TrainingPictures
from training.parameters import build_model, image_part, with_late_stages
from training.regions import EncodedPictures, Looks, RegionCache
from training.train import Trainer

CPU = torch.device("cpu")
SIZES = ((64, 96), (64, 64))  # as they are seen


def whole(index: int) -> Tensor:
    return picture(index, *(2 * side for side in SIZES[index]))


def samples() -> list[Sample]:
    """Two pictures of different shape, with an object each."""
    found = []
    for index, (height, width) in enumerate(SIZES):
        masks = torch.zeros(1, height // 4, width // 4)
        masks[:, 4:8, 4:8] = 1
        boxes = torch.tensor([[24 / width, 24 / height, 16 / width, 16 / height]])
        truth = PictureTruth(masks, boxes, torch.ones(2, 1), ["cup"], torch.tensor([True]))
        found.append(Sample(index, picture(index, height, width), truth, ["the cup", "all"]))
    return found


@pytest.fixture(scope="module")
def model() -> ReLA:
    return looking(SMALL.replace(close_looks=5))


@torch.no_grad()
def test_a_batch_is_looked_at_as_the_node_looks_at_each_picture(model: ReLA) -> None:
    assert model.close_look is not None
    pictures = [(picture(i), picture(i, 128, 192)) for i in (1, 2)]
    state = model.encode_image(model.normalise([seen for seen, _ in pictures]))
    assert state.objectness is not None
    state.objectness[0] = -9.0  # of the first picture only two regions are looked at
    state.objectness[0, [2, 7]] = 1.0
    looks = Looks.at(model, state, pictures)
    assert looks.picture.tolist() == [0, 0, 1, 1, 1, 1, 1]
    told = looks.told(model.close_look, state).regions
    for i, (seen, own) in enumerate(pictures):
        alone = model.encode_image(model.normalise([seen]))
        alone.objectness = state.objectness[i : i + 1]
        expected = model.look_close(alone, seen, own).regions[:, 0]
        torch.testing.assert_close(told[:, i], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_nothing_is_said_where_nothing_is_likely(model: ReLA) -> None:
    assert model.close_look is not None
    seen = picture(1)
    state = model.encode_image(model.normalise([seen]))
    state.objectness = torch.full((1, SMALL.regions), -9.0)
    assert Looks.at(model, state, [(seen, seen)]).told(model.close_look, state) is state


@torch.no_grad()
def test_of_looks_those_at_objects_are_learned_from(model: ReLA) -> None:
    pictures = [(picture(i), picture(i)) for i in (1, 2)]
    state = model.encode_image(model.normalise([seen for seen, _ in pictures]))
    assert state.objectness is not None
    state.objectness[:] = torch.arange(float(SMALL.regions))  # the last are looked at
    looks = Looks.at(model, state, pictures)
    last = SMALL.regions - 1
    matches = [(torch.tensor(found), torch.arange(len(found))) for found in ([0, last], [last - 2])]
    kept = looks.of(matches)
    assert kept.picture.tolist() == [0, 1] and kept.region.tolist() == [last, last - 2]
    for mine, all_of_them in ((kept.begun, looks.begun), (kept.masks, looks.masks)):
        assert torch.equal(mine, all_of_them[[looks.region.tolist().index(last), -3]])
    none = looks.of([(torch.zeros(0, dtype=torch.int64),) * 2] * 2)
    assert len(none.region) == len(none.begun) == len(none.masks) == 0


def equal(one: EncodedPictures, other: EncodedPictures) -> None:
    assert one.looks is not None and other.looks is not None
    pairs = [
        (one.state.regions, other.state.regions),
        (one.state.mask_features, other.state.mask_features),
        (one.looks.picture, other.looks.picture),
        (one.looks.region, other.looks.region),
        (one.looks.begun, other.looks.begun),
        (one.looks.masks, other.looks.masks),
        *zip(one.matches[0] + one.matches[1], other.matches[0] + other.matches[1], strict=True),
    ]
    for a, b in pairs:
        assert torch.equal(a, b)


def test_files_hold_what_memory_holds(
    model: ReLA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run" / "regions"
    kept = RegionCache(model, None, whole)(samples(), CPU)
    equal(RegionCache(model, folder, whole)(samples(), CPU), kept)
    assert sorted(path.name for path in folder.iterdir()) == ["0.pt", "1.pt"]
    other = RegionCache(model, folder, whole)  # another process, or a run that goes on
    monkeypatch.setattr(other, "_encode", lambda *_: pytest.fail("encoded once more"))
    equal(other(samples(), CPU), kept)
    turned = other(samples()[::-1], CPU)
    assert torch.equal(turned.state.regions, kept.state.regions.flip(1))


def test_looks_are_at_the_picture_at_its_own_size(model: ReLA) -> None:
    fine, coarse = (RegionCache(model, None, w)(samples(), CPU) for w in (whole, None))
    assert fine.looks is not None and coarse.looks is not None
    assert torch.equal(fine.looks.region, coarse.looks.region)
    apart = (fine.looks.begun - coarse.looks.begun).abs().max()
    assert apart > 0.1 * fine.looks.begun.abs().max()


@torch.no_grad()
def test_mirrored_looks_are_at_mirrored_crops(
    model: ReLA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = RegionCache(model, None, whole)(samples(), CPU)
    cache = RegionCache(model, tmp_path, whole, mirrored=1.0)
    found = cache(samples(), CPU)
    assert plain.looks is not None and found.looks is not None
    assert torch.equal(found.looks.masks, plain.looks.masks.flip(-1))
    assert torch.equal(found.state.regions, plain.state.regions)
    monkeypatch.setattr("training.regions.close_crops", lambda *a: close_crops(*a).flip(-1))
    expected = RegionCache(model, None, whole)(samples(), CPU).looks
    assert expected is not None
    # Boxes were kept in half precision, so crops are off by parts of a pixel.
    apart = (found.looks.begun - expected.begun).abs().mean()
    assert apart < 0.05 * (found.looks.begun - plain.looks.begun).abs().mean()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("0.mirrored.pt", "0.pt", "1.mirrored.pt", "1.pt")
    ]
    for name in ("_encode", "_look_mirrored"):
        monkeypatch.setattr(cache, name, lambda *_: pytest.fail("once more"))
    equal(cache(samples(), CPU), found)


def test_a_share_of_the_looks_is_mirrored(model: ReLA) -> None:
    plain, half = (RegionCache(model, None, whole, mirrored=share) for share in (0.0, 0.5))
    straight = plain(samples()[:1], CPU).looks
    assert straight is not None
    torch.manual_seed(0)
    same = 0
    for _ in range(40):
        looks = half(samples()[:1], CPU).looks
        assert looks is not None
        same += torch.equal(looks.begun, straight.begun)
    assert 8 < same < 32


def test_a_full_disk_costs_time_alone(
    model: ReLA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    cache = RegionCache(model, tmp_path, whole)
    equal(cache(samples(), CPU), RegionCache(model, None, whole)(samples(), CPU))
    assert not list(tmp_path.iterdir())


def test_the_whole_picture_of_a_sample_is_found_by_its_index(tmp_path: Path) -> None:
    records = [load_dataset(make_dataset(tmp_path / str(i), 2 + i), "train") for i in range(2)]
    cfg = replace(SMALL, image_size=32)
    sources = [TrainingPictures(r, cfg, 2, augment=False) for r in records]
    mixture = Mixture(sources, [1, 1], 0)
    for number in range(8):
        source, index = mixture.place(number)
        sample = mixture[number]
        expected = read_image(records[source][index]).transpose(2, 0, 1)
        assert np.array_equal(mixture.whole(sample.index).numpy(), expected)


@pytest.mark.timeout(300)
def test_looks_are_learned_alone_by_names(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", 4)
    file = root / "grefcoco" / "instances.json"
    instances = json.loads(file.read_text())
    instances["categories"] = [{"id": 1, "name": "apple"}, {"id": 2, "name": "book"}]
    for annotation in instances["annotations"]:
        annotation["category_id"] = 1 + annotation["id"] % 10
    file.write_text(json.dumps(instances))
    config = TrainConfig(
        model=TINY, image_size=64, dataset=str(root), steps=40, batch_size=4, expressions=1,
        freeze_image=True, only_looks=True, learning_rate=3e-3, ema_decay=0.0,
    )  # fmt: skip
    trainer = Trainer(config, tmp_path / "run")
    start = {n: v.clone() for n, v in trainer.model.state_dict().items()}
    batch = trainer.inputs.collate([trainer.pictures[i] for i in range(4)])
    first = trainer.train_step(batch)
    assert set(first) == {"loss", "alignment"}
    trainer.train()
    changed = {n for n, v in trainer.model.state_dict().items() if not v.equal(start[n])}
    assert {n.split(".")[0] for n in changed} == {"close_look", "region_decoder"}
    assert all(n.startswith(("close_look.", "region_decoder.alignment.")) for n in changed)
    assert any(n.startswith("close_look.late.stages.0.") for n in changed)
    assert "close_look.outline.weight" in changed
    wide = {
        n for n, v in start.items() if n.startswith("close_look.late.") and v.shape[2:] == (5, 5)
    }
    assert wide and not wide & changed
    assert trainer.train_step(batch)["alignment"] < 0.5 * first["alignment"]
    assert len(list((tmp_path / "run" / "regions").iterdir())) == 4


@pytest.mark.timeout(300)
def test_what_finds_objects_is_learned_alone(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", 4)
    config = TrainConfig(
        model=TINY, image_size=64, dataset=str(root), steps=30, batch_size=4, expressions=1,
        only_regions=True, learning_rate=3e-3, ema_decay=0.0, frozen_stages=3,
    )  # fmt: skip
    trainer = Trainer(config, tmp_path / "run")
    start = {n: v.clone() for n, v in trainer.model.state_dict().items()}
    batch = trainer.inputs.collate([trainer.pictures[i] for i in range(4)])
    first = trainer.train_step(batch)
    assert first.keys() == {
        *("loss", "heat", "cell_box", "cell_giou", "semantics"),
        *("objectness", "box", "giou", "region_mask", "region_dice"),
    }
    trainer.train()
    last = trainer.train_step(batch)
    assert last["loss"] < 0.8 * first["loss"] and last["objectness"] < first["objectness"]
    image = {id(p) for part in image_part(trainer.model) for p in part.parameters()}
    changed = {n for n, p in trainer.model.named_parameters() if not p.equal(start[n])}
    assert changed <= {n for n, p in trainer.model.named_parameters() if id(p) in image}
    for part in ("proposals", "region_image.0", "region_region.0", "box_refiner", "instance.box"):
        assert any(n.startswith(f"region_decoder.{part}.") for n in changed), part
    assert any(n.startswith("pixel_decoder.") for n in changed)
    stages = {n.split(".")[2] for n in changed if n.startswith("backbone.stages.")}
    assert stages == {str(i) for i in range(3, 7)}


def test_nothing_else_learns_where_regions_learn_alone() -> None:
    for other in ("freeze_image", "freeze_grounding", "only_refiner"):
        with pytest.raises(ConfigError, match="only_regions: the image part alone learns"):
            TrainConfig(steps=1, only_regions=True, **{other: True})


def test_with_the_words_the_trunk_of_the_looks_keeps_its_weights(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", 2)
    for frozen in (True, False):
        config = TrainConfig(
            model=TINY, image_size=64, dataset=str(root), steps=2, batch_size=2, expressions=2,
            freeze_image=frozen, learning_rate=1e-2, backbone_learning_rate=1e-2,
        )  # fmt: skip
        trainer = Trainer(config, tmp_path / str(frozen))
        start = {n: v.clone() for n, v in trainer.model.state_dict().items()}
        trainer.train()
        changed = {n for n, v in trainer.model.state_dict().items() if not v.equal(start[n])}
        assert "close_look.tell.weight" in changed
        assert not any(n.startswith(("close_look.late.", "close_look.outline.")) for n in changed)


def test_without_late_stages_of_its_own_a_look_begins_with_those_of_the_trunk(
    tmp_path: Path,
) -> None:
    config = TrainConfig(model=TINY, image_size=64, steps=1, dataset="unused")
    trained = build_model(config.rela)
    for parameter in trained.backbone.parameters():
        torch.nn.init.normal_(parameter)
    full = trained.state_dict()
    fresh = {n: v for n, v in full.items() if not n.startswith("close_look.")}
    stage = "stages.1.0.layers.0.weight"
    for tensors, taken in ((fresh, f"backbone.{stage}"), (full, f"close_look.late.{stage}")):
        taken = taken.replace("backbone.stages.1", "backbone.stages.4")
        model = build_model(config.rela)
        assert model.close_look is not None
        pretrained = model.backbone.state_dict()[stage.replace("1", "4", 1)].clone()
        assert torch.equal(model.close_look.late.state_dict()[stage], pretrained)
        model.load_state_dict(with_late_stages(tensors), strict=False)
        assert torch.equal(model.close_look.late.state_dict()[stage], full[taken])


def test_looks_alone_need_a_frozen_image_part() -> None:
    for changes in ({}, {"freeze_image": True, "freeze_grounding": True}):
        with pytest.raises(ConfigError, match="only_looks: needs freeze_image"):
            TrainConfig(steps=1, only_looks=True, **changes)


def test_mirrored_looks_need_looks_on_a_frozen_image_part() -> None:
    for changes in ({}, {"freeze_image": True, "model": {"close_looks": 0}}):
        with pytest.raises(ConfigError, match="mirrored_looks: needs freeze_image"):
            TrainConfig(steps=1, mirrored_looks=0.5, **changes)
