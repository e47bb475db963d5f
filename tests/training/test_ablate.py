"""Ablation: the parts are gone, the table is written, and nothing is done twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from grex_ros.model.config import RelaConfig
from grex_ros.model.rela import ReLA
from tests.training.test_resume import SMALL
from tests.training.test_train import make_dataset
from training import ablate
from training.config import ConfigError, TrainConfig

TINY = {**SMALL, "generation_layers": 0, "image_size": 64, "coco_detector": True}


def answers(model: ReLA, words: torch.Tensor) -> torch.Tensor:
    """The target mask (E, 2, h, w) for features (E, L, C) of expressions of one picture."""
    torch.manual_seed(3)
    state = model.encode_image(torch.randn(1, 3, 64, 64))
    mask = torch.ones(words.shape[:2], dtype=torch.long)
    return model.ground(state.repeat([len(words)]), words, mask).target_mask


@pytest.mark.parametrize("name", list(ablate.VARIANTS))
@torch.no_grad()
def test_a_variant_has_not_the_part_and_still_hears_the_words(name: str) -> None:
    torch.manual_seed(0)
    config = TrainConfig(steps=1, model=TINY)
    model = ReLA(ablate.applicable(config)[name].rela).eval()
    names = {n.split(".")[1] for n, _ in model.region_decoder.named_parameters(prefix="x")}
    names |= dict(model.named_children()).keys()
    gone = {
        "full": set(),
        "no region-region attention": {"region_region", "pair_geometry"},
        "no geometry between regions": {"pair_geometry"},
        "no ImageNet classes of regions": {"semantics"},
        "no detector": {"sight"},
        "regions at peaks, twins kept": set(),  # a rule, without weights
        "boxes not refined": {"box_refiner"},
        "no close look": {"close_look"},
        "no region-word attention": {"region_word", "word_product"},
        "no instance heads": {
            "instance",
            "proposals",
            "relevance",
            "appearance",
            "alignment",
            "pair_geometry",
            "semantics",
            "sight",
            "box_refiner",
            "close_look",
        },
    }
    assert names & set.union(*gone.values()) == set.union(*gone.values()) - gone[name]
    words = torch.randn(2, 4, model.cfg.text_dim)
    one, other = answers(model, words)
    assert not torch.allclose(one, other, atol=1e-6)


@torch.no_grad()
def test_words_that_are_only_averaged_have_no_order_and_no_padding() -> None:
    model = ReLA(RelaConfig.preset("tabletop").replace(**TINY, region_word=False)).eval()
    model.text_adapter = None  # it sees the order
    torch.manual_seed(0)
    words = torch.randn(1, 4, 32)
    state = model.encode_image(torch.randn(1, 3, 64, 64)).repeat([1])
    ones = torch.ones(1, 4, dtype=torch.long)
    expected = model.region_decoder(state, words, ones).minimap
    turned = model.region_decoder(state, words.flip(1), ones).minimap
    torch.testing.assert_close(turned, expected)
    padded = torch.cat((words, torch.randn(1, 3, 32)), 1)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0]])
    torch.testing.assert_close(model.region_decoder(state, padded, mask).minimap, expected)


def test_official_models_without_a_part() -> None:
    names = list(ablate.applicable(TrainConfig(preset="tiny", steps=1)))
    assert names == ["full", "no region-region attention", "no region-word attention"]
    cfg = RelaConfig.preset("tiny").replace(region_word=False)
    assert not any("word_" in n for n, _ in ReLA(cfg).region_decoder.named_parameters())


def test_what_mirrors_close_looks_goes_with_them() -> None:
    file = Path(ablate.__file__).parent / "configs" / "tabletop_words.yaml"
    config = TrainConfig.load(file)
    shares = {n: c.mirrored_looks for n, c in ablate.applicable(config).items()}
    without = {"no close look": 0.0, "no instance heads": 0.0}
    assert config.mirrored_looks == 0.5
    assert shares == dict.fromkeys(ablate.VARIANTS, 0.5) | without


def test_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_dataset(tmp_path / "data")
    config = tmp_path / "run.yaml"
    values = {"dataset": str(root), "steps": 9, "batch_size": 2, "overlay_minutes": 0}
    config.write_text(yaml.safe_dump({**values, "model": TINY, "expressions": 2}))
    out = tmp_path / "out"
    ablate.main(config, 1, out, split="train")
    table = json.loads((out / "table.json").read_text())
    assert list(table) == list(ablate.VARIANTS)
    assert all(0 <= row["gIoU"] <= 100 for row in table.values())
    lines = (out / "table.md").read_text().splitlines()
    assert lines[0].startswith("# Ablation of tabletop: 1 steps, seed 0")
    assert lines[2] == "| variant | gIoU | cIoU | N-acc | T-acc | Pr@(F1=1) |"
    assert [line.split(" | ")[0] for line in lines[4:]] == [f"| {n}" for n in ablate.VARIANTS]
    assert "no instance heads" in capsys.readouterr().out

    def never(*args: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(ablate, "Trainer", never)
    (out / "table.json").unlink()
    ablate.main(config, 1, out, split="train")
    assert json.loads((out / "table.json").read_text()) == table
    with pytest.raises(ConfigError, match=r"begun with other settings, see .*settings\.json"):
        ablate.main(config, 2, out, split="train")
