"""Training that starts from plain Hugging Face checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, SwinConfig, SwinModel

from grex_ros.model.config import RelaConfig
from tests.training.test_train import make_dataset
from training.train import TrainConfig, Trainer, build_model, main

SMALL = RelaConfig.preset("tiny").replace(
    text_vocab=50, text_dim=16, text_layers=1, text_heads=2, text_ffn=32, text_positions=16
)


def test_swin_and_bert_are_in_the_model(tmp_path: Path) -> None:
    swin = SwinModel(
        SwinConfig(
            embed_dim=SMALL.swin_dim,
            depths=list(SMALL.swin_depths),
            num_heads=list(SMALL.swin_heads),
        )
    )
    bert = BertModel(
        BertConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=16,
        )
    )
    swin.save_pretrained(tmp_path / "swin")
    bert.save_pretrained(tmp_path / "bert")
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
    [("init_backbone", "cannot start from a Swin"), ("init_text", "text encoder from a wheel")],
)
def test_the_options_reach_the_model(tmp_path: Path, option: str, message: str) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("preset: tabletop\nsteps: 1\n")
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
