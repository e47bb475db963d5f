"""Checkpoints of the official code (henghuiding/ReLA, branch ``main``): names, import, export.

The official loader never loads ``predictor.lang_weight``, the gate of the words: published results
were made with its initial value 0, whatever was trained. :func:`import_official` does the same
unless it is told to keep the trained value.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .checkpoint import (
    CheckpointError,
    differences,
    file_digest,
    name_some,
    read_tensors,
    save_checkpoint,
)
from .config import RelaConfig
from .rela import ReLA

OFFICIAL_PRESETS = ("swin_base", "swin_tiny", "r50", "tiny")
LANG_WEIGHTS = ("published", "trained")
GATE = "sem_seg_head.predictor.lang_weight"

# Our names to the official ones, applied in this order.
_NAMES = (
    (r"^pixel_decoder\.", "sem_seg_head.pixel_decoder."),
    (r"pixel_decoder\.lateral_norm\.", "pixel_decoder.adapter_1.norm."),
    (r"pixel_decoder\.lateral\.", "pixel_decoder.adapter_1."),
    (r"pixel_decoder\.output_norm\.", "pixel_decoder.layer_1.norm."),
    (r"pixel_decoder\.output\.", "pixel_decoder.layer_1."),
    (r"pixel_decoder\.layers\.", "pixel_decoder.transformer.encoder.layers."),
    (r"pixel_decoder\.level_embed$", "pixel_decoder.transformer.level_embed"),
    (r"^region_decoder\.(head\.)?", "sem_seg_head.predictor."),
    (r"predictor\.minimap\.", "predictor.minimap_embed."),
    (r"predictor\.no_target\.", "predictor.nt_embed."),
    (r"predictor\.norm\.", "predictor.decoder_norm."),
    (r"predictor\.word_gate$", "predictor.lang_weight"),
    (r"predictor\.word_proj\.", "predictor.lang_proj."),
    (r"predictor\.region_word\.0\.", "predictor.RLA_lang_att."),
    (r"predictor\.region_image\.", "predictor.RIA_layers."),
    (r"predictor\.region_region\.", "predictor.RLA_vision."),
    (r"predictor\.feed_forward\.", "predictor.transformer_ffn_layers."),
    (r"(RLA_lang_att|RIA_layers\.\d+)\.attn\.", r"\1.multihead_attn."),
    (r"(RLA_vision\.\d+)\.attn\.", r"\1.self_attn."),
    (r"^backbone\.patch_embed\.", "backbone.patch_embed.proj."),
    (r"^backbone\.patch_norm\.", "backbone.patch_embed.norm."),
    (r"^backbone\.stem\.", "backbone.stem.conv1."),
    *((rf"^backbone\.stages\.{i}\.(?=\d)", f"backbone.res{i + 2}.") for i in range(4)),
    (r"^backbone\.stages\.(\d)\.norm\.", r"backbone.norm\1."),
    (r"^backbone\.stages\.", "backbone.layers."),
    (r"\.fusion\.visual\.", ".fusion.vis_project.0."),
    (r"\.fusion\.project\.", ".fusion.project_mm.0."),
    (r"\.fusion\.(query|key|value)\.", r".fusion.image_lang_att.f_\1.0."),
    (r"\.fusion\.out\.", ".fusion.image_lang_att.W.0."),
    (r"\.gate\.0\.", ".res_gate.0."),
    (r"\.gate\.1\.", ".res_gate.2."),
    (r"\.merge\.", ".downsample."),
)
_CONSTANTS = ("text_encoder.embeddings.position_ids", "text_encoder.embeddings.token_type_ids")
_INDEX = "relative_position_index"
# Only branch `original` has these.
_ORIGINAL = r"\.(RIA_cross_attention|self_attention_layers|RLA_proj|RLA_gate|decoder_norm_2)\b"


@dataclass(frozen=True)
class ImportReport:
    """What :func:`import_official` found and wrote."""

    preset: str
    branch: str
    tensors: int
    parameters: int
    lang_weight: str  # published or trained
    trained_lang_weight: float  # what the file has
    ignored: list[str]
    size: int  # bytes
    digest: str  # SHA-256 of the written file


def official_names(model: ReLA) -> dict[str, str]:
    """Official name -> our name, for everything that the model stores."""
    return {_official_name(name): name for name in model.state_dict()}


def official_tensors(state: Mapping[str, Tensor], cfg: RelaConfig) -> dict[str, Tensor]:
    """An official state dict under our names; unknown names stay. Constants are left out, and the
    fusion's 1x1 convolutions become linear layers."""
    names = _layout(cfg)[0]
    tensors = {}
    for name, value in state.items():
        if name not in _CONSTANTS and not name.endswith(_INDEX):
            linear = _is_convolution(name) and value.dim() == 3
            tensors[names.get(name, name)] = value[..., 0] if linear else value
    return tensors


