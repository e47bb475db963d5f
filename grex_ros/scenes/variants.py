"""More shapes of the procedural kinds, with proportions, lids, rims, necks and handles that differ.

Drawn once from fixed seeds, so the list is the same at every call.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from grex_ros.scenes import shapes as base
from grex_ros.scenes import variants_solid as solid
from grex_ros.scenes.meshes import Mesh, lathe, merge, rounded_box, sphere, sweep
from grex_ros.scenes.parts import DARK, METAL, WOOD, Part, Rgb, Shape

Rng = np.random.Generator
_PREFIX = "wide_"
_EACH = 7  # variants of a kind


def variant_shapes() -> list[Shape]:
    """The variants of all kinds, then the props, whose kind is ""."""
    shapes = []
    for kind, (make, number) in _MAKERS.items():
        rng = np.random.default_rng([0x7661, *kind.encode()])
        for k in range(number):
            shapes.append(
                Shape(
                    name=f"{_PREFIX}{kind.replace(' ', '_')}_{k}",
                    kind=kind,
                    parts=base.centred(make(rng)),
                    lies=kind in ("bottle", "can", "cup", "jar", "glass", "vase"),
                    pliable=kind not in ("block", "ball", "orange"),
                )
            )
    for k in range(3):
        parts = base.centred(_clear_glass(np.random.default_rng([0x676C, k])))
        shapes.append(Shape(f"{_PREFIX}glass_clear_{k}", "glass", parts, lies=True, color=""))
    return shapes


def is_variant(name: str) -> bool:
    """Whether the shape of that name belongs to the wide look alone."""
    return name.startswith(_PREFIX)


def _ear(rng: Rng, radius: float, low: float, high: float, thick: float) -> Mesh:
    """A handle on the +x side between two heights."""
    reach = (high - low) * rng.uniform(0.42, 0.62)
    angle = np.linspace(-np.pi / 2, np.pi / 2, 12)
    power = rng.uniform(0.45, 1.0)  # from squarish to round
    out = np.cos(angle) ** power
    path = np.stack(
        [
            radius - 0.004 + reach * out,
            0 * angle,
            (low + high) / 2 + (high - low) / 2 * np.sin(angle) + 0.004 * out,
        ],
        1,
    )
    return sweep(path, thick, flatness=rng.uniform(0.6, 1.0), sides=8, up=(0.0, 1.0, 0.0))


def _cup(rng: Rng) -> list[Part]:
    if rng.random() < 0.3:  # a tea cup
        radius, height = rng.uniform(0.038, 0.048), rng.uniform(0.05, 0.065)
        t = np.linspace(0.05, 1, 9)
        outer = [(radius * (0.5 + 0.5 * x**0.5), height * x) for x in t]
        outer = [(radius * 0.45, 0.0), *outer]
        ear = _ear(rng, radius * 0.95, height * 0.25, height * 0.85, 0.004)
        return [Part(base.vessel(outer, 0.003, 0.006), shine=0.7), Part(ear, shine=0.7)]
    bottom, top, height = (
        rng.uniform(0.024, 0.032),
        rng.uniform(0.034, 0.043),
        rng.uniform(0.07, 0.12),
    )
    outer = [(bottom, 0.0), (top, height)]
    if rng.random() < 0.4:  # a step as plastic cups have
        at = rng.uniform(0.3, 0.7)
        middle = bottom + at * (top - bottom)
        outer = [(bottom, 0.0), (middle, at * height), (middle + 0.002, at * height + 0.003),
                 (top, height)]  # fmt: skip
    parts = [Part(base.vessel(outer, 0.0025, 0.005))]
    if rng.random() < 0.35:  # a lid
        lid = lathe([(top + 0.0005, height - 0.006), (top + 0.003, height - 0.005),
                     (top + 0.003, height + 0.004), (top - 0.004, height + 0.009),
                     (0, height + 0.008)])  # fmt: skip
        parts.append(Part(lid, solid.pick(rng, "trim", "shade", "main")))
    elif rng.random() < 0.6:
        ring = lathe([(top, height - 0.004), (top + 0.002, height - 0.002), (top + 0.0015, height)])
        parts.append(Part(ring, solid.pick(rng, "shade", "trim", "main")))
    return parts


def _mug(rng: Rng) -> list[Part]:
    radius, height = rng.uniform(0.035, 0.046), rng.uniform(0.075, 0.115)
    taper, belly = rng.uniform(-0.006, 0.008), rng.uniform(-0.003, 0.006)
    t = np.linspace(0, 1, 8)
    outer = [
        (radius * (0.88 + 0.12 * min(1.0, 6 * x)) + taper * (x - 0.5) + belly * np.sin(np.pi * x),
         height * x) for x in t
    ]  # fmt: skip
    ear = _ear(rng, radius, height * rng.uniform(0.12, 0.25), height * rng.uniform(0.75, 0.9),
               rng.uniform(0.0045, 0.0075))  # fmt: skip
    parts = [Part(base.vessel(outer, 0.004, 0.007), shine=0.7), Part(ear, shine=0.7)]
    if rng.random() < 0.3:  # a coloured rim
        top = outer[-1][0]
        rim = lathe([(top + 0.0004, height - 0.006), (top + 0.0006, height),
                     (top - 0.002, height + 0.0022), (top - 0.0045, height)])  # fmt: skip
        parts.append(Part(rim, solid.pick(rng, "trim", "shade")))
    return parts


def _bowl(rng: Rng) -> list[Part]:
    radius, height, power = (
        rng.uniform(0.055, 0.09),
        rng.uniform(0.035, 0.07),
        rng.uniform(1.3, 2.8),
    )
    t = np.linspace(0.0, 1.0, 10)
    foot = radius * rng.uniform(0.35, 0.6)
    outer = [(foot, 0.0), *[(foot + (radius - foot) * x ** (1 / power), 0.006 + height * x)
                            for x in t]]  # fmt: skip
    parts = [Part(base.vessel(outer, rng.uniform(0.003, 0.006), 0.01), shine=0.6)]
    if rng.random() < 0.35:
        top = height + 0.006
        rim = lathe([(radius + 0.0004, top - 0.006), (radius + 0.0008, top),
                     (radius - 0.003, top + 0.0025)])  # fmt: skip
        parts.append(Part(rim, solid.pick(rng, "trim", "shade"), shine=0.6))
    return parts


def _plate(rng: Rng) -> list[Part]:
    radius, rise = rng.uniform(0.07, 0.11), rng.uniform(0.01, 0.026)
    foot = radius * rng.uniform(0.5, 0.75)
    body = lathe(
        [(0, 0), (foot, 0), (radius, rise), (radius - 0.002, rise + 0.003), (foot, 0.006),
         (0, 0.005)], segments=36, crease=8,
    )  # fmt: skip
    parts = [Part(body, shine=0.6)]
    if rng.random() < 0.5:
        inner = rng.uniform(0.8, 0.92)
        slope = (rise - 0.003) / (radius - foot)
        at = [(radius * a, 0.0065 + slope * (radius * a - foot)) for a in (0.97, inner)]
        ring = lathe(at, segments=36)
        parts.append(Part(ring, solid.pick(rng, "shade", "trim"), shine=0.6))
    return parts


def _bottle(rng: Rng) -> list[Part]:
    radius, height = rng.uniform(0.026, 0.042), rng.uniform(0.14, 0.25)
    neck = radius * rng.uniform(0.3, 0.55)
    shoulder = rng.uniform(0.5, 0.78)
    long = rng.uniform(0.04, 0.16)
    steps = np.linspace(0, 1, 6)
    bend = rng.uniform(0.6, 2.2)
    curve = [
        (neck + (radius - neck) * (1 - x**bend) ** (1 / bend),
         height * (shoulder + (1 - long - shoulder) * x)) for x in steps
    ]  # fmt: skip
    profile = [(radius * 0.9, 0.0), (radius, 0.005)]
    if rng.random() < 0.3:  # a waist
        profile += [(radius, height * shoulder * 0.35), (radius * 0.9, height * shoulder * 0.5),
                    (radius, height * shoulder * 0.65)]  # fmt: skip
    profile += [*curve, (neck, height)]
    parts = [Part(lathe([(0.0, 0.0), *profile, (0.0, height)], crease=50), shine=0.8)]
    cap = height * rng.uniform(0.05, 0.12)
    wide = neck + rng.uniform(0.001, 0.004)
    if rng.random() < 0.25:  # a pump or spout
        stem = lathe([(neck * 0.35, height), (neck * 0.35, height + 0.03), (0, height + 0.03)], 10)
        top = rounded_box((0.034, 0.014, 0.009), 0.003).moved((0.008, 0, height + 0.032))
        lid = lathe([(wide, height - cap), (wide, height + 0.004), (0, height + 0.004)])
        parts.append(Part(merge([stem, top, lid]), solid.pick(rng, "trim", "shade")))
    else:
        lid = lathe([(wide, height - cap), (wide, height + 0.002), (wide - 0.002, height + 0.004),
                     (0.0, height + 0.004)])  # fmt: skip
        paint = solid.pick_paint(rng, "trim", "shade", DARK, METAL, WOOD, "main")
        parts.append(Part(lid, paint))
    if rng.random() < 0.3:
        low = height * rng.uniform(0.12, 0.25)
        parts.append(Part(lathe([(radius + 0.0006, low), (radius + 0.0006,
                          min(height * shoulder * 0.95, low + height * rng.uniform(0.12, 0.3)))]),
                          "trim", shine=0.1))  # fmt: skip
    if rng.random() < 0.3:  # shampoo and detergent are flat
        flat = (1.0, rng.uniform(0.6, 0.8), 1.0)
        parts = [Part(p.mesh.scaled(flat), p.paint, p.alpha, p.shine) for p in parts]
    return parts


def _can(rng: Rng) -> list[Part]:
    radius, height = solid.pick(rng, (0.033, 0.116), (0.037, 0.105), (0.027, 0.135), (0.043, 0.05),
                           (0.05, 0.12), (0.03, 0.09))  # fmt: skip
    if rng.random() < 0.45:
        return base.can(radius, height, rng.random() < 0.2)
    body = lathe([(0, 0.002), (radius, 0.002), (radius, height - 0.002)])  # a tin of food
    ribs = []
    for z in (0.0, height - 0.004):
        ribs.append(lathe([(radius, z), (radius + 0.0014, z + 0.001), (radius + 0.0014, z + 0.003),
                           (radius - 0.002, z + 0.004)]))  # fmt: skip
    lid = lathe([(radius - 0.002, height), (radius - 0.004, height - 0.003), (0, height - 0.003)])
    return [Part(body, shine=0.5), Part(merge([*ribs, lid]), METAL, shine=0.9)]


def _glass(rng: Rng) -> list[Part]:
    alpha = rng.uniform(0.5, 0.75)
    if rng.random() < 0.35:  # on a stem
        wide, deep, stem = (
            rng.uniform(0.03, 0.042),
            rng.uniform(0.055, 0.09),
            rng.uniform(0.045, 0.08),
        )
        full = rng.uniform(1.5, 2.1)
        t = np.linspace(0.0, 1.0, 9)
        cup = [(0.004 + wide * np.sin(full * x) ** 0.8, stem + 0.006 + deep * x) for x in t]
        inner = [(max(r - 0.002, 0.0), z + 0.002) for r, z in reversed(cup)]
        foot = wide * rng.uniform(0.8, 1.0)
        profile = [(0, 0), (foot, 0), (foot - 0.002, 0.003), (0.006, 0.008), (0.004, 0.015),
                   (0.004, stem), *cup, *inner, (0, stem + 0.01)]  # fmt: skip
        return [Part(lathe(profile), alpha=alpha, shine=1.0)]
    bottom, height = rng.uniform(0.024, 0.036), rng.uniform(0.06, 0.13)
    top = bottom * rng.uniform(1.0, 1.35)
    outer = [(bottom * 0.96, 0.0), (bottom, 0.004), (top, height)]
    return [Part(base.vessel(outer, 0.003, rng.uniform(0.006, 0.016)), alpha=alpha, shine=1.0)]


def _clear_glass(rng: Rng) -> list[Part]:
    clear: Rgb = (0.86, 0.9, 0.9)
    return [Part(p.mesh, clear, rng.uniform(0.28, 0.42), 1.0) for p in _glass(rng)]


def _jar(rng: Rng) -> list[Part]:
    radius, height = rng.uniform(0.032, 0.052), rng.uniform(0.06, 0.12)
    neck = radius * rng.uniform(0.65, 0.95)
    body = lathe([(0, 0), (radius * 0.92, 0), (radius, 0.008), (radius, height * 0.76),
                  (neck, height * rng.uniform(0.84, 0.92)), (neck, height)], crease=50)  # fmt: skip
    wide, tall = neck + rng.uniform(0.002, 0.006), rng.uniform(0.01, 0.022)
    cover = lathe([(neck, height - 0.006), (wide, height - 0.005), (wide, height - 0.005 + tall),
                   (wide - 0.003, height - 0.002 + tall), (0, height - 0.002 + tall)])  # fmt: skip
    parts = [Part(body, shine=0.6)]
    lid = solid.pick_paint(rng, METAL, WOOD, "trim", "shade", (0.75, 0.6, 0.2), DARK)
    parts.append(Part(cover, lid, shine=0.5))
    if rng.random() < 0.35:  # a knob
        knob = sphere(0.008, 12).moved((0, 0, height - 0.003 + tall))
        parts.append(Part(knob, parts[-1].paint, shine=0.5))
    return parts


def _teapot(rng: Rng) -> list[Part]:
    return base.teapot(rng.uniform(0.62, 1.15))


def _vase(rng: Rng) -> list[Part]:
    if rng.random() < 0.5:
        return base.vase(rng.uniform(0.006, 0.02), rng.uniform(0.0, 0.014))
    t = np.linspace(0, 1, 16)
    belly, at = rng.uniform(0.02, 0.035), rng.uniform(0.25, 0.6)
    r = 0.02 + belly * np.exp(-(((t - at) / rng.uniform(0.2, 0.35)) ** 2))
    r += np.maximum(t - 0.85, 0) * rng.uniform(0.0, 0.1)
    height = rng.uniform(0.11, 0.2)
    return [Part(base.vessel(list(zip(r.tolist(), (height * t).tolist(), strict=True)), 0.003,
                             0.006), shine=0.7)]  # fmt: skip


def _pan(rng: Rng) -> list[Part]:
    radius, deep = rng.uniform(0.06, 0.1), rng.uniform(0.022, 0.075)
    body = base.vessel([(radius * 0.86, 0.0), (radius * 0.95, 0.006), (radius, deep)], 0.003, 0.005)
    long = rng.uniform(0.09, 0.13)
    path = np.array([(radius - 0.003, 0, deep * 0.8), (radius + 0.02, 0, deep * 0.8 + 0.005),
                     (radius + long * 0.5, 0, deep * 0.8 + 0.01),
                     (radius + long, 0, deep * 0.8 + 0.012)])  # fmt: skip
    bar = sweep(path, [0.007, 0.007, 0.009, 0.01], flatness=0.55)
    handle = solid.pick_paint(rng, DARK, WOOD, METAL, "main")
    return [Part(body), Part(bar, handle)]


_MAKERS: dict[str, tuple[Callable[[Rng], list[Part]], int]] = {
    "cup": (_cup, _EACH + 3),
    "mug": (_mug, _EACH + 2),
    "bowl": (_bowl, _EACH),
    "plate": (_plate, _EACH - 2),
    "bottle": (_bottle, _EACH + 6),
    "can": (_can, _EACH),
    "glass": (_glass, _EACH),
    "jar": (_jar, _EACH),
    "teapot": (_teapot, 3),
    "vase": (_vase, _EACH),
    "pan": (_pan, _EACH - 2),
    "box": (solid.box, _EACH + 5),
    "block": (solid.block, 4),
    "ball": (solid.ball, 5),
    "book": (solid.book, _EACH - 1),
    "spoon": (solid.spoon, _EACH - 1),
    "fork": (solid.fork, _EACH - 2),
    "knife": (solid.knife, _EACH - 1),
    "pen": (solid.pen, _EACH - 1),
    "apple": (solid.apple, 4),
    "banana": (solid.banana, 4),
}
