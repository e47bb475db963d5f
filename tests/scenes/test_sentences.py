"""Whole sentences around expressions, and several expressions for one set."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import numpy as np

from grex_ros.grounding.command import parse_command
from grex_ros.scenes.expressions import compose
from grex_ros.scenes.programs import evaluate, is_clear
from grex_ros.scenes.sentences import dress
from tests.scenes.random_views import random_view, seen


def test_a_share_of_the_expressions_is_inside_a_sentence_and_means_the_same() -> None:
    bare, whole = Counter[str](), Counter[str]()
    for seed in range(30):
        view = random_view(seed)
        for expression in compose(view, np.random.default_rng(seed), 10, sentences=0.3):
            assert evaluate(expression.program, view) == set(expression.targets)
            words = re.match(
                r"(?:please|could|can|would|will|do|i|i'm|i'd|we|where|where's|"
                r"[a-z]+(?: (?:up|me|at|to|for|away))*) (?=the |all |every|each|any|both|an? )",
                expression.text,
            )
            (whole if words else bare)[expression.category] += 1
    assert 0.15 < sum(whole.values()) / (sum(whole.values()) + sum(bare.values())) < 0.4


def test_the_expression_can_be_taken_out_of_its_sentence() -> None:
    """The node hears the expression, whatever is around it."""
    rng = np.random.default_rng(0)
    lost = []
    for text, number in (("the red cup", 1), ("all cups", 3), ("both blue bowls", 2)) * 60:
        sentence = dress(text, number, rng)
        assert text in sentence
        command = parse_command(sentence)
        if command is None or command.expression != text:
            lost.append(sentence)
    assert len(lost) < 0.06 * 180, lost


def test_where_agrees_in_number() -> None:
    rng = np.random.default_rng(1)
    for text, number, verb in (("the red cup", 1, "is|'s"), ("the red cups", 2, " are")):
        asked = [s for _ in range(200) if (s := dress(text, number, rng)).startswith("where")]
        assert len(asked) > 10
        assert all(re.match(rf"where ?(?:{verb}) {text}", s) for s in asked), asked


def test_nobody_lifts_what_is_in_a_photograph() -> None:
    rng = np.random.default_rng(2)
    said = " ".join(dress("the car", 1, rng, hands=False) for _ in range(300))
    assert not re.search(r"\b(?:pick|grab|hand|bring|lift|pass)\b", said)


def test_a_set_of_targets_is_said_in_three_ways() -> None:
    enough = sets = 0
    for seed in range(25):
        view = random_view(seed)
        said = defaultdict(set)
        for expression in compose(view, np.random.default_rng(seed), 15, references=3):
            assert evaluate(expression.program, view) == set(expression.targets)
            assert is_clear(expression.program, view)
            if expression.targets:
                said[expression.targets].add(expression.text)
        sets += len(said)
        enough += sum(len(texts) >= 3 for texts in said.values())
    assert enough > 0.75 * sets, (enough, sets)


def test_several_references_leave_the_share_without_a_target() -> None:
    said = [
        e
        for seed in range(30)
        for e in compose(random_view(seed), np.random.default_rng(seed), 12, 0.3, references=3)
    ]
    assert 0.2 < sum(not e.targets for e in said) / len(said) < 0.42


def test_a_shared_colour_is_said_once() -> None:
    """ "the red cup and bowl": never a blue one of them."""
    view = [
        seen(1, "cup", "red", -0.3, 0.0),
        seen(2, "bowl", "red", 0.0, 0.0),
        seen(3, "bowl", "blue", 0.3, 0.0),
    ]
    texts = set()
    for seed in range(40):
        for expression in compose(view, np.random.default_rng(seed), 30, 0.0):
            if expression.program[0] == "color" and expression.program[1][0] == "or":
                assert expression.targets == (1, 2)
                assert expression.text.count("red") == 1
                texts.add(expression.text)
    assert len(texts) >= 3, texts
    assert {"the red cup and bowl", "the red bowl and cup"} & texts
