"""What a shape is made of: meshes, each with one paint."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from grex_ros.scenes.meshes import Mesh

Rgb = tuple[float, float, float]
WOOD: Rgb = (0.45, 0.28, 0.13)
METAL: Rgb = (0.72, 0.73, 0.75)
PAPER: Rgb = (0.92, 0.9, 0.84)
DARK: Rgb = (0.1, 0.1, 0.11)
LEAF: Rgb = (0.2, 0.48, 0.12)


@dataclass(frozen=True, eq=False)
class Part:
    """A mesh with one paint. `paint`: "main" (the object's colour), "shade" (a darker or lighter
    main), "trim" (white, or dark on a white object) or a fixed rgb of 0..1."""

    mesh: Mesh
    paint: str | Rgb = "main"
    alpha: float = 1.0
    shine: float = 0.4


@dataclass(frozen=True, eq=False)
class Shape:
    """One model of a kind. `lies`: it may also be laid on its side."""

    name: str
    kind: str
    parts: tuple[Part, ...]
    lies: bool = False
    pliable: bool = True  # its proportions may vary
    color: str = "free"  # "free", a fixed colour name, or "" for multicoloured
    vertices: np.ndarray = field(init=False)  # (V, 3), all parts

    def __post_init__(self) -> None:
        stacked = np.concatenate([p.mesh.vertices for p in self.parts])
        object.__setattr__(self, "vertices", stacked)
