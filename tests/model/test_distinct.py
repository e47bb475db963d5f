"""Regions at boxes that differ: which cells they start from, and which of them are heard of."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from grex_ros.model.config import RelaConfig
from grex_ros.model.distinct import STEPS, box_overlap, distinct
from grex_ros.model.engine_check import drawn_picture
from grex_ros.model.proposals import RegionProposals
from grex_ros.model.region_decoder import SAME, RegionDecoder, RegionState
from grex_ros.model.rela import ReLA
from tests.model.test_rela import SMALL, encode, picture
from training.criterion import PictureTruth, instance_losses

NUMBER = st.floats(0.1, 0.9)
BOXES = st.lists(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER), min_size=1, max_size=STEPS + 1)


def test_overlap_of_boxes() -> None:
    a = torch.tensor([[0.5, 0.5, 0.4, 0.4]])
    b = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.7, 0.5, 0.4, 0.4], [0.1, 0.1, 0.1, 0.1]])
    torch.testing.assert_close(box_overlap(a, b), torch.tensor([[1, 1 / 3, 0]]))


@given(BOXES, st.sampled_from((0.3, 0.5, 0.7)))
@settings(deadline=None)
def test_the_better_box_stands_as_in_greedy_suppression(
    boxes: list[tuple[float, ...]], same: float
) -> None:
    found = torch.tensor(boxes)
    over = box_overlap(found, found)
    kept: list[int] = []
    for i in range(len(found)):
        if not any(over[i, k] > same for k in kept):
            kept.append(i)
    assert distinct(found[None], same)[0].nonzero()[:, 0].tolist() == kept


def test_what_a_dropped_box_covers_stays() -> None:
    """Of three in a row, each over the next alone, the first takes the second's place, and the
    third is its own object."""
    row = torch.tensor([[0.3, 0.5, 0.2, 0.2], [0.35, 0.5, 0.2, 0.2], [0.4, 0.5, 0.2, 0.2]])
    assert distinct(row[None], 0.5).tolist() == [[True, False, True]]
    assert distinct(row.flip(0)[None], 0.5).tolist() == [[True, False, True]]
    assert distinct(row[None].half(), 0.7).all()


def proposals(distinct_regions: bool) -> RegionProposals:
    return RegionProposals(SMALL.replace(regions=4, distinct_regions=distinct_regions))


def chosen(rule: RegionProposals, heat: Tensor, boxes: Tensor) -> list[int]:
    warmth, cells = rule._candidates(heat[None])
    if rule.distinct:
        cells = cells.gather(1, rule._differing(warmth, boxes.flatten(0, 1)[cells]))
    return cells[0].tolist()


def test_an_object_beside_a_warmer_cell_gets_a_region() -> None:
    """Two objects whose centres lie in cells side by side, the second partly hidden by the first,
    and a long one of which two cells far apart are warm."""
    heat = torch.full((6, 6), -6.0)
    boxes = torch.tensor([0.5, 0.5, 0.05, 0.05]).repeat(6, 6, 1)
    boxes[..., 0] = torch.arange(6) / 6
    boxes[..., 1] = torch.arange(6)[:, None] / 6
    heat[1, 1], boxes[1, 1] = 3.0, torch.tensor([0.2, 0.2, 0.1, 0.3])
    heat[1, 2], boxes[1, 2] = 1.0, torch.tensor([0.3, 0.2, 0.3, 0.1])  # beside it
    long = torch.tensor([0.5, 0.8, 0.9, 0.1])
    heat[5, 1], boxes[5, 1] = 2.0, long
    heat[5, 4], boxes[5, 4] = 1.5, long  # it once more
    assert chosen(proposals(True), heat, boxes)[:3] == [7, 31, 8]
    assert chosen(proposals(True), heat, boxes)[3] not in (7, 8, 31, 34)
    assert chosen(proposals(False), heat, boxes)[:3] == [7, 31, 34]


@pytest.mark.parametrize("rule", [True, False])
def test_there_are_always_as_many_regions(rule: bool) -> None:
    box = torch.tensor([0.5, 0.5, 0.9, 0.9])
    few = chosen(proposals(rule), torch.arange(3.0).view(1, 3), box.repeat(1, 3, 1))
    assert len(few) == 4 and set(few) == {0, 1, 2} and few[0] == 2
    flat = chosen(proposals(rule), torch.zeros(5, 5), box.repeat(5, 5, 1))
    assert len(set(flat)) == 4


def some_state(boxes: list[list[float]], objectness: list[float]) -> RegionState:
    """Of one picture; region i is full of the number i."""
    count = len(boxes)
    number = torch.arange(float(count))
    state = RegionState(
        [], [], [], torch.zeros(1, 8, 4, 4),
        regions=number.view(-1, 1, 1).repeat(1, 1, 8),
        region_position=number.view(-1, 1, 1).repeat(1, 1, 8),
        masks=number.view(1, -1, 1, 1).repeat(1, 1, 4, 4),
        boxes=torch.tensor([boxes]),
        objectness=torch.tensor([objectness]),
    )  # fmt: skip
    assert state.boxes is not None and state.objectness is not None
    state.layers.append((state.masks, state.boxes, state.objectness))
    return state


def test_of_two_regions_on_one_object_the_likelier_stays() -> None:
    twins = [[0.3, 0.3, 0.2, 0.2], [0.31, 0.3, 0.2, 0.2]]
    state = some_state([*twins, [0.7, 0.7, 0.2, 0.2], [0.1, 0.9, 0.1, 0.1]], [1.0, 3.0, 0.5, -5.0])
    before = state.layers[0]
    RegionDecoder._drop_twins(state)
    order = [1, 3, 2, 3]  # best first; region 0, the second best, made room for the least likely
    assert state.boxes is not None and state.objectness is not None
    for found in (state.regions[:, 0, 0], state.region_position[:, 0, 0], state.masks[0, :, 0, 0]):
        assert found.tolist() == order
    assert state.boxes.equal(before[1][:, order]) and state.objectness.equal(before[2][:, order])
    assert len(state.layers) == 1 and all(
        kept is own for kept, own in zip(state.layers[0], before, strict=True)
    )


@torch.no_grad()
def test_no_two_regions_that_are_heard_of_lie_over_each_other() -> None:
    torch.manual_seed(0)
    cfg = SMALL.replace(regions=36, coco_detector=False)
    apart, together = ReLA(cfg).eval(), ReLA(cfg.replace(distinct_regions=False)).eval()
    together.load_state_dict(apart.state_dict())
    dropped = []
    for model in (apart, together):
        # Untrained boxes are all of one size; large ones lie over each other.
        model.region_decoder.proposals.box.layers[1].bias[2:] = 3.0
        state = encode(model, [drawn_picture(96, 128).byte(), picture(2, 96, 128)])
        assert state.boxes is not None and state.regions.shape[0] == 36
        dropped.append(not state.layers[-1][1].equal(state.boxes))
        for boxes in state.boxes:
            over = box_overlap(boxes, boxes).tril(-1) > SAME
            same = (boxes[:, None] == boxes).all(-1)
            if model is apart:  # but for copies of the least likely one
                assert not (over & ~same).any()
            else:
                assert over.any()
    assert dropped == [True, False]


def test_the_words_learn_of_the_regions_that_are_left() -> None:
    """The likelier of two regions on an object stays, though the other one fits better."""
    better, worse, other = [0.3, 0.3, 0.2, 0.2], [0.33, 0.3, 0.2, 0.2], [0.7, 0.7, 0.2, 0.2]
    state = some_state([better, worse, other, [0.1, 0.9, 0.1, 0.1]], [0.0, 3.0, 1.0, -5.0])
    state.masks = state.masks * 0
    state.layers = [(state.masks, *state.layers[0][1:])]
    truth = PictureTruth(
        torch.zeros(2, 4, 4), torch.tensor([better, other]), torch.ones(1, 2), ["a", "b"],
        torch.ones(2, dtype=torch.bool),
    )  # fmt: skip
    losses, [(regions, objects)] = instance_losses(dataclasses.replace(state), [truth])
    assert list(zip(regions.tolist(), objects.tolist(), strict=True)) == [(0, 0), (2, 1)]
    RegionDecoder._drop_twins(state)
    assert state.boxes is not None
    after, [(regions, objects)] = instance_losses(state, [truth])
    found = state.boxes[0, regions[objects.argsort()]]
    torch.testing.assert_close(found, torch.tensor([worse, other]))
    assert after.keys() == losses.keys()
    for name, value in after.items():  # all regions learn whether they are objects
        np.testing.assert_allclose(float(value), float(losses[name]), err_msg=name)


def test_it_needs_proposals() -> None:
    with pytest.raises(ValueError, match="distinct_regions needs region_proposals"):
        RelaConfig.preset("tabletop").replace(region_proposals=False)
