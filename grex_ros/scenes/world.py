"""What a tabletop scene is made of, and what an observer sees of it.

World frame: the table top is z = 0, z up, metres. Camera poses are of the optical frame (x right,
y down, z forward) in the world.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grex_ros.scenes.parts import Rgb
from grex_ros.scenes.prints import Print
from grex_ros.scenes.surfaces import Surface

Vector = tuple[float, float, float]
Rgba = tuple[float, float, float, float]


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
    print: Print | None = None  # drawn on the main parts
    gloss: float = 0.0  # how much of its surroundings it mirrors, 0..1
    metal: bool = False  # mirrors in its own colour


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
class Surroundings:
    """What is mirrored, and seen where nothing is drawn."""

    name: str  # of a photographed room; "" for the made-up one of `seed`
    turn: float  # degrees about z
    gain: float
    blur: float  # of the background, in pixels of a picture 320 wide
    seed: int
    occlusion: float  # how dark corners and contacts are, 0..1
    table_gloss: float


@dataclass(frozen=True)
class Scene:
    """Everything that decides the pixels."""

    seed: int
    objects: tuple[SceneObject, ...]
    camera: Camera
    lights: tuple[Light, ...]
    room: Room
    clutter: tuple[SceneObject, ...] = ()  # without a name, and not in the label image
    surroundings: Surroundings | None = None  # None: plain light alone


def has_unnamed_things(scene: Scene) -> bool:
    """Whether things without a name stand among the objects: "all things" would mean them too."""
    return any(thing.size for thing in scene.clutter)


@dataclass(frozen=True, eq=False)
class Frame:
    """A rendered scene.

    rgb (H, W, 3) uint8; depth (H, W) float32, metres along the optical axis, nan where there is
    nothing; labels (H, W) int32, 0 = no object, i + 1 = `scene.objects[i]`; K (3, 3) float64;
    camera_pose (4, 4) of the optical frame in the world; full_areas (N,): pixels that each object
    would cover in this picture if no other object stood in front of it; in the wide look, those
    beyond the picture's edge are estimated and added.
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


def vector(values: ArrayLike) -> Vector:
    """Three numbers as a tuple."""
    x, y, z = np.asarray(values, float)
    return (float(x), float(y), float(z))
