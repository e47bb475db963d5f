"""The kinds, colours and sizes of the objects on the table."""

from __future__ import annotations

import colorsys
import functools

import numpy as np

from grex_ros.scenes.household import household_shapes
from grex_ros.scenes.parts import Rgb, Shape
from grex_ros.scenes.props import props
from grex_ros.scenes.shapes import procedural_shapes
from grex_ros.scenes.variants import is_variant, variant_shapes

# hue in degrees (low, high), saturation (low, high), value (low, high); the gaps between
# neighbours keep every colour name unmistakable under warm and cold light
COLORS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": ((-5, 3), (0.85, 0.97), (0.66, 0.88)),
    "orange": ((20, 27), (0.9, 1.0), (0.93, 1.0)),
    "yellow": ((49, 55), (0.8, 0.95), (0.9, 1.0)),
    "green": ((105, 140), (0.6, 0.85), (0.45, 0.7)),
    "blue": ((212, 230), (0.75, 0.92), (0.6, 0.88)),
    "purple": ((270, 284), (0.6, 0.76), (0.58, 0.74)),
    "pink": ((326, 343), (0.38, 0.52), (0.94, 1.0)),
    "white": ((0, 60), (0.0, 0.04), (0.93, 1.0)),
    "black": ((0, 360), (0.0, 0.15), (0.05, 0.1)),
    "gray": ((0, 360), (0.0, 0.06), (0.37, 0.47)),
    "brown": ((18, 25), (0.6, 0.74), (0.36, 0.46)),
}
SIZES: dict[str, float] = {"small": 0.72, "medium": 1.0, "large": 1.35}
NATURAL_COLORS: dict[str, tuple[str, ...]] = {
    "apple": ("red", "red", "green", "yellow"),
    "banana": ("yellow",),
    "orange": ("orange",),
    "lemon": ("yellow",),
    "pear": ("green", "yellow"),
    "carrot": ("orange",),
    "spoon": ("gray", "gray", "red", "green", "blue", "yellow", "white", "black", "brown"),
    "fork": ("gray", "gray", "red", "green", "blue", "yellow", "white", "black"),
    "knife": ("red", "green", "blue", "yellow", "white", "black", "brown"),
    "loaf": ("brown",),
    "cutting board": ("brown",),
    "glass": ("red", "green", "blue", "yellow", "purple", "pink"),
}
# natural greens and reds are not the ones of paint
_NATURAL_PAINT: dict[tuple[str, str], tuple[Rgb, Rgb]] = {
    ("apple", "green"): ((0.38, 0.6, 0.12), (0.5, 0.7, 0.2)),
    ("apple", "yellow"): ((0.88, 0.74, 0.18), (0.95, 0.82, 0.28)),
    ("apple", "red"): ((0.6, 0.05, 0.06), (0.78, 0.1, 0.1)),
    ("pear", "green"): ((0.5, 0.62, 0.14), (0.6, 0.72, 0.24)),
    ("pear", "yellow"): ((0.86, 0.74, 0.2), (0.93, 0.82, 0.3)),
    ("banana", "yellow"): ((0.9, 0.74, 0.1), (0.98, 0.84, 0.2)),
    ("carrot", "orange"): ((0.9, 0.38, 0.04), (1.0, 0.46, 0.1)),
    ("spoon", "gray"): ((0.47, 0.47, 0.48), (0.55, 0.55, 0.57)),
    ("fork", "gray"): ((0.47, 0.47, 0.48), (0.55, 0.55, 0.57)),
}


@functools.cache
def shapes() -> dict[str, Shape]:
    """Every shape by name, procedural ones first, in a fixed order."""
    every = [*procedural_shapes(), *household_shapes(), *variant_shapes(), *props()]
    return {shape.name: shape for shape in every}


@functools.cache
def shapes_of(kind: str, household: bool = False, variants: bool = False) -> tuple[str, ...]:
    """Names of the procedural or of the imported household shapes of a kind; of the procedural
    ones, those of the wide look only if asked for."""
    own = [s.name for s in shapes().values() if s.kind == kind]
    own = [name for name in own if name.startswith("household_") == household]
    return tuple(name for name in own if variants or not is_variant(name))


KINDS: tuple[str, ...] = tuple(dict.fromkeys(s.kind for s in shapes().values() if s.kind))
# the kinds that scenes without imported models are made of
PROCEDURAL_KINDS = tuple(kind for kind in KINDS if shapes_of(kind))
HOUSEHOLD_KINDS = tuple(kind for kind in KINDS if shapes_of(kind, household=True))


def colors_of(kind: str) -> tuple[str, ...]:
    """The colours that a kind comes in (a colour twice as often is twice as frequent)."""
    return NATURAL_COLORS.get(kind, tuple(COLORS))


def sample_rgb(color: str, rng: np.random.Generator) -> Rgb:
    """A paint (0..1) that everybody calls by the name `color`."""
    hue, saturation, value = (rng.uniform(*limits) for limits in COLORS[color])
    return colorsys.hsv_to_rgb((hue % 360.0) / 360.0, saturation, value)


def sample_paints(
    shape: Shape, color: str, rng: np.random.Generator
) -> tuple[tuple[float, float, float, float], ...]:
    """One rgba (0..1) for every part of the shape."""
    natural = _NATURAL_PAINT.get((shape.kind, color))
    if natural is not None:
        low, high = natural
        main: Rgb = tuple(rng.uniform(low, high))
    elif color:
        main = sample_rgb(color, rng)
    else:
        main = (0.9, 0.9, 0.9)
    light = sum(main) / 3
    factor = 1.35 if light < 0.25 else rng.uniform(0.72, 0.85)
    shade = tuple(min(1.0, c * factor + (0.03 if factor > 1 else 0.0)) for c in main)
    trim = (0.92, 0.92, 0.9) if light < 0.78 else (0.2, 0.2, 0.22)
    named = {"main": main, "shade": shade, "trim": trim}
    paints = []
    for part in shape.parts:
        rgb = named[part.paint] if isinstance(part.paint, str) else part.paint
        paints.append((float(rgb[0]), float(rgb[1]), float(rgb[2]), part.alpha))
    return tuple(paints)
