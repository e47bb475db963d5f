"""Whole sentences around an expression: "could you pick up the red cup, please?"

The node strips such words before it grounds (``grounding.command``); a model that has met them
does not mind those that are left.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

HANDS = (
    "pick up", "pick up", "grab", "hand me", "bring me", "give me", "get", "get me", "take",
    "pass me", "move", "lift", "touch", "put away", "clear away",
)  # fmt: skip
EYES = (
    "find", "find", "find me", "show me", "show me", "point at", "point to", "look for", "locate",
    "select", "highlight", "segment", "mark", "detect", "look at", "identify",
)  # fmt: skip
WISHES = (
    "i need", "i want", "i would like", "i'd like", "i am looking for", "i'm looking for",
    "we need", "give me a mask of", "i want to see",
)  # fmt: skip
ASKED = ("could you", "can you", "would you", "could you please", "can you please", "will you")
QUESTIONS = ("can you see", "do you see")


def dress(text: str, number: int, rng: np.random.Generator, hands: bool = True) -> str:
    """The expression ``text`` (of ``number`` objects) inside a sentence, in lower case.

    Without ``hands`` the verbs only ask to look.
    """

    def pick(choices: Sequence[str]) -> str:
        return choices[int(rng.integers(len(choices)))]

    first = text.split()[0]
    bare = first not in (
        "the", "a", "an", "all", "every", "each", "any", "both", "everything", "anything",
    )  # fmt: skip
    draw = rng.random()
    if draw < 0.12 and not bare:
        return f"{pick(WISHES)} {text}{pick(('', '', ' please'))}"
    if draw < 0.2 and not bare:
        return f"{pick(QUESTIONS)} {text}?"
    if draw < 0.32 and first in ("the", "both"):
        return f"{_where(text, number, rng)}{pick(('', '?'))}"
    verb = pick(HANDS if hands and rng.random() < 0.6 else EYES)
    draw = rng.random()
    if draw < 0.5:
        return f"{verb} {text}"
    if draw < 0.62:
        return f"please {verb} {text}"
    if draw < 0.74:
        return f"{verb} {text}{pick((' ', ', '))}please"
    if draw < 0.8 and "me" not in verb.split():
        return f"{verb} {text} for me"
    return f"{pick(ASKED)} {verb} {text}{pick(('', '?', ' for me' if ' me' not in verb else '?'))}"


def _where(text: str, number: int, rng: np.random.Generator) -> str:
    one = number == 1 and not text.startswith("both")
    return ("where's " if one and rng.random() < 0.3 else f"where {'is' if one else 'are'} ") + text