def official_state_dict(model: ReLA) -> dict[str, Tensor]:
    """The model's weights as the official code names and shapes them."""
    own = dict(model.state_dict())
    own |= {n: b for n, b in model.named_buffers() if n.endswith(_INDEX)}
    state = {_official_name(name): value for name, value in own.items()}
    return {n: v[..., None] if _is_convolution(n) and v.dim() == 2 else v for n, v in state.items()}


def import_official(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    preset: str = "auto",
    lang_weight: str = "published",
) -> ImportReport:
    """Writes the official checkpoint ``source`` (.pth or .safetensors) as our ``target``.

    Args:
        preset: one of ``OFFICIAL_PRESETS``, or auto: the one whose shapes fit best.
        lang_weight: published (0, as the official loader leaves it) or trained (the file's).

    Raises:
        CheckpointError: not a checkpoint of plain tensors, of another branch, damaged, or a tensor
            is missing, unexpected, misshaped or not finite; named as the official code does.
        ValueError: no such preset or ``lang_weight``.
        OSError: a file cannot be read or written.
    """
    source, target = Path(source), Path(target)
    if preset not in (*OFFICIAL_PRESETS, "auto"):
        raise ValueError(f"preset must be auto or one of {', '.join(OFFICIAL_PRESETS)}")
    if lang_weight not in LANG_WEIGHTS:
        raise ValueError(f"lang_weight must be {' or '.join(LANG_WEIGHTS)}, not {lang_weight!r}")
    if target.is_dir() or (target.exists() and target.samefile(source)):
        raise ValueError(f"{target} cannot be written: a folder, or the file that is to be read")
    state, ignored = read_official(source)
    _refuse_other_branch(state, source)
    cfg = find_preset(state) if preset == "auto" else RelaConfig.preset(preset)
    for name in [n for n in state if n in _CONSTANTS]:
        ignored.append(name)
        del state[name]
    _check(state, cfg, source)
    trained = float(state[GATE])
    if lang_weight == "published":
        state[GATE] = torch.zeros(())
    model = _skeleton(cfg)
    tensors = {n: v.float() for n, v in official_tensors(state, cfg).items()}
    model.load_state_dict(tensors, assign=True)
    metadata = {
        "source": source.name,
        "source_digest": file_digest(source),
        "branch": "main",
        "lang_weight": lang_weight,
        "trained_lang_weight": f"{trained:.6g}",
    }
    save_checkpoint(model, target, metadata, torch.float32)
    return ImportReport(
        preset=cfg.name,
        branch="main",
        tensors=len(tensors),
        parameters=sum(p.numel() for p in model.parameters()),
        lang_weight=lang_weight,
        trained_lang_weight=trained,
        ignored=ignored,
        size=target.stat().st_size,
        digest=file_digest(target),
    )


def find_preset(state: Mapping[str, Tensor]) -> RelaConfig:
    """The official preset that has most of the tensors of ``state``, by name and shape."""

    def fitting(cfg: RelaConfig) -> int:
        shapes = _layout(cfg)[1]
        return sum(shapes.get(name) == tuple(value.shape) for name, value in state.items())

    return max(map(RelaConfig.preset, OFFICIAL_PRESETS), key=fitting)


