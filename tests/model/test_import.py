"""Import of official checkpoints: equal numbers, both ways, and no stranger's code."""

from __future__ import annotations

import gzip
import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from grex_ros.cli import app
from grex_ros.model.checkpoint import CheckpointError, load_checkpoint
from grex_ros.model.config import RelaConfig
from grex_ros.model.official import (
    GATE,
    find_preset,
    import_official,
    official_names,
    official_state_dict,
    official_tensors,
)
from grex_ros.model.rela import ReLA
from grex_ros.model.text_encoder import tokenizer_for

from .golden import DATA, official_state, rule_image

KEYS: dict[str, dict[str, list[int]]] = json.loads(
    gzip.decompress((DATA / "official_keys.json.gz").read_bytes())
)
INDEX = "relative_position_index"
HEAD = "sem_seg_head.predictor"
DECODER = "sem_seg_head.pixel_decoder"


def skeleton(preset: str) -> ReLA:
    with torch.device("meta"):
        return ReLA(RelaConfig.preset(preset))


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    """The official state dict `tiny` by rule, constant tables included."""
    state = official_state("tiny")
    axis = np.arange(7)
    y, x = (a.ravel() for a in np.meshgrid(axis, axis, indexing="ij"))
    index = (y[:, None] - y + 6) * 13 + x[:, None] - x + 6
    tables = {k: torch.from_numpy(index.copy()) for k in KEYS["tiny"] if k.endswith(INDEX)}
    assert len(tables) == 7
    return state | tables


@pytest.fixture
def write(official: dict[str, Tensor], tmp_path: Path) -> Callable[..., Path]:
    """Writes the official state with changes; None takes a tensor away."""

    def write(changes: dict[str, Any] | None = None, name: str = "official.pth") -> Path:
        state = {k: v for k, v in (official | (changes or {})).items() if v is not None}
        torch.save({"model": state}, tmp_path / name)
        return tmp_path / name

    return write


@torch.inference_mode()
def outputs(model: ReLA) -> list[Tensor]:
    tokens = torch.tensor([[101, 300, 400, 102, *[0] * 16]])
    out = model.eval()([rule_image(5, 64, 96)], tokens, (tokens > 0).long())
    return [out.target_mask, out.minimap, out.no_target, out.masks]


@pytest.mark.parametrize("preset", KEYS)
def test_every_official_name_and_shape_is_in_the_preset(preset: str) -> None:
    model = skeleton(preset)
    shapes = {name: list(value.shape) for name, value in official_state_dict(model).items()}
    assert shapes == KEYS[preset]
    assert set(official_names(model).values()) == set(model.state_dict())


@pytest.mark.parametrize("preset", KEYS)
def test_the_preset_is_found_from_the_shapes(preset: str) -> None:
    state = {k: torch.empty(s, device="meta") for k, s in KEYS[preset].items()}
    assert find_preset(state).name == preset
    for name in list(state)[::3]:
        del state[name]
    assert find_preset(state).name == preset


def test_round_trip(official: dict[str, Tensor], tmp_path: Path) -> None:
    """Saved as detectron2 saves a parallel training of an old version of transformers."""
    state = {f"module.{k}": v for k, v in official.items()}
    state["module.text_encoder.embeddings.position_ids"] = torch.arange(64)[None]
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-5}]}
    source, target = tmp_path / "model_final.pth", tmp_path / "new" / "tiny.safetensors"
    torch.save({"model": state, "optimizer": optimizer, "iteration": 149999}, source)

    report = import_official(source, target, lang_weight="trained")
    assert (report.preset, report.branch) == ("tiny", "main")
    assert report.ignored == [
        "optimizer",
        "iteration",
        "text_encoder.embeddings.position_ids",
    ]
    assert report.parameters == 9425553  # as the official code counts
    assert report.digest == hashlib.sha256(target.read_bytes()).hexdigest()
    assert report.size == target.stat().st_size

    model, metadata = load_checkpoint(target)
    assert metadata["lang_weight"] == "trained"
    assert metadata["source_digest"] == hashlib.sha256(source.read_bytes()).hexdigest()
    direct = ReLA(RelaConfig.preset("tiny"))
    direct.load_state_dict(official_tensors(official, direct.cfg))
    for ours, expected in zip(outputs(model), outputs(direct), strict=True):
        assert torch.equal(ours, expected)

    back = official_state_dict(model)
    assert back.keys() == official.keys()
    for name, value in official.items():
        assert back[name].shape == value.shape and torch.equal(back[name], value), name


