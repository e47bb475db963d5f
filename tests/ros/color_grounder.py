"""A grounder without a network: an expression means the connected areas of the colours it names."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from grex_ros.grounding.description import Description, Region, read_regions, same_objects
from grex_ros.grounding.objects import GroundedObject, Grounding, Status, crop_mask
from grex_ros.ros.parameters import Settings

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@dataclass(frozen=True)
class ColorThresholds:
    target: float = 0.5
    mask: float = 0.5
    no_target: float = 0.5


class ColorGrounder:
    """What it finds is what the picture holds, so that a test can tell one frame from another."""

    def __init__(self, delay: float = 0.0) -> None:
        self.name = "color@0123456789ab"
        self.engine_name = "colors"
        self.engine_note = ""
        self.thresholds = ColorThresholds()
        self.delay = delay
        self.images_encoded = 0
        self.gate = threading.Event()  # closed: an answer waits
        self.gate.set()
        self._image: npt.NDArray[np.uint8] | None = None

    def set_image(self, image: npt.NDArray[np.uint8]) -> None:
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
        self.images_encoded += 1
        self._image = image

    def make_room(self, how: str) -> str:
        return ""

    def ground(self, expressions: Sequence[str]) -> list[Grounding]:
        time.sleep(self.delay)
        assert self.gate.wait(60)
        return [self._ground(text) for text in expressions]

    def describe(self, regions: Sequence[Region]) -> Description:
        """The colours in the middle of what is given."""
        assert self._image is not None
        given = read_regions(regions, self._image.shape[:2])
        middles = [
            self._image[int(item.box[1] + item.box[3]) // 2, int(item.box[0] + item.box[2]) // 2]
            for item in given
        ]
        names = [word for m in middles for word, color in COLORS.items() if color == tuple(m)]
        text = " and ".join(names) or "gray"
        verified = same_objects(self._ground(text).objects, given)
        return Description(text, verified, -1.0, (text,), self.delay)

    def _ground(self, text: str) -> Grounding:
        assert self._image is not None
        areas: list[npt.NDArray[np.bool_]] = []
        for word, color in COLORS.items():
            if word in text:
                count, labels = cv2.connectedComponents(cv2.inRange(self._image, color, color))
                areas += [labels == label for label in range(1, count)]
        areas.sort(key=lambda area: -int(area.sum()))
        objects = []
        for number, area in enumerate(areas, start=1):
            cropped = crop_mask(area)
            assert cropped is not None
            objects.append(GroundedObject(number, 1.0 - number / 100, *cropped))
        found = bool(objects)
        return Grounding(
            text,
            Status.TARGETS if found else Status.NO_TARGET,
            "" if found else f'Nothing in view is "{text}".',
            0.1 if found else 0.9,
            tuple(objects),
            self._image.shape[:2],
            self.delay,
        )


def color_grounder(settings: Settings) -> ColorGrounder:
    """A grounder factory for GrexNode."""
    del settings
    return ColorGrounder()


def picture(
    *boxes: tuple[str, int, int, int, int], height: int = 48, width: int = 64
) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB, grey, with filled boxes (colour, x0, y0, x1, y1)."""
    image = np.full((height, width, 3), 90, np.uint8)
    for color, x0, y0, x1, y1 in boxes:
        image[y0:y1, x0:x1] = COLORS[color]
    return image
