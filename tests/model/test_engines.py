"""Exports give torch's numbers at every size, and an engine that does not is never used."""

from __future__ import annotations

import importlib.util
import itertools
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from grex_ros.cli import app
from grex_ros.grounding.grounder import Grounder
from grex_ros.grounding.objects import Grounding
from grex_ros.grounding.reading import Thresholds
from grex_ros.model import engine_check, engines
from grex_ros.model.checkpoint import (
    DEFAULT_CHECKPOINT,
    CheckpointError,
    file_digest,
    load_checkpoint,
)
from grex_ros.model.config import RelaConfig
from grex_ros.model.engine_check import Difference, Runner, compare, drawn_picture
from grex_ros.model.engines import EXPORTED, choose_engine
from grex_ros.model.export import OPSET, PARTS, export_onnx
from grex_ros.model.exported import ExportedReLA
from grex_ros.model.inference import prepare
from grex_ros.model.rela import ReLA
from grex_ros.model.text_encoder import tokenizer_for

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

DIGEST = file_digest(DEFAULT_CHECKPOINT)
SIZES = [(256, 320), (320, 320), (320, 256), (320, 192), (240, 320), (100, 320), (320, 20)]


@pytest.fixture(scope="module")
def model() -> ReLA:
    return prepare(load_checkpoint(DEFAULT_CHECKPOINT)[0])


@pytest.fixture(scope="module")
def exported(model: ReLA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with one export in it."""
    cache = tmp_path_factory.mktemp("cache")
    export_onnx(model, cache / "grex_ros" / DIGEST[:12], DIGEST)
    return cache


@pytest.fixture
def cache(exported: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache that engines are looked for in; nothing may be exported again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(exported))
    monkeypatch.setattr(engines, "export_onnx", lambda *_: pytest.fail("exported once more"))
    return exported


@pytest.fixture(scope="module", params=EXPORTED)
def engine(request: pytest.FixtureRequest, exported: Path, model: ReLA) -> ExportedReLA:
    pytest.importorskip(request.param)
    return ExportedReLA(request.param, exported / "grex_ros" / DIGEST[:12], DIGEST, model.cfg)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Packages put into it are not installed."""
    gone: set[str] = set()
    find = importlib.util.find_spec
    monkeypatch.setattr(
        engines.importlib.util, "find_spec", lambda name: None if name in gone else find(name)
    )
    return gone


# --- equal -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_equal_for_every_shape_number_and_length(
    model: ReLA, engine: ExportedReLA, size: tuple[int, int]
) -> None:
    for count, length in ((1, 3), (14, 40)) if size == SIZES[0] else ((3, 11),):
        difference = compare(model, engine, size, count, length)
        assert difference.small, f"{count} x {length}: {difference}"


def test_raw_tensors_are_equal(model: ReLA, engine: ExportedReLA) -> None:
    """Without the comparison that the package itself makes."""
    tokens = torch.tensor([[101, 2035, 2417, 10268, 102], [101, 1996, 15723, 102, 0]])
    mask = (tokens > 0).long()
    with torch.inference_mode():
        seen, whole = (drawn_picture(*size).byte() for size in ((320, 200), (640, 400)))
        batch = model.normalise([seen])
        words = model.encode_text(tokens, mask)
        state = model.look_close(model.encode_image(batch), seen, whole)
        expected = model.ground(state.repeat([2]), words, mask)
        other = engine.look_close(engine.encode_image(batch), seen, whole)
        out = engine.ground(other.repeat([2]), engine.encode_text(tokens, mask), mask)
    for name in ("masks", "boxes", "target", "no_target", "count"):
        a, b = getattr(expected, name), getattr(out, name)
        assert a.shape == b.shape and a.dtype == b.dtype
        assert float((a - b).abs().max() / a.std()) < 3e-4, name
    assert ((expected.masks > 0) != (out.masks > 0)).float().mean() < 1e-4
    scores = [x.target.sigmoid() * x.no_target.softmax(1)[:, :1] for x in (expected, out)]
    assert (scores[0] - scores[1]).abs().max() < 1e-4


