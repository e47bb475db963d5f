"""Windows around regions, what is seen in them, and the network that draws there."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from grex_ros.model.guided_filter import GuidedFilter
from grex_ros.model.inference import GraphedModel, prepare
from grex_ros.model.mask_refiner import (
    SURE,
    MaskRefiner,
    Source,
    all_crops,
    crop_pictures,
    cut,
    surroundings,
    windows,
)
from grex_ros.model.rela import ReLA

from .test_inference import DEVICES
from .test_rela import SMALL, picture


def ramp(height: int, width: int) -> Tensor:
    """(2, H, W): the x and the y of every pixel's centre."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack((x, y))


def test_a_window_has_a_margin_that_is_never_less_than_a_cell() -> None:
    boxes = torch.tensor([[0.5, 0.5, 0.5, 0.25], [0.0, 1.0, 0.0, 0.05]])
    found = windows(boxes, torch.tensor([160.0, 128.0]))
    # 80 x 32 pixels around (80, 64): 12 more on both sides, and 4.8.
    assert found[0].tolist() == pytest.approx([28, 43.2, 132, 84.8])
    assert found[1].tolist() == pytest.approx([-4, 120.8, 4, 135.2])


def test_samples_lie_where_they_are_said_to() -> None:
    corners = torch.tensor([[2.0, 3.0, 10.0, 11.0], [4.5, 1.0, 8.5, 17.0]])
    found = cut(ramp(20, 30), corners, 8)
    assert found.shape == (2, 2, 8, 8)
    steps = (torch.arange(8) + 0.5) / 8
    for (x0, y0, x1, y1), (x, y) in zip(corners.tolist(), found, strict=True):
        torch.testing.assert_close(x, (x0 + (x1 - x0) * steps).expand(8, 8))
        torch.testing.assert_close(y, (y0 + (y1 - y0) * steps)[:, None].expand(8, 8))
    each = cut(ramp(20, 30).expand(2, -1, -1, -1), corners, 8)
    torch.testing.assert_close(each, found)


def test_beyond_the_edge_the_edge_goes_on() -> None:
    x, y = cut(ramp(10, 10), torch.tensor([[-8.0, 6.0, 8.0, 22.0]]), 16)[0]
    assert x[0, :8].eq(0.5).all() and float(x[0, -1]) == pytest.approx(7.5)
    assert y[4:].eq(9.5).all() and float(y[0, 0]) == pytest.approx(6.5)


def test_what_is_small_is_taken_from_the_picture_and_what_is_large_from_what_is_seen() -> None:
    seen, whole = torch.zeros(3, 60, 80), torch.full((3, 240, 320), 100.0)
    corners = torch.tensor([[0.0, 0.0, 3.9, 3.9], [0.0, 0.0, 60.0, 20.0]])  # 4 pixels for 1
    small, large = crop_pictures(seen, whole, corners, 8)
    assert small.eq(100).all() and large.eq(0).all()
    # Where the picture is no larger than what is seen, there is nothing to choose.
    assert crop_pictures(seen, seen + 5, corners, 8).eq(0).all()


def test_the_crops_of_both_sizes_show_the_same() -> None:
    seen, whole = 4 * ramp(60, 80), ramp(240, 320)
    corners = torch.tensor([[10.0, 12.0, 30.0, 25.0]])
    near, far = crop_pictures(seen, whole, corners, 64), crop_pictures(seen, whole, corners, 16)
    assert not near.equal(far)
    torch.testing.assert_close(near[..., 2::4, 2::4], far, atol=1.0, rtol=0)


