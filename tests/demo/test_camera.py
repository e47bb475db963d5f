"""The camera node: what it publishes, and what it does where nothing can be rendered."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String

from grex_ros.demo import camera, pictures
from grex_ros.demo.truth import from_json
from grex_ros.scenes.renderer import RenderingUnavailable

pytest.importorskip("rosbags", reason="bags are read with rosbags")


@pytest.fixture
def executor() -> Iterator[SingleThreadedExecutor]:
    rclpy.init()
    executor = SingleThreadedExecutor()
    yield executor
    for node in executor.get_nodes():
        node.destroy_node()
    executor.shutdown()
    rclpy.try_shutdown()


def spin_until(executor: SingleThreadedExecutor, done: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while time.monotonic() < end and not done():
        executor.spin_once(timeout_sec=0.1)
    return done()


def test_without_a_renderer_the_bag_is_played_with_fresh_stamps(
    executor: SingleThreadedExecutor,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def unavailable(*_: Any) -> None:
        raise RenderingUnavailable("no OpenGL here")

    monkeypatch.setattr(pictures, "render_picture", unavailable)
    listener = Node("listener")
    received: dict[str, list[Any]] = {"image": [], "depth": [], "info": [], "truth": []}
    for name, kind, topic in (
        ("image", Image, "/camera/image_raw"),
        ("depth", Image, "/camera/depth/image_raw"),
        ("info", CameraInfo, "/camera/camera_info"),
    ):
        listener.create_subscription(kind, topic, received[name].append, qos_profile_sensor_data)
    listener.create_subscription(
        String, "/camera/ground_truth", received["truth"].append, camera.TRUTH_QOS
    )
    executor.add_node(listener)
    executor.add_node(camera.Camera())
    assert "a bag is played: no OpenGL here" in capfd.readouterr().err
    assert spin_until(executor, lambda: all(len(messages) >= 3 for messages in received.values()))

    truths = dict(from_json(message.data) for message in received["truth"])
    by_stamp = {
        name: {(m.header.stamp.sec, m.header.stamp.nanosec): m for m in received[name]}
        for name in ("image", "depth", "info")
    }
    common = set(truths).intersection(*by_stamp.values())
    assert len(common) >= 2, "every picture needs its depth, camera_info and truth"
    assert abs(max(common)[0] - time.time()) < 60, "a played picture is as old as a new one"
    for stamp in common:
        assert len({str(by_stamp[name][stamp].header) for name in by_stamp}) == 1
        assert truths[stamp].source == "demo_bag"
        image = by_stamp["image"][stamp]
        pixels = np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)
        seen = next(item for item in truths[stamp].view if item.color == "red")
        red = pixels[truths[stamp].masks[seen.index]].mean(0)
        assert red[0] > 1.5 * red[1:].max(), "mask and picture must fit"


def test_what_it_cannot_take_is_said_in_one_line() -> None:
    command = [sys.executable, "-m", "grex_ros.demo.camera", "--ros-args", "-p"]
    for argument, reason in (
        ("source:=nonsense", "source must be auto, render or bag"),
        ("bag:=/no/such/bag", "there is no bag /no/such/bag"),
    ):
        source = [] if argument.startswith("source") else ["-p", "source:=bag"]
        done = subprocess.run(
            [*command, argument, *source], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 1
        assert reason in done.stderr and "Traceback" not in done.stderr


def test_parameters_tell_what_they_are(executor: SingleThreadedExecutor) -> None:
    rclpy.try_shutdown()
    rclpy.init(args=["--ros-args", "-p", "source:=bag", "-p", "seed:=1"])
    node = camera.Camera()
    for name in ("seed", "width", "height", "rate", "source", "bag"):
        described = node.describe_parameter(name)
        assert described.read_only and described.description.endswith(".")
    assert node.get_parameter("seed").value == 1
    node.destroy_node()
