"""What is printed on an object, or what its stuff looks like: small textures in few colours.

The main colour covers most of every texture, so that a printed red can is still the red can.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from grex_ros.scenes.parts import Rgb

SIZE = 128  # edge in pixels
PLAIN_ROWS = 10  # the last rows show the main colour alone: insides and handles take them
STUFF = ("mottle", "speckle", "grain", "brushed", "streak")  # no other colour, only light and dark
PRINTS = ("label", "bands", "stripes", "dots", "logo", "text", "check", "waves", "badge")
_LETTERS = tuple("ABCDEFGHKLMNOPRSTUVXYZaeiorstu0123456789")


@dataclass(frozen=True)
class Print:
    """A texture by its recipe. Colours are 0..1."""

    pattern: str
    main: Rgb
    second: Rgb
    third: Rgb
    seed: int


def sample_print(main: Rgb, patterns: tuple[str, ...], rng: np.random.Generator) -> Print:
    """A random print on the colour `main`."""
    light = sum(main) / 3
    if rng.random() < 0.6:  # white or black ink
        tone = rng.uniform(0.85, 0.97) if light < rng.uniform(0.4, 0.7) else rng.uniform(0.04, 0.2)
        second: Rgb = (tone, tone, tone)
    else:
        second = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.2, 0.9), rng.uniform(0.3, 0.95))
    third = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.0, 0.9), rng.uniform(0.05, 0.95))
    return Print(str(rng.choice(patterns)), main, second, third, int(rng.integers(2**31)))


def paint_print(print_: Print) -> NDArray[np.uint8]:
    """The texture (SIZE, SIZE, 3) uint8 RGB. Upright on the object, column 0 at its back."""
    rng = np.random.default_rng(print_.seed)
    main, second, third = (np.array(c) * 255 for c in (print_.main, print_.second, print_.third))
    canvas = np.empty((SIZE, SIZE, 3), np.float32)
    canvas[:] = main
    if print_.pattern in STUFF:
        canvas *= _stuff(print_.pattern, rng)[..., None]
    else:
        _ink(canvas, print_.pattern, second, third, rng)
        canvas *= 1 + 0.06 * (_smooth(rng, 5)[..., None] - 0.5)
    canvas[-PLAIN_ROWS:] = main
    return np.asarray(np.clip(canvas + 0.5, 0, 255), np.uint8)


def _smooth(rng: np.random.Generator, across: int, down: int = 0) -> NDArray[np.float32]:
    small = rng.random((down or across, across), dtype=np.float32)
    return np.asarray(cv2.resize(small, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR), np.float32)


def _stuff(pattern: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """Factors of brightness."""
    if pattern == "speckle":
        spots = (_smooth(rng, int(rng.integers(20, 60))) > rng.uniform(0.78, 0.9)).astype(
            np.float32
        )
        return np.asarray(1 + 0.12 * (_smooth(rng, 6) - 0.5) - rng.uniform(0.15, 0.5) * spots)
    if pattern == "grain":  # of wood
        rows = 3 * _smooth(rng, 4) + np.linspace(0, rng.uniform(5, 14), SIZE, dtype=np.float32)
        wave = np.abs((rows % 1) - 0.5)
        fine = _smooth(rng, 96, 6)
        return np.asarray(0.85 + 0.35 * wave + 0.15 * (fine - 0.5), np.float32)
    if pattern == "brushed":
        return np.asarray(1 + 0.25 * (_smooth(rng, 3, 100) - 0.5), np.float32)
    if pattern == "streak":  # as the skin of an apple
        return np.asarray(1 + 0.3 * (_smooth(rng, 40, 3) - 0.5) + 0.1 * (_smooth(rng, 4) - 0.5))
    return np.asarray(1 + rng.uniform(0.08, 0.25) * (_smooth(rng, int(rng.integers(3, 12))) - 0.5))


def _ink(
    canvas: NDArray[np.float32],
    pattern: str,
    second: NDArray[np.float64],
    third: NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    height = SIZE - PLAIN_ROWS
    if pattern == "label":
        low, high = _span(rng, height, 0.22, 0.45)
        left, right = _span(rng, SIZE, 0.35, 0.95)
        canvas[low:high, left:right] = second
        contrast = third if np.abs(third - second).sum() > 200 else 255 - second
        _lines(canvas[low:high, left:right], contrast, rng)
    elif pattern == "badge":  # a printed picture
        low, high = _span(rng, height, 0.25, 0.45)
        left, right = _span(rng, SIZE, 0.3, 0.5)
        patch = np.clip(rng.random((5, 5, 3)) * 130 + 0.5 * (second + third) - 65, 0, 255)
        size = (right - left, high - low)
        canvas[low:high, left:right] = cv2.resize(patch.astype(np.float32), size)
    elif pattern == "bands":
        for _ in range(int(rng.integers(1, 4))):
            low, high = _span(rng, height, 0.03, 0.13)
            canvas[low:high] = second if rng.random() < 0.7 else third
    elif pattern in ("stripes", "check"):
        period, share = int(rng.integers(8, 40)), rng.uniform(0.12, 0.3)
        bars = (np.arange(SIZE) % period) < max(2, share * period)
        canvas[:, bars] = 0.65 * second + 0.35 * canvas[:, bars] if pattern == "check" else second
        if pattern == "check":
            canvas[bars] = 0.65 * second + 0.35 * canvas[bars]
    elif pattern == "dots":
        step = int(rng.integers(12, 32))
        radius = int(max(2, step * rng.uniform(0.15, 0.3)))
        for row, y in enumerate(range(step // 2, height, step)):
            for x in range(step // 2 * (row % 2), SIZE, step):
                cv2.circle(canvas, (x, y), radius, second.tolist(), -1, cv2.LINE_AA)
    elif pattern == "waves":
        for _ in range(int(rng.integers(1, 4))):
            across = np.arange(SIZE)
            down = rng.uniform(0.1, 0.9) * height + 9 * np.sin(
                2 * np.pi * across / SIZE * rng.integers(1, 5) + rng.uniform(0, 6)
            )
            points = np.stack([across, down], 1).astype(np.int32)[:, None]
            cv2.polylines(canvas, [points], False, second.tolist(), int(rng.integers(2, 10)))
    else:
        if pattern == "logo":
            for _ in range(int(rng.integers(1, 3))):
                _emblem(canvas, second, third, rng)
        low, high = _span(rng, height, 0.2, 0.6)
        _lines(canvas[low:high, 6:-6], second, rng)


def _span(rng: np.random.Generator, whole: int, least: float, most: float) -> tuple[int, int]:
    size = rng.uniform(least, most) * whole
    start = rng.uniform(0, whole - size)
    return int(start), int(start + size)


def _emblem(
    canvas: NDArray[np.float32],
    second: NDArray[np.float64],
    third: NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    x, y = (int(v) for v in rng.uniform(25, SIZE - 35, 2))
    size = int(rng.uniform(9, 22))
    if rng.random() < 0.5:
        axes = (size, int(size * rng.uniform(0.5, 1)))
        cv2.ellipse(canvas, (x, y), axes, 0, 0, 360, second.tolist(), -1, cv2.LINE_AA)
    else:
        angle = rng.uniform(0, 6) + np.linspace(0, 2 * np.pi, int(rng.integers(4, 9)))[:-1]
        ring = np.stack([x + size * np.cos(angle), y + size * np.sin(angle)], 1)
        cv2.fillPoly(canvas, [ring.astype(np.int32)], second.tolist(), cv2.LINE_AA)
    cv2.circle(canvas, (x, y), max(2, size // 2), third.tolist(), -1, cv2.LINE_AA)


def _lines(area: NDArray[np.float32], ink: NDArray[np.float64], rng: np.random.Generator) -> None:
    """A word in large letters and small print below."""
    height, width = area.shape[:2]
    if height < 10 or width < 16:
        return
    part = np.ascontiguousarray(area)
    word = "".join(rng.choice(_LETTERS, int(rng.integers(3, 8))))
    scale = min(height * rng.uniform(0.35, 0.7) / 22, width / (11 * len(word)) * 0.6)
    base = int(24 * scale) + 2
    font = int(rng.choice([cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_TRIPLEX]))
    thick = int(rng.integers(1, 4))
    cv2.putText(part, word, (2, base), font, scale, ink.tolist(), thick, cv2.LINE_AA)
    for y in range(base + 5, height - 2, int(rng.integers(4, 8))):
        x = 2
        while x < width - 4:
            end = min(width - 3, x + int(rng.integers(3, 14)))
            if rng.random() < 0.8:
                cv2.line(part, (x, y), (end, y), ink.tolist(), 1)
            x = end + 3
    area[:] = part
