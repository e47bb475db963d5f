"""What the trunk sees of likely objects close up; untrained, it says nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from grex_ros.model import close_look, mask_refiner
from grex_ros.model.close_look import CELLS, REACH, SIDE, close_crops, close_masks, likely_objects
from grex_ros.model.efficientnet import EfficientNetLite0, LateStages
from grex_ros.model.mask_refiner import cut
from grex_ros.model.region_decoder import RegionState
from grex_ros.model.rela import ReLA
from tests.model.test_inference import looking
from tests.model.test_rela import SMALL, encode, picture

PLAIN = SMALL.replace(close_looks=0)


def state_of(model: ReLA, likely: int) -> RegionState:
    """The state of a picture, ``likely`` of whose regions are surely objects and no other is."""
    state = encode(model, [picture(1)])
    state.objectness = torch.full((1, SMALL.regions), -9.0)
    state.objectness[0, 3 : 3 + likely] = 9.0
    return state


@torch.no_grad()
def test_a_new_part_says_nothing_and_a_trained_one_of_likely_objects_alone() -> None:
    torch.manual_seed(0)
    without, model = ReLA(PLAIN).eval(), ReLA(SMALL).eval()
    missing = model.load_state_dict(without.state_dict(), strict=False).missing_keys
    assert missing and all(name.startswith("close_look.") for name in missing)
    before = state_of(model, 5)
    seen, whole = picture(1), picture(1, 128, 192)
    assert torch.equal(model.look_close(before, seen, whole).regions, before.regions)
    assert without.look_close(before, seen, whole) is before

    model = looking(SMALL)
    before = state_of(model, 5)
    after = model.look_close(before, seen, whole)
    changed = (after.regions != before.regions).any(2)[:, 0]
    assert changed.nonzero()[:, 0].tolist() == [3, 4, 5, 6, 7]
    assert after.masks is before.masks and after.boxes is before.boxes


@torch.no_grad()
def test_no_crop_is_cut_where_nothing_is_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    model = looking(SMALL.replace(close_looks=4))
    seen, whole = picture(1), picture(1, 128, 192)
    none = state_of(model, 0)
    assert model.look_close(none, seen, whole) is none
    cut = []

    def spy(boxes: Tensor, *given: object) -> Tensor:
        cut.append(len(boxes))
        return torch.zeros(len(boxes), 3, SIDE, SIDE)

    monkeypatch.setattr(close_look, "close_crops", spy)
    for likely in (2, 9):  # of nine the four best
        model.look_close(state_of(model, likely), seen, whole)
    assert cut == [2, 4]


def test_the_most_likely_come_first() -> None:
    objectness = torch.tensor([[-4.0, 3.0, -9.0, 0.0], [-9.0, -9.0, -9.0, 5.0]])
    where, likely = likely_objects(objectness, 2)
    assert where[0].tolist() == [1, 3] and where[1, 0] == 3
    assert likely.tolist() == [[True, True], [True, False]]
    assert likely_objects(objectness, 9)[0].shape == (2, 4)  # of so few regions all


@torch.no_grad()
def test_a_crop_is_a_square_of_the_picture_at_its_own_size() -> None:
    """Stripes of one pixel, which the picture as the model sees it does not have."""
    whole = torch.zeros(3, 96, 192, dtype=torch.uint8)
    whole[:, 20:60, 80:120:2] = 200  # an object of 40 x 40, of which every other column is light
    seen = torch.nn.functional.avg_pool2d(whole.float(), 4).byte()
    assert seen[:, 6:14, 21:29].float().std() == 0
    box = torch.tensor([[100 / 192, 40 / 96, 40 / 192, 30 / 96]])  # the longer side decides
    crops = close_crops(box, (24, 48), seen, whole)
    assert crops.shape == (1, 3, SIDE, SIDE)
    lit = crops[0, 0] > 20
    side = round(SIDE / REACH)  # of the object in the crop
    assert abs(int(lit.any(1).sum()) - side) <= 2
    inside = crops[0, 0, SIDE // 2, SIDE // 4 : -SIDE // 4]
    assert inside.max() > 150 and inside.min() < 50  # the stripes are there
    assert crops[0, 0, :8].max() == 0  # and what is around the object


def test_large_objects_come_from_what_has_a_pixel_for_each_of_the_crop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And a crop is the same with others and alone, and as a GPU, which cuts all, has it."""
    generator = torch.Generator().manual_seed(0)
    seen = torch.randint(0, 256, (3, 96, 128), generator=generator, dtype=torch.uint8)
    whole = torch.randint(0, 256, (3, 720, 960), generator=generator, dtype=torch.uint8)
    seen_wide = torch.randint(0, 256, (3, 480, 640), generator=generator, dtype=torch.uint8)
    # Squares of so many pixels of the whole picture, and where they are to come from.
    cases = [
        (seen, [(104, whole, 1), (208, whole, 2), (416, seen, 1)]),
        (seen_wide, [(104, whole, 1), (208, seen_wide, 1), (416, seen_wide, 2)]),
    ]
    for sees, expected_from in cases:
        padded = (sees.shape[1], sees.shape[2])
        sides = [side / REACH / 960 for side, _, _ in expected_from]
        boxes = torch.tensor(
            [[x, 0.5, w, 0.02] for x, w in zip((0.5, 0.1, 0.4), sides, strict=True)]
        )
        together = close_crops(boxes, padded, sees, whole)
        with monkeypatch.context() as patch:
            patch.setattr(mask_refiner, "some_crops", mask_refiner.all_crops)
            by_gpu = close_crops(boxes, padded, sees, whole)
        torch.testing.assert_close(by_gpu, together, atol=2e-2, rtol=0)
        for i, (side, source, samples) in enumerate(expected_from):
            alone = close_crops(boxes[i : i + 1], padded, sees, whole)
            torch.testing.assert_close(alone[0], together[i], atol=2e-2, rtol=0)
            centre = boxes[i, :2] * torch.tensor((source.shape[2], source.shape[1]))
            half = side / 2 * source.shape[2] / 960
            corners = torch.cat((centre - half, centre + half))[None]
            expected = cut(source.float(), corners, samples * SIDE)
            expected = torch.nn.functional.avg_pool2d(expected, samples)
            torch.testing.assert_close(alone, expected, atol=5e-2, rtol=0)


