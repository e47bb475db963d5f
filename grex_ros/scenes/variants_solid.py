"""Variants of solid kinds: boxes, balls, books, cutlery, pens and fruit.

Each function draws one shape from random numbers.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from grex_ros.scenes import fruit
from grex_ros.scenes import shapes as base
from grex_ros.scenes.meshes import Mesh, extrude, lathe, merge, rotation, rounded_box, sphere, sweep
from grex_ros.scenes.parts import DARK, METAL, PAPER, Part, Rgb

Rng = np.random.Generator
T = TypeVar("T")


def pick(rng: Rng, *choices: T) -> T:
    """One of the choices."""
    return choices[int(rng.integers(len(choices)))]


def pick_paint(rng: Rng, *paints: str | Rgb) -> str | Rgb:
    """One of the paints of a part, named ones and fixed ones."""
    return paints[int(rng.integers(len(paints)))]


def box(rng: Rng) -> list[Part]:
    """A pack, at times with a lid or tape."""
    size = pick(rng, (0.06, 0.025, 0.14), (0.095, 0.03, 0.14), (0.075, 0.075, 0.07),
                 (0.13, 0.09, 0.05), (0.12, 0.12, 0.03), (0.15, 0.035, 0.03),
                 (0.11, 0.07, 0.07))  # fmt: skip
    x, y, z = np.array(size) * rng.uniform(0.85, 1.15, 3)
    parts = [Part(rounded_box((x, y, z), 0.0012).moved((0, 0, z / 2)), shine=0.2)]
    draw = rng.random()
    if draw < 0.25:  # a lid that stands over
        lid = rounded_box((x + 0.004, y + 0.004, z * 0.25), 0.001).moved((0, 0, z * 0.89))
        parts.append(Part(lid, pick(rng, "shade", "main", "trim")))
    elif draw < 0.45:  # adhesive tape
        tape = rounded_box((x + 0.001, y * 0.2, z + 0.001), 0.0003).moved((0, 0, z / 2))
        parts.append(Part(tape, pick(rng, "shade", "trim"), shine=0.5))
    return parts


def block(rng: Rng) -> list[Part]:
    """A cube."""
    side = rng.uniform(0.041, 0.06)
    return [Part(rounded_box((side,) * 3, rng.uniform(0.0008, 0.006)).moved((0, 0, side / 2)),
                 shine=0.3)]  # fmt: skip


def ball(rng: Rng) -> list[Part]:
    """Plain or with a seam."""
    radius = rng.uniform(0.022, 0.05)
    parts = [Part(sphere(radius, 32), shine=float(rng.choice([0.1, 0.5, 0.9])))]
    if rng.random() < 0.4:
        angle = np.linspace(0, 2 * np.pi, 40)
        wave = 0.44 * np.sin(2 * angle)  # the seam of a tennis ball
        x, y = np.cos(angle) * np.cos(wave), np.sin(angle) * np.cos(wave)
        path = np.stack([x, y, np.sin(wave)], 1) * radius + [0, 0, radius]
        parts.append(Part(sweep(path, radius * 0.05, sides=6, up=(0.05, 0.1, 1)), "trim"))
    return parts


def book(rng: Rng) -> list[Part]:
    """It lies, hard or soft covers."""
    x = rng.uniform(0.09, 0.15)
    size = (x, x * rng.uniform(1.25, 1.55), rng.uniform(0.01, 0.045))
    if rng.random() < 0.5:
        return base.book(size)
    z = size[2]  # a paperback
    pages = rounded_box((x - 0.001, size[1] - 0.001, z - 0.002), 0.0002).moved((0, 0, z / 2))
    sides = [rounded_box((x, size[1], 0.001), 0.0002).moved((0, 0, h)) for h in (0.0006, z)]
    spine = rounded_box((0.001, size[1], z), 0.0002).moved((-x / 2, 0, z / 2))
    return [Part(merge([*sides, spine]), shine=0.5), Part(pages, PAPER, shine=0.0)]


def _grip(rng: Rng, length: float, wood: bool) -> Mesh:
    s = np.linspace(0, 1, 8)
    bow = rng.uniform(0.0, 0.01) * (0.2 if wood else 1.0)
    path = np.stack([-length * (1 - s), 0 * s, 0.005 + bow * np.sin(np.pi * s) ** 2], 1)
    end = rng.uniform(0.0, 0.006)
    radius = 0.005 if wood else 0.0042 + end * (1 - s) ** rng.uniform(1, 3)
    return sweep(path, radius, flatness=0.9 if wood else rng.uniform(0.25, 0.5), sides=8)


def spoon(rng: Rng) -> list[Part]:
    """Of metal, plastic or wood."""
    wood = rng.random() < 0.3
    t = np.linspace(0.0, np.pi / 2, 7)
    outer = [(np.sin(x), 1 - np.cos(x)) for x in t]
    inner = [(0.88 * r, 0.15 + 0.85 * z) for r, z in reversed(outer)]
    long, wide = rng.uniform(0.022, 0.036), rng.uniform(0.015, 0.024)
    scoop = lathe([*outer, *inner], 20, crease=60)
    scoop = scoop.scaled((long, wide, rng.uniform(0.007, 0.013))).moved((long - 0.004, 0, 0.0))
    handle = _grip(rng, rng.uniform(0.09, 0.16), wood)
    return [Part(merge([handle, scoop]), shine=0.2 if wood else 0.9)]


def fork(rng: Rng) -> list[Part]:
    """Three or four tines."""
    half, long = rng.uniform(0.009, 0.014), rng.uniform(0.03, 0.045)
    head = extrude([(-0.004, 0.004), (-0.004, -0.004), (0.012, -half), (0.026, -half),
                    (0.026, half), (0.012, half)], 0.0025).moved((0, 0, 0.003))  # fmt: skip
    tines = []
    for y in np.linspace(-half * 0.86, half * 0.86, int(rng.integers(3, 5))):
        path = np.array(
            [(0.025, y, 0.0042), (0.025 + long / 2, y, 0.003), (0.025 + long, y, 0.006)]
        )
        tines.append(sweep(path, [0.0021, 0.002, 0.0011], sides=6))
    return [Part(merge([_grip(rng, rng.uniform(0.09, 0.14), False), head, *tines]), shine=0.9)]


def knife(rng: Rng) -> list[Part]:
    """A kitchen or table knife."""
    long, half = rng.uniform(0.08, 0.15), rng.uniform(0.007, 0.014)
    blade = extrude([(-0.004, -half), (long * 0.8, -half), (long * 0.96, -half * 0.4),
                     (long, half * 0.6), (long * 0.93, half), (-0.004, half)],
                    0.002).moved((0, 0, 0.0028))  # fmt: skip
    grip = rng.uniform(0.07, 0.1)
    size = (grip, half * rng.uniform(1.3, 1.9), rng.uniform(0.008, 0.013))
    handle = rounded_box(size, 0.0035).moved((-grip / 2, 0, size[2] / 2))
    return [Part(blade, METAL, shine=0.9), Part(handle, shine=0.3)]


def pen(rng: Rng) -> list[Part]:
    """With a cap or a button."""
    long, radius = rng.uniform(0.11, 0.15), rng.uniform(0.004, 0.0085)
    body = lathe([(0, 0), (0.0015, 0.0), (radius * 0.95, 0.016), (radius, long),
                  (0, long + 0.001)], 14)  # fmt: skip
    parts = [Part(body), Part(lathe([(0, -0.004), (0.0018, 0.002)], 8), DARK)]
    if rng.random() < 0.6:
        start = long * rng.uniform(0.5, 0.75)
        cap = lathe(
            [(radius + 0.001, start), (radius + 0.001, long + 0.006), (0, long + 0.008)], 14
        )
        parts.append(Part(cap, pick(rng, "shade", "trim", "main")))
    else:
        button = lathe([(0.002, long), (0.002, long + 0.01), (0, long + 0.01)], 8)
        clip = rounded_box((0.0018, 0.003, 0.035), 0.0006).moved((radius, 0, long - 0.02))
        parts.append(Part(merge([button, clip]), METAL, shine=0.8))
    return [Part(p.mesh.turned(rotation("y", 90)), p.paint, p.alpha, p.shine) for p in parts]


def apple(rng: Rng) -> list[Part]:
    """More or less flat."""
    flat = (1.0, rng.uniform(0.92, 1.05), rng.uniform(0.88, 1.1))
    return [
        Part(p.mesh.scaled(flat), p.paint, p.alpha, p.shine)
        for p in fruit.apple(rng.random() < 0.3)
    ]


def banana(rng: Rng) -> list[Part]:
    """More or less bent."""
    return fruit.banana(rng.uniform(0.45, 0.9))
