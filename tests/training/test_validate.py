"""The validator: it finds every defect that we plant, and refuses just what loading refuses."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
import typer.testing

from tests.training import refer_files
from training.dataset.checks import Checked, check_dataset, shared_pictures
from training.dataset.findings import EXAMPLES, Level
from training.dataset.load import find_dataset, load_dataset
from training.dataset.records import DatasetError
from training.validate import validate

pytest.importorskip("pycocotools")

GREFS, REFS = "grefcoco/grefs(unc).json", "refcoco/refs(unc).p"
Refs = list[dict[str, Any]]
Coco = dict[str, Any]


def check(root: Path, *, pictures: bool = False) -> Checked:
    return check_dataset(find_dataset(root), lambda things, *_: things, pictures=pictures)


def found(checked: Checked) -> dict[tuple[str, str], int]:
    """Count by (level, sort), without the suffixed file names that every published file has."""
    suffixed = "file names of references that name no picture"
    return {
        (f.level.value, f.what): f.count for f in checked.findings.sorted() if f.what != suffixed
    }


def run(*arguments: object) -> typer.testing.Result:
    app = typer.Typer()
    app.command()(validate)
    return typer.testing.CliRunner().invoke(app, [str(argument) for argument in arguments])


CROWDS = {("left out", "crowds"): 4}


def test_a_sound_dataset_has_counts_and_no_warning(tmp_path: Path) -> None:
    checked = check(refer_files.write(tmp_path, GREFS), pictures=True)
    assert found(checked) == CROWDS
    assert set(checked.splits) == {"train", "val", "testA", "testB"}
    val = checked.splits["val"]
    assert (val.pictures, val.instances, val.references, val.expressions) == (1, 2, 3, 4)
    assert (val.single, val.multi, val.no_target) == (2, 1, 1)
    assert found(check(refer_files.write(tmp_path / "p", REFS))) == CROWDS


def note(coco: Coco, ann_id: int) -> dict[str, Any]:
    return next(note for note in coco["annotations"] if note["id"] == ann_id)


# What is done to references 3 to 5 (of picture 2, split val) and to the annotations; what is found.
DEFECTS: dict[str, tuple[Callable[[Refs, Coco], Any], tuple[str, str], int]] = {
    "dangling picture": (
        lambda r, c: r[3].update(image_id=99),
        ("refused", "references to unknown pictures"),
        1,
    ),
    "dangling target": (lambda r, c: r[3].update(ann_id=[11]), ("refused", "dangling targets"), 1),
    "unknown category": (
        lambda r, c: [note(c, n).update(category_id=7) for n in (11, 22)],
        ("refused", "unknown categories"),
        2,
    ),
    "same ids": (
        lambda r, c: c["annotations"].append({**note(c, 21), "bbox": [0, 0, 1, 1]}),
        ("refused", "duplicate ann ids"),
        1,
    ),
    "repeated": (
        lambda r, c: c["categories"].append(c["categories"][0]),
        ("left out", "category entries that repeat another"),
        1,
    ),
    "target and none": (
        lambda r, c: r[4].update(ann_id=[21, -1]),
        ("refused", "unreadable references"),
        1,
    ),
    "no dict": (lambda r, c: r.append("val"), ("refused", "unreadable references"), 1),  # type: ignore[arg-type]
    "empty": (
        lambda r, c: r[3]["sentences"][0].update(raw=" ", sent=""),
        ("left out", "empty sentences"),
        1,
    ),
    "no sentence": (
        lambda r, c: r[3].update(sentences=[]),
        ("left out", "references without a sentence"),
        1,
    ),
    "only crowds": (
        lambda r, c: r[3].update(ann_id=[23]),
        ("left out", "expressions that mean only crowds"),
        2,
    ),
    "crowd among others": (
        lambda r, c: r[3].update(ann_id=[21, 23]),
        ("left out", "targets among others that are crowds"),
        1,
    ),
    "short polygon": (
        lambda r, c: note(c, 12).update(segmentation=[[1, 1, 2, 2]]),
        ("left out", "objects of polygons below three points"),
        1,
    ),
    "short polygon beside": (
        lambda r, c: note(c, 12)["segmentation"].append([1, 1, 2, 2]),
        ("left out", "polygons below three points beside others"),
        1,
    ),
    "no mask": (
        lambda r, c: note(c, 11).pop("segmentation"),
        ("refused", "targets unmasked"),
        2,
    ),
    "far corner": (
        lambda r, c: note(c, 12).update(segmentation=[[1, 1, 1e9, 1, 5, 5]]),
        ("refused", "masks that cannot be drawn"),
        1,
    ),
    "bad runs": (
        lambda r, c: note(c, 12).update(segmentation={"size": [24, 32], "counts": [7]}),
        ("refused", "masks that cannot be drawn"),
        1,
    ),
    "other size": (
        lambda r, c: note(c, 12).update(segmentation={"size": [32, 24], "counts": [768]}),
        ("refused", "masks of another size"),
        1,
    ),
    "empty runs": (
        lambda r, c: note(c, 12).update(segmentation={"size": [24, 32], "counts": [768]}),
        ("warning", "masks without a pixel"),
        1,
    ),
    "box outside": (
        lambda r, c: note(c, 12).update(bbox=[15, 10, 19, 9]),
        ("warning", "boxes outside the picture"),
        1,
    ),
    "corners for sides": (
        lambda r, c: note(c, 12).update(bbox=[15, 10, 16, 14]),
        ("warning", "boxes that do not fit their mask"),
        1,
    ),
    "flat box": (
        lambda r, c: note(c, 12).update(bbox=[15, 10, 9, 0]),
        ("warning", "boxes without area"),
        1,
    ),
    "two splits": (
        lambda r, c: r[3].update(split="testA"),
        ("warning", "pictures that are in two splits"),
        1,
    ),
    "mistyped l": (
        lambda r, c: r[3]["sentences"][0].update(raw="cup on the ;eft"),
        ("warning", "sentences with ';' in a word, a mistyped l"),
        1,
    ),
    "same words": (
        lambda r, c: r[4]["sentences"][0].update(raw="The cup"),
        ("warning", "sentences that mean other objects elsewhere in the same picture"),
        1,
    ),
    "flag": (
        lambda r, c: r[3].update(no_target=True),
        ("warning", "no_target flags that ann_id contradicts"),
        1,
    ),
    "category": (
        lambda r, c: r[3].update(category_id=[2]),
        ("warning", "references of another category than its targets"),
        1,
    ),
    "ref_id": (lambda r, c: r[3].update(ref_id=4), ("warning", "ref_id given more than once"), 1),
    "sent_id": (
        lambda r, c: r[3]["sentences"][0].update(sent_id=131),
        ("warning", "sent_id given more than once"),
        1,
    ),
    "no split": (lambda r, c: r[3].pop("split"), ("warning", "references of no split"), 1),
    "bare id": (
        lambda r, c: r[3].update(ann_id=21),
        ("handled", "ann_id that is a number, not a list"),
        1,
    ),
    "silent picture": (
        lambda r, c: c["images"].append({**c["images"][0], "id": 8, "file_name": "b.jpg"}),
        ("handled", "pictures of which nothing is said"),
        1,
    ),
    "one file, two ids": (
        lambda r, c: c["images"].append({**c["images"][0], "id": 8}),
        ("warning", "pictures listed under two ids"),
        1,
    ),
    "stray annotation": (
        lambda r, c: c["annotations"].append({**note(c, 21), "id": 7, "image_id": 77}),
        ("warning", "annotations of pictures that are not listed"),
        1,
    ),
    "no categories": (lambda r, c: c.pop("categories"), ("refused", "parts missing"), 1),
}


def loads(root: Path) -> bool:
    """Every split loads, and every target's mask can be drawn."""
    try:
        for split in check(root).splits:
            load_dataset(root, split)
    except DatasetError:
        return False
    return True


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_is_found_and_named(tmp_path: Path, defect: str) -> None:
    spoil, sort, count = DEFECTS[defect]
    said, coco = refer_files.refs(lists=True), refer_files.instances()
    spoil(said, coco)
    checked = check(refer_files.write(tmp_path, GREFS, said, coco))
    assert found(checked).get(sort) == count, found(checked)
    finding = next(f for f in checked.findings.sorted() if (f.level.value, f.what) == sort)
    assert len(finding.examples) == min(count, EXAMPLES) and all(finding.examples)
    if sort[1] != "masks that cannot be drawn":  # which loading does not draw
        assert loads(tmp_path) == (sort[0] != "refused")


