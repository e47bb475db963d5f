"""Collages: masks fit their pixels, nothing of the left-out pictures, the same again."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from grex_ros.grounding import rle
from training import collage
from training.dataset.records import DatasetError

COLORS = {1: (40, 40, 220), 2: (220, 60, 40)}  # BGR of category 1 and 2
LEFT_OUT = (200, 30, 200)  # of the only object of the picture that must not be used


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three gray pictures: two with a disc of each category and a crowd, one to be left out."""
    folder = tmp_path_factory.mktemp("photographs")
    images: list[dict[str, object]] = []
    notes: list[dict[str, object]] = []
    for image_id in (1, 2, 3):
        picture = np.full((240, 320, 3), 128, np.uint8)
        for category, x in ((1, 80), (2, 220)):
            color = LEFT_OUT if image_id == 3 else COLORS[category]
            cv2.circle(picture, (x, 120), 40, color, -1)
            angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
            disc = np.stack([x + 40 * np.cos(angle), 120 + 40 * np.sin(angle)], 1)
            notes.append(
                {
                    "id": 10 * image_id + category,
                    "image_id": image_id,
                    "category_id": category,
                    "bbox": [x - 40, 80, 81, 81],
                    "area": 5000,
                    "segmentation": [disc.ravel().tolist()],
                    "iscrowd": 0,
                }
            )
        crowd = np.zeros((240, 320), bool)
        crowd[200:, :100] = True
        notes.append(
            {
                "id": 10 * image_id,
                "image_id": image_id,
                "category_id": 1,
                "bbox": [0, 200, 100, 40],
                "area": 4000,
                "segmentation": dict(rle.encode(crowd)),
                "iscrowd": 1,
            }
        )
        cv2.imwrite(str(folder / f"{image_id}.png"), picture)
        images.append({"id": image_id, "file_name": f"{image_id}.png", "height": 240, "width": 320})
    categories = [{"id": 1, "name": "cup"}, {"id": 2, "name": "bowl"}]
    content = {"images": images, "annotations": notes, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    (folder / "left_out.txt").write_text("# held out\n3\n")
    return folder


@pytest.fixture(scope="module")
def sources(photographs: Path) -> collage.Sources:
    return collage.read_sources(photographs / "instances.json", photographs, frozenset({3}))


def test_masks_fit_their_pixels(sources: collage.Sources) -> None:
    objects = crowds = 0
    for seed in range(30):
        picture, things = collage.collage(sources, 320, seed)
        covered = np.zeros(picture.shape[:2], int)
        for category, crowd, mask in things:
            crowds += crowd
            if crowd:
                continue
            objects += 1
            covered += mask
            inside = cv2.erode(mask.astype(np.uint8), np.ones((5, 5))) > 0
            assert np.abs(picture[inside].astype(int) - COLORS[category]).max(initial=0) < 40
        assert covered.max() <= 1  # what lies below has lost those pixels
        strange = np.abs(picture.astype(int) - LEFT_OUT).max(2) < 40
        assert not strange.any()
    assert objects > 60
    assert crowds > 5


def test_nothing_is_hidden_too_far(sources: collage.Sources) -> None:
    for seed in range(30):
        _, things = collage.collage(sources, 320, seed)
        assert all(mask.sum() >= collage.LEAST_PIXELS for _, crowd, mask in things if not crowd)


def test_boxes_are_not_cut_out(photographs: Path, tmp_path: Path) -> None:
    content = json.loads((photographs / "instances.json").read_text())
    for note in content["annotations"]:
        if note["category_id"] == 2:
            del note["segmentation"]
    (tmp_path / "instances.json").write_text(json.dumps(content))
    sources = collage.read_sources(tmp_path / "instances.json", photographs, frozenset())
    made = [collage.collage(sources, 320, seed)[1] for seed in range(30)]
    kinds = {(category, crowd) for things in made for category, crowd, _ in things}
    assert kinds == {(1, False), (1, True), (2, True)}  # on a ground a box is as good as a crowd


def test_the_command_makes_the_same_again(photographs: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        options = ["--instances", str(photographs / "instances.json"), "--images", str(photographs)]
        options += ["--leave-out", str(photographs / "left_out.txt"), "--pictures", "6"]
        run = CliRunner().invoke(
            collage_app(), [*options, "--out", str(tmp_path / name), "--workers", "1"]
        )
        assert run.exit_code == 0, run.output
    first, second = (json.loads((tmp_path / n / "instances.json").read_text()) for n in "ab")
    assert first == second
    assert len(first["images"]) == 6
    for image in first["images"]:
        pictures = [(tmp_path / n / "images" / image["file_name"]).read_bytes() for n in "ab"]
        assert pictures[0] == pictures[1]


def test_without_usable_objects(photographs: Path) -> None:
    with pytest.raises(DatasetError, match="cut out"):
        collage.read_sources(photographs / "instances.json", photographs, frozenset({1, 2, 3}))


def collage_app() -> typer.Typer:
    app = typer.Typer()
    app.command()(collage.main)
    return app
