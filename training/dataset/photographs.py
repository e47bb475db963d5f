"""What an annotated photograph surely shows: places, colours and sizes, by boxes and masks alone.

There is no depth, so there is no front and no behind. What is not beyond doubt is left out:

- A colour is known where one name has most of the mask; it is out of the question where next to no
  pixel could be called so; else it is in doubt. So is that of a box without an outline.
- Objects of less than 0.1 % of the picture, or of 100 pixels where the picture is 320 wide, decide
  nothing (``programs.HIDDEN``): an expression is kept if it means the same with and without them.
- Kinds with a crowd region, with an unreadable mask, with two annotations of one object, or with so
  many objects that some are likely to lack an annotation, are not named.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from grex_ros.scenes.scene import ViewObject
from grex_ros.scenes.sight import Sight, column, ends, height, opposites, width
from grex_ros.scenes.vocabulary import alike
from training.dataset.records import DatasetError, Record, instance_mask

TINY_SHARE, TINY_PIXELS = 0.001, 100
# More of a kind are unlikely to be all of them, or are one for a whole heap.
MOST = dict.fromkeys(("apple", "banana", "book", "broccoli", "carrot", "orange"), 3) | {
    "chair": 5, "dining table": 1, "donut": 6,
}  # fmt: skip
MOST_OF_OTHERS = 10
SAME_PLACE = 0.75  # IoU of two boxes that may well be one object

# Kinds that one calls by their colour; not people, nor what shows pictures or food of many colours.
_COLORED = frozenset(
    "bicycle, car, motorcycle, airplane, bus, train, truck, boat, fire hydrant, parking meter, "
    "bench, bird, cat, dog, horse, sheep, cow, bear, backpack, umbrella, handbag, tie, suitcase, "
    "frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, "
    "surfboard, tennis racket, bottle, cup, bowl, apple, chair, couch, bed, dining table, toilet, "
    "laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, "
    "book, clock, vase, teddy bear, hair drier, toothbrush, bell pepper, cherry, eggplant, egg, "
    "grape, lemon, lime, onion, pear, plum, tomato".split(", ")
)
# Hues in degrees: where nobody doubts the name, and where some may use it.
_HUES = {
    "red": ((348, 368), (335, 382)), "orange": ((18, 36), (8, 48)), "yellow": ((46, 64), (36, 78)),
    "green": ((85, 160), (64, 185)), "blue": ((195, 250), (170, 275)),
    "purple": ((265, 300), (235, 335)), "pink": ((310, 345), (285, 375)),
}  # fmt: skip
_ANY_COLOR = frozenset(_HUES) | {"black", "white", "gray", "brown"}
_ENOUGH = 4000  # pixels tell the colour of a mask
_MOSTLY, _RIVAL, _TRACE = 0.55, 0.18, 0.07  # shares of a mask


@dataclass(frozen=True)
class PictureObject(ViewObject):
    """An annotated object; ``position`` is the box's middle in picture widths off the centre.

    ``maybe``: the colours that one might call it by. ``frame``: width and height in pixels.
    """

    maybe: frozenset[str] = frozenset()
    frame: tuple[int, int] = (1, 1)


def colors(rgb: NDArray[np.uint8], mask: NDArray[np.bool_]) -> tuple[str, frozenset[str]]:
    """The colour name of the masked pixels, "" if it is open to doubt, and all possible names."""
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    pixels = rgb[inner if inner.sum() > 40 else mask]
    pixels = pixels[:: len(pixels) // _ENOUGH + 1]
    hsv = cv2.cvtColor(pixels[None], cv2.COLOR_RGB2HSV)[0].astype(np.float32)
    hue, saturation, value = hsv[:, 0] * 2, hsv[:, 1] / 255, hsv[:, 2] / 255
    vivid = (saturation > 0.38) & (value > 0.25)
    tinted = (saturation > 0.16) & (value > 0.14)

    def within(limits: tuple[float, float]) -> NDArray[np.bool_]:
        return (hue - limits[0]) % 360 <= limits[1] - limits[0]

    sure = {
        "black": (value < 0.2) & (saturation < 0.7),
        "white": (saturation < 0.13) & (value > 0.74),
        "brown": within((5, 42))
        & (saturation > 0.3)
        & (saturation < 0.75)
        & (value > 0.15)
        & (value < 0.45),
    }
    maybe = {
        "black": value < 0.36,
        "white": (saturation < 0.3) & (value > 0.5),
        "gray": (saturation < 0.3) & (value > 0.1) & (value < 0.95),
        "brown": within((0, 60)) & tinted & (value < 0.75),
    }
    for name, (clear, doubtful) in _HUES.items():
        bright = value > (0.62 if name in ("orange", "yellow") else 0.3)
        sure[name] = within(clear) & vivid & bright & ((saturation > 0.5) | (name != "red"))
        maybe[name] = within(doubtful) & tinted
    maybe["pink"] |= within((330, 390)) & tinted
    shares = sorted(((float(where.mean()), name) for name, where in sure.items()), reverse=True)
    possible = frozenset(name for name, where in maybe.items() if where.mean() > _TRACE)
    (most, name), (second, _) = shares[:2]
    rivals = max(float((maybe[n] & ~maybe[name]).mean()) for n in maybe)
    known = most > _MOSTLY and second < _RIVAL and rivals < 2 * _RIVAL
    return (name if known else ""), possible


def view(record: Record, rgb: NDArray[np.uint8]) -> tuple[list[PictureObject], Sight]:
    """The annotated objects, numbered from 1 as in ``record.instances``, and how to judge them.

    ``rgb`` (H, W, 3). Instances with an unreadable mask are left out.
    """
    frame = record.width, record.height
    least = max(TINY_SHARE * frame[0] * frame[1], TINY_PIXELS * (frame[0] / 320) ** 2)
    found: list[PictureObject] = []
    doubtful = set(record.crowds)
    for index, instance in enumerate(record.instances, 1):
        try:
            mask = instance_mask(instance, record.height, record.width)
        except DatasetError:
            doubtful.add(instance.category)
            continue
        area = int(mask.sum())
        if not area:
            doubtful.add(instance.category)
            continue
        v, u = np.nonzero(mask)
        box = float(u.min()), float(v.min()), float(u.max() + 1), float(v.max() + 1)
        told = instance.outlined and instance.category in _COLORED
        color, maybe = colors(rgb, mask) if told else ("", _ANY_COLOR)
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        found.append(
            PictureObject(
                index=index,
                kind=instance.category,
                color=color,
                size="medium",
                box=box,
                area=area,
                center=(float(u.mean()), float(v.mean())),
                position=((x - frame[0] / 2) / frame[0], (y - frame[1] / 2) / frame[0], 1.0),
                visible_fraction=1.0 if area >= least else 0.1,
                maybe=maybe,
                frame=frame,
            )
        )
    return found, dataclasses.replace(PICTURE, doubtful_kinds=_doubtful(found, doubtful))


def _doubtful(found: Sequence[PictureObject], known: Collection[str]) -> frozenset[str]:
    kinds = Counter(seen.kind for seen in found)
    doubtful = {kind for kind, n in kinds.items() if n > MOST.get(kind, MOST_OF_OTHERS)}
    for number, a in enumerate(found):
        for b in found[:number]:
            if alike(a.kind, b.kind) and _iou(a, b) > SAME_PLACE:
                doubtful |= {a.kind, b.kind}
    return frozenset(doubtful | set(known))


def _iou(a: ViewObject, b: ViewObject) -> float:
    across = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
    down = min(a.box[3], b.box[3]) - max(a.box[1], b.box[1])
    both = max(across, 0.0) * max(down, 0.0)
    return both / (width(a) * height(a) + width(b) * height(b) - both)


def _frame(seen: ViewObject) -> tuple[int, int]:
    assert isinstance(seen, PictureObject)
    return seen.frame


def _row(seen: ViewObject) -> float:
    return (seen.box[1] + seen.box[3]) / 2


def _left_of(a: ViewObject, b: ViewObject) -> bool:
    """Apart, and neither reaches beyond the other on its own side."""
    apart = column(b) - column(a)
    ends = a.box[0] < b.box[0] and a.box[2] < b.box[2]
    return ends and apart > max(0.5 * min(width(a), width(b)), 0.04 * _frame(a)[0])


def _above(a: ViewObject, b: ViewObject) -> bool:
    apart = _row(b) - _row(a)
    ends = a.box[1] < b.box[1] and a.box[3] < b.box[3]
    return ends and apart > max(0.5 * min(height(a), height(b)), 0.06 * _frame(a)[1])


def _larger(a: ViewObject, b: ViewObject) -> bool:
    """By far, in the picture; of one that the picture's edge cuts nobody knows how large it is."""
    (across, down), (x0, y0, x1, y1) = _frame(b), b.box
    cut = x0 < 2 or y0 < 2 or x1 > across - 2 or y1 > down - 2
    return not cut and a.area > 1.8 * b.area and width(a) * height(a) > 1.5 * width(b) * height(b)


