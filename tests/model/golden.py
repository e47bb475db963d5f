"""The weight rule and the inputs of the golden set."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

DATA = Path(__file__).parents[1] / "data"

# Ending of the key -> factor of the normal numbers after division by sqrt(fan-in).
_GAIN = {
    "in_proj_weight": 2.0,
    "minimap_embed.weight": 0.02,
    "output.dense.weight": 0.25,
    "f_key.0.weight": 3.0,
}


def rule_tensor(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weights of the official key ``key``, a pure function of its name and shape."""
    seed = zlib.crc32((key + "#9").encode())
    n = np.random.default_rng(seed).standard_normal(math.prod(shape), dtype=np.float32)
    n = n.reshape(shape)

    def f(value: float) -> np.float32:
        return np.float32(value)

    if key.endswith("sampling_offsets.bias"):
        return f(2) * n
    if key.endswith(("query_feat.weight", "query_embed.weight", "level_embed.weight")):
        return n
    if key.endswith("level_embed"):
        return n
    if key.endswith("minimap_embed.bias"):
        return f(0.0004) * n
    if not shape:
        return f(0.5) * n
    if len(shape) == 1:
        return f(1) + f(0.1) * n if key.endswith("weight") else f(0.02) * n
    gain = next((g for end, g in _GAIN.items() if key.endswith(end)), 1.0)
    return f(gain / math.sqrt(math.prod(shape) // shape[0])) * n


def rule_image(seed: int, height: int, width: int, cell: int = 32) -> torch.Tensor:
    """A picture of noisy squares (3, H, W) uint8."""
    rng = np.random.default_rng(seed)
    cells = (3, -(-height // cell), -(-width // cell))
    base = rng.integers(0, 256, cells, dtype=np.int64)
    noise = rng.integers(0, 256, (3, height, width), dtype=np.int64)
    base = base.repeat(cell, 1).repeat(cell, 2)[:, :height, :width]
    return torch.from_numpy(((3 * base + noise) // 4).astype(np.uint8))


def golden() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Description and arrays of the golden set."""
    info = json.loads((DATA / "rela_tiny.json").read_text())
    with np.load(DATA / "rela_tiny.npz") as file:
        return info, dict(file)


def official_state(info: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The official state dict by rule; every tensor is checked against its checksum."""
    state = {}
    for entry in info["tensors"]:
        value = np.asarray(rule_tensor(entry["key"], tuple(entry["shape"])), np.float32)
        assert zlib.crc32(value.tobytes()) == entry["crc32"], entry["key"]
        state[entry["key"]] = torch.from_numpy(value)
    return state
