"""Pictures as other cameras take them: everywhere the same things, in colours of the same name."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from grex_ros.scenes.objects import COLORS, sample_rgb
from training.dataset.photometric import photometric

SEEDS = range(60)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A grey table with one square of each colour."""
    rng = np.random.default_rng(0)
    image = np.full((240, 320, 3), 150, np.uint8)
    for k, name in enumerate(COLORS):
        y, x = divmod(k, 4)
        image[y * 80 + 20 : y * 80 + 60, x * 80 + 20 : x * 80 + 60] = (
            np.array(sample_rgb(name, rng)) * 230
        )
    return image


def test_the_same_random_numbers_give_the_same_picture(picture: np.ndarray) -> None:
    before = picture.copy()
    for seed in range(12):
        first, second = (photometric(picture, np.random.default_rng(seed)) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        assert first.shape == picture.shape and first.dtype == np.uint8
    np.testing.assert_array_equal(picture, before)


def test_the_range_is_that_of_cameras(picture: np.ndarray) -> None:
    changed = [photometric(picture, np.random.default_rng(seed)) for seed in SEEDS]
    table = np.array([image[:16, 100:220].reshape(-1, 3).mean(0) for image in changed])
    brightness = table.mean(1)
    assert brightness.min() < 125 and brightness.max() > 180
    assert 40 < brightness.min() and brightness.max() <= 255
    cast = table.max(1) - table.min(1)
    assert 8 < cast.max() < 60  # a grey table stays grey
    grain = np.array([np.std(image[2:14, 120:200, 1].astype(float)) for image in changed])
    assert grain.min() < 1 and 3 < grain.max() < 25
    edges = [np.abs(np.diff(image[40, 10:30].astype(float).sum(-1))).max() for image in changed]
    assert min(edges) < 0.5 * max(edges)  # some are blurred


def test_colors_keep_their_names(picture: np.ndarray) -> None:
    # against paints as bright and as tinted as the table around them has become
    rng = np.random.default_rng(1)
    names = [name for name in COLORS for _ in range(40)]
    paints = np.array([sample_rgb(name, rng) for name in names]) * 230 / 255
    right = []
    for seed in SEEDS:
        image = photometric(picture, np.random.default_rng(seed)) / 255
        table = image[:16, 100:220].reshape(-1, 3).mean() / (150 / 255)
        known = _lab(np.clip(paints * table, 0, 1))
        for k, name in enumerate(COLORS):
            y, x = divmod(k, 4)
            middle = image[y * 80 + 30 : y * 80 + 50, x * 80 + 30 : x * 80 + 50].reshape(-1, 3)
            found = _lab(middle.mean(0)[None])
            nearest = int(np.linalg.norm(known - found, axis=1).argmin())
            right.append(names[nearest] == name)
    assert np.mean(right) > 0.95, np.mean(right)


def test_nothing_moves(picture: np.ndarray) -> None:
    # the square stays where its label is: the middle of its edge moves by less than two pixels
    for seed in SEEDS:
        image = photometric(picture, np.random.default_rng(seed)).astype(float)
        rows = image[25:55, 5:45, 1:].sum(-1).mean(0)  # the red one: green and blue fall
        half = (rows[:5].mean() + rows[-10:].mean()) / 2
        crossing = 5 + int(np.argmax(rows < half))
        assert abs(crossing - 20) <= 2


def test_it_is_quick(picture: np.ndarray) -> None:
    spent = []
    for seed in range(40):
        start = time.thread_time()  # of this thread alone, on a busy machine
        photometric(picture, np.random.default_rng(seed))
        spent.append(time.thread_time() - start)
    assert np.median(spent) < 0.012


@pytest.mark.parametrize("shape", [(20, 30, 3), (64, 48, 3), (480, 640, 3)])
def test_any_size(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for seed in range(10):
        assert photometric(image, np.random.default_rng(seed)).shape == shape


@pytest.mark.parametrize("value", [0, 255])
def test_black_and_white_pictures_stay_finite(value: int) -> None:
    image = np.full((60, 80, 3), value, np.uint8)
    found = np.mean([photometric(image, np.random.default_rng(s)).mean() for s in range(20)])
    assert found < 60 if value == 0 else found > 180


def _lab(rgb: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(rgb[None].astype(np.float32), cv2.COLOR_RGB2LAB)[0]
