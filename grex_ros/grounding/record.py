"""An answer as plain values, ready for JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from . import rle
from .objects import GroundedObject, Grounding


def to_record(grounding: Grounding) -> dict[str, Any]:
    """Plain values: boxes xyxy in pixels (end exclusive), masks as COCO run lengths of the whole
    picture, latency in seconds.
    """
    return {
        "status": grounding.status.name,
        "status_message": grounding.status_message,
        "expression": grounding.expression,
        "no_target_score": round(grounding.no_target_score, 6),
        "objects": [
            {
                "id": item.id,
                "score": round(item.score, 6),
                "box": list(item.box),
                "mask": rle.encode(full_mask(item, grounding.size)),
            }
            for item in grounding.objects
        ],
        "image_size": {"width": grounding.size[1], "height": grounding.size[0]},
        "latency": round(grounding.latency, 6),
    }


def full_mask(item: GroundedObject, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The object's mask in the whole picture, (H, W); ``size`` is (H, W)."""
    mask = np.zeros(size, bool)
    x0, y0, x1, y1 = item.box
    mask[y0:y1, x0:x1] = item.mask
    return mask
