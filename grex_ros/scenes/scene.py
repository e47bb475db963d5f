"""A random tabletop scene, and what an observer sees of it (grex_ros.scenes.world)."""

from __future__ import annotations

from typing import Any

import numpy as np

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
from grex_ros.scenes.placement import Manners, Wish, place, project_box
from grex_ros.scenes.surfaces import sample_surface
from grex_ros.scenes.wide import sample_wide
from grex_ros.scenes.world import (
    Camera,
    Frame,
    Light,
    Room,
    Scene,
    SceneObject,
    ViewObject,
    vector,
    view,
)

__all__ = [
    "LOOKS",
    "Camera",
    "Frame",
    "Light",
    "Room",
    "Scene",
    "SceneObject",
    "ViewObject",
    "project_box",
    "sample_scene",
    "view",
]

LOOKS = ("plain", "wide")


def sample_scene(
    seed: int,
    *,
    meshes: bool = False,
    count: tuple[int, int] | None = None,
    look: str = "plain",
) -> Scene:
    """A random scene; the same arguments give the same scene.

    `count` is the lowest and highest number of objects (a crowded table may end with fewer), 3 to
    10 if not said. With `meshes`, about a quarter of the objects are imported household models.
    The `look` "plain" is a tidy table under even light; "wide" is what photographs show: more
    shapes, prints, materials, clutter, rooms, lights and views, and 2 to 16 objects. ValueError
    for another look.
    """
    if look == "wide":
        return sample_wide(seed, meshes, count or (2, 16))
    if look != "plain":
        raise ValueError(f"look {look!r} is none of {', '.join(LOOKS)}")
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
    wishes = _sample_wishes(rng, count or (3, 10), meshes)
    return Scene(seed, place(rng, camera, room, wishes, _paints, Manners()), camera, lights, room)


def _paints(wish: Wish, rng: np.random.Generator) -> dict[str, Any]:
    return {"paints": sample_paints(wish.shape, wish.color, rng)}


def _sample_wishes(rng: np.random.Generator, count: tuple[int, int], meshes: bool) -> list[Wish]:
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
        wishes.append(Wish(shape, color, size))
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
            direction=vector(way),
            diffuse=vector(strength * tint),
            ambient=vector(np.zeros(3) if key else ambient * tint),
            specular=float(rng.uniform(0.1, 0.5)) if key else 0.0,
            # sometimes a diffuse room, where nothing throws a shadow
            shadow=key and bool(rng.random() < 0.85),
        )

    # the ambient light is the fill's: what a lamp with a shadow brings is missing in its shadow
    return light(key, (42, 78), True), light(fill, (25, 60), False)
