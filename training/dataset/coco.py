"""From COCO instances and referring expressions to records, for every dataset of the family.

gRefCOCO and RefCOCO, RefCOCO+, RefCOCOg differ in how their references are stored and in whether
``ann_id`` is a list; from there on they are read here. As in the official loaders, crowds and
objects whose polygons all have fewer than three points are left out and counted; what else does
not hold together is refused by file and id.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from .findings import Findings, Level
from .records import DatasetError, Instance, Record, ReferringExpression

IMAGE_FOLDERS = tuple(
    Path(folder) for folder in ("images/train2014", "images", "images/mscoco/images/train2014")
)
NO_TARGET = -1  # the official file's annotation id of an expression that means nothing in the image
CROWD, BAD_POLYGON, NO_MASK = (
    "crowds",
    "objects of polygons below three points",
    "objects without a segmentation",
)

UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
_log = logging.getLogger(__name__)


class _Refusal(ValueError):
    """Something that must not be loaded; ``what`` is its sort."""

    def __init__(self, what: str, detail: str) -> None:
        super().__init__(detail)
        self.what = what


@dataclass(frozen=True)
class DatasetFiles:
    """Where a dataset lies: ROOT/<folder>/refs(...) and instances.json, ROOT/images."""

    name: str  # "grefcoco_unc", "refcocog_umd"
    root: Path
    refs_path: Path
    instances_path: Path


class Picture(NamedTuple):
    """A line of ``images`` in instances.json; height and width in pixels."""

    file_name: str
    height: int
    width: int


@dataclass
class Annotations:
    """The pictures that are spoken of and their objects, by image_id."""

    pictures: dict[int, Picture] = field(default_factory=dict)
    instances: dict[int, list[Instance]] = field(default_factory=dict)
    left_out: dict[int, dict[int, str]] = field(default_factory=dict)  # ann_id: why, by image_id


def read_json(path: Path, kind: type) -> Any:
    """The content of a JSON file; DatasetError unless it is one and holds a ``kind``."""
    try:
        with path.open(encoding="utf-8") as file:
            content = json.load(file)
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: cannot be read as JSON ({error})") from error
    return of_kind(content, kind, path)


def of_kind(content: Any, kind: type, path: Path) -> Any:
    """``content``; DatasetError unless it is a ``kind``."""
    if not isinstance(content, kind):
        raise DatasetError(f"{path}: holds a {type(content).__name__}, not a {kind.__name__}")
    return content


def load_records(
    files: DatasetFiles, refs: list[Any], split: str, *, raw: bool = False
) -> list[Record]:
    """The records of one split, in the order in which their pictures first occur in it.

    What is left out is counted in one warning: crowds, objects of bad polygons, empty sentences,
    references without a sentence, expressions none of whose targets remain. With ``raw`` every
    sentence is its ``raw`` form and stays even if that is empty, as in the official evaluation.

    Raises DatasetError if a file is missing or is not what it should be, if the split has nothing,
    or if an id points nowhere or at two things.
    """
    content = read_json(files.instances_path, dict)
    findings = Findings()
    splits = by_split(files.refs_path, refs, findings)
    if split not in splits:
        raise DatasetError(
            f"{files.refs_path}: no split '{split}'; the file has {', '.join(sorted(splits))}"
        )
    chosen = splits[split]
    annotations = read_annotations(files, content, image_ids(chosen), findings)
    records = read_records(files, chosen, annotations, findings, raw=raw)
    said = findings.summary(Level.LEFT_OUT)
    if not records:
        raise DatasetError(f"{files.refs_path}: nothing is left of split '{split}': {said}")
    if said:
        _log.warning("%s, split %s: left out %s", files.refs_path, split, said)
    return records


def by_split(
    path: Path, refs: Iterable[Any], findings: Findings
) -> dict[str, list[Mapping[str, Any]]]:
    """The references of each split, in the order of the file."""
    splits: dict[str, list[Mapping[str, Any]]] = {}
    for position, ref in enumerate(refs):
        if isinstance(ref, Mapping):
            splits.setdefault(str(ref.get("split")), []).append(ref)
        else:
            detail = f"reference number {position} is a {type(ref).__name__}, not a dict"
            findings.refuse("unreadable references", path, detail)
    return splits


def image_ids(refs: Iterable[Mapping[str, Any]]) -> set[int]:
    """The pictures that are spoken of; a reference without a proper id is met again later."""
    ids = set()
    for ref in refs:
        try:
            ids.add(whole(ref["image_id"]))
        except UNREADABLE:
            continue
    return ids


def read_annotations(
    files: DatasetFiles, content: Mapping[str, Any], wanted: Collection[int], findings: Findings
) -> Annotations:
    """The ``wanted`` pictures and their objects, from the content of instances.json."""
    path = files.instances_path
    read = Annotations()
    parts = ("images", "annotations", "categories")
    if missing := [part for part in parts if not isinstance(content.get(part), list)]:
        findings.refuse("parts missing", path, f"has no list of {', '.join(missing)}")
        return read

    for image_id, image in _by_id(content["images"], "image", path, findings):
        if image_id not in wanted:
            continue
        try:
            picture = Picture(
                str(image["file_name"]), whole(image["height"]), whole(image["width"])
            )
            if picture.height < 1 or picture.width < 1:
                raise ValueError(f"{picture.height} x {picture.width} pixels")
            read.pictures[image_id] = picture
        except UNREADABLE as error:
            findings.refuse("unreadable pictures", path, f"image_id {image_id}: {says(error)}")

    names = {}
    for category_id, category in _by_id(content["categories"], "category", path, findings):
        names[category_id] = str(category.get("name", ""))

    for ann_id, annotation in _by_id(content["annotations"], "ann", path, findings):
        found: Instance | str = ""
        try:
            image_id = whole(annotation["image_id"])
        except UNREADABLE as error:
            findings.refuse("unreadable annotations", path, f"ann_id {ann_id}: {says(error)}")
            continue
        if image_id not in wanted:
            continue
        try:
            found = _read_instance(ann_id, annotation, names, read.pictures.get(image_id))
        except UNREADABLE as error:
            what = error.what if isinstance(error, _Refusal) else "unreadable annotations"
            findings.refuse(what, path, f"ann_id {ann_id}: {says(error)}")
        if isinstance(found, Instance):
            read.instances.setdefault(image_id, []).append(found)
        else:
            read.left_out.setdefault(image_id, {})[ann_id] = found
            if found:
                findings.left_out(found, f"{path.name}: ann_id {ann_id}")
    return read


def keep_boxes(annotations: Iterable[dict[str, Any]]) -> None:
    """Gives annotations without a segmentation one that fills their box, and says so."""
    for note in annotations:
        with suppress(*UNREADABLE):  # is refused, or skipped, where it is read
            if not note.get("segmentation"):
                x, y, width, height = note["bbox"]
                right, bottom = x + width, y + height
                corners = [x, y, right, y, right, bottom, x, bottom]
                note |= {"segmentation": [corners], "area": width * height, "outlined": False}


def _by_id(
    entries: Iterable[Any], what: str, path: Path, findings: Findings
) -> Iterable[tuple[int, Mapping[str, Any]]]:
    """Each entry with its id; an exact repeat is left out, a second one that differs refused."""
    seen: dict[int, Any] = {}
    for position, entry in enumerate(entries):
        try:
            own = whole(entry["id"])
        except UNREADABLE as error:
            findings.refuse(f"{what} without id", path, f"{what} number {position}: {says(error)}")
            continue
        if own not in seen:
            seen[own] = entry
            yield own, entry
        elif seen[own] == entry:
            findings.left_out(f"{what} entries that repeat another", f"{path.name}: id {own}")
        else:
            findings.refuse(f"duplicate {what} ids", path, f"two different {what}_id {own}")


def _read_instance(
    ann_id: int, annotation: Mapping[str, Any], names: Mapping[int, str], picture: Picture | None
) -> Instance | str:
    """The instance, or why it is left out."""
    if annotation.get("iscrowd", 0):
        return CROWD
    category_id = whole(annotation["category_id"])
    if category_id not in names:
        raise _Refusal("unknown categories", f"category_id {category_id} is not listed")
    x, y, width, height = (float(value) for value in annotation["bbox"])
    if not all(map(math.isfinite, (x, y, width, height))) or width < 0 or height < 0:
        raise _Refusal("impossible boxes", f"bbox {annotation['bbox']}")
    segmentation = annotation.get("segmentation")
    if not segmentation:
        return NO_MASK
    if isinstance(segmentation, Mapping):
        size = list(segmentation["size"])
        if picture is not None and size != [picture.height, picture.width]:
            raise _Refusal(
                "masks of another size",
                f"mask of size {size} (height, width) in image_id {annotation['image_id']} "
                f"of {[picture.height, picture.width]}",
            )
    elif not any(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in segmentation):
        return BAD_POLYGON
    return Instance(
        ann_id=ann_id,
        category_id=category_id,
        category=names[category_id],
        box=(x, y, x + width, y + height),
        segmentation=segmentation,
        color=str(annotation.get("color", "")),
        outlined=bool(annotation.get("outlined", True)),
    )


def read_records(
    files: DatasetFiles,
    refs: Iterable[Mapping[str, Any]],
    annotations: Annotations,
    findings: Findings,
    *,
    raw: bool = False,
) -> list[Record]:
    """The records of ``refs``, which are of one split."""
    path = files.refs_path
    known = {key: {i.ann_id for i in found} for key, found in annotations.instances.items()}
    expressions: dict[int, list[ReferringExpression]] = {}
    for ref in refs:
        try:
            image_id = whole(ref["image_id"])
            if image_id not in annotations.pictures:
                raise _Refusal(
                    "references to unknown pictures",
                    f"image_id {image_id} is not in {files.instances_path}",
                )
            own = known.get(image_id, set())
            left_out = annotations.left_out.get(image_id, {})
            read = _read_expressions(ref, own, left_out, raw, path, findings)
        except UNREADABLE as error:
            what = error.what if isinstance(error, _Refusal) else "unreadable references"
            findings.refuse(what, path, f"ref_id {ref.get('ref_id')}: {says(error)}")
            continue
        if read:
            expressions.setdefault(image_id, []).extend(read)

    records = []
    for image_id, of_image in expressions.items():
        picture = annotations.pictures[image_id]
        image_path = find_picture(files.root, picture.file_name)
        if image_path is None:
            expected = files.root / IMAGE_FOLDERS[0] / picture.file_name
            detail = f"the picture of image_id {image_id} is not there"
            findings.refuse("missing pictures", expected, detail)
            image_path = expected
        records.append(
            Record(
                image_id=image_id,
                image_path=image_path,
                height=picture.height,
                width=picture.width,
                expressions=tuple(of_image),
                instances=tuple(annotations.instances.get(image_id, ())),
            )
        )
    return records


def find_picture(root: Path, file_name: str) -> Path | None:
    """The picture's file in the first of IMAGE_FOLDERS that has it."""
    for folder in IMAGE_FOLDERS:
        path = root / folder / file_name
        if path.is_file():
            return path
    return None


