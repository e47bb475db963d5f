"""Masks follow the edges of the picture, at every size, and nothing is lost on the way."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from grex_ros.grounding import refinement
from grex_ros.grounding.grounder import Grounder, Thresholds
from grex_ros.grounding.objects import Cropped, crop_mask
from grex_ros.grounding.pictures import full_size
from grex_ros.grounding.refinement import RegionMasks, refine
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


@pytest.mark.parametrize("size", [SEEN, (480, 640), (300, 400)])
def test_edges_are_where_the_picture_has_them(size: tuple[int, int]) -> None:
    circle = (0.43, 0.31, 0.071)
    truth = discs(size, circle)
    logits = cells(discs(SEEN, circle))
    masks = RegionMasks(photograph(discs(SEEN, circle)[0]), photograph(truth[0]))
    plain = iou(crop_mask((full_size(logits, SEEN, size)[0] > 0).numpy()), truth[0])
    refined = iou(masks(logits, WHOLE, [0], 0.5)[0], truth[0])
    assert refined > 0.95 and 1 - refined < 0.6 * (1 - plain)


def test_a_thing_of_the_same_colour_beside_it_is_not_taken() -> None:
    two = discs((120, 160), (0.3, 0.4, 0.06), (0.43, 0.4, 0.06))  # two pixels between them
    image = photograph(two.any(0))
    masks = RegionMasks(image, image)(cells(two), WHOLE, [0, 1], 0.5)
    for mask, truth in zip(masks, two, strict=True):
        assert iou(mask, truth) > 0.9


def test_where_there_is_no_edge_the_mask_stays() -> None:
    truth = discs(SEEN, (0.5, 0.4, 0.1))
    logits = cells(truth)
    plain = torch.full((3, *SEEN), 77, dtype=torch.uint8)
    expected = full_size(logits, SEEN, SEEN)[0] > 0
    assert iou(RegionMasks(plain, plain)(logits, WHOLE, [0], 0.5)[0], expected) > 0.85


def test_what_the_filter_would_wipe_out_stays() -> None:
    """A mask that has nothing to do with the colours under it."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (3, *SEEN), generator=generator, dtype=torch.uint8)
    logits = torch.full((1, 32, 40), -9.0)
    logits[0, 10:12, 10] = 4.0
    (found,) = RegionMasks(noise, noise)(logits, WHOLE, [0], 0.5)
    assert iou(found, full_size(logits, SEEN, SEEN)[0] > 0) == 1


def test_a_part_of_the_picture_is_as_good_as_the_whole() -> None:
    """On a CPU only the surroundings of a mask are looked at."""
    for size in (SEEN, (480, 640)):
        circles = ((0.43, 0.31, 0.071), (0.9, 0.1, 0.12))
        seen = photograph(discs(SEEN, *circles).any(0))
        image = photograph(discs(size, *circles).any(0))
        logits = cells(discs(SEEN, *circles))
        whole = refine(full_size(logits, SEEN, SEEN).sigmoid(), seen, image) >= 0.5
        for cropped, expected in zip(
            RegionMasks(seen, image)(logits, WHOLE, [0, 1], 0.5), whole, strict=True
        ):
            assert iou(cropped, expected) > 0.99


