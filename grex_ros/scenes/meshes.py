"""Triangle meshes from numpy: lathe, sweep, rounded box, extrusion.

Everything is in metres, z up. Vertices are doubled where an edge is sharp, so one normal a vertex
is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Mesh:
    """vertices (V, 3) metres, normals (V, 3) unit length, faces (F, 3) counter-clockwise."""

    vertices: Floats
    normals: Floats
    faces: NDArray[np.int32]

    def moved(self, offset: ArrayLike) -> Mesh:
        """The mesh shifted by `offset` (3,)."""
        return Mesh(self.vertices + np.asarray(offset, float), self.normals, self.faces)

    def scaled(self, factors: ArrayLike) -> Mesh:
        """The mesh stretched along the axes by positive `factors` (scalar or (3,))."""
        factor = np.broadcast_to(np.asarray(factors, float), 3)
        return Mesh(self.vertices * factor, _unit(self.normals / factor), self.faces)

    def turned(self, rotation: Floats) -> Mesh:
        """The mesh rotated by a matrix (3, 3)."""
        return Mesh(self.vertices @ rotation.T, self.normals @ rotation.T, self.faces)


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh out of several."""
    starts = np.cumsum([0] + [len(m.vertices) for m in meshes[:-1]])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.normals for m in meshes]),
        np.concatenate([m.faces + s for m, s in zip(meshes, starts, strict=True)]).astype(np.int32),
    )


