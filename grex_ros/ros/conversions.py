"""Images between ROS messages and numpy, with cv_bridge's semantics and without cv_bridge.

Every encoding that a colour or grey camera sends becomes (H, W, 3) uint8 RGB. As in cv_bridge,
sixteen bits become eight by 255 / 65535, and generic three and four channel images ("8UC3", "8UC4")
are taken as BGR and BGRA. Unlike it, an image whose fields contradict each other raises a sentence
that says how.
"""

from __future__ import annotations

import array
import io
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

RgbArray = NDArray[np.uint8]
ImageMessage: TypeAlias = Image | CompressedImage

MAX_SIDE = 8192
"""Pixels; a height or width beyond it is taken for a broken message and never allocated. 8K video
is 7680 x 4320.
"""

# encoding -> (channels, bytes per channel, conversion to RGB as an OpenCV code; None where it is
# RGB already)
_ENCODINGS: dict[str, tuple[int, int, int | None]] = {
    "rgb8": (3, 1, None),
    "bgr8": (3, 1, cv2.COLOR_BGR2RGB),
    "8UC3": (3, 1, cv2.COLOR_BGR2RGB),
    "rgba8": (4, 1, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, 1, cv2.COLOR_BGRA2RGB),
    "8UC4": (4, 1, cv2.COLOR_BGRA2RGB),
    "mono8": (1, 1, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, 1, cv2.COLOR_GRAY2RGB),
    "rgb16": (3, 2, None),
    "bgr16": (3, 2, cv2.COLOR_BGR2RGB),
    "rgba16": (4, 2, cv2.COLOR_RGBA2RGB),
    "bgra16": (4, 2, cv2.COLOR_BGRA2RGB),
    "mono16": (1, 2, cv2.COLOR_GRAY2RGB),
    # OpenCV names a Bayer pattern by its second row, second and third column; ROS by its first two
    # pixels.
    "bayer_rggb8": (1, 1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (1, 1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (1, 1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (1, 1, cv2.COLOR_BayerGB2RGB),
    "bayer_rggb16": (1, 2, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr16": (1, 2, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg16": (1, 2, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg16": (1, 2, cv2.COLOR_BayerGB2RGB),
    "yuv422": (2, 1, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, 1, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, 1, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (2, 1, cv2.COLOR_YUV2RGB_YUY2),
}
_COMPRESSED_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")
_DEPTH_ENCODINGS = ("16UC1", "32FC1")
_GREY_CODE = cv2.COLOR_GRAY2RGB


class ImageError(ValueError):
    """An image message that cannot be read; the text is a sentence for a person."""


def to_rgb(message: ImageMessage) -> RgbArray:
    """Read an image as (H, W, 3) uint8 RGB; rgb8 without row padding is a view of the message.

    Raises ImageError for every defect: no pixels, more than MAX_SIDE pixels a side, an encoding
    that is not a colour or grey one, a step smaller than a row, fewer or more bytes than height x
    step, compressed data that cannot be decoded to its end.
    """
    if isinstance(message, CompressedImage):
        return _decompress(message)
    encoding = _known_encoding(message.encoding)
    channels, depth, code = _ENCODINGS[encoding]
    pixels = _pixels(message, channels, depth)
    if channels == 2 and message.width % 2:
        raise ImageError(f"{encoding} needs an even width, not {message.width} pixels.")
    if encoding.startswith("bayer") and min(message.width, message.height) < 3:
        code = _GREY_CODE  # OpenCV has nothing to interpolate from and answers black
    return _eight_bits(pixels if code is None else cv2.cvtColor(pixels, code))


def image_size(message: ImageMessage) -> tuple[int, int]:
    """Height and width in pixels without decoding; (0, 0) where the message says nothing usable."""
    if isinstance(message, CompressedImage):
        try:
            with _open_compressed(message) as picture:
                width, height = picture.size
        except ImageError:
            return 0, 0
    else:
        height, width = message.height, message.width
    return (height, width) if _sane_size(height, width) else (0, 0)


def to_image(pixels: NDArray[np.uint8] | NDArray[np.uint16], header: Header) -> Image:
    """Build a mono8, mono16 or rgb8 message from (H, W) uint8, (H, W) uint16 or (H, W, 3) uint8.

    The header is shared, not copied. Raises ValueError for any other array.
    """
    kinds = {(2, "uint8"): "mono8", (2, "uint16"): "mono16", (3, "uint8"): "rgb8"}
    kind = kinds.get((pixels.ndim, pixels.dtype.name))
    if kind is None or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ValueError(
            f"no image encoding for an array of {pixels.dtype} with shape {pixels.shape}"
        )
    data = array.array("B")  # the only form that rclpy takes fast with and without its field checks
    data.frombytes(np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<")).tobytes())
    height, width = pixels.shape[:2]
    return Image(
        header=header,
        height=height,
        width=width,
        encoding=kind,
        is_bigendian=0,
        step=width * pixels.itemsize * (3 if pixels.ndim == 3 else 1),
        data=data,
    )


def _known_encoding(encoding: str) -> str:
    if encoding in _ENCODINGS:
        return encoding
    if encoding.lower() in _ENCODINGS:
        return encoding.lower()
    if encoding in _DEPTH_ENCODINGS:
        raise ImageError(
            f"The encoding {encoding} holds depth; the image topic takes colour or grey images."
        )
    named = repr(encoding[:40]) if encoding else "empty"
    raise ImageError(f"The image's encoding is {named}; known are {', '.join(_ENCODINGS)}.")


def _sane_size(height: int, width: int) -> bool:
    return 0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE


def _check_size(height: int, width: int) -> None:
    if height == 0 or width == 0:
        raise ImageError(f"The image has no pixels: its size is {width} x {height}.")
    if not _sane_size(height, width):
        raise ImageError(
            f"An image of {width} x {height} pixels is too large: at most {MAX_SIDE} a side are"
            " taken."
        )


def _pixels(message: Image, channels: int, depth: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The pixels, (H, W) or (H, W, channels), in native byte order, without row padding."""
    height, width, step = message.height, message.width, message.step
    _check_size(height, width)
    row = width * channels * depth
    if step < row:
        raise ImageError(
            f"The image's step is {step} bytes, but a row of {width} pixels in {message.encoding}"
            f" takes {row}."
        )
    if len(message.data) != height * step:
        kind = "truncated" if len(message.data) < height * step else "malformed"
        raise ImageError(
            f"The image is {kind}: {len(message.data)} bytes came where {height} rows of {step}"
            f" bytes are {height * step}."
        )
    rows = np.frombuffer(message.data, np.uint8).reshape(height, step)[:, :row]
    shape = (height, width) if channels == 1 else (height, width, channels)
    if depth == 1:
        return np.ascontiguousarray(rows).reshape(shape)
    wide = np.ascontiguousarray(rows).view(">u2" if message.is_bigendian else "<u2")
    return wide.astype(np.uint16, copy=False).reshape(shape)


def _eight_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels
    eight: NDArray[Any] = cv2.convertScaleAbs(pixels, alpha=255 / 65535)
    return eight


def _open_compressed(message: CompressedImage) -> PillowImage.Image:
    """The picture behind a compressed message, its pixels not yet decoded."""
    if not message.data:
        raise ImageError("The compressed image holds no data.")
    try:
        return PillowImage.open(io.BytesIO(bytes(message.data)), formats=_COMPRESSED_FORMATS)
    except PillowImage.DecompressionBombError as error:
        raise ImageError(
            f"The compressed image is too large: at most {MAX_SIDE} pixels a side are taken."
        ) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError(
            f"The compressed image (format {message.format[:40]!r}, {len(message.data)} bytes) is"
            " none of"
            f" {', '.join(_COMPRESSED_FORMATS)}, or its beginning is damaged."
        ) from error


def _decompress(message: CompressedImage) -> RgbArray:
    with _open_compressed(message) as picture:
        width, height = picture.size
        _check_size(height, width)
        try:
            if (
                picture.mode.startswith("I;16") or picture.mode == "I"
            ):  # Pillow would clip sixteen bits to eight
                grey = _eight_bits(np.asarray(picture).astype(np.uint16))
                return cv2.cvtColor(grey, _GREY_CODE).astype(np.uint8, copy=False)
            return np.array(picture.convert("RGB"))
        except MemoryError:
            raise
        except Exception as error:  # decoders raise whatever damaged data leads them to
            raise ImageError(
                f"The compressed image ({width} x {height}) is truncated or damaged: {error}."
            ) from error
