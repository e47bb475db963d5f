"""Expressions over a small set of painted photographs, with the troubles that real ones have."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from grex_ros.grounding import rle
from grex_ros.scenes.nouns import COCO_KINDS
from grex_ros.scenes.programs import evaluate, is_clear
from training import construct
from training.dataset import photographs
from training.dataset.checks import check_dataset
from training.dataset.grefcoco import load_grefcoco
from training.dataset.load import find_dataset
from training.dataset.records import (
    DatasetError,
    Record,
    instance_mask,
    merged_mask,
    read_image,
)

WIDTH, HEIGHT = 200, 150
PAINT = {"red": (200, 30, 30), "blue": (30, 60, 200), "green": (30, 150, 50)}
CAR, BUS, DOG, PERSON = (COCO_KINDS.index(kind) + 1 for kind in ("car", "bus", "dog", "person"))
HELD_OUT = (4, 6)

# Kind, colour, box (x, y, w, h) of every object of every picture.
Thing = tuple[int, str, tuple[int, int, int, int]]
PICTURES: dict[int, list[Thing]] = {
    1: [(CAR, "red", (10, 60, 40, 30)), (CAR, "blue", (80, 60, 40, 30)),
        (CAR, "red", (150, 62, 40, 30))],
    2: [(DOG, "green", (15, 20, 30, 30)), (CAR, "red", (140, 80, 50, 40))],
    3: [(BUS, "blue", (20, 50, 60, 50)), (DOG, "red", (150, 20, 30, 30)),
        (DOG, "red", (110, 110, 30, 30))],
    4: [(CAR, "green", (12, 60, 40, 30)), (CAR, "green", (140, 60, 40, 30)),
        (DOG, "blue", (90, 15, 25, 25))],
    5: [(DOG, "blue", (20, 80, 40, 40)), (PERSON, "red", (110, 40, 30, 90))],
    6: [(CAR, "red", (20, 20, 45, 40)), (DOG, "green", (20, 95, 40, 40)),
        (DOG, "red", (135, 90, 40, 40))],
    7: [(CAR, "red", (20, 20, 45, 40)), (CAR, "blue", (120, 20, 45, 40))],
}  # fmt: skip
CROWDED = 7  # a crowd of cars besides
TORN = 8  # its JPEG ends early


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    (root / "pictures").mkdir()
    images: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    for image_id, things in {**PICTURES, TORN: PICTURES[1]}.items():
        picture = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
        for kind, color, (x, y, w, h) in things:
            picture[y : y + h, x : x + w] = PAINT[color][::-1]
            note = {"id": 100 * image_id + len(notes), "image_id": image_id, "category_id": kind,
                    "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}  # fmt: skip
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            mask = np.zeros((HEIGHT, WIDTH), bool)
            mask[y : y + h, x : x + w] = True
            note["segmentation"] = [corners] if len(notes) % 2 else rle.encode(mask)
            notes.append(note)
        if image_id == CROWDED:
            crowd = {"id": 99999, "image_id": image_id, "category_id": CAR, "iscrowd": 1,
                     "bbox": [0, 0, 10, 10], "area": 50, "segmentation":
                     {"size": [HEIGHT, WIDTH], "counts": [0, 50, 29950]}}  # fmt: skip
            notes.append(crowd)
        name = f"{image_id}.jpg"
        path = root / "pictures" / name
        cv2.imwrite(str(path), picture)
        if image_id == TORN:
            path.write_bytes(path.read_bytes()[:600])
        images.append({"id": image_id, "file_name": name, "height": HEIGHT, "width": WIDTH})
    categories = [{"id": n, "name": name} for n, name in enumerate(COCO_KINDS, 1)]
    content = {"images": images, "annotations": notes, "categories": categories}
    (root / "instances.json").write_text(json.dumps(content))
    (root / "heldout.txt").write_text("\n".join(map(str, HELD_OUT)))
    return root


def run(source: Path, out: Path, *options: str) -> Any:
    app = typer.Typer()
    app.command()(construct.main)
    asked = ["--instances", str(source / "instances.json"), "--images", str(source / "pictures"),
             "--val-ids", str(source / "heldout.txt"), "--workers", "1", "--expressions", "14",
             "--val-expressions", "12", "--out", str(out)]  # fmt: skip
    return CliRunner().invoke(app, [*asked, *options])


@pytest.fixture(scope="module")
def dataset(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("coco")
    result = run(source, root)
    assert result.exit_code == 0, result.output
    assert f"{TORN}.jpg" in result.output.replace("\n", "")
    assert "1 pictures are left out" in result.output
    return root


def read_refs(root: Path) -> list[dict[str, Any]]:
    return json.loads((root / "grefcoco" / "grefs(unc).json").read_text())


def looked_at(root: Path) -> dict[int, tuple[Record, Any, Any]]:
    """The pictures as the reader finds them, and the programs' view of them."""
    records = [r for split in ("train", "val") for r in load_grefcoco(root, split)]
    return {r.image_id: (r, *photographs.view(r, read_image(r))) for r in records}


