"""The service ~/describe: an expression for some objects in one image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from grex_ros.grounding.description import Region, RegionError
from grex_ros.grounding.objects import Status
from grex_ros.msg import GroundedObject
from grex_ros.ros.answering import Answerer, DescriptionAnswer, ReceivedImage
from grex_ros.ros.conversions import ImageError, image_size, to_rgb
from grex_ros.ros.image_calls import ImageCalls
from grex_ros.ros.messages import duration
from grex_ros.ros.parameters import Settings
from grex_ros.srv import Describe

MAX_OBJECTS = 100
"""More than an expression can tell apart, and their masks take memory."""


class DescribeService:
    """Serves ~/describe; ``calls`` finds images and answers."""

    def __init__(self, calls: ImageCalls) -> None:
        self._calls = calls
        calls.serve(Describe, "~/describe", self._on_describe)

    async def _on_describe(
        self, request: Describe.Request, response: Describe.Response
    ) -> Describe.Response:
        def work(answerer: Answerer, image: ReceivedImage, settings: Settings) -> DescriptionAnswer:
            def regions() -> list[Region]:
                return object_regions(request.objects, image_size(image.message))

            return answerer.describe(image, regions, settings)

        def refuse(status: Status, sentence: str) -> DescriptionAnswer:
            return DescriptionAnswer(request.image.header, status, sentence)

        answer = await self._calls.answer(request.image, work, refuse)
        response.header = answer.header
        response.expression, response.verified = answer.expression, answer.verified
        response.status, response.status_message = int(answer.status), answer.status_message
        response.image_age = duration(answer.image_age)
        response.latency = duration(answer.latency)
        response.model = answer.model
        return response


def object_regions(objects: Sequence[GroundedObject], size: tuple[int, int]) -> list[Region]:
    """A box of every object without a mask, and a mask of the whole image, (H, W), of every other.

    Raises:
        RegionError: there are too many, or a mask does not fit its roi or cannot be read.
    """
    if len(objects) > MAX_OBJECTS:
        raise RegionError(f"{len(objects)} objects are too many: at most {MAX_OBJECTS} are taken")
    return [_region(item, size, place) for place, item in enumerate(objects, start=1)]


def _region(item: GroundedObject, size: tuple[int, int], place: int) -> Region:
    roi = item.roi
    x0, y0 = roi.x_offset, roi.y_offset
    if not item.mask.height:
        return (x0, y0, x0 + roi.width, y0 + roi.height)
    if (item.mask.height, item.mask.width) != (roi.height, roi.width):
        raise RegionError(
            f"the mask of object {place} has {item.mask.width} x {item.mask.height} pixels, its "
            f"roi {roi.width} x {roi.height}"
        )
    try:
        crop = to_rgb(item.mask)[..., 0] > 0
    except ImageError as error:
        raise RegionError(f"the mask of object {place} cannot be read: {error}") from error
    mask = np.zeros(size, bool)
    part = mask[y0 : y0 + roi.height, x0 : x0 + roi.width]
    part[:] = crop[: part.shape[0], : part.shape[1]]
    return mask
