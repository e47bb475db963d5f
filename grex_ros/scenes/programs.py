"""What an expression means: set-valued programs over the objects that an observer sees.

A program is a nested JSON list. Its first item is the operation, a ``SET`` is again a program:

    ["all"]                       every object in view
    ["kind", SET, "cup"]          the cups among them
    ["group", SET, "fruit"]       all kinds of a group (``vocabulary.GROUPS``)
    ["color", SET, "red"]         (also of a joint set: "the red cups and bowls")
    ["size", SET, S]              S: small, medium, large
    ["count", SET, 2]             SET if it has exactly that many members, else nothing
    ["extreme", SET, E]           E: left, right, front, back, middle, largest, smallest
    ["nth", SET, "left", 2]       the second from the left (or from the right)
    ["side", SET, "left"]         those in that half of the picture
    ["relation", SET, R, SET]     R: left, right, front, behind, beside, nearest (to the second SET)
    ["or", SET, SET]
    ["except", SET, SET]

Left, right, front and back are meant as the camera sees them. Photographs have no depth: in place
of front and back there are "top" and "bottom" (also sides), "above" and "below". What each word
means there, and how clearly, is in ``sight``. A relation needs a reference of
exactly one object; otherwise its answer is the empty set.

``evaluate`` answers for every program. ``is_clear`` says whether people would agree with the
answer: positions, distances and sizes keep a margin, and objects that are hidden for the most part
decide nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from grex_ros.scenes.sight import TABLE, Sight, column
from grex_ros.scenes.vocabulary import GROUPS

if TYPE_CHECKING:
    from grex_ros.scenes.scene import ViewObject

Program: TypeAlias = list[Any]

HIDDEN = 0.4  # an object with a smaller visible fraction is too hidden to decide an answer


def evaluate(program: Program, view: Iterable[ViewObject], sight: Sight = TABLE) -> frozenset[int]:
    """The ``ViewObject.index`` values that the program means; ValueError if it is malformed."""
    reading = _Reading(view, sight)
    return frozenset(seen.index for seen in reading.run(program))


def is_clear(program: Program, view: Sequence[ViewObject], sight: Sight = TABLE) -> bool:
    """Whether the answer keeps its margins and does not hang on an object that is mostly hidden."""
    reading = _Reading((seen for seen in view if seen.visible_fraction >= HIDDEN), sight)
    answer = frozenset(seen.index for seen in reading.run(program))
    return reading.clear and answer == evaluate(program, view, sight)


class _Reading:
    """One evaluation; ``clear`` turns false when a step was a close call."""

    def __init__(self, view: Iterable[ViewObject], sight: Sight):
        self.view = list(view)
        self.sight = sight
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
        self._demand(self.sight.kind_is_clear(kind, members))
        return [seen for seen in members if seen.kind == kind]

    def group(self, inner: Program, group: str) -> list[ViewObject]:
        members = self.run(inner)
        kinds = GROUPS.get(group, frozenset())
        self._demand(self.sight.group_is_clear(group, kinds, members))
        return [seen for seen in members if seen.kind in kinds]

    def color(self, inner: Program, color: str) -> list[ViewObject]:
        members = self.run(inner)
        unknown = [seen for seen in members if not seen.color]
        self._demand(not any(self.sight.color_doubtful(seen, color) for seen in unknown))
        return [seen for seen in members if seen.color == color]

    def size(self, inner: Program, size: str) -> list[ViewObject]:
        members = self.run(inner)
        # Small and large need each other in view, of the same kind and with nothing in between.
        kinds = {seen.kind for seen in members}
        fellows = [seen for seen in self.view if seen.kind in kinds]
        sizes = {seen.size for seen in fellows}
        self._demand(not members or (len(kinds) == 1 and sizes == {"small", "large"}))
        if sizes == {"small", "large"} and len(kinds) == 1:
            large = [seen for seen in fellows if seen.size == "large"]
            small = [seen for seen in fellows if seen.size == "small"]
            self._demand(all(self.sight.size_margin(a, b) for a in large for b in small))
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
        if which not in self.sight.extremes:
            raise ValueError(f"unknown extreme {which!r}")
        key, ahead = self.sight.extremes[which]
        first, *rest = sorted(members, key=key)
        self._demand(all(ahead(first, other) for other in rest))
        return [first]

    def nth(self, inner: Program, side: str, number: int) -> list[ViewObject]:
        members = self._in_order(self.run(inner), side)
        self._demand(len(members) != 1 or number > 1)
        if not 1 <= number <= len(members):
            return []
        counted = members[: number + 1]
        ahead = self.sight.extremes[side][1]
        self._demand(all(ahead(a, b) for a, b in itertools.pairwise(counted)))
        return [members[number - 1]]

    def side(self, inner: Program, side: str) -> list[ViewObject]:
        members = self.run(inner)
        if side not in self.sight.sides:
            raise ValueError(f"unknown side {side!r}")
        how_far, surely = self.sight.sides[side]
        answer = [seen for seen in members if how_far(seen) > 0]
        self._demand(all(surely(seen) for seen in members))
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
        if how not in self.sight.relations:
            raise ValueError(f"unknown relation {how!r}")
        holds, surely = self.sight.relations[how]
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
        return sorted(members, key=column, reverse=side == "right")

    def _middle(self, members: list[ViewObject]) -> list[ViewObject]:
        members = self._in_order(members, "left")
        middle = len(members) // 2
        chosen = members[middle]
        # Only the middle of a row is beyond doubt; a triangle has none.
        self._demand(len(members) in (3, 5))
        self._demand(all(self.sight.left_of(a, b) for a, b in itertools.pairwise(members)))
        self._demand(self.sight.in_row(members))
        return [chosen]

    def _nearest(self, members: list[ViewObject], anchor: ViewObject) -> list[ViewObject]:
        if not members:
            return []
        distance = self.sight.distance
        first, *rest = sorted(members, key=lambda seen: distance(seen, anchor))
        reach = self.sight.nearest_margin * distance(first, anchor)
        self._demand(bool(rest))
        self._demand(all(distance(seen, anchor) > reach for seen in rest))
        return [first]


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
