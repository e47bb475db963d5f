"""One door to every dataset: gRefCOCO, RefCOCO, RefCOCO+, RefCOCOg, and ours in their layout.

load_dataset("data/tabletop", "train")
load_dataset("data/refer:refcoco+", "testA")        # where a folder holds several
load_dataset("data/refer:refcocog_umd", "test")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import grefcoco, refcoco
from .coco import DatasetFiles, load_records
from .records import DatasetError, Record

REFS_PATTERNS = ("*/grefs(*).json", "*/refs(*).p", "*/grefs(*).p")


def load_dataset(root: str | Path, split: str, *, raw: bool = False) -> list[Record]:
    """Reads one split of the dataset at ``root``, or ``root:name``; see :func:`find_dataset`.

    The records, ``raw`` and the errors are those of :func:`training.dataset.coco.load_records`.
    """
    files = find_dataset(root)
    return load_records(files, read_refs(files), split, raw=raw)


def find_dataset(root: str | Path) -> DatasetFiles:
    """The one dataset at ``root``; of several, ``root:name`` says which.

    A name is the folder and what the file's brackets hold ("refcocog_umd"); the folder alone will
    do where it holds one. DatasetError if there is none, or more than one.
    """
    path, name = Path(root), ""
    if not path.exists() and ":" in str(root):
        before, _, name = str(root).rpartition(":")
        path = Path(before)
    found = find_datasets(path)
    fitting = [f for f in found if name in ("", f.name, f.refs_path.parent.name)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(f"{path}:{files.name}" for files in fitting)
        raise DatasetError(f"{root}: holds {len(fitting)} datasets; choose one of {names}")
    if found:
        names = ", ".join(files.name for files in found)
        raise DatasetError(f"{path}: has no dataset '{name}'; it has {names}")
    if not path.is_dir():
        raise DatasetError(f"{path}: no such folder")
    patterns = ", ".join(REFS_PATTERNS)
    raise DatasetError(
        f"{path}: holds no dataset; looked for {patterns}, with instances.json beside it "
        "and the pictures in images/train2014 or images"
    )


def find_datasets(root: Path) -> list[DatasetFiles]:
    """All datasets in a folder, by name."""
    paths = {path for pattern in REFS_PATTERNS for path in root.glob(pattern) if path.is_file()}
    found = {
        # grefs(unc).p is the form that the official loader prefers, so it comes last and stays
        f"{path.parent.name}_{path.stem.partition('(')[2].rstrip(')')}": path
        for path in sorted(paths)
    }
    return [
        DatasetFiles(name, root, path, path.parent / "instances.json")
        for name, path in sorted(found.items())
    ]


def read_refs(files: DatasetFiles) -> list[Any]:
    """The references of a dataset, of all splits."""
    read = refcoco.read_refs if files.refs_path.suffix == ".p" else grefcoco.read_refs
    return read(files.refs_path)


def leave_out(records: Sequence[Record], last: int) -> tuple[list[Record], list[Record]]:
    """Records to learn from, and the ``last`` of them by image id, which training leaves to
    ``training.calibrate``."""
    ordered = sorted(records, key=lambda record: record.image_id)
    left_out = ordered[max(len(ordered) - last, 0) :]
    ids = {record.image_id for record in left_out}
    return [record for record in records if record.image_id not in ids], left_out
