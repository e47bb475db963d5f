"""The procedural household shapes: what a cup, a teapot or a banana looks like.

A shape rests on z = 0, centred on the z axis, in metres, at size "medium".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from grex_ros.scenes.fruit import apple, banana, carrot, citrus, lemon, pear
from grex_ros.scenes.meshes import (
    Mesh,
    extrude,
    lathe,
    merge,
    rotation,
    rounded_box,
    sphere,
    sweep,
)
from grex_ros.scenes.parts import DARK, METAL, PAPER, WOOD, Part, Rgb, Shape


def procedural_shapes() -> list[Shape]:
    """All procedural shapes, the same list at every call."""
    shapes = []
    for kind, makers in _MAKERS.items():
        for number, make in enumerate(makers):
            parts = make()
            shapes.append(
                Shape(
                    name=f"{kind.replace(' ', '_')}_{number}",
                    kind=kind,
                    parts=centred(parts),
                    lies=kind in ("bottle", "can"),
                    pliable=kind not in ("block", "ball", "orange", "pen"),
                )
            )
    return shapes


def centred(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The parts, put on z = 0 around the z axis."""
    stacked = np.concatenate([p.mesh.vertices for p in parts])
    low, high = stacked.min(0), stacked.max(0)
    shift = -np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    return tuple(Part(p.mesh.moved(shift), p.paint, p.alpha, p.shine) for p in parts)


def vessel(outer: Sequence[tuple[float, float]], wall: float, floor: float) -> Mesh:
    """Open vessel: outer wall from the bottom up, an inner wall offset by `wall`."""
    inner = [(max(r - wall, 0.002), max(z, floor)) for r, z in reversed(outer)]
    rim = (outer[-1][0] - wall / 2, outer[-1][1] + wall * 0.4)
    return lathe([(0.0, outer[0][1]), *outer, rim, *inner, (0.0, floor)])


def _cup(bottom: float, top: float, height: float) -> list[Part]:
    outer = [(bottom, 0.0), (top, height)]
    ring = lathe(
        [(top - 0.001, height - 0.01), (top + 0.0012, height - 0.009), (top + 0.0012, height)]
    )
    return [Part(vessel(outer, 0.003, 0.005)), Part(ring, "shade")]


def _mug(radius: float, height: float, belly: float) -> list[Part]:
    t = np.linspace(0, 1, 9)
    outer = [(radius * (0.9 + 0.1 * min(1.0, 6 * x)) + belly * np.sin(np.pi * x), height * x)
             for x in t]  # fmt: skip
    angle = np.linspace(-1.75, 1.75, 16)
    path = np.stack(
        [
            radius - 0.004 + 0.032 * (np.cos(angle) + 0.15),
            np.zeros_like(angle),
            height * 0.5 + height * 0.33 * np.sin(angle),
        ],
        1,
    )
    handle = sweep(path, 0.0065, flatness=0.75, up=(0.0, 1.0, 0.0))
    return [Part(vessel(outer, 0.004, 0.007), shine=0.7), Part(handle, shine=0.7)]


def _bowl(radius: float, height: float, power: float) -> list[Part]:
    t = np.linspace(0.0, 1.0, 12)
    foot = radius * 0.45
    outer = [(foot, 0.0), *[(foot + (radius - foot) * x ** (1 / power), 0.006 + height * x)
                            for x in t]]  # fmt: skip
    return [Part(vessel(outer, 0.004, 0.01), shine=0.6)]


def _plate(radius: float, rim: bool) -> list[Part]:
    foot = radius * 0.6
    body = lathe(
        [(0, 0), (foot, 0), (radius, 0.017), (radius - 0.002, 0.02), (foot, 0.007), (0, 0.006)],
        segments=40,
        crease=8,
    )
    parts = [Part(body, shine=0.6)]
    if rim:
        at = np.array([(0.88, 0.0168), (0.95, 0.0192)])
        ring = lathe([(radius * a, z) for a, z in reversed(at)], segments=40)
        parts.append(Part(ring, "shade"))
    return parts


def _bottle(profile: Sequence[tuple[float, float]], cap: float, label: bool) -> list[Part]:
    neck, top = profile[-1]
    parts = [
        Part(lathe([(0.0, profile[0][1]), *profile, (0.0, top)]), shine=0.8),
        Part(
            lathe([(neck + 0.0015, top - cap), (neck + 0.0025, top + 0.004), (0.0, top + 0.004)]),
            "trim",
        ),
    ]
    if label:
        radius = max(r for r, _ in profile) + 0.0006
        parts.append(Part(lathe([(radius, 0.05), (radius, 0.085)]), "trim", shine=0.1))
    return parts


