"""Boxes set right by what lies in and around them; untrained, it moves none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from grex_ros.model.box_refiner import LEAST, BoxRefiner, pick
from grex_ros.model.rela import ReLA
from tests.model.test_rela import SMALL, encode, picture
from training.matcher import box_corners, generalized_iou


@torch.no_grad()
def test_a_new_part_moves_no_box_and_a_trained_one_does() -> None:
    torch.manual_seed(0)
    without = ReLA(SMALL.replace(box_refiner=False)).eval()
    model = ReLA(SMALL).eval()
    missing = model.load_state_dict(without.state_dict(), strict=False).missing_keys
    assert missing and all(".box_refiner." in name for name in missing)
    before, after = (encode(m, [picture(1), picture(2)]) for m in (without, model))
    for (_, boxes, _), (_, same, _) in zip(before.layers, after.layers, strict=True):
        torch.testing.assert_close(same, boxes, atol=1e-6, rtol=0)
    assert torch.allclose(after.masks, before.masks, atol=1e-3)
    part = model.region_decoder.box_refiner
    assert part is not None
    torch.nn.init.normal_(part.change.weight, std=0.3)
    moved = encode(model, [picture(1), picture(2)])
    assert moved.boxes is not None and after.boxes is not None
    assert (moved.boxes - after.boxes).abs().max() > 1e-2
    assert not torch.allclose(moved.masks, after.masks, atol=1e-2)  # they keep near their boxes


def test_points_see_the_cell_in_which_they_lie() -> None:
    seen = torch.arange(2 * 3 * 4.0).view(2, 1, 3, 4)  # 3 rows of 4
    points = torch.tensor([[[0.1, 0.1], [0.3, 0.5]], [[0.99, 0.99], [0.76, 0.32]]])[:, None]
    found = pick(seen, points)
    assert found.shape == (2, 1, 2, 1)
    assert found.flatten().tolist() == [0, 1 * 4 + 1, 12 + 2 * 4 + 3, 12 + 3]
    beyond = torch.tensor([[-0.5, 0.5], [1.7, 2.0]]).expand(2, 1, 2, 2)
    assert pick(seen, beyond)[0].flatten().tolist() == [4, 11]


def test_points_stay_on_the_map_in_half_precision_and_without_a_number() -> None:
    seen = torch.arange(80 * 64.0).view(1, 1, 64, 80)
    for dtype in (torch.bfloat16, torch.float16):
        corner = torch.tensor([0.9999, 1.0], dtype=dtype).view(1, 1, 1, 2)
        assert pick(seen, corner).item() == 80 * 64 - 1
    for odd in (float("nan"), float("inf"), -float("inf")):
        assert pick(seen, torch.full((1, 1, 1, 2), odd)).shape == (1, 1, 1, 1)


def rectangles(count: int, generator: torch.Generator) -> tuple[list[Tensor], Tensor, Tensor]:
    """Maps that show one rectangle each, its box, and a box that is off by up to a third."""
    size = torch.rand(count, 1, 2, generator=generator) * 0.3 + 0.2
    centre = torch.rand(count, 1, 2, generator=generator) * (1 - size) + size / 2
    boxes = torch.cat((centre, size), -1)
    low, high = box_corners(boxes)[:, 0].chunk(2, -1)
    places = (torch.arange(32) + 0.5) / 32
    inside = [(places > low[:, [k]]) & (places < high[:, [k]]) for k in (0, 1)]
    shown = (inside[1][:, :, None] & inside[0][:, None]).float()[:, None]
    fine = torch.cat((shown, torch.zeros(count, SMALL.mask_dim - 1, 32, 32)), 1)
    off = 1 + 0.6 * (torch.rand(count, 1, 4, generator=generator) - 0.5)
    guess = torch.cat((centre + size * (off[..., :2] - 1), size * off[..., 2:]), -1)
    return [fine, torch.zeros(count, SMALL.hidden_dim, 16, 16)], boxes, guess


def test_it_learns_to_set_boxes_right() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    part = BoxRefiner(SMALL)
    optimizer = torch.optim.Adam(part.parameters(), 1e-3)
    for _ in range(150):
        maps, boxes, guess = rectangles(64, generator)
        regions = torch.zeros(64, 1, SMALL.hidden_dim)
        found = part(guess, regions, part.maps(*maps))
        loss = 1 - generalized_iou(box_corners(found), box_corners(boxes)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    maps, boxes, guess = rectangles(200, generator)
    with torch.no_grad():
        found = part(guess, torch.zeros(200, 1, SMALL.hidden_dim), part.maps(*maps))
    before, after = (
        generalized_iou(box_corners(b), box_corners(boxes)).mean() for b in (guess, found)
    )
    assert before < 0.65 and after > 0.75


@pytest.mark.parametrize("bias", [-1e6, 1e6])
def test_a_box_stays_in_the_picture(bias: float) -> None:
    part = BoxRefiner(SMALL)
    torch.nn.init.constant_(part.change.bias, bias)
    boxes = torch.tensor([[[0.0, 0.5, 1.0, 1.0], [1.0, 1.0, 1e-4, 1e-4]]])
    maps = [torch.randn(1, SMALL.mask_dim, 8, 8), torch.randn(1, SMALL.hidden_dim, 4, 4)]
    with torch.no_grad():
        found = part(boxes, torch.randn(1, 2, SMALL.hidden_dim), part.maps(*maps))
    assert ((found >= 0) & (found <= 1)).all() and (found[..., 2:] >= LEAST).all()
