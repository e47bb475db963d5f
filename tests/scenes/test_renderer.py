"""Rendered frames: labels, depth and camera agree with the scene they were made from."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from grex_ros.scenes import gl
from grex_ros.scenes.objects import shapes
from grex_ros.scenes.renderer import Frame, RenderingUnavailable, SceneRenderer
from grex_ros.scenes.scene import Scene, SceneObject, sample_scene, view

SEEDS = range(6)
WIDTH, HEIGHT = 320, 240


@pytest.fixture(scope="module")
def renderer() -> Iterator[SceneRenderer]:
    try:
        made = SceneRenderer(shadow_size=512)
    except RenderingUnavailable as error:
        pytest.skip(str(error))
    with made:
        yield made


@pytest.fixture(scope="module")
def frames(renderer: SceneRenderer) -> list[tuple[Scene, Frame]]:
    scenes = [sample_scene(seed, meshes=seed % 2 == 1) for seed in SEEDS]
    return [(scene, renderer.render(scene, WIDTH, HEIGHT)) for scene in scenes]


def projected_box(thing: SceneObject, frame: Frame) -> np.ndarray:
    points = shapes()[thing.shape].vertices * np.array(thing.scale)
    points = points @ np.array(thing.rotation).T + np.array(thing.position)
    local = np.linalg.inv(frame.camera_pose) @ np.c_[points, np.ones(len(points))].T
    uvw = frame.K @ local[:3]
    uv = (uvw[:2] / uvw[2]).T
    height, width = frame.labels.shape
    return np.clip(np.concatenate([uv.min(0), uv.max(0)]), 0, [width, height, width, height])


def world_points(frame: Frame, chosen: np.ndarray) -> np.ndarray:
    v, u = np.nonzero(chosen)
    z = frame.depth[v, u].astype(float)
    pixels = np.stack([(u + 0.5) * z, (v + 0.5) * z, z])
    local = np.linalg.inv(frame.K) @ pixels
    return (frame.camera_pose @ np.r_[local, np.ones((1, len(z)))])[:3].T


def test_shapes_and_types(frames: list[tuple[Scene, Frame]]) -> None:
    for scene, frame in frames:
        assert frame.rgb.shape == (HEIGHT, WIDTH, 3) and frame.rgb.dtype == np.uint8
        assert frame.depth.shape == (HEIGHT, WIDTH) and frame.depth.dtype == np.float32
        assert frame.labels.shape == (HEIGHT, WIDTH) and frame.labels.dtype == np.int32
        assert frame.K.shape == (3, 3) and frame.camera_pose.shape == (4, 4)
        assert 0 <= frame.labels.min() and frame.labels.max() <= len(scene.objects)


def test_labels_lie_where_the_camera_projects_the_object(
    frames: list[tuple[Scene, Frame]],
) -> None:
    whole = 0
    for scene, frame in frames:
        for seen in view(scene, frame):
            box = projected_box(scene.objects[seen.index - 1], frame)
            got = np.array(seen.box)
            assert np.all(got[:2] >= box[:2] - 1.5) and np.all(got[2:] <= box[2:] + 1.5)
            if seen.visible_fraction == 1.0:
                whole += 1
                np.testing.assert_allclose(got, box, atol=1.6)
    assert whole > 10


def test_view_tells_the_label_image(frames: list[tuple[Scene, Frame]]) -> None:
    for scene, frame in frames:
        for seen in view(scene, frame):
            mask = frame.labels == seen.index
            x0, y0, x1, y1 = (int(c) for c in seen.box)
            assert mask.sum() == seen.area == mask[y0:y1, x0:x1].sum()
            assert mask[y0].any() and mask[y1 - 1].any()
            assert mask[:, x0].any() and mask[:, x1 - 1].any()
            assert 0 < seen.visible_fraction <= 1
            u, v = (frame.K @ seen.position)[:2] / seen.position[2]
            assert x0 - 40 < u < x1 + 40 and y0 - 40 < v < y1 + 40


def test_small_objects_are_left_out(frames: list[tuple[Scene, Frame]]) -> None:
    scene, frame = frames[0]
    areas = [seen.area for seen in view(scene, frame)]
    assert len(view(scene, frame, min_area=max(areas))) == 1
    assert view(scene, frame, min_area=max(areas) + 1) == []


def test_depth_puts_pixels_on_their_object(frames: list[tuple[Scene, Frame]]) -> None:
    for scene, frame in frames:
        for seen in view(scene, frame):
            thing = scene.objects[seen.index - 1]
            points = shapes()[thing.shape].vertices * np.array(thing.scale)
            points = points @ np.array(thing.rotation).T + np.array(thing.position)
            found = world_points(frame, frame.labels == seen.index)
            assert np.all(found > points.min(0) - 0.004), thing.shape
            assert np.all(found < points.max(0) + 0.004), thing.shape


def test_depth_of_the_table_is_metric(frames: list[tuple[Scene, Frame]]) -> None:
    for scene, frame in frames:
        free = world_points(frame, (frame.labels == 0) & np.isfinite(frame.depth))
        inside = np.all(np.abs(free[:, :2]) < np.array(scene.room.table_size) / 2 - 0.02, axis=1)
        on_table = inside & (np.abs(free[:, 2]) < 0.1)
        assert on_table.sum() > 5000
        assert np.abs(free[on_table, 2]).max() < 0.002


def test_full_area_is_the_area_of_the_object_alone(renderer: SceneRenderer) -> None:
    hidden = 0
    for seed in range(12):
        scene = sample_scene(seed)
        frame = renderer.render(scene, WIDTH, HEIGHT)
        for i, thing in enumerate(scene.objects):
            visible = int((frame.labels == i + 1).sum())
            assert frame.full_areas[i] >= visible
            if frame.full_areas[i] > visible and hidden < 4:
                hidden += 1
                alone = renderer.render(replace(scene, objects=(thing,)), WIDTH, HEIGHT)
                assert (alone.labels == 1).sum() == frame.full_areas[i]
    assert hidden > 1


def test_color_in_the_picture_is_the_color_in_the_name(renderer: SceneRenderer) -> None:
    # red, green and blue objects: their own channel leads in nearly all of their pixels' means
    right = []
    for seed in range(16):
        scene = sample_scene(seed)
        frame = renderer.render(scene, WIDTH, HEIGHT)
        for seen in view(scene, frame):
            if seen.color in ("red", "green", "blue"):
                mean = frame.rgb[frame.labels == seen.index].mean(0)
                right.append(int(mean.argmax()) == ("red", "green", "blue").index(seen.color))
    assert len(right) > 10
    assert np.mean(right) > 0.95


def test_same_scene_same_pixels(renderer: SceneRenderer) -> None:
    first = renderer.render(sample_scene(11), WIDTH, HEIGHT)
    renderer.render(sample_scene(12), 200, 150)
    again = renderer.render(sample_scene(11), WIDTH, HEIGHT)
    with SceneRenderer(shadow_size=512) as fresh:
        other = fresh.render(sample_scene(11), WIDTH, HEIGHT)
    for frame in (again, other):
        np.testing.assert_array_equal(first.rgb, frame.rgb)
        np.testing.assert_array_equal(first.labels, frame.labels)
        np.testing.assert_array_equal(first.depth, frame.depth)


def test_size_of_the_picture_does_not_move_the_camera(renderer: SceneRenderer) -> None:
    scene = sample_scene(2)
    small = view(scene, renderer.render(scene, WIDTH, HEIGHT))
    large = view(scene, renderer.render(scene, 2 * WIDTH, 2 * HEIGHT))
    assert [o.index for o in small] == [o.index for o in large]
    for a, b in zip(small, large, strict=True):
        np.testing.assert_allclose(2 * np.array(a.box), b.box, atol=3)


def test_closed_renderer_says_so() -> None:
    try:
        renderer = SceneRenderer()
    except RenderingUnavailable as error:
        pytest.skip(str(error))
    renderer.close()
    renderer.close()
    with pytest.raises(RuntimeError, match="closed"):
        renderer.render(sample_scene(1))


def test_missing_gl_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(backend: str, width: int, height: int) -> None:
        raise AttributeError(f"no\n{backend}")

    monkeypatch.setattr(gl, "_open", fail)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.raises(RenderingUnavailable, match="egl: no egl; osmesa: no osmesa") as caught:
        SceneRenderer()
    assert "\n" not in str(caught.value)


def test_forced_osmesa_draws_or_says_why() -> None:
    program = (
        "from grex_ros.scenes.renderer import *\n"
        "from grex_ros.scenes.scene import sample_scene\n"
        "try:\n"
        "    with SceneRenderer() as r:\n"
        "        print('drawn', r.render(sample_scene(1)).labels.max() > 0)\n"
        "except RenderingUnavailable as error: print('unavailable', error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "MUJOCO_GL": "osmesa", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(("drawn True", "unavailable no OpenGL without a screen (osmesa"))
