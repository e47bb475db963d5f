"""What regions are told of each other's places; untrained, it changes no answer."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grex_ros.model.config import RelaConfig
from grex_ros.model.geometry import FEATURES, NUMBERS, PairGeometry, pair_features
from grex_ros.model.rela import ReLA
from tests.model.test_rela import SMALL, encode, inputs, picture


def test_places_and_sizes_as_the_first_sees_the_second() -> None:
    small, large = (0.2, 0.5, 0.1, 0.2), (0.5, 0.3, 0.2, 0.4)  # the large one is right and above
    features = pair_features(torch.tensor([[small, large]]))
    assert features.shape == (1, 2, 2, FEATURES)
    dx, dy, feet, distance, near_x, near_y, wider, higher, larger = features[0, 0, 1].tolist()
    assert (dx, dy, feet) == pytest.approx((1.2, -0.8, 4 * (0.5 - 0.6)))
    assert distance == pytest.approx(4 * 0.13**0.5)
    assert (near_x, near_y) == pytest.approx((0.3 / 0.15, -0.2 / 0.3))
    assert (2.718281828**wider, 2.718281828**higher) == pytest.approx((2, 2))
    assert larger == pytest.approx(wider + higher)
    back = features[0, 1, 0]
    signs = torch.tensor([-1.0, -1, -1, 1, -1, -1, -1, -1, -1])
    assert torch.allclose(back, signs * features[0, 0, 1])
    assert features[0, 0, 0].abs().max() == 0  # of itself


numbers = st.floats(0, 1, width=32)


@given(st.lists(st.tuples(numbers, numbers, numbers, numbers), min_size=1, max_size=5))
def test_always_finite(boxes: list[tuple[float, ...]]) -> None:
    """Boxes without width too."""
    assert torch.isfinite(pair_features(torch.tensor([boxes]))).all()


def test_a_new_part_has_no_wish_and_a_trained_one_has() -> None:
    torch.manual_seed(0)
    without = ReLA(SMALL.replace(region_geometry=False)).eval()
    model = ReLA(SMALL).eval()
    missing = model.load_state_dict(without.state_dict(), strict=False).missing_keys
    assert missing and all(".pair_geometry." in name for name in missing)
    words = inputs()

    def targets(of: ReLA) -> torch.Tensor:
        with torch.no_grad():
            features = of.encode_text(*words)
            state = encode(of, [picture(1)]).repeat([3])
            target = of.ground(state, features, words[1]).target
        assert target is not None
        return target

    assert torch.equal(targets(model), targets(without))
    geometry = model.region_decoder.pair_geometry
    assert geometry is not None and len(geometry.ask) == SMALL.decoder_layers - SMALL.image_layers
    torch.nn.init.normal_(geometry.ask[-1].weight)
    assert not torch.allclose(targets(model), targets(without), atol=1e-4)


def test_the_wish_and_the_geometry_make_the_bias() -> None:
    torch.manual_seed(0)
    geometry = PairGeometry(SMALL)
    torch.nn.init.normal_(geometry.ask[1].weight)
    x = torch.randn(SMALL.regions, 3, SMALL.hidden_dim)
    pairs = geometry(torch.rand(3, SMALL.regions, 4))
    bias = geometry.bias(1, x, pairs)
    assert bias.shape == (3, SMALL.heads, SMALL.regions, SMALL.regions)
    asked = geometry.ask[1](x[4, 2]).view(SMALL.heads, NUMBERS)
    assert torch.allclose(bias[2, 3, 4, 5], (asked[3] * pairs[2, 4, :, 5]).sum(), atol=1e-5)
    alone = geometry.bias(1, x, pairs[2:])  # of one picture for all expressions
    assert torch.allclose(alone[2], bias[2], atol=1e-6)


def test_gradients_reach_all_of_it() -> None:
    torch.manual_seed(0)
    model = ReLA(SMALL)
    geometry = model.region_decoder.pair_geometry
    assert geometry is not None
    for layer in geometry.ask:
        torch.nn.init.normal_(layer.weight, std=0.1)
    tokens, mask = inputs()
    state = encode(model, [picture(1), picture(2)]).repeat([1, 2])
    out = model.ground(state, model.encode_text(tokens, mask), mask)
    assert out.target is not None
    out.target.square().sum().backward()
    for name, parameter in geometry.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_it_needs_regions_that_attend_each_other() -> None:
    with pytest.raises(ValueError, match="region_geometry needs region_region"):
        RelaConfig.preset("tabletop").replace(region_region=False)
    with pytest.raises(ValueError, match="region_geometry needs instance_heads"):
        RelaConfig.preset("r50").replace(region_geometry=True)
