"""Record the demo's camera into a bag.

python -m grex_ros.demo.record data/demo_bag --seeds 3 8 11

Colours are JPEG; depth, camera_info and the truth are as the camera publishes them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from grex_ros.demo import pictures
from grex_ros.demo.pictures import Picture

START = 1_700_000_000  # seconds; a fixed time, so that the same seeds give the same bag
RATE = 4
JPEG_QUALITY = 95
FRAMES = 2  # a scene


def record(path: Path, seeds: Sequence[int], width: int = 640, height: int = 480) -> None:
    """Render the scenes and write them as an mcap bag (zstd). FileExistsError where one is."""
    from rosbags.interfaces import (
        Qos,
        QosDurability,
        QosHistory,
        QosLiveliness,
        QosReliability,
        QosTime,
    )
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    if path.exists():
        raise FileExistsError(f"{path} exists; remove it first")
    never = QosTime(2**31 - 1, 2**32 - 1)
    latched = Qos(
        QosHistory.KEEP_LAST, 10, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL,
        never, never, QosLiveliness.AUTOMATIC, never, False,
    )  # fmt: skip
    store = get_typestore(Stores.ROS2_HUMBLE)
    writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    connections: dict[str, Any] = {}
    with writer:
        for number, picture in enumerate(_take(seeds, width, height)):
            time = START * 10**9 + number * 10**9 // RATE
            stamp = Time(sec=time // 10**9, nanosec=time % 10**9)
            header = Header(stamp=stamp, frame_id=pictures.FRAME_ID)
            for topic, kind, message in messages(picture, header):
                if topic not in connections:
                    profiles = [latched] if topic.endswith("ground_truth") else []
                    connections[topic] = writer.add_connection(
                        topic, kind, typestore=store, offered_qos_profiles=profiles
                    )
                writer.write(connections[topic], time, serialize_message(message))


def messages(picture: Picture, header: Header) -> Iterator[tuple[str, str, Any]]:
    """Topic, type and message of all that is recorded of a picture."""
    yield "/camera/ground_truth", "std_msgs/msg/String", pictures.truth_message(picture, header)
    info = pictures.camera_info_message(picture, header)
    yield "/camera/camera_info", "sensor_msgs/msg/CameraInfo", info
    depth = pictures.depth_message(picture, header)
    yield "/camera/depth/image_raw", "sensor_msgs/msg/Image", depth
    image = CompressedImage(header=header, format="rgb8; jpeg compressed bgr8")
    bgr = cv2.cvtColor(picture.rgb, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    image.data = np.asarray(data).tobytes()
    yield "/camera/image_raw/compressed", "sensor_msgs/msg/CompressedImage", image


def _take(seeds: Sequence[int], width: int, height: int) -> Iterator[Picture]:
    for seed in seeds:
        picture = pictures.render_picture(seed, width, height)
        for _ in range(FRAMES):
            yield picture


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Record the demo's camera into a bag.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    record(arguments.path, arguments.seeds)
    size = sum(file.stat().st_size for file in arguments.path.rglob("*") if file.is_file())
    print(f"{arguments.path}: {len(arguments.seeds)} scenes, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
