"""Evaluation in official size with a preset of the official kind, against scores counted by hand.

By hand means: pictures by Pillow, masks by the COCO API, tokens by the tokenizer, the model's own
forward pass and official decision, and then the metrics.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
import typer
from typer.testing import CliRunner

from grex_ros.grounding import rle
from grex_ros.grounding.grounder import Grounder
from grex_ros.grounding.reading import Thresholds
from grex_ros.metrics import grec, gres
from grex_ros.metrics.average_precision import RankedBoxes, average_precision
from grex_ros.model.config import RelaConfig
from grex_ros.model.rela import ReLA, official_decision
from grex_ros.model.text_encoder import Tokenizer
from tests.model.golden import rule_image, rule_tensor
from tests.training.tiny_dataset import Box, Said, write_dataset
from training import evaluate as module
from training.scoring import official_decider

coco_mask = pytest.importorskip("pycocotools.mask")

SIZE = (60, 90)  # height, width
BOXES: dict[int, Box] = {1: (0, 0, 45, 60), 2: (50, 10, 90, 35)}
SAID: list[Said] = [
    ("The left cup", [1], {}),
    ("the red table", [1, 2], {}),
    ("all except the man", [], {}),
    ("two dogs and a cat on the left", [], {}),
    ("", [2], {}),  # the official evaluation asks this, too
]
NO_TARGET_BIAS = "region_decoder.head.no_target.layers.1.bias"
WORDS = "[PAD] [UNK] [CLS] [SEP] the a left red cat cup table two dog ##s and on all except man"


@pytest.fixture(scope="module")
def grounder(tmp_path_factory: pytest.TempPathFactory) -> Grounder:
    """The smallest model of the official kind, with weights that find something everywhere."""
    folder = tmp_path_factory.mktemp("vocabulary")
    (folder / "vocab.txt").write_text("\n".join(WORDS.split()) + "\n")
    cfg = RelaConfig.preset("tiny").replace(text_layers=1, pixel_layers=1, decoder_layers=2)
    model = ReLA(cfg).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = np.asarray(rule_tensor(name, tuple(parameter.shape)))
            parameter.copy_(torch.from_numpy(values))
    return Grounder(model, Tokenizer(folder, cfg.max_tokens), "tiny@0", Thresholds())


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = {7: rule_image(3, *SIZE, cell=12).permute(1, 2, 0).numpy()}
    root = tmp_path_factory.mktemp("official") / "dataset"
    return write_dataset(root, pictures, {7: BOXES}, SAID, split="val", polygons=True)


@pytest.fixture(scope="module")
def squeezed(dataset: Path) -> np.ndarray:
    (path,) = (dataset / "images" / "train2014").iterdir()
    with PIL.Image.open(path) as image:
        return np.array(image.convert("RGB").resize((480, 480), PIL.Image.Resampling.BILINEAR))


@pytest.fixture(scope="module")
def decisions(grounder: Grounder, squeezed: np.ndarray) -> list[tuple[np.ndarray, bool]]:
    """Mask and refusal of every expression, by hand; the model refuses some and some not."""
    masks, margins = [], []
    for text, _, _ in SAID:
        ids = torch.zeros(1, 20, dtype=torch.int64)
        said = grounder.tokenizer.wordpiece(text)["input_ids"][:20]
        ids[0, : len(said)] = torch.tensor(said)
        with torch.inference_mode():
            pixels = torch.from_numpy(squeezed).permute(2, 0, 1)
            out = grounder.model([pixels], ids, (ids != 0).long())
        mask, _ = official_decision(out, (480, 480))
        masks.append(mask[0].numpy())
        margins.append(float(out.no_target[0, 1] - out.no_target[0, 0]))
    middle = sum(sorted(margins)[1:3]) / 2
    with torch.no_grad():
        grounder.model.get_parameter(NO_TARGET_BIAS)[1] -= middle
    assert min(abs(margin - middle) for margin in margins) > 1e-4  # rounding decides nothing
    return [(mask, margin > middle) for mask, margin in zip(masks, margins, strict=True)]


def targets(numbers: Any) -> tuple[np.ndarray, np.ndarray]:
    """Merged mask (480, 480) and boxes (N, 4), both of the squeezed picture."""
    x, y = 480 / SIZE[1], 480 / SIZE[0]
    boxes = [(x * a, y * b, x * c, y * d) for a, b, c, d in (BOXES[number] for number in numbers)]
    merged = np.zeros((480, 480), bool)
    for a, b, c, d in boxes:
        drawn = coco_mask.frPyObjects([[a, b, c, b, c, d, a, d]], 480, 480)
        merged |= rle.decode(coco_mask.merge(drawn))
    return merged, np.array(boxes).reshape(-1, 4)


def invoke(dataset: Path, out: Path, grounder: Grounder, monkeypatch: pytest.MonkeyPatch) -> Any:
    def load(
        path: object, *, device: str, precision: str, engine: str, image_size: int
    ) -> Grounder:
        assert precision == "float32" and not image_size
        return grounder

    monkeypatch.setattr(Grounder, "from_checkpoint", load)
    app = typer.Typer(add_completion=False)
    app.command()(module.main)
    return CliRunner(env={"COLUMNS": "80"}).invoke(
        app, ["--dataset", str(dataset), "--size", "official", "--out", str(out)]
    )


def test_scores_equal_those_by_hand(
    dataset: Path,
    grounder: Grounder,
    squeezed: np.ndarray,
    decisions: list[tuple[np.ndarray, bool]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    masks, boxes, ranked = [], [], []
    texts = [text for text, _, _ in SAID]
    grounder.set_image(squeezed)
    grounder.thresholds = Thresholds()
    answers = grounder.ground(texts)
    grounder.thresholds = Thresholds(target=0.0, no_target=1.0)
    everything = grounder.ground(texts)
    for (_, numbers, _), (mask, refused), answer, regions in zip(
        SAID, decisions, answers, everything, strict=True
    ):
        merged, around = targets(numbers)
        nothing = not numbers
        masks.append(
            gres.score_expression(mask, merged, predicted_no_target=refused, no_target=nothing)
        )
        found = [thing.box for thing in answer.objects], [thing.score for thing in answer.objects]
        boxes.append(grec.score_expression(*found, around))
        low = [thing.box for thing in regions.objects], [thing.score for thing in regions.objects]
        ranked.append(RankedBoxes(*map(np.array, low), around))
    # Each of the four cases is there, and none is trivial.
    assert {(m.no_target, m.predicted_no_target) for m in masks} == set(
        itertools.product((True, False), repeat=2)
    )
    assert all(0 < mask.mean() < 1 for mask, _ in decisions)
    assert any(0 < m.iou < 1 for m in masks) and any(len(r.boxes) > 1 for r in ranked)

    out = tmp_path / "out"
    result = invoke(dataset, out, grounder, monkeypatch)
    assert result.exit_code == 0, result.output
    content = json.loads((out / "scores.json").read_text())
    assert (content["size"], content["decision"]) == ("official", "official")
    assert content["expressions"] == len(SAID)
    assert [answer["text"] for answer in content["answers"]] == texts
    assert [answer["refused"] for answer in content["answers"]] == [r for _, r in decisions]
    assert content["official"]["gres"] == gres.official_report(gres.summarise(masks))
    assert content["official"]["grec"] == grec.official_report(grec.summarise(boxes))
    assert content["overall"]["grec"]["ap50"] == average_precision(ranked)
    ciou = content["official"]["gres"]["cIoU"]
    assert f"cIoU {ciou:.4f}" in result.output
    assert "run lengths" not in result.output


def test_padding_is_part_of_the_official_input(
    grounder: Grounder, squeezed: np.ndarray, decisions: list[tuple[np.ndarray, bool]]
) -> None:
    """Regions attend to padding as well: without it the mask is another."""
    texts = [text for text, _, _ in SAID]
    by_decider = list(official_decider(grounder)(squeezed, texts))
    for (mask, refused), (expected, expected_refused) in zip(by_decider, decisions, strict=True):
        np.testing.assert_array_equal(mask, expected)
        assert refused == expected_refused
    tokens, words = grounder.tokenizer([texts[0]])
    with torch.inference_mode():
        out = grounder.model([torch.from_numpy(squeezed).permute(2, 0, 1)], tokens, words)
    unpadded, _ = official_decision(out, (480, 480))
    assert (unpadded[0].numpy() != decisions[0][0]).any()
