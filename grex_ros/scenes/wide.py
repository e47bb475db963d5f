"""The wide look: tables, objects, lights and views as varied as photographs show them."""

from __future__ import annotations

from dataclasses import replace
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
from grex_ros.scenes.parts import Rgb
from grex_ros.scenes.placement import Manners, Wish, place
from grex_ros.scenes.prints import PRINTS, Print, sample_print
from grex_ros.scenes.props import CABLES, FLATS, FURNITURE, LUMPS
from grex_ros.scenes.rooms import photo_names, room_lights
from grex_ros.scenes.surfaces import Surface, sample_surface
from grex_ros.scenes.world import (
    Camera,
    Light,
    Room,
    Scene,
    SceneObject,
    Surroundings,
    Vector,
    vector,
)

MANNERS = Manners(gap=0.001, box=(0.034, 0.5), inside=0.4, hidden=0.8, near=0.45, spread=0.07,
                  stretch=(0.08, 0.15), lying=0.18)  # fmt: skip
PITCH = (12.0, 85.0)  # degrees below the horizon
_PRINTED = {  # share of the kinds that carry print; of the others, a few have a pattern
    "box": 0.75, "can": 0.75, "bottle": 0.5, "book": 0.65, "mug": 0.4, "cup": 0.4, "jar": 0.3,
    "carton": 0.6, "bowl": 0.2, "plate": 0.2, "vase": 0.25, "ball": 0.2, "teapot": 0.15,
}  # fmt: skip
_SKIN = {
    "apple": ("streak", "speckle"), "banana": ("speckle", "mottle"), "pear": ("speckle",),
    "orange": ("mottle",), "lemon": ("mottle",), "carrot": ("mottle", "brushed"),
    "loaf": ("mottle", "speckle"), "cutting board": ("grain",),
}  # fmt: skip
_METALLIC = frozenset(
    {"can", "spoon", "fork", "pan", "teapot", "bowl", "mug", "bottle", "vase", "jar", "pitcher",
     "tray", "toaster", "cup"}
)  # fmt: skip
_LUMP_COLORS = ("white", "gray", "black", "brown", "blue", "green", "purple")  # unlike fruit
_METAL_COLORS = ("gray", "red", "blue", "green", "orange", "brown")


def sample_wide(seed: int, meshes: bool, count: tuple[int, int]) -> Scene:
    """A random scene of the wide look; see grex_ros.scenes.scene.sample_scene."""
    rng = np.random.default_rng([seed, 0x77696465])
    camera = _sample_camera(rng)
    surroundings = _sample_surroundings(rng)
    room = Room(
        table=_sample_table(rng),
        floor=_photo_or_pattern(rng, 0.5),
        wall=_photo_or_pattern(rng, 0.5),
        table_size=(float(rng.uniform(0.7, 2.2)), float(rng.uniform(0.6, 1.7))),
        wall_distance=float(rng.uniform(0.9, 2.6)),
    )
    lights = _sample_lights(rng, surroundings)
    number = _sample_number(rng, count)
    wishes = _sample_wishes(rng, number, meshes)
    lumps = [] if rng.random() < 0.7 else [str(n) for n in rng.choice(LUMPS, rng.integers(1, 4))]
    for name in lumps:
        at = int(rng.integers(len(wishes) + 1))
        wishes.insert(at, Wish(shapes()[name], str(rng.choice(_LUMP_COLORS)), "medium"))
    things = place(rng, camera, room, wishes, _finish, MANNERS)
    return Scene(
        seed,
        tuple(thing for thing in things if thing.kind),
        camera,
        lights,
        room,
        clutter=(
            *(thing for thing in things if not thing.kind),
            *_flats(rng, camera, room),
            *_furniture(rng, room),
        ),
        surroundings=surroundings,
    )


def _sample_number(rng: np.random.Generator, count: tuple[int, int]) -> int:
    """Mostly a handful; full tables are rarer."""
    low, high = count
    return low + int(round((high - low) * float(rng.beta(1.3, 2.0))))


def _sample_wishes(rng: np.random.Generator, number: int, meshes: bool) -> list[Wish]:
    kinds = rng.choice(PROCEDURAL_KINDS, size=rng.integers(1, 6), replace=False)
    colors = rng.choice(list(COLORS), size=rng.integers(2, 6), replace=False)
    sizes = rng.choice(list(SIZES), size=rng.integers(1, 4), replace=False)
    imported = rng.choice(HOUSEHOLD_KINDS, size=2, replace=False)
    wishes = []
    for _ in range(number):
        household = meshes and rng.random() < 0.25
        favourites, others = (imported, HOUSEHOLD_KINDS) if household else (kinds, PROCEDURAL_KINDS)
        kind = str(rng.choice(favourites if rng.random() < 0.75 else others))
        shape = shapes()[str(rng.choice(shapes_of(kind, household, variants=True)))]
        own = colors_of(kind) if shape.color == "free" else (shape.color,)
        liked = [c for c in own if c in colors]
        color = str(rng.choice(liked if liked and rng.random() < 0.8 else own))
        size = str(rng.choice(sizes if rng.random() < 0.85 else list(SIZES)))
        wishes.append(Wish(shape, color, size))
    return wishes