@torch.no_grad()
def test_the_late_stages_go_on_where_the_trunk_begins() -> None:
    torch.manual_seed(0)
    trunk, late = EfficientNetLite0(), LateStages()
    late.copy(trunk)
    images = torch.randn(2, 3, 64, 96)
    _, fine, *coarser = trunk(images)
    assert torch.equal(trunk.begin(images), fine)
    for ours, theirs in zip(late(fine), coarser, strict=True):
        assert torch.equal(ours, theirs)
    assert not any(m.training for m in late.train().modules() if isinstance(m, nn.BatchNorm2d))


def test_a_mask_lies_in_its_square_as_the_object_lies_in_the_crop() -> None:
    """An object of two cells by four, in a mask of another that covers the picture's right half."""
    logits = torch.full((2, 24, 48), -20.0)
    logits[0, 10:14, 6:8] = 20.0
    logits[1, :, 24:] = 20.0
    boxes = torch.tensor([[7 / 48, 12 / 24, 2 / 48, 4 / 24], [24 / 48, 12 / 24, 6 / 48, 12 / 24]])
    one, other = close_masks(logits, boxes)
    assert one.shape == other.shape == (CELLS, CELLS)
    middle = CELLS // 2
    high, wide = ((one > 0.5).any(axis).sum() for axis in (1, 0))
    assert abs(int(high) - CELLS / REACH) <= 1 and abs(int(wide) - CELLS / REACH / 2) <= 1
    assert one[middle, middle] > 0.99 and one[0].max() < 0.01  # beyond the square's margin: none
    assert other[:, : middle - 1].max() < 0.01 and other[:, middle + 1 :].min() > 0.99
    # Beyond the picture's edge it goes on, and a box that is no number is answered, too.
    edge = close_masks(logits[1:], torch.tensor([[1.0, 0.5, 0.1, 0.1]]))
    assert edge.min() > 0.99
    assert close_masks(logits[:1], torch.full((1, 4), float("nan"))).isfinite().all()


@torch.no_grad()
def test_what_is_said_hangs_on_pixels_mask_region_and_box() -> None:
    model = looking(SMALL)
    torch.manual_seed(1)
    crops, masks = torch.rand(2, 3, SIDE, SIDE) * 255, torch.rand(2, CELLS, CELLS)
    regions, boxes = torch.randn(2, SMALL.hidden_dim), torch.rand(2, 4)
    given = crops, masks, regions, boxes
    told = model.tell_close(*given)
    assert told.shape == regions.shape
    alone = model.tell_close(*(part[:1] for part in given))  # each for itself
    torch.testing.assert_close(alone, told[:1], atol=1e-5, rtol=1e-5)
    for other in (
        (255 - crops, masks, regions, boxes),
        (crops, 1 - masks, regions, boxes),
        (crops, masks, -regions, boxes),
        (crops, masks, regions, -boxes),
    ):
        assert (model.tell_close(*other) - told).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"close_looks": -1}, "close_looks must not be negative, not -1"),
        ({"close_looks": 4, "backbone": "resnet50"}, "needs the trunk efficientnet_lite0"),
    ],
)
def test_a_config_that_cannot_look_is_refused(changes: dict[str, int], said: str) -> None:
    base = SMALL.replace(region_semantics=False, close_looks=0)
    with pytest.raises(ValueError, match=said):
        base.replace(**changes)
