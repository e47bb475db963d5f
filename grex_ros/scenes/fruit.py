"""Fruit and a carrot, in metres, each resting near z = 0."""

from __future__ import annotations

import numpy as np

from grex_ros.scenes.meshes import Mesh, lathe, merge, rotation, sphere, sweep
from grex_ros.scenes.parts import LEAF, WOOD, Part


def _stem(height: float, foot: float) -> Mesh:
    path = np.array([(0, 0, foot), (0.001, 0, foot + height / 2), (0.005, 0, foot + height)])
    return sweep(path, [0.0016, 0.0014, 0.0022], sides=7, up=(0, 1, 0))


def apple(leaf: bool) -> list[Part]:
    """A stem, and a leaf if asked for."""
    t = np.linspace(-np.pi / 2, np.pi / 2, 22)
    dent = 0.013 * np.exp(-((t - np.pi / 2) ** 2) / 0.12) + 0.006 * np.exp(
        -((t + np.pi / 2) ** 2) / 0.05
    ) * -1  # fmt: skip
    r = 0.04 * np.maximum(np.cos(t), 0) ** 0.85 * (1 + 0.07 * np.sin(t))
    z = 0.036 * np.sin(t) - dent + 0.036
    parts = [
        Part(lathe(np.stack([r, z], 1), 28, crease=75), shine=0.6),
        Part(_stem(0.02, 0.056), WOOD),
    ]
    if leaf:
        s = np.linspace(0, 1, 8)
        path = np.stack([0.003 + 0.026 * s, 0 * s, 0.068 + 0.008 * np.sin(2.5 * s)], 1)
        parts.append(Part(sweep(path, 0.001 + 0.008 * np.sin(np.pi * s), flatness=0.15), LEAF))
    return parts


def pear() -> list[Part]:
    """It stands."""
    t = np.linspace(0.0, np.pi, 26)
    z = 0.05 * (1 - np.cos(t))
    r = np.sin(t) * (0.037 - 0.0065 * np.cos(t) * -1 - 0.011 * (1 - np.cos(t)) * 0.5)
    neck = 1 - 0.33 * np.exp(-((z - 0.078) ** 2) / 0.0004)
    return [
        Part(lathe(np.stack([np.maximum(r * neck, 0.0), z], 1), 28, crease=75)),
        Part(_stem(0.02, 0.098), WOOD),
    ]


def banana(bend: float) -> list[Part]:
    """It lies; `bend` is half its arc in radians."""
    angle = np.linspace(-bend, bend, 18)
    reach = 0.085 / bend
    path = np.stack([reach * np.sin(angle), reach * (1 - np.cos(angle)), 0 * angle], 1)
    s = np.linspace(-1, 1, 18)
    radii = 0.0175 * np.clip(1 - np.abs(s) ** 4.5, 0.28, 1)
    body = sweep(path[1:-1], radii[1:-1], sides=7)
    tip = sweep(path[:3], [0.0035, 0.0046, 0.0055], sides=7)
    end = sweep(path[-2:], [0.0052, 0.004], sides=7)
    return [Part(body, shine=0.2), Part(merge([tip, end]), (0.24, 0.17, 0.07))]


def citrus() -> list[Part]:
    """An orange with its green button."""
    ball = sphere(0.038).scaled((1, 1, 0.95))
    button = lathe([(0.006, 0.0708), (0.004, 0.0735), (0, 0.074)], 8)
    return [Part(ball, shine=0.2), Part(button, LEAF)]


def lemon() -> list[Part]:
    """It lies."""
    t = np.linspace(-np.pi / 2, np.pi / 2, 24)
    tip = 0.011 * (np.exp(-((t - np.pi / 2) ** 2) / 0.02) - np.exp(-((t + np.pi / 2) ** 2) / 0.04))
    r = 0.0265 * np.maximum(np.cos(t), 0) ** 0.95
    z = 0.034 * np.sin(t) + tip
    return [Part(lathe(np.stack([r, z], 1), 24, crease=75).turned(rotation("y", 90)), shine=0.2)]


def carrot() -> list[Part]:
    """It lies, leaves at one end."""
    s = np.linspace(0, 1, 14)
    r = 0.017 * (1 - s) ** 0.6 * np.clip(0.75 + 4 * s, 0, 1) + 0.0015
    body = lathe(
        [(0, 0), *np.stack([r[::-1], 0.13 * s], 1)[:-1], (0.013, 0.13), (0, 0.132)], 18, 60
    )
    leaves = []
    for k in range(5):
        lean = 0.022 * np.array([np.cos(k * 1.26), np.sin(k * 1.26)])
        path = np.array([(0, 0, 0.128), (*(lean * 0.45), 0.15), (*lean, 0.175)])
        leaves.append(sweep(path, [0.002, 0.0045, 0.002], sides=6, up=(0.31, 0.9, 0.1)))
    parts = [Part(body, shine=0.2), Part(merge(leaves), LEAF, shine=0.1)]
    lying = rotation("y", 86)
    return [Part(p.mesh.turned(lying), p.paint, p.alpha, p.shine) for p in parts]
