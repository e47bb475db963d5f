"""Parts that do not learn, computed by ONNX Runtime."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from grex_ros.model.close_look import CELLS
from grex_ros.model.efficientnet import EfficientNetLite0
from grex_ros.model.rela import ReLA
from tests.training.test_resume import SMALL
from training.config import TrainConfig
from training.frozen import run_frozen, run_frozen_image, run_frozen_text
from training.parameters import build_model

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


def trunk(seed: int = 0) -> EfficientNetLite0:
    """With statistics as of a trained one: no two channels alike."""
    torch.manual_seed(seed)
    found = EfficientNetLite0().requires_grad_(False)
    for module in found.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = 0.1 * torch.randn(module.num_features)
            module.running_var = 0.5 + torch.rand(module.num_features)
    return found.train()


def maps(trunk: nn.Module, pictures: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return list(trunk(pictures))


@pytest.mark.parametrize("size", [(1, 64, 96), (3, 96, 64), (2, 224, 320)])
def test_its_maps_are_those_of_torch(size: tuple[int, int, int]) -> None:
    one = trunk()
    pictures = torch.randn(size[0], 3, *size[1:]).contiguous(memory_format=torch.channels_last)
    expected = maps(one, pictures)
    assert run_frozen(one) and one.training
    found = maps(one, pictures)
    assert [m.shape for m in found] == [m.shape for m in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()
        assert ours.is_contiguous(memory_format=torch.channels_last)


def test_it_keeps_the_weights_that_it_had() -> None:
    one, pictures = trunk(), torch.randn(1, 3, 64, 64)
    state = {name: value.clone() for name, value in one.state_dict().items()}
    run_frozen(one)
    before = maps(one, pictures)
    assert all(torch.equal(value, state[name]) for name, value in one.state_dict().items())
    one.load_state_dict(trunk(1).state_dict())
    assert all(torch.equal(a, b) for a, b in zip(maps(one, pictures), before, strict=True))


@pytest.mark.parametrize("size", [(1, 64, 96), (2, 224, 320)])
@torch.no_grad()
def test_what_the_detector_sees_is_what_torch_sees(size: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    model = ReLA(TrainConfig(steps=1, model={**SMALL, "coco_detector": True}).rela)
    assert model.sight is not None
    detector, pixels = model.sight.detector, 255 * torch.rand(size[0], 3, *size[1:])
    expected = detector(pixels)
    model.backbone.requires_grad_(False)
    run_frozen_image(model)
    assert "maps" in vars(detector) and "forward" in vars(model.backbone)
    found = detector(pixels)
    both = zip((*found.features, found.boxes), (*expected.features, expected.boxes), strict=True)
    for ours, theirs in (*both, (found.kinds, expected.kinds)):
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@torch.no_grad()
def test_what_is_seen_close_up_is_what_torch_sees() -> None:
    torch.manual_seed(0)
    model = build_model(TrainConfig(steps=1, model=SMALL).rela).eval()
    look, crops = model.close_look, 255 * torch.rand(5, 3, 112, 112)
    assert look is not None
    torch.nn.init.normal_(look.outline.weight)
    masks = torch.rand(5, CELLS, CELLS)
    expected = look.sense(model.begin_close(crops), masks)
    model.requires_grad_(False)
    run_frozen_image(model)
    assert "begin" in vars(model.backbone) and "forward" in vars(look.late)
    found = look.sense(model.begin_close(crops), masks)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_a_trunk_that_learns_is_left_to_torch() -> None:
    one = trunk()
    one.stages[-1].requires_grad_(True)
    assert not run_frozen(one)
    assert "forward" not in vars(one)


@pytest.mark.parametrize("shape", [(1, 3), (16, 8), (5, 16)])
@torch.no_grad()
def test_its_words_are_those_of_torch(shape: tuple[int, int]) -> None:
    model = ReLA(TrainConfig(steps=1, model=SMALL).rela)
    tokens, mask = torch.randint(5, 200, shape), torch.ones(shape, dtype=torch.long)
    mask[-1, shape[1] // 2 + 1 :] = 0
    expected = model.eval().encode_text(tokens, mask)
    assert run_frozen_text(model.train()) and model.training
    found = model.encode_text(tokens, mask)
    assert "encode_text" in vars(model)
    words = mask.bool()
    assert (found - expected)[words].abs().max() <= 1e-4 * expected[words].abs().max()


def test_a_text_encoder_that_learns_is_left_to_torch() -> None:
    model = ReLA(TrainConfig(steps=1, model=SMALL).rela)
    model.text_encoder.requires_grad_(True)
    assert not run_frozen_text(model)
    assert "encode_text" not in vars(model)
