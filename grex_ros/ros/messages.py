"""Answers as messages: one atomic Grounding and the plain topics beside it, all with the image's
own header.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Duration
from numpy.typing import NDArray
from sensor_msgs.msg import Image, RegionOfInterest
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    LabelInfo,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    VisionClass,
)

from grex_ros.grounding.command import Command
from grex_ros.grounding.objects import GroundedObject, Grounding
from grex_ros.msg import GroundedObject as GroundedObjectMessage
from grex_ros.msg import Grounding as GroundingMessage
from grex_ros.ros.conversions import to_image

BACKGROUND = "background"


@dataclass(frozen=True)
class ReceivedCommand:
    """A command as it came: its words, and either what they mean or why they mean nothing.

    ``meaning`` is None for an empty text, which clears the command in force, and where ``error`` (a
    sentence) is set.
    """

    id: str
    text: str
    meaning: Command | None = None
    error: str = ""


@dataclass(frozen=True)
class Answer:
    """All that one answer says; its messages are made from this alone. Durations in seconds."""

    header: Header
    command: ReceivedCommand | None
    grounding: Grounding
    image_age: float
    latency: float
    model: str


def grounding_message(answer: Answer) -> GroundingMessage:
    """The contract with planners; see msg/Grounding.msg."""
    grounding, command = answer.grounding, answer.command
    meaning = command.meaning if command else None
    return GroundingMessage(
        header=answer.header,
        command=command.text if command else "",
        command_id=command.id if command else "",
        action=meaning.action if meaning else "",
        expression=grounding.expression,
        status=int(grounding.status),
        status_message=grounding.status_message,
        no_target_score=float(grounding.no_target_score),
        objects=[_object_message(item, answer.header) for item in grounding.objects],
        image_age=duration(answer.image_age),
        latency=duration(answer.latency),
        model=answer.model,
    )


def detections_message(answer: Answer) -> Detection2DArray:
    """One detection an object, same order: class_id = the expression, id = the object's id, box in
    pixels.
    """
    detections = [_detection(item, answer) for item in answer.grounding.objects]
    return Detection2DArray(header=answer.header, detections=detections)


def label_image_message(answer: Answer) -> Image:
    """mono8, or mono16 above 254 objects: each pixel holds an object's id, 0 = none."""
    return to_image(answer.grounding.label_image(), answer.header)


def mask_message(answer: Answer) -> Image:
    """mono8: 255 = some target, 0 = none."""
    return to_image(answer.grounding.mask(), answer.header)


def label_info_message(answer: Answer, threshold: float) -> LabelInfo:
    """What the label image's values mean; ``threshold`` is the target threshold of the answer."""
    names = [BACKGROUND, *(answer.grounding.expression for _ in answer.grounding.objects)]
    classes = [VisionClass(class_id=value, class_name=name) for value, name in enumerate(names)]
    return LabelInfo(header=answer.header, class_map=classes, threshold=float(threshold))


def overlay_message(picture: NDArray[np.uint8], answer: Answer) -> Image:
    """rgb8 of a drawn picture (H', W, 3)."""
    return to_image(picture, answer.header)


def duration(seconds: float) -> Duration:
    """Seconds, not negative, as a duration message of whole nanoseconds."""
    whole, rest = divmod(round(max(0.0, seconds) * 1e9), 1_000_000_000)
    return Duration(sec=min(int(whole), 2**31 - 1), nanosec=int(rest))


def _object_message(item: GroundedObject, header: Header) -> GroundedObjectMessage:
    x0, y0, x1, y1 = item.box
    return GroundedObjectMessage(
        id=item.id,
        score=float(item.score),
        roi=RegionOfInterest(
            x_offset=x0, y_offset=y0, width=x1 - x0, height=y1 - y0, do_rectify=False
        ),
        mask=to_image(np.where(item.mask, 255, 0).astype(np.uint8), header),
        has_pose=False,
    )


def _detection(item: GroundedObject, answer: Answer) -> Detection2D:
    x0, y0, x1, y1 = item.box
    box = BoundingBox2D(size_x=float(x1 - x0), size_y=float(y1 - y0))
    box.center.position.x = (
        x0 + x1
    ) / 2  # of the box's edges: a box over pixel 0 alone has its centre at 0.5
    box.center.position.y = (y0 + y1) / 2
    hypothesis = ObjectHypothesis(class_id=answer.grounding.expression, score=float(item.score))
    return Detection2D(
        header=answer.header,
        results=[ObjectHypothesisWithPose(hypothesis=hypothesis)],
        bbox=box,
        id=str(item.id),
    )
