"""Conversions against a reference that walks over every pixel."""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from grex_ros.ros.conversions import MAX_SIDE, ImageError, image_size, to_image, to_rgb

# encoding -> names of the channels in the order of the bytes
COLOR = {
    "rgb8": "rgb",
    "bgr8": "bgr",
    "8UC3": "bgr",
    "rgba8": "rgba",
    "bgra8": "bgra",
    "8UC4": "bgra",
    "mono8": "m",
    "8UC1": "m",
}
DEEP = {"rgb16": "rgb", "bgr16": "bgr", "rgba16": "rgba", "bgra16": "bgra", "mono16": "m"}
BAYER = ("bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8")


def message(
    encoding: str, height: int, width: int, rows: list[bytes], big_endian: bool = False
) -> Image:
    step = len(rows[0]) if rows else 0
    return Image(
        header=Header(frame_id="camera"),
        encoding=encoding,
        height=height,
        width=width,
        step=step,
        is_bigendian=int(big_endian),
        data=b"".join(rows),
    )


def reference(image: Image, channels: str, depth: int) -> list[list[tuple[int, int, int]]]:
    """Pixel by pixel, from the definitions of the encodings alone."""
    picture = []
    for y in range(image.height):
        row = []
        for x in range(image.width):
            value = {}
            for index, name in enumerate(channels):
                at = y * image.step + (x * len(channels) + index) * depth
                pixel = bytes(image.data[at : at + depth])
                if depth == 2:
                    wide = struct.unpack(">H" if image.is_bigendian else "<H", pixel)[0]
                    value[name] = int(wide * 255 / 65535 + 0.5)
                else:
                    value[name] = pixel[0]
            row.append(tuple(value.get(name, value.get("m")) for name in "rgb"))
        picture.append(row)
    return picture


@st.composite
def images(draw: st.DrawFn, encodings: dict[str, str], depth: int) -> Image:
    encoding = draw(st.sampled_from(sorted(encodings)))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    padding = draw(st.integers(0, 7))
    row = width * len(encodings[encoding]) * depth + padding
    data = draw(st.binary(min_size=height * row, max_size=height * row))
    rows = [data[y * row : (y + 1) * row] for y in range(height)]
    return message(encoding, height, width, rows, big_endian=draw(st.booleans()))


@given(images(COLOR, 1))
def test_eight_bits_equal_the_reference(image: Image) -> None:
    rgb = to_rgb(image)
    assert rgb.dtype == np.uint8
    assert rgb.tolist() == np.array(reference(image, COLOR[image.encoding], 1)).tolist()


@given(images(DEEP, 2))
def test_sixteen_bits_equal_the_reference_in_both_byte_orders(image: Image) -> None:
    assert to_rgb(image).tolist() == np.array(reference(image, DEEP[image.encoding], 2)).tolist()


