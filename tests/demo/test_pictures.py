"""The demo camera's pictures: as messages, recorded, and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from grex_ros.demo import pictures
from grex_ros.demo.files import demo_bag, shipped
from grex_ros.demo.pictures import Picture, read_bag, render_picture
from grex_ros.demo.record import record
from grex_ros.demo.truth import from_json
from grex_ros.scenes.renderer import RenderingUnavailable

pytest.importorskip("rosbags", reason="bags are read with rosbags")


def rendered(seed: int, width: int = 160, height: int = 120) -> Picture:
    try:
        return render_picture(seed, width, height)
    except RenderingUnavailable as error:
        pytest.skip(str(error))


def test_messages_of_a_picture_share_one_header_and_agree() -> None:
    picture = rendered(1)
    header = Header(stamp=Time(sec=5, nanosec=6), frame_id=pictures.FRAME_ID)
    image = pictures.image_message(picture, header)
    depth = pictures.depth_message(picture, header)
    info = pictures.camera_info_message(picture, header)
    stamp, truth = from_json(pictures.truth_message(picture, header).data)
    assert image.header == depth.header == info.header == header
    assert stamp == (5, 6)
    assert (image.width, image.height, image.encoding) == (160, 120, "rgb8")
    assert np.array_equal(np.frombuffer(image.data, np.uint8), picture.rgb.ravel())
    assert (depth.encoding, depth.step) == ("32FC1", 4 * 160)
    assert (info.width, info.height) == (160, 120)
    # The intrinsics project the true positions to where the objects are seen.
    K = np.array(info.k).reshape(3, 3)
    for seen in truth.view:
        u, v, w = K @ seen.position
        x0, y0, x1, y1 = seen.box
        if min(x0, y0) > 0 and x1 < 160 and y1 < 120:
            assert x0 - 4 <= u / w <= x1 + 4 and y0 - 4 <= v / w <= y1 + 4
        rows, columns = np.nonzero(truth.masks[seen.index])
        assert (columns.min(), rows.min()) == (x0, y0)
        metres = picture.depth[truth.masks[seen.index]]
        assert np.abs(np.median(metres) - seen.position[2]) < 0.2


def test_seeds_decide_the_scene() -> None:
    first, again, other = rendered(1), rendered(1), rendered(2)
    assert np.array_equal(first.rgb, again.rgb) and first.truth.view == again.truth.view
    assert first.truth.view != other.truth.view


def test_record_and_read(tmp_path: Path) -> None:
    direct = rendered(4)
    bag = tmp_path / "bag"
    record(bag, [3, 4], 160, 120)
    with pytest.raises(FileExistsError):
        record(bag, [3])
    played = read_bag(bag, 1)
    assert {picture.truth.seed for picture in played} == {4}
    for picture in played:
        assert picture.truth.source == "bag"
        assert picture.truth.view == direct.truth.view
        assert np.array_equal(picture.depth, direct.depth, equal_nan=True)
        assert np.array_equal(picture.K, direct.K)
        assert np.abs(picture.rgb.astype(int) - direct.rgb).mean() < 4  # JPEG
        assert all(np.array_equal(picture.truth.masks[i], m) for i, m in direct.truth.masks.items())


def test_the_bag_of_the_package() -> None:
    bag = demo_bag()
    assert sum(file.stat().st_size for file in bag.iterdir()) < 8e6
    seeds = set()
    for number in range(3):
        played = read_bag(bag, number)
        assert len(played) >= 2
        picture = played[0]
        seeds.add(picture.truth.seed)
        assert picture.rgb.shape == (480, 640, 3) and picture.depth.shape == (480, 640)
        assert len(picture.truth.view) >= 5, "a demo needs something to talk about"
        assert picture.truth.source == "demo_bag"
    assert len(seeds) == 3
    assert read_bag(bag, 3)[0].truth.seed == read_bag(bag, 0)[0].truth.seed


def test_what_is_no_bag_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no bag"):
        read_bag(tmp_path / "nothing", 0)
    with pytest.raises(FileNotFoundError, match="no/such/file"):
        shipped("no/such/file")
