"""Official presets by other engines: the official code's numbers, and torch's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from grex_ros.benchmark import random_grounder
from grex_ros.grounding.grounder import Grounder
from grex_ros.grounding.reading import Thresholds
from grex_ros.model import engines
from grex_ros.model.checkpoint import CheckpointError
from grex_ros.model.config import RelaConfig
from grex_ros.model.engine_check import (
    compare,
    compare_often,
    compare_without_ties,
    drawn_picture,
    step_times,
)
from grex_ros.model.engines import EXPORTED, choose_engine
from grex_ros.model.export import OFFICIAL_PARTS, export_onnx, export_problem
from grex_ros.model.exported import ExportedOfficial, load_export
from grex_ros.model.inference import prepare
from grex_ros.model.region_decoder import RelaOutput
from grex_ros.model.rela import ReLA, official_decision
from grex_ros.model.text_encoder import tokenizer_for

from .golden import DATA, GoldenSet
from .test_engines import answers_of, moved

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

DIGEST = "0" * 64
SIDE = 96
TOLERANCE = 1e-4  # of the largest absolute value, as between torch and the official code


@pytest.fixture(scope="module", params=["swin", "resnet50"])
def model(request: pytest.FixtureRequest) -> ReLA:
    torch.manual_seed(3)
    cfg = RelaConfig.preset("tiny").replace(image_size=SIDE, backbone=request.param)
    made = ReLA(cfg)
    made.region_decoder.get_parameter("word_gate").data.fill_(2.0)
    return prepare(made)


@pytest.fixture(scope="module")
def folder(model: ReLA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache") / "grex_ros" / DIGEST[:12]
    export_onnx(model, folder, DIGEST)
    return folder


@pytest.fixture(scope="module", params=EXPORTED)
def engine(request: pytest.FixtureRequest, model: ReLA, folder: Path) -> ExportedOfficial:
    pytest.importorskip(request.param)
    found = load_export(model, request.param, folder, DIGEST)
    assert isinstance(found, ExportedOfficial)
    return found


def test_one_file_for_each_part(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {f"{part}.onnx" for part in OFFICIAL_PARTS}


def test_equal_for_several_expressions_of_any_length(model: ReLA, engine: ExportedOfficial) -> None:
    for count, length in ((1, 3), (3, 20)):
        difference = compare(model, engine, (SIDE, SIDE), count, length)
        assert difference.small, difference
        assert difference.words > 0  # another engine did run
    assert compare_often(model, engine).small


@pytest.mark.parametrize(
    "name",
    [
        "text_encoder.encoder.layer.1.output.dense.weight",
        "backbone.{}.weight",
        "region_decoder.feed_forward.0.linear2.bias",
        "region_decoder.head.minimap.bias",
        "region_decoder.head.no_target.layers.1.bias",
    ],
)
def test_a_weight_that_moved_is_noticed(model: ReLA, engine: ExportedOfficial, name: str) -> None:
    first = "patch_embed" if model.cfg.language_in_backbone else "stem"
    name = name.format(first)
    for value in (0.05, float("nan")):
        with moved(model, name, value):
            assert not compare_without_ties(model, engine, (SIDE, SIDE)).small
    assert compare(model, engine, (SIDE, SIDE)).small


def test_a_picture_with_a_tie_is_not_a_wrong_engine(
    model: ReLA, engine: ExportedOfficial, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, asked = engine.ground, []

    def ground(*given: Any) -> RelaOutput:
        out = plain(*given)
        asked.append(out.no_target)
        if len(asked) == 1:
            out.no_target += 1
        return out

    monkeypatch.setattr(engine, "ground", ground)
    assert compare_without_ties(model, engine, (SIDE, SIDE)).small
    assert len(asked) == 2 and not torch.equal(*asked)


def test_torch_answers_for_pictures_of_another_size(model: ReLA, engine: ExportedOfficial) -> None:
    batch = model.normalise([drawn_picture(64, 128)])
    tokens, mask = torch.arange(20)[None] + 5, torch.ones(1, 20, dtype=torch.int64)
    with torch.inference_mode():
        words = model.encode_text(tokens, mask)
        outs = [
            runner.ground(runner.encode_image(batch, words, mask).repeat([1]), words, mask)
            for runner in (model, engine)
        ]
    assert torch.equal(outs[0].target_mask, outs[1].target_mask)
    assert outs[0].target_mask.shape == (1, 2, 16, 32)


def test_the_same_answers(model: ReLA, engine: ExportedOfficial) -> None:
    grounder = Grounder(
        model, tokenizer_for(model.cfg), "tiny", Thresholds(target=0.0, no_target=1.0)
    )
    texts = [f"the {word} cup" for word in ("red", "blue", "left", "other", "small")]
    image = drawn_picture(120, 160)
    found = [answers_of(grounder, runner, image, texts) for runner in (model, engine)]
    assert any(answer.objects for answer in found[0])
    for a, b in zip(*found, strict=True):
        assert (a.status, len(a.objects)) == (b.status, len(b.objects))
        assert a.no_target_score == pytest.approx(b.no_target_score, abs=1e-5)
        assert np.mean(a.mask() != b.mask()) < 1e-3


@pytest.mark.timeout(600)  # large for two cores
def test_the_official_codes_numbers() -> None:
    """The golden set `swin_tiny` by ONNX Runtime, within what test_golden.py allows torch."""
    golden = GoldenSet.read(DATA / "golden", "swin_tiny")
    model = prepare(golden.model())
    engine = engines.export_once(model, DIGEST, "onnxruntime")
    pictures, tokens, mask = golden.inputs()
    with torch.inference_mode():
        words = engine.encode_text(tokens, mask)
        state = engine.encode_image(model.normalise(pictures), words, mask)
        out = engine.ground(state.repeat([1, 1]), words, mask)
        decision, nothing = official_decision(out, (480, 480))
    assert golden.difference("text.layer11", words) <= TOLERANCE
    assert golden.difference("out.pred_masks", out.target_mask) <= 5 * TOLERANCE
    assert golden.difference("out.nt_label", out.no_target) <= 5 * TOLERANCE
    assert int((decision.numpy() != golden.bits("out.final_mask")).sum()) <= 2
    assert np.array_equal(nothing.numpy(), golden.bits("out.final_nt"))


# --- the choice ------------------------------------------------------------------------------


def test_auto_takes_an_export_that_is_there_and_makes_none(
    model: ReLA, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export of a published checkpoint takes minutes and a gigabyte."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found, note = choose_engine(model, DIGEST)
    assert found is model and "run: grex export" in note
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parents[1]))
    found, note = choose_engine(model, DIGEST)
    assert isinstance(found, ExportedOfficial) and (found.name, note) == ("onnxruntime", "")


def test_by_name_an_export_is_made(
    model: ReLA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found, _ = choose_engine(model, DIGEST, "onnxruntime")
    assert isinstance(found, ExportedOfficial)
    assert len(list(tmp_path.glob("grex_ros/*/*.onnx"))) == len(OFFICIAL_PARTS)


def test_an_engine_that_is_not_equal(
    model: ReLA, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parents[1]))
    with moved(model, "region_decoder.head.minimap.bias", 0.05):
        assert choose_engine(model, DIGEST)[0] is model
        with pytest.raises(CheckpointError, match="not equal"):
            choose_engine(model, DIGEST, "onnxruntime")


def test_what_has_no_export() -> None:
    """What pictures of many shapes, sentences of many lengths or single objects would need."""
    for changes in ({"keep_aspect": True}, {"word_padding_mask": True}, {"instance_heads": True}):
        other = ReLA(RelaConfig.preset("tiny").replace(**changes))
        assert "tiny" in export_problem(other)


def test_step_times(model: ReLA, engine: ExportedOfficial) -> None:
    times = step_times(model, engine, 2)
    assert list(times) == ["text", "image", "ground"] and min(times.values()) > 0


def test_a_benchmark_of_random_weights() -> None:
    grounder = random_grounder("tiny", "cpu", "float32", "onnxruntime")
    assert isinstance(grounder.engine, ExportedOfficial)
    assert grounder.engine_name == "onnxruntime"
    with pytest.raises(ValueError, match="CPU in float32 only"):
        random_grounder("tiny", "cpu", "bfloat16", "onnxruntime")
