"""Faster paths give the numbers of the plain ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from grex_ros.model.backbone import WindowAttention, Windows
from grex_ros.model.config import RelaConfig
from grex_ros.model.efficientnet import EfficientNetLite0
from grex_ros.model.inference import (
    GraphedModel,
    compile_parts,
    lower_weights,
    plain_parts,
    prepare,
)
from grex_ros.model.pixel_decoder import convolve, sample_bags, sample_grids
from grex_ros.model.rela import ReLA
from grex_ros.model.resnet import ResNet50

from .test_rela import SMALL, inputs, picture

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
        ],
    ),
]


def looking(cfg: RelaConfig) -> ReLA:
    """A model that says something of what it sees close up, where it looks."""
    torch.manual_seed(0)
    model = ReLA(cfg).eval()
    if model.close_look is not None:
        torch.nn.init.normal_(model.close_look.tell.weight, std=0.1)
        torch.nn.init.normal_(model.close_look.outline.weight, std=1e-3)
        for layer in model.close_look.late.modules():  # as they are made, little comes through
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(layer.weight)
    return model


def randomise_norms(model: torch.nn.Module) -> None:
    """Statistics as after training; fresh ones would hide a fold that does nothing."""
    generator = torch.Generator().manual_seed(2)
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "norm.bias")):
            buffer.normal_(std=0.3, generator=generator)
        elif name.endswith(("running_var", "norm.weight")):
            buffer.uniform_(0.5, 2.0, generator=generator)


@pytest.mark.parametrize("make", [EfficientNetLite0, ResNet50])
@torch.inference_mode()
def test_folded_norms_change_nothing(make: Callable[[], torch.nn.Module]) -> None:
    torch.manual_seed(0)
    backbone = make().eval()
    randomise_norms(backbone)
    image = torch.randn(1, 3, 64, 96)
    plain = backbone(image)
    folded = prepare(backbone)(image)  # type: ignore[arg-type]
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in backbone.modules())
    for a, b in zip(plain, folded, strict=True):
        assert (a - b).abs().max() <= 1e-4 * a.abs().max()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("sizes", [[(3, 4), (6, 8), (12, 16)], [(1, 1), (1, 2), (2, 3)]])
@torch.inference_mode()
def test_bags_equal_grids(device: str, batch: int, sizes: list[tuple[int, int]]) -> None:
    generator = torch.Generator().manual_seed(0)
    cells = sum(h * w for h, w in sizes)
    value = torch.randn(batch, cells, 4, 8, generator=generator)
    # Far outside, too; and exactly on centres and borders.
    offsets = 6 * torch.randn(batch, cells, 4, 3, 4, 2, generator=generator)
    offsets[:, ::2] = offsets[:, ::2].round() / 2
    weights = torch.rand(batch, cells, 4, 3, 4, generator=generator)
    grids = sample_grids(value, offsets, weights, sizes)
    bags = sample_bags(value.to(device), offsets.to(device), weights.to(device), sizes).cpu()
    assert grids.shape == bags.shape == (batch, cells, 32)
    torch.testing.assert_close(bags, grids, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(24, 32), (15, 7), (1, 5)])
def test_winograds_convolution_equals_the_plain_one(size: tuple[int, int]) -> None:
    torch.manual_seed(4)
    conv = torch.nn.Conv2d(32, 48, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    x = torch.randn(2, 32, *size)
    plain = conv(x)
    assert torch.equal(convolve(conv, x), plain) and plain.requires_grad  # while it learns
    with torch.inference_mode():
        for given in (x, x.to(memory_format=torch.channels_last)):
            found = convolve(conv, given)
            assert (found - plain).abs().max() <= 1e-5 * plain.abs().max()
        assert not torch.backends.nnpack.is_available() or not torch.equal(found, plain)
        double = conv.double()
        assert torch.equal(convolve(double, x.double()), double(x.double()))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [(14, 21), (9, 16), (3, 3)])
@pytest.mark.parametrize("shift", [0, 3])
def test_attention_that_is_only_asked_equals_the_one_that_learns(
    device: str, size: tuple[int, int], shift: int
) -> None:
    """On a CPU window by window; on a GPU, which keeps what is added to the scores, twice."""
    torch.manual_seed(0)
    attention = WindowAttention(32, 4, 7)
    x = torch.randn(2, size[0] * size[1], 32)
    windows = Windows.of(*size, 7, shift, x)
    together = attention(x, windows).detach()
    attention.to(device).requires_grad_(False)
    x = x.to(device)
    windows = Windows.of(*size, 7, shift, x)
    for _ in range(2):
        with torch.no_grad():
            asked = attention(x, windows).cpu()
        torch.testing.assert_close(asked, together, atol=1e-5, rtol=1e-4)
    assert len(attention._biases) == (1 if device == "cuda" else 0)


def run(model: ReLA, engine: ReLA | GraphedModel, seed: int, words: int) -> dict[str, Tensor]:
    tokens, mask = inputs(1)
    features = model.encode_text(tokens[:, :words], mask[:, :words])
    mask = mask[:, :words]
    seen, whole = picture(seed), picture(seed, 96, 144)
    given = (features, mask) if model.cfg.language_in_backbone else ()
    state = engine.encode_image(model.normalise([seen]), *given)
    state = engine.look_close(state, seen, whole)
    out = engine.ground(state.repeat([1]), features, mask)
    found = {"no_target": out.no_target, "minimap": out.minimap, "masks": out.masks}
    return {name: tensor.clone() for name, tensor in found.items()}


@pytest.mark.parametrize("preset", ["small", "tiny"])
@torch.inference_mode()
def test_graphs_keep_shapes_and_pictures_apart(preset: str) -> None:
    """The bookkeeping of CUDA graphs, which on the CPU replays plain calls."""
    model = looking(SMALL if preset == "small" else RelaConfig.preset(preset))
    graphed = GraphedModel(model)
    for seed, words in ((1, 7), (2, 7), (1, 4), (1, 7)):
        plain, replayed = (run(model, engine, seed, words) for engine in (model, graphed))
        for name, tensor in plain.items():
            torch.testing.assert_close(replayed[name], tensor, atol=1e-5, rtol=1e-4)
    # Where padding is not read, sentences of 4 and of 7 words share a graph.
    assert len(graphed._steps) == {"small": 3, "tiny": 4}[preset]


@pytest.mark.parametrize("preset", ["small", "tiny"])
@torch.inference_mode()
def test_compiled_parts_equal_plain_ones(preset: str) -> None:
    """The tracing of torch.compile; what a GPU makes of it is measured there."""
    model = prepare(looking(SMALL if preset == "small" else RelaConfig.preset(preset)))
    plain = run(model, model, 1, 7)
    compile_parts(model, "eager")
    assert ("begin_close" in vars(model)) == (model.close_look is not None)
    for name, tensor in run(model, GraphedModel(model), 1, 7).items():
        torch.testing.assert_close(tensor, plain[name], atol=1e-4, rtol=1e-3)
    plain_parts(model)
    assert "encode_image" not in vars(model.region_decoder) and "begin_close" not in vars(model)
    for name, tensor in run(model, model, 1, 7).items():
        torch.testing.assert_close(tensor, plain[name])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("preset", ["small", "tiny"])
@torch.inference_mode()
def test_graphs_on_the_gpu_equal_plain_calls(preset: str) -> None:
    cfg = SMALL if preset == "small" else RelaConfig.preset(preset)
    model = prepare(looking(cfg).cuda())
    graphed = GraphedModel(model)
    tokens, mask = (t.cuda() for t in inputs(1))
    features = model.encode_text(tokens, mask)
    given = (features, mask) if cfg.language_in_backbone else ()
    # The third has the first one's size as it is seen, and another of its own.
    for seed, size in ((1, (96, 144)), (2, (96, 144)), (1, (128, 192))):
        seen, whole = picture(seed).cuda(), picture(seed, *size).cuda()
        outputs = []
        for engine in (model, graphed):
            state = engine.encode_image(model.normalise([seen]), *given)
            state = engine.look_close(state, seen, whole)
            outputs.append(engine.ground(state.repeat([1]), features, mask).minimap.clone())
        torch.testing.assert_close(*outputs, atol=1e-4, rtol=1e-3)


@torch.inference_mode()
def test_lower_weights_are_those_that_autocast_makes() -> None:
    torch.manual_seed(0)
    model = ReLA(SMALL).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = run(model, model, 1, 7)
        lower_weights(model, torch.bfloat16)
        lowered = run(model, model, 1, 7)
    assert model.region_decoder.head.minimap.weight.dtype is torch.bfloat16
    assert model.region_decoder.head.norm.weight.dtype is torch.float32
    for name, tensor in plain.items():
        torch.testing.assert_close(lowered[name], tensor)
