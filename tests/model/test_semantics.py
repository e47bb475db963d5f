"""What an ImageNet classifier says of regions; untrained, it changes no answer."""

from __future__ import annotations

import pytest
import torch

from grex_ros.model.config import RelaConfig
from grex_ros.model.rela import ReLA
from grex_ros.model.semantics import CLASSES, RegionSemantics
from tests.model.test_rela import SMALL, encode, picture

CHANNELS = 6


@pytest.fixture
def semantics() -> RegionSemantics:
    torch.manual_seed(0)
    part = RegionSemantics(SMALL, CHANNELS)
    torch.nn.init.normal_(part.names)
    torch.nn.init.normal_(part.project.weight)
    return part


@torch.no_grad()
def test_a_region_is_what_lies_under_its_mask(semantics: RegionSemantics) -> None:
    """Its classes are those of the mean of its cells, and the names are mixed by them."""
    coarse = torch.randn(2, CHANNELS, 3, 4)
    masks = torch.zeros(2, 5, 3, 4)
    masks[1, 2, 0, 1:3] = 1  # two whole cells
    said = semantics(semantics.look(coarse), masks)
    assert said.shape == (5, 2, SMALL.hidden_dim)
    kernel, bias = semantics.expand.weight[:, :, 0, 0], semantics.expand.bias
    cells = [(kernel @ coarse[1, :, 0, x] + bias).clamp(0, 6) for x in (1, 2)]
    logits = semantics.classify((cells[0] + cells[1]) / 2)
    assert logits.shape == (CLASSES,)
    named = logits.softmax(0) @ semantics.names * SMALL.text_dim**0.5
    torch.testing.assert_close(said[2, 1], semantics.project(named), atol=2e-3, rtol=2e-3)


@torch.no_grad()
def test_an_empty_mask_is_no_number_that_breaks(semantics: RegionSemantics) -> None:
    said = semantics(semantics.look(torch.randn(1, CHANNELS, 2, 2)), torch.zeros(1, 1, 2, 2))
    assert torch.isfinite(said).all()


@torch.no_grad()
def test_a_new_part_says_nothing_and_a_trained_one_does() -> None:
    torch.manual_seed(0)
    without = ReLA(SMALL.replace(region_semantics=False)).eval()
    model = ReLA(SMALL).eval()
    missing = model.load_state_dict(without.state_dict(), strict=False).missing_keys
    assert missing and all(".semantics." in name for name in missing)
    before = encode(without, [picture(1)]).regions
    assert torch.equal(encode(model, [picture(1)]).regions, before)
    part = model.region_decoder.semantics
    assert part is not None
    torch.nn.init.normal_(part.names)
    torch.nn.init.normal_(part.project.weight)
    assert not torch.allclose(encode(model, [picture(1)]).regions, before, atol=1e-3)


def test_the_trunk_and_the_projection_learn_but_not_the_classifier() -> None:
    torch.manual_seed(0)
    model = ReLA(SMALL)
    part = model.region_decoder.semantics
    assert part is not None
    torch.nn.init.normal_(part.names)
    torch.nn.init.normal_(part.project.weight)
    encode(model, [picture(1)]).regions.square().sum().backward()
    grads = {name: p.grad for name, p in part.named_parameters()}
    assert grads.pop("project.weight").abs().max() > 0  # type: ignore[union-attr]
    assert grads.pop("project.bias").abs().max() > 0  # type: ignore[union-attr]
    assert set(grads.values()) == {None} and len(grads) == 4


def test_it_needs_the_trunk_of_the_classifier() -> None:
    with pytest.raises(ValueError, match="region_semantics needs the trunk efficientnet_lite0"):
        RelaConfig.preset("tabletop").replace(backbone="resnet50")
    with pytest.raises(ValueError, match="region_semantics needs instance_heads"):
        RelaConfig.preset("r50").replace(region_semantics=True)
