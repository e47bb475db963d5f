"""Views without a renderer: boxes where a tilted camera would see the objects."""

from __future__ import annotations

import numpy as np

from grex_ros.scenes.objects import KINDS, SIZES, colors_of
from grex_ros.scenes.scene import ViewObject

PITCH = np.radians(40)
FOCAL, CENTER = 600.0, (320.0, 240.0)


def seen(index: int, kind: str, color: str, x: float, y: float, size: str = "medium",
         visible: float = 1.0) -> ViewObject:  # fmt: skip
    """An object at x metres to the right and y metres beyond the table's middle."""
    forward, below = y + 0.8, 0.66
    z = forward * np.cos(PITCH) + below * np.sin(PITCH)
    down = below * np.cos(PITCH) - forward * np.sin(PITCH)
    u, v = CENTER[0] + FOCAL * x / z, CENTER[1] + FOCAL * down / z
    radius = 0.04 * SIZES[size] * FOCAL / z
    return ViewObject(
        index=index,
        kind=kind,
        color=color,
        size=size,
        box=(u - radius, v - radius, u + radius, v + radius),
        area=int(3 * radius**2 * visible),
        center=(u, v),
        position=(float(x), float(down), float(z)),
        visible_fraction=visible,
    )


def random_view(seed: int, most: int = 12) -> list[ViewObject]:
    """2 to ``most`` objects of few kinds and colours; some are hidden in part, some colourless."""
    rng = np.random.default_rng(seed)
    number = int(rng.integers(2, most + 1))
    kinds = rng.choice(KINDS, size=max(2, number // 2), replace=False)
    view = []
    for index in range(1, number + 1):
        kind = str(rng.choice(kinds))
        colors = colors_of(kind)[: int(rng.integers(1, 4))]
        color = "" if rng.random() < 0.03 else str(rng.choice(colors))
        place = rng.uniform((-0.35, -0.3), (0.35, 0.3))
        visible = float(rng.choice([1.0, 1.0, 1.0, 0.9, 0.6, 0.3]))
        size = str(rng.choice(list(SIZES)))
        view.append(seen(index, kind, color, *place, size, visible))
    return view