def test_what_is_far_from_the_box_belongs_to_another() -> None:
    two = discs(SEEN, (0.25, 0.4, 0.08), (0.8, 0.4, 0.08))
    image = photograph(two.any(0))
    logits = cells(two.any(0)[None])  # one mask on both
    padded = torch.tensor([160.0, 128.0, 160.0, 128.0])  # SEEN, to full strides
    boxes = torch.tensor([[40.0, 64.0, 26.0, 26.0]]) / padded
    for threshold in (0.3, 0.5):
        assert iou(RegionMasks(image, image)(logits, WHOLE, [0], threshold)[0], two.any(0)) > 0.9
        (found,) = RegionMasks(image, image)(logits, boxes, [0], threshold)
        assert iou(found, two[0]) > 0.9
    # A box that is too small by a few pixels cuts nothing off; one on nothing is not believed.
    small, off = boxes.clone(), boxes.clone()
    small[:, 2:] *= 0.8
    off[:, 0] = 0.5
    assert iou(RegionMasks(image, image)(logits, small, [0], 0.5)[0], two[0]) > 0.9
    assert iou(RegionMasks(image, image)(logits, off, [0], 0.5)[0], two.any(0)) > 0.9


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (15, 20), (1080, 1440)])
def test_a_picture_much_smaller_or_larger_than_what_is_seen(size: tuple[int, int]) -> None:
    truth = discs(SEEN, (0.45, 0.4, 0.1))
    image = photograph(discs(size, (0.45, 0.4, 0.1))[0])
    (found,) = RegionMasks(photograph(truth[0]), image)(cells(truth), WHOLE, [0], 0.5)
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


def test_windows_are_means_however_they_are_computed() -> None:
    for size in ((9, 17), (40, 1)):
        x = torch.rand(2, *size)
        r = refinement.RADIUS
        expected = torch.empty_like(x)
        for i, j in itertools.product(*map(range, size)):
            rows = torch.arange(i - r, i + r + 1).clamp(0, size[0] - 1)
            columns = torch.arange(j - r, j + r + 1).clamp(0, size[1] - 1)
            expected[:, i, j] = x[:, rows][:, :, columns].mean((1, 2))
        assert torch.allclose(refinement._window(x), expected, atol=1e-5)
        assert torch.allclose(refinement.window_on_device(x), expected, atol=1e-5)


def test_systems_are_solved() -> None:
    a = torch.rand(5, 3, 3, dtype=torch.float64)
    matrices = a @ a.mT
    right = torch.rand(2, 3, 5, 1, dtype=torch.float64)
    regular = matrices + refinement.SMOOTHNESS * torch.eye(3)
    expected = torch.linalg.solve(regular, right[..., 0].permute(2, 1, 0)).permute(2, 1, 0)
    triangle = matrices[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]].T[..., None]
    assert torch.allclose(refinement._solve(triangle, right)[..., 0], expected)


def test_thresholds() -> None:
    truth = discs(SEEN, (0.5, 0.4, 0.1))
    image, logits = photograph(truth[0]), torch.cat((cells(truth), torch.full((1, 32, 40), -20.0)))
    masks = RegionMasks(image, image)
    areas = []
    for threshold in (0.0, 0.2, 0.5, 0.8, 1.0):
        some, none = masks(logits, WHOLE, [0, 1], threshold)
        areas.append(0 if some is None else int(some[1].sum()))
        assert (none is None) == (threshold > 0)
    assert areas[0] == 120 * 160 and areas == sorted(areas, reverse=True) and areas[3] > 500


def test_each_is_refined_once(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = discs(SEEN, (0.3, 0.4, 0.1), (0.7, 0.4, 0.1))
    image, logits = photograph(truth.any(0)), cells(truth)
    calls = []
    monkeypatch.setattr(refinement, "refine", lambda *a: calls.append(1) or refine(*a))
    masks = RegionMasks(image, image)
    first, second = masks(logits, WHOLE, [0, 1], 0.5)
    again = masks(logits, WHOLE, [1], 0.5)
    assert len(calls) == 2 and again[0] is second and first is not second
    masks(logits, WHOLE, [1], 0.4)
    assert len(calls) == 3
    masks.forget()
    masks(logits, WHOLE, [1], 0.4)
    assert len(calls) == 4


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
    for cropped in RegionMasks(*pictures)(logits, WHOLE, [0, 2], threshold):
        if cropped is not None:
            (x0, y0, x1, y1), mask = cropped
            assert 0 <= x0 < x1 <= size[1] and 0 <= y0 < y1 <= size[0]
            assert mask.shape == (y1 - y0, x1 - x0) and mask.any()
    assert RegionMasks(*pictures)(logits, WHOLE, [], threshold) == []


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
