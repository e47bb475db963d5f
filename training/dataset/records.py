"""The one record type of every dataset: a picture, what is in it, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from grex_ros.grounding import rle


class DatasetError(ValueError):
    """The dataset cannot be read as it is; the message names the file and the id."""


@dataclass(frozen=True)
class Instance:
    """One annotated object of an image.

    ``box`` is (x0, y0, x1, y1) in pixels, ends exclusive. ``segmentation`` is a COCO RLE
    ({"size": [h, w], "counts": str or list}) or a list of polygons [x0, y0, x1, y1, ...].
    ``color`` is known of generated objects only. ``outlined`` False: only the box is known, and
    the segmentation fills it.
    """

    ann_id: int
    category_id: int
    category: str
    box: tuple[float, float, float, float]
    segmentation: Mapping[str, Any] | Sequence[Sequence[float]]
    iscrowd: bool = False
    color: str = ""
    outlined: bool = True

    @property
    def name(self) -> str:
        """What one would call it: "red cup"."""
        return f"{self.color} {self.category}".strip()


@dataclass(frozen=True)
class ReferringExpression:
    """One sentence and the instances that it means; ``ann_ids`` is empty for no target.

    ``category`` and ``falsified`` describe generated expressions and are empty in the official
    dataset: the kind of reasoning asked for, and for a no-target expression whether the thing
    named is absent ("easy") or one clause is false ("deceptive" or the clause's name).
    """

    sent_id: int
    ref_id: int
    text: str
    ann_ids: tuple[int, ...]
    category: str = ""
    falsified: str = ""

    @property
    def no_target(self) -> bool:
        """Nothing in the image is meant."""
        return not self.ann_ids


@dataclass(frozen=True)
class Record:
    """One image with all its expressions and all its instances; of crowds only the categories."""

    image_id: int
    image_path: Path
    height: int
    width: int
    expressions: tuple[ReferringExpression, ...]
    instances: tuple[Instance, ...]
    crowds: frozenset[str] = frozenset()

    def targets(self, expression: ReferringExpression) -> tuple[Instance, ...]:
        """The instances that the expression means, in the order of the image's instances."""
        wanted = set(expression.ann_ids)
        return tuple(instance for instance in self.instances if instance.ann_id in wanted)


def read_image(record: Record) -> np.ndarray:
    """The picture, (H, W, 3) uint8 RGB; not turned by EXIF, of which the annotations know nothing.

    Raises DatasetError if it cannot be read, ends early (OpenCV would fill the rest with grey), or
    is of another size than the record says.
    """
    path = record.image_path
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read as a picture ({error})") from error
    if _is_cut_jpeg(data):
        raise DatasetError(f"{path}: cannot be read as a picture (the JPEG ends early)")
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(data, flags) if data.size else None
    if image is None:
        raise DatasetError(f"{path}: cannot be read as a picture")
    if image.shape[:2] != (record.height, record.width):
        raise DatasetError(
            f"{path}: {image.shape[0]} x {image.shape[1]} pixels, but image_id "
            f"{record.image_id} says {record.height} x {record.width} (height x width)"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _is_cut_jpeg(data: np.ndarray) -> bool:
    """A JPEG whose end marker is missing; the first half may hold that of a thumbnail."""
    start, end = data[:2].tobytes(), data[data.size // 2 :].tobytes()
    return start == b"\xff\xd8" and b"\xff\xd9" not in end


def instance_mask(instance: Instance, height: int, width: int) -> np.ndarray:
    """The instance's pixels, bool (height, width).

    Polygons need pycocotools, whose rasteriser decides every published score. Raises DatasetError
    for a segmentation that cannot be drawn or is of another size, ImportError without pycocotools.
    """
    segmentation = instance.segmentation
    if not isinstance(segmentation, Mapping):
        return rle.decode(draw_polygons(instance.ann_id, segmentation, height, width))
    if list(segmentation.get("size", ())) != [height, width]:
        raise DatasetError(
            f"ann_id {instance.ann_id}: mask of size {segmentation.get('size')} (height, width) "
            f"in an image of {[height, width]}"
        )
    try:
        return rle.decode(segmentation)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise DatasetError(f"ann_id {instance.ann_id}: unreadable RLE mask ({error})") from error


def merged_mask(record: Record, expression: ReferringExpression) -> np.ndarray:
    """Every pixel of every target of the expression, bool (height, width); all False for none.

    Raises DatasetError, naming the picture, for a mask that cannot be drawn or is only a box.
    """
    merged = np.zeros((record.height, record.width), dtype=bool)
    for instance in record.targets(expression):
        try:
            if not instance.outlined:
                raise DatasetError(f"ann_id {instance.ann_id}: a box without an outline")
            merged |= instance_mask(instance, record.height, record.width)
        except DatasetError as error:
            raise DatasetError(f"{record.image_path}: {error}") from error
    return merged


def draw_polygons(
    ann_id: int, polygons: Sequence[Sequence[float]], height: int, width: int
) -> dict[str, Any]:
    """The compressed run lengths of polygons [x0, y0, x1, y1, ...]; those below three points go.

    Drawn by pycocotools. Raises DatasetError if nothing can be drawn or a corner is no number or
    far outside, ImportError without pycocotools.
    """
    try:
        from pycocotools import mask as coco_mask  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise ImportError(
            "polygon masks are drawn by pycocotools: pip install pycocotools"
        ) from error
    try:
        usable = [np.asarray(p, float) for p in polygons if len(p) >= 6 and len(p) % 2 == 0]
    except (TypeError, ValueError) as error:
        raise DatasetError(f"ann_id {ann_id}: unreadable polygon ({error})") from error
    if not usable:
        raise DatasetError(f"ann_id {ann_id}: no polygon of three points or more")
    reach = 10 * max(height, width)  # the rasteriser walks along every edge, however long
    if not all(polygon.ndim == 1 and (np.abs(polygon) <= reach).all() for polygon in usable):
        raise DatasetError(
            f"ann_id {ann_id}: a polygon with corners far outside the picture of "
            f"{height} x {width} pixels, or that are no numbers"
        )
    merged: dict[str, Any] = coco_mask.merge(
        coco_mask.frPyObjects([polygon.tolist() for polygon in usable], height, width)
    )
    return merged
