"""The service ~/describe between two nodes: objects in, an expression out, whatever the request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from grex_ros.msg import GroundedObject
from grex_ros.msg import Grounding as G
from grex_ros.srv import Describe
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, RegionOfInterest
from std_msgs.msg import Header

from grex_ros.ros.conversions import to_image
from grex_ros.ros.describe_service import MAX_OBJECTS
from tests.ros.color_grounder import ColorGrounder, picture
from tests.ros.graph import Graph, result, wait_until

MakeGraph = Callable[..., Graph]
RED_BOX, BLUE_BOX = (8, 8, 20, 16), (30, 20, 50, 40)
BOTH = picture(("red", *RED_BOX), ("blue", *BLUE_BOX))


def roi(box: tuple[int, int, int, int]) -> RegionOfInterest:
    x0, y0, x1, y1 = box
    return RegionOfInterest(x_offset=x0, y_offset=y0, width=x1 - x0, height=y1 - y0)


def boxed(*boxes: tuple[int, int, int, int]) -> list[GroundedObject]:
    return [GroundedObject(roi=roi(box)) for box in boxes]


class Caller:
    """Calls ~/describe of a graph's node from its peer."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.client = graph.peer.node.create_client(
            Describe, "grex/describe", qos_profile=QoSProfile(depth=100)
        )
        wait_until(self.client.service_is_ready, "the service")

    def call(self, objects: list[GroundedObject], image: Image | None = None) -> Any:
        return self.client.call_async(Describe.Request(objects=objects, image=image or Image()))

    def describe(self, objects: list[GroundedObject], image: Image | None = None) -> Any:
        return result(self.call(objects, image))

    def image(self) -> Image:
        return to_image(BOTH, self.graph.peer.header())


@pytest.fixture
def caller(make_graph: MakeGraph) -> Caller:
    return Caller(make_graph())


def test_with_an_image_of_its_own(caller: Caller) -> None:
    image = caller.image()
    for box, color in ((RED_BOX, "red"), (BLUE_BOX, "blue")):
        answer = caller.describe(boxed(box), image)
        assert (answer.status, answer.status_message) == (G.TARGETS, "")
        assert (answer.expression, answer.verified) == (color, True)
        assert answer.header == image.header
        assert answer.model == "color@0123456789ab"
        assert answer.latency.sec + answer.latency.nanosec > 0
    answer = caller.describe(boxed(RED_BOX, BLUE_BOX), image)
    assert (answer.expression, answer.verified) == ("red and blue", True)
    assert caller.graph.answers.silent(0.1)  # the answer goes to the caller alone


def test_the_objects_of_an_answer_can_be_given_as_they_are(caller: Caller) -> None:
    image = caller.image()
    answer = result(caller.graph.peer.ask("the blue one", image)).grounding
    assert answer.objects[0].mask.height  # described by mask
    described = caller.describe(answer.objects, image)
    assert (described.expression, described.verified) == ("blue", True)
    assert described.header == answer.header
    assert described.model == answer.model


def test_without_an_image_the_newest_frame_is_taken(caller: Caller) -> None:
    graph = caller.graph
    graph.say("the red cup")
    header = graph.peer.show(BOTH)
    in_force = graph.answers.until(lambda answer: answer.header == header)
    answer = caller.describe(boxed(BLUE_BOX))
    assert (answer.expression, answer.header) == ("blue", header)
    graph.peer.show(BOTH)
    after = graph.answers.next()  # the command in force is still the same
    assert (after.command, after.command_id) == ("the red cup", in_force.command_id)


def test_an_image_is_encoded_once_for_frames_and_calls(make_graph: MakeGraph) -> None:
    grounder = ColorGrounder()
    caller = Caller(make_graph(lambda settings: grounder))
    caller.graph.say("the red cup")
    caller.graph.peer.show(BOTH)
    caller.graph.answers.next()
    encoded = grounder.images_encoded
    assert caller.describe(boxed(RED_BOX)).expression == "red"
    assert caller.describe(boxed(BLUE_BOX)).expression == "blue"
    assert grounder.images_encoded == encoded


