"""A model that fails in any way costs one answer, never the node."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from grex_ros.msg import Grounding as G
from rclpy.context import Context

from grex_ros.grounding.objects import Grounding
from grex_ros.ros.conversions import to_image
from tests.ros.color_grounder import ColorGrounder, picture
from tests.ros.graph import Graph, result

MakeGraph = Callable[..., Graph]
RED = picture(("red", 8, 8, 20, 16))


class Failing(ColorGrounder):
    """Fails as told, at one of its two steps; does not fail at the warm-up."""

    def __init__(self) -> None:
        super().__init__()
        self.at_image: Exception | None = None
        self.at_grounding: Exception | None = None
        self.spoil: Callable[[Grounding], list[Grounding]] = lambda grounding: [grounding]

    def set_image(self, image: npt.NDArray[np.uint8]) -> None:
        if self.at_image:
            raise self.at_image
        super().set_image(image)

    def ground(self, expressions: Sequence[str]) -> list[Grounding]:
        if self.at_grounding:
            raise self.at_grounding
        (grounding,) = super().ground(expressions)
        return self.spoil(grounding)


@pytest.fixture(scope="module")
def failing(ros_context: Context) -> Iterator[tuple[Graph, Failing]]:
    grounder = Failing()
    graph = Graph(ros_context, lambda settings: grounder, max_image_age=0.0)
    graph.say("the red cup")
    yield graph, grounder
    graph.close()


def nan_score(grounding: Grounding) -> list[Grounding]:
    first = dataclasses.replace(grounding.objects[0], score=math.nan)
    return [dataclasses.replace(grounding, objects=(first,))]


@pytest.mark.parametrize("step", ["at_image", "at_grounding"])
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("the kernel failed"), "RuntimeError: the kernel failed"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "Out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "Out of memory"),
        (MemoryError(), "Out of memory"),
        (FloatingPointError("the model's output is not a number"), "not a number"),
        (KeyError("x"), "KeyError"),
        (AssertionError(), "no reason given"),
    ],
)
def test_exceptions(
    failing: tuple[Graph, Failing], step: str, error: Exception, words: str
) -> None:
    graph, grounder = failing
    setattr(grounder, step, error)
    header = graph.peer.show(RED)
    answer = graph.answers.next()
    assert (answer.status, answer.header) == (G.ERROR, header)
    assert words in answer.status_message
    assert answer.status_message.endswith(".")
    assert list(answer.objects) == []
    call = graph.peer.ask("the red cup", to_image(RED, graph.peer.header()))
    assert result(call).grounding.status == G.ERROR
    setattr(grounder, step, None)
    graph.peer.show(RED)
    assert graph.answers.next().status == G.TARGETS


@pytest.mark.parametrize(
    "spoil",
    [
        nan_score,
        lambda grounding: [dataclasses.replace(grounding, no_target_score=math.inf)],
        lambda grounding: [],
        lambda grounding: [grounding, grounding],
    ],
)
def test_answers_that_are_none(
    failing: tuple[Graph, Failing], spoil: Callable[[Grounding], list[Grounding]]
) -> None:
    graph, grounder = failing
    grounder.spoil = spoil
    graph.peer.show(RED)
    answer = graph.answers.next()
    assert answer.status == G.ERROR
    assert "Grounding failed" in answer.status_message
    grounder.spoil = lambda grounding: [grounding]
    graph.peer.show(RED)
    assert graph.answers.next().status == G.TARGETS


class Crowded(Failing):
    """Has no memory until room is made."""

    def __init__(self, done: str) -> None:
        super().__init__()
        self.done = done
        self.asked: list[str] = []

    def make_room(self, how: str) -> str:
        self.asked.append(how)
        if self.done:
            self.at_grounding = None
        return self.done


@pytest.mark.parametrize(
    ("policy", "done", "status", "asked"),
    [
        ("cpu", "The model now runs on the CPU.", G.TARGETS, ["cpu"]),
        ("lower_precision", "", G.ERROR, ["lower_precision"]),
        ("error", "Not asked for.", G.ERROR, []),
    ],
)
def test_out_of_memory_is_tried_once_more(
    make_graph: MakeGraph, policy: str, done: str, status: int, asked: list[str]
) -> None:
    grounder = Crowded(done)
    graph = make_graph(lambda settings: grounder, on_out_of_memory=policy)
    graph.say("the red cup")
    grounder.at_grounding = RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
    header = graph.peer.show(RED)
    answer = graph.answers.next()
    assert (answer.status, answer.header, grounder.asked) == (status, header, asked)
    grounder.at_grounding = None
    graph.peer.show(RED)
    assert graph.answers.next().status == G.TARGETS
    assert grounder.asked == asked


def test_in_once_mode_a_failure_does_not_use_the_command_up(make_graph: MakeGraph) -> None:
    grounder = Failing()
    graph = make_graph(lambda settings: grounder, mode="once")
    grounder.at_grounding = RuntimeError("transient")
    graph.say("the red cup")
    graph.peer.show(RED)
    assert graph.answers.next().status == G.ERROR
    grounder.at_grounding = None
    graph.peer.show(RED)
    assert graph.answers.next().status == G.TARGETS


def test_an_overlay_that_cannot_be_drawn_costs_no_answer(
    make_graph: MakeGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sensor_msgs.msg import Image

    def draw(*_: object) -> None:
        raise ValueError("no font")

    monkeypatch.setattr("grex_ros.ros.publishers.draw_overlay", draw)
    graph = make_graph()
    graph.peer.listen(Image, "grex/overlay")
    graph.await_heard("overlay")
    graph.say("the red cup")
    for _ in range(3):
        graph.peer.show(RED)
        assert graph.answers.next().status == G.TARGETS
