"""Composes referring expressions over what an observer sees: for one object, for many, for none.

A program is drawn first, kept only if its answer is clear, and then put into words. An expression
without a target is such a program with one clause made false ("the purple cup" where the cups are
red), or names something that is not there at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from grex_ros.scenes import vocabulary
from grex_ros.scenes.objects import COLORS, KINDS
from grex_ros.scenes.programs import Program, evaluate, is_clear
from grex_ros.scenes.wording import Wording

if TYPE_CHECKING:
    from grex_ros.scenes.scene import ViewObject

T = TypeVar("T")

ONE = 0.47  # of the expressions that have targets
EASY = 0.28  # of the expressions without one: the kind is not there at all
ABSURD = 0.36  # of the easy ones: nothing that belongs on a table
_TRIES = 24  # before another category or clause gets its turn

# Which clause of a true expression is made false, and what it is taken from. "the two cups" before
# three of them is a matter of taste, so counts are rare.
_CLAUSES = {
    "color": 32, "kind": 27, "position": 16, "relation": 14, "reference": 8, "size": 4, "count": 5,
}  # fmt: skip
_SPATIAL = {"color": 5, "position": 2, "relation": 2, "count": 1}
_FALSIFIABLE = {
    "position": {"position": 1}, "relation": {"relation": 1}, "reference": {"relation": 1},
    "size": {"size": 1}, "count": {"count": 1},
}  # fmt: skip

ALL: Program = ["all"]


@dataclass(frozen=True)
class Expression:
    """Words, what they mean, and how they came about.

    ``targets`` are ``ViewObject.index`` values in rising order; ``evaluate(program, view)`` gives
    the same. ``category`` is the reasoning asked for: "kind", "color", "size", "count", "position",
    "relation", "and", "except" or "all"; without a target, the clause that is false ("absent" where
    the kind itself is). ``falsified`` is "" with targets, else "easy" (the kind is absent) or
    "deceptive" (one clause of a true expression was made false).
    """

    text: str
    program: Program
    targets: tuple[int, ...]
    category: str
    falsified: str = ""


def compose(
    view: Sequence[ViewObject], rng: np.random.Generator, count: int, no_target: float = 0.25
) -> list[Expression]:
    """At most ``count`` different expressions; fewer where the view has no more to say.

    ``no_target`` is the expected share of expressions that mean nothing in view.
    """
    composer = _Composer(view, rng)
    found: dict[str, Expression] = {}
    for _ in range(2 * count):
        if len(found) == count:
            break
        if rng.random() < no_target:
            expression = composer.nothing()
        else:
            expression = composer.something(one=rng.random() < ONE)
        if expression is not None:
            found.setdefault(expression.text, expression)
    return list(found.values())


class _Composer:
    """Draws programs over one view."""

    def __init__(self, view: Sequence[ViewObject], rng: np.random.Generator):
        self.view = list(view)
        self._rng = rng
        self._wording = Wording(rng, lambda program: len(evaluate(program, self.view)))
        self._kinds = sorted({seen.kind for seen in self.view})
        self._colors = sorted({seen.color for seen in self.view} - {""})

    # -- with targets

    def something(self, one: bool) -> Expression | None:
        """An expression for one object, or for several; for any number where that cannot be had."""
        found = self.draft(_ONE if one else _MANY, lambda size: (size == 1) == one and size > 0)
        return found or self.draft(_MANY if one else _ONE, lambda size: size > 0)

    def draft(
        self, categories: Mapping[str, float], wanted: Callable[[int], bool]
    ) -> Expression | None:
        """A clear expression from one of the categories with a wanted number of targets."""
        drawn = self._true_program(categories, wanted)
        if drawn is None:
            return None
        program, category = drawn
        targets = tuple(sorted(evaluate(program, self.view)))
        return Expression(self._wording.say(program, len(targets)), program, targets, category)

    def all_of_kind_and_color(self) -> Expression | None:
        """ "all red cups"; all of a kind where no two objects share kind and colour."""
        choices: list[tuple[Program, str]] = [
            (["color", ["kind", ALL, kind], color], "color")
            for kind in self._kinds
            for color in self._colors
        ] + [(["kind", ALL, kind], "kind") for kind in self._kinds]
        clear = [choice for choice in choices if is_clear(choice[0], self.view)]
        sizes = [len(evaluate(program, self.view)) for program, _ in clear]
        colored = [choice[1] == "color" for choice in clear]
        for enough in (
            [c for c, size, has in zip(clear, sizes, colored, strict=True) if size > 1 and has],
            [c for c, size in zip(clear, sizes, strict=True) if size > 1],
            [c for c, size, has in zip(clear, sizes, colored, strict=True) if size and has],
        ):
            if enough:
                program, category = self._pick(enough)
                targets = tuple(sorted(evaluate(program, self.view)))
                return Expression(self._wording.say_all(program), program, targets, category)
        return None

    def _true_program(
        self, categories: Mapping[str, float], wanted: Callable[[int], bool]
    ) -> tuple[Program, str] | None:
        if not self.view:
            return None
        names = list(categories)
        weights = np.array([categories[name] for name in names])
        order = self._rng.choice(len(names), len(names), replace=False, p=weights / weights.sum())
        for name in (names[index] for index in order):
            for _ in range(_TRIES):
                program = _DRAWS[name](self)
                if program is None or not wanted(len(evaluate(program, self.view))):
                    continue
                if is_clear(program, self.view):
                    return program, name
        return None

    def _kind(self) -> Program:
        return ["kind", ALL, self._pick(self.view).kind]

    def _color(self) -> Program | None:
        seen = self._pick(self.view)
        if not seen.color:
            return None
        inner = ["kind", ALL, seen.kind] if self._chance(0.75) else ALL
        return ["color", inner, seen.color]

    def _group(self) -> Program | None:
        groups = [
            group
            for group, kinds in vocabulary.GROUPS.items()
            if sum(kind in kinds for kind in self._kinds) > 1
        ]
        return ["group", ALL, self._pick(groups)] if groups else None

    def _kind_or_group(self) -> Program:
        return (self._group() if self._chance(0.2) else None) or self._kind()

    def _size_or_rank(self) -> Program | None:
        if self._chance(0.4):
            return ["extreme", self._plain_or_all(), self._pick(("largest", "smallest"))]
        return self._size()

    def _size(self) -> Program | None:
        seen = self._pick(self.view)
        if seen.size == "medium":
            return None
        program = ["size", ["kind", ALL, seen.kind], seen.size]
        return ["color", program, seen.color] if seen.color and self._chance(0.35) else program

    def _plain(self) -> Program:
        """Objects by what they are, not by where."""
        draw = self._rng.random()
        if draw < 0.1:
            return self._size() or self._kind()
        if draw < 0.16:
            return self._group() or self._kind()
        return (self._color() if draw < 0.6 else None) or self._kind()

    def _plain_or_all(self) -> Program:
        return ALL if self._chance(0.15) else self._plain()

    def _count(self) -> Program | None:
        inner = self._plain() if self._chance(0.85) else self._side()
        number = len(evaluate(inner, self.view))
        return ["count", inner, number] if 2 <= number < len(vocabulary.NUMBERS) else None

    def _side(self) -> Program:
        return ["side", self._plain_or_all(), self._pick(("left", "right"))]

    def _position(self) -> Program:
        draw = self._rng.random()
        inner = self._plain_or_all()
        if draw < 0.35:
            return ["side", inner, self._pick(("left", "right"))]
        if draw < 0.55:
            return ["nth", inner, self._pick(("left", "right")), self._pick((1, 2, 2, 2, 3, 3, 4))]
        which = ("left", "right", "left", "right", "front", "back", "middle")
        return ["extreme", inner, self._pick(which)]

    def _relation(self) -> Program:
        how = self._pick(("left", "right", "front", "behind", "beside", "nearest"))
        anchor = self._plain() if self._chance(0.85) else self._position()
        return ["relation", self._plain_or_all(), how, anchor]

    def _and(self) -> Program | None:
        members = [self._plain() for _ in range(2 if self._chance(0.85) else 3)]
        if self._chance(0.15):
            members[0] = ["extreme", self._kind(), self._pick(("left", "right", "front"))]
        sets = [evaluate(member, self.view) for member in members]
        # Said together only if each part means something, and none of it was said before.
        if not all(sets) or len(frozenset().union(*sets)) < sum(map(len, sets)):
            return None
        program = members[0]
        for member in members[1:]:
            program = ["or", program, member]
        return program

    def _except(self) -> Program | None:
        draw = self._rng.random()
        if draw < 0.45:
            whole: Program = ALL
            part = self._plain()
            if self._chance(0.2):
                part = self._and() or part
        else:
            whole = self._kind() if draw < 0.85 else (self._group() or self._kind())
            part = self._pick((self._part_by_color, self._part_by_place))(whole)
        inside, everything = evaluate(part, self.view), evaluate(whole, self.view)
        if not inside or not inside < everything:
            return None
        if whole != ALL and len(everything) - len(inside) == 1 and part[0] == "extreme":
            return None  # "all cups but the leftmost one" for a single cup
        return ["except", whole, part]

    def _part_by_color(self, whole: Program) -> Program:
        if whole[0] == "group" and self._chance(0.6):
            return ["kind", whole, self._pick(self._kinds)]
        return ["color", whole, self._pick(self._colors or tuple(COLORS))]

    def _part_by_place(self, whole: Program) -> Program:
        if self._chance(0.4):
            return ["side", whole, self._pick(("left", "right"))]
        return ["extreme", whole, self._pick(("left", "right", "front", "back"))]

    # -- without a target

    def nothing(self) -> Expression | None:
        """An expression that means nothing in view."""
        if self._chance(EASY) or not self.view:
            return self.absurd() if self._chance(ABSURD) else self.absent()
        return self.deceptive() or self.absent()

    def absurd(self) -> Expression:
        """Something that nobody expects on a table."""
        program: Program = ["kind", ALL, self._pick(vocabulary.ABSENT_NOUNS)]
        return self._easy(program)

    def absent(self) -> Expression | None:
        """A kind, or a group of kinds, that is often on the table but not on this one."""
        choices: list[Program] = [
            ["kind", ALL, kind]
            for kind in KINDS
            if not any(vocabulary.alike(kind, present) for present in self._kinds)
        ]
        choices += [
            ["group", ALL, group]
            for group, kinds in vocabulary.GROUPS.items()
            if not any(vocabulary.alike(kind, there) for kind in kinds for there in self._kinds)
        ]
        choices = [program for program in choices if is_clear(program, self.view)]
        return self._easy(self._pick(choices)) if choices else None

    def _easy(self, program: Program) -> Expression:
        if self._chance(0.35):
            program = ["color", program, self._pick(tuple(COLORS))]
        number = 1 if self._chance(0.6) else 2
        draw = self._rng.random()
        if draw < 0.15:
            program = ["side", program, self._pick(("left", "right"))]
        elif draw < 0.25:
            number = 1
            program = ["extreme", program, self._pick(("left", "right", "front", "back"))]
        return Expression(self._wording.say(program, number), program, (), "absent", "easy")

    def deceptive(
        self,
        clauses: Sequence[str] = tuple(_CLAUSES),
        sources: Mapping[str, float] | None = None,
    ) -> Expression | None:
        """A true expression, of one of the categories ``sources``, with one clause made false."""
        weights = np.array([_CLAUSES[clause] for clause in clauses])
        order = self._rng.choice(
            len(clauses), len(clauses), replace=False, p=weights / weights.sum()
        )
        for clause in (clauses[index] for index in order):
            for _ in range(_TRIES // 2):
                found = self._falsified(clause, sources)
                if found is not None:
                    return found
        return None

    def _falsified(
        self, clause: str, sources: Mapping[str, float] | None = None
    ) -> Expression | None:
        sources = sources or _FALSIFIABLE.get(clause, _SPATIAL)
        drawn = self._true_program(sources, lambda size: size > 0)
        if drawn is None:
            return None
        edits = [edited for edited, name in self._edits(drawn[0]) if name == clause]
        if not edits:
            return None
        false = self._pick(edits)
        if clause != "count" and false[0] == "count" and evaluate(false[1], self.view):
            return None  # there is such a thing, only not so many
        if clause == "kind" and not self._related(false):
            return None
        if _names_reference_again(false) or not self._surely_nothing(false):
            return None
        text = self._wording.say(false, len(evaluate(drawn[0], self.view)))
        return Expression(text, false, (), clause, "deceptive")

    def _surely_nothing(self, program: Program) -> bool:
        """Nothing in view fits, and nothing would if a kind or a colour were taken for its like."""
        if evaluate(program, self.view) or not is_clear(program, self.view):
            return False
        return not any(evaluate(other, self.view) for other in self._lookalikes(program))

    def _related(self, program: Program) -> bool:
        """Whether more than a bare kind, which is not there, is said."""
        words = set(_leaves(program))
        return bool(words & {"color", "relation"}) or bool(words & set(self._kinds))

    def _lookalikes(self, program: Program) -> Iterator[Program]:
        names = {"kind": tuple(self._kinds), "color": tuple(self._colors)}.get(program[0], ())
        for name in names:
            if vocabulary.alike(name, program[2]):
                yield [program[0], program[1], name]
        for place, argument in enumerate(program):
            if isinstance(argument, list):
                for other in self._lookalikes(argument):
                    yield [*program[:place], other, *program[place + 1 :]]

    def _edits(self, program: Program) -> Iterator[tuple[Program, str]]:
        """Copies of the program with one clause changed, and the clause's name."""
        if program[0] in ("all", "or", "except"):
            return
        operation, inner, *rest = program
        for edited, clause in self._edits(inner):
            yield [operation, edited, *rest], clause
        if operation == "kind":
            for kind in self._others(KINDS, self._kinds, rest[0]):
                yield ["kind", inner, kind], "kind"
        elif operation == "color":
            for color in self._others(tuple(COLORS), self._colors, rest[0]):
                yield ["color", inner, color], "color"
        elif operation == "size":
            yield ["size", inner, "small" if rest[0] == "large" else "large"], "size"
        elif operation == "count":
            for number in (rest[0] - 1, rest[0] + 1, rest[0] + 2):
                if 2 <= number < len(vocabulary.NUMBERS):
                    yield ["count", inner, number], "count"
        elif operation == "side":
            yield ["side", inner, _OPPOSITE[rest[0]]], "position"
        elif operation == "nth":
            number = len(evaluate(inner, self.view)) + 1
            if number <= len(vocabulary.ORDINALS):
                yield ["nth", inner, rest[0], number], "position"
        elif operation == "relation":
            how, reference = rest
            if how in _OPPOSITE:
                yield ["relation", inner, _OPPOSITE[how], reference], "relation"
            for edited, _ in self._edits(reference):
                yield ["relation", inner, how, edited], "reference"

    def _others(self, names: Sequence[str], present: Sequence[str], name: str) -> Sequence[str]:
        """Names to put in place of one: rather those that are in view."""
        seen = [other for other in present if other != name]
        return seen if seen and self._chance(0.65) else [other for other in names if other != name]

    def _pick(self, choices: Sequence[T]) -> T:
        return choices[int(self._rng.integers(len(choices)))]

    def _chance(self, probability: float) -> bool:
        return bool(self._rng.random() < probability)


