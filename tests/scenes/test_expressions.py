"""Expressions over 200 views without pictures: what is said, is it so, and is it English?"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from grex_ros.scenes import vocabulary
from grex_ros.scenes.expressions import TABLETOP, Expression, compose, demo_commands
from grex_ros.scenes.nouns import COCO_KINDS
from grex_ros.scenes.objects import COLORS, KINDS
from grex_ros.scenes.programs import Program, evaluate, is_clear
from grex_ros.scenes.scene import ViewObject
from tests.scenes.listener import NoOpinionError, listen
from tests.scenes.random_views import random_view, seen

VIEWS, EACH = 200, 8

Said = tuple[list[ViewObject], Expression]


@functools.cache
def everything_said() -> tuple[Said, ...]:
    said = []
    for seed in range(VIEWS):
        view = random_view(seed)
        said += [(view, e) for e in compose(view, np.random.default_rng(seed), EACH)]
    return tuple(said)


def with_targets() -> list[Said]:
    return [(view, e) for view, e in everything_said() if e.targets]


def test_the_program_means_the_targets() -> None:
    for view, expression in everything_said():
        assert evaluate(expression.program, view) == set(expression.targets), expression
        assert list(expression.targets) == sorted(set(expression.targets))
        assert is_clear(expression.program, view), expression


def test_a_listener_agrees() -> None:
    understood = Counter[str]()
    for view, expression in everything_said():
        try:
            heard = listen(expression.text, view)
        except NoOpinionError:
            continue
        understood[expression.category] += 1
        assert heard == set(expression.targets), (expression, view)
    assert all(understood[category] > 40 for category in ("kind", "color", "and", "except")), (
        understood
    )


def test_every_clause_is_said() -> None:
    for _, expression in everything_said():
        for operation, word in clauses(expression.program):
            assert re.search(rf"\b(?:{spoken(operation, word)})\b", expression.text), expression


def spoken(operation: str, word: str) -> str:
    """A pattern of the words of which one at least must be heard."""
    if operation in ("kind", "group"):
        nouns = {**vocabulary.NOUNS, **vocabulary.GROUP_NOUNS}.get(word)
        names = [name for names in nouns for name in names[:2]] if nouns else [word]
        return "|".join(
            [*names, vocabulary.plural(word), "scissors" * (word == "scissors") or word]
        )
    patterns = {
        "gray": "gr[ae]y",
        "purple": "purple|violet",
        "front": "front|nearest|closest|forward",
        "back": "back|farthest|furthest|most distant",
        "behind": "behind|back of",
        "middle": "middle|center|central|between",
        "medium": "medium|mid-sized",
        "largest": "largest|biggest|larger|bigger|large|big",
        "smallest": "smallest|tiniest|littlest|smaller|small|little",
        "small": "small|little|tiny",
        "large": "large|big|huge",
        "beside": "next to|beside|near|close to|by",
        "nearest": "nearest|closest",
        "left": "left|leftmost|left-most",
        "right": "right|rightmost|right-most",
    }
    return patterns.get(word, word)


def test_singular_plural_and_counts_go_with_the_targets() -> None:
    numbers = {word: n for n, word in enumerate(vocabulary.NUMBERS) if n > 1}
    numbers |= {str(n): n for n in numbers.values()} | {"both": 2, "pair": 2}
    counted = 0
    for _, expression in with_targets():
        first = expression.text.split()[:3]
        number = len(expression.targets)
        claims = [numbers[word] for word in first if word in numbers]
        if claims and expression.program[0] == "count":
            counted += 1
            assert claims[0] == number, expression
        if first[0] in ("a", "an"):
            assert number == 1, expression
    assert counted > 60


def test_one_many_and_none_are_in_balance() -> None:
    sizes = Counter(min(len(expression.targets), 2) for _, expression in everything_said())
    total = sum(sizes.values())
    assert total > 0.95 * VIEWS * EACH
    assert 0.20 < sizes[0] / total < 0.30
    assert 0.28 < sizes[1] / total < 0.45
    assert 0.33 < sizes[2] / total < 0.50
    wrong_counts = sum(e.category == "count" for _, e in everything_said() if not e.targets)
    assert 0 < wrong_counts < 0.03 * total


def test_every_category_occurs() -> None:
    true = Counter(expression.category for _, expression in with_targets())
    assert set(true) == {
        "all", "kind", "color", "size", "count", "position", "relation", "and", "except",
    }  # fmt: skip
    assert min(true.values()) >= 5, true
    false = Counter(e.category for _, e in everything_said() if not e.targets)
    assert set(false) >= {"absent", "color", "kind", "count", "position", "relation", "reference"}


def test_what_is_falsified() -> None:
    strata = Counter[str]()
    absurd = 0
    for view, expression in everything_said():
        strata[expression.falsified] += 1
        assert (expression.falsified == "") == bool(expression.targets)
        named = dict(clauses(expression.program))
        kind = named.get("kind", "")
        if expression.falsified == "easy":
            meant = {kind} | vocabulary.GROUPS.get(named.get("group", ""), frozenset())
            assert not meant & {o.kind for o in view}, expression
            absurd += kind in vocabulary.ABSENT_NOUNS
        if expression.falsified == "deceptive":
            assert kind not in vocabulary.ABSENT_NOUNS
    none = strata["easy"] + strata["deceptive"]
    assert strata["deceptive"] > 1.5 * strata["easy"]
    assert 0.05 < absurd / none < 0.16


def test_one_changed_clause_makes_a_deceptive_expression_true() -> None:
    for view, expression in everything_said():
        if expression.falsified == "deceptive":
            assert any(evaluate(p, view) for p in neighbours(expression.program)), expression


def test_it_is_english() -> None:
    for _, expression in everything_said():
        text = expression.text
        assert text == " ".join(text.split()) == text.strip(), text
        assert re.fullmatch(r"[a-z0-9][a-z0-9 ,\-]*", text), text
        for article, word in re.findall(r"\b(an?) (\w+)", text):
            assert (article == "an") == (word[0] in "aeiou" and word != "unicorn"), text
            assert not re.fullmatch(PLURALS, word), text
        assert not re.search(rf"\b(?:every|each)(?: \w+)? {PLURALS}\b", text), text
        alone = re.sub(r"\bboth the (.* and the )", r"the \1", text)  # "both the cup and the can"
        assert not re.search(rf"\b(?:all|both)(?: of)?(?: the)?(?: \w+)? {SINGULARS}\b", alone), (
            text
        )
        assert not re.search(rf"{PLURALS} that is\b|\b{SINGULARS} that are\b", text), text
        assert not re.search(r"\b(\w+) \1\b(?<!orange orange)", text), text
        assert not re.search(r"\bevery thing|\b(?:of|that|and|the)$", text), text


# Words that are both, such as "fish", and nouns that are also colours say nothing here.
PLURALS = "(?:" + "|".join(sorted(
    {many for kind in KINDS for _, many in vocabulary.NOUNS[kind] if " " not in many}
    | {many for _, many in vocabulary.THING_NOUNS}
)) + ")"  # fmt: skip
SINGULARS = "(?:" + "|".join(sorted(
    {one for kind in KINDS for one, _ in vocabulary.NOUNS[kind] if " " not in one}
    - set(COLORS) - {"tin"}
)) + ")"  # fmt: skip


def test_the_same_seed_says_the_same() -> None:
    view = random_view(3)
    first, second = (compose(view, np.random.default_rng(8), 20) for _ in range(2))
    assert first == second
    other = compose(view, np.random.default_rng(9), 20)
    assert {e.text for e in first} != {e.text for e in other}


def test_nothing_is_said_twice() -> None:
    for seed in range(6):
        texts = [e.text for e in compose(random_view(seed), np.random.default_rng(seed), 30)]
        assert len(texts) == len(set(texts))


def test_a_hidden_object_decides_nothing() -> None:
    view = [
        seen(1, "cup", "red", -0.25, 0.0),
        seen(2, "cup", "red", 0.25, 0.0, visible=0.2),
        seen(3, "bowl", "blue", 0.0, 0.1),
    ]
    for expression in compose(view, np.random.default_rng(0), 60):
        assert 2 not in expression.targets, expression
        assert expression.text not in ("the red cup", "the cup", "all cups", "everything")


def test_no_share_without_a_target() -> None:
    view = random_view(1)
    assert all(e.targets for e in compose(view, np.random.default_rng(0), 20, no_target=0.0))
    assert not any(e.targets for e in compose(view, np.random.default_rng(0), 20, no_target=1.0))


def test_an_empty_view_has_only_absent_things() -> None:
    expressions = compose([], np.random.default_rng(0), 5)
    assert expressions
    assert all(e.falsified == "easy" and not e.targets for e in expressions)


def test_every_kind_has_words() -> None:
    assert set(KINDS) <= set(vocabulary.NOUNS)
    names = Counter(name for kind in KINDS for pair in vocabulary.NOUNS[kind] for name in pair)
    assert max(names.values()) == 1
    assert not set(names) & set(vocabulary.ABSENT_NOUNS)
    assert len(set(vocabulary.ABSENT_NOUNS)) == len(vocabulary.ABSENT_NOUNS) > 150
    grouped = {kind for kinds in vocabulary.GROUPS.values() for kind in kinds}
    assert grouped <= {*KINDS, *COCO_KINDS} <= set(vocabulary.NOUNS)


def crowded_table() -> list[ViewObject]:
    return [
        seen(1, "cup", "red", -0.3, 0.05),
        seen(2, "cup", "red", -0.1, -0.2),
        seen(3, "cup", "blue", 0.05, 0.25),
        seen(4, "bowl", "blue", 0.2, -0.1),
        seen(5, "bottle", "green", 0.32, 0.2),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_demo_commands_cover_what_the_demo_shows(seed: int) -> None:
    view = crowded_table()
    commands = demo_commands(view, np.random.default_rng(seed))
    texts, expressions = zip(*commands, strict=True)
    assert texts[0] == "pick up all red cups"
    kinds = [(e.category, min(len(e.targets), 2), e.falsified) for e in expressions]
    assert kinds[0] == ("color", 2, "")
    assert kinds[1][1] == 1
    assert texts[1].startswith("give me the ")
    assert kinds[2][:2] == ("count", 2)
    assert kinds[3][0] in ("position", "relation")
    assert kinds[4][:2] == ("and", 2)
    assert kinds[5] == ("absent", 0, "easy")
    assert kinds[6] == ("color", 0, "deceptive")
    for text, expression in commands:
        assert text.endswith(" " + expression.text)
        assert evaluate(expression.program, view) == set(expression.targets)


def test_demo_commands_are_six_or_more_in_nearly_every_view() -> None:
    numbers = [
        len(demo_commands(random_view(seed), np.random.default_rng(seed))) for seed in range(60)
    ]
    assert sum(number >= 6 for number in numbers) >= 57, numbers


def clauses(program: Program) -> Iterator[tuple[str, str]]:
    """Every operation of a program that has a word, with that word."""
    for part in program[1:]:
        if isinstance(part, list):
            yield from clauses(part)
        elif isinstance(part, str):
            yield program[0], part


def neighbours(program: Program) -> Iterator[Program]:
    """Every program with one word or number other than in this one."""
    operation, *arguments = program
    words: dict[str, Sequence[object]] = {
        "kind": KINDS,
        "color": tuple(COLORS),
        "group": tuple(vocabulary.GROUPS),
        "size": ("small", "medium", "large"),
        "side": ("left", "right"),
        "relation": ("left", "right", "front", "behind"),
        "count": range(1, 11),
        "nth": range(1, 6),
    }
    for place, argument in enumerate(arguments, 1):
        if isinstance(argument, list):
            others: list[object] = list(neighbours(argument))
        else:
            others = [word for word in words.get(operation, ()) if type(word) is type(argument)]
        yield from ([*program[:place], other, *program[place + 1 :]] for other in others)


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("cup", "cups"), ("box", "boxes"), ("cherry", "cherries"), ("toy", "toys"),
        ("knife", "knives"), ("roll of tape", "rolls of tape"), ("coffee mug", "coffee mugs"),
        ("bread", "bread"), ("peanut butter", "peanut butter"),
        ("slice of bread", "slices of bread"),
        ("black pepper", "black pepper"), ("bell pepper", "bell peppers"),
        ("bay leaf", "bay leaves"), ("tomato", "tomatoes"), ("calipers", "calipers"),
    ],
)  # fmt: skip
def test_plurals(one: str, many: str) -> None:
    assert vocabulary.plural(one) == many


def test_what_is_emphasised_is_said_more_often_true_and_false() -> None:
    def count(emphasis: dict[str, float]) -> Counter[tuple[str, bool]]:
        setting = replace(TABLETOP, emphasis=emphasis)
        said = Counter[tuple[str, bool]]()
        for seed in range(40):
            rng = np.random.default_rng(seed)
            for expression in compose(random_view(seed), rng, EACH, setting=setting):
                said[expression.category, bool(expression.targets)] += 1
        return said

    usual, changed = count({}), count({"relation": 9.0})
    assert changed["relation", True] > 1.5 * usual["relation", True] > 0
    assert changed["relation", False] > 1.5 * usual["relation", False] > 0
    assert changed["kind", True] / changed.total() < usual["kind", True] / usual.total()