@pytest.mark.parametrize("count", [1, 2, 9])
def test_masks_are_drawn_alike(model: ReLA, engine: ExportedReLA, count: int) -> None:
    seen, whole = (drawn_picture(*size).byte() for size in ((240, 320), (480, 640)))
    with torch.inference_mode():
        state = model.encode_image(model.normalise([seen]))
        assert state.boxes is not None
        given = state.masks[0, :count], state.boxes[0, :count], seen, whole
        (expected, places), (drawn, same) = model.draw_masks(*given), engine.draw_masks(*given)
    assert torch.equal(places, same) and drawn.shape == expected.shape == (count, 64, 64)
    assert expected.sigmoid().std() > 0.2
    apart = (drawn.sigmoid() - expected.sigmoid()).abs()
    assert apart.mean() < 1e-5 and apart.max() < 1e-3  # variances are small differences


def test_torch_has_one_thread_beside_another_engine(
    grounder: Grounder, engine: ExportedReLA, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    def spy(*_: torch.Tensor) -> None:
        used.append(torch.get_num_threads())
        raise RuntimeError("no more of this")

    for runner in (engine, grounder.model):
        monkeypatch.setattr(grounder, "engine", runner)
        monkeypatch.setattr(runner, "encode_image", spy)
        with pytest.raises(RuntimeError, match="no more"):
            grounder.set_image(np.zeros((240, 320, 3), np.uint8))
        assert torch.get_num_threads() == 2
    monkeypatch.setattr("grex_ros.model.exported.surroundings", spy)
    with pytest.raises(RuntimeError, match="no more"):
        engine.draw_masks(*[torch.zeros(1)] * 4)
    assert torch.get_num_threads() == 2
    assert used == [1, 2, 1]


@pytest.fixture(scope="module")
def grounder(model: ReLA) -> Grounder:
    tokenizer = tokenizer_for(model.cfg)
    return Grounder(model, tokenizer, "tabletop", Thresholds(target=0.1, no_target=0.9))


def answers_of(
    grounder: Grounder, runner: Runner, image: Tensor, texts: list[str]
) -> list[Grounding]:
    """What ``grounder`` says of a picture (3, H, W) if ``runner`` runs the steps."""
    grounder.engine = runner
    grounder.forget_words()
    grounder.set_image(image.byte().permute(1, 2, 0).numpy())
    return grounder.ground(texts)


@pytest.mark.parametrize("shape", [(480, 640), (640, 360)])
def test_the_same_answers(grounder: Grounder, engine: ExportedReLA, shape: tuple[int, int]) -> None:
    texts = ["all objects on the table", "the green ball", "the unicorn", "the bowl on the left"]
    image = drawn_picture(*shape)
    found = [answers_of(grounder, runner, image, texts) for runner in (grounder.model, engine)]
    assert any(answer.objects for answer in found[0])
    for a, b in zip(*found, strict=True):
        assert (a.status, len(a.objects)) == (b.status, len(b.objects))
        assert a.no_target_score == pytest.approx(b.no_target_score, abs=1e-4)
        assert np.mean(a.mask() != b.mask()) < 1e-4
        for x, y in zip(a.objects, b.objects, strict=True):
            assert x.score == pytest.approx(y.score, abs=1e-4)
            assert np.abs(np.subtract(x.box, y.box)).max() <= 1


@contextmanager
def moved(model: ReLA, name: str, value: float) -> Iterator[None]:
    """``value`` is added to a row of a weight."""
    weight = model.get_parameter(name)
    before = weight.clone()
    weight.data[0] += value
    try:
        yield
    finally:
        weight.data.copy_(before)


@pytest.mark.parametrize(
    "name",
    [
        "text_encoder.encoder.layer.2.output.dense.weight",
        "text_adapter.project.bias",
        "backbone.stem.0.weight",
        "pixel_decoder.mask_features.bias",
        "region_decoder.proposals.box.layers.1.weight",
        "region_decoder.instance.box.layers.2.bias",
        "region_decoder.instance.target.layers.1.weight",
        "region_decoder.relevance.no_target.layers.1.bias",
        "close_look.tell.bias",
        "close_look.outline.weight",
        "mask_refiner.out.bias",
    ],
)
def test_a_weight_that_moved_is_noticed(model: ReLA, engine: ExportedReLA, name: str) -> None:
    # Masks that are drawn anew are surer than a small step of their bias.
    small = 0.2 if name == "mask_refiner.out.bias" else 0.05
    for value in (small, float("nan")):
        with moved(model, name, value):
            assert not compare(model, engine, (240, 320)).small
    assert compare(model, engine, (240, 320)).small


# --- the choice ------------------------------------------------------------------------------


def test_auto_takes_onnxruntime_from_the_cache(cache: Path, model: ReLA) -> None:
    for _ in range(2):
        found, note = choose_engine(model, DIGEST)
        assert isinstance(found, ExportedReLA)
        assert (found.name, note) == ("onnxruntime", "")


def test_an_engine_that_is_not_equal(
    cache: Path, model: ReLA, caplog: pytest.LogCaptureFixture
) -> None:
    with moved(model, "region_decoder.instance.target.layers.1.weight", 0.05):
        found, note = choose_engine(model, DIGEST)
        assert found is model
        assert "not equal to torch" in note and "grex export" in note
        assert note in caplog.text
        with pytest.raises(CheckpointError, match="not equal"):
            choose_engine(model, DIGEST, "onnxruntime")


def test_the_grounder_says_what_it_runs_on(cache: Path, without: set[str]) -> None:
    grounder = Grounder.from_checkpoint(device="cpu")
    assert (grounder.engine_name, grounder.engine_note) == ("onnxruntime", "")
    assert isinstance(grounder.engine, ExportedReLA)
    without |= {"onnxruntime", "openvino"}
    grounder = Grounder.from_checkpoint(device="cpu")
    assert grounder.engine_name == "torch" and "pip install" in grounder.engine_note
    assert grounder.engine is grounder.model


def test_torch_is_never_another(cache: Path, model: ReLA) -> None:
    assert choose_engine(model, DIGEST, "torch") == (model, "")


def test_an_unknown_engine_is_refused(model: ReLA) -> None:
    known = "auto, torch, compile, onnxruntime or openvino"
    with pytest.raises(ValueError, match=f"engine must be {known}"):
        choose_engine(model, DIGEST, "tensorrt")


def test_what_is_not_installed_is_named(cache: Path, model: ReLA, without: set[str]) -> None:
    without |= {"onnxruntime", "openvino"}
    for name in without:
        with pytest.raises(ValueError, match=f"pip install {name}"):
            choose_engine(model, DIGEST, name)
    found, note = choose_engine(model, DIGEST)
    assert found is model and "pip install onnxruntime" in note


def test_only_openvino_is_installed(cache: Path, model: ReLA, without: set[str]) -> None:
    pytest.importorskip("openvino")
    without.add("onnxruntime")
    found, _ = choose_engine(model, DIGEST)
    assert isinstance(found, ExportedReLA) and found.name == "openvino"


@pytest.mark.parametrize("case", ["other checkpoint", "other code", "damaged", "none"])
def test_an_export_that_does_not_fit(
    case: str,
    exported: Path,
    tmp_path: Path,
    model: ReLA,
    without: set[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is not used; it is made anew where that can be done."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    digest = "0" * 64 if case == "other checkpoint" else DIGEST
    good, folder = exported / "grex_ros" / DIGEST[:12], tmp_path / "grex_ros" / digest[:12]
    if case != "none":
        shutil.copytree(good, folder)
    if case == "other code":
        monkeypatch.setattr("grex_ros.model.export.CODE", "of tomorrow")
    if case == "damaged":
        os.truncate(folder / "image.onnx", 10_000_000)
    without.add("onnx")
    with pytest.raises(CheckpointError, match="grex export.*pip install onnx") as refused:
        choose_engine(model, digest, "onnxruntime")
    if case != "none":
        assert "image.onnx" in str(refused.value)
    found, note = choose_engine(model, digest)
    assert found is model and "pip install onnx" in note

    without.clear()
    made = []

    def export(model: ReLA, folder: Path, digest: str) -> None:
        made.append(folder)
        shutil.copytree(good, folder, dirs_exist_ok=True)

    monkeypatch.setattr(engines, "export_onnx", export)
    if case.startswith("other"):  # the copy does not fit either
        with pytest.raises(CheckpointError, match="another"):
            choose_engine(model, digest, "onnxruntime")
    else:
        caplog.set_level(logging.INFO)
        for _ in range(2):  # the second time there is one
            assert isinstance(choose_engine(model, digest, "onnxruntime")[0], ExportedReLA)
        assert "some seconds" in caplog.text
    assert made == [folder]


def test_a_cache_that_cannot_be_written(
    exported: Path,
    tmp_path: Path,
    model: ReLA,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    used = []

    def export(model: ReLA, folder: Path, digest: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        used.append(folder)
        shutil.copytree(exported / "grex_ros" / DIGEST[:12], folder, dirs_exist_ok=True)

    monkeypatch.setattr(engines, "export_onnx", export)
    assert isinstance(choose_engine(model, DIGEST)[0], ExportedReLA)
    assert len(used) == 1 and not used[0].exists()
    assert "cannot be kept" in caplog.text


def test_what_has_no_export_and_half_precision_run_on_torch_only(model: ReLA) -> None:
    tiny = ReLA(RelaConfig.preset("tiny").replace(keep_aspect=True))
    for given, dtype in ((tiny, torch.float32), (model, torch.bfloat16)):
        found, note = choose_engine(given, DIGEST, "auto", dtype)
        assert found is given and note
        with pytest.raises(ValueError, match="use engine torch"):
            choose_engine(given, DIGEST, "onnxruntime", dtype)


def test_old_exports_are_forgotten(tmp_path: Path) -> None:
    for age in range(6):
        folder = tmp_path / str(age)
        folder.mkdir()
        (folder / "text.onnx").touch()
        os.utime(folder, (1e9 - age, 1e9 - age))
    (tmp_path / "somebody's").mkdir()
    os.utime(tmp_path / "somebody's", (0, 0))
    engines._forget_old_exports(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1", "2", "3", "somebody's"}


def test_the_worst_of_many_counts(model: ReLA, monkeypatch: pytest.MonkeyPatch) -> None:
    found: Iterator[Difference] = iter(Difference(i / 1e5, 0, -i, 0) for i in range(12))
    monkeypatch.setattr(engine_check, "compare", lambda *_: next(found))
    assert engine_check.compare_often(model, model) == Difference(11 / 1e5, 0, 0, 0)
    broken = Difference(0, float("nan"), 0, 0)
    equal = itertools.repeat(Difference(0, 0, 0, 0))
    # A tie of boxes differs on a picture, a wrong engine on all.
    for pictures, small in ((1, True), (engine_check.PICTURES, False)):
        found = itertools.chain([broken] * pictures, equal)
        assert engine_check.compare_often(model, model).small == small


# --- the files -------------------------------------------------------------------------------


def test_files_say_what_they_are(exported: Path) -> None:
    folder = exported / "grex_ros" / DIGEST[:12]
    assert {path.name for path in folder.iterdir()} == {f"{part}.onnx" for part in PARTS}
    for part in PARTS:
        graph = onnx.load(folder / f"{part}.onnx")
        about = {item.key: item.value for item in graph.metadata_props}
        assert about["checkpoint"] == DIGEST
        assert about["opset"] == str(OPSET) == str(graph.opset_import[0].version)
        assert {"grex_ros", "torch", "code"} <= about.keys()


def test_grex_export(
    model: ReLA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without: set[str]
) -> None:
    """It exports by itself, and the model is afterwards what it was."""
    without.add("openvino")
    monkeypatch.setattr("grex_ros.model.inference.prepare", lambda _: model)
    monkeypatch.setattr(engine_check, "compare_often", lambda *both: compare(*both, (240, 320)))
    fast = torch.backends.mha.get_fastpath_enabled()
    out = tmp_path / "tabletop.onnx"
    done = CliRunner().invoke(app, ["export", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert str(out) in done.output.replace("\n", "")
    assert "pip install openvino" in done.output
    assert any(
        row.split()[0] == "onnxruntime" and row.split()[-1] == "yes"
        for row in done.output.splitlines()
        if row.strip()
    )
    assert sorted(path.stem for path in out.iterdir()) == sorted(PARTS)
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert not any("forward" in vars(module) for module in model.modules())

    monkeypatch.setattr("grex_ros.model.export.export_onnx", lambda *_: None)
    monkeypatch.setattr(engine_check, "compare_often", lambda *_: Difference(0, 0.1, 0, 0))
    done = CliRunner().invoke(app, ["export", "--out", str(out)])
    assert done.exit_code == 1 and "no" in done.output

    without.add("onnx")
    done = CliRunner().invoke(app, ["export", "--out", str(out)])
    assert done.exit_code == 2 and "pip install onnx" in done.stderr
