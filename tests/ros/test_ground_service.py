"""The service ~/ground: beside the command in force, never waiting in the executor."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from grex_ros.msg import Grounding as G
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from grex_ros.ros.conversions import to_image
from grex_ros.ros.worker import MAX_JOBS
from tests.ros.color_grounder import ColorGrounder, picture
from tests.ros.graph import Graph, result, wait_until

MakeGraph = Callable[..., Graph]
RED = picture(("red", 8, 8, 20, 16))
BLUE = picture(("blue", 8, 8, 20, 16))


def test_with_an_image_of_its_own(make_graph: MakeGraph) -> None:
    graph = make_graph()
    image = to_image(BLUE, graph.peer.header())
    answer = result(graph.peer.ask("fetch the blue cup", image)).grounding
    assert (answer.status, answer.header) == (G.TARGETS, image.header)
    assert (answer.action, answer.expression) == ("fetch", "the blue cup")
    assert answer.command_id
    assert graph.answers.silent(0.1)  # the answer goes to the caller alone


def test_an_image_from_a_file_has_no_stamp(make_graph: MakeGraph) -> None:
    graph = make_graph()
    image = to_image(BLUE, Header(frame_id="file"))
    assert result(graph.peer.ask("the blue cup", image)).grounding.status == G.TARGETS


def test_without_an_image_the_newest_frame_is_taken(make_graph: MakeGraph) -> None:
    graph = make_graph()
    graph.say("the red cup")
    graph.peer.show(BLUE)
    header = graph.peer.show(RED)
    in_force = graph.answers.until(lambda answer: answer.header == header)
    answer = result(graph.peer.ask("the blue cup")).grounding
    assert answer.header == header
    assert answer.status == G.NO_TARGET
    assert answer.command_id != in_force.command_id
    graph.peer.show(RED)
    after = graph.answers.next()
    assert (after.command, after.command_id) == ("the red cup", in_force.command_id)


def test_the_answer_goes_out_when_it_is_ready(make_graph: MakeGraph) -> None:
    graph = make_graph()
    image = to_image(BLUE, graph.peer.header())
    durations = []
    for _ in range(5):
        begin = time.monotonic()
        assert result(graph.peer.ask("the blue cup", image)).grounding.status == G.TARGETS
        durations.append(time.monotonic() - begin)
    # Not when the executor wakes up for something else, once a second.
    assert sorted(durations)[2] < 0.25


def test_a_frame_is_encoded_once_for_all_commands(make_graph: MakeGraph) -> None:
    grounder = ColorGrounder()
    graph = make_graph(lambda settings: grounder)
    graph.say("the red cup")
    graph.peer.show(RED)
    graph.answers.next()
    encoded = grounder.images_encoded
    for text in ("the blue cup", "the green cup"):
        assert result(graph.peer.ask(text)).grounding.status == G.NO_TARGET
    assert grounder.images_encoded == encoded


def test_a_call_waits_for_the_next_frame_and_nobody_else_does(make_graph: MakeGraph) -> None:
    graph = make_graph(max_image_age=5.0)
    graph.say("the red cup")
    old = graph.peer.header()
    old.stamp.sec -= 10
    graph.peer.show(BLUE, old)
    assert graph.answers.next().status == G.STALE_IMAGE
    call = graph.peer.ask("the red cup")
    graph.say("the green cup")  # commands, parameters and other calls are served meanwhile
    assert graph.set(target_threshold=0.25)[0].successful
    image = to_image(BLUE, graph.peer.header())
    assert result(graph.peer.ask("the blue cup", image)).grounding.status == G.TARGETS
    assert not call.done()
    header = graph.peer.show(RED)
    answer = result(call).grounding
    assert (answer.status, answer.header) == (G.TARGETS, header)


@pytest.mark.parametrize("stale", [False, True])
def test_a_call_without_frames_is_answered_after_a_while(
    make_graph: MakeGraph, stale: bool
) -> None:
    graph = make_graph(service_timeout=0.3, max_image_age=0.1)
    header = Header()
    if stale:
        header = graph.peer.show(RED)
        graph.answers.next()
        time.sleep(0.2)
    answer = result(graph.peer.ask("the red cup")).grounding
    assert (answer.status, answer.header) == (G.STALE_IMAGE, header)
    assert answer.expression == "the red cup"
    wanted = "max_image_age is 0.1 s" if stale else f"on {graph.namespace}/image within 0.3 s"
    assert wanted in answer.status_message
    timers = len(list(graph.node.timers))
    wait_until(lambda: len(list(graph.node.timers)) <= timers, "the end of the call's timer")


@pytest.mark.parametrize(
    ("text", "status"),
    [("", G.NO_COMMAND), ("   ", G.NO_COMMAND), ("x" * 10_000, G.INVALID_COMMAND)],
)
def test_commands_that_name_nothing(make_graph: MakeGraph, text: str, status: int) -> None:
    graph = make_graph()
    answer = result(graph.peer.ask(text, to_image(RED, graph.peer.header()))).grounding
    assert (answer.status, answer.command) == (status, text)
    assert answer.status_message


def test_bad_images(make_graph: MakeGraph) -> None:
    graph = make_graph()
    bad = Image(header=graph.peer.header(), height=4, width=4, encoding="rgb8", step=12)
    answer = result(graph.peer.ask("the red cup", bad)).grounding
    assert (answer.status, answer.header) == (G.INVALID_IMAGE, bad.header)
    assert "truncated" in answer.status_message


def test_a_node_that_is_not_active_says_so(make_graph: MakeGraph) -> None:
    graph = make_graph(autostart=False, await_active=False)
    wait_until(graph.peer.client.service_is_ready, "the service")
    answer = result(graph.peer.ask("the red cup")).grounding
    assert answer.status == G.ERROR
    assert "unconfigured" in answer.status_message
    assert f"ros2 lifecycle set {graph.namespace}/grex configure" in answer.status_message
    graph.change("configure")
    answer = result(graph.peer.ask("the red cup")).grounding
    assert "inactive" in answer.status_message
    graph.change("shutdown")
    answer = result(graph.peer.ask("the red cup")).grounding
    assert "finalized" in answer.status_message


def test_deactivating_answers_the_calls_that_wait(make_graph: MakeGraph) -> None:
    graph = make_graph()
    call = graph.peer.ask("the red cup")
    wait_until(lambda: bool(graph.node._calls._waiting), "the call's waiting")
    graph.change("deactivate")
    answer = result(call, 2.0).grounding
    assert answer.status == G.ERROR
    assert "inactive" in answer.status_message


def test_many_calls_at_once_are_all_answered(make_graph: MakeGraph) -> None:
    graph = make_graph(lambda settings: ColorGrounder(0.05), max_image_age=0.0)
    image = to_image(RED, graph.peer.header())
    graph.say("the red cup")
    calls = [graph.peer.ask("the red cup", image) for _ in range(MAX_JOBS + 8)]
    graph.peer.show(RED)
    answers = [result(call).grounding for call in calls]
    busy = [answer for answer in answers if answer.status == G.ERROR]
    assert all("calls wait already" in answer.status_message for answer in busy)
    assert len(busy) < len(answers)
    assert {answer.status for answer in answers} <= {G.TARGETS, G.ERROR}
    assert len({answer.command_id for answer in answers}) == len(answers)
    assert graph.answers.next().status == G.TARGETS  # frames get their turn too