def masked(box: tuple[int, int, int, int], mask: Image) -> list[GroundedObject]:
    return [GroundedObject(roi=roi(box), mask=mask)]


def blank(height: int, width: int) -> Image:
    return to_image(np.zeros((height, width), np.uint8), Header())


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([], "no object"),
        (boxed((8, 8, 8, 8)), "object 1, 8, 8, 8, 8, has no pixel"),
        (boxed(RED_BOX, (64, 0, 70, 9)), "object 2, 64, 0, 70, 9, has no pixel of the picture"),
        (boxed((0, 0, 2**32 - 1, 2**32 - 1), (1, 1, 1, 9)), "object 2"),
        (boxed(*[RED_BOX] * (MAX_OBJECTS + 1)), f"at most {MAX_OBJECTS}"),
        (masked(RED_BOX, blank(3, 3)), "mask of object 1 has 3 x 3 pixels, its roi 12 x 8"),
        (masked(RED_BOX, blank(8, 12)), "mask of object 1 is empty"),
        (
            masked(RED_BOX, Image(height=8, width=12, encoding="mono8", step=12)),
            "mask of object 1 cannot be read: The image is truncated",
        ),
        (
            masked((2**32 - 13, 2**32 - 9, 2**32 - 1, 2**32 - 1), blank(8, 12)),
            "mask of object 1 is empty",
        ),
    ],
)
def test_objects_that_cannot_be_described(
    caller: Caller, objects: list[GroundedObject], message: str
) -> None:
    image = caller.image()
    answer = caller.describe(objects, image)
    assert (answer.status, answer.header) == (G.INVALID_COMMAND, image.header)
    assert message in answer.status_message
    assert (answer.expression, answer.verified) == ("", False)
    assert caller.describe(boxed(RED_BOX), image).status == G.TARGETS  # the node lives


def test_bad_images(caller: Caller) -> None:
    bad = Image(header=caller.graph.peer.header(), height=4, width=4, encoding="rgb8", step=12)
    answer = caller.describe(boxed(RED_BOX), bad)
    assert (answer.status, answer.header) == (G.INVALID_IMAGE, bad.header)
    assert "truncated" in answer.status_message
    assert caller.describe(boxed(RED_BOX), caller.image()).status == G.TARGETS


def test_a_model_that_cannot_describe(make_graph: MakeGraph) -> None:
    class Silent(ColorGrounder):
        def describe(self, regions: Any) -> Any:
            raise RuntimeError("this checkpoint has no generation head")

    caller = Caller(make_graph(lambda settings: Silent()))
    image = caller.image()
    answer = caller.describe(boxed(RED_BOX), image)
    assert (answer.status, answer.header) == (G.ERROR, image.header)
    assert "Describing failed" in answer.status_message
    assert "no generation head" in answer.status_message
    assert result(caller.graph.peer.ask("the red cup", image)).grounding.status == G.TARGETS


def test_calls_without_frames_are_answered_after_a_while(make_graph: MakeGraph) -> None:
    caller = Caller(make_graph(service_timeout=0.3, max_image_age=0.1))
    answer = caller.describe(boxed(RED_BOX))
    assert (answer.status, answer.header) == (G.STALE_IMAGE, Header())
    assert f"on {caller.graph.namespace}/image within 0.3 s" in answer.status_message
    old = caller.image()
    old.header.stamp.sec -= 10
    answer = caller.describe(boxed(RED_BOX), old)
    assert (answer.status, answer.header) == (G.STALE_IMAGE, old.header)
    assert "max_image_age is 0.1 s" in answer.status_message


def test_a_node_that_is_not_active_says_so(make_graph: MakeGraph) -> None:
    caller = Caller(make_graph(autostart=False, await_active=False))
    answer = caller.describe(boxed(RED_BOX), caller.image())
    assert answer.status == G.ERROR
    assert "unconfigured" in answer.status_message
