"""From the model's output to objects: masks, boxes and scores."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .membership import shifted
from .objects import Cropped, GroundedObject, mask_iou

Objects = tuple[GroundedObject, ...]

SAME = 0.5  # IoU of two masks that are taken for one object
WITHIN = 0.7  # share of a mask that better ones cover, above which it is a part of theirs
SPECK = 0.02  # parts of a mask below this share of the largest one are left out


@dataclass(frozen=True)
class Thresholds:
    """When something is said to be there, each 0..1.

    Attributes:
        target: least score of an object (probability that it is meant, see ``membership``).
        mask: least probability of a pixel of an object.
        no_target: from this no-target score on, the answer is "no target".
    """

    target: float = 0.5
    mask: float = 0.5
    no_target: float = 0.5


@dataclass(frozen=True)
class Calibration:
    """What a checkpoint's calibration adds to the model's logits, so that 0.5 is the right
    threshold of target scores (see ``membership.raised``), no-target scores and pixels; see
    ``training.calibrate``."""

    target: float = 0.0
    no_target: float = 0.0
    mask: float = 0.0

    KEY = "score_shifts"  # in a checkpoint's metadata; not annotated, so no field

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Calibration:
        """That of a checkpoint; none if it says nothing. ValueError for what is not one."""
        try:
            values = json.loads(metadata.get(cls.KEY, "{}"))
            found = cls(**{name: float(value) for name, value in values.items()})
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{cls.KEY} in the metadata: {error}") from error
        if not all(map(math.isfinite, asdict(found).values())):
            raise ValueError(f"{cls.KEY} in the metadata: {found} is not finite")
        return found

    def to_metadata(self) -> dict[str, str]:
        """What :meth:`from_metadata` reads."""
        return {self.KEY: json.dumps(asdict(self))}

    def mask_threshold(self, threshold: float) -> float:
        """The probability that an uncalibrated pixel must have where a calibrated one needs
        ``threshold``: a pixel costs nothing then."""
        return float(shifted(np.float64(threshold), -self.mask))


def objects_from_regions(
    scores: Sequence[float], masks: Sequence[Cropped | None], size: tuple[int, int]
) -> Objects:
    """Regions with scores, best first, and their masks in a picture of ``size`` (height, width), as
    objects. Of two regions on one object the better one stands; an empty one (None) is none, nor is
    one that lies mostly in better ones."""
    taken = np.zeros(size, bool)
    objects: list[GroundedObject] = []
    for score, cropped in zip(scores, masks, strict=True):
        if cropped is None:
            continue
        (x0, y0, x1, y1), crop = cropped
        covered = taken[y0:y1, x0:x1]
        within = int((crop & covered).sum()) > WITHIN * int(crop.sum())
        if within or any(mask_iou(cropped, (o.box, o.mask)) > SAME for o in objects):
            continue
        covered |= crop
        objects.append(GroundedObject(len(objects) + 1, score, *cropped))
    return tuple(objects)


def objects_from_mask(
    probability: Tensor, threshold: float, least: float, factor: float
) -> Objects:
    """The connected parts of one merged mask as objects, best first: the official model does not
    tell objects apart, and two that touch stay one.

    A part's score is its mean ``probability`` (H, W) times ``factor``; below ``least``, and for
    specks, there is no object.
    """
    values: npt.NDArray[np.float32] = probability.float().cpu().numpy()
    mask = (values >= threshold).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    parts = []
    for i in 1 + np.flatnonzero(areas >= SPECK * areas.max(initial=0)):
        x0, y0, width, height = (int(n) for n in stats[i, :4])
        crop = labels[y0 : y0 + height, x0 : x0 + width] == i
        score = float(values[y0 : y0 + height, x0 : x0 + width][crop].mean()) * factor
        if score >= least:
            parts.append((score, (x0, y0, x0 + width, y0 + height), crop))
    parts.sort(key=lambda part: -part[0])
    return tuple(GroundedObject(i + 1, *part) for i, part in enumerate(parts))


def target_probability(target_mask: Tensor) -> Tensor:
    """Logits (2, H, W) of background and target -> (H, W); from 0.5 on the target wins, as in the
    official decision but for ties and where both channels saturate."""
    return torch.sigmoid(target_mask[1] - target_mask[0])
