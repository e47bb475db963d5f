"""Reads referring expression datasets in the layout of gRefCOCO, the official one and ours alike.

    ROOT/images/train2014/*.jpg
    ROOT/grefcoco/grefs(unc).json     what is said, and which annotations it means
    ROOT/grefcoco/instances.json      COCO: images, annotations, categories

The official annotations are CC BY-NC-SA and do not come with this package.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .records import (
    DatasetError,
    Instance,
    Record,
    ReferringExpression,
    instance_mask,
    merged_mask,
    read_image,
)

__all__ = [
    "DatasetError",
    "Instance",
    "Record",
    "ReferringExpression",
    "instance_mask",
    "load_grefcoco",
    "merged_mask",
    "read_image",
]

REFS_FILE = Path("grefcoco") / "grefs(unc).json"
INSTANCES_FILE = Path("grefcoco") / "instances.json"
IMAGE_FOLDER = Path("images") / "train2014"
NO_TARGET = -1  # the official file's annotation id of an expression that means nothing in the image

_log = logging.getLogger(__name__)


def load_grefcoco(root: str | Path, split: str, *, raw: bool = False) -> list[Record]:
    """Reads one split; the records come in the order in which the images first occur in it.

    Images are found by ``image_id``: the ``file_name`` of an official reference carries a suffix
    and names no file. Left out, and counted in a warning: empty sentences, references without a
    sentence, and expressions whose only targets are crowds. With ``raw`` every sentence is its
    ``raw`` form and stays even if that is empty, as in the official evaluation.

    Raises DatasetError if a file is missing or is not what it should be, if the split has nothing,
    or if an id points nowhere.
    """
    root = Path(root)
    refs_path, instances_path = root / REFS_FILE, root / INSTANCES_FILE
    refs = _read_json(refs_path, list)
    instances = _read_json(instances_path, dict)

    chosen = [ref for ref in refs if ref.get("split") == split]
    if not chosen:
        found = sorted({str(ref.get("split")) for ref in refs})
        raise DatasetError(f"{refs_path}: no split '{split}'; the file has {', '.join(found)}")

    skipped: Counter[str] = Counter()
    try:
        wanted = {int(ref["image_id"]) for ref in chosen}
        images = {int(image["id"]): image for image in instances["images"]}
        by_image, crowds = _read_instances(instances, wanted, instances_path)
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{instances_path} or {refs_path}: missing field {error}") from error

    known = {n: {i.ann_id for i in of_image} for n, of_image in by_image.items()}
    crowded: dict[int, set[str]] = defaultdict(set)
    for image_id, category in crowds.values():
        crowded[image_id].add(category)
    expressions: dict[int, list[ReferringExpression]] = {}
    for ref in chosen:
        image_id = int(ref["image_id"])
        if image_id not in images:
            raise DatasetError(
                f"{refs_path}: ref_id {ref.get('ref_id')} is about image_id {image_id}, "
                f"which is not in {instances_path}"
            )
        read = _read_expressions(ref, known.get(image_id, set()), crowds, raw, skipped, refs_path)
        if read:
            expressions.setdefault(image_id, []).extend(read)

    if skipped:
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
        _log.warning("%s, split %s: left out %s", refs_path, split, counts)

    records = []
    for image_id, of_image in expressions.items():
        image = images[image_id]
        path = root / IMAGE_FOLDER / image["file_name"]
        if not path.is_file():
            raise DatasetError(f"{path}: the picture of image_id {image_id} is not there")
        records.append(
            Record(
                image_id=image_id,
                image_path=path,
                height=int(image["height"]),
                width=int(image["width"]),
                expressions=tuple(of_image),
                instances=tuple(by_image.get(image_id, ())),
                crowds=frozenset(crowded.get(image_id, ())),
            )
        )
    return records


def _read_json(path: Path, kind: type) -> Any:
    try:
        with path.open(encoding="utf-8") as file:
            content = json.load(file)
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(content, kind):
        raise DatasetError(f"{path}: holds a {type(content).__name__}, not a {kind.__name__}")
    return content


def _read_instances(
    content: Mapping[str, Any], wanted: set[int], path: Path
) -> tuple[dict[int, list[Instance]], dict[int, tuple[int, str]]]:
    """The instances of the wanted images; ann_id -> image_id and category of crowds left out."""
    names = {int(category["id"]): str(category["name"]) for category in content["categories"]}
    by_image: dict[int, list[Instance]] = defaultdict(list)
    crowds: dict[int, tuple[int, str]] = {}
    for annotation in content["annotations"]:
        image_id = int(annotation["image_id"])
        if image_id not in wanted:
            continue
        ann_id, category_id = int(annotation["id"]), int(annotation["category_id"])
        if annotation.get("iscrowd", 0):
            crowds[ann_id] = (image_id, names.get(category_id, ""))
            continue
        if category_id not in names:
            raise DatasetError(f"{path}: ann_id {ann_id} is of unknown category_id {category_id}")
        x, y, width, height = (float(value) for value in annotation["bbox"])
        by_image[image_id].append(
            Instance(
                ann_id=ann_id,
                category_id=category_id,
                category=names[category_id],
                box=(x, y, x + width, y + height),
                segmentation=annotation["segmentation"],
                color=str(annotation.get("color", "")),
            )
        )
    return by_image, crowds


def _read_expressions(
    ref: Mapping[str, Any],
    known: set[int],
    crowds: Collection[int],
    raw: bool,
    skipped: Counter[str],
    path: Path,
) -> list[ReferringExpression]:
    try:
        ref_id = int(ref["ref_id"])
        ann_ids = _target_ids(ref["ann_id"])
        sentences = ref["sentences"]
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path}: ref_id {ref.get('ref_id')}: {error!r}") from error
    for ann_id in ann_ids:
        if ann_id not in known and ann_id not in crowds:
            raise DatasetError(
                f"{path}: ref_id {ref_id} means ann_id {ann_id}, "
                f"which image_id {ref['image_id']} does not have"
            )
    targets = tuple(ann_id for ann_id in ann_ids if ann_id in known)
    if not sentences:
        skipped["references without a sentence"] += 1
        return []
    if ann_ids and not targets:
        skipped["expressions that mean only crowds"] += len(sentences)
        return []

    expressions = []
    for sentence in sentences:
        said = sentence.get("raw")
        if said is None or not (said or raw):
            said = sentence.get("sent")
        text = str(said or "").strip()
        if not text and not raw:
            skipped["empty sentences"] += 1
            continue
        own = {**ref, **sentence}  # a generated dataset may describe each sentence of a reference
        expressions.append(
            ReferringExpression(
                sent_id=int(sentence["sent_id"]),
                ref_id=ref_id,
                text=text,
                ann_ids=targets,
                category=str(own.get("category") or ""),
                falsified=str(own.get("falsified") or ""),
            )
        )
    return expressions


def _target_ids(ann_id: int | Iterable[int]) -> tuple[int, ...]:
    """A bare id is a list of one (RefCOCO's way); [-1] and [] mean no target."""
    ids = tuple(dict.fromkeys(int(n) for n in ([ann_id] if isinstance(ann_id, int) else ann_id)))
    if ids == (NO_TARGET,):
        return ()
    if NO_TARGET in ids:
        raise ValueError(f"ann_id {list(ids)} says both a target and no target")
    return ids