def _gap(a: ViewObject, b: ViewObject) -> float:
    return max(a.box[0], b.box[0]) - min(a.box[2], b.box[2])


def _aside(a: ViewObject, b: ViewObject) -> bool:
    """On one level: neither hides the other nor is much farther off."""
    overlap = min(a.box[3], b.box[3]) - max(a.box[1], b.box[1])
    clear = _gap(a, b) > -0.25 * min(width(a), width(b))
    return clear and overlap > 0.4 * min(height(a), height(b))


def _beside(a: ViewObject, b: ViewObject) -> bool:
    return _gap(a, b) < 0.5 * max(width(a), width(b))


def _surely_beside(a: ViewObject, b: ViewObject) -> bool:
    near = _gap(a, b) < 0.35 * max(width(a), width(b)) and _gap(a, b) < 0.12 * _frame(a)[0]
    tall, short = max(height(a), height(b)), min(height(a), height(b))
    level = abs(a.box[3] - b.box[3]) < 0.2 * tall and tall < 2.2 * short
    if near and level and _aside(a, b):
        return True
    return _gap(a, b) > max(1.5 * max(width(a), width(b)), 0.15 * _frame(a)[0])


def _distance(a: ViewObject, b: ViewObject) -> float:
    x, y = (p - q for p, q in zip(a.position[:2], b.position[:2], strict=True))
    return float(np.hypot(x, y))


