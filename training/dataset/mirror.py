"""Mirrored pictures: what was on the left is on the right, and the words say so."""

from __future__ import annotations

import re

OTHER = {"left": "right", "right": "left"}
# "Right next to" says how near, unless it is "the right".
SIDE = re.compile(r"\b(left|(?<=the )right|right(?! next to\b))(?=(?:most|ward)?\b)")


def mirrored_text(text: str) -> str:
    """``text`` as it is true of the mirrored picture: left and right change places, also in
    "leftmost", "leftward" and "right-hand". Lower case, as in all datasets."""
    return SIDE.sub(lambda side: OTHER[side[1]], text)
