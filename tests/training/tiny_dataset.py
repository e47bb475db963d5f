"""Datasets of a few pixels in gRefCOCO's layout: boxes in pictures, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from grex_ros.grounding import rle

Box = tuple[int, int, int, int]  # x0, y0, x1, y1, ends exclusive
Said = tuple[str, Sequence[int], dict[str, Any]]  # text, numbers of the boxes meant, more keys


def write_dataset(
    root: Path,
    pictures: Mapping[int, np.ndarray],
    boxes: Mapping[int, Mapping[int, Box]],
    said: Sequence[Said],
    *,
    split: str,
    suffix: str = ".png",
    polygons: bool = False,
) -> Path:
    """Writes pictures (H, W, 3) RGB by image_id; everything in ``said`` is said of each.

    The annotation of box ``number`` (below 10) of a picture is 10 * image_id + number; its mask is
    the whole box, as run lengths or as a polygon. Returns ``root``.
    """
    (root / "images" / "train2014").mkdir(parents=True)
    (root / "grefcoco").mkdir()
    images: list[dict] = []
    annotations: list[dict] = []
    refs: list[dict] = []
    for image_id, picture in pictures.items():
        height, width = picture.shape[:2]
        name = f"COCO_train2014_{image_id:012d}{suffix}"
        cv2.imwrite(str(root / "images" / "train2014" / name), picture[..., ::-1])
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for number, (x0, y0, x1, y1) in boxes[image_id].items():
            mask = np.zeros((height, width), bool)
            mask[y0:y1, x0:x1] = True
            outline = [[x0, y0, x1, y0, x1, y1, x0, y1]]
            annotations.append(
                {
                    "id": 10 * image_id + number,
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": outline if polygons else rle.encode(mask),
                }
            )
        for text, numbers, more in said:
            refs.append(
                {
                    "ref_id": len(refs),
                    "image_id": image_id,
                    "split": split,
                    "ann_id": [10 * image_id + number for number in numbers] or [-1],
                    "category_id": [1] if numbers else [-1],
                    "no_target": not numbers,
                    "file_name": name,
                    "sent_ids": [len(refs)],
                    "sentences": [{"sent_id": len(refs), "raw": text, "sent": text, "tokens": []}],
                    **more,
                }
            )
    instances = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "thing"}],
    }
    (root / "grefcoco" / "instances.json").write_text(json.dumps(instances))
    (root / "grefcoco" / "grefs(unc).json").write_text(json.dumps(refs))
    return root
