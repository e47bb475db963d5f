"""Programs against hand-made views and a slow reading of set arithmetic."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grex_ros.scenes.programs import Program, evaluate, is_clear
from grex_ros.scenes.scene import ViewObject
from tests.scenes.random_views import random_view, seen

ALL: Program = ["all"]
CUPS: Program = ["kind", ALL, "cup"]
BOWL: Program = ["kind", ALL, "bowl"]

# From left to right: red cup, blue cup, bowl, red cup; the last is nearest, the bowl farthest.
ROW = [
    seen(1, "cup", "red", -0.30, 0.0),
    seen(2, "cup", "blue", -0.12, 0.1, "large"),
    seen(3, "bowl", "red", 0.10, 0.3),
    seen(5, "cup", "red", 0.28, -0.2, "small"),
]


@pytest.mark.parametrize(
    ("program", "indices"),
    [
        (ALL, {1, 2, 3, 5}),
        (CUPS, {1, 2, 5}),
        (["color", CUPS, "red"], {1, 5}),
        (["color", ALL, "red"], {1, 3, 5}),
        (["color", CUPS, "green"], set()),
        (["group", ALL, "container"], {1, 2, 3, 5}),
        (["group", ALL, "fruit"], set()),
        (["size", CUPS, "large"], {2}),
        (["count", CUPS, 3], {1, 2, 5}),
        (["count", CUPS, 2], set()),
        (["extreme", CUPS, "left"], {1}),
        (["extreme", CUPS, "right"], {5}),
        (["extreme", ALL, "front"], {5}),
        (["extreme", ALL, "back"], {3}),
        (["extreme", CUPS, "middle"], {2}),
        (["extreme", CUPS, "largest"], {2}),
        (["extreme", CUPS, "smallest"], {5}),
        (["nth", ALL, "left", 2], {2}),
        (["nth", ALL, "right", 2], {3}),
        (["nth", CUPS, "right", 2], {2}),
        (["nth", CUPS, "left", 4], set()),
        (["side", CUPS, "left"], {1, 2}),
        (["side", ALL, "right"], {3, 5}),
        (["relation", CUPS, "left", BOWL], {1, 2}),
        (["relation", CUPS, "right", BOWL], {5}),
        (["relation", ALL, "front", BOWL], {1, 2, 5}),
        (["relation", ALL, "behind", ["color", CUPS, "blue"]], {3}),
        (["relation", CUPS, "nearest", BOWL], {2}),
        (["relation", CUPS, "left", CUPS], set()),  # which of the cups?
        (["relation", ALL, "left", ["color", BOWL, "pink"]], set()),
        (["or", BOWL, ["color", CUPS, "blue"]], {2, 3}),
        (["except", ALL, CUPS], {3}),
        (["except", CUPS, ["extreme", CUPS, "left"]], {2, 5}),
    ],
)
def test_means(program: Program, indices: set[int]) -> None:
    assert evaluate(program, ROW) == indices


@pytest.mark.parametrize(
    "program",
    [
        CUPS,
        ["color", CUPS, "red"],
        ["side", CUPS, "left"],
        ["nth", ALL, "left", 2],
        ["extreme", CUPS, "front"],
    ],
)
def test_a_plain_case_is_clear(program: Program) -> None:
    assert is_clear(program, ROW)


def red_cup(index: int, x: float, y: float = 0.0) -> ViewObject:
    return seen(index, "cup", "red", x, y)


def changed(index: int, **fields: Any) -> list[ViewObject]:
    return [dataclasses.replace(o, **fields) if o.index == index else o for o in ROW]


@pytest.mark.parametrize(
    ("program", "view"),
    [
        # one cup has no colour of its own
        (["color", CUPS, "red"], changed(5, color="")),
        # is a mug a cup?
        (CUPS, changed(3, kind="mug")),
        # the only cups are equally far to the left
        (["extreme", CUPS, "left"], [red_cup(1, 0.1), red_cup(2, 0.1, 0.3)]),
        # a hand's breadth off the middle of the picture
        (["side", CUPS, "left"], [red_cup(1, -0.02)]),
        # two cups on the right: one of them may be called the left one
        (["side", CUPS, "left"], [red_cup(1, 0.15), red_cup(2, 0.3)]),
        # the nearest cup is hardly nearer than the next
        (["relation", CUPS, "nearest", BOWL],
         [red_cup(1, -0.2), red_cup(2, 0.21), seen(3, "bowl", "red", 0, 0)]),
        # medium: neither large nor small
        (["size", CUPS, "large"], changed(2, size="medium")),
        # large by its label, but not to the eye
        (["size", CUPS, "large"], [dataclasses.replace(ROW[0], size="large"),
                                    dataclasses.replace(ROW[0], size="small", index=2)]),
        # the leftmost of one
        (["extreme", BOWL, "left"], ROW),
        # a third red cup peeps out behind something
        (["color", CUPS, "red"], [*ROW, seen(6, "cup", "red", 0.2, 0.4, visible=0.2)]),
        # which cup?
        (["relation", BOWL, "left", CUPS], ROW),
    ],
)  # fmt: skip
def test_a_close_call_is_not_clear(program: Program, view: list[ViewObject]) -> None:
    assert not is_clear(program, view)


@pytest.mark.parametrize(
    "program",
    [[], ["sort", ALL], ["kind", "cup"], "all", ["color", ALL], ["extreme", CUPS, "tastiest"],
     ["relation", CUPS, "above", BOWL], ["nth", CUPS, "top", 1], ["count", CUPS, 1, 2]],
)  # fmt: skip
def test_a_malformed_program_is_an_error(program: Program) -> None:
    with pytest.raises(ValueError):
        evaluate(program, ROW)


WORDS: dict[str, tuple[object, ...]] = {
    "kind": ("cup", "bowl", "apple"),
    "color": ("red", "blue", "green"),
    "extreme": ("left", "back", "middle", "largest"),
    "side": ("left", "right"),
    "count": (1, 2, 3),
}
DEPTH = 3


@st.composite
def programs(draw: st.DrawFn, depth: int = DEPTH) -> Program:
    operation = draw(st.sampled_from(["all", *WORDS, "nth", "relation", "or", "except"]))
    if operation == "all" or depth == 0:
        return ["all"]
    inner = draw(programs(depth=depth - 1))
    if operation in WORDS:
        return [operation, inner, draw(st.sampled_from(WORDS[operation]))]
    if operation == "nth":
        return ["nth", inner, draw(st.sampled_from(["left", "right"])), draw(st.integers(1, 4))]
    other = draw(programs(depth=depth - 1))
    if operation == "relation":
        how = draw(st.sampled_from(["left", "front", "beside", "nearest"]))
        return ["relation", inner, how, other]
    return [operation, inner, other]


few = settings(max_examples=80)


@few
@given(a=programs(), b=programs(), seed=st.integers(0, 50))
def test_set_arithmetic(a: Program, b: Program, seed: int) -> None:
    view = random_view(seed)
    in_a, in_b, everything = (evaluate(p, view) for p in (a, b, ALL))
    assert everything == {o.index for o in view}
    assert in_a <= everything
    assert evaluate(["or", a, b], view) == in_a | in_b
    assert evaluate(["except", a, b], view) == in_a - in_b
    assert evaluate(["color", a, "red"], view) == {
        o.index for o in view if o.index in in_a and o.color == "red"
    }
    assert evaluate(["count", a, len(in_a)], view) == in_a
    if in_a:
        assert len(evaluate(["extreme", a, "left"], view)) == 1
        assert evaluate(["count", a, len(in_a) + 1], view) == frozenset()


@few
@given(program=programs(), seed=st.integers(0, 50))
def test_a_clear_answer_does_not_need_the_hidden(program: Program, seed: int) -> None:
    view = random_view(seed)
    if is_clear(program, view):
        plain = [o for o in view if o.visible_fraction >= 0.4]
        assert evaluate(program, plain) == evaluate(program, view)
