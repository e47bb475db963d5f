"""Every transition is legal where the state machine says so, and a failed one says why."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from grex_ros.msg import Grounding as G
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import TransitionCallbackReturn

from grex_ros.grounding.objects import Grounding
from grex_ros.ros.parameters import Settings
from tests.ros.color_grounder import ColorGrounder, picture
from tests.ros.graph import Graph, result, stderr_in, wait_until

MakeGraph = Callable[..., Graph]
SUCCESS = TransitionCallbackReturn.SUCCESS
RED = picture(("red", 8, 8, 20, 16))


def idle(make_graph: MakeGraph, **kwargs: object) -> Graph:
    return make_graph(autostart=False, await_active=False, **kwargs)


def test_without_autostart_the_node_waits(make_graph: MakeGraph) -> None:
    graph = idle(make_graph)
    time.sleep(0.2)
    assert graph.node.state == "unconfigured"


def test_transitions_by_service_as_a_lifecycle_manager_does(make_graph: MakeGraph) -> None:
    graph = idle(make_graph)
    client = graph.peer.node.create_client(ChangeState, "grex/change_state")
    assert client.wait_for_service(10)
    way = [
        (Transition.TRANSITION_CONFIGURE, "inactive"),
        (Transition.TRANSITION_ACTIVATE, "active"),
        (Transition.TRANSITION_DEACTIVATE, "inactive"),
        (Transition.TRANSITION_CLEANUP, "unconfigured"),
        (Transition.TRANSITION_CONFIGURE, "inactive"),
        (Transition.TRANSITION_ACTIVATE, "active"),
        (Transition.TRANSITION_ACTIVE_SHUTDOWN, "finalized"),
    ]
    for transition, state in way:
        request = ChangeState.Request()
        request.transition.id = transition
        assert result(client.call_async(request)).success
        assert graph.node.state == state


@pytest.mark.parametrize("state", ["unconfigured", "inactive", "active"])
def test_shutdown_from_everywhere(make_graph: MakeGraph, state: str) -> None:
    graph = idle(make_graph)
    if state != "unconfigured":
        assert graph.change("configure") == SUCCESS
    if state == "active":
        assert graph.change("activate") == SUCCESS
    assert graph.node.state == state
    assert graph.change("shutdown") == SUCCESS
    assert graph.node.state == "finalized"
    assert graph.spinning.alive


def test_illegal_transitions_change_nothing(make_graph: MakeGraph) -> None:
    graph = idle(make_graph)
    for transition in ("activate", "deactivate", "cleanup"):
        assert graph.change(transition) != SUCCESS
        assert graph.node.state == "unconfigured"


def test_an_inactive_node_answers_no_frames_and_goes_on_later(make_graph: MakeGraph) -> None:
    graph = make_graph()
    graph.say("the red cup")
    graph.peer.show(RED)
    assert graph.answers.next().status == G.TARGETS
    assert graph.change("deactivate") == SUCCESS
    graph.peer.show(RED)
    assert graph.answers.silent(0.2)
    assert graph.change("activate") == SUCCESS
    graph.await_active()
    graph.peer.show(RED)
    assert graph.answers.next().command == "the red cup"  # still in force


def test_cleanup_forgets_the_command(make_graph: MakeGraph) -> None:
    graph = make_graph()
    graph.say("the red cup")
    assert graph.change("deactivate") == SUCCESS
    assert graph.change("cleanup") == SUCCESS
    assert graph.change("configure") == SUCCESS
    assert graph.change("activate") == SUCCESS
    graph.await_active()
    graph.peer.show(RED)
    assert graph.answers.next().status == G.NO_COMMAND


def test_a_command_while_the_model_loads_is_not_lost(make_graph: MakeGraph) -> None:
    gate = threading.Event()

    def load(settings: Settings) -> ColorGrounder:
        assert gate.wait(10)
        return ColorGrounder()

    graph = make_graph(load, await_active=False)
    graph.peer.await_commands_heard()
    graph.peer.say("the red cup")
    gate.set()
    graph.await_active()
    wait_until(lambda: graph.command_id() != "", "the command's arrival")
    graph.peer.show(RED)
    assert graph.answers.next().status == G.TARGETS


@pytest.mark.parametrize("end", ["cleanup", "shutdown"])
def test_the_model_is_freed(make_graph: MakeGraph, end: str) -> None:
    models: list[weakref.ref[ColorGrounder]] = []

    def load(settings: Settings) -> ColorGrounder:
        grounder = ColorGrounder()
        models.append(weakref.ref(grounder))
        return grounder

    graph = make_graph(load)
    graph.say("the red cup")
    graph.peer.show(RED)
    graph.answers.next()
    if end == "cleanup":
        assert graph.change("deactivate") == SUCCESS
        assert graph.change("cleanup") == SUCCESS
    else:
        assert graph.change("shutdown") == SUCCESS
    gc.collect()
    assert models[0]() is None


def test_up_and_down_many_times_leaves_nothing_behind(make_graph: MakeGraph) -> None:
    graph = idle(make_graph)
    node = graph.node

    def counts() -> tuple[int, int, int, int]:
        entities = (node.publishers, node.subscriptions, node.timers)
        return (threading.active_count(), *(len(list(item)) for item in entities))

    before = counts()
    for _ in range(8):
        assert graph.change("configure") == SUCCESS
        assert graph.change("activate") == SUCCESS
        assert graph.change("deactivate") == SUCCESS
        assert graph.change("cleanup") == SUCCESS
    assert counts() == before
    assert graph.change("configure") == SUCCESS
    assert graph.change("activate") == SUCCESS
    graph.await_active()
    graph.say("the red cup")
    graph.peer.show(RED)
    assert graph.answers.next().status == G.TARGETS


def test_deactivating_waits_for_the_frame_in_work(make_graph: MakeGraph) -> None:
    grounder = ColorGrounder(0.5)
    graph = make_graph(lambda settings: grounder)
    graph.say("the red cup")
    encoded = grounder.images_encoded
    graph.peer.show(RED)
    wait_until(lambda: grounder.images_encoded > encoded, "the beginning of a frame")
    assert graph.change("deactivate") == SUCCESS
    assert graph.answers.next().status == G.TARGETS
    assert not [item for item in threading.enumerate() if item.name == "grex_worker"]


class Refusing(ColorGrounder):
    """Loads well and fails at the first image."""

    def ground(self, expressions: Sequence[str]) -> list[Grounding]:
        raise RuntimeError("no kernel image is available for execution on the device")


@pytest.mark.parametrize("when", ["load", "warm-up"])
def test_a_failed_configure_says_why_and_can_be_repeated(
    make_graph: MakeGraph, when: str, tmp_path: Path
) -> None:
    def load(settings: Settings) -> ColorGrounder:
        if settings.checkpoint == "bad":
            if when == "warm-up":
                return Refusing()
            raise OSError("the file bad is damaged; copy it again")
        return ColorGrounder()

    reason = "copy it again" if when == "load" else "no kernel image"
    with stderr_in(tmp_path) as errors:
        graph = make_graph(load, await_active=False, checkpoint="bad")
        wait_until(lambda: "waits unconfigured" in errors(), "the node's last word")
        assert errors().count(reason) == 1
        assert "Traceback" not in errors()
    assert graph.node.state == "unconfigured"
    assert graph.change("configure") == TransitionCallbackReturn.FAILURE
    assert graph.node.state == "unconfigured"
    assert graph.set(checkpoint="good")[0].successful
    assert graph.change("configure") == SUCCESS
    assert graph.change("activate") == SUCCESS
    graph.await_active()
    graph.say("the red cup")
    graph.peer.show(RED)
    assert graph.answers.next().status == G.TARGETS


def test_an_exception_on_the_way_down_is_logged_and_cleaned_up(
    make_graph: MakeGraph, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = make_graph()
    calls = iter([True])

    def stop() -> None:
        if next(calls, False):
            raise RuntimeError("a driver went away")

    monkeypatch.setattr(graph.node, "_stop", stop)
    graph.change("deactivate")
    assert "Could not deactivate: a driver went away" in capfd.readouterr().err
    assert graph.node.state == "unconfigured"
    monkeypatch.undo()
    graph.node._stop()
    assert graph.change("configure") == SUCCESS