def rotation(axis: str, degrees: float) -> Floats:
    """Rotation matrix (3, 3) about "x", "y" or "z"."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def lathe(profile: ArrayLike, segments: int = 32, crease: float = 40.0) -> Mesh:
    """Turn a profile of (radius, z) points about the z axis.

    Walking along the profile, the outside is on the right: an outer wall goes up, an inner wall
    comes down. Corners sharper than `crease` degrees stay sharp.
    """
    points = np.asarray(profile, float)
    steps = np.diff(points, axis=0)
    moves = np.linalg.norm(steps, axis=1) > 1e-7
    points, steps = points[np.r_[True, moves]], steps[moves]
    slopes = _unit(np.stack([steps[:, 1], -steps[:, 0]], 1))  # outward normals of the pieces
    limit = np.cos(np.radians(crease))
    rings: list[tuple[Floats, Floats]] = []
    pairs: list[tuple[int, int]] = []
    for i, slope in enumerate(slopes):
        before = slopes[i - 1] if i and slopes[i - 1] @ slope > limit else slope
        after = slopes[i + 1] if i + 1 < len(slopes) and slopes[i + 1] @ slope > limit else slope
        if before is slope or not rings:
            rings.append((points[i], slope))
        rings.append((points[i + 1], _unit(slope + after)))
        pairs.append((len(rings) - 2, len(rings) - 1))
    angle = np.linspace(0.0, 2 * np.pi, segments, endpoint=False)
    around = np.stack([np.cos(angle), np.sin(angle)], 1)

    def spin(pair: Floats) -> Floats:
        return np.concatenate([around * pair[0], np.full((segments, 1), pair[1])], 1)

    k = np.arange(segments)
    following = (k + 1) % segments
    faces = []
    for low, high in pairs:
        a, b = low * segments, high * segments
        if rings[low][0][0] > 1e-9:
            faces.append(np.stack([a + k, a + following, b + k], 1))
        if rings[high][0][0] > 1e-9:
            faces.append(np.stack([a + following, b + following, b + k], 1))
    return Mesh(
        np.concatenate([spin(p) for p, _ in rings]),
        np.concatenate([spin(n) for _, n in rings]),
        np.concatenate(faces).astype(np.int32),
    )


def sweep(
    path: ArrayLike,
    radius: ArrayLike,
    *,
    flatness: float = 1.0,
    sides: int = 10,
    up: ArrayLike = (0.0, 0.0, 1.0),
) -> Mesh:
    """A closed tube along `path` (N, 3).

    `radius` is a scalar or (N,), across `up`; along `up` it is multiplied by `flatness`.
    """
    points = np.asarray(path, float)
    radii = np.broadcast_to(np.asarray(radius, float), len(points))
    tangents = _unit(np.gradient(points, axis=0))
    side = _unit(np.cross(tangents, np.asarray(up, float)))
    above = np.cross(side, tangents)
    angle = np.linspace(0.0, 2 * np.pi, sides, endpoint=False)
    cos, sin = np.cos(angle)[None, :, None], np.sin(angle)[None, :, None]
    wide = radii[:, None, None]
    ring = points[:, None] + wide * (cos * side[:, None] + sin * flatness * above[:, None])
    normal = _unit(cos * side[:, None] + sin / flatness * above[:, None])
    n, k = len(points), np.arange(sides)
    following = (k + 1) % sides
    faces = []
    for i in range(n - 1):
        a, b = i * sides, (i + 1) * sides
        faces.append(np.stack([a + k, b + following, a + following], 1))
        faces.append(np.stack([a + k, b + k, b + following], 1))
    body = Mesh(ring.reshape(-1, 3), normal.reshape(-1, 3), np.concatenate(faces).astype(np.int32))
    caps = [_fan(ring[0], -tangents[0]), _fan(ring[-1], tangents[-1])]
    return merge([body, *caps])


def rounded_box(size: ArrayLike, bevel: float) -> Mesh:
    """A box of full edge lengths `size` (3,), centred, with edges rounded by `bevel` metres."""
    half = np.asarray(size, float) / 2
    inner = np.maximum(half - bevel, 1e-6)
    meshes = []
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        for sign in (-1.0, 1.0):
            grid = [_bevelled_line(half[i], inner[i]) for i in (u, v)]
            a, b = np.meshgrid(*grid, indexing="ij")
            points = np.zeros((*a.shape, 3))
            points[..., u], points[..., v], points[..., axis] = a, b, sign * half[axis]
            core = np.clip(points, -inner, inner)
            normals = _unit(points - core)
            meshes.append(_grid(core + bevel * normals, normals, flip=sign < 0))
    return merge(meshes)


def extrude(outline: ArrayLike, thickness: float) -> Mesh:
    """A flat plate: `outline` (N, 2), convex, counter-clockwise in x-y, from z = 0 up."""
    flat = np.asarray(outline, float)
    bottom = np.concatenate([flat, np.zeros((len(flat), 1))], 1)
    top = bottom + [0.0, 0.0, thickness]
    walls = []
    for i in range(len(flat)):
        j = (i + 1) % len(flat)
        corners = np.array([bottom[i], bottom[j], top[j], top[i]])
        walls.append(_fan(corners, _unit(np.cross(corners[1] - corners[0], [0.0, 0.0, 1.0]))))
    up = np.array([0.0, 0.0, 1.0])
    return merge([_fan(bottom[::-1], -up), _fan(top, up), *walls])


def sphere(radius: float, segments: int = 28) -> Mesh:
    """A ball that rests on z = 0."""
    t = np.linspace(-np.pi / 2, np.pi / 2, segments // 2 + 1)
    profile = np.stack([np.maximum(np.cos(t), 0.0), np.sin(t) + 1.0], 1) * radius
    return lathe(profile, segments, crease=60.0)


def _unit(vectors: Floats) -> Floats:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12))


def _fan(ring: Floats, normal: Floats) -> Mesh:
    """A flat convex polygon that looks along `normal`."""
    k = np.arange(1, len(ring) - 1)
    faces = np.stack([np.zeros_like(k), k, k + 1], 1)
    if np.cross(ring[1] - ring[0], ring[2] - ring[0]) @ normal < 0:
        faces = faces[:, ::-1]
    return Mesh(ring, np.broadcast_to(normal, ring.shape).copy(), faces.astype(np.int32))


def _bevelled_line(half: float, inner: float) -> Floats:
    bevel = half - inner
    right = [inner, inner + 0.41 * bevel, half]
    return np.array([-x for x in reversed(right)] + right)


def _grid(points: Floats, normals: Floats, flip: bool) -> Mesh:
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    if flip:
        faces = faces[:, ::-1]
    return Mesh(points.reshape(-1, 3), normals.reshape(-1, 3), faces.astype(np.int32))
