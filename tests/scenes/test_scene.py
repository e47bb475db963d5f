"""Scenes: the same seed gives the same table, and what stands on it is what its names say."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest

from grex_ros.scenes.household import ASSETS
from grex_ros.scenes.objects import (
    COLORS,
    KINDS,
    PROCEDURAL_KINDS,
    SIZES,
    colors_of,
    sample_rgb,
    shapes,
)
from grex_ros.scenes.scene import Scene, SceneObject, sample_scene

SEEDS = range(40)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [sample_scene(seed, meshes=seed % 2 == 1) for seed in SEEDS]


def world_vertices(thing: SceneObject) -> np.ndarray:
    points = shapes()[thing.shape].vertices * np.array(thing.scale)
    return points @ np.array(thing.rotation).T + np.array(thing.position)


def test_imported_models_only_when_asked_for(scenes: list[Scene]) -> None:
    share = [
        np.mean([o.shape.startswith("household_") for s in scenes[k::2] for o in s.objects])
        for k in (0, 1)
    ]
    assert share[0] == 0
    assert 0.15 < share[1] < 0.35


def test_every_imported_model_is_attributed() -> None:
    text = (ASSETS / "ATTRIBUTION.md").read_text()
    rows = [line.split("|")[1].strip() for line in text.splitlines() if "| [CC" in line]
    credited = {"household_" + row.replace("/", "_").replace("-", "_").lower() for row in rows}
    assert credited == {name for name in shapes() if name.startswith("household_")}
    assert len(credited) > 25
    assert (ASSETS / "household.npz").stat().st_size < 3e6


def test_same_seed_same_scene() -> None:
    assert sample_scene(7) == sample_scene(7)
    assert sample_scene(7) != sample_scene(8)
    assert sample_scene(7, meshes=True) == sample_scene(7, meshes=True)


def test_objects_rest_on_the_table(scenes: list[Scene]) -> None:
    for scene in scenes:
        for thing in scene.objects:
            points = world_vertices(thing)
            assert abs(points[:, 2].min()) < 1e-6
            middle = (points.min(0) + points.max(0)) / 2
            np.testing.assert_allclose(middle, thing.center, atol=1e-6)
            assert np.all(np.abs(middle[:2]) < np.array(scene.room.table_size) / 2)


def test_footprints_do_not_meet(scenes: list[Scene]) -> None:
    # painted on a grid of 4 mm cells, so this shares nothing with the sampler's test
    for scene in scenes:
        ground = np.zeros((700, 700), np.uint8)
        for thing in scene.objects:
            cells = (world_vertices(thing)[:, :2] * 250 + 350).astype(np.int32)
            print_ = np.zeros_like(ground)
            cv2.fillConvexPoly(print_, cv2.convexHull(cells), 1)
            ground += print_
        assert ground.max() == 1


def test_number_of_objects(scenes: list[Scene]) -> None:
    counts = [len(scene.objects) for scene in scenes]
    assert max(counts) <= 10
    assert np.mean([c >= 3 for c in counts]) > 0.9
    assert len(sample_scene(3, count=(5, 5)).objects) <= 5


def test_names_are_known(scenes: list[Scene]) -> None:
    for scene in scenes:
        for thing in scene.objects:
            assert thing.kind in KINDS
            assert thing.size in SIZES
            assert thing.color == "" or thing.color in COLORS
            assert shapes()[thing.shape].kind == thing.kind
            assert len(thing.paints) == len(shapes()[thing.shape].parts)


def test_scenes_have_something_to_choose_from(scenes: list[Scene]) -> None:
    twins = [max(Counter(o.kind for o in s.objects).values()) >= 2 for s in scenes]
    colored = [max(Counter(o.color for o in s.objects).values()) >= 2 for s in scenes]
    assert np.mean(twins) > 0.6
    assert np.mean(colored) > 0.6


def test_every_kind_and_color_comes_up() -> None:
    seen = [
        o for seed in range(70) for o in sample_scene(seed, meshes=True, count=(10, 10)).objects
    ]
    assert {o.kind for o in seen} >= set(PROCEDURAL_KINDS)
    assert len({o.kind for o in seen} - set(PROCEDURAL_KINDS)) > 20
    assert {o.color for o in seen} >= set(COLORS)


def test_sizes_differ_clearly() -> None:
    by_size: dict[tuple[str, str], list[float]] = {}
    for seed in range(50):
        for o in sample_scene(seed).objects:
            by_size.setdefault((o.shape, o.size), []).append(o.scale[0])
    for shape in {name for name, _ in by_size}:
        for small, large in (("small", "medium"), ("medium", "large")):
            below, above = by_size.get((shape, small)), by_size.get((shape, large))
            if below and above:
                assert max(below) * 1.2 < min(above)


def test_colors_are_unmistakable() -> None:
    # in CIE Lab every paint is nearer to a paint of its own name than to any other name's
    rng = np.random.default_rng(0)
    names = [name for name in COLORS for _ in range(60)]

    def draw() -> np.ndarray:
        rgb = np.array([sample_rgb(name, rng) for name in names], np.float32)
        return cv2.cvtColor(rgb[None], cv2.COLOR_RGB2LAB)[0]

    first, second = draw(), draw()
    distance = np.linalg.norm(first[:, None] - second[None], axis=-1)
    nearest = [names[i] for i in distance.argmin(1)]
    assert nearest == names


def test_camera_looks_down_at_the_table(scenes: list[Scene]) -> None:
    for scene in scenes:
        pose = scene.camera.matrix()
        np.testing.assert_allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-9)
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)
        pitch = np.degrees(np.arcsin(-pose[2, 2]))
        assert 29.9 < pitch < 70.1
        assert pose[2, 1] < 0  # the picture's down is the world's down


def test_fruit_keeps_its_color() -> None:
    assert set(colors_of("banana")) == {"yellow"}
    assert set(colors_of("cup")) == set(COLORS)


def test_shapes_are_sound() -> None:
    for shape in shapes().values():
        for part in shape.parts:
            mesh = part.mesh
            assert mesh.faces.min() >= 0 and mesh.faces.max() < len(mesh.vertices)
            used = mesh.normals[np.unique(mesh.faces)]
            np.testing.assert_allclose(np.linalg.norm(used, axis=1), 1.0, atol=1e-3)
        assert abs(shape.vertices[:, 2].min()) < 1e-6
        assert 0.04 < np.ptp(shape.vertices, axis=0).max() < 0.32, shape.name
