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
_SIDES = ((1, 0), (0, 1), (-1, 0), (0, -1), (0.7, 0.7), (-0.7, 0.7), (-0.7, -0.7), (0.7, -0.7))


def shade(
    rgb: NDArray[np.uint8], depth: Floats, labels: NDArray[np.int32], K: Floats, scene: Scene
) -> NDArray[np.uint8]:
    """The picture (H, W, 3) uint8 with its surroundings; `depth` is nan where nothing is."""
    around = scene.surroundings
    if around is None:
        return rgb
    pose = scene.camera.matrix().astype(np.float32)
    rays = _rays(rgb.shape[0], rgb.shape[1], float(K[0, 0]))
    out = rgb.astype(np.float32)
    z = np.where(np.isfinite(depth), depth, np.float32(_FAR))
    out *= _occlusion(rays, z, around.occlusion)[..., None]
    out = _background(out, depth, rays, pose, scene)
    _mirror(out, depth, labels, rays, pose, scene)
    return np.asarray(np.clip(out + 0.5, 0, 255), np.uint8)


@functools.lru_cache(4)
def _rays(height: int, width: int, focal: float) -> Floats:
    """(H, W, 3): where each pixel looks, 1 along the optical axis."""
    x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / focal
    y = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) / focal
    u, v = np.meshgrid(x, y)
    return np.stack([u, v, np.ones_like(u)], -1).astype(np.float32)


def _normals(points: Floats) -> Floats:
    """(H, W, 3) unit vectors towards the camera, from the nearer of both neighbours."""
    sides = []
    for axis in (1, 0):
        step = np.diff(points, axis=axis)
        pad = [(0, 0), (0, 0), (0, 0)]
        pad[axis] = (0, 1)
        ahead = np.pad(step, pad, mode="edge")
        pad[axis] = (1, 0)
        behind = np.pad(step, pad, mode="edge")
        nearer = np.abs(ahead[..., 2:]) < np.abs(behind[..., 2:])
        sides.append(np.where(nearer, ahead, behind))
    normal = np.cross(sides[1], sides[0])
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.asarray(normal / np.maximum(length, 1e-9), np.float32)


def _occlusion(rays: Floats, z: Floats, strength: float) -> Floats:
    """(H, W) factors: the share of nearby directions that is free, at half the size."""
    height, width = z.shape
    small = rays[::2, ::2] * z[::2, ::2, None]
    normals = _normals(small)
    focal = 0.5 * (width - 1) / float(rays[0, -1, 0] - rays[0, 0, 0])
    middle = float(np.median(z))
    total = np.zeros(small.shape[:2], np.float32)
    for reach in _REACH:
        pixels = focal * reach / middle * 0.6
        for x, y in _SIDES:
            dx, dy = round(pixels * x), round(pixels * y)
            if dx == dy == 0:
                dx, dy = round(np.sign(x)), round(np.sign(y))
            way = _shifted(small, dx, dy) - small
            length = np.sqrt(np.einsum("ijk,ijk->ij", way, way)) + 1e-6
            rise = np.einsum("ijk,ijk->ij", way, normals) / length
            total += np.maximum(rise - 0.12, 0) * (length < 2.5 * reach)
    free = np.maximum(1 - strength * 1.1 * total / len(_SIDES), 0.35)
    free = cv2.GaussianBlur(free, (0, 0), 0.8)
    return np.asarray(cv2.resize(free, (width, height), interpolation=cv2.INTER_LINEAR))


def _shifted(image: Floats, dx: int, dy: int) -> Floats:
    """What stands dx to the right and dy below of each pixel; at the edge, the pixel itself."""
    out = image.copy()
    height, width = image.shape[:2]
    if abs(dx) >= width or abs(dy) >= height:
        return out
    to = (slice(max(-dy, 0), height - max(dy, 0)), slice(max(-dx, 0), width - max(dx, 0)))
    of = (slice(max(dy, 0), height + min(dy, 0)), slice(max(dx, 0), width + min(dx, 0)))
    out[to] = image[of]
    return out


