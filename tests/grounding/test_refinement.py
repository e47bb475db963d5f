"""Masks have their places in the picture at every size, follow its edges, and none is lost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from grex_ros.grounding import refinement
from grex_ros.grounding.grounder import Grounder
from grex_ros.grounding.objects import Cropped
from grex_ros.grounding.pictures import full_size
from grex_ros.grounding.reading import Thresholds
from grex_ros.grounding.refinement import Draw, RegionMasks, place
from grex_ros.model.checkpoint import DEFAULT_CHECKPOINT, load_checkpoint
from grex_ros.model.mask_refiner import surroundings
from grex_ros.model.rela import STRIDE

SEEN = (120, 160)
WHOLE = torch.tensor([[0.5, 0.5, 1.0, 1.0]]).expand(3, 4)  # boxes that cut nothing off


def discs(size: tuple[int, int], *circles: tuple[float, float, float]) -> torch.Tensor:
    """(N, H, W) bool; middle x, y and radius as parts of the picture's width."""
    y, x = torch.meshgrid(*(torch.arange(n) + 0.5 for n in size), indexing="ij")
    return torch.stack(
        [
            (x - a * size[1]) ** 2 + (y - b * size[1]) ** 2 < (r * size[1]) ** 2
            for a, b, r in circles
        ]
    )


def photograph(inside: torch.Tensor) -> torch.Tensor:
    """(3, H, W) uint8: a red thing on a grey, noisy table."""
    noise = torch.randn((3, *inside.shape), generator=torch.Generator().manual_seed(0))
    colors = torch.where(inside, torch.tensor([190, 60, 50])[:, None, None], 120)
    return (colors + 6 * noise).clamp(0, 255).byte()


def cells(inside: torch.Tensor) -> torch.Tensor:
    """Logits of cells as a model would draw the discs: (N, h/4, w/4) of the padded picture."""
    h, w = inside.shape[1:]
    padded = F.pad(inside.float(), (0, -w % STRIDE, 0, -h % STRIDE))
    covered = F.avg_pool2d(F.avg_pool2d(padded, 3, 1, 1), 4)
    return 8 * covered - 4


def iou(cropped: Cropped | None, truth: torch.Tensor) -> float:
    assert cropped is not None
    (x0, y0, x1, y1), mask = cropped
    assert mask.shape == (y1 - y0, x1 - x0) and mask.dtype == bool
    assert mask[0].any() and mask[-1].any() and mask[:, 0].any() and mask[:, -1].any()
    found = np.zeros(tuple(truth.shape), bool)
    found[y0:y1, x0:x1] = mask
    other = truth.numpy()
    return float((found & other).sum() / (found | other).sum())


