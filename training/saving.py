"""What a run keeps to go on from, written so that the last good one survives everything."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from training.config import TrainConfig, as_dict, changed_fields


class SaveError(RuntimeError):
    """The state of a run cannot be written, or is none that this run can go on from."""


def write_state(state: dict[str, Any], path: Path) -> None:
    """Writes ``state``, which torch can load with ``weights_only``; the file before it stays until
    the new one is whole and on the disk. SaveError if it cannot be written."""
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, RuntimeError) as error:  # torch wraps what the file system says
        kept = f"; the one before it is still there: {path}" if path.is_file() else ""
        raise SaveError(f"{part}: the run cannot be saved ({error}){kept}") from error
    finally:
        part.unlink(missing_ok=True)


def read_state(path: Path, config: TrainConfig) -> dict[str, Any] | None:
    """What :func:`write_state` wrote; None if there is none.

    SaveError if the file is damaged, or comes from a run with another config: the fields that
    differ are named.
    """
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        before = state["config"]
    except Exception as error:  # a damaged pickle can fail in any way
        raise SaveError(
            f"{path} is damaged, or of another version: {type(error).__name__}: {error}; remove "
            "it to begin again"
        ) from error
    if changed := changed_fields(before, as_dict(config)):
        raise SaveError(
            f"{path} is of a run with another config; choose another folder, or set back: "
            f"{'; '.join(changed)}"
        )
    return state
