"""Writes generated scenes in gRefCOCO's own layout, picture by picture.

Every finished picture adds its JPEG and one line to a journal, so that a run which was cut off
goes on where it stopped; ``finish`` turns the journal into the two files that readers expect.
Beside the official keys, refs carry ``category``, ``falsified`` and ``program``, annotations
``color``, ``size`` and ``visible_fraction``.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from grex_ros.grounding import rle
from grex_ros.scenes.expressions import Expression
from grex_ros.scenes.objects import KINDS
from grex_ros.scenes.scene import Frame, ViewObject
from grex_ros.scenes.vocabulary import GROUPS
from training.dataset.coco import NO_TARGET
from training.dataset.grefcoco import IMAGE_FOLDER, INSTANCES_FILE, REFS_FILE

JOURNAL_FILE = Path("grefcoco") / "journal.jsonl"
JPEG_QUALITY = 93
_IDS_AN_IMAGE = 1000  # room for the annotations and the expressions of one picture

Entry = dict[str, Any]  # one line of the journal: "image", "annotations" and "refs" of a picture


class JournalError(ValueError):
    """The folder holds a dataset that was made with other settings."""


def file_name(image_id: int) -> str:
    """The name of a picture's file, as COCO names its own."""
    return f"COCO_train2014_{image_id:012d}.jpg"


def entry(
    image_id: int,
    split: str,
    labels: NDArray[np.int32],
    view: Sequence[ViewObject],
    expressions: Sequence[Expression],
) -> Entry:
    """The records of one picture; ``labels`` (H, W) as ``Frame.labels``. Every visible object is
    annotated, whether an expression means it or not."""
    height, width = labels.shape
    categories = {seen.index: KINDS.index(seen.kind) + 1 for seen in view}
    annotations = []
    for seen in view:
        x0, y0, x1, y1 = seen.box
        annotations.append(
            {
                "id": image_id * _IDS_AN_IMAGE + seen.index,
                "image_id": image_id,
                "category_id": categories[seen.index],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": seen.area,
                "segmentation": rle.encode(labels == seen.index),
                "iscrowd": 0,
                "color": seen.color,
                "size": seen.size,
                "visible_fraction": round(seen.visible_fraction, 3),
            }
        )
    refs = references(
        image_id, split, expressions, categories,
        {index: image_id * _IDS_AN_IMAGE + index for index in categories},
    )  # fmt: skip
    image = {"id": image_id, "file_name": file_name(image_id), "height": height, "width": width}
    return {"image": image, "annotations": annotations, "refs": refs}


def references(
    image_id: int,
    split: str,
    expressions: Sequence[Expression],
    categories: Mapping[int, int],
    ann_ids: Mapping[int, int],
) -> list[dict[str, Any]]:
    """The refs of one picture; category and annotation ids by the objects' index in the view."""
    refs = []
    for number, expression in enumerate(expressions):
        name = image_id * _IDS_AN_IMAGE + number
        targets = expression.targets
        sentence = {
            "sent_id": name,
            "raw": expression.text,
            "sent": expression.text.lower(),
            "tokens": expression.text.lower().replace(",", " ,").split(),
        }
        refs.append(
            {
                "ref_id": name,
                "image_id": image_id,
                "split": split,
                "ann_id": [ann_ids[index] for index in targets] or [NO_TARGET],
                "category_id": [categories[index] for index in targets] or [NO_TARGET],
                "no_target": not targets,
                "file_name": file_name(image_id),
                "sent_ids": [name],
                "sentences": [sentence],
                "category": expression.category,
                "falsified": expression.falsified,
                "program": expression.program,
            }
        )
    return refs


def write_image(root: Path, image_id: int, frame: Frame) -> None:
    """Writes the JPEG of a frame; OSError if that fails."""
    path = root / IMAGE_FOLDER / file_name(image_id)
    fine, data = cv2.imencode(
        ".jpg", frame.rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    if not fine:
        raise OSError(f"cannot encode {path}")
    path.write_bytes(data.tobytes())


class Journal:
    """The pictures that are done. Opening it makes the folders; close it, or use ``with``.

    ``settings`` are everything that decides the pictures and the words. JournalError if the folder
    was begun with others.
    """

    def __init__(self, root: Path, settings: Mapping[str, Any]):
        self._root = root
        (root / IMAGE_FOLDER).mkdir(parents=True, exist_ok=True)
        path = root / JOURNAL_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        header = json.dumps({"settings": dict(settings)}, sort_keys=True)
        self.done: set[int] = set()
        if path.exists():
            self._cut_torn_line(path)
        if path.exists() and path.stat().st_size:
            with path.open() as lines:
                found = next(lines).strip()
            if found != header:
                raise JournalError(f"{root} was begun with other settings: {found}")
            self.done = {line["image"]["id"] for line in self.entries()}
        self._file = path.open("a")
        if not path.stat().st_size:
            self._file.write(header + "\n")
            self._file.flush()

    @staticmethod
    def _cut_torn_line(path: Path) -> None:
        """A process that was killed may have left half a line."""
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            os.truncate(path, whole)

    def add(self, line: Entry) -> None:
        """Notes a picture that is done."""
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
        self._file.flush()
        self.done.add(line["image"]["id"])

    def entries(self) -> Iterator[Entry]:
        """All pictures so far, in the order in which they were finished."""
        with (self._root / JOURNAL_FILE).open() as lines:
            next(lines)
            yield from map(json.loads, lines)

    def finish(
        self,
        categories: Sequence[Mapping[str, Any]] | None = None,
        keep: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = list,
        description: str = "Generated tabletop scenes of grex_ros",
    ) -> dict[str, int]:
        """Writes the two files from the pictures so far; answers how many of what there are.

        ``keep`` chooses from all refs; ``categories`` are those of the tabletop unless given.
        """
        entries = sorted(self.entries(), key=lambda line: int(line["image"]["id"]))
        refs = keep([ref for line in entries for ref in line["refs"]])
        annotations = [note for line in entries for note in line["annotations"]]
        instances = {
            "info": {"description": description, "version": "1"},
            "licenses": [],
            "images": [line["image"] for line in entries],
            "annotations": annotations,
            "categories": list(categories or table_categories()),
        }
        _write_whole(self._root / INSTANCES_FILE, instances)
        _write_whole(self._root / REFS_FILE, refs)
        targets = [0 if ref["no_target"] else len(ref["ann_id"]) for ref in refs]
        said = Counter(
            (ref["image_id"], tuple(ref["ann_id"])) for ref in refs if not ref["no_target"]
        )
        return {
            "images": len(entries),
            "instances": len(annotations),
            "expressions": len(refs),
            "one": sum(number == 1 for number in targets),
            "many": sum(number > 1 for number in targets),
            "none": sum(number == 0 for number in targets),
            "sets of targets": len(said),
            "sets said in three ways or more": sum(times >= 3 for times in said.values()),
        }

    def close(self) -> None:
        """Closes the journal's file; what is in it stays."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def table_categories() -> list[dict[str, Any]]:
    """COCO's list of categories: the kinds, numbered from 1."""
    group_of = {kind: group for group, kinds in GROUPS.items() for kind in kinds}
    return [
        {"id": number, "name": kind, "supercategory": group_of.get(kind, "object")}
        for number, kind in enumerate(KINDS, 1)
    ]


def _write_whole(path: Path, content: object) -> None:
    """Writes JSON so that no reader ever meets half a file."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(json.dumps(content, separators=(",", ":")))
    draft.replace(path)