def _names_reference_again(program: Program) -> bool:
    """ "the black bottle left of the bottle": who says that, sees two of them."""
    inner = [part for part in program if isinstance(part, list)]
    if program[0] == "relation" and program[3][0] == "kind":
        return program[3][2] in _leaves(program[1])
    return any(_names_reference_again(part) for part in inner)


def _leaves(program: Program) -> Iterator[str]:
    for part in program:
        if isinstance(part, list):
            yield from _leaves(part)
        elif isinstance(part, str):
            yield part


_OPPOSITE = {"left": "right", "right": "left", "front": "behind", "behind": "front"}

_DRAWS: dict[str, Callable[[_Composer], Program | None]] = {
    "all": lambda composer: ALL,
    "kind": _Composer._kind_or_group,
    "color": _Composer._color,
    "size": _Composer._size_or_rank,
    "count": _Composer._count,
    "position": _Composer._position,
    "relation": _Composer._relation,
    "and": _Composer._and,
    "except": _Composer._except,
}
# How often a category is asked for first; relations and sizes often fail for want of a clear case.
_ONE = {"kind": 8, "color": 20, "size": 12, "position": 30, "relation": 26, "except": 4}
_MANY = {
    "all": 2, "kind": 14, "color": 16, "size": 2, "count": 16, "position": 12, "relation": 12,
    "and": 14, "except": 12,
}  # fmt: skip


