"""One door to every layout: what is found, what is refused, and what is left out and counted."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training import refer_files
from tests.training.refer_files import HEIGHT, WIDTH
from training.dataset.load import find_dataset, leave_out, load_dataset
from training.dataset.records import DatasetError, Record, merged_mask, read_image

GREFS, REFS = "grefcoco/grefs(unc).json", "refcoco/refs(unc).p"


@pytest.mark.parametrize("split", ["train", "val", "testA", "testB"])
@pytest.mark.parametrize(
    "file", [GREFS, REFS, "refcoco+/refs(unc).p", "refcocog/refs(umd).p", "own/grefs(mine).json"]
)
def test_every_layout_gives_the_same_records(tmp_path: Path, file: str, split: str) -> None:
    (record,) = load_dataset(refer_files.write(tmp_path, file), split)
    n = next(n for n, name in refer_files.SPLITS.items() if name == split)
    assert (record.image_id, record.height, record.width) == (n, HEIGHT, WIDTH)
    assert read_image(record).mean() == pytest.approx(40 * n, abs=2)
    assert [(i.ann_id, i.category, i.box) for i in record.instances] == [
        (10 * n + 1, "cup", (2, 3, 10, 9)),
        (10 * n + 2, "bowl", (15, 10, 24, 19)),
    ]
    said = [(e.text, e.ann_ids) for e in record.expressions]
    cup = [("the Cup", (10 * n + 1,)), ("white thing", (10 * n + 1,))]
    more = [("cup and bowl", (10 * n + 1, 10 * n + 2)), ("the blue spoon", ())]
    assert said == (cup if file.endswith(".p") else cup + more)

    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[3:9, 2:10] = True
    np.testing.assert_array_equal(merged_mask(record, record.expressions[0]), expected)


@pytest.mark.parametrize("folder", ["images", "images/mscoco/images/train2014"])
def test_pictures_may_lie_elsewhere(tmp_path: Path, folder: str) -> None:
    refer_files.write(tmp_path, GREFS, pictures=False)
    refer_files.write_pictures(tmp_path, folder)
    (record,) = load_dataset(tmp_path, "val")
    assert record.image_path == tmp_path / folder / refer_files.picture_name(2)


def test_of_several_datasets_one_is_named(tmp_path: Path) -> None:
    for file in (REFS, "refcocog/refs(umd).p", "refcocog/refs(google).p"):
        refer_files.write(tmp_path, file)
    assert find_dataset(f"{tmp_path}:refcoco").name == "refcoco_unc"
    assert find_dataset(f"{tmp_path}:refcocog_umd").refs_path.name == "refs(umd).p"
    assert load_dataset(Path(f"{tmp_path}:refcocog_google"), "val")

    names = "refcoco_unc, .*refcocog_google, .*refcocog_umd"
    with pytest.raises(DatasetError, match=f"holds 3 datasets; choose one of .*{names}"):
        find_dataset(tmp_path)
    with pytest.raises(DatasetError, match="holds 2 datasets.*refcocog_google"):
        find_dataset(f"{tmp_path}:refcocog")
    with pytest.raises(DatasetError, match=rf"has no dataset 'refcoco\+'; it has {names}"):
        find_dataset(f"{tmp_path}:refcoco+")


def test_a_folder_without_a_dataset_is_told_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"looked for \*/grefs\(\*\)\.json, \*/refs\(\*\)\.p"):
        load_dataset(tmp_path, "val")
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        load_dataset(tmp_path / "nowhere", "val")


def test_an_unknown_split_is_told_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no split 'test'; .* testA, testB, train, val"):
        load_dataset(refer_files.write(tmp_path, REFS), "test")


def test_bad_polygons_and_crowds_do_not_stop_the_load(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    coco = refer_files.instances()
    by_id = {note["id"]: note for note in coco["annotations"]}
    by_id[22]["segmentation"] = [[1, 1, 2, 2], [3, 3, 4, 4, 5, 5, 6]]  # a bowl without an outline
    coco["annotations"].append(dict(by_id[21]))  # the same once more
    refer_files.write(tmp_path, GREFS, coco=coco)
    with caplog.at_level(logging.WARNING):
        (record,) = load_dataset(tmp_path, "val")
    assert [i.ann_id for i in record.instances] == [21]
    assert [e.ann_ids for e in record.expressions] == [(21,), (21,), (21,), ()]
    (said,) = caplog.messages
    for part in (
        "1 crowds",
        "1 objects of polygons below three points",
        "1 ann entries that repeat another",
        "1 targets among others that are objects of polygons below three points",
    ):
        assert part in said


def changed(coco: dict[str, Any], ann_id: int, **values: Any) -> dict[str, Any]:
    for note in coco["annotations"]:
        if note["id"] == ann_id:
            note.update(values)
    return coco


OTHER_SIZE = {"size": [WIDTH, HEIGHT], "counts": [0, HEIGHT * WIDTH]}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"category_id": 9}, "category_id 9 is not listed"),
        ({"bbox": [1, 2, float("nan"), 4]}, "bbox"),
        ({"bbox": [1, 2, -3, 4]}, "bbox"),
        ({"bbox": [1, 2]}, ""),
        ({"bbox": None}, ""),
        ({"id": 22}, "$"),
        ({"segmentation": OTHER_SIZE}, r"mask of size \[32, 24\] .* image_id 2 of \[24, 32\]"),
        ({"category_id": 1.5}, "1.5 is no whole number"),
    ],
)
def test_an_annotation_that_must_not_be_used_is_named(
    tmp_path: Path, values: dict[str, Any], says: str
) -> None:
    refer_files.write(tmp_path, REFS, coco=changed(refer_files.instances(), 21, **values))
    own = 22 if "id" in values else 21
    with pytest.raises(DatasetError, match=rf"instances\.json: .*ann_id {own}.*{says}"):
        load_dataset(tmp_path, "val")
    if "id" not in values:  # duplicates are refused wherever they are
        assert load_dataset(tmp_path, "train")


def test_a_target_without_a_segmentation_is_refused(tmp_path: Path) -> None:
    for segmentation in ([], None):
        coco = changed(refer_files.instances(), 21, segmentation=segmentation)
        with pytest.raises(DatasetError, match="ref_id 1: means ann_id 21, which has no segm"):
            load_dataset(refer_files.write(tmp_path, REFS, coco=coco), "val")


def test_two_pictures_of_one_id_are_refused(tmp_path: Path) -> None:
    coco = refer_files.instances()
    coco["images"].append({**coco["images"][0], "file_name": "other.jpg"})
    with pytest.raises(DatasetError, match="two different image_id 1"):
        load_dataset(refer_files.write(tmp_path, REFS, coco=coco), "val")


def test_a_split_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    said = refer_files.refs(lists=False)
    said[1]["ann_id"] = 23
    with pytest.raises(DatasetError, match="nothing is left of split 'val': 1 crowds, 2 expr"):
        load_dataset(refer_files.write(tmp_path, REFS, said), "val")


def test_broken_pictures_are_named_when_they_are_read(tmp_path: Path) -> None:
    refer_files.write(tmp_path, REFS)
    (record,) = load_dataset(tmp_path, "val")
    data = record.image_path.read_bytes()
    for broken, says in [(data[:-30], "ends early"), (b"", "read"), (b"GIF89a..", "read")]:
        record.image_path.write_bytes(broken)
        with pytest.raises(DatasetError, match=rf"{record.image_path.name}: .*{says}"):
            read_image(record)
    shutil.copy(refer_files.__file__, record.image_path)
    with pytest.raises(DatasetError, match="cannot be read as a picture"):
        read_image(record)


@pytest.mark.parametrize("corner", [1e9, float("nan")])
def test_a_polygon_that_cannot_be_drawn_names_picture_and_annotation(
    tmp_path: Path, corner: float
) -> None:
    pytest.importorskip("pycocotools")
    coco = changed(refer_files.instances(), 21, segmentation=[[1, 1, 5, 1, corner, 5]])
    (record,) = load_dataset(refer_files.write(tmp_path, REFS, coco=coco), "val")
    with pytest.raises(DatasetError, match=rf"{record.image_path.name}: ann_id 21: .*corners"):
        merged_mask(record, record.expressions[0])


def test_the_last_pictures_are_left_to_calibration() -> None:
    records = [Record(n, Path("none"), 8, 8, (), ()) for n in (5, 2, 9, 4)]
    learnt, left_out = leave_out(records, 2)
    assert [r.image_id for r in learnt] == [2, 4]
    assert [r.image_id for r in left_out] == [5, 9]
    assert leave_out(records, 0) == (records, [])
    assert leave_out(records, 7)[0] == []
