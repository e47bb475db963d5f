"""Phrases that training never uses: they are new, they are true, and a dataset is made of them."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from grex_ros.scenes import vocabulary, wording
from grex_ros.scenes.expressions import compose
from grex_ros.scenes.objects import COLORS, KINDS
from grex_ros.scenes.programs import evaluate, is_clear
from tests.scenes.random_views import random_view
from training import generate
from training.dataset import paraphrase
from training.dataset.unseen_phrases import ENTRIES, UnseenWording

WORDING_FILES = (
    "expressions", "falsify", "nouns", "phrases", "sampling", "sentences", "vocabulary", "wording",
)  # fmt: skip
WORD = re.compile(r"[a-z]+(?:-[a-z]+)*")


def words_we_train_with() -> set[str]:
    """Every word in a string of the files that put programs into words: none is said but these."""
    folder = Path(wording.__file__).parent
    nouns = [name for names in vocabulary.NOUNS.values() for pair in names for name in pair]
    nouns += [vocabulary.plural(noun) for noun in (*KINDS, *vocabulary.ABSENT_NOUNS)]
    words = {word for name in (*nouns, *KINDS, *COLORS) for word in WORD.findall(name)}
    files = [folder / f"{name}.py" for name in WORDING_FILES]
    for file in (*files, Path(paraphrase.__file__)):
        for text in strings(ast.parse(file.read_text())):
            words |= set(WORD.findall(text.lower()))
    return words


def strings(tree: ast.AST) -> Iterator[str]:
    """All but the docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = list(ast.walk(tree))
    docs = {id(node.body[0].value) for node in nodes
            if isinstance(node, documented) and isinstance(node.body[0], ast.Expr)}  # fmt: skip
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def own_words(words: str) -> set[str]:
    """Without the slots; what is tied to a slot by a hyphen stays."""
    return set(WORD.findall(re.sub(r"\{\w+\}-?", " ", words)))


def test_all_that_we_say_is_of_the_words_we_train_with() -> None:
    """Else the next test would prove nothing."""
    known = words_we_train_with()
    for seed in range(25):
        rng = np.random.default_rng(seed)
        for expression in compose(random_view(seed), rng, 12, sentences=0.5):
            assert set(WORD.findall(expression.text)) <= known, expression.text


def test_a_hundred_phrases_each_with_a_word_that_training_never_says() -> None:
    known = words_we_train_with()
    assert len({entry.words for entry in ENTRIES}) == len(ENTRIES) == 100
    for entry in ENTRIES:
        assert own_words(entry.words) - known, entry


def test_every_phrase_is_used_and_true() -> None:
    setting, _ = generate.WORDINGS["unseen"]
    known = words_we_train_with()
    new = {entry.words: own_words(entry.words) - known for entry in ENTRIES}
    heard = Counter[str]()
    for seed in range(40):
        view = random_view(seed)
        for expression in compose(view, np.random.default_rng(seed), 12, setting=setting):
            assert evaluate(expression.program, view) == set(expression.targets), expression
            assert is_clear(expression.program, view)
            said = set(WORD.findall(expression.text))
            said |= {part for word in said for part in word.split("-")}
            fits = [words for words, marks in new.items() if marks <= said]
            assert fits, expression.text
            heard.update(fits)
    assert len(heard) > 80, sorted(set(new) - set(heard))


@pytest.mark.parametrize(
    ("program", "number", "says"),
    [
        (["color", ["kind", ["all"], "cup"], "red"], 1, "cup"),
        (["count", ["kind", ["all"], "cup"], 3], 3, "cups"),
        (["side", ["kind", ["all"], "knife"], "left"], 2, "knives"),
        (["except", ["all"], ["kind", ["all"], "cup"]], 4, "cup"),
    ],
)
def test_the_noun_has_the_right_number(program: list[object], number: int, says: str) -> None:
    for seed in range(20):
        said = UnseenWording(np.random.default_rng(seed), lambda _: 1).say(program, number)
        assert said is not None
        assert re.search(rf"\b{says}\b", said) or "every" in said, said


def test_what_no_phrase_fits_is_not_said() -> None:
    speaker = UnseenWording(np.random.default_rng(0), lambda _: 1)
    nested = [
        "relation",
        ["side", ["kind", ["all"], "cup"], "left"],
        "beside",
        ["kind", ["all"], "cup"],
    ]
    for program in (["all"], ["group", ["all"], "fruit"], nested):
        assert speaker.say(program, 1) is None


def test_the_other_wording_says_the_same_kind_of_things() -> None:
    """Scores on "seen" and "unseen" compare: like shares of every category and of no target."""
    shares = {}
    for name in ("seen", "unseen"):
        setting, _ = generate.WORDINGS[name]
        said = [
            expression
            for seed in range(25)
            for expression in compose(random_view(seed), np.random.default_rng(seed), 10,
                                      setting=setting)
        ]  # fmt: skip
        counted = Counter(e.category if e.targets else "none" for e in said)
        shares[name] = {key: number / len(said) for key, number in counted.items()}
    for key in shares["seen"]:
        assert abs(shares["seen"][key] - shares["unseen"].get(key, 0)) < 0.09, (key, shares)
    assert json.dumps(shares["seen"]) != json.dumps(shares["unseen"])
