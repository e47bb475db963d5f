"""Composes referring expressions over what an observer sees: for one object, for many, for none.

A program is drawn first, kept only if its answer is clear, and then put into words. An expression
without a target is such a program with one clause made false ("the purple cup" where the cups are
red), or names something that is not there at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from grex_ros.scenes import vocabulary
from grex_ros.scenes.falsify import CLAUSES, SOURCES, absent, falsify
from grex_ros.scenes.objects import COLORS, KINDS
from grex_ros.scenes.programs import Program, evaluate, is_clear
from grex_ros.scenes.sampling import ALL, TRIES, ProgramSampler
from grex_ros.scenes.wording import Wording

if TYPE_CHECKING:
    from grex_ros.scenes.scene import ViewObject

ONE = 0.47  # of the expressions that have targets
EASY = 0.28  # of the expressions without one: the kind is not there at all
ABSURD = 0.36  # of the easy ones: nothing that belongs on a table

# How often a category is asked for first; relations and sizes often fail for want of a clear case.
_ONE = {"kind": 8, "color": 20, "size": 12, "position": 30, "relation": 26, "except": 4}
_MANY = {
    "all": 2, "kind": 14, "color": 16, "size": 2, "count": 16, "position": 12, "relation": 12,
    "and": 14, "except": 12,
}  # fmt: skip
_DETERMINERS = ("the", "all", "every", "both", "a", "an", *vocabulary.NUMBERS[2:])
_VERBS = ("pick up", "give me", "grab", "hand me", "take", "bring me", "find")


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
    view: Sequence[ViewObject],
    rng: np.random.Generator,
    count: int,
    no_target: float = 0.25,
    known: Sequence[str] = KINDS,
) -> list[Expression]:
    """At most ``count`` different expressions; fewer where the view has no more to say.

    ``no_target`` is the expected share of expressions that mean nothing in view. ``known`` are the
    kinds that may be named although they are not in view.
    """
    composer = _Composer(view, rng, known)
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
    """Expressions over one view."""

    def __init__(
        self, view: Sequence[ViewObject], rng: np.random.Generator, known: Sequence[str] = KINDS
    ):
        self._sampler = ProgramSampler(view, rng, known)
        self._wording = Wording(rng, self._sampler.size)

    def something(self, one: bool) -> Expression | None:
        """An expression for one object, or for several; for any number where that cannot be had."""
        found = self.draft(_ONE if one else _MANY, lambda size: (size == 1) == one and size > 0)
        return found or self.draft(_MANY if one else _ONE, lambda size: size > 0)

    def draft(
        self, categories: Mapping[str, float], wanted: Callable[[int], bool]
    ) -> Expression | None:
        """A clear expression from one of the categories with a wanted number of targets."""
        drawn = self._sampler.draw(categories, wanted)
        if drawn is None:
            return None
        program, category = drawn
        text = self._wording.say(program, self._sampler.size(program))
        return Expression(text, program, self._targets(program), category)

    def all_of_kind_and_color(self) -> Expression | None:
        """ "all red cups"; all of a kind where no two objects share kind and colour."""
        sampler = self._sampler
        kinds: list[Program] = [["kind", ALL, kind] for kind in sampler.kinds]
        both: list[Program] = [["color", kind, color] for kind in kinds for color in sampler.colors]
        for programs, least in ((both, 2), (kinds, 2), (both, 1)):
            clear = [program for program in programs if is_clear(program, sampler.view)]
            enough = [program for program in clear if sampler.size(program) >= least]
            if enough:
                program = sampler.pick(enough)
                text = self._wording.say_all(program)
                return Expression(text, program, self._targets(program), program[0])
        return None

    def nothing(self) -> Expression | None:
        """An expression that means nothing in view."""
        if self._sampler.chance(EASY):
            return self.absurd() if self._sampler.chance(ABSURD) else self.absent()
        return self.deceptive() or self.absent()

    def absurd(self) -> Expression:
        """Something that nobody expects on a table."""
        return self._easy(["kind", ALL, self._sampler.pick(vocabulary.ABSENT_NOUNS)])

    def absent(self) -> Expression | None:
        """A kind, or a group of kinds, that is often on the table but not on this one."""
        choices = absent(self._sampler)
        return self._easy(self._sampler.pick(choices)) if choices else None

    def deceptive(
        self,
        clauses: Mapping[str, float] = CLAUSES,
        sources: Mapping[str, float] | None = None,
    ) -> Expression | None:
        """A true expression, of one of the categories ``sources``, with one clause made false."""
        for clause in self._sampler.shuffled(clauses):
            for _ in range(TRIES // 2):
                drawn = self._sampler.draw(sources or SOURCES[clause], lambda size: size > 0)
                false = falsify(drawn[0], clause, self._sampler) if drawn else None
                if drawn and false:
                    text = self._wording.say(false, self._sampler.size(drawn[0]))
                    return Expression(text, false, (), clause, "deceptive")
        return None

    def _easy(self, program: Program) -> Expression:
        sampler = self._sampler
        if sampler.chance(0.35):
            program = ["color", program, sampler.pick(tuple(COLORS))]
        number = 1 if sampler.chance(0.6) else 2
        draw = sampler.rng.random()
        if draw < 0.15:
            program = ["side", program, sampler.pick(("left", "right"))]
        elif draw < 0.25:
            number = 1
            program = ["extreme", program, sampler.pick(("left", "right", "front", "back"))]
        return Expression(self._wording.say(program, number), program, (), "absent", "easy")

    def _targets(self, program: Program) -> tuple[int, ...]:
        return tuple(sorted(evaluate(program, self._sampler.view)))


def demo_commands(
    view: Sequence[ViewObject], rng: np.random.Generator, known: Sequence[str] = KINDS
) -> list[tuple[str, Expression]]:
    """Commands for a view, each with the expression it contains.

    All of a kind and colour, a single object, a counted set, a place, two kinds at once, something
    absurd, and something with one word false; in that order. Where the view has no clear case of
    one, another expression with targets takes its place.
    """
    composer = _Composer(view, rng, known)
    many: Callable[[int], bool] = lambda size: size > 1  # noqa: E731
    single: Callable[[int], bool] = lambda size: size == 1  # noqa: E731
    wishes: list[Callable[[], Expression | None]] = [
        composer.all_of_kind_and_color,
        lambda: composer.draft({"color": 1, "kind": 0.3}, single),
        lambda: composer.draft({"count": 1}, many),
        lambda: composer.draft({"position": 1, "relation": 1.5}, single),
        lambda: composer.draft({"and": 1}, many),
        composer.absurd,
        lambda: composer.deceptive({"color": 1}, {"color": 1}) or composer.deceptive(),
    ]
    commands: list[tuple[str, Expression]] = []
    said: set[str] = set()
    for number, wish in enumerate(wishes):
        for attempt in range(24):
            expression = wish() if attempt < 16 else composer.something(one=attempt % 2 == 0)
            if expression is None or expression.text in said:
                continue
            first = ("the",) if len(expression.targets) == 1 and number else _DETERMINERS
            if expression.text.split()[0] in first:
                said.add(expression.text)
                commands.append((f"{_VERBS[number % len(_VERBS)]} {expression.text}", expression))
                break
    return commands
