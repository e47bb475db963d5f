"""Commands that cannot be used are answered with the reason; the next good one is grounded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from grex_ros.msg import Grounding as G
from rclpy.context import Context
from std_msgs.msg import String

from tests.ros.color_grounder import picture
from tests.ros.graph import LATCHED, Graph

RED = picture(("red", 8, 8, 20, 16))


@pytest.fixture(scope="module")
def graph(ros_context: Context) -> Iterator[Graph]:
    graph = Graph(ros_context, max_image_age=0.0)
    yield graph
    graph.close()


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", G.NO_COMMAND),
        (" \t\n ", G.NO_COMMAND),
        ("red " * 2500, G.INVALID_COMMAND),
        ("the red\x00cup", None),
        ("\x1b[31m\x07\x08", G.INVALID_COMMAND),
        ("возьми красную чашку", G.INVALID_COMMAND),
        ("赤いカップを取って", G.INVALID_COMMAND),
        ("pick up", G.INVALID_COMMAND),
        ("grab", G.INVALID_COMMAND),
        ("!!!???", G.INVALID_COMMAND),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_each_is_answered_and_the_next_good_one_is_grounded(
    graph: Graph, text: str, status: int | None
) -> None:
    graph.say(text)
    for _ in range(2):  # latched: every following frame says so
        header = graph.peer.show(RED)
        answer = graph.answers.next()
        assert answer.header == header
        assert answer.command_id == graph.command_id()
        if status is None:  # ROS strings end at NUL or keep it; either way there is an answer
            assert answer.status in (G.TARGETS, G.INVALID_COMMAND)
            continue
        assert answer.command == text
        assert answer.status == status
        assert answer.status_message.endswith(".")
        assert answer.status_message.isprintable()
        assert list(answer.objects) == []
        assert answer.expression == ""
    graph.say("pick up the red cup")
    graph.peer.show(RED)
    assert graph.answers.next().status == G.TARGETS


def test_a_refused_command_takes_the_old_one_out_of_force(graph: Graph) -> None:
    graph.say("the red cup")
    graph.peer.show(RED)
    assert graph.answers.next().status == G.TARGETS
    graph.say("pick up")
    told = graph.peer.listen(String, "grex/current_command", LATCHED)
    assert told.next().data == "pick up"
    graph.peer.show(RED)
    assert graph.answers.next().status == G.INVALID_COMMAND


def test_a_flood_of_commands_ends_with_the_last(graph: Graph) -> None:
    for number in range(200):
        graph.peer.say(f"the red cup number {number}")
    last = "the blue cup"
    graph.peer.say(last)
    for _ in range(100):
        graph.peer.show(RED)
        answer = graph.answers.next()
        if answer.command == last:
            assert answer.status == G.NO_TARGET
            return
    pytest.fail("the last command never came into force")
