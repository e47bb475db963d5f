"""The mean of two checkpoints' weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from grex_ros.model.checkpoint import load_checkpoint, save_checkpoint
from grex_ros.model.config import RelaConfig
from grex_ros.model.rela import ReLA
from tests.model.test_rela import SMALL
from training.average import main

APP = typer.Typer()
APP.command()(main)


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(APP, [str(argument) for argument in arguments])
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two checkpoints, all weights of the first 1 and of the second 3."""
    folder = tmp_path_factory.mktemp("pair")
    model = ReLA(RelaConfig.preset("tiny"))
    paths = (folder / "before.safetensors", folder / "after.safetensors")
    for path, value in zip(paths, (1.0, 3.0), strict=True):
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, value)
        save_checkpoint(model, path, {"steps": f"{value:g}"})
    return paths


def test_the_mean_and_what_is_taken_whole(pair: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    code, said = invoke(*pair, out, "--share", "0.75", "--whole", "pixel_decoder")
    assert code == 0 and "0.75 of the way" in said
    model, metadata = load_checkpoint(out)
    assert metadata["steps"] == "3"
    for name, parameter in model.named_parameters():
        expected = 3.0 if name.startswith("pixel_decoder.") else 2.5
        assert (parameter == expected).all(), name


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--share", "1.5"), "0 to 1, not 1.5"), (("--whole", "pixel"), "no part 'pixel'")],
)
def test_bad_options_are_one_line(
    pair: tuple[Path, Path], tmp_path: Path, options: tuple[str, str], words: str
) -> None:
    out = tmp_path / "out.safetensors"
    code, said = invoke(*pair, out, *options)
    assert code == 1 and words in " ".join(said.split()) and not out.exists()


def test_models_of_different_structure_are_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    other, out = tmp_path / "other.safetensors", tmp_path / "out.safetensors"
    save_checkpoint(ReLA(RelaConfig.preset("tiny").replace(regions=9)), other)
    code, said = invoke(pair[0], other, out)
    assert code == 1 and "the models differ: regions 100 and 9" in said and not out.exists()


def test_a_new_part_is_taken_whole_or_named(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.safetensors" for name in ("before", "after", "out")]
    for path, refiner, value in ((paths[0], False, 1.0), (paths[1], True, 3.0)):
        model = ReLA(SMALL.replace(coco_detector=False, box_refiner=refiner))
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, value)
        save_checkpoint(model, path)
    code, said = invoke(*paths)
    assert code == 1 and "box_refiner" in said and "--whole" in said and not paths[2].exists()
    assert invoke(*paths, "--whole", "region_decoder.box_refiner")[0] == 0
    mean, _ = load_checkpoint(paths[2])
    for name, parameter in mean.named_parameters():
        assert (parameter == (3.0 if ".box_refiner." in name else 2.0)).all(), name
    code, said = invoke(paths[1], paths[0], tmp_path / "back.safetensors")
    assert code == 1 and "the models differ: box_refiner True and False" in " ".join(said.split())


def test_a_generation_head_that_is_taken_whole_may_know_other_words(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.safetensors" for name in ("before", "after", "out")]
    for path, words in ((paths[0], ("cup",)), (paths[1], tuple(f"word{i}" for i in range(99)))):
        save_checkpoint(ReLA(SMALL.replace(coco_detector=False, generation_words=words)), path)
    code, said = invoke(*paths)
    assert code == 1 and "the models differ: generation_words ('cup',) and ('word0', " in said
    assert len(said) < 200  # not all of them
    assert invoke(*paths, "--whole", "generation")[0] == 0
    mean, after = (load_checkpoint(path)[0] for path in (paths[2], paths[1]))
    assert mean.cfg == after.cfg


def test_a_missing_checkpoint_is_named(pair: tuple[Path, Path], tmp_path: Path) -> None:
    code, said = invoke(pair[0], tmp_path / "nowhere.safetensors", tmp_path / "out.safetensors")
    assert code == 1 and "does not exist" in " ".join(said.split())
