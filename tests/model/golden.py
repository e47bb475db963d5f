"""The golden sets: weights and inputs by rule, and the official code's numbers."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grex_ros.model.checkpoint import load_tensors
from grex_ros.model.config import RelaConfig
from grex_ros.model.official import official_tensors
from grex_ros.model.rela import ReLA

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

    if key.endswith("running_mean"):
        return f(0.1) * n
    if key.endswith("running_var"):
        return f(1) + f(0.1) * np.abs(n)
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


@dataclass(frozen=True)
class GoldenSet:
    """Inputs, intermediate tensors and outputs of the official code for one preset."""

    name: str
    info: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @staticmethod
    def read(folder: Path, name: str) -> GoldenSet:
        info = json.loads((folder / f"{name}.json").read_text())
        with np.load(folder / f"{name}.npz") as file:
            return GoldenSet(name, info, dict(file))

    @property
    def tensors(self) -> list[str]:
        """Names of the tensors, in the order of the file."""
        names = dict.fromkeys(key.split("@")[0] for key in self.arrays)
        return [name for name in names if not name.startswith("in.")]

    def model(self) -> ReLA:
        """The preset with weights by rule, and the word gate that the set was made with."""
        model = ReLA(RelaConfig.preset(self.info["config"])).eval()
        state = official_state(self.info["config"])
        load_tensors(model, official_tensors(state, model.cfg), "rule")
        model.region_decoder.word_gate.data.fill_(self.info["lang_weight"])
        return model

    def inputs(self) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
        """Pictures, token ids and word mask."""
        inputs = self.info["inputs"]
        pictures = [
            rule_image(seed, *size, inputs["cell"])
            for seed, size in zip(inputs["img_seeds"], inputs["sizes"], strict=True)
        ]
        tokens, mask = (torch.from_numpy(self.arrays[f"in.lang_{n}"]) for n in ("tokens", "mask"))
        return pictures, tokens, mask

    def attention_masks(self) -> dict[int, torch.Tensor]:
        """What the official code blocked before layer K, (B, Q, h*w)."""
        return {
            int(name[4:].split(".")[0]): torch.from_numpy(self.bits(name))
            for name in self.tensors
            if name.endswith(".attn_mask")
        }

    def bits(self, name: str) -> np.ndarray:
        """A boolean tensor."""
        if name in self.arrays:
            return self.arrays[name].astype(bool)
        shape = tuple(self.arrays[f"{name}@shape"])
        count = math.prod(shape)
        return np.unpackbits(self.arrays[f"{name}@bits"], count=count).reshape(shape).astype(bool)

    def is_bits(self, name: str) -> bool:
        """Whether the tensor is boolean."""
        return f"{name}@bits" in self.arrays or name.endswith("final_nt")

    def difference(self, name: str, ours: torch.Tensor) -> float:
        """Largest difference over the tensor's largest absolute value, over what is stored: all,
        or the first 100 and 256 values spread over the whole; the sum of all counts as well, over
        the sum of absolutes."""
        values = ours.numpy()
        if name in self.arrays:
            official = self.arrays[name]
            assert values.shape == official.shape, name
            return float(np.abs(values - official).max() / np.abs(official).max())
        assert values.shape == tuple(self.arrays[f"{name}@shape"]), name
        total, absolute, _, low, high = self.arrays[f"{name}@stats"]
        flat = values.ravel()
        sample = self.arrays[f"{name}@sample"]
        index = np.arange(len(sample)) * flat.size // len(sample)
        first = self.arrays[f"{name}@first"]
        worst = max(np.abs(flat[: len(first)] - first).max(), np.abs(flat[index] - sample).max())
        of_sum = abs(values.sum(dtype=np.float64) - total) / (absolute + 1e-9)
        return float(max(worst / max(-low, high), of_sum))


def official_state(preset: str) -> dict[str, torch.Tensor]:
    """The official state dict of a preset by rule; constant index tables are left out."""
    keys = json.loads(gzip.decompress((DATA / "official_keys.json.gz").read_bytes()))[preset]
    return {
        key: torch.from_numpy(np.asarray(rule_tensor(key, tuple(shape)), np.float32))
        for key, shape in keys.items()
        if not key.endswith("relative_position_index")
    }
