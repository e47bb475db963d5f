"""Training configs: every error names the field, every preset has a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from grex_ros.model.config import PRESETS, RelaConfig
from training.config import ConfigError, DatasetConfig, TrainConfig, as_dict, changed_fields

CONFIGS = Path(__file__).parents[2] / "training" / "configs"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "learning_rat: 1.0",
            r"run\.yaml: unknown field learning_rat \(did you mean learning_rate",
        ),
        ("loss: {dise: 1.0}", r"unknown field loss\.dise \(did you mean dice\?\)"),
        ("model: {region_regoin: false}", r"unknown field model\.region_regoin \(did you mean reg"),
        ("datasets: [{path: a, splt: b}]", r"unknown field datasets\[0\]\.splt"),
        ("datasets: [{split: b}]", r"datasets\[0\]: .*'path'"),
        ("datasets: [{path: a, share: 0}]", r"datasets\[0\]\.share: must be above 0"),
        ("datasets: data/tabletop", r"datasets: must be a list, not 'data/tabletop'"),
        ("loss: 3", r"loss: must hold fields, not 3"),
        ("batch_size: many", r"batch_size: must be a whole number, not 'many'"),
        ("batch_size: 2.5", r"batch_size: must be a whole number, not 2.5"),
        ("batch_size: 0", r"batch_size: must be at least 1, not 0"),
        ("workers: true", r"workers: must be a whole number, not True"),
        ("freeze_image: 1", r"freeze_image: must be true or false, not 1"),
        ("learning_rate: -1", r"learning_rate: must not be negative, not -1.0"),
        ("substitution: 1.5", r"substitution: must be between 0 and 1, not 1.5"),
        ("precision: half", r"precision: must be one of auto, float32, .* not 'half'"),
        ("preset: swin_bass", r"preset: unknown 'swin_bass' \(did you mean swin_base\?\)"),
        ("model: {regions: 35}", r"model\.regions must be a square number, not 35"),
        ("decay_steps: [1, x]", r"decay_steps\[1\]: must be a whole number, not 'x'"),
        ("minutes: 3", "set either `minutes` or `steps`"),
        ("- 1", "the file: must hold fields"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_errors_name_the_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"steps: 3\n{text}\n" if not text.startswith("-") else text)
    with pytest.raises(ConfigError, match=message):
        TrainConfig.load(path)


def test_values_are_read_as_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("steps: 3\nlearning_rate: 1e-4\nclip_norm: 1\ndecay_steps: [1, 2]\n")
    config = TrainConfig.load(path)
    assert (config.learning_rate, config.clip_norm, config.decay_steps) == (1e-4, 1.0, (1, 2))
    assert config.sources == (DatasetConfig("data/tabletop", "train"),)
    path.write_text("steps: 3\ndatasets: [{path: a}, {path: b, split: val, share: 2}]\n")
    assert TrainConfig.load(path).sources == (
        DatasetConfig("a", "train", 1.0),
        DatasetConfig("b", "val", 2.0),
    )


def test_the_model_follows_the_config() -> None:
    config = TrainConfig(steps=1, image_size=64, model={"region_word": False, "regions": 4})
    expected = RelaConfig.preset("tabletop").replace(image_size=64, region_word=False, regions=4)
    assert config.rela == expected
    assert TrainConfig(preset="swin_tiny", steps=1, drop_path=0.3).rela.drop_path == 0.3
    assert RelaConfig.preset("swin_tiny").drop_path == 0


def test_every_preset_has_a_config_and_every_config_is_valid() -> None:
    configs = {path: TrainConfig.load(path) for path in CONFIGS.glob("*.yaml")}
    assert all(config.preset in path.stem for path, config in configs.items())
    assert {config.preset for config in configs.values()} == set(PRESETS)


def test_the_official_recipe_is_the_official_one() -> None:
    for preset, drop in (("swin_base", 0.3), ("swin_tiny", 0.3), ("r50", 0.0)):
        config = TrainConfig.load(CONFIGS / f"grefcoco_{preset}.yaml")
        assert config.learning_rate == config.backbone_learning_rate == 1e-5
        assert (config.batch_size, config.steps, config.decay_steps) == (
            48,
            150_000,
            (110_000, 140_000),
        )
        assert (config.clip_norm, config.weight_decay, config.text_layers) == (0.01, 0.05, 10)
        assert (config.rela.drop_path, config.ema_decay, config.substitution) == (drop, 0, 0)
        assert vars(config.official_loss) == {"mask": 5.0, "minimap": 0.5, "no_target": 0.5}


def test_what_differs_is_named_but_for_what_may() -> None:
    config = TrainConfig(steps=1)
    before = as_dict(config)
    assert changed_fields(before, as_dict(config.replace(steps=5, workers=2))) == []
    assert changed_fields(before, as_dict(config.replace(seed=2, model={"heads": 4}))) == [
        "model.heads: None -> 4",
        "seed: 0 -> 2",
    ]