def demo_commands(
    view: Sequence[ViewObject], rng: np.random.Generator
) -> list[tuple[str, Expression]]:
    """Commands for a view, each with the expression it contains.

    All of a kind and colour, a single object, a counted set, a place, two kinds at once, something
    absurd, and something with one word false; in that order. Where the view has no clear case of
    one, another expression with targets takes its place.
    """
    composer = _Composer(view, rng)
    many: Callable[[int], bool] = lambda size: size > 1  # noqa: E731
    single: Callable[[int], bool] = lambda size: size == 1  # noqa: E731
    wishes: list[Callable[[], Expression | None]] = [
        composer.all_of_kind_and_color,
        lambda: composer.draft({"color": 1, "kind": 0.3}, single),
        lambda: composer.draft({"count": 1}, many),
        lambda: composer.draft({"position": 1, "relation": 1.5}, single),
        lambda: composer.draft({"and": 1}, many),
        composer.absurd,
        lambda: composer.deceptive(("color",), {"color": 1}) or composer.deceptive(),
    ]
    commands: list[tuple[str, Expression]] = []
    said: set[str] = set()
    for number, wish in enumerate(wishes):
        for attempt in range(24):
            expression = wish() if attempt < 16 else composer.something(one=attempt % 2 == 0)
            if expression is None or " " not in expression.text:
                continue
            if expression.text not in said and expression.text.split()[0] in _DETERMINERS:
                said.add(expression.text)
                commands.append((f"{_VERBS[number % len(_VERBS)]} {expression.text}", expression))
                break
    return commands


_DETERMINERS = ("the", "all", "every", "both", "a", "an", *vocabulary.NUMBERS[2:])
_VERBS = ("pick up", "give me", "grab", "hand me", "take", "bring me", "find")
