"""A hundred ways to say things that training never uses: each has a word of its own.

``UnseenWording`` speaks in these alone, so that a dataset made with ``generate --wording unseen``
measures how a model takes to words and templates that it has not met. What an entry means is still
a program, and proved.

In an entry ``{x}`` is what is meant and ``{y}`` the other set ("red cup", "red cups", by number),
``{n}`` / ``{ns}`` the bare noun in singular / plural, ``{c}`` the colour (``{ac}``
with its article), ``{side}`` left or right,
``{ord}`` an ordinal, ``{num}`` a number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from grex_ros.scenes.programs import Program
from grex_ros.scenes.vocabulary import NOUNS, NUMBERS, ORDINALS, plural, with_article
from grex_ros.scenes.wording import Wording

ONE, MANY, ANY = 1, 2, 0


class Entry(NamedTuple):
    """A shape of programs, the number of objects it is said of (0: any), and the words."""

    shape: str
    number: int
    words: str


_ONE_KIND = """
fetch the {x} | retrieve the {x} | reach for the {x} | i want you to seize the {x} |
spot the {x} | hunt down the {x} | where did i leave the {x} | the solitary {x} | the sole {x}
"""
_KINDS = """
gather the {x} | collect the {x} | fetch each single {n} |
the whole bunch of {x} | whichever {x} there are | the various {x} | the complete collection of {x}
"""
_ONE_COLOR = """
the {c}-colored {n} | the {n} whose color is {c} | the {n} painted {c} | the {n} with {ac} finish |
the {n} having {ac} surface | fetch the {c} {n} | the {n} of {c} colour |
the {c} hued {n}
"""
_COLORS = """
the {ns} painted {c} | the {ns} with {ac} finish | {c}-colored {ns} |
whichever {ns} happen to be {c} | the {ns} sharing {ac} shade
"""
_SHAPES: tuple[tuple[str, int, str], ...] = (
    ("kind", ONE, _ONE_KIND),
    ("kind", MANY, _KINDS),
    ("color kind", ONE, _ONE_COLOR),
    ("color kind", MANY, _COLORS),
    ("color", ONE, "the {c} article | whichever object is {c}"),
    ("color", MANY, "whatever is {c} | gather anything of {ac} shade"),
    ("color kind red", ONE, "the crimson {n} | the scarlet {n}"),
    ("color kind red", MANY, "the crimson {ns} | all scarlet {ns}"),
    ("color kind blue", ONE, "the azure {n}"),
    ("color kind blue", MANY, "the azure {ns}"),
    ("color kind green", ONE, "the emerald {n}"),
    ("color kind green", MANY, "all emerald {ns}"),
    ("color kind yellow", ONE, "the canary yellow {n}"),
    ("color kind purple", ONE, "the mauve {n}"),
    ("color kind pink", ONE, "the fuchsia {n}"),
    ("color kind black", ONE, "the jet black {n}"),
    ("color kind black", MANY, "the ebony {ns}"),
    ("color kind white", ONE, "the snowy {n}"),
    ("color kind brown", ONE, "the chestnut {n}"),
    ("color kind orange", ONE, "the tangerine {n}"),
    ("count two", ANY, "the duo of {x} | the twosome of {x}"),
    ("count three", ANY, "the trio of {x} | the threesome of {x}"),
    ("count four", ANY, "the quartet of {x}"),
    ("count", ANY, "the {num} {x} lying about | precisely {num} {x} | the bunch of {num} {x}"),
    ("side", ONE, "the {x} situated on the {side} | the {x} positioned in the {side} portion of "
     "the scene | the {x} located over on the {side}"),
    ("side", MANY, "the {x} clustered on the {side} | whichever {x} lie on the {side} | "
     "gather the {x} toward the {side}"),
    ("extreme side", ONE, "the {x} nearest the {side} border | "
     "the {x} that sits furthest toward the {side} | the outermost {x} on the {side}"),
    ("extreme front", ONE, "the foremost {x} | the frontmost {x} | the {x} within easiest reach"),
    ("extreme back", ONE, "the rearmost {x} | the hindmost {x} | the {x} at the rear"),
    ("extreme middle", ONE, "the {x} flanked by others | the centermost {x}"),
    ("nth", ONE, "counting from the {side} the {x} that comes {ord} | "
     "the {ord} {x} starting at the {side}"),
    ("extreme largest", ONE, "the most sizable {x} | the bulkiest {x}"),
    ("extreme smallest", ONE, "the most petite {x}"),
    ("size large", ONE, "the oversized {x} | the gigantic {x}"),
    ("size small", ONE, "the miniature {x} | the petite {x}"),
    ("relation side", ONE, "the {x} standing to the {side} of the {y} | "
     "fetch the {x} on the {side} hand of the {y}"),
    ("relation side", MANY, "the {x} situated to the {side} of the {y}"),
    ("relation beside", ANY, "the {x} adjacent to the {y} | the {x} alongside the {y} | "
     "the {x} neighboring the {y}"),
    ("relation nearest", ONE, "the {x} in closest proximity to the {y}"),
    ("relation front", ANY, "the {x} standing in front of the {y}"),
    ("relation behind", ANY, "the {x} to the rear of the {y}"),
    ("or", ANY, "the {x} along with the {y} | the {x} together with the {y} | "
     "gather the {x} and additionally the {y}"),
    ("except", ANY, "everything excluding the {y} | everything save the {y} | "
     "everything barring the {y}"),
    ("except kind", MANY, "the {ns} minus the {c} ones | the {ns} excluding any {c} ones"),
)  # fmt: skip
ENTRIES: tuple[Entry, ...] = tuple(
    Entry(shape, number, " ".join(words.split()))
    for shape, number, several in _SHAPES
    for words in several.split("|")
)


class UnseenWording:
    """Says programs in the words of ``ENTRIES``; None where none fits.

    ``sizes`` tells how many objects a part of the program means.
    """

    def __init__(self, rng: np.random.Generator, sizes: Callable[[Program], int]):
        self._rng = rng
        self._sizes = sizes

    def say(self, program: Program, number: int) -> str | None:
        """A phrase for a program that means ``number`` objects, or would if all were true."""
        read = self._read(program, number)
        if read is None:
            return None
        shapes, slots = read
        fit = [
            entry
            for entry in ENTRIES
            if entry.shape in shapes and entry.number in (ANY, min(number, MANY))
        ]
        if not fit:
            return None
        return fit[int(self._rng.integers(len(fit)))].words.format(**slots)

    def _read(self, program: Program, number: int) -> tuple[set[str], dict[str, str]] | None:
        """The shapes that a program has, and what fills the slots."""
        operation, *parts = program
        if operation == "all":
            return None
        count = parts[1] if operation == "count" else number
        slots = _simple(parts[0] if operation != "kind" else program, count) or {}
        if operation in ("kind", "color"):
            slots = _simple(program, number) or {}
            if not slots and operation == "color" and parts[0] == ["all"]:
                return {"color"}, {"c": parts[1], "ac": with_article(parts[1])}
            shape = "color kind" if slots.get("c") else "kind"
            return ({shape, f"{shape} {slots['c']}"}, slots) if slots else None
        if operation == "except":
            return self._except(*parts)
        if operation == "or":
            first, second = (_simple(part, self._sizes(part)) for part in parts)
            return ({"or"}, {**first, "y": second["x"]}) if first and second else None
        if not slots:
            return None
        if operation == "count":
            word = NUMBERS[count]
            return {"count", f"count {word}"}, {**slots, "num": word}
        if operation == "size":
            return {f"size {parts[1]}"}, slots
        if operation in ("side", "extreme"):
            side = parts[1] in ("left", "right")
            shape = "side" if operation == "side" else f"extreme {'side' if side else parts[1]}"
            return {shape}, {**slots, "side": parts[1]}
        if operation == "nth":
            return {"nth"}, {**slots, "side": parts[1], "ord": ORDINALS[parts[2] - 1][0]}
        anchor = _simple(parts[2], 1)
        if operation != "relation" or not anchor:
            return None
        shape = f"relation {'side' if parts[1] in ('left', 'right') else parts[1]}"
        return {shape}, {**slots, "y": anchor["x"], "side": parts[1]}

    def _except(self, whole: Program, part: Program) -> tuple[set[str], dict[str, str]] | None:
        other = _simple(part, self._sizes(part))
        if whole == ["all"] and other:
            return {"except"}, {"y": other["x"]}
        if part[0] == "color" and part[1] == whole and whole[0] == "kind" and other:
            return ({"except kind"}, other) if self._sizes(part) > 1 else None
        return None


class SeenWording:
    """Says in the usual words what ``UnseenWording`` could say, so that both compare."""

    def __init__(self, rng: np.random.Generator, sizes: Callable[[Program], int]):
        self._unseen = UnseenWording(rng, sizes)
        self._ours = Wording(rng, sizes)

    def say(self, program: Program, number: int) -> str | None:
        """As ``Wording.say``; None where no unseen phrase fits."""
        return self._ours.say(program, number) if self._unseen.say(program, number) else None


def _simple(program: Program, number: int) -> dict[str, str] | None:
    """The slots of "cup" and "red cup"; None for all else."""
    color = ""
    if program[0] == "color":
        _, program, color = program
    if program[0] != "kind" or program[1] != ["all"]:
        return None
    one, many = NOUNS.get(program[2], ((program[2], plural(program[2])),))[0]
    noun = one if number == 1 else many
    return {
        "x": f"{color} {noun}".strip(),
        "n": one,
        "ns": many,
        "c": color,
        "ac": with_article(color or " "),
    }