def read_official(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The state dict of a checkpoint, without wrappers and prefixes and with the names of today's
    official code; and what else was in the file and is ignored. No code of the file is run."""
    content = read_tensors(path)
    ignored: list[str] = []
    while isinstance(content, dict):
        inner = next((k for k in ("model", "state_dict") if isinstance(content.get(k), dict)), None)
        if inner is None:
            break
        ignored += [str(key) for key in content if key != inner]
        content = content[inner]
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path} holds no state dict")
    state: dict[str, Tensor] = {}
    for key, value in content.items():
        name = _current_name(str(key))
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: {key} is no tensor, so this is no checkpoint of ReLA")
        if name in state:
            raise CheckpointError(f"{path} has {name} twice, the second time as {key}")
        state[name] = value
    return state, ignored


def _official_name(name: str) -> str:
    for pattern, official in _NAMES:
        name = re.sub(pattern, official, name)
    return name


def _current_name(name: str) -> str:
    """Without the prefixes of parallel training, and renamed as the official code renames the
    checkpoints of its older versions."""
    name = re.sub(r"^(module\.)+", "", name)
    name = name.replace("predictor.static_query.", "predictor.query_feat.")
    if re.match(r"sem_seg_head\.(?!predictor\.|pixel_decoder\.)", name):
        name = name.replace("sem_seg_head.", "sem_seg_head.pixel_decoder.", 1)
    return re.sub(r"^sem_seg_head\.(pixel_decoder\.)+", "sem_seg_head.pixel_decoder.", name)


def _is_convolution(official: str) -> bool:
    return ".fusion." in official and official.endswith(".weight")


def _skeleton(cfg: RelaConfig) -> ReLA:
    """A model without memory for its weights."""
    with torch.device("meta"):
        return ReLA(cfg)


@functools.cache
def _layout(cfg: RelaConfig) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """Official name -> our name; official name -> official shape, with those of the tables."""
    model = _skeleton(cfg)
    shapes = {name: tuple(value.shape) for name, value in official_state_dict(model).items()}
    return official_names(model), shapes


def _refuse_other_branch(state: Mapping[str, Tensor], source: Path) -> None:
    met = sorted({m[1] for m in (re.search(_ORIGINAL, name) for name in state) if m})
    if met:
        raise CheckpointError(
            f"{source} holds weights of branch `original` of the official code ({', '.join(met)}), "
            "whose decoder has another structure; only those of branch `main` can be imported"
        )


def _check(state: Mapping[str, Tensor], cfg: RelaConfig, source: Path) -> None:
    """CheckpointError unless ``state`` is exactly the official model ``cfg``."""
    shapes = _layout(cfg)[1]
    index = {name for name in shapes if name.endswith(_INDEX)}
    found = {name: tuple(value.shape) for name, value in state.items()}
    problems = differences({n: s for n, s in shapes.items() if n not in index or n in found}, found)
    if problems:
        raise CheckpointError(f"{source} does not fit preset {cfg.name}; {problems}")
    if index:
        window = torch.arange(cfg.swin_window)
        yx = torch.cartesian_prod(window, window)
        offset = yx[:, None] - yx[None] + cfg.swin_window - 1
        constructed = offset[..., 0] * (2 * cfg.swin_window - 1) + offset[..., 1]
        wrong = [n for n in index & found.keys() if not torch.equal(state[n].long(), constructed)]
        if wrong:
            raise CheckpointError(f"{source} has other window indices: {name_some(wrong)}")
    weights = [name for name in shapes if name not in index]
    wrong = [name for name in weights if not state[name].is_floating_point()]
    if wrong:
        raise CheckpointError(f"{source} has integers for weights: {name_some(wrong)}")
    wrong = [name for name in weights if not torch.isfinite(state[name]).all()]
    if wrong:
        raise CheckpointError(f"{source} has values that are not finite: {name_some(wrong)}")
