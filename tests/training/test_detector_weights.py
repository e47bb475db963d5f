"""The detector's weights come from a TensorFlow.js file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from grex_ros.model.checkpoint import CheckpointError, save_checkpoint
from grex_ros.model.config import RelaConfig
from grex_ros.model.detector import CLASSES, CocoDetector
from grex_ros.model.rela import ReLA
from tests.training.test_resume import SMALL
from tests.training.test_train import make_dataset
from training.config import ConfigError, TrainConfig
from training.detector_weights import _places, load_detector
from training.parameters import COCO, build_model
from training.train import Trainer, main

EVEN = (4, 6)  # sides of the kernels of layers with a stride, a row and a column of zeros included


def write_tfjs(detector: CocoDetector, folder: Path) -> Path:
    """The layout of the published file: half precision, rows and columns first."""
    entries, content = [], b""
    for ours, theirs in _places(detector).items():
        value = detector.state_dict()[ours]
        if value.dim() == 4:
            if value.shape[2] in EVEN:
                value = value[..., 1:, 1:]
            depthwise = "depthwise" in ours
            value = value.permute(2, 3, *((0, 1) if depthwise else (1, 0)))
        array = value.contiguous().numpy().astype(np.float16)
        half = {"dtype": "float16"}
        name = f"tower_0/{theirs}"
        entries.append(
            {"name": name, "shape": array.shape, "dtype": "float32", "quantization": half}
        )
        content += array.tobytes()
    (folder / "centernet.bin").write_bytes(content)
    manifest = [{"paths": ["centernet.bin"], "weights": entries}]
    file = folder / "centernet.json"
    file.write_text(json.dumps({"weightsManifest": manifest}), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def detector() -> CocoDetector:
    torch.manual_seed(0)
    detector = CocoDetector()
    for weight in detector.parameters():
        if weight.dim() == 4 and weight.shape[2] in EVEN:
            weight[:, :, 0] = 0
            weight[..., 0] = 0
    return detector.half().float()


def test_every_tensor_finds_its_place(detector: CocoDetector, tmp_path: Path) -> None:
    found = CocoDetector()
    load_detector(found, write_tfjs(detector, tmp_path))
    wanted = detector.state_dict()
    assert _places(found).keys() == wanted.keys()
    assert len(set(_places(found).values())) == len(wanted)
    for name, value in found.state_dict().items():
        assert torch.equal(value, wanted[name]), name


def test_a_run_starts_from_it(detector: CocoDetector, tmp_path: Path) -> None:
    file = write_tfjs(detector, tmp_path)
    dataset = str(make_dataset(tmp_path / "squares"))
    config = TrainConfig(
        dataset=dataset,
        steps=1,
        batch_size=1,
        init_detector=str(file),
    )
    trainer = Trainer(config, tmp_path / "run")
    for model in (trainer.model, trainer.ema.module):
        assert model.sight is not None  # type: ignore[union-attr]
        found = model.sight.detector.state_dict()  # type: ignore[union-attr]
        assert all(torch.equal(value, found[n]) for n, value in detector.state_dict().items())
    trainer.train_step(trainer.inputs.collate([trainer.pictures[0]]))
    assert trainer.model.sight is not None
    kept = trainer.model.sight.detector.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in detector.state_dict().items())


def test_no_run_starts_from_a_detector_of_chance(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("preset: tabletop\ndataset: nowhere\nsteps: 1\n")
    with pytest.raises(ConfigError, match="the detector has no weights"):
        main(config, tmp_path / "run")
    older = tmp_path / "older.safetensors"
    save_checkpoint(ReLA(TrainConfig(steps=1, model=SMALL).rela), older)
    with pytest.raises(ConfigError, match="the detector has no weights"):
        main(config, tmp_path / "run", init=older)


def test_kinds_are_known_by_their_names() -> None:
    kinds = COCO.read_text(encoding="utf-8").splitlines()
    assert len(kinds) == CLASSES and kinds[32] == "sports ball"
    model = build_model(RelaConfig.preset("tabletop"))
    assert model.sight is not None
    alike = (model.sight.names @ model.sight.names.T).fill_diagonal_(-1)
    for kind, near in (("couch", "chair"), ("fork", "spoon"), ("bus", "train")):
        assert kinds[int(alike[kinds.index(kind)].argmax())] == near


def test_a_damaged_file_is_named(detector: CocoDetector, tmp_path: Path) -> None:
    file = write_tfjs(detector, tmp_path)
    whole = json.loads(file.read_text(encoding="utf-8"))
    weights = tmp_path / "centernet.bin"
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    with pytest.raises(CheckpointError, match=r"centernet\.json is no MobileNetV3-CenterNet"):
        load_detector(CocoDetector(), file)
    weights.write_bytes(content)
    whole["weightsManifest"][0]["weights"][0]["name"] = "tower_0/other"
    file.write_text(json.dumps(whole), encoding="utf-8")
    with pytest.raises(CheckpointError, match="MobilenetV3/Conv/Conv2D_weights"):
        load_detector(CocoDetector(), file)
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match="weightsManifest"):
        load_detector(CocoDetector(), file)
    with pytest.raises(CheckpointError, match=r"nothing\.json"):
        load_detector(CocoDetector(), tmp_path / "nothing.json")
