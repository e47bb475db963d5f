"""The node `camera`: a tabletop, rendered or from a bag, with depth and the truth about it.

    ros2 run grex_ros grex_camera --ros-args -p seed:=3

Publishes, all with one header: ~/image_raw (rgb8), ~/depth/image_raw (32FC1, metres),
~/camera_info and ~/ground_truth (std_msgs/String, JSON: kind, colour, size, box and mask of every
object in view).
"""

from __future__ import annotations

import sys
from itertools import cycle
from pathlib import Path
from typing import TypeVar

import rclpy
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header, String

from grex_ros.demo import pictures
from grex_ros.demo.files import demo_bag
from grex_ros.demo.pictures import Picture

T = TypeVar("T")
TRUTH_QOS = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Camera(Node):
    """Publishes its pictures one after the other, again and again, each with a fresh stamp."""

    def __init__(self) -> None:
        super().__init__("camera")
        seed = self._parameter("seed", 0, "Which objects, light and view.", (0, 2**31 - 1))
        width = self._parameter("width", 640, "Of the picture, pixels.", (64, 4096))
        height = self._parameter("height", 480, "Of the picture, pixels.", (64, 4096))
        rate = self._parameter("rate", 4.0, "Pictures a second, Hz.", (0.1, 60.0))
        about = "render, bag, or auto: render, and play the bag where that cannot be."
        source = self._parameter("source", "auto", about)
        bag = self._parameter("bag", "", "A bag of this camera; empty = the one in the package.")
        if source not in ("auto", "render", "bag"):
            raise ValueError(f"source must be auto, render or bag, not {source!r}")
        self._image = self.create_publisher(Image, "~/image_raw", qos_profile_sensor_data)
        self._depth = self.create_publisher(Image, "~/depth/image_raw", qos_profile_sensor_data)
        self._info = self.create_publisher(CameraInfo, "~/camera_info", qos_profile_sensor_data)
        self._truth = self.create_publisher(String, "~/ground_truth", TRUTH_QOS)

        taken = self._take(source, Path(bag) if bag else None, seed, width, height)
        self._pictures = cycle(taken)
        truth = taken[0].truth
        kinds = ", ".join(" ".join(filter(None, (s.color, s.kind))) for s in truth.view)
        self.get_logger().info(f"Scene {truth.seed} ({truth.source}): {kinds}")
        self._timer = self.create_timer(1.0 / rate, self._publish)

    def _parameter(
        self, name: str, default: T, about: str, bounds: tuple[float, float] | None = None
    ) -> T:
        described = ParameterDescriptor(description=about, read_only=True)
        if bounds and isinstance(default, int):
            whole = IntegerRange(from_value=int(bounds[0]), to_value=int(bounds[1]), step=1)
            described.integer_range = [whole]
        elif bounds:
            limits = FloatingPointRange(from_value=bounds[0], to_value=bounds[1])
            described.floating_point_range = [limits]
        value: T = self.declare_parameter(name, default, described).value
        return value

    def _take(
        self, source: str, bag: Path | None, seed: int, width: int, height: int
    ) -> list[Picture]:
        from grex_ros.scenes.renderer import RenderingUnavailable

        if source != "bag":
            try:
                return [pictures.render_picture(seed, width, height)]
            except RenderingUnavailable as error:
                if source == "render":
                    raise
                self.get_logger().warning(
                    f"Nothing can be rendered here, so a bag is played: {error}"
                )
        return pictures.read_bag(bag or demo_bag(), seed)

    def _publish(self) -> None:
        picture = next(self._pictures)
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=pictures.FRAME_ID)
        self._truth.publish(pictures.truth_message(picture, header))
        self._info.publish(pictures.camera_info_message(picture, header))
        if self._depth.get_subscription_count():
            self._depth.publish(pictures.depth_message(picture, header))
        self._image.publish(pictures.image_message(picture, header))


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted; 1 and one line if it cannot take pictures."""
    rclpy.init(args=args)
    node = None
    try:
        node = Camera()
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (OSError, ImportError, ValueError, RuntimeError, ParameterException) as error:
        get_logger("camera").fatal(f"The camera cannot take pictures: {error}")
        sys.exit(1)
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
