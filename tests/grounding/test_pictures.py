"""Pictures to the model's size and masks back, on the CPU as on a GPU."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from grex_ros.grounding.pictures import model_size, resize, resize_on_device
from grex_ros.model.config import RelaConfig

KEEP = RelaConfig.preset("tabletop")
SQUEEZE = RelaConfig.preset("swin_base")


def smooth(height: int, width: int) -> np.ndarray:
    """A picture with edges and gradients, without noise finer than a camera's lens shows."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (height // 20 + 2, width // 20 + 2, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize(
    ("cfg", "size", "expected"),
    [
        (KEEP, (480, 640), (288, 384)),
        (KEEP, (1280, 720), (384, 216)),
        (KEEP, (1, 4000), (1, 384)),
        (SQUEEZE, (480, 640), (480, 480)),
        (SQUEEZE, (33, 1000), (480, 480)),
    ],
)
def test_the_size_that_the_model_sees(
    cfg: RelaConfig, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert model_size(cfg, *size) == expected
    image = smooth(*size)
    assert resize(cfg, image).shape == (*expected, 3)
    pixels = resize_on_device(cfg, torch.from_numpy(image).permute(2, 0, 1))
    assert tuple(pixels.shape) == (3, *expected) and pixels.dtype is torch.uint8


@pytest.mark.parametrize("cfg", [KEEP, SQUEEZE], ids=lambda c: c.name)
@pytest.mark.parametrize("size", [(480, 640), (720, 1280), (1080, 1920), (300, 200), (240, 320)])
def test_a_gpu_resizes_as_the_cpu_does(cfg: RelaConfig, size: tuple[int, int]) -> None:
    image = smooth(*size)
    cpu = resize(cfg, image).astype(int)
    device = resize_on_device(cfg, torch.from_numpy(image).permute(2, 0, 1))
    difference = np.abs(device.permute(1, 2, 0).numpy().astype(int) - cpu)
    assert difference.mean() <= 0.3  # levels of 255
    assert difference.max() <= 1
