"""What a picture really shows, and whether an answer about it is right."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from grex_ros.grounding import rle
from grex_ros.grounding.objects import Grounding, Status
from grex_ros.grounding.record import full_mask
from grex_ros.scenes.scene import ViewObject

Mask = npt.NDArray[np.bool_]
LEAST_IOU = 0.5  # of an object's mask with the true one

_TUPLES = ("box", "center", "position")


@dataclass(frozen=True)
class Truth:
    """What an observer sees in one picture, and which pixels belong to which object.

    seed: of the scene. source: "rendered" or the name of a bag. size: height, width in pixels.
    masks: (H, W) by `ViewObject.index`.
    """

    seed: int
    source: str
    size: tuple[int, int]
    view: tuple[ViewObject, ...]
    masks: Mapping[int, Mask]

    def to_json(self, stamp: tuple[int, int], frame_id: str) -> str:
        """One line of JSON with the picture's header; masks as COCO run lengths."""
        objects = [
            {**dataclasses.asdict(seen), "mask": rle.encode(self.masks[seen.index])}
            for seen in self.view
        ]
        header = {"stamp": {"sec": stamp[0], "nanosec": stamp[1]}, "frame_id": frame_id}
        size = {"width": self.size[1], "height": self.size[0]}
        said = {"header": header, "seed": self.seed, "source": self.source, "image_size": size}
        return json.dumps({**said, "objects": objects})


def from_json(text: str) -> tuple[tuple[int, int], Truth]:
    """The stamp (seconds, nanoseconds) and the truth of `Truth.to_json`. ValueError or KeyError if
    it is something else.
    """
    said = json.loads(text)
    masks: dict[int, Mask] = {}
    view: list[ViewObject] = []
    for item in said["objects"]:
        masks[item["index"]] = rle.decode(item.pop("mask"))
        view.append(ViewObject(**{**item, **{name: tuple(item[name]) for name in _TUPLES}}))
    size = said["image_size"]["height"], said["image_size"]["width"]
    stamp = said["header"]["stamp"]["sec"], said["header"]["stamp"]["nanosec"]
    return stamp, Truth(said["seed"], said["source"], size, tuple(view), masks)


def is_correct(grounding: Grounding, truth: Truth, targets: Collection[int]) -> bool:
    """Whether the answer is exactly the targets: as many objects, each the only one on its target
    with a mask IoU of at least 0.5; NO_TARGET where there are none.
    """
    if not targets:
        return grounding.status is Status.NO_TARGET
    if grounding.status is not Status.TARGETS or len(grounding.objects) != len(targets):
        return False
    found = [full_mask(item, grounding.size) for item in grounding.objects]
    for index in targets:
        hit = next((m for m in found if mask_iou(m, truth.masks[index]) >= LEAST_IOU), None)
        if hit is None:
            return False
        found = [mask for mask in found if mask is not hit]
    return True


def mask_iou(a: Mask, b: Mask) -> float:
    """Intersection over union; 0 for masks of different sizes or without any pixel."""
    if a.shape != b.shape:
        return 0.0
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 0.0


def truth_record(truth: Truth, targets: Collection[int]) -> list[dict[str, Any]]:
    """The targets as plain values for JSON."""
    return [
        {**dataclasses.asdict(seen), "mask": rle.encode(truth.masks[seen.index])}
        for seen in truth.view
        if seen.index in targets
    ]
