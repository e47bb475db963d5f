"""The real node: commands and images in, answers out."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from grex_ros.msg import Grounding as G
from rclpy.context import Context
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
from vision_msgs.msg import Detection2DArray, LabelInfo

from grex_ros.ros.conversions import to_image, to_rgb
from grex_ros.ros.node import GrexNode, spin
from tests.ros.color_grounder import ColorGrounder, color_grounder, picture
from tests.ros.graph import LATCHED, Graph, stderr_in, wait_until

RED = picture(("red", 8, 8, 20, 16), ("red", 30, 20, 40, 24))
BLUE = picture(("blue", 8, 8, 20, 16))
MakeGraph = Callable[..., Graph]


def test_a_command_before_the_first_image_is_answered_by_it(make_graph: MakeGraph) -> None:
    graph = make_graph()
    graph.say("pick up all red cups")
    assert graph.answers.silent(0.2)
    header = graph.peer.show(RED)
    answer = graph.answers.next()
    assert answer.header == header
    assert (answer.status, answer.status_message) == (G.TARGETS, "")
    assert (answer.command, answer.action) == ("pick up all red cups", "pick up")
    assert answer.expression == "all red cups"
    assert answer.command_id == graph.command_id() != ""
    assert len(answer.objects) == 2
    assert answer.model == "color@0123456789ab"
    assert answer.no_target_score == pytest.approx(0.1)
    assert 0 <= answer.image_age.sec + answer.image_age.nanosec / 1e9 < 1
    assert answer.latency.nanosec > 0


def test_an_image_before_the_first_command_says_so(make_graph: MakeGraph) -> None:
    graph = make_graph()
    header = graph.peer.show(RED)
    answer = graph.answers.next()
    assert answer.header == header
    assert answer.status == G.NO_COMMAND
    assert answer.status_message == "No command has come yet."
    assert (answer.command, answer.command_id, list(answer.objects)) == ("", "", [])


def test_latched_commands_stay_until_replaced_or_cleared(make_graph: MakeGraph) -> None:
    graph = make_graph()
    seen = []
    for text in ("the red cup", "the blue cup", ""):
        graph.say(text)
        for _ in range(3):
            header = graph.peer.show(RED)
            answer = graph.answers.next()
            assert answer.header == header
            seen.append((answer.command, answer.status, answer.command_id))
    texts = ["the red cup"] * 3 + ["the blue cup"] * 3 + [""] * 3
    assert [item[0] for item in seen] == texts
    assert [item[1] for item in seen] == [G.TARGETS] * 3 + [G.NO_TARGET] * 3 + [G.NO_COMMAND] * 3
    assert len({item[2] for item in seen}) == 3


def test_no_target_has_a_sentence_and_empty_pictures(make_graph: MakeGraph) -> None:
    graph = make_graph()
    masks = graph.peer.listen(Image, "grex/mask")
    labels = graph.peer.listen(Image, "grex/label_image")
    graph.await_heard("mask")
    graph.await_heard("label_image")
    graph.say("the green cup")
    header = graph.peer.show(RED)
    answer = graph.answers.next()
    assert answer.status == G.NO_TARGET
    assert answer.status_message == 'Nothing in view is "the green cup".'
    assert answer.no_target_score == pytest.approx(0.9)
    for image in (masks.next(), labels.next()):
        assert image.header == header
        assert (image.height, image.width) == RED.shape[:2]
        assert not any(image.data)


def test_once_answers_a_command_once(make_graph: MakeGraph) -> None:
    graph = make_graph(mode="once")
    graph.peer.show(RED)
    assert graph.answers.silent(0.3)  # nobody has asked
    graph.say("the red cup")  # the frame that is there is fresh
    first = graph.answers.next()
    assert (first.status, first.command) == (G.TARGETS, "the red cup")
    for _ in range(3):
        graph.peer.show(RED)
    assert graph.answers.silent(0.3)
    graph.say("the red cup")  # the same words again are a new command
    second = graph.answers.next()
    assert second.status == G.TARGETS
    assert second.command_id != first.command_id
    graph.say("")
    assert graph.answers.next().status == G.NO_COMMAND
    graph.say("x" * 10_000)
    assert graph.answers.next().status == G.INVALID_COMMAND
    graph.peer.show(RED)
    assert graph.answers.silent(0.3)


def test_once_waits_for_an_image_that_can_be_used(make_graph: MakeGraph) -> None:
    graph = make_graph(mode="once", max_image_age=5.0)
    graph.say("the red cup")
    header = graph.peer.header()
    header.stamp.sec -= 10
    graph.peer.show(RED, header)
    assert graph.answers.next().status == G.STALE_IMAGE
    broken = Image(header=graph.peer.header(), encoding="rgb8", height=48, width=64, step=192)
    graph.peer.send(broken)
    assert graph.answers.next().status == G.INVALID_IMAGE
    graph.peer.show(RED)
    assert graph.answers.next().status == G.TARGETS
    assert graph.set(max_image_age=0.01)[0].successful
    time.sleep(0.05)
    graph.say("the red cup")  # the frame is too old by now
    assert graph.answers.silent(0.3)
    assert graph.set(max_image_age=5.0)[0].successful
    graph.peer.show(RED)
    assert graph.answers.next().status == G.TARGETS


def test_the_mode_can_change_while_active(make_graph: MakeGraph) -> None:
    graph = make_graph()
    graph.say("the red cup")
    graph.peer.show(RED)
    assert graph.answers.next().status == G.TARGETS
    assert graph.set(mode="once")[0].successful
    graph.peer.show(RED)
    assert graph.answers.silent(0.3)  # the command has had its answer
    assert graph.set(mode="latched")[0].successful
    graph.peer.show(RED)
    assert graph.answers.next().status == G.TARGETS


def test_under_overload_the_newest_frame_wins(make_graph: MakeGraph) -> None:
    delay, frames, period = 0.15, 40, 0.025
    graph = make_graph(lambda settings: ColorGrounder(delay))
    graph.say("the red cup")
    sent = []
    for _ in range(frames):
        sent.append(graph.peer.show(RED).frame_id)
        time.sleep(period)
    answers = [graph.answers.next()]
    while answers[-1].header.frame_id != sent[-1]:
        answers.append(graph.answers.next())
    order = [sent.index(answer.header.frame_id) for answer in answers]
    assert order == sorted(set(order))
    assert len(order) <= frames * period / delay + 3
    # No queue: when its turn came, a frame was as old as the frame before it took, and no older.
    ages = [answer.image_age.sec + answer.image_age.nanosec / 1e9 for answer in answers]
    assert max(ages) < delay + 0.6
    assert graph.answers.silent(2 * delay)


def test_the_executor_does_not_wait_for_the_model(make_graph: MakeGraph) -> None:
    grounder = ColorGrounder()
    graph = make_graph(lambda settings: grounder)
    graph.say("the red cup")
    encoded = grounder.images_encoded
    grounder.gate.clear()
    graph.peer.show(RED)
    wait_until(lambda: grounder.images_encoded > encoded, "the beginning of the frame's grounding")
    for text in ("the blue cup", "the green cup"):
        graph.say(text)  # comes into force while the model works
    assert graph.set(target_threshold=0.25)[0].successful
    assert graph.answers.unread() == 0
    grounder.gate.set()
    assert graph.answers.next().command == "the red cup"


def test_max_rate_limits_the_frames(make_graph: MakeGraph) -> None:
    graph = make_graph(max_rate=4.0)
    graph.say("the red cup")
    begin = time.monotonic()
    while time.monotonic() - begin < 1.4:
        graph.peer.show(RED)
        time.sleep(0.02)
    elapsed = time.monotonic() - begin
    assert 2 <= graph.answers.unread() <= 4 * elapsed + 2


@pytest.mark.parametrize(
    ("limit", "seconds", "status"),
    [
        (2.0, -9, G.STALE_IMAGE),
        (2.0, 100, G.TARGETS),
        (60.0, -9, G.TARGETS),
        (0.0, -9999, G.TARGETS),
    ],
)
def test_image_age(make_graph: MakeGraph, limit: float, seconds: int, status: int) -> None:
    graph = make_graph(max_image_age=limit)
    graph.say("the red cup")
    header = graph.peer.header()
    header.stamp.sec += seconds
    graph.peer.show(RED, header)
    answer = graph.answers.next()
    assert answer.status == status
    age = answer.image_age.sec + answer.image_age.nanosec / 1e9
    assert age == pytest.approx(max(0, -seconds), abs=1.0)
    if status == G.STALE_IMAGE:
        assert re.search(r"is 9\.\d s old; max_image_age is 2 s\.", answer.status_message)
        assert list(answer.objects) == []


def test_a_zero_stamp_counts_from_arrival(make_graph: MakeGraph) -> None:
    graph = make_graph()
    graph.say("the green cup")
    header = graph.peer.header()
    header.stamp = Time()
    graph.peer.show(RED, header)
    answer = graph.answers.next()
    assert answer.status == G.NO_TARGET
    assert answer.header.stamp == Time()
    assert answer.image_age.sec == 0
    assert "stamp is zero" in graph.node._answerer.clock_note  # type: ignore[union-attr]


def test_all_topics_of_one_answer_agree(make_graph: MakeGraph) -> None:
    graph = make_graph()
    kinds = {"detections": Detection2DArray, "label_image": Image, "mask": Image, "overlay": Image}
    inboxes = {name: graph.peer.listen(kind, f"grex/{name}") for name, kind in kinds.items()}
    for name in kinds:
        graph.await_heard(name)
    graph.say("the red cups")
    header = graph.peer.show(RED)
    answer = graph.answers.next()
    detections, labels, mask, overlay = (inboxes[name].next() for name in kinds)
    info = graph.peer.listen(LabelInfo, "grex/label_info", LATCHED).next()  # latched
    assert all(m.header == header for m in (answer, detections, labels, mask, overlay, info))
    assert [item.id for item in answer.objects] == [1, 2]
    assert [item.id for item in detections.detections] == ["1", "2"]
    values = to_rgb(labels)[..., 0]
    assert set(np.unique(values)) == {0, 1, 2}
    assert ((to_rgb(mask)[..., 0] > 0) == (values > 0)).all()
    for item, detection in zip(answer.objects, detections.detections, strict=True):
        roi = item.roi
        y, x = np.nonzero(values == item.id)
        assert (x.min(), y.min()) == (roi.x_offset, roi.y_offset)
        assert (x.max() + 1, y.max() + 1) == (roi.x_offset + roi.width, roi.y_offset + roi.height)
        assert detection.bbox.center.position.x == roi.x_offset + roi.width / 2
        assert detection.bbox.size_y == roi.height
        assert detection.results[0].hypothesis.class_id == "the red cups"
        assert detection.results[0].hypothesis.score == pytest.approx(item.score)
    assert [item.class_name for item in info.class_map][1:] == ["the red cups"] * 2
    assert to_rgb(overlay).shape[1] == RED.shape[1]


def test_the_overlay_is_only_drawn_for_a_listener(
    make_graph: MakeGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def draw(image: Any, grounding: Any, title: str) -> Any:
        drawn.append(title)
        return image

    monkeypatch.setattr("grex_ros.ros.publishers.draw_overlay", draw)
    graph = make_graph()
    graph.say("the red cup")
    graph.peer.show(RED)
    graph.answers.next()
    assert drawn == []
    overlays = graph.peer.listen(Image, "grex/overlay")
    graph.await_heard("overlay")
    graph.peer.show(RED)
    overlays.next()
    assert drawn == ["the red cup"]


def test_compressed_images(make_graph: MakeGraph) -> None:
    graph = make_graph(image_transport="compressed")
    graph.say("the blue cup")
    data = cv2.imencode(".png", cv2.cvtColor(BLUE, cv2.COLOR_RGB2BGR))[1].tobytes()
    header = graph.peer.send(
        CompressedImage(header=graph.peer.header(), format="rgb8; png compressed bgr8", data=data)
    )
    answer = graph.answers.next()
    assert (answer.header, answer.status) == (header, G.TARGETS)
    roi = answer.objects[0].roi
    assert (roi.x_offset, roi.y_offset, roi.width, roi.height) == (8, 8, 12, 8)


def test_remapping_image_is_enough_for_compressed_images(make_graph: MakeGraph) -> None:
    remap = ("image:=camera/color", "command:=spoken")
    graph = make_graph(image_transport="compressed", remap=remap, await_active=False)
    names = {item.topic_name for item in graph.node.subscriptions}
    assert f"{graph.namespace}/spoken" in names
    deadline = time.monotonic() + 10
    wanted = f"{graph.namespace}/camera/color/compressed"
    while wanted not in {item.topic_name for item in graph.node.subscriptions}:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_command_in_force_is_told_to_those_who_come_late(make_graph: MakeGraph) -> None:
    graph = make_graph()
    graph.say("the red cup")
    told = graph.peer.listen(String, "grex/current_command", LATCHED)
    assert told.next().data == "the red cup"
    graph.say("")
    assert told.next().data == ""


def test_thresholds_reach_the_model_at_once(make_graph: MakeGraph) -> None:
    grounder = ColorGrounder()
    graph = make_graph(lambda settings: grounder)
    graph.say("the red cup")
    graph.peer.show(RED)
    graph.answers.next()
    assert grounder.thresholds.target == 0.5
    assert grounder.thresholds.no_target == 0.5  # -1: the model's own
    results = graph.set(target_threshold=0.25, mask_threshold=0.75, no_target_threshold=0.125)
    assert all(item.successful for item in results)
    graph.peer.show(RED)
    graph.answers.next()
    thresholds = grounder.thresholds
    assert (thresholds.target, thresholds.mask, thresholds.no_target) == (0.25, 0.75, 0.125)
    assert graph.set(no_target_threshold=-1.0)[0].successful
    graph.peer.show(RED)
    graph.answers.next()
    assert grounder.thresholds.no_target == 0.5


def test_diagnostics(make_graph: MakeGraph) -> None:
    graph = make_graph()
    inbox = graph.peer.listen(DiagnosticArray, "/diagnostics")

    def told(wanted: Callable[[DiagnosticStatus, dict[str, str]], bool]) -> dict[str, str]:
        while True:
            status = inbox.next().status[0]
            values = {item.key: item.value for item in status.values}
            if status.hardware_id == f"{graph.namespace}/grex" and wanted(status, values):
                return values

    told(
        lambda status, values: (
            status.level == DiagnosticStatus.WARN and "No image" in status.message
        )
    )
    graph.say("the red cup")
    for _ in range(5):
        graph.peer.show(RED)
        graph.answers.next()
    values = told(lambda status, values: status.level == DiagnosticStatus.OK)
    assert values["state"] == "active"
    assert values["answers"] == "5"
    assert values["rate_hz"] == "1.00"
    assert values["last_status"] == "TARGETS"
    assert values["command"] == "the red cup"
    assert values["model"] == "color@0123456789ab"
    assert float(values["latency_s"]) > 0
    assert 0 <= float(values["image_age_s"]) < 1
    graph.peer.send(Image(header=graph.peer.header(), encoding="rgb8"))
    values = told(lambda status, values: values["last_status"] == "INVALID_IMAGE")
    assert "no pixels" in values["last_error"]
    graph.change("deactivate")
    values = told(lambda status, values: "inactive" in status.message)
    assert values["state"] == "inactive"


def test_cameras_send_best_effort(make_graph: MakeGraph) -> None:
    graph = make_graph()
    camera = graph.peer.node.create_publisher(Image, "image", qos_profile_sensor_data)
    wait_until(lambda: camera.get_subscription_count() > 0, "a subscription to the camera")
    header = graph.peer.header()
    camera.publish(to_image(RED, header))
    assert graph.answers.next().header == header


def test_qos_can_be_overridden_and_misfits_are_named(make_graph: MakeGraph, tmp_path: Path) -> None:
    namespace_of_next = make_graph(autostart=False, await_active=False).namespace
    number = int(namespace_of_next.rsplit("_", 1)[1]) + 1
    topic = f"/graph_{number}/image"
    overrides = {f"qos_overrides.{topic}.subscription.reliability": "reliable"}
    with stderr_in(tmp_path) as errors:
        graph = make_graph(**overrides)
        assert graph.namespace == f"/graph_{number}"
        (images,) = (item for item in graph.node.subscriptions if item.topic_name == topic)
        assert images.qos_profile.reliability == ReliabilityPolicy.RELIABLE
        best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        graph.peer.node.create_publisher(Image, "image", best_effort)
        remedy = f"qos_overrides.{topic}.subscription.reliability"
        wait_until(lambda: remedy in errors(), "the warning")
        assert "[WARN]" in errors()


def test_a_callback_that_raises_ends_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    context = Context()
    rclpy.init(context=context)
    node = GrexNode(grounder_factory=color_grounder, context=context, namespace="/lonely")
    calls = []

    def fail() -> None:
        calls.append(1)
        raise ValueError("broken callback")

    node.create_timer(0.01, fail)
    thread = threading.Thread(target=spin, args=(node,), daemon=True)
    thread.start()
    wait_until(lambda: len(calls) > 3, "a call after a failed one")
    context.try_shutdown()
    thread.join(10)
    assert not thread.is_alive()
    node.destroy_node()
    assert "A callback failed: ValueError: broken callback" in capfd.readouterr().err


def test_simulated_time_before_the_clock_runs(make_graph: MakeGraph) -> None:
    graph = make_graph(use_sim_time=True)
    graph.say("the red cup")
    graph.peer.show(RED)
    answer = graph.answers.next()
    assert answer.status == G.TARGETS  # by the node's clock the stamp lies in the future
    assert graph.node.get_parameter("use_sim_time").type_ == Parameter.Type.BOOL
