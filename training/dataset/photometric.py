"""What a camera does to a picture: changes for training, made anew at every visit."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]


def photometric(image: Picture, rng: np.random.Generator) -> Picture:
    """(H, W, 3) uint8 RGB as another camera might have taken it.

    Exposure, contrast, gamma, white balance and vignetting; at times defocus or motion blur, a
    slight shift between the colour channels, noise that grows with the signal, JPEG artefacts.
    No pixel moves by more than two, and colours stay what a person would call them.
    """
    out = _lens(image, rng)
    out = _sensor(out, rng)
    if rng.random() < 0.4:
        out = _jpeg(out, int(rng.integers(30, 92)))
    return out


def _lens(image: Picture, rng: np.random.Generator) -> Picture:
    """Blur, and red and blue beside green."""
    size = max(image.shape[:2]) / 320  # what is said in pixels is meant at a width of 320
    if rng.random() < 0.12:
        image = _shift_channels(image, rng, 0.6 * size)
    draw = rng.random()
    if draw < 0.2:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), size * rng.uniform(0.4, 1.3)), np.uint8)
    if draw < 0.3:
        return np.asarray(cv2.filter2D(image, -1, _motion(rng, size * rng.uniform(1.5, 4))))
    return image


def _motion(rng: np.random.Generator, length: float) -> Floats:
    """A kernel that smears by `length` pixels in a random direction."""
    side = 2 * int(np.ceil(length / 2)) + 1
    kernel = np.zeros((side * 8, side * 8), np.uint8)
    turn = rng.uniform(0, np.pi)
    reach = 4 * length * np.array([np.cos(turn), np.sin(turn)])
    middle = side * 4
    ends = [(int(middle + s * reach[0]), int(middle + s * reach[1])) for s in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 255, 6)
    small = cv2.resize(kernel, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.asarray(small / small.sum(), np.float32)


def _shift_channels(image: Picture, rng: np.random.Generator, most: float) -> Picture:
    height, width = image.shape[:2]
    red, green, blue = cv2.split(image)
    shift = rng.uniform(-most, most, 2)
    moved = []
    for channel, sign in ((red, 1), (blue, -1)):
        matrix = np.array([[1, 0, sign * shift[0]], [0, 1, sign * shift[1]]])
        moved.append(cv2.warpAffine(channel, matrix, (width, height),
                                    borderMode=cv2.BORDER_REPLICATE))  # fmt: skip
    return np.asarray(cv2.merge([moved[0], green, moved[1]]), np.uint8)


def _sensor(image: Picture, rng: np.random.Generator) -> Picture:
    """Exposure, white balance, tone curve, vignetting and noise."""
    image = np.asarray(cv2.LUT(image, _curves(rng, float(image.mean()) / 255)), np.uint8)
    vignette = rng.random() < 0.35
    noise = rng.random() < 0.45
    if not vignette and not noise:
        return np.asarray(image, np.uint8)
    x = image.astype(np.float32)
    if vignette:
        x *= _vignette(image.shape[0], image.shape[1], rng)[..., None]
    if noise:
        x = _noisy(x, rng)
    return np.asarray(np.clip(x + 0.5, 0, 255), np.uint8)


def _curves(rng: np.random.Generator, mean: float) -> Picture:
    """A table (256, 3) of what each value of each channel becomes."""
    line = np.linspace(0, 1, 256)[:, None]
    # a warm or cold cast, and a smaller one towards green or magenta
    warm, green = rng.normal(0, 0.045), rng.normal(0, 0.02)
    balance = np.exp(np.clip([warm, green, -warm], -0.11, 0.11))
    gain = np.exp(np.clip(rng.normal(0, 0.2), -0.55, 0.4))
    # a bright picture is not pushed far over the top, a dark one not into the dark
    gain = np.clip(gain, min(1.0, 0.27 / max(mean, 0.02)), max(1.0, 0.72 / max(mean, 0.02)))
    gain *= max(1.0, 0.17 / max(mean, 0.06))  # as a camera would brighten the dark
    x = line * gain * balance
    x = np.clip(x, 0, None) ** np.exp(rng.normal(0, 0.13))
    x = (x - 0.45) * rng.uniform(0.75, 1.25) + 0.45
    if rng.random() < 0.3:  # haze or lifted blacks
        lift = rng.uniform(0, 0.08)
        x = lift + (1 - lift) * x
    gray = x.mean(1, keepdims=True)  # only a cast is weakened here, not the picture's colours
    x = gray + (x - gray) * rng.uniform(0.8, 1.0)
    return np.asarray(np.clip(x * 255 + 0.5, 0, 255), np.uint8)[None]


def _vignette(height: int, width: int, rng: np.random.Generator) -> Floats:
    """(H, W) factors that fall from the middle to the corners."""
    drop = rng.uniform(0.05, 0.45)
    x = np.linspace(-1, 1, width, dtype=np.float32) ** 2
    y = np.linspace(-1, 1, height, dtype=np.float32) ** 2
    return np.asarray(1 - np.float32(drop / 2) * (x[None] + y[:, None]), np.float32)


def _noisy(x: Floats, rng: np.random.Generator) -> Floats:
    """Shot noise, which grows with the root of the signal, and read noise; of luminance for the
    most part. At times softened, as a camera's own filter leaves it."""
    height, width = x.shape[:2]
    shot, read = rng.uniform(0.1, 0.75), rng.uniform(0.5, 4)
    grain = np.empty((height, width, 3), np.float32)
    cv2.setRNGSeed(int(rng.integers(2**31)))
    cv2.randn(grain, np.zeros(3), np.ones(3))
    if rng.random() < 0.4:
        grain = 1.7 * cv2.GaussianBlur(grain, (3, 3), 0.7)
    return np.asarray(x + grain * (read + shot * np.sqrt(np.maximum(x, 0))), np.float32)


def _jpeg(image: Picture, quality: int) -> Picture:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
