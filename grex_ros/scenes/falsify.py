"""Makes one clause of a true program false, so that nothing in view is meant any more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from grex_ros.scenes import vocabulary
from grex_ros.scenes.objects import COLORS
from grex_ros.scenes.programs import Program
from grex_ros.scenes.sampling import ALL, ProgramSampler, words_of

if TYPE_CHECKING:
    from grex_ros.scenes.scene import ViewObject

# Which clause is made false how often. "The two cups" before three of them is a matter of taste,
# so counts are rare.
CLAUSES = {
    "color": 32, "kind": 27, "position": 16, "relation": 14, "reference": 8, "size": 4, "count": 5,
}  # fmt: skip
# Clause -> categories of true programs that have it.
SOURCES: dict[str, dict[str, float]] = {
    "color": {"color": 5, "position": 2, "relation": 2, "count": 1},
    "kind": {"color": 5, "position": 2, "relation": 2, "count": 1},
    "position": {"position": 1},
    "relation": {"relation": 1},
    "reference": {"relation": 1},
    "size": {"size": 1},
    "count": {"count": 1},
}
_EDITS_TRIED = 6
_OPPOSITE = {
    "left": "right", "right": "left", "front": "behind", "behind": "front", "above": "below",
    "below": "above", "top": "bottom", "bottom": "top",
}  # fmt: skip


def falsify(true: Program, clause: str, sampler: ProgramSampler) -> Program | None:
    """The program with one such clause changed; None if that leaves doubt about its emptiness."""
    choices = [edited for edited, name in _edits(true, sampler) if name == clause]
    for index in sampler.rng.permutation(len(choices))[:_EDITS_TRIED]:
        if _is_good(choices[index], clause, sampler):
            return choices[index]
    return None


def _is_good(false: Program, clause: str, sampler: ProgramSampler) -> bool:
    if clause != "count" and false[0] == "count" and sampler.size(false[1]):
        return False  # there is such a thing, only not so many
    if clause == "kind" and not _says_more_than_kind(false, sampler):
        return False
    return not _names_reference_again(false) and surely_nothing(false, sampler)


def borrowed(program: Program, sampler: ProgramSampler) -> bool:
    """Whether an expression that is true elsewhere means nothing here, but speaks of what is here.

    That makes it deceptive: with kids in view "the kid in blue" is, "the dog in blue" is not.
    """
    words = set(words_of(program)) - {"all"}
    kinds = {word for word in words if word in vocabulary.NOUNS}
    wrong_count = "count" in words
    return (
        bool(kinds)
        and kinds <= set(sampler.kinds)
        and not wrong_count
        and (not _names_reference_again(program) and surely_nothing(program, sampler))
    )


def surely_nothing(program: Program, sampler: ProgramSampler) -> bool:
    """Nothing in view fits, and nothing would if a kind or a colour were taken for its like."""
    if sampler.means(program) or not sampler.is_clear(program):
        return False
    return not any(sampler.means(other) for other in _lookalikes(program, sampler.view))


def absent(sampler: ProgramSampler) -> list[Program]:
    """The known kinds, and groups of such, that are surely not in view."""
    present = sampler.kinds
    groups = {
        group: kinds for group, kinds in vocabulary.GROUPS.items() if kinds & set(sampler.known)
    }
    programs: list[Program] = [["kind", ALL, kind] for kind in sampler.known]
    programs += [["group", ALL, group] for group in groups]
    kinds = [{kind} for kind in sampler.known] + list(groups.values())
    return [
        program
        for program, meant in zip(programs, kinds, strict=True)
        if not any(vocabulary.alike(kind, there) for kind in meant for there in present)
        and sampler.is_clear(program)
    ]


def _edits(program: Program, sampler: ProgramSampler) -> Iterator[tuple[Program, str]]:
    """Copies of the program with one clause changed, and the clause's name."""
    if program[0] in ("all", "or", "except"):
        return
    operation, inner, *rest = program
    for edited, clause in _edits(inner, sampler):
        yield [operation, edited, *rest], clause
    if operation == "kind":
        for kind in _others(sampler, sampler.known, sampler.kinds, rest[0]):
            yield ["kind", inner, kind], "kind"
    elif operation == "color":
        for color in _others(sampler, tuple(COLORS), sampler.colors, rest[0]):
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
        number = sampler.size(inner) + 1
        if number <= len(vocabulary.ORDINALS):
            yield ["nth", inner, rest[0], number], "position"
    elif operation == "relation":
        how, reference = rest
        if how in _OPPOSITE:
            yield ["relation", inner, _OPPOSITE[how], reference], "relation"
        for edited, _ in _edits(reference, sampler):
            yield ["relation", inner, how, edited], "reference"


def _others(
    sampler: ProgramSampler, names: Sequence[str], present: Sequence[str], name: str
) -> Sequence[str]:
    """Names to put in place of one: rather those that are in view."""
    seen = [other for other in present if other != name]
    return seen if seen and sampler.chance(0.65) else [other for other in names if other != name]


def _lookalikes(program: Program, view: Sequence[ViewObject]) -> Iterator[Program]:
    """Copies of the program with one kind or colour taken for a like one that is in view."""
    names: set[str] = set()
    if program[0] in ("kind", "color"):
        names = {seen.kind if program[0] == "kind" else seen.color for seen in view}
    for name in sorted(names):
        if vocabulary.alike(name, program[2]):
            yield [program[0], program[1], name]
    for place, argument in enumerate(program):
        if isinstance(argument, list):
            for other in _lookalikes(argument, view):
                yield [*program[:place], other, *program[place + 1 :]]


def _says_more_than_kind(program: Program, sampler: ProgramSampler) -> bool:
    """Whether the kind is there after all, or there is more to tie the words to the view."""
    words = set(words_of(program))
    return bool(words & {"color", "relation"}) or bool(words & set(sampler.kinds))


def _names_reference_again(program: Program) -> bool:
    """ "the black bottle left of the bottle": who says that, sees two of them."""
    if program[0] == "relation" and program[3][0] == "kind":
        return program[3][2] in words_of(program[1])
    if program[0] == "relation" and program[1] == program[3]:
        return True
    return any(_names_reference_again(part) for part in program if isinstance(part, list))