def test_the_gate_is_zero_as_published_unless_the_trained_one_is_wanted(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    source, target = write(), tmp_path / "out.safetensors"
    report = import_official(source, target)
    assert (report.lang_weight, round(report.trained_lang_weight, 4)) == ("published", 0.4527)
    published, metadata = load_checkpoint(target)
    assert published.region_decoder.word_gate is not None
    assert published.region_decoder.word_gate.item() == 0
    assert (metadata["lang_weight"], metadata["trained_lang_weight"]) == ("published", "0.452711")
    import_official(source, target, lang_weight="trained")
    trained, _ = load_checkpoint(target)
    assert trained.region_decoder.word_gate is not None
    assert trained.region_decoder.word_gate.item() == pytest.approx(0.45271063)
    assert (outputs(published)[0] - outputs(trained)[0]).abs().max() > 1e-3


def doubled(name: str) -> str:
    return name.replace(f"{DECODER}.", f"{DECODER}.pixel_decoder.")


def without_prefix(name: str) -> str:
    return name.replace(f"{DECODER}.", "sem_seg_head.")


def static_query(name: str) -> str:
    return name.replace("query_feat", "static_query")


@pytest.mark.parametrize(
    ("old", "wrapper"), [(doubled, "model"), (without_prefix, "state_dict"), (static_query, "")]
)
def test_names_of_older_versions(
    official: dict[str, Tensor], tmp_path: Path, old: Callable[[str], str], wrapper: str
) -> None:
    state = {old(name): value for name, value in official.items()}
    assert state.keys() != official.keys()
    source, target = tmp_path / "old.pth", tmp_path / "out.safetensors"
    torch.save({wrapper: state} if wrapper else state, source)
    assert import_official(source, target, lang_weight="trained").ignored == []
    own = load_checkpoint(target)[0].state_dict()
    expected = official_tensors(official, RelaConfig.preset("tiny"))
    assert all(torch.equal(own[name], value) for name, value in expected.items())


def test_weights_in_safetensors_and_in_half_precision(
    official: dict[str, Tensor], tmp_path: Path
) -> None:
    source, target = tmp_path / "official.safetensors", tmp_path / "out.safetensors"
    save_file({k: v.half() if v.dtype == torch.float32 else v for k, v in official.items()}, source)
    assert import_official(source, target).preset == "tiny"
    model, _ = load_checkpoint(target)
    own = official_state_dict(model)["backbone.patch_embed.proj.weight"]
    assert own.dtype == torch.float32
    assert torch.equal(own, official["backbone.patch_embed.proj.weight"].half().float())


def test_tables_may_be_absent(official: dict[str, Tensor], write: Callable[..., Path]) -> None:
    source = write({name: None for name in official if name.endswith(INDEX)})
    assert import_official(source, source.with_suffix(".out")).preset == "tiny"


BLOCK = "backbone.layers.0.blocks.0.attn"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({f"{HEAD}.query_feat.weight": None}, rf"missing: {HEAD}\.query_feat\.weight$"),
        ({"backbone.more": torch.zeros(1)}, r"unexpected: backbone\.more$"),
        (
            {f"{HEAD}.RLA_lang_att.norm.bias": torch.zeros(3)},
            rf"another shape: {HEAD}\.RLA_lang_att\.norm\.bias \(3,\) instead of \(64,\)$",
        ),
        (
            {f"{DECODER}.mask_features.bias": torch.full((64,), torch.nan)},
            rf"not finite: {DECODER}\.mask_features\.bias$",
        ),
        ({f"{GATE}": torch.tensor(torch.inf)}, "not finite.*lang_weight"),
        ({f"{HEAD}.nt_embed.layers.1.bias": torch.zeros(2).long()}, "integers.*nt_embed"),
        ({f"{BLOCK}.{INDEX}": torch.zeros(49, 49)}, rf"other window indices: {BLOCK}\.{INDEX}$"),
        ({f"{HEAD}.RLA_gate": torch.zeros(())}, "branch `original`.*RLA_gate.*structure"),
        (
            {f"{HEAD}.self_attention_layers.0.norm.bias": torch.zeros(64)},
            "branch `original`.*self_attention_layers",
        ),
        ({f"module.{GATE}": torch.zeros(())}, "lang_weight twice"),
        ({"iteration": 7}, "iteration is no tensor"),
    ],
)
def test_another_structure_is_refused_by_its_official_names(
    write: Callable[..., Path], tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    target = tmp_path / "kept.safetensors"
    target.write_bytes(b"what was there before")
    with pytest.raises(CheckpointError, match=words):
        import_official(write(changes), target)
    assert target.read_bytes() == b"what was there before"
    assert {p.name for p in tmp_path.iterdir()} == {"kept.safetensors", "official.pth"}


def test_a_preset_that_is_asked_for_is_not_guessed(write: Callable[..., Path]) -> None:
    source = write()
    with pytest.raises(CheckpointError, match=r"does not fit preset r50; missing: backbone\.res2"):
        import_official(source, source.with_suffix(".out"), preset="r50")
    with pytest.raises(ValueError, match="preset must be auto or one of swin_base"):
        import_official(source, source.with_suffix(".out"), preset="tabletop")
    with pytest.raises(ValueError, match="lang_weight must be"):
        import_official(source, source.with_suffix(".out"), lang_weight="0.1")


class Creates:
    """Unpickled without care, this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["import-checkpoint", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("plain", [True, False])
def test_code_in_a_file_is_not_run(tmp_path: Path, plain: bool) -> None:
    made, source = tmp_path / "made", tmp_path / "evil.pth"
    content = {"model": {"backbone.x": torch.zeros(2), "y": Creates(made)}}
    with source.open("wb") as file:
        pickle.dump(content, file) if plain else torch.save(content, file)
    code, stdout, stderr = run(source, tmp_path / "out.safetensors")
    assert (code, stdout) == (2, "")
    assert stderr.count("\n") == 1 and "which is never run" in stderr
    assert plain or "io.open" in stderr  # what it wanted
    assert not made.exists() and not (tmp_path / "out.safetensors").exists()
    with source.open("rb") as file:  # the file does what it is feared for
        pickle.load(file) if plain else torch.load(file, weights_only=False)
    assert made.exists()


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "text": lambda data: b"<html>quota exceeded</html>",
    "noise": lambda data: np.random.default_rng(0).bytes(1000),
    "half": lambda data: data[: len(data) // 2],
    "cut": lambda data: data[:-10],
    "head": lambda data: data[:30],
    "flipped": flipped,
    "list": lambda data: pickle.dumps([1, 2]),
    "nothing": lambda data: pickle.dumps({"model": {}}),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files_are_one_line(tmp_path: Path, damage: str, suffix: str) -> None:
    source, target = tmp_path / f"bad{suffix}", tmp_path / "out.safetensors"
    if suffix == ".pth":
        torch.save({"model": {"x": torch.zeros(5000)}}, source)
    else:
        save_file({"x": torch.zeros(5000)}, source)
    source.write_bytes(DAMAGES[damage](source.read_bytes()))
    code, stdout, stderr = run(source, target)
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert str(source) in stderr
    assert not target.exists()


def test_files_that_are_not_there_or_cannot_be_written(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    source = write()
    (tmp_path / "taken.part").mkdir()
    for paths, words in (
        ((tmp_path / "nowhere.pth", tmp_path / "out.safetensors"), "No such file"),
        ((tmp_path / "nowhere.safetensors", tmp_path / "out.safetensors"), "No such file"),
        ((tmp_path, tmp_path / "out.safetensors"), "Is a directory"),
        ((source, tmp_path), "cannot be written"),
        ((source, source), "cannot be written"),
        ((source, source / "below"), "File exists"),
        ((source, tmp_path / "taken.safetensors"), "cannot be written"),
    ):
        code, stdout, stderr = run(*paths)
        assert (code, stdout, stderr.count("\n")) == (2, "", 1), stderr
        assert words in stderr
    assert torch.load(source, weights_only=True)["model"]  # untouched


def test_command_prints_what_it_did(write: Callable[..., Path], tmp_path: Path) -> None:
    target = tmp_path / "out.safetensors"
    code, stdout, stderr = run(write(), target)
    assert (code, stderr) == (0, "")
    words = "".join(c for c in stdout if c.isalnum() or c in ".[],")
    for word in ("tiny", "main", "353", "9.4M", "0.4527", "nothing"):
        assert word in words
    assert hashlib.sha256(target.read_bytes()).hexdigest() in words


def test_the_words_are_those_of_bert_base_uncased() -> None:
    tokenizer = tokenizer_for(RelaConfig.preset("swin_base"))
    words = sorted(tokenizer.wordpiece.get_vocab().items(), key=lambda item: item[1])
    assert [index for _, index in words] == list(range(30522))
    vocabulary = "".join(f"{word}\n" for word, _ in words).encode()
    assert hashlib.sha256(vocabulary).hexdigest().startswith("07eced375cec144d27c900241f3e3394")
    tokens, mask = tokenizer(["The zebra, at the LEFT"], 20)
    assert tokens[0, :8].tolist() == [101, 1996, 29145, 1010, 2012, 1996, 2187, 102]
    assert mask.sum() == 8 and not tokens[0, 8:].any()


def test_words_beyond_a_small_vocabulary_are_unknown() -> None:
    tokens, _ = tokenizer_for(RelaConfig.preset("tiny"))(["a zebra"])
    assert tokens.tolist() == [[101, 100, 100, 102]]