def can(radius: float, height: float, band: bool) -> list[Part]:
    """A drink can, with a printed band if asked for."""
    body = lathe([(0, 0.003), (radius * 0.85, 0.003), (radius, 0.01), (radius, height - 0.012),
                  (radius * 0.86, height - 0.002)])  # fmt: skip
    low, high = radius * 0.8, radius * 0.88
    lid = lathe([(high - 0.001, height - 0.003), (high, height), (low, height),
                 (low, height - 0.004), (0, height - 0.004)])  # fmt: skip
    foot = lathe([(0, 0.0), (radius * 0.8, 0.0), (radius * 0.87, 0.0045)])
    tab = rounded_box((0.022, 0.011, 0.002), 0.0008).moved((0.006, 0, height - 0.002))
    parts = [Part(body, shine=0.8), Part(merge([lid, foot, tab]), METAL, shine=0.9)]
    if band:
        r = radius + 0.0005
        parts.append(Part(lathe([(r, height * 0.4), (r, height * 0.6)]), "trim", shine=0.5))
    return parts


def _glass(bottom: float, top: float, height: float) -> list[Part]:
    return [Part(vessel([(bottom, 0.0), (top, height)], 0.003, 0.012), alpha=0.62, shine=1.0)]


def _wine_glass() -> list[Part]:
    t = np.linspace(0.0, 1.0, 10)
    cup = [(0.004 + 0.034 * np.sin(0.35 + 1.75 * x) - 0.0115, 0.07 + 0.075 * x) for x in t]
    inner = [(max(r - 0.002, 0.0), z + 0.002) for r, z in reversed(cup)]
    profile = [(0, 0), (0.033, 0), (0.031, 0.004), (0.006, 0.008), (0.004, 0.015), (0.004, 0.065),
               *cup, *inner, (0, 0.073)]  # fmt: skip
    return [Part(lathe(profile), alpha=0.62, shine=1.0)]


def _jar(radius: float, height: float, lid: Rgb | str) -> list[Part]:
    neck = radius * 0.72
    body = lathe([(0, 0), (radius * 0.92, 0), (radius, 0.01), (radius, height * 0.72),
                  (radius * 0.95, height * 0.82), (neck, height * 0.9), (neck, height)],
                 crease=50)  # fmt: skip
    wide = neck + 0.005
    cover = lathe([(neck, height - 0.008), (wide, height - 0.006), (wide, height + 0.012),
                   (wide - 0.003, height + 0.015), (0, height + 0.015)])  # fmt: skip
    return [Part(body, shine=0.6), Part(cover, lid)]


def _cookie_jar() -> list[Part]:
    t = np.linspace(0.0, 1.0, 14)
    body = lathe([(0, 0), *[(0.034 + 0.021 * np.sin(0.25 + 2.5 * x), 0.075 * x) for x in t]])
    lid = lathe([(0.048, 0.075), (0.05, 0.08), (0.038, 0.09), (0.01, 0.095), (0.006, 0.099),
                 (0.011, 0.105), (0.009, 0.112), (0, 0.114)], crease=70)  # fmt: skip
    return [Part(body, shine=0.7), Part(lid, "shade", shine=0.7)]


def teapot(squash: float) -> list[Part]:
    """Spout along +x; `squash` is its height for its width."""
    t = np.linspace(-1.25, 1.2, 16)
    radius = 0.058
    height = radius * squash
    middle = height * np.sin(1.25)
    body = lathe([(0, 0), *[(radius * np.cos(x), middle + height * np.sin(x)) for x in t]])
    top = middle + height * np.sin(1.2)
    lid = lathe([(0.026, top - 0.003), (0.024, top + 0.004), (0.012, top + 0.01),
                 (0.004, top + 0.012), (0.005, top + 0.015), (0.009, top + 0.021),
                 (0.007, top + 0.027), (0, top + 0.028)], crease=70)  # fmt: skip
    s = np.linspace(0, 1, 10)
    spout = np.stack(
        [radius * 0.8 + 0.052 * s, 0 * s, middle * 0.75 + (top - middle * 0.7) * s**1.6], 1
    )
    angle = np.linspace(0.35 * np.pi, 1.65 * np.pi, 14)
    handle = np.stack(
        [-radius * 0.93 + 0.034 * np.cos(angle), 0 * angle, middle + 0.034 * np.sin(angle)], 1
    )
    return [
        Part(body, shine=0.8),
        Part(sweep(spout, np.linspace(0.016, 0.007, 10), up=(0, 1, 0)), shine=0.8),
        Part(sweep(handle, 0.006, up=(0, 1, 0)), shine=0.8),
        Part(lid, "shade", shine=0.8),
    ]


