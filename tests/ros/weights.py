"""A checkpoint of the real model: the packaged one, or random weights where there is none."""

from __future__ import annotations

from pathlib import Path


def real_checkpoint(folder: Path) -> Path:
    """Path of a checkpoint that loads; one with random weights is made in ``folder`` if need be."""
    from grex_ros.model.checkpoint import DEFAULT_CHECKPOINT, save_checkpoint
    from grex_ros.model.config import RelaConfig
    from grex_ros.model.rela import ReLA

    if DEFAULT_CHECKPOINT.is_file():
        return DEFAULT_CHECKPOINT
    path = folder / "random.safetensors"
    save_checkpoint(ReLA(RelaConfig.preset("tabletop")), path)
    return path
