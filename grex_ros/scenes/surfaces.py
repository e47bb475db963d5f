"""Procedural textures for table, floor and wall."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from grex_ros.scenes.parts import Rgb
from grex_ros.scenes.rooms import photo

PATTERNS = ("plain", "wood", "planks", "checker", "noise", "stripes", "speckle", "weave")


@dataclass(frozen=True)
class Surface:
    """A texture by its recipe: two colours (0..1) mixed by a pattern of `repeat` periods.

    Pattern "photo/NAME": a photographed surface, `repeat` times, tinted by the first colour.
    """

    pattern: str
    first: Rgb
    second: Rgb
    repeat: float
    seed: int


def sample_surface(rng: np.random.Generator, calm: bool = False) -> Surface:
    """A random surface; `calm` keeps the two colours close together."""
    pattern = str(rng.choice(PATTERNS))
    if pattern in ("wood", "planks") and rng.random() < 0.7:
        hue, saturation, value = (
            rng.uniform(0.05, 0.11),
            rng.uniform(0.25, 0.6),
            rng.uniform(0.35, 0.85),
        )
    else:
        # mostly dull, as tables are; at times a strong colour, as tablecloths are
        saturation = rng.uniform(0.0, 0.3) if rng.random() < 0.75 else rng.uniform(0.3, 0.7)
        hue, value = rng.random(), rng.uniform(0.2, 0.95)
    first = colorsys.hsv_to_rgb(hue, saturation, value)
    change = rng.uniform(0.05, 0.14) if calm else rng.uniform(0.06, 0.35)
    sign = 1.0 if value < 0.5 else -1.0
    second = colorsys.hsv_to_rgb(
        (hue + rng.uniform(-0.03, 0.03)) % 1.0,
        float(np.clip(saturation + rng.uniform(-0.1, 0.1), 0, 1)),
        float(np.clip(value + sign * change, 0.05, 1.0)),
    )
    return Surface(pattern, first, second, float(rng.uniform(3, 12)), int(rng.integers(2**31)))


def paint_surface(surface: Surface, size: int) -> NDArray[np.uint8]:
    """The texture (size, size, 3) uint8 RGB."""
    rng = np.random.default_rng(surface.seed)
    if surface.pattern.startswith("photo/"):
        return _tile(surface, size, rng)
    mix = _mix(surface, size, rng)
    grain = _noise(rng, size, size // 2)
    share = cv2.addWeighted(mix, 255.0, grain, 30.0, -15.0, dtype=cv2.CV_8U)  # clips to 0..255
    ramp = np.linspace(surface.first, surface.second, 256) * 255
    palette = np.clip(ramp + 0.5, 0, 255).astype(np.uint8)[:, None]
    return np.asarray(cv2.LUT(cv2.merge([share, share, share]), palette), np.uint8)


def _tile(surface: Surface, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Every second tile is mirrored, so that no seam shows."""
    tile = photo(surface.pattern.removeprefix("photo/"))
    if rng.random() < 0.5:
        tile = tile.transpose(1, 0, 2)
    tint = np.clip(np.arange(256)[:, None] * surface.first, 0, 255).astype(np.uint8)[None]
    tinted = cv2.LUT(tile, tint)
    edge = len(tile)
    line = (np.arange(size, dtype=np.float32) / size * surface.repeat + rng.random()) * edge
    line = np.abs((line % (2 * edge)) - edge)
    x, y = np.meshgrid(line, line)
    return np.asarray(cv2.remap(tinted, x, y, cv2.INTER_LINEAR, None, cv2.BORDER_REFLECT), np.uint8)


def _mix(surface: Surface, size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """How much of the second colour, (size, size) of 0..1."""
    line = np.arange(size, dtype=np.float32) / np.float32(size) * np.float32(surface.repeat)
    across, down = line[None, :], line[:, None]
    pattern = surface.pattern
    if pattern == "wood":
        wave = (down + 3 * _noise(rng, size, 3, 14)) % 1
        return np.asarray(1.4 * np.abs(wave - np.float32(0.5)) + 0.3 * _noise(rng, size, 4, 128))
    if pattern == "planks":
        tone = 0.6 * rng.random(int(line[-1]) + 1, dtype=np.float32)[down.astype(np.int32)]
        return 0.3 * _noise(rng, size, 4, 96) + (tone + (down % 1 < 0.03))
    if pattern == "checker":
        odd = (across.astype(np.int32) + down.astype(np.int32)) % 2
        return odd.astype(np.float32)
    if pattern == "noise":
        fine = max(int(surface.repeat), 2)
        return 0.6 * _noise(rng, size, fine) + 0.4 * _noise(rng, size, 4 * fine)
    if pattern == "stripes":
        bars = (across % 1 < rng.uniform(0.2, 0.8)).astype(np.float32)
        return np.repeat(bars, size, 0)
    if pattern == "speckle":
        return (_noise(rng, size, size // 3) > 0.72).astype(np.float32)
    if pattern == "weave":
        return 0.5 + 0.25 * (np.sin(25 * across) + np.sin(25 * down))
    return 0.3 * _noise(rng, size, 4)


def _noise(
    rng: np.random.Generator, size: int, across: int, down: int | None = None
) -> NDArray[np.float32]:
    """Smooth noise of 0..1 with `across` by `down` cells."""
    small = rng.random((max(down or across, 2), max(across, 2)), dtype=np.float32)
    return np.asarray(cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)
