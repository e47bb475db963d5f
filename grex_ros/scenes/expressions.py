"""Composes referring expressions over what an observer sees: for one object, for many, for none.

A program is drawn first, kept only if its answer is clear, and then put into words. An expression
without a target is such a program with one clause made false ("the purple cup" where the cups are
red), or names something that is not there at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from grex_ros.scenes import vocabulary
from grex_ros.scenes.falsify import CLAUSES, SOURCES, absent, borrowed, falsify
from grex_ros.scenes.objects import COLORS, KINDS
from grex_ros.scenes.programs import Program
from grex_ros.scenes.sampling import ALL, TRIES, ProgramSampler
from grex_ros.scenes.sentences import dress
from grex_ros.scenes.sight import TABLE, Sight
from grex_ros.scenes.wording import Wording

if TYPE_CHECKING:
    from grex_ros.scenes.scene import ViewObject

ONE = 0.47  # of the expressions that have targets
EASY = 0.28  # of the expressions without one: the kind is not there at all
ABSURD = 0.36  # of the easy ones: nothing that belongs on a table

_POOL = 90  # programs drawn to find several for the same objects
_PLACES = ("left", "right", "front", "back", "top", "bottom")
_NO_MEANING = ("the", "a", "an", "all", "of", "every", "each", "any", "that", "is", "are", "which")

# How often a category is asked for first; relations and sizes often fail for want of a clear case.
ONE_TARGET = {"kind": 8, "color": 20, "size": 12, "position": 30, "relation": 26, "except": 4}
MANY_TARGETS = {
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
    "deceptive" (one clause of a true expression was made false). ``spoken`` is the number of
    objects that the words speak of, which decides between "is" and "are".
    """

    text: str
    program: Program
    targets: tuple[int, ...]
    category: str
    falsified: str = ""
    spoken: int = 1


class Speaker(Protocol):
    """Puts programs into words; None where it has none for such a program."""

    def say(self, program: Program, number: int) -> str | None:
        """A phrase for a program that means ``number`` objects, or would if all were true."""


def table_words(rng: np.random.Generator, sizes: Callable[[Program], int]) -> Speaker:
    """The words that we train with."""
    return Wording(rng, sizes)


@dataclass(frozen=True)
class Setting:
    """What is looked at, and how one speaks of it.

    ``known``: kinds that may be named although they are not in view; ``absurd``: nouns of things
    that nobody expects there; ``complete``: nothing but the view's objects is there; ``hands``:
    they can be picked up; ``one``: the share, among expressions with targets, of a single target;
    ``emphasis``: how much more often than usual a category is asked for, or its clause falsified.
    """

    sight: Sight = TABLE
    known: Sequence[str] = KINDS
    absurd: Sequence[str] = vocabulary.ABSENT_NOUNS
    complete: bool = True
    hands: bool = True
    one: float = ONE
    emphasis: Mapping[str, float] = field(default_factory=dict)
    speaker: Callable[[np.random.Generator, Callable[[Program], int]], Speaker] = table_words


TABLETOP = Setting()


def compose(
    view: Sequence[ViewObject],
    rng: np.random.Generator,
    count: int,
    no_target: float = 0.25,
    known: Sequence[str] | None = None,
    *,
    sentences: float = 0.0,
    references: int = 1,
    setting: Setting = TABLETOP,
) -> list[Expression]:
    """At most ``count`` different expressions; fewer where the view has no more to say.

    ``no_target`` is the expected share of expressions that mean nothing in view. ``known`` are the
    kinds that may be named although they are not in view. ``sentences`` is the share of
    expressions inside a whole sentence ("please hand me ..."). Each set of targets is said in
    ``references`` ways, where that many can be had and ``count`` allows it.
    """
    composer = Composer(view, rng, known, setting)
    found: dict[str, Expression] = {}
    # A set of targets brings several expressions, nothing brings one.
    no_target = references * no_target / (references * no_target + 1 - no_target)
    for _ in range(3 * count):
        if len(found) >= count:
            break
        if rng.random() < no_target:
            expression = composer.nothing()
        else:
            expression = composer.something(one=rng.random() < setting.one)
        if expression is not None and expression.text not in found:
            for other in composer.references(expression, min(references, count - len(found))):
                found.setdefault(other.text, other)
    return [composer.in_sentence(expression, sentences) for expression in found.values()]


