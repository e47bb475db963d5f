"""Reads referring expression datasets in the layout of gRefCOCO, the official one and ours alike.

    ROOT/images/train2014/*.jpg
    ROOT/grefcoco/grefs(unc).json     what is said, and which annotations it means
    ROOT/grefcoco/instances.json      COCO: images, annotations, categories

The official annotations are CC BY-NC-SA and do not come with this package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .coco import IMAGE_FOLDERS, DatasetFiles, load_records, read_json
from .records import Record

REFS_FILE = Path("grefcoco") / "grefs(unc).json"
INSTANCES_FILE = Path("grefcoco") / "instances.json"
IMAGE_FOLDER = IMAGE_FOLDERS[0]


def read_refs(path: Path) -> list[Any]:
    """The references of a ``grefs(...).json``; DatasetError if it is none."""
    refs: list[Any] = read_json(path, list)
    return refs


def load_grefcoco(root: str | Path, split: str, *, raw: bool = False) -> list[Record]:
    """Reads one split; see :func:`training.dataset.coco.load_records`.

    Pictures are found by ``image_id``: the ``file_name`` of an official reference carries a suffix
    and names no file.
    """
    root = Path(root)
    files = DatasetFiles("grefcoco_unc", root, root / REFS_FILE, root / INSTANCES_FILE)
    return load_records(files, read_refs(files.refs_path), split, raw=raw)