def _finish(wish: Wish, rng: np.random.Generator) -> dict[str, Any]:
    """Paints, print and material."""
    kind, color = wish.shape.kind, wish.color
    paints = sample_paints(wish.shape, color, rng)
    main: Rgb = (0.8, 0.8, 0.8)
    for part, paint in zip(wish.shape.parts, paints, strict=True):
        if part.paint == "main":
            main = paint[:3]
            break
    finish: dict[str, Any] = {"paints": paints, "gloss": float(rng.choice([0.0, 0.1, 0.3, 0.6]))}
    if kind in _SKIN:
        finish["gloss"] = 0.1 if kind != "apple" else 0.3
        patterns: tuple[str, ...] = _SKIN[kind]
    elif kind in _METALLIC and color in _METAL_COLORS and rng.random() < 0.3:
        return finish | {"gloss": float(rng.uniform(0.5, 0.9)), "metal": True,
                         "print": Print("brushed", main, main, main, 1)}  # fmt: skip
    elif not color or rng.random() > _PRINTED.get(kind, 0.06):
        if rng.random() < 0.65:
            return finish
        wooden = color == "brown" and rng.random() < 0.6
        patterns = ("grain",) if wooden else ("mottle", "mottle", "brushed")
    else:
        patterns = PRINTS
    if color:
        finish["print"] = sample_print(main, patterns, rng)
    return finish


def _sample_camera(rng: np.random.Generator) -> Camera:
    pitch = np.radians(PITCH[0] + (PITCH[1] - PITCH[0]) * rng.beta(1.2, 1.4))
    azimuth = np.radians(rng.uniform(-35, 35))
    fov = rng.uniform(30, 72)
    distance = rng.uniform(0.22, 0.5) / np.tan(np.radians(fov) / 2)
    target = np.array([*rng.uniform(-0.1, 0.1, 2), 0.03])
    back = np.array(
        [np.sin(azimuth) * np.cos(pitch), -np.cos(azimuth) * np.cos(pitch), np.sin(pitch)]
    )
    right = np.cross(-back, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(-back, right), -back], 1)
    axes = axes @ rotation("z", float(np.clip(rng.normal(0, 4), -11, 11)))
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = axes, target + distance * back
    rows = tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in pose)
    return Camera(rows, float(fov))


def _sample_surroundings(rng: np.random.Generator) -> Surroundings:
    photographed = rng.random() < 0.55
    return Surroundings(
        name=str(rng.choice(list(room_lights()))) if photographed else "",
        turn=float(rng.uniform(0, 360)),
        gain=float(np.exp(rng.normal(0, 0.3))),
        blur=float(rng.uniform(0.3, 5.0)),
        seed=int(rng.integers(2**31)),
        occlusion=float(rng.uniform(0.4, 1.0)),
        table_gloss=float(rng.choice([0.0, 0.0, 0.15, 0.4])),
    )


def _sample_table(rng: np.random.Generator) -> Surface:
    if rng.random() < 0.25:  # a plain cloth or board
        return replace(sample_surface(rng, calm=True), pattern="plain")
    return _photo_or_pattern(rng, 0.75)


def _photo_or_pattern(rng: np.random.Generator, share: float) -> Surface:
    """A photographed surface in its own or in another tint, else a procedural one."""
    if rng.random() > share:
        return sample_surface(rng, calm=rng.random() < 0.6)
    strength = rng.uniform(0.6, 1.15)
    tint = strength * np.exp(rng.normal(0, 0.05 if rng.random() < 0.7 else 0.2, 3))
    return Surface(
        pattern=f"photo/{rng.choice(photo_names())}",
        first=vector(np.clip(tint, 0.2, 1.3)),
        second=(0.0, 0.0, 0.0),
        repeat=float(rng.uniform(0.8, 5.0)),
        seed=int(rng.integers(2**31)),
    )


