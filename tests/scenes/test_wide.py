"""The wide look: as varied as photographs, and still what its labels and names say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest

from grex_ros.scenes.objects import COLORS, KINDS, sample_rgb, shapes, shapes_of
from grex_ros.scenes.prints import PLAIN_ROWS, PRINTS, SIZE, STUFF, paint_print, sample_print
from grex_ros.scenes.renderer import Frame, RenderingUnavailable, SceneRenderer
from grex_ros.scenes.rooms import panorama, photo, photo_names, room_lights
from grex_ros.scenes.scene import Scene, SceneObject, sample_scene, view
from grex_ros.scenes.wide import PITCH
from grex_ros.scenes.world import has_unnamed_things

WIDTH, HEIGHT = 320, 240


@pytest.fixture(scope="module")
def renderer() -> Iterator[SceneRenderer]:
    try:
        made = SceneRenderer(wide=True)
    except RenderingUnavailable as error:
        pytest.skip(str(error))
    with made:
        yield made


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [sample_scene(seed, meshes=True, look="wide") for seed in range(60)]


@pytest.fixture(scope="module")
def frames(renderer: SceneRenderer, scenes: list[Scene]) -> list[tuple[Scene, Frame]]:
    return [(scene, renderer.render(scene, WIDTH, HEIGHT)) for scene in scenes[:16]]


def vertices(thing: SceneObject) -> np.ndarray:
    points = shapes()[thing.shape].vertices * np.array(thing.scale)
    return points @ np.array(thing.rotation).T + np.array(thing.position)


def test_same_seed_same_scene(scenes: list[Scene]) -> None:
    assert sample_scene(7, meshes=True, look="wide") == scenes[7] != scenes[8]
    with pytest.raises(ValueError, match="'dreamy' is none of plain, wide"):
        sample_scene(1, look="dreamy")


def test_same_scene_same_pixels(renderer: SceneRenderer, frames: list[tuple[Scene, Frame]]) -> None:
    for scene, frame in frames[:3]:
        again = renderer.render(scene, WIDTH, HEIGHT)
        np.testing.assert_array_equal(frame.rgb, again.rgb)
        np.testing.assert_array_equal(frame.labels, again.labels)


def test_scenes_differ_as_photographs_do(scenes: list[Scene]) -> None:
    counts = [len(scene.objects) for scene in scenes]
    assert max(counts) >= 11 and max(counts) <= 16 and 4 < np.mean(counts) < 9
    pitch = [_pitch(s) for s in scenes]
    assert PITCH[0] <= min(pitch) < 22 and 75 < max(pitch) <= PITCH[1]
    fov = [scene.camera.fov for scene in scenes]
    assert min(fov) < 35 and max(fov) > 65
    things = [thing for scene in scenes for thing in scene.objects]
    printed = np.mean([t.print is not None and t.print.pattern in PRINTS for t in things])
    assert 0.08 < printed < 0.5
    assert any(thing.metal for thing in things)
    assert 0.3 < np.mean([bool(s.surroundings and s.surroundings.name) for s in scenes]) < 0.8
    assert 0.1 < np.mean([has_unnamed_things(scene) for scene in scenes]) < 0.5
    assert 0.4 < np.mean([s.room.table.pattern.startswith("photo/") for s in scenes]) < 0.8
    levels = [sum(lamp.diffuse[1] + lamp.ambient[1] for lamp in s.lights) for s in scenes]
    assert min(levels) < 0.95 and max(levels) > 1.4


def test_shapes_are_not_memorised(scenes: list[Scene]) -> None:
    for kind in ("cup", "mug", "bowl", "bottle", "glass", "box", "can", "book", "jar", "knife"):
        assert len(shapes_of(kind, variants=True)) >= 7, kind
        assert set(shapes_of(kind)) < set(shapes_of(kind, variants=True))
    drawn = Counter(thing.shape for scene in scenes for thing in scene.objects)
    assert len(drawn) > 120
    assert max(drawn.values()) < 0.05 * sum(drawn.values())


def test_objects_rest_on_the_table_and_clutter_has_no_name(scenes: list[Scene]) -> None:
    for scene in scenes:
        for thing in scene.objects:
            assert thing.kind in KINDS and (thing.color in COLORS or not thing.color)
            points = vertices(thing)
            assert abs(points[:, 2].min()) < 1e-6
            np.testing.assert_allclose((points.min(0) + points.max(0)) / 2, thing.center, atol=1e-6)
        for thing in scene.clutter:
            assert not thing.kind and not shapes()[thing.shape].kind
            # what lies under the objects is thinner than their feet are high
            if abs(thing.position[2]) < 0.001 and not thing.size and "cable" not in thing.shape:
                assert vertices(thing)[:, 2].max() < 0.0025


def test_labels_lie_where_the_camera_projects_the_object(
    frames: list[tuple[Scene, Frame]],
) -> None:
    whole = 0
    for scene, frame in frames:
        for seen in view(scene, frame):
            points = vertices(scene.objects[seen.index - 1])
            local = np.linalg.inv(frame.camera_pose) @ np.c_[points, np.ones(len(points))].T
            uvw = frame.K @ local[:3]
            uv = (uvw[:2] / uvw[2]).T
            box = np.clip(np.r_[uv.min(0), uv.max(0)], 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
            got = np.array(seen.box)
            assert np.all(got[:2] >= box[:2] - 1.5) and np.all(got[2:] <= box[2:] + 1.5)
            if seen.visible_fraction == 1.0:
                whole += 1
                np.testing.assert_allclose(got, box, atol=2.1)  # a pen's tip is thin
    assert whole > 15


def test_depth_belongs_to_the_labelled_object(frames: list[tuple[Scene, Frame]]) -> None:
    for scene, frame in frames:
        for seen in view(scene, frame):
            v, u = np.nonzero(frame.labels == seen.index)
            z = frame.depth[v, u].astype(float)
            local = np.linalg.inv(frame.K) @ np.stack([(u + 0.5) * z, (v + 0.5) * z, z])
            found = (frame.camera_pose @ np.r_[local, np.ones((1, len(z)))])[:3].T
            points = vertices(scene.objects[seen.index - 1])
            assert np.all(found > points.min(0) - 0.006) and np.all(found < points.max(0) + 0.006)


def test_clutter_has_no_label_and_hides(renderer: SceneRenderer, scenes: list[Scene]) -> None:
    scene = next(s for s in scenes if has_unnamed_things(s) and len(s.objects) > 2)
    frame = renderer.render(scene, WIDTH, HEIGHT)
    bare = renderer.render(replace(scene, clutter=()), WIDTH, HEIGHT)
    assert frame.labels.max() <= len(scene.objects)
    assert (frame.rgb != bare.rgb).any()
    assert not ((frame.labels > 0) & (bare.labels == 0)).any()
    nothing = renderer.render(replace(scene, objects=()), WIDTH, HEIGHT)
    assert not nothing.labels.any() and len(nothing.full_areas) == 0


def test_what_the_edge_cuts_counts_as_hidden(frames: list[tuple[Scene, Frame]]) -> None:
    cut = 0
    for scene, frame in frames:
        for seen in view(scene, frame):
            edge = seen.box[0] == 0 or seen.box[1] == 0
            if edge or seen.box[2] == WIDTH or seen.box[3] == HEIGHT:
                cut += seen.visible_fraction < 0.9
    assert cut > 5


@pytest.mark.parametrize("part", range(5))
def test_every_kind_is_drawn_and_labelled(
    renderer: SceneRenderer, scenes: list[Scene], part: int
) -> None:
    # one at a time in the middle of the table, from a camera that looks there
    base = next(s for s in scenes if 40 < s.camera.fov < 60 and _pitch(s) > 30)
    lights = tuple(replace(lamp, shadow=False) for lamp in base.lights)
    base = replace(base, lights=lights, clutter=())
    empty = renderer.render(replace(base, objects=()), 160, 120)
    for kind in KINDS[part::5]:
        names = shapes_of(kind, variants=True) + shapes_of(kind, household=True)
        shape = shapes()[names[-1]]
        thing = SceneObject(
            kind, "red", "medium", shape.name, (0.0, 0.0, 0.0),
            ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (1.0, 1.0, 1.0),
            tuple((0.8, 0.1, 0.1, part.alpha) for part in shape.parts), (0.0, 0.0, 0.05),
        )  # fmt: skip
        scene = replace(base, objects=(thing,))
        frame = renderer.render(scene, 160, 120)
        (seen,) = view(scene, frame)
        assert 4 * seen.area > 150, kind  # at 320 x 240
        assert set(np.unique(frame.labels)) == {0, 1}
        changed = np.abs(frame.rgb.astype(int) - empty.rgb).max(-1) > 12
        assert changed[frame.labels == 1].mean() > 0.6, kind


def _pitch(scene: Scene) -> float:
    return float(np.degrees(np.arcsin(-scene.camera.matrix()[2, 2])))


def test_colors_stay_what_they_are_called(frames: list[tuple[Scene, Frame]]) -> None:
    # paints of every name in light and half shade, against the object's middle colour, which is
    # first freed of the scene's exposure, as an eye does
    rng = np.random.default_rng(0)
    names, paints = [], []
    for name in COLORS:
        for _ in range(40):
            rgb = np.array(sample_rgb(name, rng))
            for factor in (0.55, 0.75, 1.0):
                names.append(name)
                paints.append(rgb * factor)
    known = _lab(np.array(paints))
    right = []
    for scene, frame in frames:
        level = sum(
            lamp.ambient[1] + lamp.diffuse[1] * max(0.0, -lamp.direction[2])
            for lamp in scene.lights
        )
        for seen in view(scene, frame):
            thing = scene.objects[seen.index - 1]
            if not seen.color or seen.area < 100 or thing.shape.startswith("household_"):
                continue  # the imported models have parts of other colours
            pixels = frame.rgb[frame.labels == seen.index] / 255 / level
            found = _lab(np.median(pixels, 0)[None])
            right.append(names[int(np.linalg.norm(known - found, axis=1).argmin())] == seen.color)
    assert len(right) > 40
    assert np.mean(right) >= 0.9, np.mean(right)


def _lab(rgb: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(rgb[None].astype(np.float32), cv2.COLOR_RGB2LAB)[0]


@pytest.mark.parametrize("pattern", [*PRINTS, *STUFF])
def test_prints_leave_the_main_color(pattern: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(6):
        main = (0.7, 0.1, 0.12)
        print_ = sample_print(main, (pattern,), rng)
        image = paint_print(print_)
        np.testing.assert_array_equal(image, paint_print(print_))
        assert image.shape == (SIZE, SIZE, 3)
        plain = np.array(main) * 255
        assert np.abs(image[-PLAIN_ROWS:] - plain).max() < 1
        red = (image[..., 0] > 60) & (image[..., 1:].max(-1) < 0.55 * image[..., 0])
        assert red.mean() > 0.5
        assert image[:-PLAIN_ROWS].std(0).max() > 1  # something is printed


def test_photographs_are_there() -> None:
    assert len(photo_names()) >= 20 and len(room_lights()) >= 15
    for name in photo_names():
        assert photo(name).shape == (256, 256, 3)
    for name, light in room_lights().items():
        assert panorama(name).shape == (256, 512, 3)
        assert np.linalg.norm(light.direction) == pytest.approx(1, abs=0.01)
        assert light.direction[2] > 0 and 0 < light.share < 1


def test_a_plain_renderer_refuses_a_wide_scene(scenes: list[Scene]) -> None:
    try:
        with SceneRenderer() as plain, pytest.raises(ValueError, match="wide=True"):
            plain.render(scenes[0], WIDTH, HEIGHT)
    except RenderingUnavailable as error:
        pytest.skip(str(error))