def test_every_value_of_sixteen_bits() -> None:
    values = np.arange(65536, dtype=">u2")
    image = message("mono16", 1, 65536 // 16, [values[:4096].tobytes()], big_endian=True)
    for start in range(0, 65536, 4096):
        image.data = values[start : start + 4096].tobytes()
        expected = [(int(v) + 128) // 257 for v in values[start : start + 4096]]
        assert to_rgb(image)[0, :, 0].tolist() == expected


@given(st.sampled_from(BAYER), st.integers(0, 1), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_bayer_interpolates_the_neighbours(encoding: str, padding: int, random: object) -> None:
    height, width = 7, 8
    rows = [random.randbytes(width + padding) for _ in range(height)]  # type: ignore[attr-defined]
    rgb = to_rgb(message(encoding, height, width, rows)).astype(int)
    pattern = encoding.removeprefix("bayer_")[:4]

    def color(y: int, x: int) -> str:
        return pattern[(y % 2) * 2 + x % 2]

    for y in range(1, height - 1):
        for x in range(1, width - 1):
            for index, name in enumerate("rgb"):
                around = [
                    rows[v][u]
                    for v in (y - 1, y, y + 1)
                    for u in (x - 1, x, x + 1)
                    if color(v, u) == name
                ]
                if color(y, x) == name:
                    around = [rows[y][x]]
                elif name == "g":
                    around = [rows[y - 1][x], rows[y + 1][x], rows[y][x - 1], rows[y][x + 1]]
                assert abs(rgb[y, x, index] - sum(around) / len(around)) <= 1, (y, x, name)


@pytest.mark.parametrize("encoding", BAYER)
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (2, 9), (1, 5)])
def test_a_bayer_image_too_small_to_interpolate_is_grey(
    encoding: str, size: tuple[int, int]
) -> None:
    height, width = size
    rgb = to_rgb(message(encoding, height, width, [bytes([77] * width)] * height))
    assert (rgb == 77).all()


@pytest.mark.parametrize(
    ("encoding", "order"),
    [("yuv422", "uyvy"), ("uyvy", "uyvy"), ("yuv422_yuy2", "yuyv"), ("yuyv", "yuyv")],
)
def test_yuv_follows_bt601(encoding: str, order: str) -> None:
    random = np.random.default_rng(3)
    height, width, padding = 4, 6, 3
    rows, expected = [], []
    for _ in range(height):
        row, colors = b"", []
        for _ in range(width // 2):
            u, v = random.integers(16, 241, 2)
            first, second = random.integers(16, 236, 2)
            luma = iter((first, second))
            row += bytes(
                int({"u": u, "v": v}[name] if name != "y" else next(luma)) for name in order
            )
            for y in (first, second):
                scaled, red, blue = 1.164 * (y - 16.0), v - 128.0, u - 128.0
                color = (
                    scaled + 1.596 * red,
                    scaled - 0.813 * red - 0.392 * blue,
                    scaled + 2.017 * blue,
                )
                colors.append([min(255.0, max(0.0, value)) for value in color])
        rows.append(row + bytes(padding))
        expected.append(colors)
    rgb = to_rgb(message(encoding, height, width, rows))
    assert np.abs(rgb.astype(float) - np.array(expected)).max() <= 2


def test_plain_rgb_is_not_copied() -> None:
    image = message("rgb8", 2, 3, [bytes(range(9))] * 2)
    assert np.shares_memory(to_rgb(image), np.frombuffer(image.data, np.uint8))


def test_eight_k_is_taken() -> None:
    height, width = 4320, 7680
    image = message("mono8", height, width, [bytes(width)] * height)
    assert to_rgb(image).shape == (height, width, 3)
    assert image_size(image) == (height, width)


def good() -> Image:
    return message("rgb8", 4, 5, [bytes(15)] * 4)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"data": bytes(59)}, "truncated: 59 bytes came where 4 rows of 15 bytes are 60"),
        ({"data": b""}, "truncated"),
        ({"data": bytes(61)}, "malformed"),
        (
            {"step": 14, "data": bytes(56)},
            "step is 14 bytes, but a row of 5 pixels in rgb8 takes 15",
        ),
        ({"step": 0, "data": b""}, "step is 0"),
        ({"width": 0}, "no pixels"),
        ({"height": 0, "data": b""}, "no pixels"),
        ({"width": MAX_SIDE + 1}, "too large"),
        ({"height": 2**32 - 1}, "too large"),
        ({"width": 2**32 - 1, "height": 2**32 - 1, "step": 2**32 - 1}, "too large"),
        ({"encoding": ""}, "encoding is empty"),
        ({"encoding": "jpeg\n" + "x" * 100}, "known are rgb8"),
        ({"encoding": "16UC1"}, "depth"),
        ({"encoding": "32FC1"}, "depth"),
        ({"encoding": "yuv422"}, "even width"),
        ({"encoding": "mono16", "width": 8}, "step is 15"),
    ],
)
def test_every_defect_is_named(fields: dict[str, object], reason: str) -> None:
    image = good()
    for name, value in fields.items():
        setattr(image, name, value)
    with pytest.raises(ImageError, match=reason) as raised:
        to_rgb(image)
    sentence = str(raised.value)
    assert sentence.endswith(".")
    assert sentence.isprintable()
    assert len(sentence) < 500


@given(
    st.sampled_from(["rgb8", "RGB8", "mono16", "bayer_rggb8", "yuv422", "nonsense", ""]),
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(0, 70),
    st.binary(max_size=600),
)
@settings(max_examples=300)
def test_no_message_does_anything_but_convert_or_raise_an_image_error(
    encoding: str, height: int, width: int, step: int, data: bytes
) -> None:
    image = Image(encoding=encoding, height=height, width=width, step=step, data=data)
    try:
        rgb = to_rgb(image)
    except ImageError:
        return
    assert rgb.shape == (height, width, 3)
    assert image_size(image) == (height, width)


# Compressed images


def compressed(data: bytes, image_format: str = "rgb8; jpeg compressed bgr8") -> CompressedImage:
    return CompressedImage(header=Header(frame_id="camera"), format=image_format, data=data)


def scene() -> npt.NDArray[np.uint8]:
    y, x = np.mgrid[0:40, 0:60]
    return np.stack([x * 4, y * 6, 255 - x * 2], axis=2).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff"])
def test_lossless_pictures_come_back_exactly(suffix: str) -> None:
    flags = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else []
    data = cv2.imencode(suffix, cv2.cvtColor(scene(), cv2.COLOR_RGB2BGR), flags)[1].tobytes()
    assert (to_rgb(compressed(data)) == scene()).all()
    assert image_size(compressed(data)) == (40, 60)


