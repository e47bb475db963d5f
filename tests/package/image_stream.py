"""`python image_stream.py publish|subscribe COUNT`: a best-effort stream of VGA images."""

from __future__ import annotations

import array
import sys
import time

import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image


def publish(count: int) -> None:
    """Send as soon as someone listens, 20 images a second."""
    node = rclpy.create_node("grex_stream_source")
    publisher = node.create_publisher(Image, "grex_stream", qos_profile_sensor_data)
    image = Image(height=480, width=640, encoding="rgb8", step=1920)
    image.data = array.array("B", bytes(range(256)) * 3600)
    end = time.monotonic() + 20
    while not publisher.get_subscription_count() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.5)  # the other side's discovery
    for number in range(count):
        image.header.frame_id = str(number)
        publisher.publish(image)
        time.sleep(0.05)
    time.sleep(0.5)


def subscribe(count: int) -> None:
    """Print how many came, once the last one is there or none has come for three seconds."""
    node = rclpy.create_node("grex_stream_sink")
    received: list[str] = []
    node.create_subscription(
        Image,
        "grex_stream",
        lambda image: received.append(image.header.frame_id),
        qos_profile_sensor_data,
    )
    last, seen = time.monotonic() + 20, 0
    while time.monotonic() < last + 3 and str(count - 1) not in received:
        rclpy.spin_once(node, timeout_sec=0.2)
        if len(received) > seen:
            last, seen = time.monotonic(), len(received)
    print(len(received))


if __name__ == "__main__":
    rclpy.init()
    {"publish": publish, "subscribe": subscribe}[sys.argv[1]](int(sys.argv[2]))
    rclpy.shutdown()
