"""The reader of gRefCOCO's layout, on datasets of a few pixels."""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grex_ros.grounding import rle
from training.dataset.grefcoco import load_grefcoco
from training.dataset.records import (
    DatasetError,
    Instance,
    ReferringExpression,
    instance_mask,
    merged_mask,
)

HEIGHT, WIDTH = 6, 8


def box_mask(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def sentence(sent_id: int, text: str) -> dict[str, Any]:
    return {"sent_id": sent_id, "raw": text, "sent": text.lower(), "tokens": text.split()}


INSTANCES: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "COCO_train2014_7.jpg", "height": HEIGHT, "width": WIDTH},
        {"id": 9, "file_name": "COCO_train2014_9.jpg", "height": HEIGHT, "width": WIDTH},
    ],
    "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "bowl"}],
    "annotations": [
        {
            "id": 70,
            "image_id": 7,
            "category_id": 1,
            "bbox": [1, 1, 3, 2],
            "iscrowd": 0,
            "segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]],
        },
        {
            "id": 71,
            "image_id": 7,
            "category_id": 2,
            "bbox": [3.0, 2.0, 4.0, 3.0],
            "iscrowd": 0,
            "segmentation": rle.encode(box_mask(3, 2, 7, 5)),
        },
        {
            "id": 72,
            "image_id": 7,
            "category_id": 1,
            "bbox": [0, 0, 8, 6],
            "iscrowd": 1,
            "segmentation": {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]},
        },
        {
            "id": 90,
            "image_id": 9,
            "category_id": 1,
            "bbox": [0, 4, 2, 2],
            "iscrowd": 0,
            "segmentation": {"size": [HEIGHT, WIDTH], "counts": [4, 2, 4, 2, 36]},
        },
    ],
}


def ref(ref_id: int, image_id: int, ann_id: Any, sentences: list[dict], **more: Any) -> dict:
    return {
        "ref_id": ref_id,
        "image_id": image_id,
        "split": "val",
        "ann_id": ann_id,
        "category_id": [1],
        "no_target": ann_id == [-1],
        "file_name": f"COCO_train2014_{image_id}_{ref_id}.jpg",
        "sent_ids": [s["sent_id"] for s in sentences],
        "sentences": sentences,
        **more,
    }


REFS: list[dict[str, Any]] = [
    ref(1, 9, 90, [sentence(10, "The Cup")]),
    ref(2, 7, [70, 71], [sentence(11, "cup and bowl"), sentence(12, "  "), sentence(13, "both")]),
    ref(3, 7, [-1], [sentence(14, "unicorn")]),
    ref(4, 7, [71, 72], [sentence(15, "bowl and crowd")]),
    ref(5, 7, [72], [sentence(16, "the crowd")]),
    ref(6, 7, [70], []),
    ref(7, 9, [90], [sentence(17, "training words")], split="train"),
]


def write(root: Path, refs: Any = REFS, instances: Any = INSTANCES) -> Path:
    (root / "grefcoco").mkdir(parents=True, exist_ok=True)
    (root / "images" / "train2014").mkdir(parents=True, exist_ok=True)
    (root / "grefcoco" / "grefs(unc).json").write_text(json.dumps(refs))
    (root / "grefcoco" / "instances.json").write_text(json.dumps(instances))
    for image in instances["images"]:
        (root / "images" / "train2014" / image["file_name"]).touch()
    return root


def test_one_record_per_image_with_all_its_expressions(tmp_path: Path) -> None:
    nine, seven = load_grefcoco(write(tmp_path), "val")

    assert (nine.image_id, seven.image_id) == (9, 7)
    assert (seven.height, seven.width) == (HEIGHT, WIDTH)
    assert nine.expressions == (ReferringExpression(10, 1, "The Cup", (90,)),)
    assert [(e.sent_id, e.text, e.ann_ids, e.no_target) for e in seven.expressions] == [
        (11, "cup and bowl", (70, 71), False),
        (13, "both", (70, 71), False),
        (14, "unicorn", (), True),
        (15, "bowl and crowd", (71,), False),
    ]
    assert [(i.ann_id, i.category, i.box) for i in seven.instances] == [
        (70, "cup", (1.0, 1.0, 4.0, 3.0)),
        (71, "bowl", (3.0, 2.0, 7.0, 5.0)),
    ]


def test_the_picture_is_found_by_image_id_not_by_the_suffixed_file_name(tmp_path: Path) -> None:
    nine, _ = load_grefcoco(write(tmp_path), "val")
    assert nine.image_path == tmp_path / "images" / "train2014" / "COCO_train2014_9.jpg"


def test_what_is_left_out_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load_grefcoco(write(tmp_path), "val")
    assert len(caplog.messages) == 1
    assert caplog.messages[0].endswith(
        "left out 1 crowds, 1 empty sentences, 1 expressions that mean only crowds, "
        "1 references without a sentence, 1 targets among others that are crowds"
    )


def test_splits_are_kept_apart(tmp_path: Path) -> None:
    (record,) = load_grefcoco(write(tmp_path), "train")
    assert [e.text for e in record.expressions] == ["training words"]


