"""Mirrored pictures: what the words say stays true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grex_ros.model.config import RelaConfig
from tests.training.test_train import COLORS, make_dataset
from training.config import TrainConfig
from training.dataset.load import load_dataset
from training.dataset.mirror import mirrored_text
from training.dataset.samples import TrainingPictures
from training.train import load_pictures

WORDS = [
    "left",
    "right",
    "leftmost",
    "right-most",
    "left-hand",
    "leftward",
    "upright",
    "leftover",
    "cup",
    "of",
]


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("the leftmost cup", "the rightmost cup"),
        ("left-most cup, right-hand bowl", "right-most cup, left-hand bowl"),
        ("left of the plate on the right", "right of the plate on the left"),
        ("leftward of the most rightward cup", "rightward of the most leftward cup"),
        ("the second one from the right.", "the second one from the left."),
        ("an upright bottle with bright leftovers", "an upright bottle with bright leftovers"),
        ("the tallest bottle behind it", "the tallest bottle behind it"),
        ("the cup right next to the left bowl", "the cup right next to the right bowl"),
        ("the cup on the right next to the bowl", "the cup on the left next to the bowl"),
    ],
)
def test_left_and_right_change_places(text: str, mirrored: str) -> None:
    assert mirrored_text(text) == mirrored
    assert mirrored_text(mirrored) == text


@given(st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_twice_is_nothing(text: str) -> None:
    assert mirrored_text(mirrored_text(text)) == text
    assert len(mirrored_text(text).split()) == len(text.split())


@pytest.mark.parametrize("side", [160, 150])  # 150: a padded picture, and a cell cut in two
@pytest.mark.parametrize("zoom", [0.0, 1.0])
def test_boxes_and_masks_are_where_the_picture_shows_them(
    tmp_path: Path, side: int, zoom: float
) -> None:
    records = load_dataset(make_dataset(tmp_path / "squares", 1), "train")
    cfg = RelaConfig.preset("tabletop").replace(image_size=side)
    red_left = []
    for mirror in (0.0, 0.5, 1.0):
        source = TrainingPictures(records, cfg, 1, augment=False, zoom=zoom, mirror=mirror)
        rng = np.random.default_rng(0)
        for _ in range(20):
            sample = source.sample(0, rng)
            height, width = (4 * n for n in sample.truth.masks.shape[1:])
            for color, box, mask in zip(
                COLORS.values(), sample.truth.boxes, sample.truth.masks, strict=True
            ):
                off = sample.pixels.float() - torch.tensor(color)[:, None, None]
                y, x = torch.nonzero(off.abs().amax(0) < 60, as_tuple=True)
                centre = (float(x.float().mean()) + 0.5, float(y.float().mean()) + 0.5)
                told = box[:2] * torch.tensor([width, height])
                assert told.tolist() == pytest.approx(centre, abs=1.5)
                rows, columns = torch.nonzero(mask > 0.5, as_tuple=True)
                assert 4 * (columns.float().mean() + 0.5) == pytest.approx(centre[0], abs=2.5)
                assert 4 * (rows.float().mean() + 0.5) == pytest.approx(centre[1], abs=2.5)
            red, blue = sample.truth.boxes[:, 0]
            red_left.append(bool(red < blue))
    # The red square is on the left of the picture as it is.
    assert all(red_left[:20]) and not any(red_left[40:])
    assert 3 <= sum(red_left[20:40]) <= 17


def test_words_go_with_their_picture(tmp_path: Path) -> None:
    """A substituted expression too: what it names is not there on the other side either."""
    root = make_dataset(tmp_path / "squares", 1)
    file = root / "grefcoco" / "grefs(unc).json"
    file.write_text(file.read_text().replace("the red square", "the left square"))
    records = load_dataset(root, "train")
    cfg = RelaConfig.preset("tabletop").replace(image_size=64)
    source = TrainingPictures(records, cfg, 6, augment=False, mirror=0.5)
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(20):
        sample = source.sample(0, rng)
        for text, meant in zip(sample.texts, sample.truth.meant, strict=True):
            if "square" in text and meant.sum() == 1:
                centres = sample.truth.boxes[:, 0]
                named, other = centres[meant == 1], centres[meant == 0]
                assert (named < other) == (text == "the left square"), text
                seen.add(text)
    assert seen == {"the left square", "the right square"}


def test_the_config_asks_for_it(tmp_path: Path) -> None:
    root = str(make_dataset(tmp_path / "squares", 1))
    records = [load_dataset(root, "train")]
    for freeze, mirror in ((False, 0.4), (True, 0.0)):  # what is kept in memory has one look
        config = TrainConfig(dataset=root, steps=1, mirror=0.4, freeze_image=freeze)
        (source,) = load_pictures(records, config.rela, config).sources
        assert isinstance(source, TrainingPictures) and source.mirror == mirror
