"""A random tabletop scene, and what an observer sees of it.

World frame: the table top is z = 0, z up, metres. Camera poses are of the optical frame (x right,
y down, z forward) in the world.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from grex_ros.scenes.meshes import rotation
from grex_ros.scenes.objects import (
    COLORS,
    HOUSEHOLD_KINDS,
    PROCEDURAL_KINDS,
    SIZES,
    colors_of,
    sample_paints,
    shapes,
    shapes_of,
)
from grex_ros.scenes.parts import Rgb, Shape
from grex_ros.scenes.surfaces import Surface, sample_surface

Vector = tuple[float, float, float]
Rgba = tuple[float, float, float, float]
_ASPECT = 4 / 3  # objects are placed for a picture of this width to height
_GAP = 0.008  # metres between two footprints


@dataclass(frozen=True)
class SceneObject:
    """One object that stands or lies on the table."""

    kind: str
    color: str  # "" where it has none of its own
    size: str  # "small", "medium" or "large"
    shape: str  # a name in objects.shapes()
    position: Vector  # of the shape's origin
    rotation: tuple[Vector, Vector, Vector]  # rows of the matrix, applied after the scale
    scale: Vector  # along the shape's own axes
    paints: tuple[Rgba, ...]  # one a part
    center: Vector  # middle of the upright bounding box


@dataclass(frozen=True)
class Camera:
    """A pinhole camera; `pose` (4 x 4 rows) is the optical frame in the world."""

    pose: tuple[tuple[float, float, float, float], ...]
    fov: float  # vertical, degrees

    def matrix(self) -> NDArray[np.float64]:
        """The pose as (4, 4)."""
        return np.array(self.pose)

    def intrinsics(self, width: int, height: int) -> NDArray[np.float64]:
        """K (3, 3) for a picture of that size."""
        f = height / 2 / np.tan(np.radians(self.fov) / 2)
        return np.array([[f, 0, width / 2], [0, f, height / 2], [0, 0, 1.0]])


@dataclass(frozen=True)
class Light:
    """A parallel light with or without shadow. Colours are 0..1, intensity included."""

    direction: Vector  # the way the light travels
    diffuse: Rgb
    ambient: Rgb
    specular: float
    shadow: bool


@dataclass(frozen=True)
class Room:
    """Table and background."""

    table: Surface
    floor: Surface
    wall: Surface
    table_size: tuple[float, float]  # full extent in x and y
    wall_distance: float  # from the table's middle


@dataclass(frozen=True)
class Scene:
    """Everything that decides the pixels."""

    seed: int
    objects: tuple[SceneObject, ...]
    camera: Camera
    lights: tuple[Light, ...]
    room: Room


@dataclass(frozen=True, eq=False)
class Frame:
    """A rendered scene.

    rgb (H, W, 3) uint8; depth (H, W) float32, metres along the optical axis, nan where there is
    nothing; labels (H, W) int32, 0 = no object, i + 1 = `scene.objects[i]`; K (3, 3) float64;
    camera_pose (4, 4) of the optical frame in the world; full_areas (N,): pixels that each object
    would cover in this picture if no other object stood in front of it.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    labels: NDArray[np.int32]
    K: NDArray[np.float64]
    camera_pose: NDArray[np.float64]
    full_areas: NDArray[np.int64]


@dataclass(frozen=True)
class ViewObject:
    """What an observer sees of one object."""

    index: int  # its value in the label image
    kind: str
    color: str
    size: str
    box: tuple[float, float, float, float]  # x0, y0, x1, y1 of the visible pixels, end exclusive
    area: int  # visible pixels
    center: tuple[float, float]  # u, v: mean of the visible pixels
    position: Vector  # middle of the object, camera optical frame, metres
    visible_fraction: float  # of the pixels it would have without the objects before it


def view(scene: Scene, frame: Frame, min_area: int = 30) -> list[ViewObject]:
    """The objects that a frame shows, in the order of their index.

    Objects with fewer than `min_area` visible pixels are left out.
    """
    to_camera = np.linalg.inv(frame.camera_pose)
    seen = []
    for i, thing in enumerate(scene.objects):
        v, u = np.nonzero(frame.labels == i + 1)
        if len(u) < max(min_area, 1):
            continue
        x, y, z = (to_camera @ [*thing.center, 1.0])[:3]
        seen.append(
            ViewObject(
                index=i + 1,
                kind=thing.kind,
                color=thing.color,
                size=thing.size,
                box=(float(u.min()), float(v.min()), float(u.max() + 1), float(v.max() + 1)),
                area=len(u),
                center=(float(u.mean() + 0.5), float(v.mean() + 0.5)),
                position=(float(x), float(y), float(z)),
                visible_fraction=min(1.0, len(u) / max(int(frame.full_areas[i]), 1)),
            )
        )
    return seen


