"""Shapes and gradients of every head, and what one picture with many expressions promises."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from grex_ros.model.close_look import CELLS, SIDE
from grex_ros.model.config import PRESETS, RelaConfig
from grex_ros.model.generation import ChosenSets
from grex_ros.model.guided_filter import GuidedFilter
from grex_ros.model.mask_refiner import surroundings
from grex_ros.model.region_decoder import RegionState, RelaOutput
from grex_ros.model.rela import ReLA

# The tabletop structure at a size that runs in milliseconds.
SMALL = RelaConfig.preset("tabletop").replace(
    text_vocab=50,
    text_dim=24,
    text_layers=1,
    text_heads=2,
    text_ffn=32,
    text_positions=16,
    text_wheel="",
    mask_dim=16,
    hidden_dim=32,
    heads=4,
    pixel_ffn=32,
    decoder_ffn=32,
    regions=16,
    coco_detector=True,
)
# ... that takes sentences and can say a few words.
DESCRIBING = SMALL.replace(
    text_vocab=200,
    max_tokens=16,
    image_size=96,
    generation_words=("blue", "cup", "red", "the"),
    generation_tokens=8,
)


@pytest.fixture(scope="module")
def model() -> ReLA:
    torch.manual_seed(0)
    return ReLA(SMALL).eval()


def inputs(count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 50, (count, 7), generator=generator)
    mask = torch.ones_like(tokens)
    mask[0, 4:] = 0
    return tokens, mask


def encode(model: ReLA, pictures: list[torch.Tensor]) -> RegionState:
    return model.encode_image(model.normalise(pictures))


def picture(seed: int, height: int = 64, width: int = 96) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def ground(model: ReLA, pictures: list[torch.Tensor], counts: list[int]) -> RelaOutput:
    tokens, mask = inputs(sum(counts))
    words = model.encode_text(tokens, mask)
    return model.ground(encode(model, pictures).repeat(counts), words, mask)


def test_shapes_of_every_head(model: ReLA) -> None:
    state = encode(model, [picture(1), picture(2)])
    assert state.masks.shape == (2, 16, 16, 24)
    assert state.boxes is not None and state.boxes.shape == (2, 16, 4)
    assert state.objectness is not None and state.objectness.shape == (2, 16)
    assert len(state.layers) == SMALL.image_layers
    out = ground(model, [picture(1), picture(2)], [2, 1])
    assert out.target_mask.shape == (3, 2, 16, 24)
    assert out.minimap.shape == (3, 16, 2)
    assert out.no_target.shape == (3, 2)
    assert out.target is not None and out.target.shape == (3, 16)
    assert out.count is not None and out.count.shape == (3, SMALL.count_classes)
    assert len(out.layer_targets) == SMALL.decoder_layers - SMALL.image_layers
    for tensor in (out.target_mask, out.minimap, out.no_target, out.target, out.count):
        assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_every_parameter_gets_a_gradient(preset: str) -> None:
    torch.manual_seed(0)
    cfg = SMALL if preset == "small" else RelaConfig.preset(preset)
    model = ReLA(cfg).train()
    # These start at zero on purpose, which keeps what feeds them from learning at the first step.
    for parameter in model.parameters():
        if not parameter.any() and parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.02)
    frozen = []
    if (semantics := model.region_decoder.semantics) is not None:
        torch.nn.init.normal_(semantics.names)
        frozen = [*semantics.expand.parameters(), *semantics.classify.parameters()]
    if model.sight is not None:
        torch.nn.init.normal_(model.sight.names)
        frozen += model.sight.detector.parameters()
    tokens, mask = inputs(2)
    words = model.encode_text(tokens, mask)
    images = model.normalise([picture(1), picture(2)])
    state = model.encode_image(images, words, mask)
    out = model.ground(state.repeat([1, 1]), words, mask)
    outputs = [out.target_mask, out.minimap, out.no_target, out.masks, out.count, out.boxes]
    if state.proposals is not None:
        outputs += [state.proposals.heat, state.proposals.cell_boxes]
    if model.region_decoder.alignment is not None:
        found = state.regions[:, 0]
        outputs.append(model.region_decoder.alignment(found, torch.randn(2, 7, 32), mask))
    if model.generation is not None:
        everything = torch.ones(2, cfg.regions, dtype=torch.bool)
        sets = ChosenSets(
            torch.tensor([0, 1]),
            everything.triu(),
            ~everything,
            torch.randn(2, 1, cfg.mask_dim),
            torch.rand(2, 1, 4),
            everything[:, :1],
        )
        said = torch.arange(cfg.generation_tokens).expand(2, -1) % 3
        outputs.append(model.generation(*model.generation.encode(state, sets), said))
    if model.mask_refiner is not None:
        assert state.boxes is not None
        given = (state.masks[0], state.boxes[0], picture(1), picture(1), model.draw_side)
        _, crops, coarse = surroundings(*given)
        outputs.append(model.refine_masks(crops, coarse, GuidedFilter(crops / 255)))
    if model.close_look is not None:
        assert state.boxes is not None
        torch.nn.init.normal_(model.close_look.tell.weight)  # untrained, it stops all gradients
        crops, there = torch.rand(2, 3, SIDE, SIDE) * 255, torch.rand(2, CELLS, CELLS)
        outputs.append(model.tell_close(crops, there, state.regions[:2, 0], state.boxes[0, :2]))
    outputs += [*out.layer_targets, *(x for layer in state.layers for x in layer)]
    sum((x * torch.randn_like(x)).sum() for x in outputs if x is not None).backward()
    without = [p for p in model.parameters() if p.grad is None or not p.grad.any()]
    assert {id(p) for p in without} == {id(p) for p in frozen}


def test_expressions_do_not_see_each_other(model: ReLA) -> None:
    """One picture with three expressions gives what three calls with one each give."""
    with torch.inference_mode():
        tokens, mask = inputs(3)
        words = model.encode_text(tokens, mask)
        state = encode(model, [picture(1)])
        together = model.ground(state.repeat([3]), words, mask)
        for i in range(3):
            alone = model.ground(state.repeat([1]), words[i : i + 1], mask[i : i + 1])
            torch.testing.assert_close(together.target_mask[i], alone.target_mask[0])
            torch.testing.assert_close(together.no_target[i], alone.no_target[0])
            assert together.target is not None and alone.target is not None
            torch.testing.assert_close(together.target[i], alone.target[0])


def test_padding_words_change_nothing(model: ReLA) -> None:
    with torch.inference_mode():
        tokens, mask = inputs(1)  # four words and three of padding
        state = encode(model, [picture(1)]).repeat([1])
        long = model.ground(state, model.encode_text(tokens, mask), mask)
        short = model.ground(state, model.encode_text(tokens[:, :4], mask[:, :4]), mask[:, :4])
        torch.testing.assert_close(long.target_mask, short.target_mask)
        torch.testing.assert_close(long.no_target, short.no_target)


def test_the_words_matter(model: ReLA) -> None:
    with torch.inference_mode():
        out = ground(model, [picture(1)], [3])
    assert (out.no_target[1] - out.no_target[2]).abs().max() > 1e-4


def test_pictures_of_several_sizes_are_padded(model: ReLA) -> None:
    batch = model.normalise([picture(1, 40, 33), picture(2, 64, 64)])
    assert batch.shape == (2, 3, 64, 64)
    assert not batch[0, :, 40:].any() and not batch[0, :, :, 33:].any()


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (33, 31)])
def test_any_size_runs(model: ReLA, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        out = ground(model, [picture(1, *size)], [1])
    assert torch.isfinite(out.target_mask).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"regions": 50}, "square"),
        ({"backbone": "vgg"}, "backbone"),
        ({"pixel_decoder": "none"}, "pixel decoder"),
        ({"image_layers": 5}, "at least one"),
        ({"backbone": "swin"}, "no language"),
        ({"instance_heads": False}, "instance_heads"),
    ],
)
def test_a_config_that_cannot_be_built_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SMALL.replace(**change)


def test_presets() -> None:
    assert RelaConfig.preset("tiny").regions == 100
    with pytest.raises(KeyError, match="tabletop"):
        RelaConfig.preset("huge")
    for name, cfg in PRESETS.items():
        assert cfg.name == name
        assert dataclasses.replace(cfg) == cfg