def _in_row(members: list[ViewObject]) -> bool:
    rows = [_row(seen) for seen in members]
    return max(rows) - min(rows) < 0.3 * (column(members[-1]) - column(members[0]))


def _is_aside(seen: ViewObject) -> bool:
    """Nearly all of the box is on one side of the middle column."""
    middle = _frame(seen)[0] / 2
    over = min(max(seen.box[2] - middle, 0), max(middle - seen.box[0], 0))
    return abs(column(seen) - middle) > 0.16 * middle and over < 0.2 * width(seen)


def _is_high(seen: ViewObject) -> bool:
    middle = _frame(seen)[1] / 2
    over = min(max(seen.box[3] - middle, 0), max(middle - seen.box[1], 0))
    return abs(_row(seen) - middle) > 0.2 * middle and over < 0.15 * height(seen)


PICTURE = Sight(
    extremes={
        **ends("left", "right", column, _left_of),
        **ends("top", "bottom", _row, _above),
        **ends("largest", "smallest", lambda seen: -seen.area, _larger),
    },
    relations={
        **opposites("left", "right", column, _left_of, _aside),
        "beside": (_beside, _surely_beside),
    },
    sides={
        "left": (lambda seen: _frame(seen)[0] / 2 - column(seen), _is_aside),
        "right": (lambda seen: column(seen) - _frame(seen)[0] / 2, _is_aside),
        "top": (lambda seen: _frame(seen)[1] / 2 - _row(seen), _is_high),
        "bottom": (lambda seen: _row(seen) - _frame(seen)[1] / 2, _is_high),
    },
    distance=_distance,
    nearest_margin=1.8,
    in_row=_in_row,
    size_margin=_larger,
    groups=frozenset({"animal", "cutlery", "vehicle"}),
    color_doubtful=lambda seen, color: color in seen.maybe,  # type: ignore[attr-defined]
)