def test_an_image_with_nothing_in_it_is_a_record(tmp_path: Path) -> None:
    instances = copy.deepcopy(INSTANCES)
    instances["annotations"] = []
    (record,) = load_grefcoco(
        write(tmp_path, [ref(3, 7, [-1], [sentence(14, "unicorn")])], instances), "val"
    )
    assert record.instances == ()
    assert merged_mask(record, record.expressions[0]).sum() == 0


@pytest.mark.parametrize("on_sentence", [True, False])
def test_extra_keys_of_generated_expressions(tmp_path: Path, on_sentence: bool) -> None:
    extra = {"category": "color", "falsified": "deceptive", "program": ["all"]}
    said = sentence(14, "blue cup")
    made = ref(3, 7, [-1], [{**said, **extra}]) if on_sentence else ref(3, 7, [-1], [said], **extra)
    (record,) = load_grefcoco(write(tmp_path, [made]), "val")
    assert record.expressions[0].category == "color"
    assert record.expressions[0].falsified == "deceptive"


def test_masks_of_all_three_encodings(tmp_path: Path) -> None:
    nine, seven = load_grefcoco(write(tmp_path), "val")
    polygon, compressed = seven.instances
    (uncompressed,) = nine.instances

    for instance, expected in [
        (compressed, box_mask(3, 2, 7, 5)),
        (uncompressed, box_mask(0, 4, 2, 6)),
    ]:
        mask = instance_mask(instance, HEIGHT, WIDTH)
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, expected)

    pytest.importorskip("pycocotools")
    np.testing.assert_array_equal(instance_mask(polygon, HEIGHT, WIDTH), box_mask(1, 1, 4, 3))


def test_two_polygons_are_one_instance() -> None:
    pytest.importorskip("pycocotools")
    both = [[0, 0, 2, 0, 2, 2, 0, 2], [4, 4, 8, 4, 8, 6, 4, 6], [1, 1, 2, 2]]
    instance = Instance(1, 1, "cup", (0, 0, 8, 6), both)
    expected = box_mask(0, 0, 2, 2) | box_mask(4, 4, 8, 6)
    np.testing.assert_array_equal(instance_mask(instance, HEIGHT, WIDTH), expected)


def test_merged_mask_is_the_union_of_the_targets(tmp_path: Path) -> None:
    _, seven = load_grefcoco(write(tmp_path), "val")
    bowl = next(e for e in seven.expressions if e.ann_ids == (71,))
    nothing = next(e for e in seven.expressions if e.no_target)
    np.testing.assert_array_equal(merged_mask(seven, bowl), box_mask(3, 2, 7, 5))
    assert not merged_mask(seven, nothing).any()

    pytest.importorskip("pycocotools")
    both = box_mask(1, 1, 4, 3) | box_mask(3, 2, 7, 5)
    np.testing.assert_array_equal(merged_mask(seven, seven.expressions[0]), both)


@pytest.mark.parametrize(
    ("segmentation", "says"),
    [
        ({"size": [WIDTH, HEIGHT], "counts": [48]}, "size"),
        ({"size": [HEIGHT, WIDTH], "counts": [47]}, "unreadable"),
        ({"size": [HEIGHT, WIDTH]}, "unreadable"),
        ({"size": [HEIGHT, WIDTH], "counts": "~~~~"}, "unreadable"),
        ([[1, 1, 2, 2]], "three points"),
    ],
)
def test_an_unreadable_mask_names_its_annotation(segmentation: Any, says: str) -> None:
    if isinstance(segmentation, list):
        pytest.importorskip("pycocotools")
    instance = Instance(4711, 1, "cup", (0, 0, 1, 1), segmentation)
    with pytest.raises(DatasetError, match=f"ann_id 4711.*{says}"):
        instance_mask(instance, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("refs", "says"),
    [
        ([ref(3, 8, [-1], [sentence(1, "a")])], r"ref_id 3: image_id 8 is not in .*instances"),
        ([ref(3, 7, [90], [sentence(1, "a")])], r"ref_id 3: means ann_id 90.*image_id 7 does not"),
        ([ref(3, 7, [70, -1], [sentence(1, "a")])], r"ref_id 3: .*both a target and no target"),
        ([{"split": "val", "ref_id": 3, "image_id": 7, "ann_id": [70]}], r"ref_id 3: .*sentences"),
        ([ref(3, 7, [70], [sentence(1, "a")], split="train")], r"no split 'val'; .*has train"),
        ({}, r"holds a dict, not a list"),
    ],
)
def test_errors_name_the_file_and_the_id(tmp_path: Path, refs: Any, says: str) -> None:
    with pytest.raises(DatasetError, match=rf"grefs\(unc\)\.json: {says}"):
        load_grefcoco(write(tmp_path, refs), "val")


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"grefs\(unc\)\.json: no such file"):
        load_grefcoco(tmp_path, "val")
    write(tmp_path)
    (tmp_path / "grefcoco" / "instances.json").write_text('{"images": [')
    with pytest.raises(DatasetError, match=r"instances\.json: cannot be read as JSON"):
        load_grefcoco(tmp_path, "val")
    write(tmp_path, instances={"images": []})
    with pytest.raises(DatasetError, match=r"instances\.json.*categories"):
        load_grefcoco(tmp_path, "val")


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "images" / "train2014" / "COCO_train2014_7.jpg").unlink()
    with pytest.raises(DatasetError, match=r"COCO_train2014_7\.jpg: .*image_id 7"):
        load_grefcoco(tmp_path, "val")