def sample_scene(seed: int, *, meshes: bool = False, count: tuple[int, int] = (3, 10)) -> Scene:
    """A random scene; the same seed gives the same scene.

    `count` is the lowest and highest number of objects (a crowded table may end with fewer).
    With `meshes`, about a quarter of the objects are imported household models.
    """
    rng = np.random.default_rng([seed, 0x67726578])
    camera = _sample_camera(rng)
    room = Room(
        table=sample_surface(rng),
        floor=sample_surface(rng, calm=True),
        wall=sample_surface(rng, calm=True),
        table_size=(float(rng.uniform(1.3, 2.2)), float(rng.uniform(1.1, 1.7))),
        wall_distance=float(rng.uniform(1.0, 2.6)),
    )
    lights = _sample_lights(rng)
    objects = _place(rng, camera, room, _sample_wishes(rng, count, meshes))
    return Scene(seed, objects, camera, lights, room)


@dataclass(frozen=True)
class _Wish:
    """An object that is to be placed."""

    shape: Shape
    color: str
    size: str


def _sample_wishes(rng: np.random.Generator, count: tuple[int, int], meshes: bool) -> list[_Wish]:
    # few kinds and colours a scene, so that "all red cups" has something to choose from
    kinds = rng.choice(PROCEDURAL_KINDS, size=rng.integers(2, 5), replace=False)
    colors = rng.choice(list(COLORS), size=rng.integers(2, 5), replace=False)
    sizes = rng.choice(list(SIZES), size=rng.integers(1, 4), replace=False)
    imported = rng.choice(HOUSEHOLD_KINDS, size=2 if meshes else 0, replace=False)
    wishes = []
    for _ in range(int(rng.integers(count[0], count[1] + 1))):
        household = meshes and rng.random() < 0.25
        favourites, others = (imported, HOUSEHOLD_KINDS) if household else (kinds, PROCEDURAL_KINDS)
        kind = str(rng.choice(favourites if rng.random() < 0.8 else others))
        shape = shapes()[str(rng.choice(shapes_of(kind, household)))]
        own = colors_of(kind) if shape.color == "free" else (shape.color,)
        liked = [c for c in own if c in colors]
        color = str(rng.choice(liked if liked and rng.random() < 0.85 else own))
        size = str(rng.choice(sizes if rng.random() < 0.85 else list(SIZES)))
        wishes.append(_Wish(shape, color, size))
    return wishes


def _sample_camera(rng: np.random.Generator) -> Camera:
    pitch = np.radians(rng.uniform(30, 70))
    azimuth = np.radians(rng.uniform(-25, 25))
    fov = rng.uniform(38, 56)
    distance = rng.uniform(0.3, 0.46) / np.tan(np.radians(fov) / 2)
    target = np.array([*rng.uniform(-0.08, 0.08, 2), 0.03])
    back = np.array(
        [np.sin(azimuth) * np.cos(pitch), -np.cos(azimuth) * np.cos(pitch), np.sin(pitch)]
    )
    forward = -back
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(forward, right), forward], 1)
    axes = axes @ rotation("z", rng.uniform(-4, 4))
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = axes, target + distance * back
    rows = tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in pose)
    return Camera(rows, float(fov))


def _sample_lights(rng: np.random.Generator) -> tuple[Light, ...]:
    warmth = rng.uniform(-1, 1)
    tint = np.array([1 + 0.07 * warmth, 1.0, 1 - 0.1 * warmth])
    ambient = rng.uniform(0.36, 0.54)
    key = rng.uniform(0.42, 0.66)
    fill = max(0.0, rng.uniform(1.0, 1.25) - ambient - key)

    def light(strength: float, steepness: tuple[float, float], key: bool) -> Light:
        height = np.radians(rng.uniform(*steepness))
        turn = rng.uniform(0, 2 * np.pi)
        way = (np.cos(turn) * np.cos(height), np.sin(turn) * np.cos(height), -np.sin(height))
        return Light(
            direction=_vector(way),
            diffuse=_vector(strength * tint),
            ambient=_vector(np.zeros(3) if key else ambient * tint),
            specular=float(rng.uniform(0.1, 0.5)) if key else 0.0,
            # sometimes a diffuse room, where nothing throws a shadow
            shadow=key and bool(rng.random() < 0.85),
        )

    # the ambient light is the fill's: what a lamp with a shadow brings is missing in its shadow
    return light(key, (42, 78), True), light(fill, (25, 60), False)


