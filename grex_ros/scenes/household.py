"""The imported household models (assets/household.npz; authors in assets/ATTRIBUTION.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from grex_ros.scenes.meshes import Mesh
from grex_ros.scenes.parts import Part, Rgb, Shape

ASSETS = Path(__file__).parent / "assets"
PAINTED = "free"  # colour of a model whose main parts may be painted
_UNIT = 1e-5  # metres a step of the stored coordinates

# vertices (V, 3) m, normals (V, 3), faces (F, 3), rgb 0..1 or None for the object's colour, opacity
RawPart = tuple[
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.integer],
    NDArray[np.float64] | None,
    float,
]


@dataclass(frozen=True, eq=False)
class Model:
    """A converted model. color: a colour name, "" (multicoloured) or PAINTED."""

    name: str
    kind: str
    color: str
    parts: list[RawPart]


def write_models(path: Path, models: list[Model]) -> None:
    """Store models: coordinates in steps of 0.01 mm, normals in 1/127."""
    index = []
    vertices, normals, faces = [], [], []
    for model in models:
        parts = []
        for points, directions, triangles, rgb, alpha in model.parts:
            vertices.append(np.round(points / _UNIT).astype(np.int16))
            normals.append(np.round(directions * 127).astype(np.int8))
            faces.append(triangles.astype(np.uint16))
            color = None if rgb is None else [round(float(c), 3) for c in rgb]
            parts.append([len(points), len(triangles), color, round(float(alpha), 2)])
        index.append([model.name, model.kind, model.color, parts])
    np.savez_compressed(
        path,
        index=np.frombuffer(json.dumps(index).encode(), np.uint8),
        vertices=np.concatenate(vertices),
        normals=np.concatenate(normals),
        faces=np.concatenate(faces),
    )


def household_shapes(path: Path = ASSETS / "household.npz") -> list[Shape]:
    """The stored models as shapes, always in the same order."""
    with np.load(path, allow_pickle=False) as stored:
        index = json.loads(stored["index"].tobytes())
        vertices = stored["vertices"] * _UNIT
        normals = stored["normals"] / 127.0
        faces = stored["faces"].astype(np.int32)
    shapes, v, f = [], 0, 0
    for name, kind, color, stored_parts in index:
        parts = []
        for points, triangles, rgb, alpha in stored_parts:
            directions = normals[v : v + points]
            directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
            mesh = Mesh(vertices[v : v + points], directions, faces[f : f + triangles])
            paint: str | Rgb = "main" if rgb is None else (rgb[0], rgb[1], rgb[2])
            parts.append(Part(mesh, paint, alpha))
            v, f = v + points, f + triangles
        shapes.append(Shape(f"household_{name}", kind, tuple(parts), pliable=False, color=color))
    return shapes
