"""The probability that a region is in the set that is meant, against all sets one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grex_ros.grounding.membership import Floats, membership, raised, shifted, sigmoid

REGIONS, COUNTS = 5, 4
APART = np.array([[[0.1 + 0.2 * i, 0.5, 0.1, 0.1] for i in range(REGIONS)]])
logits = st.floats(-9, 9, allow_nan=False)


def by_enumeration(target: Floats, count: Floats) -> Floats:
    """The same for one expression (Q,), by adding up every set of regions but the empty one."""
    total, found = 0.0, np.zeros(len(target))
    for members in itertools.product((False, True), repeat=len(target)):
        inside = np.array(members)
        if inside.any():
            alone = np.where(inside, sigmoid(target), sigmoid(-target)).prod()
            chance = alone * np.exp(count[min(inside.sum(), len(count) - 1)])
            total += chance
            found += chance * inside
    return np.asarray(found / total)


@example([0.0, 1.0, 8.0, 7.0, 0.0], [0.0, 9.0, 0.0, -9.0])
@given(
    st.lists(logits, min_size=REGIONS, max_size=REGIONS),
    st.lists(logits, min_size=COUNTS, max_size=COUNTS),
)
def test_it_is_the_sum_over_all_sets(target: list[float], count: list[float]) -> None:
    found = membership(np.array([target]), np.array([count]), APART)
    # The transform is right to some 1e-16, and a count may weigh e^-18 = 1.5e-8 of another.
    np.testing.assert_allclose(found[0], by_enumeration(np.array(target), np.array(count)), 1e-7)


def test_who_counts_one_means_the_best() -> None:
    target = np.array([[1.0, 0.8, -4.0, -4.0, -4.0]])
    nobody = membership(target, None, APART)[0]
    one, two = (membership(target, np.eye(3)[[n]] * 8, APART)[0] for n in (1, 2))
    assert (nobody[:2] > 0.6).all()
    assert one[0] > 0.5 > one[1]
    assert (two[:2] > 0.9).all()
    assert (two[2:] < 0.5).all()


def test_something_is_meant_even_if_all_are_unlikely() -> None:
    target = np.array([[-3.0, -9.0, -9.0, -9.0, -9.0]])
    assert membership(target, None, APART)[0, 0] > 0.95
    # ... even by one who counts none: whether anything is meant is the no-target score's to say.
    none = np.array([[60.0, 0.0, 0.0]])
    assert membership(target, none, APART)[0, 0] > 0.95


def test_of_two_regions_on_one_object_the_better_one_counts() -> None:
    boxes = APART.copy()
    boxes[0, 1] = boxes[0, 0] + (0.005, 0, 0, 0)
    target = np.array([[3.0, 2.9, -9.0, -9.0, -9.0], [2.0, 2.0, -9.0, -9.0, -9.0]])
    one = np.tile(np.eye(4)[1] * 4, (2, 1))
    found = membership(target, one, boxes)
    assert (found[:, 0] > 0.95).all()
    assert (found[:, 1] == 0).all()
    assert membership(target, one, APART)[0, 0] < 0.6  # where they are two, which one is open


@pytest.mark.parametrize("far", [1e4, -1e4])
def test_it_stays_a_probability(far: float) -> None:
    target = np.full((1, REGIONS), far)
    for count in (None, np.array([[far, -far, 0.0]])):
        found = membership(target, count, APART)
        assert np.isfinite(found).all()
        assert ((found >= 0) & (found <= 1)).all()


@given(st.floats(0, 1), st.floats(-20, 20))
def test_shifting_adds_to_the_logit(chance: float, shift: float) -> None:
    found = shifted(np.array([chance]), shift)[0]
    assert 0 <= found <= 1
    if 1e-6 < chance < 1 - 1e-6 and 1e-6 < found < 1 - 1e-6:
        moved = np.log(found / (1 - found)) - np.log(chance / (1 - chance))
        assert moved == pytest.approx(shift, abs=1e-6)


@pytest.mark.parametrize("shift", [1e6, -1e6])
def test_no_shift_is_too_large(shift: float) -> None:
    found = shifted(np.array([0.0, 0.5, 1.0]), shift)
    np.testing.assert_allclose(found, [0.0, float(shift > 0), 1.0], atol=1e-9)


@pytest.mark.parametrize(
    ("member", "passing"),
    [
        ([0.4, 0.35, 0.25, 0.0], [0]),  # one is meant
        ([0.0, 0.35, 0.25, 0.4], [3]),
        ([0.9, 0.4, 0.35, 0.35], [0, 1]),  # two
        ([0.99, 0.6, 0.55, 0.1], [0, 1, 2]),  # two are raised; the third needs no shift
        ([0.3, 0.1, 0.0, 0.0], [0]),  # so unsure that none is expected
        ([0.4, 0.4, 0.2, 0.0], [0]),  # of equals the first
    ],
)
def test_a_shift_raises_as_many_as_are_expected(member: list[float], passing: list[int]) -> None:
    rows = np.array([member, [0.1, 0.1, 0.1, 0.1]])
    found = raised(rows, 1.0)
    assert np.flatnonzero(found[0] >= 0.5).tolist() == passing
    moved = found[0] != rows[0]
    np.testing.assert_array_equal(found[0][moved], shifted(rows[0][moved], 1.0))


def test_a_negative_shift_is_for_all() -> None:
    member = np.array([[0.9, 0.6, 0.1]])
    np.testing.assert_array_equal(raised(member, -1.0), shifted(member, -1.0))
    np.testing.assert_array_equal(raised(member, 0.0), member)