def vase(waist: float, flare: float) -> list[Part]:
    """Waisted by `waist` and wide at the top by `flare` (metres)."""
    t = np.linspace(0.0, 1.0, 24)
    wave = 0.036 + waist * np.sin(0.5 + 4.6 * t) + flare * np.maximum(t - 0.8, 0) * 5
    outer = [(float(r), 0.16 * float(x)) for r, x in zip(wave, t, strict=True)]
    return [Part(vessel(outer, 0.003, 0.006), shine=0.7)]


def _pan(handle: Rgb) -> list[Part]:
    body = vessel([(0.068, 0.0), (0.078, 0.008), (0.086, 0.032)], 0.004, 0.005)
    path = np.array([(0.083, 0, 0.026), (0.1, 0, 0.031), (0.13, 0, 0.036), (0.19, 0, 0.038)])
    bar = sweep(path, [0.008, 0.008, 0.01, 0.011], flatness=0.55)
    return [Part(body), Part(bar, handle, shine=0.2)]


def _box(size: tuple[float, float, float], label: bool) -> list[Part]:
    x, y, z = size
    body = rounded_box(size, 0.0015).moved((0, 0, z / 2))
    if label:  # a pack that stands, with a printed face
        print_ = merge(
            [
                rounded_box((x * 0.62, y + 0.001, z * 0.2), 0.0003).moved((0, 0, z * 0.7)),
                rounded_box((x * 0.4, y + 0.001, z * 0.06), 0.0003).moved((0, 0, z * 0.45)),
            ]
        )
        return [Part(body, shine=0.2), Part(print_, "trim", shine=0.1)]
    tape = rounded_box((x + 0.001, y * 0.16, z + 0.0012), 0.0004).moved((0, 0, z / 2))
    return [Part(body, shine=0.1), Part(tape, "shade", shine=0.3)]


def _block() -> list[Part]:
    return [Part(rounded_box((0.052,) * 3, 0.003).moved((0, 0, 0.026)), shine=0.2)]


def _ball(bands: int) -> list[Part]:
    radius = 0.038
    parts = [Part(sphere(radius), shine=0.8)]
    rings = []
    t = np.linspace(-0.14, 0.14, 5) if bands == 1 else np.linspace(-0.07, 0.07, 4)
    arc = np.stack([np.cos(t), np.sin(t)], 1) * (radius + 0.0005)
    ring = lathe(arc, 28)
    for k in range(bands):
        lean = rotation("z", 180.0 * k / bands) @ rotation("x", 90.0 if bands > 1 else 35.0)
        rings.append(ring.turned(lean).moved((0, 0, radius)))
    return [*parts, Part(merge(rings), "trim", shine=0.8)]


def book(size: tuple[float, float, float]) -> list[Part]:
    """It lies, hard covers."""
    x, y, z = size
    board = 0.0025
    cover = merge(
        [
            rounded_box((x, y, board), 0.0006).moved((0, 0, board / 2)),
            rounded_box((x, y, board), 0.0006).moved((0, 0, z - board / 2)),
            rounded_box((board, y, z), 0.0006).moved((-x / 2 + board / 2, 0, z / 2)),
        ]
    )
    pages = rounded_box((x - 0.006, y - 0.01, z - 2 * board), 0.0002).moved((-0.001, 0, z / 2))
    title = rounded_box((x * 0.55, y * 0.1, 0.0008), 0.0002).moved((0, y * 0.22, z))
    return [Part(cover, shine=0.3), Part(pages, PAPER, shine=0.0), Part(title, "trim")]


def _grip(length: float) -> Mesh:
    """A cutlery handle along -x that ends at x = 0."""
    s = np.linspace(0, 1, 10)
    path = np.stack([-length * (1 - s), 0 * s, 0.005 + 0.006 * np.sin(np.pi * s) ** 2], 1)
    return sweep(path, 0.0048 + 0.0045 * (1 - s) ** 2, flatness=0.38, sides=8)


def _spoon() -> list[Part]:
    t = np.linspace(0.0, 1.0, 8)
    outer = [(np.sin(t_ * np.pi / 2), 1 - np.cos(t_ * np.pi / 2)) for t_ in t]
    inner = [(0.9 * r, 0.12 + 0.88 * z) for r, z in reversed(outer)]
    scoop = lathe([*outer, *inner], 24, crease=60)
    scoop = scoop.scaled((0.031, 0.021, 0.011)).moved((0.028, 0, 0.0))
    return [Part(merge([_grip(0.125), scoop]), shine=0.9)]


