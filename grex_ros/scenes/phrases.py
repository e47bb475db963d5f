"""How places, relations, sizes and exceptions are said; the first of several is the usual one."""

from __future__ import annotations

EXTREME_BEFORE = {
    "left": ("leftmost", "left-most", "far left"),
    "right": ("rightmost", "right-most", "far right"),
    "front": ("nearest", "closest", "front"),
    "back": ("farthest", "furthest", "back"),
    "middle": ("middle", "center", "central"),
    "largest": ("largest", "biggest"),
    "smallest": ("smallest", "tiniest"),
}
EXTREME_OF_TWO = {
    "left": ("left", "left", "leftmost"),
    "right": ("right", "right", "rightmost"),
    "largest": ("larger", "bigger", "large", "big", "largest"),
    "smallest": ("smaller", "small", "little", "smallest"),
}
EXTREME_AFTER = {
    "left": ("on the far left", "furthest to the left", "farthest left"),
    "right": ("on the far right", "furthest to the right", "farthest right"),
    "front": (
        "closest to the camera",
        "nearest to the camera",
        "closest to the viewer",
        "at the very front",
    ),
    "back": ("farthest from the camera", "furthest away", "farthest away", "at the very back"),
    "middle": ("in the middle", "in the center", "in between the other two"),
}
SIDE_AFTER = {
    side: (
        f"on the {side}",
        f"on the {side} side",
        f"on the {side} side of the table",
        f"in the {side} half",
        f"in the {side} half of the picture",
        f"to the {side}",
    )
    for side in ("left", "right")
}
RELATION = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "front": ("in front of",),
    "behind": ("behind",),
    "beside": ("next to", "beside", "near"),
    "nearest": ("closest to", "nearest to", "nearest"),
}
SIZE = {
    "small": ("small", "small", "little"),
    "medium": ("medium-sized", "medium"),
    "large": ("large", "large", "big"),
}
EXCEPT = ("except", "except for", "but", "other than", "apart from")
