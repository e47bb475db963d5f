"""From objects to an expression: what is taken, what is answered, and how it is verified."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from grex_ros.grounding.description import (
    GivenObject,
    RegionError,
    read_regions,
    same_objects,
)
from grex_ros.grounding.grounder import Grounder
from grex_ros.grounding.objects import GroundedObject, Grounding, Status
from grex_ros.grounding.pictures import given_tensors
from grex_ros.grounding.reading import Thresholds
from grex_ros.model.checkpoint import CheckpointError
from grex_ros.model.exported import ExportedReLA
from grex_ros.model.inference import GraphedModel
from grex_ros.model.region_decoder import RegionState
from grex_ros.model.rela import ReLA
from grex_ros.model.text_encoder import tokenizer_for
from tests.model.test_rela import DESCRIBING as CFG

BOX = (10, 20, 40, 60)


def small_grounder(cfg=CFG) -> Grounder:
    torch.manual_seed(0)
    model = ReLA(cfg)
    if model.generation is not None:
        torch.nn.init.normal_(model.generation.word_embed.weight, std=0.3)  # sentences differ
    grounder = Grounder(model, tokenizer_for(cfg), "small@0", Thresholds())
    grounder.move(torch.device("cpu"))
    return grounder


def picture(height: int = 90, width: int = 120) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


def mask_of(box: Sequence[int], height: int = 90, width: int = 120) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    x0, y0, x1, y1 = box
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.fixture(scope="module")
def grounder() -> Grounder:
    grounder = small_grounder()
    grounder.set_image(picture())
    return grounder


def test_boxes_and_masks_are_described(grounder: Grounder) -> None:
    for regions in ([BOX], [mask_of(BOX)], [mask_of(BOX).astype(np.uint8) * 255, (50, 5, 90, 80)]):
        found = grounder.describe(regions)
        assert found.text in found.candidates
        assert len(set(found.candidates)) == len(found.candidates) >= 4
        assert all(set(text.split()) <= set(CFG.generation_words) for text in found.candidates)
        assert np.isfinite(found.score)
        assert found.latency > 0
        assert found.verified in (True, False)
        greedy = grounder.describe(regions, beams=1, verify=False)
        assert greedy.verified is None
        assert greedy.candidates == (greedy.text,)
        assert greedy.text in found.candidates


def test_describing_leaves_grounding_alone(grounder: Grounder) -> None:
    (before,) = grounder.ground(["the red cup"])
    grounder.describe([BOX])
    (after,) = grounder.ground(["the red cup"])
    assert dataclasses.replace(after, latency=before.latency) == before
    first, again = grounder.describe([BOX]), grounder.describe([BOX])
    assert (first.candidates, first.score) == (again.candidates, again.score)


def test_the_first_expression_that_means_the_set_is_preferred(
    grounder: Grounder, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = grounder.describe([BOX]).candidates
    x0, y0, x1, y1 = BOX
    right = GroundedObject(1, 0.9, BOX, np.ones((y1 - y0, x1 - x0), bool))
    wrong = GroundedObject(2, 0.8, (60, 20, 90, 60), np.ones((40, 30), bool))

    def answer_with(means: dict[str, tuple[GroundedObject, ...]]) -> None:
        def ground(texts: Sequence[str]) -> list[Grounding]:
            found = [means.get(text, (right, wrong)) for text in texts]
            return [
                Grounding(t, Status.TARGETS, "", 0.0, o, (90, 120), 0.0)
                for t, o in zip(texts, found, strict=True)
            ]

        monkeypatch.setattr(grounder, "ground", ground)

    answer_with({candidates[1]: (wrong,), candidates[2]: (right,), candidates[3]: (right,)})
    found = grounder.describe([BOX])
    assert (found.text, found.verified) == (candidates[2], True)
    answer_with({})
    found = grounder.describe([BOX])
    assert (found.text, found.verified) == (candidates[0], False)
    assert grounder.describe([BOX], verify=False).text == candidates[0]


class _LessOfAState(ExportedReLA):
    """What other engines give of a picture: no mask features."""

    def __init__(self, model: ReLA) -> None:
        self.model, self.pictures = model, 0

    def encode_image(self, images, words=None, word_mask=None) -> RegionState:  # type: ignore[no-untyped-def]
        self.pictures += 1
        state = self.model.encode_image(images)
        nothing = state.masks.new_empty(1, 0, 0, 0)
        kept = (state.regions, state.region_position, state.masks)
        boxes, objectness = state.boxes, state.objectness
        return RegionState([], [], [], nothing, *kept, boxes=boxes, objectness=objectness)

    def look_close(self, *given) -> RegionState:  # type: ignore[no-untyped-def]
        return self.model.look_close(*given)


def test_other_engines_describe_as_torch_does(grounder: Grounder) -> None:
    wanted = grounder.describe([BOX, (70, 10, 110, 50)], verify=False)
    other = small_grounder()
    engine = _LessOfAState(other.model)
    for runner in (engine, GraphedModel(other.model)):
        other.engine = runner
        for seed in (1, 0):  # another picture first: its state must not stay
            image = picture() if seed == 0 else np.zeros((90, 120, 3), np.uint8)
            other.set_image(image)
            found = other.describe([BOX, (70, 10, 110, 50)], verify=False)
        assert found.candidates == wanted.candidates
        assert found.score == pytest.approx(wanted.score, abs=1e-5)
    assert engine.pictures == 2


def test_half_precision(grounder: Grounder) -> None:
    half = small_grounder()
    half.move(torch.device("cpu"), "bfloat16")
    half.set_image(picture())
    wanted = grounder.describe([BOX, mask_of(BOX)], beams=1, verify=False)
    found = half.describe([BOX, mask_of(BOX)])
    assert np.isfinite(found.score)
    assert half.describe([BOX, mask_of(BOX)], beams=1).score == pytest.approx(wanted.score, abs=0.2)


def test_what_cannot_be_used_is_named(grounder: Grounder) -> None:
    for regions, message in (
        ([], "no object to describe"),
        ([BOX, (1, 2, 3)], "object 2 is no box of four numbers"),
        ([(1, 2, float("nan"), 4)], "object 1 is no box"),
        ([BOX, BOX, (40, 20, 10, 60)], "box of object 3, 40, 20, 10, 60, has no pixel"),
        ([(500, 500, 600, 600)], "has no pixel of the picture of 120 x 90"),
        ([np.zeros((90, 120), bool)], "mask of object 1 is empty"),
        ([np.ones((12, 9), bool)], "mask of object 1 has 9 x 12 pixels, the picture 120 x 90"),
        (["left"], "object 1 is"),
        ([(1, 2, "x", 4)], "object 1 is neither a box nor a mask"),
    ):
        with pytest.raises(RegionError, match=message):
            grounder.describe(regions)  # type: ignore[arg-type]
    for beams in (0, 17):
        with pytest.raises(ValueError, match="beams must be 1 to 16"):
            grounder.describe([BOX], beams=beams)


def test_without_a_picture_or_a_head() -> None:
    grounder = small_grounder()
    with pytest.raises(RuntimeError, match="set_image"):
        grounder.describe([BOX])
    for cfg in (CFG.replace(generation_layers=0), CFG.replace(generation_words=())):
        silent = small_grounder(cfg)
        silent.set_image(picture())
        with pytest.raises(
            CheckpointError, match="this checkpoint has no generation head: small@0"
        ):
            silent.describe([BOX])


def test_not_a_number_is_no_description(grounder: Grounder) -> None:
    broken = small_grounder()
    assert broken.model.generation is not None
    broken.model.generation.word_bias.fill_(torch.nan)
    broken.set_image(picture())
    with pytest.raises(FloatingPointError):
        broken.describe([BOX])


def test_regions_are_cut_at_the_picture() -> None:
    (box,) = read_regions([(-5, 10.5, 300, 80)], (90, 120))
    assert box == GivenObject((0, 10.5, 120, 80))
    (masked,) = read_regions([mask_of(BOX)], (90, 120))
    assert masked.box == BOX and masked.mask is not None


def test_the_same_set() -> None:
    def found(*boxes: tuple[int, int, int, int]) -> list[GroundedObject]:
        return [
            GroundedObject(k, 1.0, (x0, y0, x1, y1), np.ones((y1 - y0, x1 - x0), bool))
            for k, (x0, y0, x1, y1) in enumerate(boxes, 1)
        ]

    a, b = (0, 0, 20, 10), (50, 50, 60, 60)
    given = [GivenObject(a), GivenObject(b)]
    assert same_objects(found(b, a), given)
    assert not same_objects(found(a), given)
    assert not same_objects(found(a, b, (80, 0, 90, 9)), given)
    assert not same_objects(found(a, a), given)
    assert same_objects(found((0, 0, 10, 10)), given[:1])  # an IoU of exactly a half
    assert not same_objects(found((0, 0, 9, 10)), given[:1])
    # Two candidates for one: the better takes it, and the other is left for the second.
    near, nearer = (0, 0, 16, 10), (0, 0, 18, 10)
    assert same_objects(found(near, nearer), [GivenObject((0, 0, 17, 10)), GivenObject(a)])
    # The mask decides where there is one.
    ring = mask_of((0, 0, 20, 20))
    ring[4:16, 4:16] = False
    assert not same_objects(found((4, 4, 16, 16)), [GivenObject((0, 0, 20, 20), ring)])
    assert same_objects(found((0, 0, 20, 20)), [GivenObject((0, 0, 20, 20), ring)])


def test_given_objects_at_the_size_of_the_model() -> None:
    """A picture of 120 x 90 that the model sees as 96 x 72 and pads to 96 x 96."""
    given = [GivenObject((0, 0, 60, 45)), GivenObject((0, 0, 60, 45), mask_of((0, 0, 60, 45)))]
    boxes, inside, masked = given_tensors(given, (90, 120), (72, 96), (24, 24))
    torch.testing.assert_close(boxes, torch.tensor([[0.25, 0.1875, 0.5, 0.375]] * 2))
    assert masked.tolist() == [False, True]
    wanted = torch.zeros(24, 24)
    wanted[:9, :12] = 1
    torch.testing.assert_close(inside, torch.stack((wanted, wanted)), rtol=0, atol=1e-6)
