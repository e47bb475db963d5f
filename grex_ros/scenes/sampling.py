"""Draws programs over a view at random, and keeps those whose answer is clear."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from grex_ros.scenes import vocabulary
from grex_ros.scenes.objects import COLORS, KINDS
from grex_ros.scenes.programs import Program, evaluate, is_clear
from grex_ros.scenes.sight import TABLE, Sight

if TYPE_CHECKING:
    from grex_ros.scenes.scene import ViewObject

T = TypeVar("T")

ALL: Program = ["all"]
TRIES = 24  # before another category gets its turn


class ProgramSampler:
    """Programs over one view. Everything random comes from ``rng``.

    ``known`` are the kinds that might lie on such a table; ``kinds`` and ``colors`` are those in
    view, sorted. Unless the view is ``complete``, there may be more than it holds, and nothing is
    said of "everything" or "the red thing".
    """

    def __init__(
        self,
        view: Sequence[ViewObject],
        rng: np.random.Generator,
        known: Sequence[str] = KINDS,
        sight: Sight = TABLE,
        complete: bool = True,
    ):
        self.view = list(view)
        self.rng = rng
        self.known = tuple(known)
        self._sight = sight
        self.complete = complete
        self._meant: dict[str, frozenset[int]] = {}  # the same programs are drawn again and again
        self._clear: dict[str, bool] = {}
        self.kinds = sorted({seen.kind for seen in self.view})
        self.colors = sorted({seen.color for seen in self.view} - {""})

    def draw(
        self, categories: Mapping[str, float], wanted: Callable[[int], bool]
    ) -> tuple[Program, str] | None:
        """A clear program with a wanted number of objects, and its category.

        ``categories`` are weights for the one that is tried first; None if no category has one.
        """
        if not self.view:
            return None
        for category in self.shuffled(categories):
            for _ in range(TRIES):
                program = _DRAWS[category](self)
                if program is None or not wanted(self.size(program)):
                    continue
                if self.is_clear(program):
                    return program, category
        return None

    def size(self, program: Program) -> int:
        """How many objects a program means."""
        return len(self.means(program))

    def means(self, program: Program) -> frozenset[int]:
        """The objects of the view that a program means."""
        key = repr(program)
        if key not in self._meant:
            self._meant[key] = evaluate(program, self.view, self._sight)
        return self._meant[key]

    def is_clear(self, program: Program) -> bool:
        """Whether that is beyond doubt."""
        key = repr(program)
        if key not in self._clear:
            self._clear[key] = is_clear(program, self.view, self._sight)
        return self._clear[key]

    def shuffled(self, weights: Mapping[str, float]) -> Iterator[str]:
        """The names in random order, the heavy ones rather early."""
        names = list(weights)
        shares = np.array([weights[name] for name in names], float)
        order = self.rng.choice(len(names), len(names), replace=False, p=shares / shares.sum())
        return (names[index] for index in order)

    def pick(self, choices: Sequence[T]) -> T:
        """One of the choices."""
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, probability: float) -> bool:
        """True that often."""
        return bool(self.rng.random() < probability)

    def _kind(self) -> Program:
        if not self.complete and self.chance(0.6):
            return ["kind", ALL, self.pick(self.kinds)]  # else nine times out of ten a person
        return ["kind", ALL, self.pick(self.view).kind]

    def _color(self) -> Program | None:
        seen = self.pick(self.view)
        if not seen.color:
            return None
        inner = ["kind", ALL, seen.kind] if self.chance(0.72) or not self.complete else ALL
        return ["color", inner, seen.color]

    def _color_or_shared(self) -> Program | None:
        return self._shared_color() if self.chance(0.15) else self._color()

    def _shared_color(self) -> Program | None:
        """ "the red cup and bowl" """
        color = self.pick(self.view).color
        kinds = sorted({seen.kind for seen in self.view if seen.color == color})
        if not color or len(kinds) < 2:
            return None
        first, second = self.rng.choice(kinds, 2, replace=False)
        return ["color", ["or", ["kind", ALL, str(first)], ["kind", ALL, str(second)]], color]

    def _group(self) -> Program | None:
        groups = [
            group
            for group, kinds in vocabulary.GROUPS.items()
            if sum(kind in kinds for kind in self.kinds) > 1
        ]
        return ["group", ALL, self.pick(groups)] if groups else None

    def _kind_or_group(self) -> Program:
        return (self._group() if self.chance(0.2) else None) or self._kind()

    def _size_or_rank(self) -> Program | None:
        if self.chance(0.4):
            return ["extreme", self._plain_or_all(), self.pick(("largest", "smallest"))]
        return self._size()

    def _size(self) -> Program | None:
        seen = self.pick(self.view)
        if seen.size == "medium":
            return None
        program = ["size", ["kind", ALL, seen.kind], seen.size]
        return ["color", program, seen.color] if seen.color and self.chance(0.35) else program

    def _plain(self) -> Program:
        """Objects by what they are, not by where."""
        draw = self.rng.random()
        if draw < 0.1:
            return self._size() or self._kind()
        if draw < 0.16:
            return self._group() or self._kind()
        return (self._color() if draw < 0.6 else None) or self._kind()

    def _plain_or_all(self) -> Program:
        return ALL if self.complete and self.chance(0.15) else self._plain()

    def _count(self) -> Program | None:
        inner = self._plain() if self.chance(0.85) else self._side()
        number = self.size(inner)
        return ["count", inner, number] if 2 <= number < len(vocabulary.NUMBERS) else None

    def _side(self) -> Program:
        return ["side", self._plain_or_all(), self._a_side()]

    def _a_side(self) -> str:
        sides = tuple(self._sight.sides)
        return self.pick((*sides, "left", "right"))

    def _position(self) -> Program:
        draw = self.rng.random()
        inner = self._plain_or_all()
        if draw < 0.35:
            return ["side", inner, self._a_side()]
        if draw < 0.55:
            return ["nth", inner, self.pick(("left", "right")), self.pick((1, 2, 2, 2, 3, 3, 4))]
        places = self._places()
        which = ("left", "right", *places, "middle")
        return ["extreme", inner, self.pick(which)]

    def _places(self) -> list[str]:
        return [name for name in self._sight.extremes if name not in ("largest", "smallest")]

    def _relation(self) -> Program | None:
        how = self.pick((*self._sight.relations, "nearest"))
        anchor = self._plain() if self.chance(0.78) else self._position()
        if self.chance(0.06):  # "the cup left of the bowl behind the box"
            anchor = ["relation", self._plain(), self.pick(tuple(self._sight.relations)), anchor]
        if how in ("nearest", "beside") and "camera" in words_of(anchor):
            return None  # "closest to the camera" is said of the one that sees the table
        return ["relation", self._plain_or_all(), how, anchor]

    def _and(self) -> Program | None:
        members = [self._plain() for _ in range(2 if self.chance(0.85) else 3)]
        if self.chance(0.15):
            places = self._places()
            members[0] = ["extreme", self._kind(), self.pick(places)]
        sets = [self.means(member) for member in members]
        # Said together only if each part means something, and none of it was said before.
        if not all(sets) or len(frozenset().union(*sets)) < sum(map(len, sets)):
            return None
        program = members[0]
        for member in members[1:]:
            program = ["or", program, member]
        return program

    def _except(self) -> Program | None:
        draw = self.rng.random()
        if draw < 0.45 and self.complete:
            whole: Program = ALL
            part = self._plain()
            if self.chance(0.2):
                part = self._and() or part
        else:
            whole = self._kind() if draw < 0.85 else (self._group() or self._kind())
            part = self.pick((self._part_by_color, self._part_by_place))(whole)
        inside, everything = self.means(part), self.means(whole)
        if not inside or not inside < everything:
            return None
        if whole != ALL and len(everything) - len(inside) == 1 and part[0] == "extreme":
            return None  # "all cups but the leftmost one" for a single cup
        return ["except", whole, part]

    def _part_by_color(self, whole: Program) -> Program:
        if whole[0] == "group" and self.chance(0.6):
            return ["kind", whole, self.pick(self.kinds)]
        return ["color", whole, self.pick(self.colors or tuple(COLORS))]

    def _part_by_place(self, whole: Program) -> Program:
        if self.chance(0.4):
            return ["side", whole, self._a_side()]
        places = self._places()
        return ["extreme", whole, self.pick(places)]


def words_of(program: Program) -> Iterator[str]:
    """Every operation, kind, colour ... that a program is made of."""
    for part in program:
        if isinstance(part, list):
            yield from words_of(part)
        elif isinstance(part, str):
            yield part


_DRAWS: dict[str, Callable[[ProgramSampler], Program | None]] = {
    "all": lambda sampler: ALL if sampler.complete else None,
    "kind": ProgramSampler._kind_or_group,
    "color": ProgramSampler._color_or_shared,
    "size": ProgramSampler._size_or_rank,
    "count": ProgramSampler._count,
    "position": ProgramSampler._position,
    "relation": ProgramSampler._relation,
    "and": ProgramSampler._and,
    "except": ProgramSampler._except,
}
