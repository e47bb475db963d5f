"""Tiny datasets in the layouts of the RefCOCO family, with pickles as Python 2 wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

HEIGHT, WIDTH = 24, 32
SPLITS = {1: "train", 2: "val", 3: "testA", 4: "testB"}  # by image_id


def python2(value: Any) -> bytes:
    """A pickle of protocol 0: S is Python 2's str, V its unicode, L its long."""
    return _opcodes(value) + b"."


def _opcodes(value: Any) -> bytes:
    if isinstance(value, dict):
        return b"(d" + b"".join(_opcodes(k) + _opcodes(v) + b"s" for k, v in value.items())
    if isinstance(value, list):
        return b"(l" + b"".join(_opcodes(v) + b"a" for v in value)
    if isinstance(value, int):
        return b"L%dL\n" % value if value > 99 else b"I%d\n" % value
    if isinstance(value, bytes):
        return b"S" + repr(value)[1:].encode() + b"\n"
    return b"V" + value.encode("raw-unicode-escape") + b"\n"


def picture_name(image_id: int) -> str:
    return f"COCO_train2014_{image_id:012d}.jpg"


def instances() -> dict[str, Any]:
    """Four pictures; each has a cup 10 * image_id + 1, a bowl + 2 and a crowd of cups + 3."""
    images = [
        {"id": n, "file_name": picture_name(n), "height": HEIGHT, "width": WIDTH} for n in SPLITS
    ]
    annotations = []
    for n in SPLITS:
        for number, (category, box, crowd) in enumerate(
            [(1, (2, 3, 8, 6), 0), (2, (15, 10, 9, 9), 0), (1, (0, 0, 32, 24), 1)], 1
        ):
            x, y, w, h = box
            outline: Any = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            if crowd:
                outline = {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]}
            annotations.append(
                {
                    "id": 10 * n + number,
                    "image_id": n,
                    "category_id": category,
                    "bbox": list(box),
                    "area": w * h,
                    "iscrowd": crowd,
                    "segmentation": outline,
                }
            )
    names = [{"id": 1, "name": "cup"}, {"id": 2, "name": "bowl"}]
    return {"images": images, "annotations": annotations, "categories": names}


def refs(*, lists: bool) -> list[dict[str, Any]]:
    """A cup in each picture said in two ways; with ``lists`` both objects and none, too."""
    made: list[dict[str, Any]] = []
    for n, split in SPLITS.items():
        for ann_ids, texts in [
            ([10 * n + 1], ["the Cup", "white thing"]),
            ([10 * n + 1, 10 * n + 2], ["cup and bowl"]),
            ([-1], ["the blue spoon"]),
        ]:
            if not lists and (len(ann_ids) > 1 or ann_ids == [-1]):
                continue
            first = 100 + 10 * len(made)
            categories = [-1 if a < 0 else a % 10 for a in ann_ids]
            made.append(
                {
                    "ref_id": len(made),
                    "image_id": n,
                    "split": split,
                    "ann_id": ann_ids if lists else ann_ids[0],
                    "category_id": categories if lists else categories[0],
                    "file_name": f"COCO_train2014_{n:012d}_{len(made)}.jpg",
                    "sent_ids": [first + k for k in range(len(texts))],
                    "sentences": [
                        {"sent_id": first + k, "raw": t, "sent": t.lower(), "tokens": t.split()}
                        for k, t in enumerate(texts)
                    ],
                    **({"no_target": ann_ids == [-1]} if lists else {}),
                }
            )
    return made


def write_pictures(root: Path, folder: str = "images/train2014") -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for n in SPLITS:
        picture = np.full((HEIGHT, WIDTH, 3), 40 * n, np.uint8)
        cv2.imwrite(str(root / folder / picture_name(n)), picture)


def write(
    root: Path, file: str, content: Any = None, coco: Any = None, *, pictures: bool = True
) -> Path:
    """Writes ROOT/``file`` ("refcoco/refs(unc).p"), instances.json beside it, and the pictures."""
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    pickled = path.suffix == ".p"
    said = refs(lists=not pickled) if content is None else content
    path.write_bytes(python2(said) if pickled else json.dumps(said).encode())
    (path.parent / "instances.json").write_text(json.dumps(instances() if coco is None else coco))
    if pictures:
        write_pictures(root)
    return root
