"""Answers as messages: same ids, order, boxes and header everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from grex_ros.msg import Grounding as GroundingMessage
from std_msgs.msg import Header

from grex_ros.grounding.command import Command
from grex_ros.grounding.objects import GroundedObject, Grounding, Status
from grex_ros.ros.conversions import to_rgb
from grex_ros.ros.messages import (
    Answer,
    ReceivedCommand,
    detections_message,
    duration,
    grounding_message,
    label_image_message,
    label_info_message,
    mask_message,
    overlay_message,
)

COMMAND = ReceivedCommand("7", "get both", Command("get both", "get", "both"))


def answer(*objects: GroundedObject, size: tuple[int, int] = (6, 8)) -> Answer:
    status = Status.TARGETS if objects else Status.NO_TARGET
    message = "" if objects else "Nothing."
    grounding = Grounding("both", status, message, 0.25, objects, size, 0.1)
    header = Header(stamp=Time(sec=12, nanosec=999_999_999), frame_id="optical")
    return Answer(header, COMMAND, grounding, 0.5, 0.125, "m@0")


def overlapping() -> Answer:
    mask = np.ones((3, 4), bool)
    mask[0, 0] = False
    return answer(
        GroundedObject(1, 0.9, (1, 1, 5, 4), mask),
        GroundedObject(2, 0.8, (4, 2, 8, 6), np.ones((4, 4), bool)),
    )


def test_constants_equal_the_enumeration() -> None:
    constants = {name: getattr(GroundingMessage, name) for name in Status.__members__}
    assert constants == {item.name: int(item) for item in Status}


def test_grounding() -> None:
    made = grounding_message(overlapping())
    assert (made.command, made.command_id, made.action) == ("get both", "7", "get")
    assert (made.expression, made.status, made.status_message) == ("both", 1, "")
    assert made.no_target_score == pytest.approx(0.25)
    assert (made.image_age.sec, made.image_age.nanosec) == (0, 500_000_000)
    assert (made.latency.sec, made.latency.nanosec) == (0, 125_000_000)
    assert made.model == "m@0"
    assert [item.id for item in made.objects] == [1, 2]
    assert [item.score for item in made.objects] == pytest.approx([0.9, 0.8])
    assert not any(item.has_pose for item in made.objects)
    roi = made.objects[0].roi
    assert (roi.x_offset, roi.y_offset, roi.width, roi.height) == (1, 1, 4, 3)
    assert not roi.do_rectify
    mask = made.objects[0].mask
    assert (mask.encoding, mask.width, mask.height, mask.step) == ("mono8", 4, 3, 4)
    assert to_rgb(mask)[..., 0].tolist() == [[0, 255, 255, 255], [255] * 4, [255] * 4]


def test_plain_topics_agree_with_the_grounding() -> None:
    made = overlapping()
    labels = to_rgb(label_image_message(made))[..., 0]
    assert labels[2, 4] == 1  # both masks are here; the better score is on top
    assert labels[3, 7] == 2
    assert labels[1, 1] == 0
    union = to_rgb(mask_message(made))[..., 0]
    assert ((union > 0) == (labels > 0)).all()
    first, second = detections_message(made).detections
    assert (first.id, second.id) == ("1", "2")
    assert first.results[0].hypothesis.class_id == "both"
    assert first.results[0].hypothesis.score == pytest.approx(0.9)
    box = first.bbox
    assert (box.center.position.x, box.center.position.y, box.center.theta) == (3.0, 2.5, 0.0)
    assert (box.size_x, box.size_y) == (4.0, 3.0)
    info = label_info_message(made, 0.75)
    named = [(item.class_id, item.class_name) for item in info.class_map]
    assert named == [(0, "background"), (1, "both"), (2, "both")]
    assert info.threshold == pytest.approx(0.75)


def test_nothing_found_is_empty_everywhere() -> None:
    made = answer()
    assert grounding_message(made).objects == []
    assert grounding_message(made).status == GroundingMessage.NO_TARGET
    assert detections_message(made).detections == []
    for image in (label_image_message(made), mask_message(made)):
        assert (image.encoding, image.height, image.width) == ("mono8", 6, 8)
        assert not any(image.data)
    assert len(label_info_message(made, 0.5).class_map) == 1


def test_an_image_of_unknown_size_makes_empty_images() -> None:
    made = answer(size=(0, 0))
    for image in (label_image_message(made), mask_message(made)):
        assert (image.height, image.width, len(image.data)) == (0, 0, 0)


def test_more_objects_than_eight_bits_hold() -> None:
    one = np.ones((1, 1), bool)
    objects = [GroundedObject(n, 1 - n / 1000, (n - 1, 0, n, 1), one) for n in range(1, 301)]
    made = answer(*objects, size=(1, 300))
    image = label_image_message(made)
    assert image.encoding == "mono16"
    assert np.frombuffer(image.data, "<u2").tolist() == list(range(1, 301))
    assert grounding_message(made).objects[299].id == 300


def test_every_header_is_the_images() -> None:
    made = overlapping()
    grounding = grounding_message(made)
    detections = detections_message(made)
    headers = [
        grounding.header,
        *(item.mask.header for item in grounding.objects),
        detections.header,
        *(item.header for item in detections.detections),
        label_image_message(made).header,
        mask_message(made).header,
        label_info_message(made, 0.5).header,
        overlay_message(np.zeros((2, 2, 3), np.uint8), made).header,
    ]
    assert all(header == made.header for header in headers)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, (0, 0)),
        (-1.0, (0, 0)),
        (1.5, (1, 500_000_000)),
        (0.9999999999, (1, 0)),
        (1e12, (2**31 - 1, 0)),
    ],
)
def test_durations(seconds: float, expected: tuple[int, int]) -> None:
    made = duration(seconds)
    assert (made.sec, made.nanosec) == expected
