"""Matching and losses on cases small enough to work out by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from grex_ros.model.proposals import Proposals
from grex_ros.model.region_decoder import RegionState, RelaOutput
from training.criterion import (
    LossWeights,
    PictureTruth,
    alignment_loss,
    dice_loss,
    instance_losses,
    language_losses,
    mask_losses,
    minimap_truth,
    proposal_losses,
    weighted_sum,
)
from training.matcher import box_corners, dice_cost, generalized_iou, match


def corner_box(*values: float) -> torch.Tensor:
    return torch.tensor(values)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1.0),
        ((0, 0, 1, 1), (1, 0, 2, 1), 0.0),  # side by side: no overlap, no empty hull
        ((0, 0, 1, 1), (2, 0, 3, 1), -1 / 3),  # a third of the hull lies between them
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7 - 2 / 9),
    ],
)
def test_generalized_iou(a: tuple[float], b: tuple[float], expected: float) -> None:
    assert float(generalized_iou(corner_box(*a), corner_box(*b))) == pytest.approx(expected)


def test_box_corners() -> None:
    box = torch.tensor([0.5, 0.25, 0.2, 0.1])
    torch.testing.assert_close(box_corners(box), torch.tensor([0.4, 0.2, 0.6, 0.3]))


def picture_truth() -> PictureTruth:
    """Two objects, left and right, and expressions that mean one, both, none."""
    masks = torch.zeros(2, 8, 8)
    masks[0, 2:6, 0:4] = 1
    masks[1, 2:6, 4:8] = 1
    boxes = torch.tensor([[0.25, 0.5, 0.5, 0.5], [0.75, 0.5, 0.5, 0.5]])
    meant = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    return PictureTruth(masks, boxes, meant, ["red cup", "cup"], torch.ones(2, dtype=torch.bool))


def test_match_is_the_cheapest_of_all_assignments() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.randn(4, 8, 8, generator=generator)
    boxes = torch.rand(4, 4, generator=generator) * 0.5 + 0.25
    objectness = torch.randn(4, generator=generator)
    truth = picture_truth()
    [(regions, objects)] = match(
        masks[None], boxes[None], objectness[None], [truth.masks], [truth.boxes]
    )
    cost = (
        5 * torch.cdist(boxes, truth.boxes, p=1)
        - 2 * generalized_iou(box_corners(boxes)[:, None], box_corners(truth.boxes)[None])
        + 5 * dice_cost(masks.flatten(1), truth.masks.flatten(1))
        - objectness.sigmoid()[:, None]
    )
    pairs = itertools.permutations(range(4), 2)
    best = min(pairs, key=lambda p: float(cost[p[0], 0] + cost[p[1], 1]))
    found = {int(k): int(r) for r, k in zip(regions, objects, strict=True)}
    assert (found[0], found[1]) == best


def test_pictures_matched_together_are_matched_alike() -> None:
    generator = torch.Generator().manual_seed(1)
    masks = torch.randn(3, 4, 8, 8, generator=generator)
    boxes = torch.rand(3, 4, 4, generator=generator) * 0.5 + 0.25
    objectness = torch.randn(3, 4, generator=generator)
    one = picture_truth()
    true_masks = [one.masks, one.masks[:1], one.masks[:0]]
    true_boxes = [one.boxes, one.boxes[1:], one.boxes[:0]]
    together = match(masks, boxes, objectness, true_masks, true_boxes)
    for i in range(3):
        own = slice(i, i + 1)
        [alone] = match(masks[own], boxes[own], objectness[own], true_masks[own], true_boxes[own])
        assert [t.tolist() for t in together[i]] == [t.tolist() for t in alone]
    assert [len(regions) for regions, _ in together] == [2, 1, 0]


def perfect_state(truth: PictureTruth) -> RegionState:
    """Regions 2 and 0 stand for objects 0 and 1; region 1 for nothing."""
    masks = torch.full((1, 3, 8, 8), -20.0)
    boxes = torch.full((1, 3, 4), 0.1)
    objectness = torch.full((1, 3), -20.0)
    for region, item in ((2, 0), (0, 1)):
        masks[0, region] = truth.masks[item] * 40 - 20
        boxes[0, region] = truth.boxes[item]
        objectness[0, region] = 20.0
    nothing = torch.zeros(())
    return RegionState(
        [], [], [], nothing, nothing, nothing, masks, layers=[(masks, boxes, objectness)]
    )


def test_instance_losses_of_a_perfect_answer_are_zero() -> None:
    truth = picture_truth()
    losses, matches = instance_losses(perfect_state(truth), [truth])
    assert {int(k): int(r) for r, k in zip(*matches[0], strict=True)} == {0: 2, 1: 0}
    for name, value in losses.items():
        assert float(value) == pytest.approx(0, abs=1e-4), name


@pytest.mark.parametrize(
    ("part", "factor", "expected"),
    [
        (0, -1.0, {"region_mask", "region_dice"}),
        (1, 0.5, {"box", "giou"}),
        (2, -1.0, {"objectness"}),
    ],
)
def test_instance_losses_name_the_fault(part: int, factor: float, expected: set[str]) -> None:
    truth = picture_truth()
    state = perfect_state(truth)
    state.layers[0][part][0, 2] *= factor
    losses, _ = instance_losses(state, [truth])
    assert {name for name, value in losses.items() if float(value) > 0.05} == expected


def test_of_a_box_only_its_sides_and_what_lies_outside_are_learned() -> None:
    box = torch.zeros(1, 8, 8)
    box[0, 2:6, 1:7] = 1
    disc = torch.full((8, 8), -20.0)  # touches all four sides of the box, leaves its corners out
    for row, columns in ((2, (3, 5)), (3, (1, 7)), (4, (1, 7)), (5, (2, 6))):
        disc[row, slice(*columns)] = 20
    narrow, beyond = disc.clone(), disc.clone()
    narrow[:, :3] = -20  # does not reach the left side
    beyond[7] = 20
    no_outline = torch.tensor([False])
    for logits, right_pixels, right_shadows in (
        (disc, True, True), (box[0] * 40 - 20, True, True),
        (narrow, True, False), (beyond, False, False),
    ):  # fmt: skip
        pixels, dice = mask_losses(logits[None], box, no_outline)
        assert (float(pixels) < 1e-4) == right_pixels
        assert (float(dice) < 1e-4) == right_shadows
    # Of an outline every pixel counts.
    pixels, dice = mask_losses(disc[None], box, torch.tensor([True]))
    assert float(pixels) > 1 and float(dice) > 0.1


def test_what_an_expression_means_is_no_mask_where_one_is_only_a_box() -> None:
    truth = picture_truth()
    out = answer(truth)
    out.target_mask[:2] *= -1  # wrong wherever the second object is meant, or the first
    matches = [(torch.tensor([0, 2]), torch.tensor([1, 0]))]
    known = language_losses(out, [truth], matches, minimap_side=0)
    truth.outlined[1] = False  # the second expression means it, the first does not
    half = language_losses(out, [truth], matches, minimap_side=0)
    assert known["mask"] == pytest.approx(2 / 3 * 20 * 2, rel=0.2)
    assert half["mask"] == pytest.approx(1 / 2 * 20 * 2, rel=0.2)
    truth.outlined[0] = False
    none = language_losses(out, [truth], matches, minimap_side=0)
    assert float(none["mask"]) == pytest.approx(0, abs=1e-4)
    assert "dice" in half and "dice" not in none
    out.layer_targets, out.minimap = [], torch.zeros(3, 4, 2)
    out.minimap[2, :, 0] = 20  # a grid that is right for the expression without a target alone
    cells = language_losses(out, [truth], [matches[0]], minimap_side=2)
    assert float(cells["minimap"]) == pytest.approx(0, abs=1e-4)
    assert none["target"] == known["target"] and none["no_target"] == known["no_target"]


def answer(truth: PictureTruth) -> RelaOutput:
    """A perfect answer to the three expressions."""
    target = torch.full((3, 3), -20.0)
    target[0, 2] = target[1, 2] = target[1, 0] = 20.0
    union = torch.einsum("ek,khw->ehw", truth.meant, truth.masks)
    mask = torch.stack((20 - 40 * union, 40 * union - 20), 1)
    minimap = torch.stack((-target, target), -1)
    no_target = torch.tensor([[20.0, -20.0], [20.0, -20.0], [-20.0, 20.0]])
    count = torch.full((3, 4), -20.0)
    count[0, 1] = count[1, 2] = count[2, 0] = 20.0
    return RelaOutput(
        mask, minimap, no_target, mask, target=target, count=count, layer_targets=[target]
    )


def test_language_losses_of_a_perfect_answer_are_zero() -> None:
    truth = picture_truth()
    matches = [(torch.tensor([0, 2]), torch.tensor([1, 0]))]
    losses = language_losses(answer(truth), [truth], matches, minimap_side=0)
    assert set(losses) == {"target", "mask", "no_target", "minimap", "dice", "count"}
    for name, value in losses.items():
        assert float(value) == pytest.approx(0, abs=1e-4), name


@pytest.mark.parametrize("name", ["target", "no_target", "count", "mask", "minimap"])
def test_language_losses_see_a_wrong_answer(name: str) -> None:
    truth = picture_truth()
    matches = [(torch.tensor([0, 2]), torch.tensor([1, 0]))]
    out = answer(truth)
    wrong = {
        "target": lambda: out.layer_targets[0].neg_(),
        "no_target": lambda: out.no_target.neg_(),
        "count": lambda: out.count.neg_(),  # type: ignore[union-attr]
        "mask": lambda: out.target_mask.neg_(),
        "minimap": lambda: out.minimap.neg_(),
    }
    out.minimap = out.minimap.clone()
    wrong[name]()
    losses = language_losses(out, [truth], matches, minimap_side=0)
    for other, value in losses.items():
        if other == name:
            assert float(value) > 1
        elif not (name == "mask" and other == "dice"):
            assert float(value) == pytest.approx(0, abs=1e-4), other


def test_a_batch_without_any_target_has_no_dice() -> None:
    truth = picture_truth()
    truth.meant = torch.zeros(3, 2)
    matches = [(torch.tensor([0, 2]), torch.tensor([1, 0]))]
    losses = language_losses(answer(truth), [truth], matches, minimap_side=0)
    assert "dice" not in losses
    assert all(torch.isfinite(v) for v in losses.values())


def test_dice_loss() -> None:
    p = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    assert float(dice_loss(p, p)) == pytest.approx(0)
    # (2 * 1 + 1) / (2 + 2 + 1)
    assert float(dice_loss(p, torch.tensor([[1.0, 1.0, 0.0, 0.0]]))) == pytest.approx(1 - 3 / 5)


def test_minimap_counts_only_whole_cells() -> None:
    union = torch.zeros(1, 8, 8)
    union[0, :4] = 1
    union[0, 4:6] = 0.99
    expected = torch.tensor([[1, 1, 0, 0]])  # a 2 x 2 grid samples rows 1.5 and 5.5
    assert torch.equal(minimap_truth(union, 2), expected)


def test_proposal_losses_want_a_peak_at_every_centre() -> None:
    truth = picture_truth()
    heat = torch.full((1, 4, 4), -20.0)
    heat[0, 2, 1] = heat[0, 2, 3] = 20.0
    boxes = torch.full((1, 4, 4, 4), 0.5)
    boxes[0, :, :2], boxes[0, :, 2:] = truth.boxes  # also those of cells near the centres
    found = Proposals(heat, boxes, torch.zeros(()), torch.zeros(()))
    for name, value in proposal_losses(found, [truth]).items():
        assert float(value) == pytest.approx(0, abs=1e-4), name
    found.heat[0, 2, 1] = -20.0
    assert float(proposal_losses(found, [truth])["heat"]) == pytest.approx(20 / 2, rel=1e-3)
    found.heat[0, 2, 1] = 20.0
    found.heat[0, 0, 0] = 20.0  # far from both centres
    assert float(proposal_losses(found, [truth])["heat"]) > 5


def test_cells_around_a_centre_learn_its_box() -> None:
    truth = picture_truth()
    truth.boxes = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    boxes = torch.zeros(1, 16, 16, 4)
    boxes[0, 6:11, 6:11] = truth.boxes[0]  # the middle half of the box, and no cell more
    found = Proposals(torch.zeros(1, 16, 16), boxes, torch.zeros(()), torch.zeros(()))
    torch.manual_seed(0)

    def drawn() -> torch.Tensor:
        return torch.stack([proposal_losses(found, [truth])["cell_box"] for _ in range(20)])

    assert drawn().max() < 1e-5
    right = boxes.clone()
    boxes[:] = 0.1  # off by 1.6 in all
    boxes[0, 8, 8] = truth.boxes[0]  # right at the centre alone, which one of 25 finds
    assert 1.0 < drawn().mean() < 1.6 * 4 / 5
    boxes[:] = right
    boxes[0, 8, 8] = 0.1  # wrong there alone, which is always one of the five
    assert drawn().min() >= 1.6 / 5 - 1e-5


def test_alignment_loss_finds_names_among_phrases() -> None:
    logits = torch.tensor([[9.0, 0.0], [0.0, 9.0], [0.0, 9.0]])
    right = alignment_loss(logits, ["cup", "red cup", "red cup"], ["cup", "red cup"])
    wrong = alignment_loss(logits, ["red cup", "cup", "cup"], ["cup", "red cup"])
    assert float(right) < 1e-3 < 8 < float(wrong)


def test_every_loss_has_a_weight() -> None:
    with pytest.raises(AttributeError):
        weighted_sum({"unknown": torch.ones(())}, LossWeights())
    assert math.isclose(float(weighted_sum({"box": torch.tensor(2.0)}, LossWeights(box=3.0))), 6.0)