def _fork() -> list[Part]:
    head = extrude([(-0.004, 0.005), (-0.004, -0.005), (0.012, -0.0145), (0.028, -0.0145),
                    (0.028, 0.0145), (0.012, 0.0145)], 0.003).moved((0, 0, 0.003))  # fmt: skip
    tines = []
    for y in (-0.0123, -0.0041, 0.0041, 0.0123):
        path = np.array([(0.027, y, 0.0045), (0.045, y, 0.003), (0.064, y, 0.006)])
        tines.append(sweep(path, [0.0024, 0.0023, 0.0013], sides=6))
    return [Part(merge([_grip(0.115), head, *tines]), shine=0.9)]


def _knife() -> list[Part]:
    blade = extrude([(-0.004, -0.010), (0.085, -0.010), (0.103, -0.004), (0.108, 0.007),
                     (0.1, 0.0095), (-0.004, 0.0095)], 0.0022).moved((0, 0, 0.0028))  # fmt: skip
    handle = rounded_box((0.088, 0.0165, 0.01), 0.004).moved((-0.046, 0, 0.005))
    return [Part(blade, METAL, shine=0.9), Part(handle, shine=0.3)]


def _pen() -> list[Part]:
    body = lathe([(0, 0), (0.0015, 0.0), (0.0062, 0.018), (0.0065, 0.13), (0, 0.131)], 14)
    cap = lathe([(0.0075, 0.088), (0.0075, 0.138), (0.006, 0.141), (0, 0.141)], 14)
    tip = lathe([(0, -0.004), (0.0018, 0.002)], 8)
    parts = [Part(body), Part(cap, "shade"), Part(tip, DARK)]
    return [Part(p.mesh.turned(rotation("y", 90)), p.paint, p.alpha, p.shine) for p in parts]


_WINE = [(0.034, 0.0), (0.036, 0.004), (0.036, 0.13), (0.031, 0.155), (0.016, 0.178),
         (0.0135, 0.19), (0.0135, 0.235)]  # fmt: skip
_WATER = [(0.03, 0.0), (0.033, 0.006), (0.033, 0.045), (0.0315, 0.048), (0.0315, 0.087),
          (0.033, 0.09), (0.033, 0.13), (0.015, 0.165), (0.014, 0.185)]  # fmt: skip
_FLASK = [(0.038, 0.0), (0.041, 0.006), (0.041, 0.1), (0.036, 0.118), (0.02, 0.128),
          (0.018, 0.15)]  # fmt: skip

_MAKERS: dict[str, list[Callable[[], list[Part]]]] = {
    "cup": [lambda: _cup(0.027, 0.039, 0.092), lambda: _cup(0.03, 0.036, 0.08)],
    "mug": [lambda: _mug(0.04, 0.09, 0.0), lambda: _mug(0.038, 0.076, 0.005)],
    "bowl": [lambda: _bowl(0.072, 0.05, 2.4), lambda: _bowl(0.068, 0.058, 1.7)],
    "plate": [lambda: _plate(0.094, True), lambda: _plate(0.09, False)],
    "bottle": [
        lambda: _bottle(_WINE, 0.035, True),
        lambda: _bottle(_WATER, 0.016, False),
        lambda: _bottle(_FLASK, 0.022, True),
    ],
    "can": [lambda: can(0.033, 0.116, False), lambda: can(0.033, 0.116, True)],
    "glass": [
        lambda: _glass(0.028, 0.036, 0.105),
        lambda: _glass(0.032, 0.034, 0.085),
        _wine_glass,
    ],
    "jar": [lambda: _jar(0.042, 0.095, METAL), lambda: _jar(0.046, 0.075, WOOD), _cookie_jar],
    "teapot": [lambda: teapot(0.85), lambda: teapot(1.0)],
    "vase": [lambda: vase(0.013, 0.012), lambda: vase(0.018, 0.006)],
    "pan": [lambda: _pan(DARK), lambda: _pan(WOOD)],
    "apple": [lambda: apple(True), lambda: apple(False)],
    "banana": [lambda: banana(0.75), lambda: banana(0.55)],
    "orange": [citrus],
    "lemon": [lemon],
    "pear": [pear],
    "carrot": [carrot],
    "box": [
        lambda: _box((0.1, 0.075, 0.055), False),
        lambda: _box((0.085, 0.035, 0.12), True),
        lambda: _box((0.12, 0.08, 0.04), False),
    ],
    "block": [_block],
    "ball": [lambda: _ball(1), lambda: _ball(3)],
    "book": [lambda: book((0.115, 0.16, 0.024)), lambda: book((0.1, 0.14, 0.038))],
    "spoon": [_spoon],
    "fork": [_fork],
    "knife": [_knife],
    "pen": [_pen],
}
