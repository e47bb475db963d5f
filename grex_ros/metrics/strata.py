"""Scores of each kind of expression: those that mean one object, several, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Sample = TypeVar("Sample")
Scores = TypeVar("Scores")

KINDS = ("single", "multi", "no-target")


def kind(targets: int) -> str:
    """What an expression with so many targets is called."""
    return {0: "no-target", 1: "single"}.get(targets, "multi")


def summarise_each(
    samples: Iterable[Sample],
    targets: Iterable[int],
    summarise: Callable[[list[Sample]], Scores],
) -> dict[str, Scores]:
    """Scores by kind in the order of KINDS; a kind without expressions is left out.

    ``targets`` says how many objects each sample's expression means; ``summarise`` is that of gres
    or grec, or ``average_precision``. Raises ValueError if the two differ in length.
    """
    members: dict[str, list[Sample]] = {name: [] for name in KINDS}
    for sample, number in zip(samples, targets, strict=True):
        members[kind(number)].append(sample)
    return {name: summarise(chosen) for name, chosen in members.items() if chosen}