def test_only_the_part_of_a_picture_that_is_needed_is_looked_at() -> None:
    """Which part, changes nothing."""
    generator = torch.Generator().manual_seed(0)
    seen = torch.randint(0, 256, (3, 60, 80), generator=generator, dtype=torch.uint8)
    whole = torch.randint(0, 256, (3, 120, 160), generator=generator, dtype=torch.uint8)
    corners = torch.tensor(
        [[30.0, 20.5, 38.2, 29.0], [-9.0, -5.0, 3.0, 4.0], [70.0, 40.0, 99.0, 88.0],
         [200.0, 99.0, 210.0, 120.0], [-40.0, 10.0, -20.0, 20.0]]
    )  # fmt: skip
    for window in corners:
        crop = crop_pictures(seen, whole, window[None], 16)
        small = float((window[2:] - window[:2]).max()) <= 16
        picture, place = (whole, 2 * window) if small else (seen, window)
        expected = F.avg_pool2d(cut(picture.float(), place[None], 32), 2)
        torch.testing.assert_close(crop, expected, atol=2e-2, rtol=0)
    together = crop_pictures(seen, whole, corners, 16)
    sides = (corners[:, 2:] - corners[:, :2]).amax(1)
    sources = [Source(whole, 2 * corners, sides <= 16), Source(seen, corners, sides > 16)]
    torch.testing.assert_close(together, all_crops(sources, 16), atol=2e-2, rtol=0)
    apart = torch.cat([crop_pictures(seen, whole, window[None], 16) for window in corners])
    torch.testing.assert_close(together, apart, atol=2e-2, rtol=0)


def test_masks_so_far_and_pixels_lie_over_each_other() -> None:
    """A picture whose red is x and whose logits are x too."""
    whole = ramp(64, 96)[[0, 0, 0]]
    logits = ramp(16, 24)[:1] * 4
    corners, pixels, coarse = surroundings(
        logits, torch.tensor([[0.5, 0.5, 0.4, 0.4]]), whole.byte(), whole.byte(), 16
    )
    assert corners.shape == (1, 4) and pixels.shape == (1, 3, 16, 16)
    torch.testing.assert_close(coarse, pixels[:, 0] + 0.5, atol=0.51, rtol=0)


def test_an_untrained_refiner_leaves_masks_as_they_are_and_can_learn() -> None:
    torch.manual_seed(0)
    refiner = MaskRefiner()
    crops, logits = torch.randn(2, 3, 24, 24), 8 * torch.randn(2, 24, 24)
    given = crops, logits, torch.rand(2, 24, 24)
    torch.testing.assert_close(refiner(*given), logits.clamp(-SURE, SURE))
    torch.nn.init.normal_(refiner.out.weight)
    refiner(*given).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in refiner.parameters())


def drawing_model() -> ReLA:
    """With a refiner that changes something."""
    torch.manual_seed(0)
    model = ReLA(SMALL).eval()
    assert model.mask_refiner is not None
    torch.nn.init.normal_(model.mask_refiner.out.weight, std=0.1)
    return prepare(model)


def regions(seed: int, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, boxes, a picture as it is seen and at its own size."""
    generator = torch.Generator().manual_seed(seed)
    boxes = 0.2 + 0.5 * torch.rand(count, 4, generator=generator)
    logits = torch.randn(count, 16, 24, generator=generator)
    return logits, boxes, picture(seed).byte(), picture(seed, 128, 192).byte()


@torch.inference_mode()
def test_without_a_refiner_there_is_the_filter_alone() -> None:
    plain, refined = ReLA(SMALL.replace(refine_side=0)), drawing_model()
    given = regions(1, 3)
    masks, corners = plain.draw_masks(*given)
    others, same = refined.draw_masks(*given)
    assert masks.shape == others.shape == (3, 64, 64) and corners.equal(same)
    _, crops, coarse = surroundings(*given, 64)
    edges = GuidedFilter(crops / 255)
    assert plain.refine_masks(crops, coarse, edges) is coarse
    filtered = edges(coarse.sigmoid())
    torch.testing.assert_close(masks.sigmoid(), filtered.clamp(1e-4, 1 - 1e-4))
    assert (masks - others).abs().mean() > 0.01


@pytest.mark.parametrize("device", DEVICES)
@torch.inference_mode()
def test_graphs_draw_what_the_model_draws(device: str) -> None:
    """Any number of regions up to the next power of two shares a graph. On a CPU the bookkeeping;
    on a GPU the crops and the convolutions as well."""
    model = drawing_model()
    given = [regions(seed, count) for seed, count in ((1, 3), (2, 4), (3, 1), (1, 3), (4, 5))]
    expected = [model.draw_masks(*some) for some in given]
    graphed = GraphedModel(model.to(device))
    for some, wanted in zip(given, expected, strict=True):
        for a, b in zip(graphed.draw_masks(*(t.to(device) for t in some)), wanted, strict=True):
            assert a.shape == b.shape
            torch.testing.assert_close(
                a.cpu(), b, atol=1e-2 if device == "cuda" else 1e-4, rtol=1e-3
            )
    assert len(graphed._steps) == 3