def test_the_reader_takes_what_was_written(source: Path, dataset: Path) -> None:
    given = json.loads((source / "instances.json").read_text())["annotations"]
    found = {n["id"]: n for n in json.loads(
        (dataset / "grefcoco" / "instances.json").read_text())["annotations"]}  # fmt: skip
    for note in given:  # crowds too, for they mean something to other readers
        if note["image_id"] != TORN:
            assert {**found[note["id"]], **note} == found[note["id"]]
    train, val = (load_grefcoco(dataset, split) for split in ("train", "val"))
    assert {record.image_id for record in val} == set(HELD_OUT)
    assert {record.image_id for record in train} == set(PICTURES) - set(HELD_OUT)
    for record in train + val:
        original = cv2.imread(str(source / "pictures" / f"{record.image_id}.jpg"))
        assert original is not None
        assert np.array_equal(read_image(record)[..., ::-1], original)


def test_programs_prove_the_targets_and_that_there_are_none(dataset: Path) -> None:
    pictures = looked_at(dataset)
    for ref in read_refs(dataset):
        record, view, sight = pictures[ref["image_id"]]
        meant = evaluate(ref["program"], view, sight)
        assert is_clear(ref["program"], view, sight), ref
        # Photographs hold more than what is annotated: nothing is said of all things.
        assert "kind" in json.dumps(ref["program"]) or "group" in json.dumps(ref["program"]), ref
        assert ref["no_target"] == (not meant) == bool(ref["falsified"])
        ids = [record.instances[index - 1].ann_id for index in sorted(meant)]
        assert ref["ann_id"] == (ids or [-1])


def test_the_paint_is_the_colour_that_is_said(dataset: Path) -> None:
    """A reader of its own: the painted table above, and no program."""
    heard = 0
    for ref in read_refs(dataset):
        program = ref["program"]
        if program[0] != "color" or program[1][0] != "kind" or program[1][2] not in COCO_KINDS:
            continue
        heard += 1
        kind, color = COCO_KINDS.index(program[1][2]) + 1, program[2]
        painted = [
            n for n, (k, c, _) in enumerate(PICTURES[ref["image_id"]]) if (k, c) == (kind, color)
        ]
        assert len(painted) == (0 if ref["no_target"] else len(ref["ann_id"])), ref
        assert kind != PERSON, ref  # nobody is red
    assert heard > 10


def test_a_kind_with_a_crowd_is_not_spoken_of(dataset: Path) -> None:
    texts = [json.dumps(ref["program"]) for ref in read_refs(dataset) if ref["image_id"] == CROWDED]
    assert texts and not any('"car"' in text or '"vehicle"' in text for text in texts)


def test_boxes_are_kept_if_asked_and_have_no_colour(source: Path, tmp_path: Path) -> None:
    content = json.loads((source / "instances.json").read_text())
    for note in content["annotations"]:
        if note["category_id"] == CAR and not note["iscrowd"]:
            del note["segmentation"]
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps(content))
    asked = ("--instances", str(boxes), "--no-target", "0.2")
    # What has no segmentation is left out otherwise, and its kind is not spoken of.
    assert run(source, tmp_path / "without", *asked).exit_code == 0
    assert not any('"car"' in json.dumps(ref["program"]) for ref in read_refs(tmp_path / "without"))
    result = run(source, tmp_path / "with", *asked, "--boxes")
    assert result.exit_code == 0, result.output
    programs = " ".join(json.dumps(ref["program"]) for ref in read_refs(tmp_path / "with"))
    colored = '"color", ["kind", ["all"], "{}"]'
    assert programs.count('"car"') > 10 and colored.format("car") not in programs
    assert colored.format("dog") in programs
    for record, _, _ in looked_at(tmp_path / "with").values():
        for instance, (kind, _, (x, y, w, h)) in zip(
            record.instances, PICTURES[record.image_id], strict=True
        ):
            assert instance.outlined == (kind != CAR)
            assert instance.box == (x, y, x + w, y + h)
            assert instance_mask(instance, HEIGHT, WIDTH).sum() == w * h
    checked = check_dataset(find_dataset(tmp_path / "with"), lambda things, *_: things)
    found = {finding.what: finding.count for finding in checked.findings.sorted()}
    things = [kind for image_id in PICTURES for kind, *_ in PICTURES[image_id]]
    assert found["boxes without an outline"] == things.count(CAR)
    record, *_ = looked_at(tmp_path / "with")[1]
    with pytest.raises(DatasetError, match=r"1\.jpg: ann_id \d+: a box without an outline"):
        merged_mask(record, next(e for e in record.expressions if e.ann_ids))


def test_the_held_out_pictures_have_one_many_and_none_alike(dataset: Path) -> None:
    refs = [ref for ref in read_refs(dataset) if ref["split"] == "val"]
    counts = Counter(0 if r["no_target"] else min(len(r["ann_id"]), 2) for r in refs)
    assert counts[0] == counts[1] == counts[2] >= 4, counts


