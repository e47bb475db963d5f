"""What the renderer's own light leaves out, added to its picture: dark corners and contacts,
mirrored surroundings, and the room behind where nothing is drawn.

Works on the pixels (H, W) with the help of their depth.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from grex_ros.scenes.rooms import panorama
from grex_ros.scenes.world import Scene, Surroundings

Floats = NDArray[np.float32]
_FAR = 30.0  # metres: where the background is
_REACH = (0.02, 0.055)  # metres: how far corners darken
_SQUARE = np.ones((3, 3), np.uint8)
_SIDES = ((1, 0), (0, 1), (-1, 0), (0, -1), (0.7, 0.7), (-0.7, 0.7), (-0.7, -0.7), (0.7, -0.7))


def shade(
    rgb: NDArray[np.uint8],
    depth: Floats,
    labels: NDArray[np.int32],
    K: NDArray[np.float64],
    scene: Scene,
) -> NDArray[np.uint8]:
    """The picture (H, W, 3) uint8 with its surroundings; `depth` is nan where nothing is."""
    around = scene.surroundings
    if around is None:
        return rgb
    pose = scene.camera.matrix().astype(np.float32)
    rays = _rays(rgb.shape[0], rgb.shape[1], float(K[0, 0]))
    out = rgb.astype(np.float32)
    empty = ~np.isfinite(depth)
    points = rays * np.where(empty, np.float32(_FAR), depth)
    out *= _occlusion(points, float(K[0, 0]), around.occlusion)[..., None]
    out = _background(out, points[2], empty, rays, pose, around)
    _mirror(out, points, labels, rays, pose, scene)
    return np.asarray(np.clip(out + 0.5, 0, 255), np.uint8)


@functools.lru_cache(4)
def _rays(height: int, width: int, focal: float) -> Floats:
    """(3, H, W): where each pixel looks, 1 along the optical axis."""
    x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / focal
    y = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) / focal
    u, v = np.meshgrid(x, y)
    return np.stack([u, v, np.ones_like(u)]).astype(np.float32)


def _dot(a: Floats, b: Floats) -> Floats:
    return np.asarray(a[0] * b[0] + a[1] * b[1] + a[2] * b[2], np.float32)


def _unit(a: Floats) -> Floats:
    return np.asarray(a / np.maximum(np.sqrt(_dot(a, a)), 1e-9), np.float32)


def _normals(points: Floats) -> Floats:
    """(3, H, W) unit vectors towards the camera, from the nearer of both neighbours."""
    sides = []
    for axis in (2, 1):
        step = np.diff(points, axis=axis)
        last = step[:, :, -1:] if axis == 2 else step[:, -1:]
        first = step[:, :, :1] if axis == 2 else step[:, :1]
        ahead = np.concatenate([step, last], axis)
        behind = np.concatenate([first, step], axis)
        sides.append(np.where(np.abs(ahead[2]) < np.abs(behind[2]), ahead, behind))
    (a, b, c), (d, e, f) = sides[1], sides[0]
    return _unit(np.stack([b * f - c * e, c * d - a * f, a * e - b * d]))


def _occlusion(points: Floats, focal: float, strength: float) -> Floats:
    """(H, W) factors: the share of nearby directions that is free, at half the size."""
    height, width = points.shape[1:]
    small = np.ascontiguousarray(points[:, ::2, ::2])
    normals = _normals(small)
    rows, columns = small.shape[1:]
    middle = float(np.median(small[2]))
    total = np.zeros((rows, columns), np.float32)
    for reach in _REACH:
        pixels = 0.6 * focal * reach / middle
        for x, y in _SIDES:
            dx = round(pixels * x) or round(np.sign(x))
            dy = round(pixels * y) or round(np.sign(y))
            if abs(dx) >= columns or abs(dy) >= rows:
                continue
            here = (slice(max(-dy, 0), rows - max(dy, 0)), slice(max(-dx, 0), columns - max(dx, 0)))
            there = (slice(max(dy, 0), rows + min(dy, 0)), slice(max(dx, 0), columns + min(dx, 0)))
            way = small[:, there[0], there[1]] - small[:, here[0], here[1]]
            length = np.sqrt(_dot(way, way)) + np.float32(1e-6)
            rise = _dot(way, normals[:, here[0], here[1]]) / length
            total[here] += np.maximum(rise - np.float32(0.12), 0) * (length < 2.5 * reach)
    free = np.maximum(1 - np.float32(strength * 1.1 / len(_SIDES)) * total, np.float32(0.35))
    free = cv2.GaussianBlur(free, (0, 0), 1.5)
    return np.asarray(cv2.resize(free, (width, height), interpolation=cv2.INTER_LINEAR))


def _background(
    out: Floats,
    depth: Floats,
    empty: NDArray[np.bool_],
    rays: Floats,
    pose: Floats,
    around: Surroundings,
) -> Floats:
    """The room where nothing was drawn; all that is far is out of focus."""
    far = empty | (depth > 1.6 * np.linalg.norm(pose[:3, 3]))
    rows = np.flatnonzero(far.any(1))
    if not len(rows):
        return out
    sigma = around.blur * out.shape[1] / 320
    margin = int(3 * sigma) + 2
    band = slice(max(rows[0] - margin, 0), rows[-1] + margin)
    part, empty, far = out[band], empty[band], far[band]
    if empty.any():
        way = np.einsum("ij,jhw->ihw", pose[:3, :3], rays[:, band])
        seen = _look(_panorama(around), way, around.turn)
        inner = cv2.erode((~empty).astype(np.uint8), _SQUARE).astype(np.float32)
        near = cv2.blur(inner, (3, 3))
        rim = ~empty & (inner == 0) & (near > 0)  # mixed with the black of nothing
        part[rim] = cv2.blur(part * inner[..., None], (3, 3))[rim] / near[rim, None]
        part[empty] = np.clip(around.gain * seen[empty], 0, 255)
    if sigma > 0.5:
        weight = far.astype(np.float32)
        blurred = cv2.GaussianBlur(part * weight[..., None], (0, 0), sigma)
        shares = np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-3)[..., None]
        np.copyto(part, np.asarray(blurred, np.float32) / shares, where=far[..., None])
    if empty.any():
        seam = cv2.dilate(empty.astype(np.uint8), _SQUARE).astype(bool) & (inner == 0)
        part[seam] = cv2.GaussianBlur(part, (3, 3), 0)[seam]
    return out


def _mirror(
    out: Floats,
    points: Floats,
    labels: NDArray[np.int32],
    rays: Floats,
    pose: Floats,
    scene: Scene,
) -> None:
    """Adds what glossy objects and a glossy table mirror."""
    around = scene.surroundings
    assert around is not None
    gloss = np.array([0.0, *(thing.gloss for thing in scene.objects)], np.float32)
    metal = np.array([False, *(thing.metal for thing in scene.objects)])
    amount = gloss[labels]
    if around.table_gloss:
        height = _dot(pose[2, :3], points) + pose[2, 3]
        amount[(labels == 0) & (np.abs(height) < 0.002)] = around.table_gloss
    rows, columns = np.nonzero(amount)
    if not len(rows):
        return
    normals = _normals(points)
    normals = _unit(np.stack([cv2.blur(n, (3, 3))[rows, columns] for n in normals]))
    ray = _unit(rays[:, rows, columns])
    facing = np.clip(-_dot(ray, normals), 0, 1)
    way = pose[:3, :3] @ (ray + 2 * facing * normals)
    # as a picture, because remap takes no long lines
    room = np.ones((3, -(-way.shape[1] // 256) * 256), np.float32)
    room[:, : way.shape[1]] = way
    seen = _look(_soft_panorama(around), room.reshape(3, -1, 256), around.turn).reshape(-1, 3)
    seen = seen[: way.shape[1]] * around.gain
    seen += 1.2 * np.maximum(seen - 200, 0)  # lamps and windows are brighter than a picture tells
    shiny = amount[rows, columns]
    before = out[rows, columns]
    share = (shiny * (0.06 + 0.7 * (1 - facing) ** 5))[:, None]
    after = before + (seen - before) * share
    is_metal = metal[labels[rows, columns]]
    if is_metal.any():  # mirrors in its own colour, which stays as bright as it was
        tone = seen[is_metal] @ np.full(3, 1 / 3, np.float32)
        tone = 0.3 + 0.8 * tone / max(float(tone.mean()), 1.0)
        factor = 1 + 0.75 * shiny[is_metal] * (tone - 1)
        after[is_metal] = before[is_metal] * factor[:, None]
    out[rows, columns] = after


def _look(image: NDArray[np.uint8], ways: Floats, turn: float) -> Floats:
    """Colours (H, W, 3) of a panorama in world directions (3, H, W)."""
    height, width = image.shape[:2]
    azimuth = cv2.phase(ways[0], ways[1]) / np.float32(2 * np.pi)
    up = cv2.phase(np.hypot(ways[0], ways[1]), ways[2]) / np.float32(np.pi)
    up = np.where(up > 1, up - 2, up)
    x = (azimuth + np.float32(0.5 - turn / 360)) % 1 * width - np.float32(0.5)
    y = (np.float32(0.5) - up) * height - np.float32(0.5)
    found = cv2.remap(image, x, y, cv2.INTER_LINEAR, None, cv2.BORDER_WRAP)
    return np.asarray(found, np.float32)


def _panorama(around: Surroundings) -> NDArray[np.uint8]:
    return panorama(around.name) if around.name else _made_up(around.seed)


def _soft_panorama(around: Surroundings) -> NDArray[np.uint8]:
    if around.name:
        return _softened(around.name)
    return _made_up(around.seed)


@functools.cache
def _softened(name: str) -> NDArray[np.uint8]:
    small = cv2.resize(panorama(name), (128, 64), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), 1.0), np.uint8)


@functools.lru_cache(4)
def _made_up(seed: int) -> NDArray[np.uint8]:
    """A room (64, 128, 3) of three tones with windows and lamps."""
    rng = np.random.default_rng(seed)
    canvas = np.empty((64, 128, 3), np.float32)
    for rows, value in ((slice(0, 22), (90, 220)), (slice(22, 40), (60, 190)),
                        (slice(40, 64), (30, 140))):  # fmt: skip
        canvas[rows] = rng.uniform(*value) * np.exp(rng.normal(0, 0.07, 3))
    for _ in range(int(rng.integers(1, 6))):
        x, y = int(rng.integers(0, 120)), int(rng.integers(2, 34))
        width, height = (int(v) for v in rng.integers(4, (22, 14)))
        bright = rng.uniform(200, 255) * np.exp(rng.normal(0, 0.04, 3))
        canvas[y : y + height, x : x + width] = bright
    for _ in range(int(rng.integers(1, 5))):  # furniture
        x, width = int(rng.integers(0, 120)), int(rng.integers(5, 25))
        canvas[int(rng.integers(28, 38)) : 46, x : x + width] *= rng.uniform(0.3, 0.8)
    return np.asarray(np.clip(cv2.GaussianBlur(canvas, (0, 0), 0.7), 0, 255), np.uint8)
