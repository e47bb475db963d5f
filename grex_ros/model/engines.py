"""What runs the steps of the model: torch, or a faster engine from an export of it.

An engine is used only if it is installed and gives torch's numbers.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import tempfile
from pathlib import Path

import torch

from .checkpoint import CheckpointError
from .engine_check import compare_without_ties
from .export import EXPORTER, export_onnx, export_problem
from .exported import Exported, load_export
from .rela import ReLA

EXPORTED = ("onnxruntime", "openvino")  # the first is the fastest
ENGINES = ("auto", "torch", "compile", *EXPORTED)
EXPORTS_KEPT = 4  # checkpoints whose exports stay in the cache, 160 MB each, official ones 900

_log = logging.getLogger(__name__)


def choose_engine(
    model: ReLA, digest: str, wanted: str = "auto", dtype: torch.dtype = torch.float32
) -> tuple[ReLA | Exported, str]:
    """What runs ``model``, and if that is torch, why nothing faster does.

    Another engine than torch is compared with torch first. If the cache holds no export of the
    checkpoint, one is made, which takes some seconds; of an official preset, which takes a minute
    and a gigabyte, only if the engine is wanted by name.

    Args:
        model: as loaded from the checkpoint with ``digest``, on the device where it is to run.
        digest: of the checkpoint.
        wanted: torch, compile (which is torch here), onnxruntime, openvino, or auto:
            onnxruntime, else openvino, on the CPU in float32, if it is installed and equal; else
            torch.
        dtype: in which the model is to run.

    Raises:
        ValueError: ``wanted`` is unknown, not installed, or cannot run this model.
        CheckpointError: ``wanted`` has no export that can be used, or is not equal to torch.
    """
    if wanted not in ENGINES:
        raise ValueError(f"engine must be {', '.join(ENGINES[:-1])} or openvino, not {wanted!r}")
    if wanted in ("torch", "compile"):
        return model, ""
    problem = export_problem(model)
    on_cpu = model.pixel_mean.device.type == "cpu"
    if not on_cpu or dtype is not torch.float32:
        problem = "the other engines run on the CPU in float32 only"
    if problem:
        if wanted != "auto":
            raise ValueError(f"engine {wanted} cannot be used: {problem}; use engine torch")
        return model, problem if on_cpu else ""
    if wanted != "auto":
        return _equal_engine(model, digest, wanted), ""
    installed = [name for name in EXPORTED if is_installed(name)]
    if not installed:
        return model, missing("onnxruntime")
    reasons = []
    for name in installed:
        try:
            return _equal_engine(model, digest, name, make=bool(model.cfg.image_layers)), ""
        except CheckpointError as error:
            reasons.append(str(error))
    _log.warning("engine torch: %s", "; ".join(reasons))
    return model, "; ".join(reasons)


def is_installed(package: str) -> bool:
    """Whether ``package`` can be imported."""
    return importlib.util.find_spec(package) is not None


def missing(package: str) -> str:
    """A sentence on a package that is not installed."""
    return f"{package} is not installed (pip install {package})"


def cache_folder(digest: str) -> Path:
    """Where the export of the checkpoint with ``digest`` is looked for, and written."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(root) / "grex_ros" / digest[:12]


def export_once(model: ReLA, digest: str, name: str) -> Exported:
    """``model`` by the engine ``name``, from an export that is not kept."""
    with tempfile.TemporaryDirectory(prefix="grex_ros_") as folder:
        export_onnx(model, Path(folder), digest)
        return load_export(model, name, Path(folder), digest)


def _equal_engine(model: ReLA, digest: str, name: str, make: bool = True) -> Exported:
    if not is_installed(name):
        raise ValueError(missing(name))
    engine = _load(model, digest, name, make)
    side = model.cfg.image_size
    try:
        difference = compare_without_ties(model, engine, (side * 3 // 4, side))
    except Exception as error:
        raise CheckpointError(f"{name} fails ({error}); run: grex export") from error
    if not difference.small:
        raise CheckpointError(
            f"{name} is not equal to torch ({difference}); run: grex export, which tells more"
        )
    return engine


def _load(model: ReLA, digest: str, name: str, make: bool) -> Exported:
    """From the cache; if there is no export of this checkpoint by this code, one is made if it may
    be (``make``)."""
    folder = cache_folder(digest)
    try:
        return load_export(model, name, folder, digest)
    except CheckpointError as error:
        if not make:
            raise
        if not is_installed(EXPORTER):
            raise CheckpointError(f"{error}, for which {missing(EXPORTER)}") from error
    _log.info("exporting the model to %s, which takes some seconds", folder)
    try:
        export_onnx(model, folder, digest)
        _forget_old_exports(folder.parent)
        return load_export(model, name, folder, digest)
    except OSError as error:
        _log.warning("the export cannot be kept for the next start: %s", error)
    except Exception as error:
        raise CheckpointError(f"the model cannot be exported: {error}") from error
    return export_once(model, digest, name)


def _forget_old_exports(cache: Path) -> None:
    found = [path for path in cache.iterdir() if (path / "text.onnx").is_file()]
    found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for folder in found[EXPORTS_KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)
