"""Warm start from plain Hugging Face checkpoints: Swin, ResNet-50 and BERT.

What ReLA adds to them (fusion, decoders) keeps its initial values. The gates of the fusion start
at zero, so that the stream through the stages is at first that of the plain Swin.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checkpoint import CheckpointError, differences, read_tensors
from .rela import ReLA

# Names of transformers to ours; those of files before those of version 5 in memory.
_SWIN = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed."),
    (r"^embeddings\.norm\.", "patch_norm."),
    (r"^encoder\.layers\.(\d)\.downsample\.", r"stages.\1.merge."),
    (r"^encoder\.layers\.", "stages."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.attention\.(self\.)?(q|k|v)(uery|ey|alue|_proj)\.", r".attn.\2."),
    (r"\.attention\.[\w.]*\b(relative_position_bias_table)$", r".attn.\1"),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)
_RESNET = (
    (r"^embedder\.embedder\.", "stem."),
    (r"^encoder\.stages\.(\d)\.layers\.", r"stages.\1."),
    *((rf"\.layer\.{i}\.", f".conv{i + 1}.") for i in range(3)),
    (r"\.convolution\.", "."),
    (r"\.normalization\.", ".norm."),
)
_BERT = ((r"\.LayerNorm\.gamma$", ".LayerNorm.weight"), (r"\.LayerNorm\.beta$", ".LayerNorm.bias"))
# Heads and constants, which ReLA has no place for.
_DROPPED = (
    r"^(layernorm|pooler|classifier|cls|decoder|hidden_states_norms)\.|^embeddings\.(mask_token|position_ids|"
    r"token_type_ids)$|\.relative_position_index$|\.num_batches_tracked$"
)
_NEW = r"\.fusion\.|\.gate\.|^stages\.\d\.norm\."  # what the plain Swin lacks
_TABLE = "relative_position_bias_table"


@dataclass(frozen=True)
class WarmStart:
    """What came of a pretrained checkpoint."""

    loaded: int  # tensors
    dropped: list[str]  # names in the file that ReLA has no place for
    resized: list[str]  # position tables of another window


def load_backbone(model: ReLA, path: str | os.PathLike[str]) -> WarmStart:
    """Loads a Swin or a ResNet-50 (SwinModel, SwinForImageClassification, ResNetModel, ...), the
    ResNet with its strides in the 3x3 convolutions.

    Args:
        path: a .safetensors or .bin file, or the folder that ``save_pretrained`` wrote.

    Raises:
        CheckpointError: the file is damaged, or a tensor is missing, unexpected or misshaped.
        ValueError: the model's image encoder is another one.
        OSError: there is no such file.
    """
    kind = model.cfg.backbone
    if kind not in ("swin", "resnet50"):
        raise ValueError(f"preset {model.cfg.name} cannot start from a Swin or a ResNet-50")
    own = {n: v for n, v in model.backbone.state_dict().items() if not re.search(_NEW, n)}
    prefix, names = ("swin.", _SWIN) if kind == "swin" else ("resnet.", _RESNET)
    tensors, dropped = _read(Path(path), prefix, names)
    tensors = _join_qkv(tensors)
    resized = []
    for name in [n for n in tensors if n.endswith(_TABLE) and n in own]:
        fitting = resize_table(tensors[name], len(own[name]))
        if fitting is not tensors[name]:
            tensors[name] = fitting
            resized.append(f"backbone.{name}")
    _load(model.backbone, own, tensors, path)
    return WarmStart(len(tensors), dropped, resized)


def load_text(model: ReLA, path: str | os.PathLike[str]) -> WarmStart:
    """Loads a BERT (BertModel, BertForMaskedLM, ...); otherwise as :func:`load_backbone`."""
    if model.cfg.text_wheel:
        raise ValueError(f"preset {model.cfg.name} takes its text encoder from a wheel")
    tensors, dropped = _read(Path(path), "bert.", _BERT)
    _load(model.text_encoder, model.text_encoder.state_dict(), tensors, path)
    return WarmStart(len(tensors), dropped, [])


def resize_table(table: Tensor, length: int) -> Tensor:
    """A table of relative positions ((2 w - 1)**2, heads) for another window, by bicubic
    interpolation; as it is where ``length`` fits or neither is a square."""
    old, new = math.isqrt(len(table)), math.isqrt(length)
    if len(table) == length or old * old != len(table) or new * new != length:
        return table
    grid = table.float().T.reshape(1, -1, old, old)
    grid = F.interpolate(grid, (new, new), mode="bicubic", align_corners=False)
    return grid.flatten(2)[0].T


def _read(
    path: Path, prefix: str, names: tuple[tuple[str, str], ...]
) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors under our names, and the names of what was dropped."""
    if path.is_dir():
        files = [path / name for name in ("model.safetensors", "pytorch_model.bin")]
        found = [file for file in files if file.is_file()]
        if not found:
            raise CheckpointError(f"{path} holds neither {files[0].name} nor {files[1].name}")
        path = found[0]
    content = read_tensors(path)
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"{path} holds no state dict")
    whole = any(name.startswith(prefix) for name in content)  # with a head beside the encoder
    tensors, dropped = {}, []
    for key, value in content.items():
        name = key.removeprefix(prefix)
        if (whole and name == key) or re.search(_DROPPED, name):
            dropped.append(key)
            continue
        for pattern, ours in names:
            name = re.sub(pattern, ours, name)
        tensors[name] = value.float()
    return tensors, dropped


def _join_qkv(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The three projections of every attention as one; what has not all three stays."""
    joined = dict(tensors)
    for name in tensors:
        parts = [re.sub(r"\.attn\.q\.", f".attn.{part}.", name) for part in "qkv"]
        if ".attn.q." in name and all(part in joined for part in parts):
            joined[name.replace(".attn.q.", ".attn.qkv.")] = torch.cat(
                [joined.pop(part) for part in parts]
            )
    return joined


def _load(
    module: nn.Module, own: dict[str, Tensor], tensors: dict[str, Tensor], path: object
) -> None:
    problems = differences(
        {name: tuple(value.shape) for name, value in own.items()},
        {name: tuple(value.shape) for name, value in tensors.items()},
    )
    if problems:
        raise CheckpointError(f"{path} does not fit the {type(module).__name__}; {problems}")
    module.load_state_dict(tensors, strict=False)
