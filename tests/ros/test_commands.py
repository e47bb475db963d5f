"""The command in force and whether it has been answered."""

from __future__ import annotations

import pytest
from std_msgs.msg import Header

from grex_ros.grounding.objects import Grounding, Status
from grex_ros.ros.commands import CommandInForce
from grex_ros.ros.messages import Answer, ReceivedCommand


def answer(command: ReceivedCommand | None, status: Status) -> Answer:
    grounding = Grounding("", status, "because", 0.0, (), (1, 1), 0.0)
    return Answer(Header(), command, grounding, 0.0, 0.0, "")


def test_every_command_has_an_id_of_its_own() -> None:
    first, second = CommandInForce(), CommandInForce()
    ids = [place.read("the cup").id for place in (first, second) for _ in range(100)]
    assert len(set(ids)) == 200
    assert all(ids)


def test_the_newest_is_in_force_even_if_it_cannot_be_read() -> None:
    commands = CommandInForce()
    assert commands.current is None
    good = commands.receive("pick up the red cup")
    assert good.meaning is not None
    assert good.meaning.expression == "the red cup"
    bad = commands.receive("x" * 10_000)
    assert commands.current is bad
    assert bad.meaning is None
    assert bad.error.endswith(".")
    empty = commands.receive("  ")
    assert (empty.meaning, empty.error) == (None, "")
    assert commands.current is empty
    commands.clear()
    assert commands.current is None


def test_reading_puts_nothing_in_force() -> None:
    commands = CommandInForce()
    held = commands.receive("the red cup")
    commands.read("the blue cup")
    assert commands.current is held


@pytest.mark.parametrize("status", list(Status)[1:])
def test_a_command_is_closed_by_an_answer_about_itself(status: Status) -> None:
    commands = CommandInForce()
    command = commands.receive("the red cup")
    assert commands.open
    commands.answered(answer(command, status))
    unusable = (Status.STALE_IMAGE, Status.INVALID_IMAGE, Status.ERROR)
    assert commands.open == (status in unusable)


def test_the_answer_to_an_older_command_closes_nothing() -> None:
    commands = CommandInForce()
    older = commands.receive("the red cup")
    commands.receive("the blue cup")
    commands.answered(answer(older, Status.TARGETS))
    assert commands.open
