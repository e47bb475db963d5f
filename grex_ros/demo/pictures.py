"""What the demo's camera takes: rendered scenes, or those of a recorded bag."""

from __future__ import annotations

import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header, String

from grex_ros.demo.truth import Truth, from_json
from grex_ros.ros.conversions import to_image, to_rgb

FRAME_ID = "camera_optical_frame"
OBJECTS = (6, 10)  # enough to choose from
FIRST_SCENE = 2**40  # far from the seeds of any training set: the model has not seen the demo
DEPTH_STEPS = 4096  # a metre: finer than real cameras, coarse enough to be compressed


@dataclass(frozen=True, eq=False)
class Picture:
    """One moment of the camera.

    rgb (H, W, 3) uint8; depth (H, W) float32, metres along the optical axis, nan where there is
    none; K (3, 3).
    """

    rgb: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    K: npt.NDArray[np.float64]
    truth: Truth


def render_picture(seed: int, width: int, height: int) -> Picture:
    """The scene of a seed. Raises RenderingUnavailable (grex_ros.scenes.renderer)."""
    from grex_ros.scenes.renderer import SceneRenderer
    from grex_ros.scenes.scene import sample_scene, view

    scene = sample_scene(FIRST_SCENE + seed, count=OBJECTS)
    with SceneRenderer() as renderer:
        frame = renderer.render(scene, width, height)
    seen = tuple(view(scene, frame))
    masks = {item.index: frame.labels == item.index for item in seen}
    truth = Truth(seed, "rendered", (height, width), seen, masks)
    depth = (np.round(frame.depth * DEPTH_STEPS) / DEPTH_STEPS).astype(np.float32)
    return Picture(frame.rgb, depth, frame.K, truth)


def image_message(picture: Picture, header: Header) -> Image:
    """The colours, rgb8."""
    return to_image(picture.rgb, header)


def depth_message(picture: Picture, header: Header) -> Image:
    """The depth, 32FC1 in metres (REP 118)."""
    height, width = picture.depth.shape
    data = array.array("B")  # the form that rclpy takes fast
    data.frombytes(picture.depth.astype("<f4").tobytes())
    return Image(
        header=header, height=height, width=width, encoding="32FC1", step=4 * width, data=data
    )


def camera_info_message(picture: Picture, header: Header) -> CameraInfo:
    """A pinhole camera without distortion."""
    height, width = picture.depth.shape
    K = picture.K.ravel().tolist()
    return CameraInfo(
        header=header,
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=K,
        r=np.eye(3).ravel().tolist(),
        p=[*K[0:3], 0.0, *K[3:6], 0.0, *K[6:9], 0.0],
    )


def truth_message(picture: Picture, header: Header) -> String:
    """The truth, with the picture's header, as JSON."""
    stamp = header.stamp.sec, header.stamp.nanosec
    return String(data=picture.truth.to_json(stamp, header.frame_id))


def picture_from_messages(messages: Mapping[str, Any], source: str) -> Picture:
    """A picture from its recorded messages, by the last part of their topics.

    Keys: `image` (Image or CompressedImage), `depth`, `camera_info`, `ground_truth`. KeyError for a
    missing one, ImageError for an image that cannot be read.
    """
    depth, info = messages["depth"], messages["camera_info"]
    metres = np.frombuffer(depth.data, "<f4").reshape(depth.height, depth.width)
    _, truth = from_json(messages["ground_truth"].data)
    return Picture(
        rgb=to_rgb(messages["image"]),
        depth=metres,
        K=np.array(info.k).reshape(3, 3),
        truth=Truth(truth.seed, source, truth.size, truth.view, truth.masks),
    )


def read_bag(path: Path, seed: int) -> list[Picture]:
    """The pictures of one scene of a recorded camera; `seed` modulo their number chooses the scene.

    FileNotFoundError without a bag, ImportError without rosbags, ValueError if the bag holds no
    pictures with their truth.
    """
    from rclpy.serialization import deserialize_message
    from rosbags.rosbag2 import Reader

    if not path.exists():
        raise FileNotFoundError(f"there is no bag {path}")
    kinds = {
        "image": CompressedImage,
        "depth": Image,
        "camera_info": CameraInfo,
        "ground_truth": String,
    }
    moments: dict[int, dict[str, Any]] = {}
    with Reader(path) as reader:
        for connection, time, data in reader.messages():
            name = _role(connection.topic)
            if name:
                message = deserialize_message(bytes(data), kinds[name])
                moments.setdefault(time, {})[name] = message
    whole = [messages for messages in moments.values() if messages.keys() == kinds.keys()]
    pictures = [picture_from_messages(messages, path.name) for messages in whole]
    scenes = sorted({picture.truth.seed for picture in pictures})
    if not scenes:
        raise ValueError(f"bag {path} holds no pictures with their truth")
    return _of_scene(pictures, scenes[seed % len(scenes)])


def _role(topic: str) -> str:
    for ending, role in (
        ("/image_raw/compressed", "image"),
        ("/depth/image_raw", "depth"),
        ("/camera_info", "camera_info"),
        ("/ground_truth", "ground_truth"),
    ):
        if topic.endswith(ending):
            return role
    return ""


def _of_scene(pictures: Iterable[Picture], seed: int) -> list[Picture]:
    return [picture for picture in pictures if picture.truth.seed == seed]
