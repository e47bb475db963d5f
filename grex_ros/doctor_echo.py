"""The two ends of `grex doctor`'s round trip: a process that sends messages back, and its caller.

python -m grex_ros.doctor_echo TOPIC    sends everything on TOPIC back until it is terminated
"""

from __future__ import annotations

import array
import sys
import time
from dataclasses import dataclass

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from grex_ros.msg import GroundedObject, Grounding


@dataclass(frozen=True)
class RoundTrip:
    """How long an answer took there and back, seconds, and how many images arrived there."""

    seconds: float
    images: int


class Echo(Node):
    """Sends answers back, and the header of every image."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"{topic}_echo")
        answers = self.create_publisher(Grounding, f"{topic}/answer_back", 10)
        headers = self.create_publisher(Header, f"{topic}/header_back", 50)
        self.create_subscription(Grounding, f"{topic}/answer", answers.publish, 10)
        self.create_subscription(
            Image,
            f"{topic}/image",
            lambda image: headers.publish(image.header),
            qos_profile_sensor_data,
        )


def talk_to(topic: str, *, images: int, timeout: float) -> RoundTrip | None:
    """Send an answer until it comes back as it was, then images at 20 Hz; None after ``timeout``
    seconds without one.
    """
    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node(f"{topic}_caller", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        return _converse(node, executor, topic, images, timeout)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


def _converse(
    node: Node, executor: SingleThreadedExecutor, topic: str, images: int, timeout: float
) -> RoundTrip | None:
    back: list[Grounding] = []
    arrived: list[Header] = []
    answers = node.create_publisher(Grounding, f"{topic}/answer", 10)
    pictures = node.create_publisher(Image, f"{topic}/image", qos_profile_sensor_data)
    node.create_subscription(Grounding, f"{topic}/answer_back", back.append, 10)
    node.create_subscription(Header, f"{topic}/header_back", arrived.append, 50)

    end = time.monotonic() + timeout
    seconds = 0.0
    sent = Grounding()
    number = 0
    while not (back and back[-1] == sent):
        if time.monotonic() > end:
            return None
        number += 1
        sent = Grounding(command_id=str(number), objects=[GroundedObject(id=1, score=0.5)])
        begin = time.monotonic()
        answers.publish(sent)
        while time.monotonic() < begin + 0.5 and not (back and back[-1] == sent):
            executor.spin_once(timeout_sec=0.05)
        seconds = time.monotonic() - begin

    pixels = array.array("B", bytes(640 * 480 * 3))
    for index in range(images):
        header = Header(frame_id=str(index))
        pictures.publish(
            Image(header=header, height=480, width=640, encoding="rgb8", step=1920, data=pixels)
        )
        pause = time.monotonic() + 0.05
        while (left := pause - time.monotonic()) > 0:
            executor.spin_once(timeout_sec=left)
    pause = time.monotonic() + 0.5
    while len(arrived) < images and (left := pause - time.monotonic()) > 0:
        executor.spin_once(timeout_sec=left)
    return RoundTrip(seconds, len({header.frame_id for header in arrived}))


def main() -> None:
    """Echo until terminated."""
    rclpy.init()
    node = Echo(sys.argv[1])
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
