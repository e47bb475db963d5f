"""GREG scores against values computed by hand, and the published METEOR example."""

from __future__ import annotations

import math
import sys

import pytest

from grex_ros.metrics.greg import (
    GregSample,
    implementations,
    load_scorers,
    same_set,
    summarise,
    tokenize,
)


def test_words_are_lower_case_without_punctuation() -> None:
    assert tokenize("The girl's RED-handled cup, please!") == [
        *("the", "girl's", "red", "handled", "cup", "please")
    ]
    assert tokenize("3 Aepfel_2 caf\u00e9 ' -- ?") == ["3", "aepfel", "2", "caf\u00e9"]


def test_bleu_is_that_of_the_corpus() -> None:
    """7 of 8 words are in their references, 4 of 6 pairs, 2 of 4 triples, 1 of 2 quadruples."""
    samples = [
        GregSample("the red cup left", ("the red cup right", "cups"), 1),
        GregSample("both cups at left", ("both cups at left",), 2),
    ]
    hits = [7 / 8, 5 / 6, 3 / 4, 1 / 2]
    scores = summarise(samples)["overall"]
    found = (scores.bleu1, scores.bleu2, scores.bleu3, scores.bleu4)
    expected = [100 * math.prod(hits[:n]) ** (1 / n) for n in (1, 2, 3, 4)]
    assert found == pytest.approx(expected, rel=1e-5)
    # Words from any of the references count; a short expression is punished by its length.
    any_of = GregSample("red cup", ("a red one", "the cup"), 1)
    assert summarise([any_of])["overall"].bleu1 == pytest.approx(100, rel=1e-5)
    short = GregSample("red", ("red cup there",), 1)
    assert summarise([short])["overall"].bleu1 == pytest.approx(100 * math.exp(-2), rel=1e-5)


def test_rouge_takes_the_best_precision_and_recall() -> None:
    """Longest common run "the cup": precision 2/3, recall 2/2 of the other reference's words."""
    sample = GregSample("the red cup", ("a green the plate cup", "the cup"), 1)
    precision, recall, beta = 2 / 3, 1.0, 1.2
    expected = (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
    assert summarise([sample])["overall"].rouge_l == pytest.approx(100 * expected)


def test_meteor_matches_stems_and_knows_no_synonyms() -> None:
    # Lavie and Agarwal 2007, the example of nltk's documentation.
    said = "It is a guide to action which ensures that the military always obeys the commands of"
    meant = (
        "It is a guide to action that ensures that the military will forever heed Party commands"
    )
    sample = GregSample(f"{said} the party", (meant, "another"), 1)
    assert summarise([sample])["overall"].meteor == pytest.approx(69.44, abs=0.01)
    stems = summarise([GregSample("two cups", ("two cup",), 1)])["overall"]
    assert stems.meteor == pytest.approx(100 * (1 - 0.5 * (1 / 2) ** 3))  # one chunk of two words
    assert summarise([GregSample("mug", ("cup",), 1)])["overall"].meteor == 0.0


def test_cider_weighs_rare_words() -> None:
    """Two sets: a word said of both weighs log(2/2) = 0, one said of one only log 2."""
    samples = [
        GregSample("the cup", ("the cup",), 1),
        GregSample("the cup", ("the plate",), 1),
    ]
    # First: "cup" and "the cup" equal the reference, 3 and 4 words are not there: (1 + 1) / 4 * 10.
    scores = summarise(samples)["overall"]
    assert scores.cider == pytest.approx(100 * (5.0 + 0.0) / 2)
    assert summarise(samples[:1])["overall"].cider is None


def test_scores_by_kind_add_up() -> None:
    samples = [
        GregSample("the red cup", ("the red cup", "a red cup"), 1, True),
        GregSample("the bowl", ("the blue bowl",), 1, False),
        GregSample("both cups", ("the two cups", "both cups"), 2, True),
    ]
    scores = summarise(samples)
    assert list(scores) == ["overall", "single", "multi"]
    assert [s.expressions for s in scores.values()] == [3, 2, 1]
    assert scores["overall"].references == pytest.approx(5 / 3)
    assert scores["single"].consistency == 50.0 and scores["multi"].consistency == 100.0
    for name in ("rouge_l", "meteor", "cider", "consistency"):
        single, multi = (getattr(scores[kind], name) for kind in ("single", "multi"))
        assert getattr(scores["overall"], name) == pytest.approx((2 * single + multi) / 3), name
    asked = summarise([GregSample("a cup", ("a cup",), 1)])["overall"]
    assert asked.consistency is None


def test_nothing_and_silence() -> None:
    nothing = summarise([])["overall"]
    assert nothing.expressions == 0 and nothing.bleu4 is nothing.cider is None
    silent = summarise([GregSample("", ("the cup",), 1), GregSample("?", ("a",), 1)])["overall"]
    assert silent.rouge_l == silent.meteor == silent.cider == 0.0
    assert silent.bleu1 == pytest.approx(0, abs=1e-6)


def test_samples_that_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="no reference with a word"):
        summarise([GregSample("the cup", ("...", ""), 1)])
    with pytest.raises(ValueError, match="one object or more"):
        summarise([GregSample("the cup", ("no cup",), 0)])


A, B, SHIFTED = (0, 0, 10, 10), (20, 0, 30, 10), (0, 0, 10, 19)  # SHIFTED: IoU 10 / 19 with A


@pytest.mark.parametrize(
    ("boxes", "same"),
    [
        ([B, A], True),
        ([B, SHIFTED], True),
        ([A], False),
        ([A, A], False),
        ([A, B, (50, 50, 60, 60)], False),
        ([A, (20, 0, 30, 21)], False),
        ([], False),
    ],
)
def test_the_same_set_has_the_same_boxes(boxes: list, same: bool) -> None:
    assert same_set(boxes, [A, B]) is same


def test_every_implementation_is_named() -> None:
    named = implementations()
    assert named["METEOR"].startswith("nltk ") and "no WordNet" in named["METEOR"]
    for score in ("BLEU", "ROUGE-L", "CIDEr"):
        assert named[score].startswith("pycocoevalcap 1")


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocoevalcap.cider.cider", None)
    with pytest.raises(ImportError, match="pip install nltk pycocoevalcap"):
        load_scorers()
