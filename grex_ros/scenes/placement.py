"""Where the objects of a scene stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from grex_ros.scenes.meshes import rotation
from grex_ros.scenes.objects import SIZES
from grex_ros.scenes.parts import Shape
from grex_ros.scenes.world import Camera, Room, SceneObject, vector

ASPECT = 4 / 3  # objects are placed for a picture of this width to height


@dataclass(frozen=True)
class Wish:
    """An object that is to be placed."""

    shape: Shape
    color: str
    size: str


# what of a SceneObject its place does not decide: its paints at least
Finish = Callable[[Wish, np.random.Generator], dict[str, Any]]


@dataclass(frozen=True)
class Manners:
    """How closely objects may stand, and what of them must be seen. Sides of boxes are in picture
    widths."""

    gap: float = 0.008  # metres between two footprints
    box: tuple[float, float] = (0.042, 0.3)  # longest side
    inside: float = 0.85  # of both sides, in the picture
    hidden: float = 0.7  # of the smaller of two boxes
    near: float = 0.4  # share of objects that are put close to another one
    spread: float = 0.08  # metres, how close
    stretch: tuple[float, float] = (0.0, 0.08)  # of pliable shapes, across and upwards, each way
    lying: float = 0.25  # share of the shapes that may lie


def place(
    rng: np.random.Generator,
    camera: Camera,
    room: Room,
    wishes: Sequence[Wish],
    finish: Finish,
    manners: Manners,
) -> tuple[SceneObject, ...]:
    """As many of the wishes as find room, each on the table."""
    placed: list[SceneObject] = []
    hulls: list[NDArray[np.float64]] = []
    boxes: list[NDArray[np.float64]] = []
    for wish in wishes:
        turn, scale = _sample_pose(rng, wish, manners)
        points = (wish.shape.vertices * scale) @ turn.T
        low, high = points.min(0), points.max(0)
        lift = np.array([0.0, 0.0, -low[2]])
        corners = _corners(low, high) + lift
        outline = _outline(points, manners.gap)
        for _ in range(100):
            spot = _pick_spot(rng, camera, placed, manners)
            if spot is None or np.abs(spot / room.table_size).max() > 0.44:
                continue
            hull = outline + spot
            if any(_overlap(hull, other) for other in hulls):
                continue
            at = lift + [*spot, 0.0]
            box = project_box(corners + [*spot, 0.0], camera, ASPECT)
            if not _well_seen(box, boxes, manners):
                continue
            placed.append(
                SceneObject(
                    kind=wish.shape.kind,
                    color=wish.color,
                    size=wish.size,
                    shape=wish.shape.name,
                    position=vector(at),
                    rotation=(vector(turn[0]), vector(turn[1]), vector(turn[2])),
                    scale=vector(scale),
                    center=vector((low + high) / 2 + at),
                    **finish(wish, rng),
                )
            )
            hulls.append(hull)
            boxes.append(box)
            break
    return tuple(placed)


def _sample_pose(
    rng: np.random.Generator, wish: Wish, manners: Manners
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotation (3, 3) and scale (3,)."""
    factor = SIZES[wish.size] * rng.uniform(0.96, 1.04)
    across, up = manners.stretch
    stretch = np.ones(3)
    if wish.shape.pliable:
        stretch[2] = rng.uniform(1 - up, 1 + up)
        if across:
            stretch[:2] = rng.uniform(1 - across, 1 + across)
    turn = rotation("z", rng.uniform(0, 360))
    if wish.shape.lies and rng.random() < manners.lying:
        turn = turn @ rotation("y", 90) @ rotation("z", rng.uniform(0, 360))
    return turn, factor * stretch


def _pick_spot(
    rng: np.random.Generator, camera: Camera, placed: list[SceneObject], manners: Manners
) -> NDArray[np.float64] | None:
    """A place on the table's plane (2,): where a random pixel looks, or close to an object."""
    if placed and rng.random() < manners.near:  # relations and overlaps come from neighbours
        near = placed[int(rng.integers(len(placed)))].position
        return np.asarray(near[:2] + rng.normal(0, manners.spread, 2))
    half = np.tan(np.radians(camera.fov) / 2)
    ray = np.array([rng.uniform(-0.86, 0.86) * half * ASPECT, rng.uniform(-0.8, 0.88) * half, 1.0])
    pose = camera.matrix()
    ray = pose[:3, :3] @ ray
    if ray[2] > -0.05:
        return None
    return np.asarray((pose[:3, 3] - ray * pose[2, 3] / ray[2])[:2])


def project_box(points: NDArray[np.float64], camera: Camera, aspect: float) -> NDArray[np.float64]:
    """Box x0, y0, x1, y1 around world points (N, 3), in picture widths: the picture is
    1 wide and 1 / aspect high."""
    pose = camera.matrix()
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    focal = 0.5 / aspect / np.tan(np.radians(camera.fov) / 2)
    uv = focal * local[:, :2] / local[:, 2:] + [0.5, 0.5 / aspect]
    return np.concatenate([uv.min(0), uv.max(0)])


def _corners(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """The eight corners of an upright box (8, 3)."""
    x, y, z = np.stack([low, high], 1)
    return np.array([(a, b, c) for a in x for b in y for c in z])


def _outline(points: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """Convex footprint (N, 2) of points (M, 3), wider by the gap."""
    hull = cv2.convexHull(points[:, :2].astype(np.float32))[:, 0].astype(np.float64)
    push = hull - hull.mean(0)
    return np.asarray(hull + push / np.linalg.norm(push, axis=1, keepdims=True) * gap)


def _overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Do two convex polygons (N, 2) share ground? By the separating axis theorem."""
    if (a.max(0) < b.min(0)).any() or (b.max(0) < a.min(0)).any():
        return False
    for polygon in (a, b):
        edges = polygon - polygon[np.arange(len(polygon)) - 1]
        normals = np.stack([edges[:, 1], -edges[:, 0]])
        first, second = a @ normals, b @ normals
        if ((first.max(0) < second.min(0)) | (second.max(0) < first.min(0))).any():
            return False
    return True


def _well_seen(
    box: NDArray[np.float64], others: list[NDArray[np.float64]], manners: Manners
) -> bool:
    """Large enough, not too large, nearly whole in the picture, not hidden by others' boxes."""
    size = box[2:] - box[:2]
    low, high = manners.box
    if not low < size.max() < high:
        return False
    inside = np.minimum(box[2:], [1.0, 1 / ASPECT]) - np.maximum(box[:2], 0.0)
    if (inside < manners.inside * size).any():
        return False
    for other in others:
        shared = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
        if (shared > 0).all():
            smaller = min(size.prod(), (other[2:] - other[:2]).prod())
            if shared.prod() > manners.hidden * smaller:
                return False
    return True
