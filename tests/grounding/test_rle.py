"""Compressed run lengths: equal to the COCO API's strings, and back again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from grex_ros.grounding import rle


def disc() -> np.ndarray:
    rows, columns = np.mgrid[0:480, 0:640]
    return (rows - 240) ** 2 + (columns - 320) ** 2 < 36


# The strings were made once by pycocotools from the same masks.
COCO_STRINGS = [
    (np.zeros((3, 4), bool), "<"),
    (np.ones((3, 4), bool), "0<"),
    (np.ones((1, 1), bool), "01"),
    (np.zeros((1, 1), bool), "1"),
    (np.zeros((0, 4), bool), "0"),
    (np.ones((1000, 1000), bool), "0Pb`n0"),
    (np.eye(2, dtype=bool), "0120"),
    (np.eye(4, dtype=bool), "01400000"),
    (np.outer(np.arange(9), np.arange(7)) % 3 == 1, ":1200010O00080H00010O0007"),
    (disc(), "]lc47h>2N2O000000000001N2Ndnb4"),
]


@pytest.mark.parametrize("mask, counts", COCO_STRINGS, ids=[counts for _, counts in COCO_STRINGS])
def test_equals_the_coco_api(mask: np.ndarray, counts: str) -> None:
    assert rle.encode(mask) == {"size": list(mask.shape), "counts": counts}
    assert np.array_equal(rle.decode({"size": mask.shape, "counts": counts}), mask)


def test_one_worked_by_hand() -> None:
    # Columns of 2 rows: (0, 1) (1, 1) (0, 0) -> runs 1, 3, 2; "1" = 48 + 1 and so on.
    mask = np.array([[0, 1, 0], [1, 1, 0]], bool)
    assert rle.encode(mask)["counts"] == "132"


masks = npst.arrays(bool, npst.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=40))


@given(masks)
def test_round_trip(mask: np.ndarray) -> None:
    assert np.array_equal(rle.decode(rle.encode(mask)), mask)


@given(st.integers(1, 4000), st.integers(1, 3000), st.data())
def test_round_trip_of_large_boxes(height: int, width: int, data: st.DataObject) -> None:
    mask = np.zeros((height, width), bool)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    mask[top : top + 7, left : left + 9] = True
    assert np.array_equal(rle.decode(rle.encode(mask)), mask)


def test_uncompressed_counts_and_bytes() -> None:
    mask = np.eye(4, dtype=bool)
    assert np.array_equal(rle.decode({"size": [4, 4], "counts": [0, 1, 4, 1, 4, 1, 4, 1]}), mask)
    assert np.array_equal(rle.decode({"size": [4, 4], "counts": b"01400000"}), mask)


@pytest.mark.parametrize("counts", ["", "=", "0<1", "P", " ", "é", [13], [-1, 13]])
def test_what_does_not_fit_is_refused(counts: object) -> None:
    with pytest.raises(ValueError):
        rle.decode({"size": [3, 4], "counts": counts})


def test_only_two_dimensions() -> None:
    with pytest.raises(ValueError, match="two dimensions"):
        rle.encode(np.zeros((2, 3, 1), bool))