def plain(
    logits: torch.Tensor, boxes: torch.Tensor, seen: torch.Tensor, whole: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """As a model without a refiner draws."""
    corners, _, coarse = surroundings(logits, boxes, seen, whole, 64)
    return coarse, corners


def around(inside: torch.Tensor, grow: float = 1.0) -> torch.Tensor:
    """Boxes (N, 4) of what is ``inside`` pictures of SEEN, as parts of the padded one."""
    boxes = []
    for mask in inside:
        y, x = (torch.nonzero(mask.any(axis)).flatten() for axis in (1, 0))
        low, high = torch.stack((x[0], y[0])), torch.stack((x[-1], y[-1])) + 1
        boxes.append(torch.cat(((low + high) / 2, grow * (high - low))))
    padded = torch.tensor([160.0, 128.0, 160.0, 128.0])  # SEEN, to full strides
    return torch.stack(boxes) / padded


@pytest.fixture(scope="module")
def trained() -> Draw:
    """As the model in the package draws."""
    model = load_checkpoint(DEFAULT_CHECKPOINT)[0]
    assert model.mask_refiner is not None

    @torch.inference_mode()
    def draw(*given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return model.draw_masks(*given)

    return draw


@pytest.mark.parametrize("size", [SEEN, (480, 640), (300, 400)])
def test_edges_are_where_the_picture_has_them(size: tuple[int, int], trained: Draw) -> None:
    circle = (0.43, 0.31, 0.071)
    truth, seen = discs(size, circle), discs(SEEN, circle)
    pictures, given = (photograph(seen[0]), photograph(truth[0])), (cells(seen), around(seen))
    drawn, refined = (
        iou(RegionMasks(draw, *pictures)(*given, [0], 0.5)[0], truth[0])
        for draw in (plain, trained)
    )
    assert refined > 0.95 and 1 - refined < 0.6 * (1 - drawn)


def test_a_thing_of_the_same_colour_beside_it_is_not_taken(trained: Draw) -> None:
    two = discs((120, 160), (0.3, 0.4, 0.06), (0.43, 0.4, 0.06))  # two pixels between them
    image = photograph(two.any(0))
    masks = RegionMasks(trained, image, image)(cells(two), around(two), [0, 1], 0.5)
    for mask, truth in zip(masks, two, strict=True):
        assert iou(mask, truth) > 0.9


@pytest.mark.parametrize("size", [SEEN, (480, 640)])
def test_without_a_refiner_a_mask_is_as_the_model_has_drawn_it(size: tuple[int, int]) -> None:
    circles = ((0.43, 0.31, 0.071), (0.9, 0.1, 0.12), (0.2, 0.6, 0.2))  # two are cut by the edge
    seen = discs(SEEN, *circles)
    logits = cells(seen)
    images = photograph(seen.any(0)), photograph(discs(size, *circles).any(0))
    expected = full_size(logits, SEEN, size) > 0
    found = RegionMasks(plain, *images)(logits, around(seen), [0, 1, 2], 0.5)
    for cropped, whole in zip(found, expected, strict=True):
        assert iou(cropped, whole) > 0.97


def test_a_crop_lies_where_it_was_cut() -> None:
    """A logit that is x - 20 in pixels of a picture: at least 0 from column 20 on."""
    for corners in ((10.0, 4.0, 30.0, 14.0), (-8.0, -2.0, 56.0, 70.0), (3.3, 5.5, 27.9, 11.1)):
        x0, y0, x1, y1 = corners
        steps = x0 + (x1 - x0) * (np.arange(16, dtype=np.float32) + 0.5) / 16
        crop = np.repeat(steps[None] - 20, 16, 0)
        found = place(crop, np.array(corners), (40, 50), 0.0)
        assert found is not None
        (left, top, right, bottom), mask = found
        assert (left, right) == (20, min(np.ceil(x1), 50))
        assert (top, bottom) == (max(np.floor(y0), 0), min(np.ceil(y1), 40)) and mask.all()
    assert place(crop, np.array((60.0, 0, 70, 10)), (40, 50), 0.0) is None  # beside the picture
    assert place(crop, np.array((10.0, 4, 30, 14)), (40, 50), 99.0) is None


def test_what_is_far_from_the_box_belongs_to_another() -> None:
    two = discs(SEEN, (0.25, 0.4, 0.08), (0.8, 0.4, 0.08))
    image = photograph(two.any(0))
    logits = cells(two.any(0)[None])  # one mask on both
    boxes = around(two[:1])
    for threshold in (0.3, 0.5):
        masks = RegionMasks(plain, image, image)
        both = around(two.any(0)[None])
        assert iou(masks(logits, both, [0], threshold)[0], two.any(0)) > 0.9
        assert iou(RegionMasks(plain, image, image)(logits, boxes, [0], threshold)[0], two[0]) > 0.9
    # A box that is too small by a few pixels cuts nothing off; one on nothing is not believed.
    small, off = around(two[:1], 0.8), boxes.clone()
    off[:, 0] = 0.5
    assert iou(RegionMasks(plain, image, image)(logits, small, [0], 0.5)[0], two[0]) > 0.9
    assert iou(RegionMasks(plain, image, image)(logits, off, [0], 0.5)[0], two.any(0)) > 0.9


def test_a_mask_that_has_little_to_do_with_its_box_is_drawn_at_a_lower_threshold() -> None:
    """A pan of whose body the model is less sure than of its handle."""
    pan, handle = torch.zeros(2, *SEEN, dtype=torch.bool)
    pan[40:72, 40:72] = True
    handle[52:60, 72:92] = True
    pan |= handle
    sure = torch.where(pan, -0.8, -4.0).where(~handle, 4.0)
    logits = F.avg_pool2d(F.pad(sure, (0, 0, 0, 8), value=-4.0)[None], 4)
    for shown in (pan, handle):  # the handle alone, where the box agrees
        masks = RegionMasks(plain, photograph(pan), photograph(pan))
        assert iou(masks(logits, around(shown[None]), [0], 0.5)[0], shown) > 0.8


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (15, 20), (1080, 1440)])
def test_a_picture_much_smaller_or_larger_than_what_is_seen(
    size: tuple[int, int], trained: Draw
) -> None:
    truth = discs(SEEN, (0.45, 0.4, 0.1))
    image = photograph(discs(size, (0.45, 0.4, 0.1))[0])
    masks = RegionMasks(trained, photograph(truth[0]), image)
    (found,) = masks(cells(truth), around(truth), [0], 0.5)
    if size[0] >= 15:
        assert iou(found, discs(size, (0.45, 0.4, 0.1))[0]) > 0.75
    elif found is not None:
        assert found[1].shape <= size


