"""Warm start from checkpoints that transformers wrote: equal features, and what does not fit."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    ResNetConfig,
    ResNetModel,
    SwinConfig,
    SwinForImageClassification,
    SwinModel,
)

from grex_ros.model.checkpoint import CheckpointError
from grex_ros.model.config import RelaConfig
from grex_ros.model.pretrained import load_backbone, load_text, resize_table
from grex_ros.model.rela import ReLA

SMALL = RelaConfig.preset("tiny").replace(
    text_vocab=50,
    text_dim=16,
    text_layers=2,
    text_heads=2,
    text_ffn=32,
    text_positions=16,
    swin_dim=16,
    swin_window=4,
)
PICTURE = torch.randn(2, 3, 160, 192, generator=torch.Generator().manual_seed(1))


def randomise(module: nn.Module) -> None:
    """Everything other than what both sides start with."""
    generator = torch.Generator().manual_seed(2)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator)
            fan = math.sqrt(value[0].numel()) if value.dim() > 1 else 4.0
            value.copy_(1 + noise.abs() / 4 if name.endswith("running_var") else noise / fan)


def swin_config() -> SwinConfig:
    return SwinConfig(
        embed_dim=SMALL.swin_dim,
        depths=list(SMALL.swin_depths),
        num_heads=list(SMALL.swin_heads),
        window_size=4,
        image_size=160,
    )


def bert_config() -> BertConfig:
    return BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )


@pytest.fixture
def model() -> ReLA:
    torch.manual_seed(0)
    return ReLA(SMALL).eval()


@pytest.fixture
def swin(tmp_path: Path) -> tuple[SwinForImageClassification, Path]:
    theirs = SwinForImageClassification(swin_config()).eval()
    randomise(theirs)
    theirs.save_pretrained(tmp_path / "swin")
    return theirs, tmp_path / "swin"


@pytest.fixture
def bert(tmp_path: Path) -> tuple[BertModel, Path]:
    theirs = BertModel(bert_config()).eval()
    randomise(theirs)
    theirs.save_pretrained(tmp_path / "bert")
    return theirs, tmp_path / "bert"


@torch.inference_mode()
def stream(model: ReLA) -> list[Tensor]:
    """What enters each stage and what leaves the last block, all (B, H*W, C)."""
    seen: list[Tensor] = []
    for stage in model.backbone.stages:
        stage.register_forward_pre_hook(lambda m, args: seen.append(args[0].flatten(1, 2)))
    last = model.backbone.stages[3].blocks[-1]  # type: ignore[union-attr,index]
    last.register_forward_hook(lambda m, args, out: seen.append(out))  # type: ignore[operator]
    model.backbone(PICTURE, torch.randn(2, 3, SMALL.text_dim), torch.ones(2, 3))
    return seen


def assert_equal_stream(model: ReLA, theirs: SwinModel) -> None:
    with torch.inference_mode():
        expected = list(theirs(PICTURE, output_hidden_states=True).hidden_states)
    ours = stream(model)
    assert len(ours) == len(expected) == 5
    # 160 x 192 makes maps of 40 x 48 to 5 x 6, so the last windows hold filling.
    for a, b in zip(ours, expected, strict=True):
        assert (a - b).abs().max() <= 2e-5 * b.abs().max()


def test_swin_in_the_backbone_is_the_swin_of_transformers(
    model: ReLA, swin: tuple[SwinForImageClassification, Path]
) -> None:
    theirs, folder = swin
    fusion = model.backbone.stages[0].fusion.visual.weight.clone()  # type: ignore[union-attr]
    found = load_backbone(model, folder)
    assert sorted(found.dropped) == [
        "classifier.bias",
        "classifier.weight",
        "swin.layernorm.bias",
        "swin.layernorm.weight",
    ]
    assert found.resized == []
    assert_equal_stream(model, theirs.swin)
    after = model.backbone.stages[0].fusion.visual.weight  # type: ignore[union-attr]
    assert torch.equal(after, fusion)


def test_swin_without_a_head_and_in_a_file(model: ReLA, tmp_path: Path) -> None:
    theirs = SwinModel(swin_config()).eval()
    randomise(theirs)
    theirs.save_pretrained(tmp_path)
    found = load_backbone(model, tmp_path / "model.safetensors")
    assert sorted(found.dropped) == ["layernorm.bias", "layernorm.weight"]
    assert_equal_stream(model, theirs)


def test_names_that_transformers_uses_in_memory(
    model: ReLA, swin: tuple[SwinForImageClassification, Path], tmp_path: Path
) -> None:
    theirs, _ = swin
    state = dict(theirs.state_dict()) | {"swin.x.relative_position_index": torch.zeros(3).long()}
    torch.save(state, tmp_path / "memory.bin")
    load_backbone(model, tmp_path / "memory.bin")
    assert_equal_stream(model, theirs.swin)


def test_another_window(swin: tuple[SwinForImageClassification, Path]) -> None:
    model = ReLA(SMALL.replace(swin_window=7))
    found = load_backbone(model, swin[1])
    tables = [n for n in model.backbone.state_dict() if n.endswith("bias_table")]
    assert found.resized == [f"backbone.{n}" for n in tables]
    theirs = next(v for n, v in swin[0].state_dict().items() if n.endswith("bias_table"))
    assert torch.equal(model.backbone.state_dict()[tables[0]], resize_table(theirs, 13 * 13))


def test_a_resized_table_keeps_directions_and_heads() -> None:
    y, x = torch.meshgrid(torch.arange(7.0), torch.arange(7.0), indexing="ij")
    table = torch.stack((y.flatten(), 10 * x.flatten(), torch.full((49,), 3.0)), 1)
    grid = resize_table(table, 13 * 13).view(13, 13, 3)
    inner = grid[2:-2, 2:-2]
    where = ((torch.arange(13) + 0.5) * 7 / 13 - 0.5)[2:-2]  # centres of new cells, 0.54 apart
    torch.testing.assert_close(inner[..., 0], where[:, None].expand(9, 9), atol=0.1, rtol=0)
    torch.testing.assert_close(inner[..., 1], 10 * where[None].expand(9, 9), atol=1.0, rtol=0)
    torch.testing.assert_close(grid[..., 2], torch.full((13, 13), 3.0), atol=1e-5, rtol=0)
    assert resize_table(table, 49) is table
    assert resize_table(table, 50) is table


def words(model: Any) -> Tensor:
    tokens = torch.tensor([[2, 7, 9, 3, 0], [2, 8, 3, 0, 0]])
    with torch.inference_mode():
        out = model(input_ids=tokens, attention_mask=(tokens > 0).long()).last_hidden_state
    return out[:, :3]


@pytest.mark.parametrize("old", [True, False])
def test_bert(model: ReLA, bert: tuple[BertModel, Path], tmp_path: Path, old: bool) -> None:
    theirs, path = bert
    if old:  # as TensorFlow named it
        state = {
            n.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): v
            for n, v in load_file(path / "model.safetensors").items()
        }
        assert any(name.endswith("gamma") for name in state)
        path = tmp_path / "old"
        path.mkdir()
        state["embeddings.position_ids"] = torch.arange(16)[None]
        torch.save(state, path / "pytorch_model.bin")
    found = load_text(model, path)
    dropped = ["embeddings.position_ids"] if old else []
    assert sorted(found.dropped) == [*dropped, "pooler.dense.bias", "pooler.dense.weight"]
    assert found.loaded == len(model.text_encoder.state_dict())
    expected = words(theirs)
    assert (words(model.text_encoder) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_bert_with_a_head(model: ReLA, tmp_path: Path) -> None:
    theirs = BertForMaskedLM(bert_config()).eval()
    randomise(theirs)
    theirs.save_pretrained(tmp_path)
    found = load_text(model, tmp_path)
    assert found.dropped and all(name.startswith("cls.") for name in found.dropped)
    expected = words(theirs.bert)
    assert (words(model.text_encoder) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_resnet(tmp_path: Path) -> None:
    model = ReLA(SMALL.replace(backbone="resnet50")).eval()
    theirs = ResNetModel(ResNetConfig(downsample_in_bottleneck=False)).eval()
    randomise(theirs)
    theirs.save_pretrained(tmp_path)
    found = load_backbone(model, tmp_path)
    assert all(name.endswith("num_batches_tracked") for name in found.dropped)
    with torch.inference_mode():
        expected = theirs(PICTURE, output_hidden_states=True).hidden_states[1:]
        for a, b in zip(model.backbone(PICTURE), expected, strict=True):
            assert (a - b).abs().max() <= 1e-5 * b.abs().max()


QUERY = "swin.encoder.layers.0.blocks.0.attention.self.query"
TABLE = "swin.encoder.layers.1.blocks.0.attention.self.relative_position_bias_table"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("swin.embeddings.norm.bias"), r"LanguageSwin; missing: patch_norm\.bias$"),
        (lambda s: s.pop(f"{QUERY}.weight"), r"missing: stages\.0\.blocks\.0\.attn\.qkv\.weight;"),
        (lambda s: s.update({"swin.embeddings.position_embeddings": torch.zeros(3)}), "unexpected"),
        (lambda s: s.update({TABLE: torch.zeros(49, 5)}), r"stages\.1.*table \(49, 5\) instead of"),
        (lambda s: s.update({TABLE: torch.zeros(48, 2)}), r"stages\.1.*table \(48, 2\) instead of"),
        (lambda s: s.clear() or s.update({"a": torch.zeros(1)}), "missing.* and .* more.*: a$"),
    ],
)
def test_what_does_not_fit_is_named(
    model: ReLA,
    swin: tuple[SwinForImageClassification, Path],
    change: Callable[[dict[str, Tensor]], object],
    message: str,
) -> None:
    file = swin[1] / "model.safetensors"
    state = load_file(file)
    change(state)
    save_file(state, file)
    before = {n: v.clone() for n, v in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        load_backbone(model, swin[1])
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())


class Creates:
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def test_files_that_cannot_be_used(model: ReLA, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither model.safetensors nor pytorch_model.bin"):
        load_text(model, tmp_path)
    with pytest.raises(FileNotFoundError):
        load_backbone(model, tmp_path / "nowhere")
    file = tmp_path / "pytorch_model.bin"
    file.write_bytes(pickle.dumps({"x": Creates(tmp_path / "made")}, protocol=2))
    with pytest.raises(CheckpointError, match=r"asks for code \(.*open\), which is never run"):
        load_text(model, tmp_path)
    assert not (tmp_path / "made").exists()
    torch.save([1, 2], file)
    with pytest.raises(CheckpointError, match="no state dict"):
        load_text(model, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"{}")
    with pytest.raises(CheckpointError, match="no safetensors file or damaged"):
        load_text(model, tmp_path)


def test_presets_with_weights_of_their_own(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = ReLA(RelaConfig.preset("tabletop"))
    with pytest.raises(ValueError, match="tabletop cannot start from a Swin"):
        load_backbone(model, tmp_path)
    with pytest.raises(ValueError, match="tabletop takes its text encoder from a wheel"):
        load_text(model, tmp_path)
