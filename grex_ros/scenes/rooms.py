"""Photographed rooms and places: backgrounds, reflections, and where their light comes from."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from grex_ros.scenes.household import ASSETS
from grex_ros.scenes.parts import Rgb

ROOM_FOLDER, PHOTO_FOLDER = ASSETS / "rooms", ASSETS / "photos"


@dataclass(frozen=True)
class RoomLight:
    """The main light of a room: the way to it (unit vector, z up), its colour and that of the
    rest (0..1), and its share of all light from above."""

    direction: tuple[float, float, float]
    color: Rgb
    ambient: Rgb
    share: float


@functools.cache
def room_lights() -> dict[str, RoomLight]:
    """Name of every photographed room -> its light."""
    found = json.loads((ROOM_FOLDER / "lights.json").read_text())
    return {
        name: RoomLight(
            tuple(light["direction"]), tuple(light["color"]), tuple(light["ambient"]),
            light["share"],
        )
        for name, light in sorted(found.items())
    }  # fmt: skip


@functools.cache
def photo_names() -> tuple[str, ...]:
    """Names of the photographed surfaces."""
    return tuple(sorted(path.stem for path in PHOTO_FOLDER.glob("*.jpg")))


@functools.cache
def photo(name: str) -> NDArray[np.uint8]:
    """A photographed surface (256, 256, 3) RGB."""
    return _read(PHOTO_FOLDER / f"{name}.jpg")


@functools.cache
def panorama(name: str) -> NDArray[np.uint8]:
    """A room all around (256, 512, 3) RGB: columns are azimuth -180..180 degrees (counter-clockwise
    from +x), rows elevation 90..-90 degrees."""
    return _read(ROOM_FOLDER / f"{name}.jpg")


def _read(path: object) -> NDArray[np.uint8]:
    image = cv2.imread(str(path))
    if image is None:
        raise FileNotFoundError(f"{path} is missing or no picture")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
