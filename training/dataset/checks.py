"""Checks of a whole dataset: what loading would refuse or leave out, and what is likely wrong."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import PIL.Image

from .coco import (
    UNREADABLE,
    Annotations,
    DatasetFiles,
    by_split,
    image_ids,
    read_annotations,
    read_json,
    read_records,
    target_ids,
    whole,
)
from .findings import Findings, Level
from .load import read_refs
from .records import DatasetError, Instance, Record, draw_polygons, instance_mask, read_image

T = TypeVar("T")
Track = Callable[[Iterable[T], str, int], Iterable[T]]
"""Passes things on and shows how far it is: things, what is done, how many."""

# Where gRefCOCO's typists missed the l: ";eft", "peop;e" (gRefCOCO issue 12).
MISTYPED_L = re.compile(r";\w")
EXIF_ORIENTATION = 0x0112


@dataclass
class SplitCounts:
    """What a split has after loading."""

    pictures: int = 0
    instances: int = 0
    references: int = 0
    expressions: int = 0
    single: int = 0
    multi: int = 0
    no_target: int = 0


@dataclass
class Checked:
    """A dataset that was checked."""

    files: DatasetFiles
    findings: Findings
    refs_sha256: str = ""
    splits: dict[str, SplitCounts] = field(default_factory=dict)
    picture_ids: dict[str, set[int]] = field(default_factory=dict)  # by split

    def as_json(self) -> dict[str, Any]:
        """The report as JSON can hold it."""
        return {
            "name": self.files.name,
            "refs_file": str(self.files.refs_path),
            "refs_sha256": self.refs_sha256,
            "splits": {name: asdict(counts) for name, counts in self.splits.items()},
            "findings": [
                {**asdict(finding), "level": finding.level.value}
                for finding in self.findings.sorted()
            ],
            "refused": self.findings.count(Level.REFUSED),
            "left_out": self.findings.count(Level.LEFT_OUT),
            "warnings": self.findings.count(Level.WARNING),
        }


def check_dataset(files: DatasetFiles, track: Track, *, pictures: bool = False) -> Checked:
    """Checks everything; with ``pictures`` it opens each of them, too. Raises nothing on bad data.

    Masks of polygons are drawn, for which pycocotools is needed: ImportError without it.
    """
    checked = Checked(files, Findings(collect=True))
    findings = checked.findings
    refs: list[Any] | None = None
    content: dict[str, Any] | None = None
    try:
        refs = read_refs(files)
        checked.refs_sha256 = hashlib.sha256(files.refs_path.read_bytes()).hexdigest()
    except DatasetError as error:
        findings.add(Level.REFUSED, "unreadable files", str(error))
    try:
        content = read_json(files.instances_path, dict)
    except DatasetError as error:
        findings.add(Level.REFUSED, "unreadable files", str(error))
    if refs is None or content is None:
        return checked
    if not refs:
        findings.refuse("unreadable files", files.refs_path, "holds no reference")

    splits = by_split(files.refs_path, refs, findings)
    spoken_of = [ref for chosen in splits.values() for ref in chosen]
    annotations = read_annotations(files, content, image_ids(spoken_of), findings)
    found: dict[int, Record] = {}
    for name, chosen in splits.items():
        records = read_records(files, chosen, annotations, findings)
        if not records:
            detail = f"nothing is left of split '{name}'"
            findings.refuse("splits without an expression", files.refs_path, detail)
        found.update((record.image_id, record) for record in records)
        checked.splits[name] = _count(records, len(chosen))
        checked.picture_ids[name] = {record.image_id for record in records}

    _check_references(files, spoken_of, annotations, findings)
    _check_listing(files.instances_path, content, annotations, findings)
    _check_leakage(files.refs_path, checked.picture_ids, findings)
    for image_id in track(annotations.instances, "masks", len(annotations.instances)):
        if image_id in annotations.pictures:
            _, height, width = annotations.pictures[image_id]
            for instance in annotations.instances[image_id]:
                _check_instance(files.instances_path.name, instance, height, width, findings)
    if pictures:
        there = [record for record in found.values() if record.image_path.is_file()]
        with ThreadPoolExecutor() as threads:
            for troubles in track(threads.map(_picture_troubles, there), "pictures", len(there)):
                for level, what, example in troubles:
                    findings.add(level, what, example)
    return checked


def shared_pictures(datasets: Collection[Checked]) -> list[str]:
    """Where one dataset trains on pictures that another one tests on, in words."""
    said = []
    for one in datasets:
        for other in datasets:
            for train, test in ((t, s) for t in one.picture_ids for s in other.picture_ids):
                if one is other or not train.startswith("train") or test.startswith("train"):
                    continue
                if shared := one.picture_ids[train] & other.picture_ids[test]:
                    said.append(
                        f"{len(shared)} pictures of {one.files.name} {train} "
                        f"are in {other.files.name} {test}"
                    )
    return said


def _count(records: Collection[Record], references: int) -> SplitCounts:
    targets = [len(said.ann_ids) for record in records for said in record.expressions]
    return SplitCounts(
        pictures=len(records),
        instances=sum(len(record.instances) for record in records),
        references=references,
        expressions=len(targets),
        single=sum(number == 1 for number in targets),
        multi=sum(number > 1 for number in targets),
        no_target=sum(number == 0 for number in targets),
    )


def _check_references(
    files: DatasetFiles,
    refs: Collection[Mapping[str, Any]],
    annotations: Annotations,
    findings: Findings,
) -> None:
    """What loading does not look at: repeated ids, flags, file names, the words themselves."""
    category_of = {i.ann_id: i.category_id for of in annotations.instances.values() for i in of}
    ref_ids: Counter[Any] = Counter()
    sent_ids: Counter[Any] = Counter()
    meanings: dict[tuple[int, str], tuple[int, ...]] = {}
    path = files.refs_path.name
    for ref in refs:
        try:
            ref_id, image_id = whole(ref["ref_id"]), whole(ref["image_id"])
            targets = target_ids(ref["ann_id"])
            sentences = [(whole(s["sent_id"]), s) for s in ref["sentences"]]
        except UNREADABLE:
            continue  # refused by read_records
        here = f"{path}: ref_id {ref_id}"
        ref_ids[ref_id] += 1
        if "split" not in ref:
            findings.add(Level.WARNING, "references of no split", here)
        if isinstance(ref["ann_id"], int) and files.refs_path.suffix == ".json":
            findings.add(Level.HANDLED, "ann_id that is a number, not a list", here)
        if "no_target" in ref and bool(ref["no_target"]) != (not targets):
            findings.add(Level.WARNING, "no_target flags that ann_id contradicts", here)
        picture = annotations.pictures.get(image_id)
        if picture and ref.get("file_name", picture.file_name) != picture.file_name:
            example = f"{here}: {ref['file_name']} for {picture.file_name}"
            findings.add(Level.HANDLED, "file names of references that name no picture", example)
        given = ref.get("category_id")
        known = {category_of[ann_id] for ann_id in targets if ann_id in category_of}
        if given is not None and any(
            category not in (given if isinstance(given, list) else [given]) for category in known
        ):
            example = f"{here}: category_id {given}, its targets are of {sorted(known)}"
            findings.add(Level.WARNING, "references of another category than its targets", example)
        for sent_id, sentence in sentences:
            sent_ids[sent_id] += 1
            text = str(sentence.get("raw") or sentence.get("sent") or "").strip().lower()
            there = f"{here}, sent_id {sent_id}: '{text}'"
            if MISTYPED_L.search(text):
                findings.add(Level.WARNING, "sentences with ';' in a word, a mistyped l", there)
            if "\ufffd" in text:
                findings.add(Level.WARNING, "sentences with unreadable characters", there)
            meaning = tuple(sorted(targets))
            if text and meanings.setdefault((image_id, text), meaning) != meaning:
                what = "sentences that mean other objects elsewhere in the same picture"
                findings.add(Level.WARNING, what, f"{there}, image_id {image_id}")
    for what, ids in (("ref_id", ref_ids), ("sent_id", sent_ids)):
        for own, count in ids.items():
            if count > 1:
                example = f"{path}: {what} {own} occurs {count} times"
                findings.add(Level.WARNING, f"{what} given more than once", example)


def _check_listing(
    path: Path, content: Mapping[str, Any], annotations: Annotations, findings: Findings
) -> None:
    """What instances.json lists beside the pictures that are spoken of."""
    listed: dict[str, int] = {}
    ids = set()
    for image in _entries(content, "images"):
        image_id, name = whole(image["id"]), str(image.get("file_name"))
        ids.add(image_id)
        if listed.setdefault(name, image_id) != image_id:
            example = f"{path.name}: {name} is image_id {listed[name]} and {image_id}"
            findings.add(Level.WARNING, "pictures listed under two ids", example)
        if image_id not in annotations.pictures:
            findings.add(Level.HANDLED, "pictures of which nothing is said", f"image_id {image_id}")
    for note in _entries(content, "annotations"):
        if whole(note["image_id"]) not in ids:
            example = f"{path.name}: ann_id {note['id']} of image_id {note['image_id']}"
            findings.add(Level.WARNING, "annotations of pictures that are not listed", example)


def _entries(content: Mapping[str, Any], part: str) -> Iterator[Mapping[str, Any]]:
    """The entries of a list that have whole ids; the others are refused by read_annotations."""
    given = content.get(part)
    for entry in given if isinstance(given, list) else ():
        try:
            whole(entry["id"])
            whole(entry.get("image_id", 0))
        except UNREADABLE:
            continue
        if "image_id" in entry or part == "images":
            yield entry


def _check_leakage(path: Path, splits: Mapping[str, set[int]], findings: Findings) -> None:
    for one, other in combinations(sorted(splits), 2):
        for image_id in sorted(splits[one] & splits[other]):
            example = f"{path.name}: image_id {image_id} is in {one} and in {other}"
            findings.add(Level.WARNING, "pictures that are in two splits", example)


def _check_instance(
    file: str, instance: Instance, height: int, width: int, findings: Findings
) -> None:
    here = f"{file}: ann_id {instance.ann_id}"
    x0, y0, x1, y1 = instance.box
    if x1 <= x0 or y1 <= y0:
        findings.add(Level.WARNING, "boxes without area", f"{here}: {instance.box}")
    if min(x0, y0) < -1 or x1 > width + 1 or y1 > height + 1:
        example = f"{here}: {instance.box} (x0, y0, x1, y1) in {height} x {width} pixels"
        findings.add(Level.WARNING, "boxes outside the picture", example)
    if not instance.outlined:
        findings.add(Level.HANDLED, "boxes without an outline", here)
    if not isinstance(instance.segmentation, Mapping) and any(
        len(polygon) < 6 or len(polygon) % 2 for polygon in instance.segmentation
    ):
        findings.left_out("polygons below three points beside others", here)
    try:
        extent = _mask_box(instance, height, width)
    except DatasetError as error:
        findings.add(Level.REFUSED, "masks that cannot be drawn", f"{file}: {error}")
        return
    if extent is None:
        findings.add(Level.WARNING, "masks without a pixel", here)
    elif _iou(instance.box, extent) < 0.5 and not np.allclose(instance.box, extent, rtol=0, atol=2):
        example = f"{here}: box {instance.box}, mask {extent} (x0, y0, x1, y1)"
        findings.add(Level.WARNING, "boxes that do not fit their mask", example)


def _mask_box(
    instance: Instance, height: int, width: int
) -> tuple[float, float, float, float] | None:
    """Where the mask is, (x0, y0, x1, y1), ends exclusive; None for an empty one."""
    if isinstance(instance.segmentation, Mapping):
        mask = instance_mask(instance, height, width)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not rows.size:
            return None
        return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
    drawn = draw_polygons(instance.ann_id, instance.segmentation, height, width)
    from pycocotools import mask as coco_mask

    if not coco_mask.area(drawn):
        return None
    x, y, w, h = (float(value) for value in coco_mask.toBbox(drawn))
    return x, y, x + w, y + h


def _iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(wide, 0.0) * max(high, 0.0)
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / both if both > 0 else 0.0


def _picture_troubles(record: Record) -> list[tuple[Level, str, str]]:
    try:
        read_image(record)
    except DatasetError as error:
        what = "pictures that cannot be read, or of another size"
        return [(Level.REFUSED, what, str(error))]
    with PIL.Image.open(record.image_path) as file:
        turned = file.getexif().get(EXIF_ORIENTATION, 1) != 1
    example = f"{record.image_path}: image_id {record.image_id}"
    return [(Level.WARNING, "pictures that EXIF turns", example)] if turned else []