def test_jpeg_equals_opencv() -> None:
    data = cv2.imencode(".jpg", cv2.cvtColor(scene(), cv2.COLOR_RGB2BGR))[1]
    expected = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), cv2.COLOR_BGR2RGB)
    difference = to_rgb(compressed(data.tobytes())).astype(int) - expected
    assert np.abs(difference).max() <= 2


def test_grey_alpha_and_sixteen_bits_in_png() -> None:
    grey = scene()[..., 0]
    as_png = cv2.imencode(".png", grey)[1].tobytes()
    assert (to_rgb(compressed(as_png)) == grey[..., None]).all()
    deep = grey.astype(np.uint16) * 257
    as_deep_png = cv2.imencode(".png", deep)[1].tobytes()
    assert (to_rgb(compressed(as_deep_png)) == grey[..., None]).all()
    bgra = np.dstack([scene()[..., ::-1], grey])
    as_bgra_png = cv2.imencode(".png", bgra)[1].tobytes()
    assert (to_rgb(compressed(as_bgra_png)) == scene()).all()


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.95])
def test_a_truncated_picture_is_refused(suffix: str, part: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = cv2.imencode(suffix, noise)[1].tobytes()
    with pytest.raises(ImageError) as raised:
        to_rgb(compressed(data[: int(len(data) * part)]))
    assert str(raised.value).endswith(".")


@given(st.binary(max_size=200))
def test_bytes_that_are_no_picture_are_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        to_rgb(compressed(data))
    assert image_size(compressed(data)) == (0, 0)


@given(st.integers(0, 2**31), st.integers(1, 40))
@settings(max_examples=60)
def test_damaged_pictures_convert_or_raise_an_image_error(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    data = bytearray(cv2.imencode([".png", ".jpg"][seed % 2], scene())[1].tobytes())
    for at in random.integers(0, len(data), count):
        data[at] = int(random.integers(0, 256))
    try:
        rgb = to_rgb(compressed(bytes(data)))
    except ImageError:
        return
    assert rgb.ndim == 3


@pytest.mark.parametrize("size", [(MAX_SIDE + 1, 10), (40000, 40000)])
def test_a_picture_that_claims_to_be_huge_is_not_decoded(size: tuple[int, int]) -> None:
    stream = io.BytesIO()
    PillowImage.new("1", (8, 8)).save(stream, "PNG")
    data = bytearray(stream.getvalue())
    data[16:24] = struct.pack(">II", *size)  # width and height in the header chunk
    data[29:33] = struct.pack(">I", __import__("zlib").crc32(bytes(data[12:29])))
    with pytest.raises(ImageError, match="too large"):
        to_rgb(compressed(bytes(data)))


# To messages


@given(
    st.sampled_from(["mono8", "mono16", "rgb8"]),
    st.integers(0, 7),
    st.integers(0, 7),
    st.booleans(),
)
def test_messages_hold_the_array(encoding: str, height: int, width: int, flipped: bool) -> None:
    shape = (height, width, 3) if encoding == "rgb8" else (height, width)
    dtype = np.uint16 if encoding == "mono16" else np.uint8
    pixels = np.random.default_rng(height * 8 + width).integers(0, 256, shape).astype(dtype)
    if encoding == "mono16":
        pixels = pixels * np.uint16(255)
    if flipped:
        pixels = pixels[::-1]  # not contiguous
    header = Header(frame_id="a")
    image = to_image(pixels, header)
    assert (image.encoding, image.height, image.width) == (encoding, height, width)
    assert image.header is header
    assert image.step * height == len(image.data)
    assert bytes(image.data) == pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 2), np.int32),
        np.zeros((2, 2, 4), np.uint8),
        np.zeros((2, 2, 3), np.uint16),
        np.zeros(4, np.uint8),
        np.zeros((2, 2), bool),
    ],
)
def test_other_arrays_make_no_message(pixels: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="no image encoding"):
        to_image(pixels, Header())


def test_equal_to_cv_bridge() -> None:
    """Where cv_bridge is installed, both read the same pixels."""
    cv_bridge = pytest.importorskip("cv_bridge")
    bridge = cv_bridge.CvBridge()
    random = np.random.default_rng(1)
    for encoding, channels, depth in [
        *((name, len(order), 1) for name, order in COLOR.items() if not name.startswith("8UC")),
        *((name, len(order), 2) for name, order in DEEP.items()),
        *((name, 1, 1) for name in BAYER),
    ]:
        rows = [random.bytes(8 * channels * depth + 2) for _ in range(6)]
        image = message(encoding, 6, 8, rows)
        expected = bridge.imgmsg_to_cv2(image, "rgb8")
        assert (to_rgb(image) == expected).all(), encoding