def _place(
    rng: np.random.Generator, camera: Camera, room: Room, wishes: list[_Wish]
) -> tuple[SceneObject, ...]:
    placed: list[SceneObject] = []
    hulls: list[NDArray[np.float64]] = []
    boxes: list[NDArray[np.float64]] = []
    for wish in wishes:
        turn, scale = _sample_pose(rng, wish)
        points = (wish.shape.vertices * scale) @ turn.T
        low, high = points.min(0), points.max(0)
        lift = np.array([0.0, 0.0, -low[2]])
        corners = _corners(low, high) + lift
        outline = _outline(points)
        for _ in range(100):
            spot = _pick_spot(rng, camera, placed)
            if spot is None or np.abs(spot / room.table_size).max() > 0.44:
                continue
            hull = outline + spot
            if any(_overlap(hull, other) for other in hulls):
                continue
            at = lift + [*spot, 0.0]
            box = project_box(corners + [*spot, 0.0], camera, _ASPECT)
            if not _well_seen(box, boxes):
                continue
            placed.append(
                SceneObject(
                    kind=wish.shape.kind,
                    color=wish.color,
                    size=wish.size,
                    shape=wish.shape.name,
                    position=_vector(at),
                    rotation=(_vector(turn[0]), _vector(turn[1]), _vector(turn[2])),
                    scale=_vector(scale),
                    paints=sample_paints(wish.shape, wish.color, rng),
                    center=_vector((low + high) / 2 + at),
                )
            )
            hulls.append(hull)
            boxes.append(box)
            break
    return tuple(placed)


def _sample_pose(
    rng: np.random.Generator, wish: _Wish
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotation (3, 3) and scale (3,)."""
    factor = SIZES[wish.size] * rng.uniform(0.96, 1.04)
    stretch = np.array([1.0, 1.0, rng.uniform(0.92, 1.08)]) if wish.shape.pliable else np.ones(3)
    turn = rotation("z", rng.uniform(0, 360))
    if wish.shape.lies and rng.random() < 0.25:
        turn = turn @ rotation("y", 90) @ rotation("z", rng.uniform(0, 360))
    return turn, factor * stretch


def _pick_spot(
    rng: np.random.Generator, camera: Camera, placed: list[SceneObject]
) -> NDArray[np.float64] | None:
    """A place on the table's plane (2,): where a random pixel looks, or close to an object."""
    if placed and rng.random() < 0.4:  # relations and overlaps come from neighbours
        near = placed[int(rng.integers(len(placed)))].position
        return np.asarray(near[:2] + rng.normal(0, 0.08, 2))
    half = np.tan(np.radians(camera.fov) / 2)
    ray = np.array([rng.uniform(-0.86, 0.86) * half * _ASPECT, rng.uniform(-0.8, 0.88) * half, 1.0])
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


def _outline(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convex footprint (N, 2) of points (M, 3), wider by the gap."""
    hull = cv2.convexHull(points[:, :2].astype(np.float32))[:, 0].astype(np.float64)
    push = hull - hull.mean(0)
    return np.asarray(hull + push / np.linalg.norm(push, axis=1, keepdims=True) * _GAP)


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


def _well_seen(box: NDArray[np.float64], others: list[NDArray[np.float64]]) -> bool:
    """Large enough, not too large, nearly whole in the picture, not hidden by others' boxes."""
    size = box[2:] - box[:2]
    if not 0.042 < size.max() < 0.3:
        return False
    inside = np.minimum(box[2:], [1.0, 1 / _ASPECT]) - np.maximum(box[:2], 0.0)
    if (inside < 0.85 * size).any():
        return False
    for other in others:
        shared = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
        if (shared > 0).all():
            smaller = min(size.prod(), (other[2:] - other[:2]).prod())
            if shared.prod() > 0.7 * smaller:
                return False
    return True


def _vector(values: object) -> Vector:
    x, y, z = np.asarray(values, float)
    return (float(x), float(y), float(z))
