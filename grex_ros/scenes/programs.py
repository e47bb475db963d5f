"""What an expression means: set-valued programs over the objects that an observer sees.

A program is a nested JSON list. Its first item is the operation, a ``SET`` is again a program:

    ["all"]                       every object in view
    ["kind", SET, "cup"]          the cups among them
    ["group", SET, "fruit"]       all kinds of a group (``vocabulary.GROUPS``)
    ["color", SET, "red"]
    ["size", SET, S]              S: small, medium, large
    ["count", SET, 2]             SET if it has exactly that many members, else nothing
    ["extreme", SET, E]           E: left, right, front, back, middle, largest, smallest
    ["nth", SET, "left", 2]       the second from the left (or from the right)
    ["side", SET, "left"]         those in that half of the picture
    ["relation", SET, R, SET]     R: left, right, front, behind, beside, nearest (to the second SET)
    ["or", SET, SET]
    ["except", SET, SET]

Left, right, front and back are meant as the camera sees them. A relation needs a reference of
exactly one object; otherwise its answer is the empty set.

``evaluate`` answers for every program. ``is_clear`` says whether people would agree with the
answer: positions, distances and sizes keep a margin, and objects that are hidden for the most part
decide nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from grex_ros.scenes.vocabulary import GROUPS, UNCLEAR_IN_GROUP, WIDER_KINDS

if TYPE_CHECKING:
    from grex_ros.scenes.scene import ViewObject

Program: TypeAlias = list[Any]

HIDDEN = 0.4  # an object with a smaller visible fraction is too hidden to decide an answer
BEARING_MARGIN = 0.04  # difference of x / z: some 3 % of the picture's width
COLUMN_MARGIN = 0.4  # difference of the boxes' middles, in widths of the boxes
SIDE_MARGIN = 0.06  # half width of the strip, in x / z, that is neither left nor right
DEPTH_MARGIN = 0.015  # metres along the optical axis
ALONG_MARGIN = 0.06  # metres on the table, away from the camera
BASE_MARGIN = 0.2  # difference of the lower edges, in heights of the boxes
BESIDE = 0.20  # metres between centres
BESIDE_MARGIN = (0.17, 0.27)  # between these, opinions differ
NEAREST_MARGIN = 1.4  # the second nearest is at least so many times farther
SIZE_MARGIN = 1.25  # how many times a largest object is larger than the next


def evaluate(program: Program, view: Iterable[ViewObject]) -> frozenset[int]:
    """The ``ViewObject.index`` values that the program means; ValueError if it is malformed."""
    reading = _Reading(view)
    return frozenset(seen.index for seen in reading.run(program))


def is_clear(program: Program, view: Sequence[ViewObject]) -> bool:
    """Whether the answer keeps its margins and does not hang on an object that is mostly hidden."""
    reading = _Reading(seen for seen in view if seen.visible_fraction >= HIDDEN)
    answer = frozenset(seen.index for seen in reading.run(program))
    return reading.clear and answer == evaluate(program, view)


def distance(a: ViewObject, b: ViewObject) -> float:
    """Metres between the centres of two objects."""
    return math.dist(a.position, b.position)


class _Reading:
    """One evaluation; ``clear`` turns false when a step was a close call."""

    def __init__(self, view: Iterable[ViewObject]):
        self.view = list(view)
        self.clear = True

    def run(self, program: Program) -> list[ViewObject]:
        if not isinstance(program, list) or not program or program[0] not in _OPERATIONS:
            raise ValueError(f"not a program: {program!r}")
        operation, arity = _OPERATIONS[program[0]]
        if len(program) != arity + 1:
            raise ValueError(f"{program[0]!r} takes {arity} arguments: {program!r}")
        return operation(self, *program[1:])

    def all(self) -> list[ViewObject]:
        return list(self.view)

    def kind(self, inner: Program, kind: str) -> list[ViewObject]:
        members = self.run(inner)
        wider = WIDER_KINDS.get(kind)
        self._demand(not wider or all(seen.kind not in wider for seen in members))
        return [seen for seen in members if seen.kind == kind]

    def group(self, inner: Program, group: str) -> list[ViewObject]:
        members = self.run(inner)
        self._demand(not any(seen.kind in UNCLEAR_IN_GROUP.get(group, ()) for seen in members))
        return [seen for seen in members if seen.kind in GROUPS.get(group, ())]

    def color(self, inner: Program, color: str) -> list[ViewObject]:
        members = self.run(inner)
        self._demand(all(seen.color for seen in members))
        return [seen for seen in members if seen.color == color]

    def size(self, inner: Program, size: str) -> list[ViewObject]:
        members = self.run(inner)
        # Small and large need each other in view, of the same kind and with nothing in between.
        kinds = {seen.kind for seen in members}
        fellows = [seen for seen in self.view if seen.kind in kinds]
        sizes = {seen.size for seen in fellows}
        self._demand(not members or (len(kinds) == 1 and sizes == {"small", "large"}))
        if sizes == {"small", "large"} and len(kinds) == 1:
            smallest_large = min(_extent(seen) for seen in fellows if seen.size == "large")
            largest_small = max(_extent(seen) for seen in fellows if seen.size == "small")
            self._demand(smallest_large > SIZE_MARGIN * largest_small)
        return [seen for seen in members if seen.size == size]

    def count(self, inner: Program, number: int) -> list[ViewObject]:
        members = self.run(inner)
        return members if len(members) == number else []

    def extreme(self, inner: Program, which: str) -> list[ViewObject]:
        members = self.run(inner)
        self._demand(len(members) != 1)
        if not members:
            return []
        if which == "middle":
            return self._middle(members)
        if which not in _EXTREMES:
            raise ValueError(f"unknown extreme {which!r}")
        key, ahead = _EXTREMES[which]
        first, *rest = sorted(members, key=key)
        self._demand(all(ahead(first, other) for other in rest))
        return [first]

    def nth(self, inner: Program, side: str, number: int) -> list[ViewObject]:
        members = self._in_order(self.run(inner), side)
        self._demand(len(members) != 1 or number > 1)
        if not 1 <= number <= len(members):
            return []
        counted = members[: number + 1]
        self._demand(all(_left_of(*_sided(a, b, side)) for a, b in itertools.pairwise(counted)))
        return [members[number - 1]]

    def side(self, inner: Program, side: str) -> list[ViewObject]:
        members = self.run(inner)
        sign = -1 if side == "left" else 1
        answer = [seen for seen in members if sign * _bearing(seen) > 0]
        self._demand(all(abs(_bearing(seen)) > SIDE_MARGIN for seen in members))
        # Of several cups on the right, one is still the cup on the left of them.
        self._demand(bool(answer) or len(members) < 2)
        return answer

    def relation(self, inner: Program, how: str, reference: Program) -> list[ViewObject]:
        members, references = self.run(inner), self.run(reference)
        if len(references) != 1:
            self._demand(not references)
            return []
        (anchor,) = references
        members = [seen for seen in members if seen.index != anchor.index]
        if how == "nearest":
            return self._nearest(members, anchor)
        if how not in _RELATIONS:
            raise ValueError(f"unknown relation {how!r}")
        holds, surely = _RELATIONS[how]
        self._demand(all(surely(seen, anchor) for seen in members))
        return [seen for seen in members if holds(seen, anchor)]

    def either(self, first: Program, second: Program) -> list[ViewObject]:
        found = {seen.index: seen for seen in self.run(first) + self.run(second)}
        return [found[index] for index in sorted(found)]

    def rest(self, whole: Program, part: Program) -> list[ViewObject]:
        without = {seen.index for seen in self.run(part)}
        return [seen for seen in self.run(whole) if seen.index not in without]

    def _demand(self, clear: bool) -> None:
        self.clear = self.clear and clear

    @staticmethod
    def _in_order(members: list[ViewObject], side: str) -> list[ViewObject]:
        if side not in ("left", "right"):
            raise ValueError(f"unknown side {side!r}")
        return sorted(members, key=_column, reverse=side == "right")

    def _middle(self, members: list[ViewObject]) -> list[ViewObject]:
        members = self._in_order(members, "left")
        middle = len(members) // 2
        chosen = members[middle]
        # Only the middle of a row is beyond doubt; a triangle has none.
        self._demand(len(members) in (3, 5))
        self._demand(all(_left_of(a, b) for a, b in itertools.pairwise(members)))
        width = members[-1].position[0] - members[0].position[0]
        along = max(_offsets(members[0], seen)[1] for seen in members)
        self._demand(along < 0.35 * abs(width))
        return [chosen]

    def _nearest(self, members: list[ViewObject], anchor: ViewObject) -> list[ViewObject]:
        if not members:
            return []
        first, *rest = sorted(members, key=lambda seen: distance(seen, anchor))
        reach = distance(first, anchor)
        self._demand(bool(rest))
        self._demand(all(distance(seen, anchor) > NEAREST_MARGIN * reach for seen in rest))
        return [first]


def _column(seen: ViewObject) -> float:
    return (seen.box[0] + seen.box[2]) / 2


def _width(seen: ViewObject) -> float:
    return seen.box[2] - seen.box[0]


def _bearing(seen: ViewObject) -> float:
    return seen.position[0] / seen.position[2]


def _depth(seen: ViewObject) -> float:
    return seen.position[2]


def _extent(seen: ViewObject) -> float:
    """A length that grows with the object's true size; comparable only within a view."""
    return math.sqrt(_width(seen) * (seen.box[3] - seen.box[1])) * _depth(seen)