def _background(out: Floats, depth: Floats, rays: Floats, pose: Floats, scene: Scene) -> Floats:
    """The room where nothing was drawn; all that is far is out of focus."""
    around = scene.surroundings
    assert around is not None
    empty = ~np.isfinite(depth)
    if empty.any():
        seen = _look(_panorama(around), rays @ pose[:3, :3].T, around.turn)
        inner = cv2.erode((~empty).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32)
        near = cv2.blur(inner, (3, 3))
        rim = ~empty & (inner == 0) & (near > 0)  # mixed with the black of nothing
        share = near[rim, None]
        out[rim] = cv2.blur(out * inner[..., None], (3, 3))[rim] / share
        out[empty] = np.clip(around.gain * seen[empty], 0, 255)
    far = empty | (np.nan_to_num(depth, nan=_FAR) > 1.6 * np.linalg.norm(pose[:3, 3]))
    sigma = around.blur * out.shape[1] / 320
    if far.any() and sigma > 0.5:
        weight = far.astype(np.float32)
        blurred = cv2.GaussianBlur(out * weight[..., None], (0, 0), sigma)
        blurred /= np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-3)[..., None]
        out = np.where(far[..., None], blurred, out)
    if empty.any():
        wider = cv2.dilate(empty.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        seam = wider & (inner == 0)
        out[seam] = cv2.GaussianBlur(out, (3, 3), 0)[seam]
    return out


def _mirror(
    out: Floats,
    depth: Floats,
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
    points = rays * depth[..., None]
    if around.table_gloss:
        height = points @ pose[2, :3] + pose[2, 3]
        amount[(labels == 0) & (np.abs(height) < 0.002)] = around.table_gloss
    rows, columns = np.nonzero((amount > 0) & np.isfinite(depth))
    if not len(rows):
        return
    normals = cv2.blur(_normals(np.nan_to_num(points, nan=_FAR)), (3, 3))[rows, columns]
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    ray = rays[rows, columns]
    ray = ray / np.linalg.norm(ray, axis=1, keepdims=True)
    facing = np.clip(-np.einsum("ij,ij->i", ray, normals), 0, 1)
    way = (ray + 2 * facing[:, None] * normals) @ pose[:3, :3].T
    # as a picture, because remap takes no long lines
    room = np.zeros((-(-len(way) // 256) * 256, 3), np.float32)
    room[: len(way)] = way
    seen = _look(_soft_panorama(around), room.reshape(-1, 256, 3), around.turn).reshape(-1, 3)
    seen = seen[: len(way)] * around.gain
    seen += 1.2 * np.maximum(seen - 200, 0)  # lamps and windows are brighter than a picture tells
    shiny = amount[rows, columns]
    is_metal = metal[labels[rows, columns]]
    before = out[rows, columns]
    grazing = (1 - facing) ** 5
    share = np.where(is_metal, 0.75 * shiny, shiny * (0.06 + 0.7 * grazing))[:, None]
    # metal mirrors in its own colour, which stays as bright as it was
    own = before / np.maximum(before.max(1, keepdims=True), 1)
    tone = seen.mean(1, keepdims=True) / max(float(seen.mean()), 1.0)
    mirrored = np.where(is_metal[:, None], own * before.max(1, keepdims=True) * (0.3 + 0.8 * tone),
                        seen)  # fmt: skip
    out[rows, columns] = before * (1 - share) + mirrored * share


def _look(image: NDArray[np.uint8], ways: Floats, turn: float) -> Floats:
    """Colours (H, W, 3) of a panorama in world directions (H, W, 3)."""
    height, width = image.shape[:2]
    azimuth = np.arctan2(ways[..., 1], ways[..., 0]) - np.float32(np.radians(turn))
    flat = np.hypot(ways[..., 0], ways[..., 1])
    x = (azimuth / np.float32(2 * np.pi) + 0.5) % 1 * width - 0.5
    y = (0.5 - np.arctan2(ways[..., 2], flat) / np.float32(np.pi)) * height - 0.5
    found = cv2.remap(image, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR,
                      None, cv2.BORDER_WRAP)  # fmt: skip
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
