"""The generated dataset: what is written is what was rendered and said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from grex_ros.grounding import rle
from grex_ros.scenes.objects import KINDS, PROCEDURAL_KINDS
from grex_ros.scenes.programs import evaluate
from grex_ros.scenes.renderer import RenderingUnavailable, SceneRenderer
from grex_ros.scenes.scene import Frame, ViewObject, sample_scene, view
from training import generate
from training.dataset.grefcoco import load_grefcoco
from training.dataset.records import instance_mask, read_image
from training.dataset.writer import Journal, JournalError, entry, file_name

SCENES, EXPRESSIONS, SIZE = 5, 6, (160, 120)
OPTIONS = ["--scenes", str(SCENES), "--size", "160x120", "--expressions", str(EXPRESSIONS),
           "--splits", "train:0.6,val:0.4", "--seed", "7", "--workers", "1"]  # fmt: skip


def run(root: Path, *options: str) -> Any:
    app = generate.typer.Typer()
    app.command()(generate.main)
    return CliRunner().invoke(app, ["--out", str(root), *OPTIONS, *options])


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def renderer() -> Any:
    try:
        with SceneRenderer(wide=True) as made:
            yield made
    except RenderingUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, renderer: SceneRenderer) -> Path:
    root = tmp_path_factory.mktemp("tabletop")
    result = run(root)
    assert result.exit_code == 0, result.output
    return root


@pytest.fixture(scope="module")
def frames(renderer: SceneRenderer) -> dict[int, tuple[Frame, list[ViewObject]]]:
    """What the dataset should show, rendered again."""
    seeds = [generate.scene_seed(7, "train", n) for n in range(3)]
    seeds += [generate.scene_seed(7, "val", n) for n in range(2)]
    made = {}
    for seed in seeds:
        scene = sample_scene(seed, meshes=True, look="wide")
        frame = renderer.render(scene, *SIZE)
        made[seed] = frame, view(scene, frame)
    return made


def test_the_reader_finds_what_was_rendered(
    dataset: Path, frames: dict[int, tuple[Frame, list[ViewObject]]]
) -> None:
    records = {r.image_id: r for split in ("train", "val") for r in load_grefcoco(dataset, split)}
    assert set(records) == set(frames)
    assert len(load_grefcoco(dataset, "val")) == 2
    for image_id, record in records.items():
        frame, seen = frames[image_id]
        difference = read_image(record).astype(float) - frame.rgb
        assert np.abs(difference).mean() < 4  # JPEG
        assert len(record.instances) == len(seen)  # also those that nothing was said about
        for instance, thing in zip(record.instances, seen, strict=True):
            mask = instance_mask(instance, record.height, record.width)
            assert np.array_equal(mask, frame.labels == thing.index)
            v, u = np.nonzero(mask)
            assert instance.box == (u.min(), v.min(), u.max() + 1, v.max() + 1) == thing.box
            assert instance.category == thing.kind
        assert 0 < len(record.expressions) <= EXPRESSIONS


def test_refs_agree_with_their_programs(
    dataset: Path, frames: dict[int, tuple[Frame, list[ViewObject]]]
) -> None:
    instances = read(dataset / "grefcoco" / "instances.json")
    annotations = {note["id"]: note for note in instances["annotations"]}
    refs = read(dataset / "grefcoco" / "grefs(unc).json")
    assert refs
    for ref in refs:
        _, seen = frames[ref["image_id"]]
        meant = evaluate(ref["program"], seen)
        assert ref["no_target"] == (not meant) == bool(ref["falsified"])
        if not meant:
            assert ref["ann_id"] == ref["category_id"] == [-1]
            continue
        notes = [annotations[ann_id] for ann_id in ref["ann_id"]]
        boxes = [thing.box for thing in seen if thing.index in meant]
        assert [(x, y, x + w, y + h) for x, y, w, h in (n["bbox"] for n in notes)] == boxes
        assert ref["category_id"] == [note["category_id"] for note in notes]
        assert all(note["image_id"] == ref["image_id"] for note in notes)


def test_the_layout_is_the_official_one(dataset: Path) -> None:
    instances = read(dataset / "grefcoco" / "instances.json")
    refs = read(dataset / "grefcoco" / "grefs(unc).json")
    assert [category["name"] for category in instances["categories"]] == list(KINDS)
    sizes = {image["id"]: [image["height"], image["width"]] for image in instances["images"]}
    for image in instances["images"]:
        assert image["file_name"] == f"COCO_train2014_{image['id']:012d}.jpg"
        picture = cv2.imread(str(dataset / "images" / "train2014" / image["file_name"]))
        assert list(picture.shape[:2]) == sizes[image["id"]] == [120, 160]
    for note in instances["annotations"]:
        assert note["segmentation"]["size"] == sizes[note["image_id"]]
        assert rle.decode(note["segmentation"]).sum() == note["area"] >= 30
        assert note["iscrowd"] == 0
        assert {"color", "size", "visible_fraction"} <= set(note)
    for ref in refs:
        (sentence,) = ref["sentences"]
        assert ref["sent_ids"] == [sentence["sent_id"]]
        assert sentence["raw"] and sentence["tokens"] == sentence["sent"].replace(",", " ,").split()
    for ids in (
        [note["id"] for note in instances["annotations"]],
        [ref["ref_id"] for ref in refs],
        [ref["sent_ids"][0] for ref in refs],
        list(sizes),
    ):
        assert len(ids) == len(set(ids))


def test_an_interrupted_run_goes_on_and_ends_the_same(dataset: Path, tmp_path: Path) -> None:
    journal = (dataset / "grefcoco" / "journal.jsonl").read_text().splitlines(keepends=True)
    copy = tmp_path / "copy"
    (copy / "grefcoco").mkdir(parents=True)
    # Two pictures are done, the third was being written when the power went.
    (copy / "grefcoco" / "journal.jsonl").write_text("".join(journal[:3]) + journal[3][:50])
    kept = [json.loads(line)["image"]["file_name"] for line in journal[1:3]]
    result = run(copy)
    assert result.exit_code == 0, result.output
    for name in ("grefs(unc).json", "instances.json"):
        assert read(copy / "grefcoco" / name) == read(dataset / "grefcoco" / name)
    pictures = {path.name for path in (copy / "images" / "train2014").iterdir()}
    assert len(pictures) == SCENES - 2 and not pictures & set(kept)
    for name in pictures:  # the same seed draws the same picture
        paths = [root / "images" / "train2014" / name for root in (copy, dataset)]
        assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--seed", "8"), "other settings"),
        (("--size", "big"), "is not a size"),
        (("--look", "dreamy"), "'dreamy' is none of plain, wide"),
        (("--look", "plain"), "other settings"),
        (("--splits", "train:0.5,val:0.4"), "do not add up"),
        (("--splits", "train:0.5,test:0.5"), "is not one of"),
    ],
)
def test_wrong_options_are_refused(dataset: Path, options: tuple[str, ...], says: str) -> None:
    before = (dataset / "grefcoco" / "journal.jsonl").read_bytes()
    result = run(dataset, *options)
    assert result.exit_code == 2
    assert says in " ".join(result.output.split())
    assert (dataset / "grefcoco" / "journal.jsonl").read_bytes() == before


def test_without_meshes_only_procedural_kinds_are_named(
    tmp_path: Path, renderer: SceneRenderer
) -> None:
    (tmp_path / "images" / "train2014").mkdir(parents=True)
    others = set(KINDS) - set(PROCEDURAL_KINDS)
    assert others
    for seed in range(4):
        task = generate.Task(tmp_path, seed, "train", *SIZE, 12, 1.0, meshes=False)
        made = generate.make(task, renderer)
        named = json.dumps([ref["program"] for ref in made["refs"]])
        assert not any(f'"{kind}"' in named for kind in others)


def test_a_journal_of_other_settings_is_not_continued(tmp_path: Path) -> None:
    Journal(tmp_path, {"seed": 1}).close()
    Journal(tmp_path, {"seed": 1}).close()
    with pytest.raises(JournalError, match='"seed": 1'):
        Journal(tmp_path, {"seed": 2})


def test_finish_counts_one_many_and_none(tmp_path: Path) -> None:
    empty = entry(1, "train", np.zeros((4, 6), np.int32), [], [])
    with Journal(tmp_path, {}) as journal:
        journal.add(empty)
        assert journal.done == {1}
        assert journal.finish() == {
            "images": 1, "instances": 0, "expressions": 0, "one": 0, "many": 0, "none": 0,
            "sets of targets": 0, "sets said in three ways or more": 0,
        }  # fmt: skip
    assert file_name(1) == "COCO_train2014_000000000001.jpg"


splits = st.sampled_from(generate.SPLITS)
numbers = st.integers(0, generate.SCENES_A_SPLIT - 1)
seeds = st.integers(0, 10_000)


@given(a=st.tuples(seeds, splits, numbers), b=st.tuples(seeds, splits, numbers))
def test_no_two_scenes_share_a_seed(a: tuple[int, str, int], b: tuple[int, str, int]) -> None:
    assert (generate.scene_seed(*a) == generate.scene_seed(*b)) == (a == b)
    assert 0 < generate.scene_seed(*a) < 10**12


def test_neighbouring_splits_do_not_touch() -> None:
    last = generate.SCENES_A_SPLIT - 1
    assert generate.scene_seed(0, "train", last) < generate.scene_seed(0, "val", 0)
    assert generate.scene_seed(0, "testB", last) < generate.scene_seed(1, "train", 0)
    with pytest.raises(ValueError, match="at most"):
        generate.scene_seed(0, "train", last + 1)


@given(scenes=st.integers(1, 5000), share=st.integers(0, 100))
def test_the_splits_are_all_scenes(scenes: int, share: int) -> None:
    counts = generate.parse_splits(f"train:{share / 100},val:{1 - share / 100}", scenes)
    assert sum(counts.values()) == scenes
    assert abs(counts["val"] - scenes * (1 - share / 100)) <= 1


def test_emphasis_is_read_and_kept_with_the_dataset(tmp_path: Path, dataset: Path) -> None:
    assert generate.parse_emphasis("relation:3, and:0.5") == (("relation", 3.0), ("and", 0.5))
    assert generate.parse_emphasis("") == ()
    for wrong in ("relation", "relation:much", "relation:0", "relation:inf", "beauty:2"):
        result = run(tmp_path / "wrong", "--emphasis", wrong)
        assert result.exit_code == 2, wrong
        assert wrong.split(":")[0] in result.output
    other = run(dataset, "--emphasis", "relation:3")
    assert other.exit_code == 2, "a dataset goes on with the settings that it was begun with"
