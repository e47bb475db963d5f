"""A message read back says what the Grounding said that it was made of."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from grex_ros.demo.answers import to_grounding
from grex_ros.grounding.command import parse_command
from grex_ros.grounding.objects import GroundedObject, Grounding, Status
from grex_ros.ros.messages import Answer, ReceivedCommand, grounding_message


def test_message_to_grounding_and_back() -> None:
    ring = np.ones((7, 5), bool)
    ring[2:5, 1:4] = False
    corner = np.array([[True]])
    objects = (
        GroundedObject(1, 0.75, (10, 20, 15, 27), ring),
        GroundedObject(2, 0.5, (63, 47, 64, 48), corner),
    )
    said = Grounding("all cups", Status.TARGETS, "", 0.125, objects, (48, 64), 0.25)
    command = ReceivedCommand("id", "get all cups", parse_command("get all cups"))
    header = Header(stamp=Time(sec=3, nanosec=4), frame_id="camera")
    message = grounding_message(Answer(header, command, said, 0.5, 0.25, "tabletop@0"))
    read = to_grounding(message, (48, 64))
    assert [(o.id, o.score, o.box) for o in read.objects] == [
        (o.id, o.score, o.box) for o in objects
    ]
    for before, after in zip(objects, read.objects, strict=True):
        assert np.array_equal(before.mask, after.mask)
    assert (read.expression, read.status, read.no_target_score) == ("all cups", said.status, 0.125)
    assert (read.size, read.latency) == ((48, 64), 0.25)
