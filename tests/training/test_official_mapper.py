"""Pictures, masks and tokens in official mode against the official data mapper's own.

``tests/data/mapper.*`` holds what the official mapper made of nine pictures by rule.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from grex_ros.grounding import rle
from grex_ros.model.text_encoder import Tokenizer
from tests.model.golden import DATA, rule_image
from training.dataset.grefcoco import load_grefcoco
from training.dataset.official import SIDE, has_run_lengths, read_image, squeeze
from training.dataset.records import DatasetError, Instance, Record, merged_mask

INFO: dict[str, Any] = json.loads((DATA / "mapper.json").read_text())
CASES: list[dict[str, Any]] = INFO["cases"]
ARRAYS = np.load(DATA / "mapper.npz")
EVERY_CASE = pytest.mark.parametrize("index", range(len(CASES)))


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """The nine cases as a dataset in gRefCOCO's layout, read back; case i is image_id i + 1."""
    root = tmp_path_factory.mktemp("mapper")
    (root / "images" / "train2014").mkdir(parents=True)
    (root / "grefcoco").mkdir()
    images: list[dict] = []
    annotations: list[dict] = []
    refs: list[dict] = []
    for image_id, case in enumerate(CASES, 1):
        size = (case["height"], case["width"])
        picture = rule_image(case["image_seed"], *size, cell=case["image_cell"])
        path = root / "images" / "train2014" / f"{image_id}.png"
        PIL.Image.fromarray(picture.permute(1, 2, 0).numpy()).save(path)
        images.append({"id": image_id, "file_name": path.name, "height": size[0], "width": size[1]})
        named = [note for note in case["annotations"] if not note["empty"]]
        ann_ids = [10 * image_id + k for k in range(len(named))]
        for ann_id, note in zip(ann_ids, named, strict=True):
            one = {"id": ann_id, "image_id": image_id, "category_id": 1, "bbox": [0, 0, 1, 1]}
            annotations.append(
                {**one, "iscrowd": note["iscrowd"], "segmentation": note["segmentation"]}
            )
        refs.append(
            {
                "ref_id": image_id,
                "image_id": image_id,
                "split": "val",
                "ann_id": ann_ids or [-1],
                "sentences": [{"sent_id": image_id, "raw": case["raw"], "sent": "not this one"}],
            }
        )
    instances = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "thing"}],
    }
    (root / "grefcoco" / "instances.json").write_text(json.dumps(instances))
    (root / "grefcoco" / "grefs(unc).json").write_text(json.dumps(refs))
    return load_grefcoco(root, "val", raw=True)


@EVERY_CASE
def test_pictures_are_equal(records: list[Record], index: int) -> None:
    case = CASES[index]
    image = read_image(records[index]).transpose(2, 0, 1)
    assert image.dtype == np.uint8 and image.shape == (3, SIDE, SIDE)
    np.testing.assert_array_equal(image[:, 12::24, 12::24], ARRAYS[f"case{index}@image_stride24"])
    assert int(image.sum(dtype=np.int64)) == case["image_sum"]
    assert zlib.crc32(image.tobytes()) == case["image_crc32"]


@EVERY_CASE
def test_merged_masks_are_equal(records: list[Record], index: int) -> None:
    pytest.importorskip("pycocotools")
    case, record = CASES[index], squeeze(records[index])
    (expression,) = record.expressions
    bits = ARRAYS[f"case{index}@gt_bits"]
    expected = np.unpackbits(bits, count=SIDE * SIDE).reshape(SIDE, SIDE)
    mask = merged_mask(record, expression)
    np.testing.assert_array_equal(mask, expected)
    assert int(mask.sum()) == case["gt_merged_area"]
    assert expression.no_target == case["empty"]
    assert len(record.targets(expression)) == case["gt_instances"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("vocabulary")
    (folder / "vocab.txt").write_text("\n".join(INFO["vocab"]) + "\n", encoding="utf-8")
    return Tokenizer(folder, max_tokens=20)


@EVERY_CASE
def test_token_ids_are_equal(records: list[Record], tokenizer: Tokenizer, index: int) -> None:
    (expression,) = records[index].expressions
    tokens, mask = tokenizer([expression.text], pad_to=20)
    assert tokens.tolist() == [CASES[index]["lang_tokens"]]
    assert mask.tolist() == [CASES[index]["lang_mask"]]


def test_boxes_are_squeezed_with_the_picture(tmp_path: Path) -> None:
    instance = Instance(1, 1, "cup", (10.0, 20.0, 30.0, 50.0), [[0, 0, 1, 0, 1, 1]])
    record = Record(1, tmp_path, 60, 120, (), (instance,))
    squeezed = squeeze(record)
    assert (squeezed.height, squeezed.width) == (SIDE, SIDE)
    assert squeezed.instances[0].box == (40.0, 160.0, 120.0, 400.0)
    assert squeezed.instances[0].segmentation == [[0, 0, 4, 0, 4, 8]]
    assert record.instances[0] is instance


@pytest.mark.parametrize(("height", "width"), [(24, 32), (960, 720)])
def test_run_lengths_are_resized_by_the_nearest_pixel(height: int, width: int) -> None:
    mask = np.random.default_rng(0).random((height, width)) < 0.5
    instance = Instance(1, 1, "cup", (0, 0, 1, 1), rle.encode(mask))
    (squeezed,) = squeeze(Record(1, Path(), height, width, (), (instance,))).instances
    assert has_run_lengths(instance) and has_run_lengths(squeezed)
    got = rle.decode(squeezed.segmentation)
    assert got.shape == (SIDE, SIDE)
    for y, x in np.random.default_rng(1).integers(0, SIDE, (200, 2)):
        # the pixel that holds the centre of the squeezed one
        assert got[y, x] == mask[int((y + 0.5) * height / SIDE), int((x + 0.5) * width / SIDE)]


def picture_of(tmp_path: Path, turned: int | None = None) -> Record:
    """Left half red, right half blue, 20 x 40; ``turned`` is the EXIF orientation."""
    image = PIL.Image.new("RGB", (40, 20), (255, 0, 0))
    image.paste((0, 0, 255), (20, 0, 40, 20))
    exif = PIL.Image.Exif()
    if turned is not None:
        exif[0x0112] = turned
    path = tmp_path / "picture.png"
    image.save(path, exif=exif)
    return Record(5, path, 20, 40, (), ())


def test_exif_turns_the_picture_as_officially(tmp_path: Path) -> None:
    assert read_image(picture_of(tmp_path))[240, 10].tolist() == [255, 0, 0]
    assert read_image(picture_of(tmp_path, turned=3))[240, 10].tolist() == [0, 0, 255]  # half turn
    with pytest.raises(DatasetError, match="40 x 20 pixels, but image_id 5 says 20 x 40"):
        read_image(picture_of(tmp_path, turned=6))


def test_a_grey_picture_becomes_rgb(tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    PIL.Image.new("L", (40, 20), 77).save(path)
    image = read_image(Record(5, path, 20, 40, (), ()))
    assert image.shape == (SIDE, SIDE, 3) and set(image.ravel()) == {77}


def test_no_picture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"broken\.png: cannot be read"):
        read_image(Record(5, path, 20, 40, (), ()))
