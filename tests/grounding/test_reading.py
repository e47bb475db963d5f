"""Masks and scores to objects."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grex_ros.grounding.grounder import Grounder
from grex_ros.grounding.objects import Cropped, Grounding, Status
from grex_ros.grounding.reading import (
    Thresholds,
    objects_from_mask,
    objects_from_regions,
    target_probability,
)
from grex_ros.model.config import RelaConfig
from grex_ros.model.rela import ReLA, official_decision
from grex_ros.model.text_encoder import tokenizer_for


def squares(*boxes: tuple[int, int, int, int], value: float = 0.9) -> torch.Tensor:
    probability = torch.full((40, 60), 0.1)
    for x0, y0, x1, y1 in boxes:
        probability[y0:y1, x0:x1] = value
    return probability


def test_connected_parts_are_objects() -> None:
    probability = squares((2, 3, 12, 13), (30, 20, 50, 30))
    probability[3:13, 2:12] = 0.7
    first, second = objects_from_mask(probability, 0.5, 0.0, 0.5)
    assert (first.id, first.box, second.id, second.box) == (1, (30, 20, 50, 30), 2, (2, 3, 12, 13))
    assert first.score == pytest.approx(0.45) and second.score == pytest.approx(0.35)
    assert first.mask.all() and first.mask.shape == (10, 20)


def test_specks_and_unsure_parts_are_left_out() -> None:
    probability = squares((2, 3, 32, 33), (40, 20, 42, 22))
    assert len(objects_from_mask(probability, 0.5, 0.0, 1.0)) == 1
    assert objects_from_mask(probability, 0.5, 0.95, 1.0) == ()
    assert objects_from_mask(probability, 0.95, 0.0, 1.0) == ()


def test_a_part_inside_the_box_of_another_is_not_its_mask() -> None:
    ring = squares((5, 5, 35, 35))
    ring[10:30, 10:30] = 0.1
    ring[15:25, 15:25] = 0.9
    outer, inner = sorted(objects_from_mask(ring, 0.5, 0.0, 1.0), key=lambda o: -int(o.mask.sum()))
    assert (outer.box, inner.box) == ((5, 5, 35, 35), (15, 15, 25, 25))
    assert outer.mask.sum() == 500 and inner.mask.sum() == 100


def test_of_two_regions_on_one_object_the_better_stands() -> None:
    boxes = ((2, 3, 22, 23), (2, 3, 22, 20), (30, 3, 50, 9))
    masks: list[Cropped | None] = [(b, np.ones((b[3] - b[1], b[2] - b[0]), bool)) for b in boxes]
    objects = objects_from_regions([0.9, 0.8, 0.75, 0.7], [*masks[:2], None, masks[2]], (40, 60))
    assert [(item.id, item.score) for item in objects] == [(1, 0.9), (2, 0.7)]
    assert [item.box for item in objects] == [boxes[0], boxes[2]]


def test_a_neighbour_whose_mask_spills_over_another_is_an_object_of_its_own() -> None:
    """Unless it lies in the other: every object has its pixels in the label image."""
    large, spilling, inside = (0, 0, 30, 30), (18, 0, 38, 10), (5, 3, 15, 13)
    part = (0, 0, 30, 14)  # half of the large one, but for a row
    boxes = (large, spilling, inside, part)
    masks: list[Cropped | None] = [(b, np.ones((b[3] - b[1], b[2] - b[0]), bool)) for b in boxes]
    objects = objects_from_regions([0.9, 0.8, 0.7, 0.6], masks, (40, 60))
    assert [item.box for item in objects] == [large, spilling]
    turned = objects_from_regions([0.9, 0.8, 0.7, 0.6], masks[::-1], (40, 60))
    assert [item.box for item in turned] == [part, spilling, large]
    labels = Grounding("all", Status.TARGETS, "", 0.0, turned, (40, 60), 0.0).label_image()
    assert set(np.unique(labels)) == {0, 1, 2, 3}


def test_an_official_preset_answers_what_its_decision_says() -> None:
    """Without instance heads the objects are the parts of the official mask."""
    torch.manual_seed(1)
    cfg = RelaConfig.preset("tiny").replace(image_size=96)
    model = ReLA(cfg).eval()
    grounder = Grounder(model, tokenizer_for(cfg), "tiny", Thresholds(target=0.0, no_target=1.0))
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    grounder.set_image(image)
    texts = ["the cup", "all red cups to the left"]
    answers = grounder.ground(texts)
    tokens, mask = grounder.tokenizer(texts, cfg.max_tokens)
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    with torch.inference_mode():
        out = model([pixels, pixels], tokens, mask)
        decision, _ = official_decision(out, (96, 96))
        probability = target_probability(out.target_mask[0])
    assert 0 < float(probability.min()) and float(probability.max()) < 1  # nothing saturates
    assert decision.any() and not decision.all()
    for answer, official in zip(answers, decision, strict=True):
        assert (answer.status is Status.TARGETS) == bool(official.any())
        found = answer.mask() > 0
        assert not (found & ~official.numpy()).any()
        # All but the specks.
        assert (official.numpy() & ~found).sum() <= 0.3 * official.sum()
