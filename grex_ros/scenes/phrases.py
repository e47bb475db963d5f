"""How places, relations, sizes and exceptions are said; the first of several is the usual one."""

from __future__ import annotations

EXTREME_BEFORE = {
    "left": ("leftmost", "left-most", "far left", "furthest left"),
    "right": ("rightmost", "right-most", "far right", "furthest right"),
    "front": ("nearest", "closest", "front"),
    "back": ("farthest", "furthest", "back", "most distant"),
    "top": ("topmost", "top", "highest", "uppermost"),
    "bottom": ("lowest", "bottom", "bottommost"),
    "middle": ("middle", "center", "central"),
    "largest": ("largest", "biggest"),
    "smallest": ("smallest", "tiniest", "littlest"),
}
EXTREME_OF_TWO = {
    "left": ("left", "left", "leftmost", "left-hand"),
    "right": ("right", "right", "rightmost", "right-hand"),
    "top": ("upper", "higher", "top"),
    "bottom": ("lower", "lower", "bottom"),
    "largest": ("larger", "bigger", "large", "big", "largest"),
    "smallest": ("smaller", "small", "little", "smallest"),
}
EXTREME_AFTER = {
    "left": (
        "on the far left",
        "furthest to the left",
        "farthest left",
        "farthest to the left",
        "at the left edge",
        "all the way to the left",
        "at the left end",
        "on the very left",
    ),
    "right": (
        "on the far right",
        "furthest to the right",
        "farthest right",
        "farthest to the right",
        "at the right edge",
        "all the way to the right",
        "at the right end",
        "on the very right",
    ),
    "front": (
        "closest to the camera",
        "nearest to the camera",
        "nearest the camera",
        "closest to the viewer",
        "at the very front",
        "closest to me",
        "nearest to us",
        "furthest forward",
        "all the way in front",
    ),
    "back": (
        "farthest from the camera",
        "furthest away",
        "farthest away",
        "at the very back",
        "furthest from the camera",
        "farthest from me",
        "furthest back",
        "all the way in the back",
    ),
    "top": ("at the very top", "highest up", "closest to the top of the picture"),
    "bottom": ("at the very bottom", "lowest down", "closest to the bottom of the picture"),
    "middle": (
        "in the middle",
        "in the center",
        "in the middle of the row",
        "in between the other two",
        "between the other two",
    ),
}
_SIDE_WAYS = {
    "left": (
        "on the left",
        "on the left side",
        "on the left side of the table",
        "in the left half",
        "in the left half of the picture",
        "to the left",
        "at the left",
        "on the left-hand side",
        "in the left part of the image",
        "on the left side of the image",
    ),
    "top": (
        "at the top",
        "in the upper half",
        "in the top half",
        "in the upper half of the picture",
        "at the top of the image",
        "in the upper part of the picture",
    ),
}
_MIRROR = {"left": "right", "top": "bottom", "upper": "lower"}
SIDE_AFTER = _SIDE_WAYS | {
    _MIRROR[side]: tuple(
        " ".join(_MIRROR.get(word, word.replace("left", "right")) for word in way.split())
        for way in ways
    )
    for side, ways in _SIDE_WAYS.items()
}
SIDE_BEFORE = {"left": "left", "right": "right", "top": "upper", "bottom": "lower"}
RELATION = {
    "left": ("left of", "to the left of", "on the left of", "on the left side of"),
    "right": ("right of", "to the right of", "on the right of", "on the right side of"),
    "front": ("in front of", "just in front of"),
    "behind": ("behind", "at the back of", "in back of"),
    "above": ("above", "over", "higher than"),
    "below": ("below", "under", "lower than"),
    "beside": ("next to", "beside", "near", "close to", "by", "right next to"),
    "nearest": ("closest to", "nearest to", "nearest"),
}
SIZE = {
    "small": ("small", "small", "little", "tiny"),
    "medium": ("medium-sized", "medium", "mid-sized"),
    "large": ("large", "large", "big", "huge"),
}
EXCEPT = (
    "except", "except for", "but", "other than", "apart from", "but not", "aside from", "without",
    "with the exception of",
)  # fmt: skip
COLOR = {"gray": ("gray", "grey"), "purple": ("purple", "purple", "purple", "violet")}
WHERE_ALL_IS = {True: ("on the table", "in view"), False: ("in the picture", "in the image")}
EVERYTHING = ("everything", "everything", "anything", "all the stuff", "all that")
EACH_OF_TWO = (
    "the two", "the two", "two", "both", "both", "both the", "both of the", "the pair of", "the 2",
    "2",
)  # fmt: skip
MANY = (
    "all", "all", "all the", "all the", "all of the", "the", "the", "the", "every", "each", "", "",
    "any", "every one of the",
)  # fmt: skip
