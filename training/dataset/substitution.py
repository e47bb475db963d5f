"""Expressions of other pictures that surely mean nothing in this one.

A model that is only asked for what is there learns to answer always. So some expressions are
replaced by what is said of another picture of the same split, as DeRIS does; where DeRIS compares
the words of both, here the thing itself must be absent: the expression names the category of all
that it means, and this picture has no such thing, no crowd of it, and nothing that is easily taken
for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import numpy as np

from grex_ros.scenes.vocabulary import NOUNS, WIDER_KINDS, alike

from .records import Record

TRIES = 20  # pictures of one dataset may all hold much the same

# With these words more than the named category may be meant, or something else.
_OPEN = re.compile(
    r",|\b(and|or|nor|both|not|no|but|except|without|ones?|(any|every|some)?things?|"
    r"objects?|items?|stuff|another|others?)\b"
)


class Substitutes:
    """What can be said of pictures that do not have it."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.said: list[tuple[str, frozenset[str]]] = []
        for record in records:
            for expression in record.expressions:
                categories = frozenset(t.category for t in record.targets(expression))
                if categories and names_all(expression.text, categories):
                    self.said.append((expression.text, categories))

    def draw(self, record: Record, rng: np.random.Generator) -> str | None:
        """A text that means nothing in the picture; None if none is found."""
        there = {instance.category for instance in record.instances} | record.crowds
        for _ in range(TRIES if self.said else 0):
            text, categories = self.said[int(rng.integers(len(self.said)))]
            if not any(confusable(a, b) for a in categories for b in there):
                return text
        return None


def names_all(text: str, categories: frozenset[str]) -> bool:
    """Whether the text names every category, and no word in it leaves open what else is meant."""
    text = text.lower()
    return not _OPEN.search(text) and all(_names(c).search(text) for c in categories)


@cache
def confusable(a: str, b: str) -> bool:
    """Whether a picture that has ``b`` might be said to have ``a``."""
    return alike(a, b) or b in WIDER_KINDS.get(a, ()) or a in WIDER_KINDS.get(b, ())


@cache
def _names(category: str) -> re.Pattern[str]:
    forms = {form for pair in NOUNS.get(category, ()) for form in pair}
    forms |= {category, f"{category}s", f"{category}es"}
    return re.compile(rf"\b({'|'.join(map(re.escape, sorted(forms)))})\b")