def test_specks_widen_no_box_and_parts_stay() -> None:
    mask = np.zeros((40, 60), bool)
    mask[5:25, 5:25] = True  # 400 pixels
    mask[30:35, 40:44] = True  # 20, a twentieth: of a thing that something else hides in part
    expected = mask.copy()
    mask[0, 58] = mask[38:, 2] = True
    np.testing.assert_array_equal(refinement.without_specks(mask), expected)
    mask[30, 40] = False
    expected[30:35, 40:44] = False
    np.testing.assert_array_equal(refinement.without_specks(mask), expected)
    for same in (np.zeros((3, 4), bool), np.ones((3, 4), bool), np.eye(4, dtype=bool)):
        np.testing.assert_array_equal(refinement.without_specks(same), same)


def test_thresholds() -> None:
    truth = discs(SEEN, (0.5, 0.4, 0.1))
    image, logits = photograph(truth[0]), torch.cat((cells(truth), torch.full((1, 32, 40), -20.0)))
    masks = RegionMasks(plain, image, image)
    areas = []
    for threshold in (0.0, 0.2, 0.5, 0.8, 1.0):
        some, none = masks(logits, WHOLE, [0, 1], threshold)
        areas.append(0 if some is None else int(some[1].sum()))
        assert (none is None) == (threshold > 0)
    assert areas[0] == 120 * 160 and areas == sorted(areas, reverse=True) and areas[3] > 500


def test_each_is_drawn_once() -> None:
    truth = discs(SEEN, (0.3, 0.4, 0.1), (0.7, 0.4, 0.1))
    image, logits = photograph(truth.any(0)), cells(truth)
    calls: list[int] = []

    def draw(*given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(len(given[0]))
        return plain(*given)

    masks = RegionMasks(draw, image, image)
    first, second = masks(logits, WHOLE, [0, 1], 0.5)
    again = masks(logits, WHOLE, [1], 0.5)
    assert calls == [2] and again[0] is second and first is not second
    masks(logits, WHOLE, [1], 0.4)
    assert calls == [2, 1]
    masks.forget()
    masks(logits, WHOLE, [1], 0.4)
    assert calls == [2, 1, 1]


@settings(max_examples=50)
@given(
    st.tuples(st.integers(1, 50), st.integers(1, 50)),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
)
def test_at_every_size_a_mask_is_in_the_picture(
    seen: tuple[int, int], size: tuple[int, int], threshold: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pictures = [
        torch.from_numpy(rng.integers(0, 256, (3, *shape), dtype=np.uint8))
        for shape in (seen, size)
    ]
    padded = [n + -n % STRIDE for n in seen]
    logits = torch.from_numpy(rng.normal(0, 8, (3, padded[0] // 4, padded[1] // 4))).float()
    for cropped in RegionMasks(plain, *pictures)(logits, WHOLE, [0, 2], threshold):
        if cropped is not None:
            (x0, y0, x1, y1), mask = cropped
            assert 0 <= x0 < x1 <= size[1] and 0 <= y0 < y1 <= size[0]
            assert mask.shape == (y1 - y0, x1 - x0) and mask.any()
    assert RegionMasks(plain, *pictures)(logits, WHOLE, [], threshold) == []


def test_the_picture_is_the_one_that_was_set() -> None:
    """Whoever draws on it afterwards does not move an edge."""
    grounder = Grounder.from_checkpoint(device="cpu", engine="torch")
    grounder.thresholds = Thresholds(target=0.0, no_target=1.0)
    image = np.ascontiguousarray(photograph(discs(SEEN, (0.5, 0.4, 0.1))[0]).permute(1, 2, 0))
    grounder.set_image(image)
    expected = grounder.ground(["the red ball"])[0].label_image()
    grounder.set_image(image)
    image[::3] = 0
    np.testing.assert_array_equal(grounder.ground(["the red ball"])[0].label_image(), expected)
