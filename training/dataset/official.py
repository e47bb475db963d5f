"""The official data mapper: pictures and masks as published GRES scores take them.

A picture is squeezed to 480 x 480 pixels by Pillow's bilinear filter, whatever its aspect; polygons
are scaled to that size and rasterised there by the COCO API, so that published scores are scores at
480 x 480. Sentences are the ``raw`` ones; the model's Tokenizer cuts them after 20 ids and, told
``pad_to=20``, fills them up with zeros. Equal to ReLA's ``RefCOCOMapper`` in numbers.

The official code refuses run-length masks. Here they are decoded and resized by nearest neighbour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps

from grex_ros.grounding import rle

from .records import DatasetError, Instance, Record, instance_mask

SIDE = 480  # pixels


def read_image(record: Record, side: int = SIDE) -> np.ndarray:
    """The picture squeezed to (side, side, 3) uint8 RGB, turned by EXIF as officially.

    Raises DatasetError if it cannot be read or is of another size than the record says.
    """
    try:
        with PIL.Image.open(record.image_path) as file:
            picture = PIL.ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, ValueError) as error:
        raise DatasetError(f"{record.image_path}: cannot be read as a picture ({error})") from error
    if picture.size != (record.width, record.height):
        raise DatasetError(
            f"{record.image_path}: {picture.height} x {picture.width} pixels, but image_id "
            f"{record.image_id} says {record.height} x {record.width} (height x width)"
        )
    return np.array(picture.resize((side, side), PIL.Image.Resampling.BILINEAR))


def squeeze(record: Record, side: int = SIDE) -> Record:
    """The record of the squeezed picture: side x side, with all boxes and masks at that size.

    Raises DatasetError for an unreadable run-length mask.
    """
    x, y = side / record.width, side / record.height

    def scaled(instance: Instance) -> Instance:
        x0, y0, x1, y1 = instance.box
        return replace(
            instance,
            box=(x0 * x, y0 * y, x1 * x, y1 * y),
            segmentation=_scaled_mask(instance, record.height, record.width, side),
        )

    instances = tuple(scaled(instance) for instance in record.instances)
    return replace(record, height=side, width=side, instances=instances)


def has_run_lengths(instance: Instance) -> bool:
    """Whether the official code would refuse the instance's mask."""
    return isinstance(instance.segmentation, Mapping)


def _scaled_mask(
    instance: Instance, height: int, width: int, side: int
) -> Mapping[str, Any] | Sequence[Sequence[float]]:
    if isinstance(instance.segmentation, Mapping):
        mask = instance_mask(instance, height, width)
        middle = np.arange(side) + 0.5
        rows, columns = ((middle * length / side).astype(int) for length in (height, width))
        return rle.encode(mask[rows[:, None], columns])
    scale = (side / width, side / height)
    return [
        [value * scale[k % 2] for k, value in enumerate(polygon)]
        for polygon in instance.segmentation
    ]