class Composer:
    """Expressions over one view."""

    def __init__(
        self,
        view: Sequence[ViewObject],
        rng: np.random.Generator,
        known: Sequence[str] | None = None,
        setting: Setting = TABLETOP,
    ):
        known = setting.known if known is None else known
        self._setting = setting
        self._sampler = ProgramSampler(view, rng, known, setting.sight, setting.complete)
        self._speaker = setting.speaker(rng, self._sampler.size)
        self._absent: list[Program] | None = None
        self._pool: dict[tuple[int, ...], list[tuple[Program, str]]] | None = None
        self._one, self._many = self._weighed(ONE_TARGET), self._weighed(MANY_TARGETS)

    def _weighed(self, shares: Mapping[str, float]) -> dict[str, float]:
        emphasis = self._setting.emphasis
        return {name: share * emphasis.get(name, 1.0) for name, share in shares.items()}

    def something(self, one: bool) -> Expression | None:
        """An expression for one object, or for several; for any number where that cannot be had."""
        found = self.draft(
            self._one if one else self._many, lambda size: (size == 1) == one and size > 0
        )
        return found or self.draft(self._many if one else self._one, lambda size: size > 0)

    def draft(
        self, categories: Mapping[str, float], wanted: Callable[[int], bool]
    ) -> Expression | None:
        """A clear expression from one of the categories with a wanted number of targets."""
        drawn = self._sampler.draw(categories, wanted)
        if drawn is None:
            return None
        return self._said(*drawn)

    def _said(self, program: Program, category: str) -> Expression | None:
        targets = self.targets(program)
        text = self._speaker.say(program, len(targets))
        return Expression(text, program, targets, category, "", len(targets)) if text else None

    def references(self, expression: Expression, number: int) -> list[Expression]:
        """The expression and others for the same targets, ``number`` together if there are so many.

        Rather other programs than other words; the same words after "the" or "all" do not count.
        """
        found = {_core(expression.text): expression}
        if not expression.targets or number < 2:
            return [expression]
        if self._pool is None:
            self._pool = self._draw_pool()
        programs = [(expression.program, expression.category)]
        programs += [p for p in self._pool.get(expression.targets, []) if p not in programs]
        for attempt in range(6 * number):
            if len(found) >= number:
                break
            other = self._said(*programs[(attempt + 1) % len(programs)])
            if other:
                found.setdefault(_core(other.text), other)
        return list(found.values())

    def _draw_pool(self) -> dict[tuple[int, ...], list[tuple[Program, str]]]:
        """Clear programs by what they mean."""
        pool: dict[tuple[int, ...], list[tuple[Program, str]]] = {}
        for attempt in range(_POOL):
            drawn = self._sampler.draw(
                self._one if attempt % 2 else self._many, lambda size: size > 0
            )
            if drawn:
                same = pool.setdefault(self.targets(drawn[0]), [])
                if drawn not in same:
                    same.append(drawn)
        return pool

    def in_sentence(self, expression: Expression, share: float) -> Expression:
        """The expression, with that probability inside a whole sentence."""
        if not share or not self._sampler.chance(share):
            return expression
        words = dress(expression.text, expression.spoken, self._sampler.rng, self._setting.hands)
        return replace(expression, text=words)

    def all_of_kind_and_color(self) -> Expression | None:
        """ "all red cups"; all of a kind where no two objects share kind and colour."""
        sampler = self._sampler
        kinds: list[Program] = [["kind", ALL, kind] for kind in sampler.kinds]
        both: list[Program] = [["color", kind, color] for kind in kinds for color in sampler.colors]
        for programs, least in ((both, 2), (kinds, 2), (both, 1)):
            clear = [program for program in programs if sampler.is_clear(program)]
            enough = [program for program in clear if sampler.size(program) >= least]
            if enough:
                program = sampler.pick(enough)
                text = Wording(sampler.rng, sampler.size).say_all(program)
                return Expression(text, program, self.targets(program), program[0])
        return None

    def nothing(self) -> Expression | None:
        """An expression that means nothing in view."""
        if self._sampler.chance(EASY):
            return self.absurd() if self._sampler.chance(ABSURD) else self.absent()
        return self.deceptive() or self.absent()

    def absurd(self) -> Expression | None:
        """Something that nobody expects on a table."""
        return self._easy(["kind", ALL, self._sampler.pick(self._setting.absurd)])

    def absent(self) -> Expression | None:
        """A kind, or a group of kinds, that is often on the table but not on this one."""
        if self._absent is None:
            self._absent = absent(self._sampler)
        choices = self._absent
        return self._easy(self._sampler.pick(choices)) if choices else None

    def deceptive(
        self,
        clauses: Mapping[str, float] = CLAUSES,
        sources: Mapping[str, float] | None = None,
    ) -> Expression | None:
        """A true expression, of one of the categories ``sources``, with one clause made false."""
        for clause in self._sampler.shuffled(self._weighed(clauses)):
            if clause == "count" and not self._setting.complete:
                continue  # of "the four people" before three nobody knows what was counted
            for _ in range(TRIES // 2):
                categories = self._weighed(sources or SOURCES[clause])
                drawn = self._sampler.draw(categories, lambda size: size > 0)
                false = falsify(drawn[0], clause, self._sampler) if drawn else None
                if drawn and false:
                    number = self._sampler.size(drawn[0])
                    text = self._speaker.say(false, number)
                    if text:
                        return Expression(text, false, (), clause, "deceptive", number)
        return None

    def borrow(self, other: Expression) -> Expression | None:
        """An expression of another picture, if it is surely about nothing in this one."""
        if not other.targets or not borrowed(other.program, self._sampler):
            return None
        return replace(other, targets=(), category="borrowed", falsified="deceptive")

    def _easy(self, program: Program) -> Expression | None:
        sampler = self._sampler
        if sampler.chance(0.35):
            program = ["color", program, sampler.pick(tuple(COLORS))]
        number = 1 if sampler.chance(0.6) else 2
        draw = sampler.rng.random()
        if draw < 0.15:
            program = ["side", program, sampler.pick(("left", "right"))]
        elif draw < 0.25:
            number = 1
            places = [place for place in self._setting.sight.extremes if place in _PLACES]
            program = ["extreme", program, sampler.pick(places)]
        text = self._speaker.say(program, number)
        return Expression(text, program, (), "absent", "easy", number) if text else None

    def targets(self, program: Program) -> tuple[int, ...]:
        """What a program means, in rising order."""
        return tuple(sorted(self._sampler.means(program)))


def _core(text: str) -> str:
    """The words that carry the meaning."""
    return " ".join(word for word in text.split() if word not in _NO_MEANING)


def demo_commands(
    view: Sequence[ViewObject], rng: np.random.Generator, known: Sequence[str] = KINDS
) -> list[tuple[str, Expression]]:
    """Commands for a view, each with the expression it contains.

    All of a kind and colour, a single object, a counted set, a place, two kinds at once, something
    absurd, and something with one word false; in that order. Where the view has no clear case of
    one, another expression with targets takes its place.
    """
    composer = Composer(view, rng, known)
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
