"""A second opinion: reads plain English noun phrases over a view, and knows nothing of programs.

It understands colours, kinds, determiners, "and", "except" and "that is (not)". Whatever else is
said, it has no opinion.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from grex_ros.scenes import vocabulary
from grex_ros.scenes.objects import COLORS
from grex_ros.scenes.scene import ViewObject

_ALL = r"(?:every one of the|all of the|all the|all|any|each|every|both of the|both the|both)"
_EXCEPT = (
    r" (?:except for|except|but not|but|other than|apart from|aside from|without|"
    r"with the exception of) "
)
_WHERE = r"(?: (?:on the table|in view))?$"


class NoOpinionError(Exception):
    """The phrase holds words that this listener does not know."""


class ContradictionError(AssertionError):
    """The number of objects does not go with the grammar of the phrase."""


def listen(text: str, view: Sequence[ViewObject]) -> frozenset[int]:
    """The indices that the words mean."""
    text = re.sub(_WHERE, "", text)
    whole, *rest = re.split(_EXCEPT, text, maxsplit=1)
    if rest:
        meant = _joint(whole, view, strict=False)
        # "all cups except the red one": the one of the cups
        return meant - _joint(rest[0], [thing for thing in view if thing.index in meant])
    return _joint(text, view, strict=True)


def _joint(text: str, view: Sequence[ViewObject], strict: bool = True) -> frozenset[int]:
    text = re.sub(r"^both (the .* and the )", r"\1", text)
    # "the cups and bowls that are red", "the red cup and bowl"
    behind = re.fullmatch(
        r"(?:all )?the (\w+(?: \w+)*) and (\w+(?: \w+)*) (?:that|which) are (\w+)", text
    )
    if behind:
        text = f"all {behind[3]} {behind[1]} and all {behind[3]} {behind[2]}"
    before = re.fullmatch(r"(all the|both the|all|the) (\w+) (.+) and (.+)", text)
    if before and _color(before[2]) and not re.match(r"the |all |every |an? ", before[4]):
        if not any(_color(word) for word in before[4].split()[:-1]):
            text = f"{before[1]} {before[2]} {before[3]} and {before[1]} {before[2]} {before[4]}"
    phrases = re.split(r", | and | as well as | plus ", text)
    return frozenset().union(*(_phrase(phrase, view, strict) for phrase in phrases))


def _phrase(text: str, view: Sequence[ViewObject], strict: bool) -> frozenset[int]:
    text = re.sub(r"^(?:all the |the |all )(?:(\w+) )?stuff\b", r"all \1 things", text)
    text = re.sub(r" in (\w+)$", lambda m: f" that is {m[1]}" if _color(m[1]) else m[0], text)
    text = re.sub(r"^all that is ", "everything that is ", text)
    text, _, condition = text.replace(" which ", " that ").partition(" that ")
    universal = bool(re.match(_ALL + " ", text))
    definite = bool(re.match(r"(?:the|a|an) ", text))
    words = re.sub(rf"^(?:{_ALL}|the|a|an) ", "", text).split()
    if words[0] in ("everything", "anything"):
        universal, words = True, [*words[1:], "things"]
    colors = [_color(word) for word in words[:-1] if _color(word)]
    # "the white orange": the last word is a noun, whatever else it may be.
    left = [word for word in words if not _color(word)] or words[-1:]
    kinds, number = _kinds(" ".join(left))
    if len(colors) > 1:
        raise NoOpinionError(text)
    found = {
        thing.index
        for thing in view
        if (kinds is None or thing.kind in kinds) and all(thing.color == c for c in colors)
    }
    if condition:
        found &= _condition(condition, view)
    if strict and found and number == "one" and not universal and len(found) != 1:
        raise ContradictionError(f"{text!r} is said of {len(found)}")
    if strict and number == "many" and not universal and definite and len(found) == 1:
        raise ContradictionError(f"{text!r} is said of one")
    if text.startswith("both ") and found and len(found) != 2:
        raise ContradictionError(f"{text!r} is said of {len(found)}")
    return frozenset(found)


def _condition(text: str, view: Sequence[ViewObject]) -> set[int]:
    match = re.fullmatch(r"(?:is|are) (not )?(?:an? )?(.+)", text)
    if match is None:
        raise NoOpinionError(text)
    wanted = match[2]
    if _color(wanted):
        fits = {thing.index for thing in view if thing.color == _color(wanted)}
        if wanted == "orange" and re.search(r"\ban orange$", text):
            fits = {thing.index for thing in view if thing.kind == "orange"}
    else:
        kinds, _ = _kinds(wanted)
        fits = {thing.index for thing in view if kinds is None or thing.kind in kinds}
    return {thing.index for thing in view} - fits if match[1] else fits


def _color(word: str) -> str:
    word = {"grey": "gray", "violet": "purple"}.get(word, word)
    return word if word in COLORS else ""


def _kinds(noun: str) -> tuple[set[str] | frozenset[str] | None, str]:
    for kind, names in vocabulary.NOUNS.items():
        for one, many in names:
            if noun in (one, many):
                return {kind}, "one" if noun == one else "many"
    for group, groups in vocabulary.GROUP_NOUNS.items():
        for one, many, _ in groups:
            if noun in (one, many):
                kinds = vocabulary.GROUPS[group]
                return kinds, "any" if one == many else "one" if noun == one else "many"
    for one, many in (*vocabulary.THING_NOUNS, ("one", "ones")):
        if noun in (one, many):
            return None, "one" if noun == one else "many"
    raise NoOpinionError(noun)