def _whole(*objects: ViewObject) -> bool:
    return all(seen.visible_fraction > 0.85 for seen in objects)


def _sided(a: ViewObject, b: ViewObject, side: str) -> tuple[ViewObject, ViewObject]:
    return (a, b) if side == "left" else (b, a)


def _left_of(a: ViewObject, b: ViewObject) -> bool:
    """Beyond doubt left of: in the picture and in the bearing of the true centres."""
    apart = _column(b) - _column(a) > COLUMN_MARGIN * min(_width(a), _width(b))
    return apart and _bearing(b) - _bearing(a) > BEARING_MARGIN


def _before(a: ViewObject, b: ViewObject) -> bool:
    """Beyond doubt nearer to the camera."""
    height = min(a.box[3] - a.box[1], b.box[3] - b.box[1])
    lower = a.box[3] - b.box[3] > BASE_MARGIN * height
    return lower and _depth(b) - _depth(a) > DEPTH_MARGIN and _offsets(a, b)[1] > ALONG_MARGIN


def _larger(a: ViewObject, b: ViewObject) -> bool:
    """Beyond doubt larger: in truth and as it looks."""
    seen = _extent(a) / _depth(a) > 1.1 * _extent(b) / _depth(b) and a.area > 1.1 * b.area
    return seen and _extent(a) > SIZE_MARGIN * _extent(b) and _whole(a, b)