def test_all_defects_are_reported_at_once(tmp_path: Path) -> None:
    said, coco = refer_files.refs(lists=True), refer_files.instances()
    chosen = ["empty", "far corner", "box outside", "silent picture", "no dict"]
    for defect in chosen:
        DEFECTS[defect][0](said, coco)
    checked = check(refer_files.write(tmp_path, GREFS, said, coco))
    assert {DEFECTS[defect][1] for defect in chosen} <= set(found(checked))


JUNK = [None, -1, 0, 22, 1.5, float("nan"), "", "x", [], [None], {}, {"size": 1}, [[1, 2]], True]


def spoil_at_random(content: Any, rng: random.Random) -> None:
    """Replaces, drops or repeats something somewhere."""
    node = content
    while True:
        keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(node[key], (dict, list)) and rng.random() < 0.85:
            node = node[key]
            continue
        action = rng.randrange(3)
        if action == 0:
            node[key] = copy.deepcopy(rng.choice(JUNK))
        elif action == 1:
            del node[key]
        elif isinstance(node, list):
            node.append(copy.deepcopy(node[key]))
        return


@pytest.mark.parametrize("seed", range(2))
def test_the_validator_refuses_what_loading_refuses_whatever_is_wrong(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    refer_files.write_pictures(tmp_path)
    drawn = ("masks that cannot be drawn", "splits without an expression")
    refusals = 0
    for _ in range(30):
        said, coco = refer_files.refs(lists=True), refer_files.instances()
        for _ in range(rng.randint(1, 2)):
            spoil_at_random(rng.choice([said, coco]), rng)
        refer_files.write(tmp_path, GREFS, said, coco, pictures=False)
        checked = check(tmp_path)
        sorts = [w for (level, w) in found(checked) if level == "refused" and w not in drawn[:1]]
        try:
            for split in refer_files.SPLITS.values():
                if split in checked.splits:
                    load_dataset(tmp_path, split)
        except DatasetError as error:
            assert str(tmp_path) in str(error)
            assert sorts, error
            refusals += 1
        else:
            others = set(checked.splits) - set(refer_files.SPLITS.values())
            assert not sorts or others or not checked.splits, (said, coco)
    assert 5 < refusals < 28


def test_pictures_are_opened_when_asked(tmp_path: Path) -> None:
    folder = refer_files.write(tmp_path, REFS) / "images" / "train2014"
    paths = [folder / refer_files.picture_name(n) for n in refer_files.SPLITS]
    paths[0].write_bytes(paths[0].read_bytes()[:-40])
    cv2.imwrite(str(paths[1]), np.zeros((32, 24, 3), np.uint8))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.new("RGB", (refer_files.WIDTH, refer_files.HEIGHT)).save(paths[2], exif=exif)
    paths[3].unlink()

    assert found(check(tmp_path)) == {**CROWDS, ("refused", "missing pictures"): 1}
    checked = check(tmp_path, pictures=True)
    unreadable = ("refused", "pictures that cannot be read, or of another size")
    assert found(checked) == {
        **CROWDS,
        ("refused", "missing pictures"): 1,
        unreadable: 2,
        ("warning", "pictures that EXIF turns"): 1,
    }
    (finding,) = (f for f in checked.findings.sorted() if f.what == unreadable[1])
    assert paths[0].name in finding.examples[0] and "ends early" in finding.examples[0]
    assert "32 x 24 pixels, but image_id 2" in finding.examples[1]


def test_pictures_shared_by_two_datasets_are_told(tmp_path: Path) -> None:
    moved = refer_files.refs(lists=False)
    for ref in moved:
        ref["split"] = "train" if ref["image_id"] < 4 else "val"
    refer_files.write(tmp_path, REFS)
    refer_files.write(tmp_path, "refcocog/refs(umd).p", moved)
    datasets = [
        check_dataset(find_dataset(f"{tmp_path}:{name}"), lambda things, *_: things)
        for name in ("refcoco", "refcocog")
    ]
    assert shared_pictures(datasets) == [
        "1 pictures of refcocog_umd train are in refcoco_unc val",
        "1 pictures of refcocog_umd train are in refcoco_unc testA",
    ]
    result = run(tmp_path)
    assert result.exit_code == 0, result.output
    assert "1 pictures of refcocog_umd train are in refcoco_unc testA" in result.output


def test_the_command_prints_tables_and_ends_with_0_or_1(tmp_path: Path) -> None:
    refer_files.write(tmp_path, GREFS)
    report = tmp_path / "report.json"
    result = run(tmp_path, "--images", "--json", report)
    assert result.exit_code == 0, result.output
    assert "testA" in result.output and "0 refused, 4 left out, 0 warnings" in result.output
    assert json.loads(report.read_text())["ok"] is True

    said = refer_files.refs(lists=True)
    said[3]["ann_id"] = [4711]
    refer_files.write(tmp_path, GREFS, said)
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "dangling targets" in result.output and "ann_id 4711" in result.output

    result = run(tmp_path, "--json", "-")
    assert result.exit_code == 1
    content = json.loads(result.stdout)
    (dataset,) = content["datasets"]
    assert not content["ok"] and dataset["refused"] == 1
    assert dataset["splits"]["val"]["expressions"] == 2
    assert dataset["findings"][0]["what"] == "dangling targets"
    assert len(dataset["refs_sha256"]) == 64


def test_a_folder_without_a_dataset_and_unreadable_files(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.exit_code == 1 and "holds no dataset" in result.output
    refer_files.write(tmp_path, REFS, pictures=False)
    (tmp_path / REFS).write_bytes(b"cos\nsystem\n.")
    (tmp_path / "refcoco" / "instances.json").write_text("{")
    checked = check(tmp_path)
    assert found(checked) == {("refused", "unreadable files"): 2}
    first, second = checked.findings.sorted()[0].examples
    assert "asks for os.system" in first and "cannot be read as JSON" in second
    assert checked.findings.count(Level.REFUSED) == 2
