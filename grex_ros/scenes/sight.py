"""What a place or a size is, and when nobody would doubt it.

``TABLE`` judges objects on a table by where they truly are, with the camera's pose known.
``PictureSight`` judges photographs, of which only boxes and masks are known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from grex_ros.scenes.vocabulary import GROUPS, UNCLEAR_IN_GROUP, WIDER_KINDS

if TYPE_CHECKING:
    from grex_ros.scenes.scene import ViewObject

Test: TypeAlias = "Callable[[ViewObject, ViewObject], bool]"
Key: TypeAlias = "Callable[[ViewObject], float]"


@dataclass(frozen=True)
class Sight:
    """The tests that programs are made of.

    ``extremes``: which object comes first, and whether it is ahead of another beyond doubt.
    ``relations``: whether one holds, and whether that is beyond doubt either way. ``sides``: how
    far an object is on that side (positive: it is), and whether that is beyond doubt.
    ``distance`` is between two objects, ``nearest_margin`` how many times farther the second
    nearest must be. ``in_row``: whether objects, sorted from the left, make one row.
    ``color_doubtful``: whether an object without a known colour may be called by this one.
    ``doubtful_kinds``: kinds that programs must not name, as not all of them may be known;
    ``groups``: those of which all kinds are known.
    """

    extremes: Mapping[str, tuple[Key, Test]]
    relations: Mapping[str, tuple[Test, Test]]
    sides: Mapping[str, tuple[Key, Callable[[ViewObject], bool]]]
    distance: Callable[[ViewObject, ViewObject], float]
    nearest_margin: float
    in_row: Callable[[list[ViewObject]], bool]
    size_margin: Test
    color_doubtful: Callable[[ViewObject, str], bool] = lambda seen, color: True
    doubtful_kinds: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset(GROUPS)

    def left_of(self, a: ViewObject, b: ViewObject) -> bool:
        """Beyond doubt left of."""
        return self.extremes["left"][1](a, b)

    def kind_is_clear(self, kind: str, members: list[ViewObject]) -> bool:
        """Whether it is clear which of the members are of the kind."""
        wider = WIDER_KINDS.get(kind, frozenset())
        return kind not in self.doubtful_kinds and not any(seen.kind in wider for seen in members)

    def group_is_clear(self, group: str, kinds: frozenset[str], members: list[ViewObject]) -> bool:
        """Whether it is clear which of the members belong to a group of ``kinds``."""
        unclear = UNCLEAR_IN_GROUP.get(group, frozenset())
        if group not in self.groups:
            return False
        return not kinds & self.doubtful_kinds and not any(seen.kind in unclear for seen in members)


def column(seen: ViewObject) -> float:
    """The middle of the box, in pixels from the left."""
    return (seen.box[0] + seen.box[2]) / 2


def width(seen: ViewObject) -> float:
    """Of the box, in pixels."""
    return seen.box[2] - seen.box[0]


def height(seen: ViewObject) -> float:
    """Of the box, in pixels."""
    return seen.box[3] - seen.box[1]


# -- objects on a table

BEARING_MARGIN = 0.04  # difference of x / z: some 3 % of the picture's width
COLUMN_MARGIN = 0.4  # difference of the boxes' middles, in widths of the boxes
SIDE_MARGIN = 0.06  # half width of the strip, in x / z, that is neither left nor right
DEPTH_MARGIN = 0.015  # metres along the optical axis
ALONG_MARGIN = 0.06  # metres on the table, away from the camera
BASE_MARGIN = 0.2  # difference of the lower edges, in heights of the boxes
BESIDE = 0.20  # metres between centres
BESIDE_MARGIN = (0.17, 0.27)  # between these, opinions differ
NEAREST_MARGIN = 1.4  # the second nearest is at least so many times farther
SIZE_MARGIN = 1.25  # how many times a largest object is larger than the next


def distance(a: ViewObject, b: ViewObject) -> float:
    """Metres between the centres of two objects."""
    return math.dist(a.position, b.position)


def _bearing(seen: ViewObject) -> float:
    return seen.position[0] / seen.position[2]


def _depth(seen: ViewObject) -> float:
    return seen.position[2]


def _extent(seen: ViewObject) -> float:
    """A length that grows with the object's true size; comparable only within a view."""
    return math.sqrt(width(seen) * height(seen)) * _depth(seen)


