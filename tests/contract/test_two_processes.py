"""The contract with planners, over the wire: the node with the real model in a process of its own.

Thresholds are driven to their ends, so that the model answers with everything or with nothing
whatever its weights are.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from grex_ros.msg import Grounding as G
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, LabelInfo

from grex_ros.ros.conversions import to_image, to_rgb
from tests.ros.graph import LATCHED, Peer, result, wait_until
from tests.ros.weights import real_checkpoint

pytest.importorskip("torch")
pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT = 180.0  # loading torch on a busy machine
HEIGHT, WIDTH = 120, 160
PLAIN = {"detections": Detection2DArray, "label_image": Image, "mask": Image, "overlay": Image}
EVERYTHING = {"target_threshold": 0.0, "mask_threshold": 0.3, "no_target_threshold": 1.0}
NOTHING = {"no_target_threshold": 0.0}


class Robot:
    """The node's process, and this process's peer."""

    def __init__(self, context: Context, checkpoint: Path) -> None:
        parameters = {"checkpoint": checkpoint, "device": "cpu", "threads": 1, "max_image_age": 0.0}
        arguments = [f"{name}:={value}" for name, value in parameters.items()]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "grex_ros.ros.node", "--ros-args", "-r", "__ns:=/robot"]
            + [word for argument in arguments for word in ("-p", argument)],
            cwd=ROOT,
            env=dict(os.environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.peer = Peer(context, "/robot")
        self.inboxes = {n: self.peer.listen(kind, f"grex/{n}") for n, kind in PLAIN.items()}
        self.inboxes["label_info"] = self.peer.listen(LabelInfo, "grex/label_info", LATCHED)
        self.inboxes["grounding"] = self.peer.answers
        self._clients: dict[str, Any] = {}

    def await_ready(self) -> None:
        self._await_active()
        self._await_all_topics()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.output += iter(self.process.stdout)

    def call(self, kind: type, name: str, request: Any) -> Any:
        if name not in self._clients:
            self._clients[name] = self.peer.node.create_client(kind, f"grex/{name}")
        client = self._clients[name]
        assert client.wait_for_service(START_TIMEOUT), "".join(self.output)
        return result(client.call_async(request), START_TIMEOUT)

    def _await_active(self) -> None:
        end = time.monotonic() + START_TIMEOUT
        while self.call(GetState, "get_state", GetState.Request()).current_state.label != "active":
            assert time.monotonic() < end, "".join(self.output)
            time.sleep(0.2)
        self.peer.await_images_heard()
        self.peer.await_commands_heard()
        wait_until(self.peer.client.service_is_ready, "the service")

    def _await_all_topics(self) -> None:
        """Show frames until one of them comes back on every topic, then empty the inboxes."""
        for _ in range(100):
            header = self.peer.show(noise(0))
            time.sleep(0.1)
            boxes = self.inboxes.values()
            if all(box.unread() and box.latest().header == header for box in boxes):
                break
        else:
            pytest.fail("not every topic delivers: " + "".join(self.output))
        for box in self.inboxes.values():
            while not box.silent(0.0):
                box.next()

    def set(self, **parameters: Any) -> None:
        messages = [Parameter(n, value=value).to_parameter_msg() for n, value in parameters.items()]
        request = SetParameters.Request(parameters=messages)
        results = self.call(SetParameters, "set_parameters", request).results
        assert all(item.successful for item in results), results

    def round(self, picture: npt.NDArray[np.uint8], header: Header | None = None) -> dict[str, Any]:
        """Show one image; all that comes back for it."""
        sent = self.peer.show(picture, header)
        back = {name: box.next(30.0) for name, box in self.inboxes.items()}
        assert {name: m.header == sent for name, m in back.items()} == dict.fromkeys(back, True)
        return back

    def close(self) -> None:
        self.peer.spinning.stop()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)


def noise(seed: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def robot(ros_context: Context, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    robot = Robot(ros_context, real_checkpoint(tmp_path_factory.mktemp("weights")))
    try:
        robot.await_ready()
        yield robot
    finally:
        robot.close()


@pytest.fixture
def say(robot: Robot) -> Callable[[str], str]:
    """Says a command and waits until it is in force; returns its id."""

    def say(text: str) -> str:
        robot.peer.say(text)
        for seed in itertools.count():
            answer = robot.round(noise(seed))["grounding"]
            if answer.command == text:
                return str(answer.command_id)
            assert seed < 50, "the command never came into force"
        raise AssertionError

    return say


def test_everything_agrees_when_objects_are_found(robot: Robot, say: Callable[[str], str]) -> None:
    robot.set(**EVERYTHING)
    identity = say("pick up all red cups")
    back = robot.round(noise(1))
    answer = back["grounding"]
    assert (answer.status, answer.status_message) == (G.TARGETS, "")
    assert (answer.command, answer.command_id) == ("pick up all red cups", identity)
    assert (answer.action, answer.expression) == ("pick up", "all red cups")
    assert 0 <= answer.no_target_score <= 1
    assert "@" in answer.model
    assert answer.latency.sec + answer.latency.nanosec > 0
    assert [item.id for item in answer.objects] == list(range(1, len(answer.objects) + 1))
    scores = [item.score for item in answer.objects]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)

    labels = to_rgb(back["label_image"])[..., 0]
    union = np.zeros((HEIGHT, WIDTH), bool)
    painted = np.zeros((HEIGHT, WIDTH), np.uint8)
    for item in reversed(answer.objects):  # the best on top
        roi, mask = item.roi, to_rgb(item.mask)[..., 0] > 0
        assert item.mask.header == answer.header
        assert mask.shape == (roi.height, roi.width)
        assert mask.any(0)[[0, -1]].all()  # the box is tight
        assert mask.any(1)[[0, -1]].all()
        window = np.s_[
            roi.y_offset : roi.y_offset + roi.height, roi.x_offset : roi.x_offset + roi.width
        ]
        painted[window][mask] = item.id
        union[window] |= mask
        assert not item.has_pose
    assert (painted == labels).all()
    assert ((to_rgb(back["mask"])[..., 0] > 0) == union).all()

    detections = back["detections"].detections
    assert [item.id for item in detections] == [str(item.id) for item in answer.objects]
    for detection, item in zip(detections, answer.objects, strict=True):
        assert detection.header == answer.header
        (found,) = detection.results
        assert found.hypothesis.class_id == "all red cups"
        assert found.hypothesis.score == pytest.approx(item.score)
        box, roi = detection.bbox, item.roi
        assert box.center.position.x - box.size_x / 2 == roi.x_offset
        assert box.center.position.y - box.size_y / 2 == roi.y_offset
        assert (box.size_x, box.size_y) == (roi.width, roi.height)
    classes = back["label_info"].class_map
    assert [item.class_id for item in classes] == list(range(len(answer.objects) + 1))
    assert {item.class_name for item in classes[1:]} == {"all red cups"}
    assert back["overlay"].encoding == "rgb8"
    assert back["overlay"].width == WIDTH


def test_nothing_found_is_empty_and_says_so(robot: Robot, say: Callable[[str], str]) -> None:
    robot.set(**NOTHING)
    say("the green elephant")
    back = robot.round(noise(2))
    answer = back["grounding"]
    assert answer.status == G.NO_TARGET
    assert "the green elephant" in answer.status_message
    assert list(answer.objects) == []
    assert list(back["detections"].detections) == []
    for name in ("label_image", "mask"):
        assert (back[name].height, back[name].width) == (HEIGHT, WIDTH)
        assert not any(back[name].data)
    assert len(back["label_info"].class_map) == 1


def test_headers_come_back_bit_for_bit(robot: Robot, say: Callable[[str], str]) -> None:
    say("the red cup")
    for sec, nanosec, frame in [
        (0, 0, ""),
        (0, 1, "a"),
        (1_700_000_000, 999_999_999, "camera_color_optical_frame"),
        (2**31 - 1, 999_999_999, "rahmen_ä_フレーム"),
        (-1, 0, "before 1970"),
    ]:
        header = Header(frame_id=frame)
        header.stamp.sec, header.stamp.nanosec = sec, nanosec
        robot.round(noise(3), header)  # compares every topic's header


def test_ids_link_answers_to_their_commands(robot: Robot, say: Callable[[str], str]) -> None:
    ids = [say(text) for text in ("the red cup", "the blue cup", "the red cup, again")]
    assert len(set(ids)) == 3
    robot.peer.say("")
    for seed in range(50):
        answer = robot.round(noise(seed))["grounding"]
        if answer.status == G.NO_COMMAND:
            break
    assert answer.command == ""
    assert answer.status_message.startswith("No command")


def test_bad_images_between_good_ones(robot: Robot, say: Callable[[str], str]) -> None:
    robot.set(**NOTHING)
    say("the red cup")
    for fields in (
        {"data": bytes(10)},
        {"step": 1, "data": bytes(HEIGHT)},
        {"encoding": "nonsense"},
        {"height": 1, "width": 1, "step": 3, "data": bytes(3)},
    ):
        bad = to_image(noise(4), robot.peer.header())
        for name, value in fields.items():
            setattr(bad, name, value)
        robot.peer.send(bad)
        back = {name: robot.inboxes[name].next(30.0) for name in ("grounding", "mask")}
        assert back["grounding"].header == back["mask"].header == bad.header
        assert back["grounding"].status == G.INVALID_IMAGE
        assert back["grounding"].status_message
        for name in ("detections", "label_image", "label_info"):
            assert robot.inboxes[name].next(30.0).header == bad.header
        while not robot.inboxes["overlay"].silent(0.2):  # a tiny picture may still be drawn
            robot.inboxes["overlay"].next()
        assert robot.round(noise(5))["grounding"].status == G.NO_TARGET


def test_the_service_answers_as_the_topics_do(robot: Robot) -> None:
    robot.set(**EVERYTHING)
    image = to_image(noise(6), robot.peer.header())
    answer = result(robot.peer.ask("fetch the red cup", image), 60.0).grounding
    assert answer.header == image.header
    assert (answer.status, answer.action, answer.expression) == (G.TARGETS, "fetch", "the red cup")
    robot.set(**NOTHING)
    answer = result(robot.peer.ask("fetch the red cup", image), 60.0).grounding
    assert answer.status == G.NO_TARGET


def test_a_stream_is_answered_in_order(robot: Robot, say: Callable[[str], str]) -> None:
    robot.set(**NOTHING)
    say("the red cup")
    sent = []
    for seed in range(30):
        sent.append(robot.peer.show(noise(seed)))
        time.sleep(1 / 30)
    stamps = {name: [] for name in ("grounding", "detections", "mask")}
    for name, seen in stamps.items():
        while not seen or seen[-1] != sent[-1]:
            seen.append(robot.inboxes[name].next(30.0).header)
    assert stamps["grounding"] == stamps["detections"] == stamps["mask"]
    order = [sent.index(header) for header in stamps["grounding"]]
    assert order == sorted(set(order))


def test_the_process_ends_cleanly_when_told(robot: Robot) -> None:
    """Last in this file: the process is gone afterwards."""
    robot.process.send_signal(signal.SIGINT)
    assert robot.process.wait(30) == 0
    robot._reader.join(10)
    text = "".join(robot.output)
    assert "Traceback" not in text, text
    assert "terminate called" not in text, text
