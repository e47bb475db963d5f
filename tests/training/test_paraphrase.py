"""Paraphrases: other words, the same meaning, in a share of what a run hears."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from grex_ros.model.config import RelaConfig
from grex_ros.scenes.expressions import compose
from tests.scenes.random_views import random_view
from tests.training.test_mixture import record
from training.dataset import paraphrase
from training.dataset.mirror import mirrored_text
from training.dataset.paraphrase import WAYS, paraphrased
from training.dataset.samples import TrainingPictures

CFG = RelaConfig.preset("tabletop").replace(image_size=160)


def all_of(text: str) -> set[str]:
    """What is made of the text, whatever is drawn."""
    return {paraphrased(text, np.random.default_rng(seed)) for seed in range(1500)}


@pytest.mark.parametrize(
    ("text", "some"),
    [
        ("the leftmost cup", "the extreme left cup"),
        ("the bottles to the right of the pan", "the flasks more to the right than the skillet"),
        ("can you bring me both scissors, please", "can you deliver both shears, kindly"),
        ("a watch in the upper half", "a timepiece in the upper area"),
        ("a huge red bus", "an enormous reddish coach"),
        ("every animal that is not gray", "each and every creature that isn't gray"),
        ("the two cats at the bottom", "the two felines in the lower area"),
        ("the box nearest to the hat", "the box most close to the hat"),
        ("the box nearest to us", "the box in the foreground"),
    ],
)  # fmt: skip
def test_what_is_said_otherwise(text: str, some: str) -> None:
    found = all_of(text)
    assert {text, some} <= found


@pytest.mark.parametrize(
    "text",
    [
        "hot dog",  # no dog
        "teddy bear on the left side of the table",  # of the table, not of the picture
        "can of soup",
        "the ball",  # may be a sports ball, too
        "the nearest unicorn",  # nearest the camera, and nothing else is named
    ],
)
def test_what_is_said_in_one_way(text: str) -> None:
    assert all_of(text) == {text}


def test_no_way_leads_to_another_side_colour_or_size() -> None:
    """Of two words of which one excludes the other, none stands for the other, nor does a way that
    holds it."""
    opposite = (
        ("left", "right"), ("top", "bottom"), ("upper", "lower"), ("up", "down"), ("big", "small"),
        ("near", "far"), ("front", "back"), ("red", "green", "blue", "yellow", "white", "black"),
    )  # fmt: skip
    for said, ways in WAYS.items():
        for words in opposite:
            for word in words:
                if re.search(rf"\b{word}", said):
                    others = [other for other in words if other != word]
                    for way in ways:
                        assert not re.search(rf"(?<!not )\b({'|'.join(others)})", way), (said, way)


def test_every_way_is_listed_once() -> None:
    """A second list would take the place of the first."""
    lists = paraphrase._LEFT + paraphrase._UP + paraphrase._WORDS
    lines = re.sub(r"\n +", " ", lists).splitlines()
    said = [words for line in lines for words in line.partition(":")[0].split(", ") if words]
    kinds = re.findall(r"([\w ]+): ", " ".join(paraphrase._NOUNS.split()))
    for listed in (said, kinds):
        assert len(listed) > 50
        assert not [words for words, count in Counter(listed).items() if count > 1]


def test_left_and_right_have_the_same_ways() -> None:
    for said, ways in WAYS.items():
        if "left" in said:
            other = [way.replace("left", "right") for way in ways]
            assert list(WAYS[said.replace("left", "right")]) == other, said


def test_a_mirrored_picture_mirrors_what_is_exchanged() -> None:
    """Words are exchanged first, and then mirrored with their picture."""
    for said, ways in WAYS.items():
        assert tuple(map(mirrored_text, ways)) == WAYS[mirrored_text(said)], said


def test_the_number_stays() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        for expression in compose(random_view(seed), rng, 12):
            said = paraphrased(expression.text, rng)
            for number in ("two", "three", "four", "five"):
                assert bool(re.search(rf"\b{number}\b", expression.text)) <= (
                    bool(re.search(rf"\b{number}\b", said))
                ), (expression.text, said)
            assert not re.search(r"\ba [aeio]|\ban [^aeiou]", said), said


def test_a_share_of_expressions_is_reworded_and_means_the_same() -> None:
    cups = [record(i, ["comb", "pan"], [("the comb", [0]), ("the pan", [1])]) for i in range(50)]
    rng = np.random.default_rng(0)
    for share in (0.0, 0.4):
        source = TrainingPictures(cups, CFG, 4, augment=False, paraphrase=share)
        reworded = 0
        for _ in range(20):
            for index in range(50):
                said = source.said(index, rng)
                for text, meant in zip(said.texts, said.meant.tolist(), strict=True):
                    assert meant == ([1, 0] if "comb" in text else [0, 1])
                    reworded += text in ("the hair comb", "the skillet")
        assert reworded / 4000 == pytest.approx(share / 2, abs=0.025)