def _sample_lights(rng: np.random.Generator, around: Surroundings) -> tuple[Light, ...]:
    """A main light, whose softer edges come from up to three of them, and up to two others."""
    warmth = np.clip(rng.normal(0, 0.5), -1, 1)
    tint = np.array([1 + 0.09 * warmth, 1.0, 1 - 0.12 * warmth])
    other = np.array([1 - 0.06 * warmth, 1.0, 1 + 0.08 * warmth])  # shadows are of another colour
    ambient = rng.uniform(0.3, 0.65)
    level = float(np.clip(rng.normal(1.2, 0.2), 0.75, 1.7))  # a dim room, or over-exposed
    rest = max(0.15, level - ambient)
    share = rng.uniform(0.45, 1.0)
    if around.name:
        found = room_lights()[around.name]
        c, s = np.cos(np.radians(around.turn)), np.sin(np.radians(around.turn))
        x, y, z = found.direction
        way = -np.array([c * x - s * y, s * x + c * y, max(z, 0.35)])
        tint = tint * (0.85 + 0.15 * np.array(found.color))
        other = other * (0.88 + 0.12 * np.array(found.ambient))
    else:
        height, turn = np.radians(rng.uniform(18, 82)), rng.uniform(0, 2 * np.pi)
        way = np.array([np.cos(turn) * np.cos(height), np.sin(turn) * np.cos(height),
                        -np.sin(height)])  # fmt: skip
    way /= np.linalg.norm(way)
    shadows = int(rng.choice([0, 1, 2], p=[0.15, 0.65, 0.2]))
    spread = rng.uniform(0.02, 0.1)
    lights = []
    key = rest * share
    for k in range(max(shadows, 1)):
        lean = rng.normal(0, spread, 3) if shadows > 1 else np.zeros(3)
        lights.append(
            Light(
                direction=_downwards(way + lean),
                diffuse=vector(key / max(shadows, 1) * tint),
                ambient=vector(ambient * other) if k == 0 else (0.0, 0.0, 0.0),
                specular=float(rng.uniform(0.1, 0.8)) / max(shadows, 1),
                shadow=shadows > 0,
            )
        )
    # what a lamp with a shadow brings is missing in its shadow, so the ambient light comes apart
    first = lights[0]
    lights[0] = replace(first, ambient=(0.0, 0.0, 0.0))
    fill = rest - key
    for k in range(2):
        strength = fill * (0.7 if k == 0 else 0.3)
        color = other * np.exp(rng.normal(0, 0.04, 3))
        lights.append(
            Light(
                direction=_downwards(rng.normal(0, 1, 3)),
                diffuse=vector(np.clip(strength * color, 0, 1)),
                ambient=first.ambient if k == 0 else (0.0, 0.0, 0.0),
                specular=float(rng.uniform(0, 0.3)),
                shadow=False,
            )
        )
    return tuple(lights)


def _downwards(way: Any) -> Vector:
    way = np.array(way, float)
    way[2] = -max(abs(way[2]), 0.3 * float(np.linalg.norm(way[:2])), 0.05)
    return vector(way / np.linalg.norm(way))


def _flats(rng: np.random.Generator, camera: Camera, room: Room) -> list[SceneObject]:
    """Papers, mats and cables, which lie under the objects."""
    if rng.random() < 0.55:
        return []
    found = []
    for layer in range(int(rng.integers(1, 4))):
        cable = rng.random() < 0.25
        name = str(rng.choice(CABLES if cable else FLATS))
        size = rng.uniform(1.0, 2.2) if cable else rng.uniform(0.8, 3.0)
        spot = rng.uniform(-0.35, 0.35, 2) * np.minimum(room.table_size, 1.0)
        finish = _colored(rng, name)
        # none in the plane of another
        height = 0.0 if cable else 0.0004 * layer
        found.append(_prop(name, (*spot, height), rng.uniform(0, 360), (size, size, 1.0), finish))
    return found


def _furniture(rng: np.random.Generator, room: Room) -> list[SceneObject]:
    """What stands behind the table and beside it."""
    found = []
    for _ in range(int(rng.integers(0, 5))):
        name = str(rng.choice(FURNITURE))
        size = rng.uniform(4, 9) * np.exp(rng.normal(0, 0.15, 3))
        beside = rng.random() < 0.3
        x = (
            (room.table_size[0] / 2 + rng.uniform(0.5, 0.9)) * rng.choice([-1, 1])
            if beside
            else (rng.uniform(-1.8, 1.8))
        )
        y = rng.uniform(-0.3, 1.0) if beside else room.table_size[1] / 2 + rng.uniform(0.5, 1.6)
        found.append(
            _prop(name, (x, y, -0.74), rng.uniform(0, 360), tuple(size), _colored(rng, name))
        )
    return found


def _colored(rng: np.random.Generator, name: str) -> dict[str, Any]:
    """Mostly dull colours."""
    shape = shapes()[name]
    color = str(rng.choice(["white", "white", "white", "gray", "gray", "brown", "black"]))
    paints = sample_paints(shape, color, rng)
    finish: dict[str, Any] = {"paints": paints}
    if rng.random() < 0.5:
        patterns = ("text", "check", "stripes", "dots", "mottle", "grain", "bands")
        finish["print"] = sample_print(paints[0][:3], patterns, rng)
    return finish


def _prop(name: str, at: Any, turn: float, scale: Any, finish: dict[str, Any]) -> SceneObject:
    """An object that is in no one's way; its size is "" because it does not stand among others."""
    turned = rotation("z", turn)
    rows = (vector(turned[0]), vector(turned[1]), vector(turned[2]))
    return SceneObject("", "", "", name, vector(at), rows, vector(scale), center=vector(at),
                       **finish)  # fmt: skip