def _aside(a: ViewObject, b: ViewObject) -> bool:
    """Rather beside each other than one behind the other."""
    across, along = _offsets(a, b)
    return across > 0.5 * along


def _in_line(a: ViewObject, b: ViewObject) -> bool:
    """Rather one behind the other than beside each other."""
    across, along = _offsets(a, b)
    return along > across


def _offsets(a: ViewObject, b: ViewObject) -> tuple[float, float]:
    """Metres on the table, across the view and along it (as long as both are of like height)."""
    across, down, away = (p - q for p, q in zip(a.position, b.position, strict=True))
    return abs(across), math.hypot(down, away)


_Test: TypeAlias = "Callable[[ViewObject, ViewObject], bool]"

# Which object comes first, and whether it is ahead of another one beyond doubt.
_EXTREMES: dict[str, tuple[Callable[[Any], float], _Test]] = {
    "left": (_column, _left_of),
    "right": (lambda seen: -_column(seen), lambda a, b: _left_of(b, a)),
    "front": (lambda seen: -seen.box[3], _before),
    "back": (lambda seen: seen.box[3], lambda a, b: _before(b, a)),
    "largest": (lambda seen: -_extent(seen), _larger),
    "smallest": (_extent, lambda a, b: _larger(b, a)),
}

# Whether the relation holds, and whether that is beyond doubt either way.
_RELATIONS: dict[str, tuple[_Test, _Test]] = {
    "left": (
        lambda a, b: _column(a) < _column(b),
        lambda a, b: (_left_of(a, b) and _aside(a, b)) or _left_of(b, a),
    ),
    "right": (
        lambda a, b: _column(a) > _column(b),
        lambda a, b: (_left_of(b, a) and _aside(a, b)) or _left_of(a, b),
    ),
    "front": (
        lambda a, b: a.box[3] > b.box[3],
        lambda a, b: (_before(a, b) and _in_line(a, b)) or _before(b, a),
    ),
    "behind": (
        lambda a, b: a.box[3] < b.box[3],
        lambda a, b: (_before(b, a) and _in_line(a, b)) or _before(a, b),
    ),
    "beside": (
        lambda a, b: distance(a, b) < BESIDE,
        lambda a, b: not BESIDE_MARGIN[0] < distance(a, b) < BESIDE_MARGIN[1],
    ),
}

_OPERATIONS: dict[str, tuple[Callable[..., list[Any]], int]] = {
    "all": (_Reading.all, 0),
    "kind": (_Reading.kind, 2),
    "group": (_Reading.group, 2),
    "color": (_Reading.color, 2),
    "size": (_Reading.size, 2),
    "count": (_Reading.count, 2),
    "extreme": (_Reading.extreme, 2),
    "nth": (_Reading.nth, 3),
    "side": (_Reading.side, 2),
    "relation": (_Reading.relation, 3),
    "or": (_Reading.either, 2),
    "except": (_Reading.rest, 2),
}