def test_no_more_training_expressions_without_a_target_than_asked(dataset: Path) -> None:
    """More are written, as pictures run out of other expressions; the excess is dropped."""
    none = [ref["no_target"] for ref in read_refs(dataset) if ref["split"] == "train"]
    assert round(0.67 * sum(none)) == pytest.approx(0.33 * (len(none) - sum(none)), abs=0.7)
    written = (dataset / "grefcoco" / "journal.jsonl").read_text().splitlines()[1:]
    refs = [ref for line in written for ref in json.loads(line)["refs"]]
    before = [ref["no_target"] for ref in refs if ref["split"] == "train"]
    assert sum(before) / len(before) > 0.33
    kept = [ref for ref in refs if ref["split"] == "train" and not ref["no_target"]]
    assert len(kept) == len(none) - sum(none)


def test_borrowed_expressions_are_of_the_same_split(dataset: Path) -> None:
    """And true where they come from, so nothing of the held-out pictures is met in training."""
    refs = read_refs(dataset)
    borrowed = [ref for ref in refs if ref["category"] == "borrowed"]
    assert borrowed
    pictures = looked_at(dataset)
    for ref in borrowed:
        own = HELD_OUT if ref["split"] == "val" else set(PICTURES) - set(HELD_OUT)
        others = [pictures[n] for n in own if n != ref["image_id"]]
        assert any(evaluate(ref["program"], view, sight) for _, view, sight in others), ref


def test_some_sets_are_said_in_three_ways(dataset: Path) -> None:
    said = Counter((r["image_id"], tuple(r["ann_id"])) for r in read_refs(dataset)
                   if r["split"] == "val" and not r["no_target"])  # fmt: skip
    assert sum(times >= 3 for times in said.values()) >= 2, said


def test_an_interrupted_run_ends_the_same(source: Path, dataset: Path, tmp_path: Path) -> None:
    journal = (dataset / "grefcoco" / "journal.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "grefcoco").mkdir()
    (tmp_path / "grefcoco" / "journal.jsonl").write_text("".join(journal[:4]) + journal[4][:70])
    result = run(source, tmp_path)
    assert result.exit_code == 0, result.output
    for name in ("grefs(unc).json", "instances.json"):
        assert (tmp_path / "grefcoco" / name).read_text() == (
            dataset / "grefcoco" / name
        ).read_text()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--seed", "9"), "other settings"),
        (("--balance", "1:1"), "not a proportion"),
        (("--instances", "nowhere.json"), "no such file"),
    ],
)
def test_wrong_options_are_refused(
    source: Path, dataset: Path, options: tuple[str, ...], says: str
) -> None:
    result = run(source, dataset, *options)
    assert result.exit_code == 2
    assert says in " ".join(result.output.split())


def test_an_unknown_held_out_picture_is_an_error(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no image_id 12345"):
        construct.read_album(source / "instances.json", source, frozenset({12345}))


def test_a_tiny_object_makes_a_kind_unclear() -> None:
    large = thing(1, (40, 40, 90, 90))
    tiny = thing(2, (150, 10, 154, 14), visible=0.1)
    program = ["kind", ["all"], "car"]
    assert is_clear(program, [large], photographs.PICTURE)
    assert not is_clear(program, [large, tiny], photographs.PICTURE)
    assert is_clear(["extreme", program, "largest"], [large, thing(3, (150, 50, 170, 70)), tiny],
                    photographs.PICTURE)  # fmt: skip


@pytest.mark.parametrize(
    ("color", "mixed", "name"),
    [
        ((210, 20, 25), (210, 20, 25), "red"),
        ((20, 60, 190), (20, 60, 190), "blue"),
        ((15, 15, 15), (25, 25, 25), "black"),
        ((245, 245, 245), (235, 238, 240), "white"),
        ((210, 20, 25), (20, 60, 190), ""),
        ((128, 128, 128), (120, 120, 120), ""),  # grey is a question of light
    ],
)
def test_a_colour_is_known_only_where_it_is_nearly_all(
    color: tuple[int, ...], mixed: tuple[int, ...], name: str
) -> None:
    rgb = np.empty((40, 40, 3), np.uint8)
    rgb[:20], rgb[20:] = color, mixed
    found, maybe = photographs.colors(rgb, np.ones((40, 40), bool))
    assert found == name
    assert not name or name in maybe
    assert "green" not in maybe


def thing(index: int, box: tuple[float, float, float, float], visible: float = 1.0) -> Any:
    x0, y0, x1, y1 = box
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return photographs.PictureObject(
        index=index, kind="car", color="", size="medium", box=box,
        area=int((x1 - x0) * (y1 - y0)), center=(x, y),
        position=((x - WIDTH / 2) / WIDTH, (y - HEIGHT / 2) / WIDTH, 1.0),
        visible_fraction=visible, frame=(WIDTH, HEIGHT),
    )  # fmt: skip