def _whole(*objects: ViewObject) -> bool:
    return all(seen.visible_fraction > 0.85 for seen in objects)


def _left_of(a: ViewObject, b: ViewObject) -> bool:
    """In the picture and in the bearing of the true centres."""
    apart = column(b) - column(a) > COLUMN_MARGIN * min(width(a), width(b))
    return apart and _bearing(b) - _bearing(a) > BEARING_MARGIN


def _before(a: ViewObject, b: ViewObject) -> bool:
    """Beyond doubt nearer to the camera."""
    lower = a.box[3] - b.box[3] > BASE_MARGIN * min(height(a), height(b))
    return lower and _depth(b) - _depth(a) > DEPTH_MARGIN and _offsets(a, b)[1] > ALONG_MARGIN


def _larger(a: ViewObject, b: ViewObject) -> bool:
    """Beyond doubt larger: in truth and as it looks."""
    seen = _extent(a) / _depth(a) > 1.1 * _extent(b) / _depth(b) and a.area > 1.1 * b.area
    return seen and _extent(a) > SIZE_MARGIN * _extent(b) and _whole(a, b)


def _aside(a: ViewObject, b: ViewObject) -> bool:
    """Rather beside each other than one behind the other."""
    across, along = _offsets(a, b)
    return across > 0.5 * along


def _in_line(a: ViewObject, b: ViewObject) -> bool:
    """Rather one behind the other than beside each other."""
    across, along = _offsets(a, b)
    return along > across


def _offsets(a: ViewObject, b: ViewObject) -> tuple[float, float]:
    """Metres on the table, across the view and along it (as long as both are of like height)."""
    across, down, away = (p - q for p, q in zip(a.position, b.position, strict=True))
    return abs(across), math.hypot(down, away)


def _row_on_table(members: list[ViewObject]) -> bool:
    across = members[-1].position[0] - members[0].position[0]
    along = max(_offsets(members[0], seen)[1] for seen in members)
    return along < 0.35 * abs(across)


def ends(first: str, last: str, key: Key, ahead: Test) -> dict[str, tuple[Key, Test]]:
    """Two opposite extremes: ``key`` is least in the first, ``ahead`` says that beyond doubt."""
    return {
        first: (key, ahead),
        last: (lambda seen: -key(seen), lambda a, b: ahead(b, a)),
    }


def opposites(
    one: str, other: str, key: Key, ahead: Test, in_line: Test
) -> dict[str, tuple[Test, Test]]:
    """Two opposite relations along ``key``; surely so if also ``in_line``, surely not the other
    way round."""
    return {
        one: (
            lambda a, b: key(a) < key(b),
            lambda a, b: (ahead(a, b) and in_line(a, b)) or ahead(b, a),
        ),
        other: (
            lambda a, b: key(a) > key(b),
            lambda a, b: (ahead(b, a) and in_line(a, b)) or ahead(a, b),
        ),
    }


def _backwards(seen: ViewObject) -> float:
    return -seen.box[3]


TABLE = Sight(
    extremes={
        **ends("left", "right", column, _left_of),
        **ends("front", "back", _backwards, _before),
        **ends("largest", "smallest", lambda seen: -_extent(seen), _larger),
    },
    relations={
        **opposites("left", "right", column, _left_of, _aside),
        **opposites("front", "behind", _backwards, _before, _in_line),
        "beside": (
            lambda a, b: distance(a, b) < BESIDE,
            lambda a, b: not BESIDE_MARGIN[0] < distance(a, b) < BESIDE_MARGIN[1],
        ),
    },
    sides={
        side: (
            lambda seen, sign=sign: sign * _bearing(seen),  # type: ignore[misc]
            lambda seen: abs(_bearing(seen)) > SIDE_MARGIN,
        )
        for side, sign in (("left", -1), ("right", 1))
    },
    distance=distance,
    nearest_margin=NEAREST_MARGIN,
    in_row=_row_on_table,
    size_margin=lambda a, b: _extent(a) > SIZE_MARGIN * _extent(b),
)
