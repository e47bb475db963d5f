"""English for programs: the same set said in many ways, with the grammar that its size asks for."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from grex_ros.scenes import phrases, vocabulary
from grex_ros.scenes.programs import Program

T = TypeVar("T")


@dataclass
class _Noun:
    singular: str
    plural: str
    mass: bool = False  # "all fruit is", never "two fruit"
    thing: bool = False  # says nothing: "object"


@dataclass
class _Parts:
    """A program without "or" and "except", taken apart."""

    kind: str = ""
    group: str = ""
    color: str = ""
    size: str = ""
    count: int = 0
    before: list[str] = field(default_factory=list)  # adjectives that single out
    after: list[str] = field(default_factory=list)
    clause: bool = True  # may take a relative clause
    unique: bool = False  # only one can be so: "leftmost", "second from the left", "closest to"


class Wording:
    """Says programs in English.

    ``sizes`` tells how many objects a part of the program means; it decides between "the red one"
    and "the red ones" after "except". Not on a ``table``: in a photograph.
    """

    def __init__(
        self, rng: np.random.Generator, sizes: Callable[[Program], int], table: bool = True
    ):
        self._rng = rng
        self._sizes = sizes
        self._table = table

    def say(self, program: Program, number: int) -> str:
        """A phrase for a program that means ``number`` objects, or would if all of it were true."""
        if program[0] == "or":
            text = self._either(program)
        elif program[0] == "except":
            text = self._except(program, number)
        elif program[0] == "color" and program[1][0] == "or":
            text = self._shared(program, number)
        else:
            text = self._phrase(program, number)
        text = text.replace("every thing", "every object")
        if " is " not in text and self._chance(0.6):
            text = re.sub(r"\b(the (?:\w+ )*?)pair of scissors", r"\1scissors", text)
        return text

    def say_all(self, program: Program) -> str:
        """ "all red cups", whatever their number."""
        parts = self._take_apart(program)
        noun = self._noun(parts)
        return "all " + self._body_plain(parts, noun, plural=True)

    # -- one noun phrase

    def _phrase(self, program: Program, number: int, definite: bool = False) -> str:
        parts = self._take_apart(program)
        if parts.count:
            return self._counted(parts)
        parts.clause = not definite  # "the cup behind the bowl that is red": which of them is?
        return self._one(parts, definite) if number == 1 else self._many(parts, definite)

    def _one(self, parts: _Parts, definite: bool) -> str:
        noun = self._noun(parts)
        told = parts.color and not parts.after or (parts.after and not parts.color)
        if noun.thing and told and not definite and self._chance(0.3):
            noun = _Noun("one", "ones", thing=True)
        body = self._body(parts, noun, plural=False)
        if definite or parts.unique or parts.before or noun.singular == "one":
            bare = not definite and noun.singular != "one" and self._chance(0.14)
            return body if bare else "the " + body
        draw = self._rng.random()
        if draw < 0.06 and not noun.thing and not noun.mass and not (parts.before or parts.after):
            # Said by those who do not know that there is but one.
            plural = draw < 0.03
            return ("all " if plural else "every ") + self._body(parts, noun, plural)
        if draw < 0.2:
            return body
        return vocabulary.with_article(body) if draw < 0.3 else "the " + body

    def _many(self, parts: _Parts, definite: bool) -> str:
        noun = self._noun(parts)
        if noun.thing and not (definite or parts.before) and self._chance(0.5):
            return self._everything(parts)
        body = self._body(parts, noun, plural=True)
        if definite:
            return "the " + body
        determiner = self._pick(phrases.MANY)
        if determiner == "every one of the" and noun.mass:
            determiner = "all the"
        if determiner in ("every", "each"):
            if noun.mass:
                determiner = "all"
            else:
                body = self._body(parts, noun, plural=False)
        if determiner in ("", "any") and noun.thing and not parts.color and not parts.after:
            determiner = "all"
        return self._join(determiner, body)

    def _counted(self, parts: _Parts) -> str:
        noun = self._noun(parts)
        body = self._body(parts, noun, plural=True)
        number = vocabulary.NUMBERS[parts.count]
        if self._chance(0.15):
            number = str(parts.count)
        forms = [f"the {number}", f"the {number}", number, f"all {number}"]
        if parts.count == 2:
            forms = list(phrases.EACH_OF_TWO)
        elif parts.count == 3:
            forms += ["all three of the", "the group of three"]
        return self._join(self._pick(forms), body)

    def _everything(self, parts: _Parts) -> str:
        head = self._pick(phrases.EVERYTHING)
        tail = " ".join(parts.after)
        is_ = self._pick((" that is ", " that is ", " which is "))
        if head == "all that":
            is_ = " is "
            tail = tail or ("" if parts.color else self._pick(phrases.WHERE_ALL_IS[self._table]))
        if parts.color:
            color = self._color(parts.color)
            if head == "all that":
                head += f" is {color}"
            elif head == "all the stuff" and self._chance(0.5):
                head = self._pick(("all the", "all", "the")) + f" {color} stuff"
            else:
                head += (
                    self._pick((f" {color}", is_ + color)) if "stuff" not in head else is_ + color
                )
            if tail:
                tail = self._pick(("", "and ")) + tail if is_ in head else tail
        elif tail:
            tail = (
                (is_.strip() if head == "all that" else self._pick(("", is_.strip()))) + " " + tail
            )
        elif head == "anything":
            head = "everything"
        if not tail and self._chance(0.3):
            tail = self._pick(phrases.WHERE_ALL_IS[self._table])
        return self._join(head, tail.strip())

    def _body(self, parts: _Parts, noun: _Noun, plural: bool) -> str:
        name = noun.plural if plural else noun.singular
        color = self._color(parts.color) if parts.color else ""
        size = self._pick(phrases.SIZE[parts.size]) if parts.size else ""
        verb = "are" if plural and not noun.mass else "is"
        tail = " ".join(parts.after)
        clause = parts.clause and self._chance(0.15)
        if clause and color and not tail:
            said = self._pick((f"that {verb} {color}", f"which {verb} {color}", f"in {color}"))
            return self._join(*parts.before, size, name, said)
        if clause and tail and not tail.startswith("from the"):
            tail = f"{self._pick(('that', 'that', 'which'))} {verb} {tail}"
        elif not tail and not parts.before and not noun.thing and self._chance(0.05):
            tail = self._pick(phrases.WHERE_ALL_IS[self._table])
        return self._join(*parts.before, size, color, name, tail)

    # -- compounds

    def _either(self, program: Program) -> str:
        members = _flatten(program)
        counts = [self._sizes(member) for member in members]
        plain = [self._take_apart(member, before=True) for member in members]
        modified = any(parts.color or parts.size or parts.before for parts in plain)
        style = self._pick(("the", "the", "all", "bare", "every"))
        if style == "all" and (modified or min(counts) < 2):
            style = "each"  # "all red cups and bowls" would leave open which bowls
        if style == "bare" and modified and not all(parts.color for parts in plain):
            style = "the"
        said: list[str] = []
        for parts, count in zip(plain, counts, strict=True):
            noun = self._noun(parts)
            body = self._body_plain(parts, noun, plural=count != 1)
            if style == "bare" or (style == "all" and said):
                said.append(body)
            elif style == "all":
                said.append(self._pick(("all ", "all the ", "all of the ")) + body)
            elif style == "every" and not noun.mass and count != 1 and not parts.before:
                said.append("every " + self._body_plain(parts, noun, plural=False))
            elif style == "each" and count != 1:
                said.append("all " + body)
            else:
                said.append("the " + body)
        if len(said) == 2 and counts == [1, 1] and style == "the" and self._chance(0.15):
            return f"both {said[0]} and {said[1]}"
        joint = self._pick((" and ", " and ", " and ", " as well as ", " plus "))
        return ", ".join(said[:-1]) + joint + said[-1]

    def _shared(self, program: Program, number: int) -> str:
        """A colour that several kinds share: "the red cup and bowl"."""
        members = _flatten(program[1])
        color = self._color(program[2])
        counts = [self._sizes(["color", member, program[2]]) for member in members]
        if number == 0:
            counts = [self._sizes(member) for member in members]
        nouns = [self._noun(self._take_apart(member, before=True)) for member in members]
        # "the red cups and bowls" would leave open which bowls, unless all of them are red
        loose = number and any(
            self._sizes(member) != count and count > 1
            for member, count in zip(members[1:], counts[1:], strict=True)
        )
        if loose or self._chance(0.35):
            clause = self._pick(("that are", "that are", "which are"))
            joined = " and ".join(noun.plural for noun in nouns)
            return f"{self._pick(('the', 'the', 'all the'))} {joined} {clause} {color}"
        joined = " and ".join(
            noun.singular if count == 1 else noun.plural
            for noun, count in zip(nouns, counts, strict=True)
        )
        all_ = max(counts) > 1 and min(counts) > 1
        determiner = self._pick(("the", "the", "all the", "all", "both the")[: 4 if all_ else 1])
        return f"{determiner} {color} {joined}"

    def _body_plain(self, parts: _Parts, noun: _Noun, plural: bool) -> str:
        color = self._color(parts.color) if parts.color else ""
        size = self._pick(phrases.SIZE[parts.size]) if parts.size else ""
        return self._join(*parts.before, size, color, noun.plural if plural else noun.singular)

    def _except(self, program: Program, number: int) -> str:
        _, whole, part = program
        parts = self._take_apart(whole)
        noun = self._noun(parts)
        negation = self._negation(whole, part)
        if negation and (self._chance(0.45) or (number == 1 and whole[0] != "all")):
            return self._complement(parts, noun, negation, number)
        if noun.thing and not parts.color and self._chance(0.75):
            head = "everything"
        elif not noun.mass and self._chance(0.2):
            head = "every " + self._body_plain(parts, noun, plural=False)
        else:
            head = self._pick(("all ", "all the ", "all of the ")) + self._body_plain(
                parts, noun, True
            )
        return f"{head} {self._pick(phrases.EXCEPT)} {self._excepted(whole, part)}"

    def _complement(self, parts: _Parts, noun: _Noun, negation: Sequence[str], number: int) -> str:
        """The whole with a relative clause: "the cups that are not red"."""
        one, many = negation
        if number == 1:
            return f"the {self._body_plain(parts, noun, False)} that is not {one}"
        if noun.thing and not parts.color and self._chance(0.7):
            return f"{self._pick(('everything', 'anything'))} that is not {one}"
        if not noun.mass and self._chance(0.25):
            return f"every {self._body_plain(parts, noun, False)} that is not {one}"
        determiner = self._pick(("all ", "all ", "all the ", "the "))
        verb = "is" if noun.mass else "are"
        return f"{determiner}{self._body_plain(parts, noun, True)} that {verb} not {many}"

    def _negation(self, whole: Program, part: Program) -> tuple[str, str] | None:
        """What follows "is not" and "are not", where the part is the whole with one clause more."""
        if part[0] == "color" and part[1] == whole:
            color = self._color(part[2])
            return color, color
        if part[0] == "side" and part[1] == whole:
            where = f"on the {part[2]}"
            return where, where
        if part[0] == "kind" and part[1] == whole:
            singular, plural = self._pick_name(vocabulary.NOUNS[part[2]])
            return vocabulary.with_article(singular), plural
        return None

    def _excepted(self, whole: Program, part: Program) -> str:
        count = self._sizes(part)
        if (
            part[0] in ("color", "extreme", "nth", "side")
            and part[1] == whole
            and whole[0] != "all"
        ):
            parts = self._take_apart(part)
            outer = self._take_apart(whole)
            shown = _Parts(before=parts.before, after=parts.after)
            shown.color = parts.color if not outer.color else ""
            shown.size = parts.size if not outer.size else ""
            noun = _Noun("one", "ones", thing=True)
            return "the " + self._body(shown, noun, plural=count != 1)
        if part[0] == "or":
            return " and ".join(self._phrase(m, self._sizes(m), True) for m in _flatten(part))
        return self._phrase(part, count, definite=True)

    # -- words

    def _take_apart(self, program: Program, before: bool = False) -> _Parts:
        """``before``: nothing but adjectives, so that what follows cannot be read as theirs too."""
        parts = _Parts()
        while program[0] != "all":
            operation, inner, *arguments = program
            if operation in ("kind", "group", "color", "size", "count"):
                setattr(parts, operation, arguments[0])
            elif operation == "extreme":
                self._say_extreme(parts, arguments[0], inner, before)
            elif operation in ("nth", "side", "relation") and before:
                raise ValueError(f"cannot say {operation!r} before a noun: {program!r}")
            elif operation == "nth":
                parts.unique = True
                side, number = arguments
                ordinal = self._pick_name(vocabulary.ORDINALS[number - 1])
                parts.before.append(ordinal)
                parts.after.append(f"from the {side}")
            elif operation == "side":
                if self._chance(0.12):
                    parts.before.append(phrases.SIDE_BEFORE[arguments[0]])
                else:
                    parts.after.append(self._pick_name(self._fit(phrases.SIDE_AFTER[arguments[0]])))
            elif operation == "relation":
                how, reference = arguments
                parts.unique = parts.unique or how == "nearest"
                anchor = self._phrase(reference, 1, definite=True)
                parts.after.append(f"{self._pick(phrases.RELATION[how])} {anchor}")
            else:
                raise ValueError(f"cannot say {operation!r} inside a phrase: {program!r}")
            program = inner
        return parts

    def _say_extreme(self, parts: _Parts, which: str, inner: Program, before: bool) -> None:
        parts.unique = True
        if which in phrases.EXTREME_OF_TWO and self._sizes(inner) == 2:
            if which in ("left", "right") and not before and self._chance(0.4):
                parts.after.append(self._pick((f"on the {which}", f"furthest to the {which}")))
            else:
                parts.before.append(self._pick(phrases.EXTREME_OF_TWO[which]))
        elif which in phrases.EXTREME_AFTER and not before and self._chance(0.45):
            choices = phrases.EXTREME_AFTER[which]
            if which == "middle" and self._sizes(inner) != 3:
                choices = choices[:3]
            if self._sizes(["kind", ["all"], "camera"]):  # not the one that sees the table
                choices = tuple(words for words in choices if "camera" not in words)
            parts.after.append(self._pick(choices))
        else:
            parts.before.append(self._pick_name(phrases.EXTREME_BEFORE[which]))

    def _noun(self, parts: _Parts) -> _Noun:
        if parts.kind:
            names = vocabulary.NOUNS.get(parts.kind)
            if names is None:
                return _Noun(parts.kind, vocabulary.plural(parts.kind))
            return _Noun(*self._pick_name(names))
        if parts.group:
            choices = vocabulary.GROUP_NOUNS[parts.group]
            if parts.count:
                choices = tuple(names for names in choices if not names[2])
            return _Noun(*self._pick_name(choices))
        return _Noun(*self._pick(vocabulary.THING_NOUNS), thing=True)

    def _color(self, color: str) -> str:
        return self._pick(phrases.COLOR.get(color, (color,)))

    def _fit(self, choices: Sequence[str]) -> Sequence[str]:
        """Without those that only fit a table."""
        return choices if self._table else [way for way in choices if "table" not in way]

    def _pick(self, choices: Sequence[T]) -> T:
        return choices[int(self._rng.integers(len(choices)))]

    def _pick_name(self, choices: Sequence[T]) -> T:
        """The first of the choices two times out of three: the usual name."""
        return choices[0] if len(choices) == 1 or self._chance(0.65) else self._pick(choices)

    def _chance(self, probability: float) -> bool:
        return bool(self._rng.random() < probability)

    @staticmethod
    def _join(*words: str) -> str:
        return " ".join(word for word in words if word)


def _flatten(program: Program) -> list[Program]:
    """The members of a chain of "or"."""
    if program[0] != "or":
        return [program]
    return _flatten(program[1]) + _flatten(program[2])
