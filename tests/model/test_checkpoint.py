"""Checkpoints in and out, and what is said of damaged ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from grex_ros.model import checkpoint
from grex_ros.model.checkpoint import (
    DEFAULT_CHECKPOINT,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from grex_ros.model.rela import ReLA

from .test_rela import SMALL


@pytest.fixture
def saved(tmp_path: Path) -> tuple[ReLA, Path]:
    torch.manual_seed(0)
    model = ReLA(SMALL)
    path = tmp_path / "model.safetensors"
    save_checkpoint(model, path, {"steps": "7"}, dtype=torch.float32)
    return model, path


def test_round_trip(saved: tuple[ReLA, Path]) -> None:
    model, path = saved
    loaded, metadata = load_checkpoint(path)
    assert loaded.cfg == model.cfg
    assert metadata["steps"] == "7"
    assert not loaded.training
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_what_describes_the_model_is_not_taken_from_another(
    saved: tuple[ReLA, Path], tmp_path: Path
) -> None:
    """Metadata is handed on from checkpoint to checkpoint, also to a model of another config."""
    _, metadata = load_checkpoint(saved[1])
    other, path = ReLA(SMALL.replace(regions=9)), tmp_path / "other.safetensors"
    save_checkpoint(other, path, metadata)
    loaded, found = load_checkpoint(path)
    assert loaded.cfg == other.cfg and found["steps"] == "7"


def test_the_shipped_checkpoint_names_no_folder_of_the_machine_that_made_it() -> None:
    _, metadata = load_checkpoint(DEFAULT_CHECKPOINT)
    assert not [name for name, value in metadata.items() if '"/' in value]


def test_half_precision_halves_the_file(saved: tuple[ReLA, Path], tmp_path: Path) -> None:
    model, path = saved
    half = tmp_path / "half.safetensors"
    save_checkpoint(model, half)
    assert half.stat().st_size < 0.6 * path.stat().st_size
    loaded, _ = load_checkpoint(half)
    assert loaded.region_decoder.level_embed.weight.dtype == torch.float32


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors does not exist.*`checkpoint`"):
        load_checkpoint(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("cut", [0, 4, 100, -10])
def test_truncated_file(saved: tuple[ReLA, Path], cut: int) -> None:
    path = saved[1]
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match="damaged.*copy it again"):
        load_checkpoint(path)


def test_file_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not written by grex_ros"):
        load_checkpoint(path)


def test_config_of_another_version(tmp_path: Path) -> None:
    path = tmp_path / "new.safetensors"
    save_file({"x": torch.zeros(1)}, path, {"format": "grex_ros", "config": '{"future": 1}'})
    with pytest.raises(CheckpointError, match="future"):
        load_checkpoint(path)


def test_tensor_of_another_shape(saved: tuple[ReLA, Path], tmp_path: Path) -> None:
    model, _ = saved
    tensors = dict(model.state_dict())
    tensors["region_decoder.level_embed.weight"] = torch.zeros(1, 2)
    with pytest.raises(CheckpointError, match=r"another shape: region_decoder\.level_embed"):
        checkpoint.load_tensors(ReLA(SMALL), tensors, "file")


def test_the_shipped_weights_load_and_name_their_text_encoder() -> None:
    model, metadata = load_checkpoint(checkpoint.DEFAULT_CHECKPOINT)
    assert model.cfg.name == "tabletop"
    assert len(metadata["text_digest"]) == 64
    assert checkpoint.DEFAULT_CHECKPOINT.stat().st_size < 40e6


def test_another_text_encoder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"other weights")
    monkeypatch.setattr(checkpoint, "wheel_folder", lambda package: folder)
    with pytest.raises(CheckpointError, match="text encoder with sha256"):
        load_checkpoint(checkpoint.DEFAULT_CHECKPOINT)