def _read_expressions(
    ref: Mapping[str, Any],
    known: Collection[int],
    left_out: Mapping[int, str],
    raw: bool,
    path: Path,
    findings: Findings,
) -> list[ReferringExpression]:
    ref_id = whole(ref["ref_id"])
    ann_ids = target_ids(ref["ann_id"])
    sentences = ref["sentences"]
    here = f"{path.name}: ref_id {ref_id}"
    for ann_id in ann_ids:
        if ann_id not in known and ann_id not in left_out:
            detail = f"means ann_id {ann_id}, which image_id {ref['image_id']} does not have"
            raise _Refusal("dangling targets", detail)
        if left_out.get(ann_id) == NO_MASK:
            raise _Refusal("targets unmasked", f"means ann_id {ann_id}, which has no segmentation")
    targets = tuple(ann_id for ann_id in ann_ids if ann_id in known)
    gone = sorted({left_out[ann_id] for ann_id in ann_ids if ann_id not in known} - {""})
    if not sentences:
        findings.left_out("references without a sentence", here)
        return []
    if ann_ids and not targets:
        for _ in sentences if gone else ():
            findings.left_out(f"expressions that mean only {' and '.join(gone)}", here)
        return []
    if gone:
        findings.left_out(f"targets among others that are {' and '.join(gone)}", here)

    expressions = []
    for sentence in sentences:
        said = sentence.get("raw")
        if said is None or not (said or raw):
            said = sentence.get("sent")
        text = str(said or "").strip()
        sent_id = whole(sentence["sent_id"])
        if not text and not raw:
            findings.left_out("empty sentences", f"{here}, sent_id {sent_id}")
            continue
        own = {**ref, **sentence}  # a generated dataset may describe each sentence of a reference
        expressions.append(
            ReferringExpression(
                sent_id=sent_id,
                ref_id=ref_id,
                text=text,
                ann_ids=targets,
                category=str(own.get("category") or ""),
                falsified=str(own.get("falsified") or ""),
            )
        )
    return expressions


def target_ids(ann_id: int | Iterable[int]) -> tuple[int, ...]:
    """A bare id is a list of one (RefCOCO's way); [-1] and [] mean no target.

    ValueError for a list of targets and of none.
    """
    given = [ann_id] if isinstance(ann_id, int) else ann_id
    ids = tuple(dict.fromkeys(whole(n) for n in given))
    if ids == (NO_TARGET,):
        return ()
    if NO_TARGET in ids:
        raise ValueError(f"ann_id {list(ids)} says both a target and no target")
    return ids


def whole(value: Any) -> int:
    """The value as a whole number; ValueError for 1.5, which int() would round in silence."""
    number = int(value)
    if isinstance(value, float) and number != value:
        raise ValueError(f"{value} is no whole number")
    return number


def says(error: BaseException) -> str:
    """What the error is about, for a person."""
    return f"missing field {error}" if isinstance(error, KeyError) else str(error)
