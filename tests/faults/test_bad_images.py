"""Every image that cannot be used gets its status and a sentence; the next good one is answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from grex_ros.msg import Grounding as G
from rclpy.context import Context
from sensor_msgs.msg import CompressedImage, Image

from grex_ros.ros.conversions import to_image
from tests.ros.color_grounder import picture
from tests.ros.graph import Graph

RED = picture(("red", 8, 8, 20, 16))
MakeGraph = Callable[..., Graph]


@pytest.fixture(scope="module")
def graph(ros_context: Context) -> Iterator[Graph]:
    graph = Graph(ros_context, max_image_age=0.0)
    graph.say("the red cup")
    yield graph
    graph.close()


@pytest.fixture(scope="module")
def compressed_graph(ros_context: Context) -> Iterator[Graph]:
    graph = Graph(ros_context, max_image_age=0.0, image_transport="compressed")
    graph.say("the red cup")
    yield graph
    graph.close()


def good(graph: Graph) -> Image:
    return to_image(RED, graph.peer.header())


def good_compressed(graph: Graph, suffix: str = ".png") -> CompressedImage:
    data = cv2.imencode(suffix, cv2.cvtColor(RED, cv2.COLOR_RGB2BGR))[1].tobytes()
    return CompressedImage(header=graph.peer.header(), format=suffix[1:], data=data)


def answer_to(graph: Graph, image: Image | CompressedImage) -> Any:
    header = graph.peer.send(image)
    answer = graph.answers.next()
    assert answer.header == header
    assert answer.command == "the red cup"
    assert answer.expression == "the red cup"
    return answer


def assert_refused_then_recovered(
    graph: Graph, bad: Image | CompressedImage, after: Image | CompressedImage, reason: str
) -> None:
    answer = answer_to(graph, bad)
    assert answer.status == G.INVALID_IMAGE
    assert reason in answer.status_message
    assert answer.status_message.endswith(".")
    assert list(answer.objects) == []
    recovered = answer_to(graph, after)
    assert recovered.status == G.TARGETS
    assert len(recovered.objects) == 1


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"data": bytes(100)}, "truncated"),
        ({"data": b""}, "truncated"),
        ({"data": bytes(48 * 192 + 1)}, "malformed"),
        ({"step": 191, "data": bytes(48 * 191)}, "step is 191 bytes"),
        ({"step": 0}, "step is 0 bytes"),
        ({"width": 0}, "no pixels"),
        ({"height": 0, "width": 0, "step": 0, "data": b""}, "no pixels"),
        ({"encoding": "nonsense"}, "'nonsense'"),
        ({"encoding": ""}, "empty"),
        ({"encoding": "rgb8\n\x1b[31m"}, "known are"),
        ({"encoding": "32FC1"}, "depth"),
        ({"height": 2**32 - 1}, "too large"),
        ({"height": 1, "width": 1, "step": 3, "data": bytes(3)}, "too small"),
        ({"height": 15, "data": bytes(15 * 192)}, "too small"),
    ],
)
def test_raw_images(graph: Graph, fields: dict[str, object], reason: str) -> None:
    bad = good(graph)
    for name, value in fields.items():
        setattr(bad, name, value)
    assert_refused_then_recovered(graph, bad, good(graph), reason)


def test_compressed_images(compressed_graph: Graph) -> None:
    graph = compressed_graph
    whole = good_compressed(graph).data
    huge = np.zeros((16, 9000), np.uint8)
    too_wide = cv2.imencode(".png", huge)[1].tobytes()
    for data, reason in [
        (b"", "no data"),
        (b"not a picture", "none of JPEG"),
        (bytes(whole[:60]), "truncated or damaged"),
        (too_wide, "too large"),
    ]:
        bad = CompressedImage(header=graph.peer.header(), format="png", data=data)
        assert_refused_then_recovered(graph, bad, good_compressed(graph), reason)


def test_the_byte_order_flag_changes_nothing_for_eight_bits(graph: Graph) -> None:
    image = good(graph)
    image.is_bigendian = 1
    assert answer_to(graph, image).status == G.TARGETS


@pytest.mark.parametrize("big_endian", [False, True])
def test_sixteen_bits_in_both_byte_orders(graph: Graph, big_endian: bool) -> None:
    image = good(graph)
    deep = (RED.astype(np.uint16) * 257).astype(">u2" if big_endian else "<u2")
    image.encoding, image.is_bigendian = "rgb16", int(big_endian)
    image.step, image.data = 64 * 6, deep.tobytes()
    assert answer_to(graph, image).status == G.TARGETS


def test_the_wrong_byte_order_is_answered_like_any_image(graph: Graph) -> None:
    image = good(graph)
    deep = (RED.astype(np.uint16) * 256).astype(">u2")  # declared as little endian: near black
    image.encoding, image.is_bigendian = "rgb16", 0
    image.step, image.data = 64 * 6, deep.tobytes()
    assert answer_to(graph, image).status == G.NO_TARGET
    assert answer_to(graph, good(graph)).status == G.TARGETS


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "8UC3", "rgba8", "bgra8", "8UC4", "mono8"])
@pytest.mark.parametrize("padding", [0, 5])
def test_every_encoding_of_a_colour_camera(graph: Graph, encoding: str, padding: int) -> None:
    channels = {
        "rgb8": [0, 1, 2],
        "bgr8": [2, 1, 0],
        "8UC3": [2, 1, 0],
        "rgba8": [0, 1, 2, 0],
        "bgra8": [2, 1, 0, 0],
        "8UC4": [2, 1, 0, 0],
        "mono8": [0],
    }[encoding]
    rows = RED[..., channels].reshape(48, -1)
    image = good(graph)
    image.encoding, image.step = encoding, rows.shape[1] + padding
    image.data = np.pad(rows, ((0, 0), (0, padding)), constant_values=255).tobytes()
    # Grey pixels of 255 are white, which is no colour that the grounder knows.
    expected = G.NO_TARGET if encoding == "mono8" else G.TARGETS
    assert answer_to(graph, image).status == expected


def test_eight_k(graph: Graph) -> None:
    wide = picture(("red", 4000, 2000, 4100, 2050), height=4320, width=7680)
    answer = answer_to(graph, to_image(wide, graph.peer.header()))
    assert answer.status == G.TARGETS
    roi = answer.objects[0].roi
    assert (roi.x_offset, roi.y_offset, roi.width, roi.height) == (4000, 2000, 100, 50)
    assert answer_to(graph, good(graph)).status == G.TARGETS


def test_plain_topics_of_an_invalid_image_are_empty(make_graph: MakeGraph) -> None:
    graph = make_graph()
    masks, labels = (graph.peer.listen(Image, f"grex/{name}") for name in ("mask", "label_image"))
    graph.await_heard("mask")
    graph.await_heard("label_image")
    graph.say("the red cup")
    truncated, absurd = good(graph), good(graph)
    truncated.data = b"123"
    absurd.width = 2**31
    for image, size in ((truncated, (48, 64)), (absurd, (0, 0))):
        graph.peer.send(image)
        assert graph.answers.next().status == G.INVALID_IMAGE
        for inbox in (masks, labels):
            made = inbox.next()
            assert (made.height, made.width) == size
            assert made.header == image.header
            assert not any(made.data)


def test_a_burst_of_bad_images_leaves_the_node_as_it_was(graph: Graph) -> None:
    random = np.random.default_rng(0)
    encodings = ["rgb8", "mono16", "bayer_rggb8", "yuv422", "x", ""]
    for _ in range(60):
        image = Image(
            header=graph.peer.header(),
            encoding=encodings[random.integers(len(encodings))],
            height=int(random.integers(0, 40)),
            width=int(random.integers(0, 40)),
            step=int(random.integers(0, 200)),
            data=random.bytes(int(random.integers(0, 4000))),
        )
        graph.peer.send(image)
    header = graph.peer.send(good(graph))
    answer = graph.answers.until(lambda item: item.header == header)
    assert answer.status == G.TARGETS
    assert graph.spinning.alive
