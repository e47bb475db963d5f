"""Where an answer goes: the Grounding and the plain topics beside it."""

from __future__ import annotations

from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.lifecycle.publisher import LifecyclePublisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray, LabelInfo

from grex_ros.grounding.overlay import draw_overlay
from grex_ros.msg import Grounding as GroundingMessage
from grex_ros.ros import messages, qos
from grex_ros.ros.answering import ReceivedImage
from grex_ros.ros.conversions import ImageError, to_rgb
from grex_ros.ros.messages import Answer


class AnswerPublishers:
    """The publishers of a lifecycle node's answers; they are silent while the node is not active.

    Pictures are only made when someone listens.
    """

    def __init__(self, node: LifecycleNode, warn: qos.Warn) -> None:
        self._node = node

        def publisher(kind: type, topic: str, profile: QoSProfile) -> Any:
            return node.create_lifecycle_publisher(
                kind,
                topic,
                profile,
                event_callbacks=qos.publisher_events(node.resolve_topic_name(topic), warn),
                qos_overriding_options=qos.overrides(),
            )

        self._grounding = publisher(GroundingMessage, "~/grounding", qos.answers())
        self._detections = publisher(Detection2DArray, "~/detections", qos.answers())
        self._label_image = publisher(Image, "~/label_image", qos.answers())
        self._mask = publisher(Image, "~/mask", qos.answers())
        self._label_info = publisher(LabelInfo, "~/label_info", qos.latched())
        self._overlay = publisher(Image, "~/overlay", qos.answers())

    def publish(self, answer: Answer, image: ReceivedImage, target_threshold: float) -> None:
        """Send one answer. The plain topics go first: who has the Grounding can count on them being
        on their way.
        """
        if _heard(self._label_image):
            self._label_image.publish(messages.label_image_message(answer))
        if _heard(self._mask):
            self._mask.publish(messages.mask_message(answer))
        self._label_info.publish(messages.label_info_message(answer, target_threshold))
        self._detections.publish(messages.detections_message(answer))
        self._grounding.publish(messages.grounding_message(answer))
        if _heard(self._overlay):
            self._publish_overlay(answer, image)

    def _publish_overlay(self, answer: Answer, image: ReceivedImage) -> None:
        try:
            rgb = to_rgb(image.message)
        except ImageError:
            return  # there is no picture to draw on; the answer says so
        title = answer.command.text if answer.command else ""
        self._overlay.publish(
            messages.overlay_message(draw_overlay(rgb, answer.grounding, title), answer)
        )

    def destroy(self) -> None:
        """Take the topics away."""
        for publisher in (
            self._grounding,
            self._detections,
            self._label_image,
            self._mask,
            self._label_info,
            self._overlay,
        ):
            self._node.destroy_lifecycle_publisher(publisher)


def _heard(publisher: LifecyclePublisher[Any]) -> bool:
    return publisher.get_subscription_count() > 0
