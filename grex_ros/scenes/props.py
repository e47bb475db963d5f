"""Things without a name: clutter among the objects, papers and cloths under them, furniture behind.

Their kind is ""; they are never asked for and have no label. Each is some 0.1 m large.
"""

from __future__ import annotations

import numpy as np

from grex_ros.scenes.meshes import Mesh, extrude, lathe, merge, rounded_box, sphere, sweep
from grex_ros.scenes.parts import METAL, Part, Shape
from grex_ros.scenes.shapes import centred

LUMPS = ("prop_wedge", "prop_pebble", "prop_spool", "prop_bracket", "prop_cone", "prop_cluster",
         "prop_crumple")  # fmt: skip
FLATS = ("prop_sheet", "prop_round_mat", "prop_cloth")
CABLES = ("prop_cable_0", "prop_cable_1", "prop_cable_2")
FURNITURE = ("prop_cupboard", "prop_column", "prop_chair", "prop_shelf", "prop_cushion")


def props() -> list[Shape]:
    """All of them, the same list at every call."""
    rng = np.random.default_rng(0x70726F70)
    made = {
        "wedge": [Part(extrude([(0, 0), (0.09, 0), (0, 0.05)], 0.03))],
        "pebble": [Part(_lump(rng, 0.5))],
        "spool": [
            Part(lathe([(0, 0), (0.035, 0), (0.035, 0.008), (0.014, 0.012), (0.014, 0.05),
                        (0.035, 0.054), (0.035, 0.062), (0, 0.062)], 20)),
        ],
        "bracket": [
            Part(merge([rounded_box((0.09, 0.03, 0.01), 0.001),
                        rounded_box((0.01, 0.03, 0.06), 0.001).moved((-0.04, 0, 0.03))]))
        ],
        "cone": [Part(lathe([(0, 0), (0.035, 0), (0.004, 0.09), (0, 0.091)], 20))],
        "cluster": [
            Part(merge([sphere(0.02, 12), sphere(0.016, 12).moved((0.03, 0.01, 0)),
                        sphere(0.023, 12).moved((0.01, -0.035, 0))]))
        ],
        "crumple": [Part(_lump(rng, 1.6))],
        "sheet": [Part(rounded_box((0.1, 0.141, 0.0006), 0.0002), shine=0.0)],
        "round_mat": [Part(lathe([(0, 0), (0.07, 0), (0.07, 0.0006), (0, 0.0006)], 36), shine=0.0)],
        "cloth": [Part(extrude(_blob(rng, 0.07), 0.0006), shine=0.0)],
        "cupboard": [
            Part(rounded_box((0.1, 0.05, 0.12), 0.0005), shine=0.1),
            Part(rounded_box((0.001, 0.052, 0.11), 0.0002), "shade"),
            Part(rounded_box((0.096, 0.052, 0.001), 0.0002), "shade"),
        ],
        "column": [Part(lathe([(0, 0), (0.03, 0), (0.03, 0.15), (0, 0.15)], 24), shine=0.1)],
        "chair": [
            Part(merge([rounded_box((0.09, 0.01, 0.08), 0.004).moved((0, 0.04, 0.14)),
                        rounded_box((0.1, 0.1, 0.012), 0.004).moved((0, 0, 0.09))])),
            Part(merge([rounded_box((0.008, 0.008, 0.18), 0.001).moved((x, y, 0.05))
                        for x in (-0.042, 0.042) for y in (-0.042, 0.042)]), METAL),
        ],
        "shelf": [
            Part(merge([rounded_box((0.12, 0.03, 0.003), 0.0005).moved((0, 0, z))
                        for z in (0, 0.03, 0.06, 0.09, 0.12)]
                       + [rounded_box((0.003, 0.03, 0.125), 0.0005).moved((x, 0, 0.06))
                          for x in (-0.06, 0.06)])),
            Part(merge([rounded_box((0.018, 0.025, 0.022), 0.001).moved((x, 0, z + 0.013))
                        for x, z in ((-0.04, 0), (-0.01, 0), (0.03, 0.03), (-0.03, 0.06),
                                     (0.02, 0.06), (0.04, 0.09))]), "trim"),
        ],
        "cushion": [Part(rounded_box((0.1, 0.06, 0.05), 0.02), shine=0.0)],
    }  # fmt: skip
    for k in range(3):
        made[f"cable_{k}"] = [Part(_cable(rng), shine=0.3)]
    return [Shape(f"prop_{name}", "", centred(parts)) for name, parts in made.items()]


def _lump(rng: np.random.Generator, rough: float) -> Mesh:
    ball = sphere(0.03, 18)
    away = ball.vertices - [0, 0, 0.03]
    bumps = rng.normal(size=(5, 3)) * 60
    wave = 1 + rough * 0.07 * np.sin(away @ bumps.T).sum(1, keepdims=True)
    return Mesh(away * wave * [1.2, 0.9, 0.75] + [0, 0, 0.03], ball.normals, ball.faces)


def _blob(rng: np.random.Generator, radius: float) -> list[tuple[float, float]]:
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    return [(radius * np.cos(a), radius * np.sin(a)) for a in angles]


def _cable(rng: np.random.Generator) -> Mesh:
    t = np.linspace(0, 1, 30)
    bend = np.cumsum(
        0.5 * np.sin(6 * rng.random() + rng.uniform(3, 12) * t) * rng.uniform(0.3, 0.9)
    )
    path = np.stack([np.cumsum(np.cos(bend)), np.cumsum(np.sin(bend)), 0 * t], 1) * 0.004
    return sweep(path, 0.0014, sides=6)
