"""An answer of the node beside the truth about its picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from grex_ros.demo.truth import Truth, truth_record
from grex_ros.grounding.objects import GroundedObject, Grounding, Status
from grex_ros.grounding.record import to_record
from grex_ros.msg import Grounding as GroundingMessage
from grex_ros.scenes.expressions import Expression


@dataclass(frozen=True)
class Answer:
    """One command of the demo and what came of it.

    targets: `ViewObject.index` of what was meant. response_time: seconds from the command to its
    answer, waiting for the next picture included.
    """

    number: int
    command: str
    expression: Expression
    message: GroundingMessage
    grounding: Grounding
    truth: Truth
    targets: tuple[int, ...]
    correct: bool
    response_time: float

    def to_record(self) -> dict[str, Any]:
        """Plain values for a line of JSON, masks and truth included."""
        header = self.message.header
        stamp = {"sec": header.stamp.sec, "nanosec": header.stamp.nanosec}
        return {
            "number": self.number,
            "command": self.command,
            "command_id": self.message.command_id,
            "action": self.message.action,
            **to_record(self.grounding),
            "correct": self.correct,
            "header": {"stamp": stamp, "frame_id": header.frame_id},
            "image_age": round(_seconds(self.message.image_age), 6),
            "response_time": round(self.response_time, 6),
            "model": self.message.model,
            "truth": {
                "seed": self.truth.seed,
                "source": self.truth.source,
                "expression": self.expression.text,
                "program": self.expression.program,
                "category": self.expression.category,
                "falsified": self.expression.falsified,
                "targets": truth_record(self.truth, self.targets),
            },
        }


def to_grounding(message: GroundingMessage, size: tuple[int, int]) -> Grounding:
    """The message as a Grounding; ``size`` is height and width of its picture, pixels."""
    return Grounding(
        expression=message.expression,
        status=Status(message.status),
        status_message=message.status_message,
        no_target_score=message.no_target_score,
        objects=tuple(_to_object(item) for item in message.objects),
        size=size,
        latency=_seconds(message.latency),
    )


def _to_object(item: Any) -> GroundedObject:
    roi = item.roi
    box = (roi.x_offset, roi.y_offset, roi.x_offset + roi.width, roi.y_offset + roi.height)
    rows = np.frombuffer(item.mask.data, np.uint8).reshape(item.mask.height, item.mask.step)
    return GroundedObject(item.id, item.score, box, rows[:, : item.mask.width] > 0)


def _seconds(duration: Any) -> float:
    return float(duration.sec + duration.nanosec / 1e9)
