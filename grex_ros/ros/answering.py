"""From an image message and a command to an answer. It never raises: what goes wrong is what the
answer says.
"""

from __future__ import annotations

import dataclasses
import gc
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from grex_ros.grounding.objects import Grounding, Status
from grex_ros.ros.conversions import ImageError, ImageMessage, RgbArray, image_size, to_rgb
from grex_ros.ros.messages import Answer, ReceivedCommand
from grex_ros.ros.parameters import Settings

MIN_SIDE = 16
"""Pixels; a smaller image shows nothing that an expression could mean."""
CLOCK_TOLERANCE = 0.1
"""Seconds that a stamp may lie in the future before it is called wrong."""
UNUSED_CLOCK = 3600.0
"""Seconds of age that no camera makes: the stamps come from another clock."""


class GrounderLike(Protocol):
    """What the node needs of a `grex_ros.grounding.grounder.Grounder`."""

    name: str
    engine_name: str
    engine_note: str
    thresholds: Any

    def set_image(self, image: RgbArray) -> None:
        """Encode (H, W, 3) uint8 RGB for the expressions that follow."""

    def ground(self, expressions: Sequence[str]) -> list[Grounding]:
        """One answer per expression about the image."""

    def make_room(self, how: str) -> str:
        """Go on with less memory, by the parameter `on_out_of_memory`; what was done, or empty."""


@dataclass(frozen=True, eq=False)
class ReceivedImage:
    """An image message and when it came, in nanoseconds of the node's clock."""

    message: ImageMessage
    arrival: int


def image_age(image: ReceivedImage, now: int) -> tuple[float, str]:
    """Seconds from the image's stamp to ``now`` (nanoseconds of the node's clock), and a sentence
    if that is a guess.

    A stamp of zero or in the future says nothing, so the age then counts from the arrival of the
    message.
    """
    stamp = image.message.header.stamp
    taken = stamp.sec * 1_000_000_000 + stamp.nanosec
    since_arrival = max(0, now - image.arrival) / 1e9
    if taken == 0:
        return since_arrival, "The image's stamp is zero, so its age counts from its arrival."
    ahead = (taken - now) / 1e9
    if ahead > 0:
        if ahead <= CLOCK_TOLERANCE:
            return since_arrival, ""
        return (
            since_arrival,
            f"The image's stamp is {ahead:.1f} s in the future, so its age counts from its"
            " arrival.",
        )
    return -ahead, ""


def is_fresh(image: ReceivedImage, now: int, max_image_age: float) -> bool:
    """Whether an image would not be answered STALE_IMAGE at ``now`` (nanoseconds of the node's
    clock).
    """
    return max_image_age == 0 or image_age(image, now)[0] <= max_image_age


class Answerer:
    """Answers commands about images with one grounder; an image is encoded once for any number of
    commands.

    Not thread safe. ``now`` gives nanoseconds of the node's clock, ``report`` is told about
    failures of the model.
    """

    def __init__(
        self, grounder: GrounderLike, now: Callable[[], int], report: Callable[[str], None]
    ) -> None:
        self._grounder = grounder
        self._now = now
        self._report = report
        # What the checkpoint was tuned to.
        self._own_no_target: float = grounder.thresholds.no_target
        self._encoded: ReceivedImage | None = None
        self.clock_note = ""
        """Why the age of the last image is a guess; empty where it is none."""

    def answer(
        self, image: ReceivedImage, command: ReceivedCommand | None, settings: Settings
    ) -> Answer:
        """One answer with the image's header, whatever the image and the command are."""
        begin = time.perf_counter()
        age, self.clock_note = image_age(image, self._now())
        size = image_size(image.message)
        out_of_memory = False
        expression = command.meaning.expression if command and command.meaning else ""

        def without_objects(status: Status, message: str) -> Grounding:
            sentence = f"{message} {self.clock_note}".rstrip()
            return Grounding(
                expression, status, sentence, 0.0, (), size, time.perf_counter() - begin
            )

        if command is None:
            grounding = without_objects(Status.NO_COMMAND, "No command has come yet.")
        elif command.error:
            grounding = without_objects(Status.INVALID_COMMAND, command.error)
        elif command.meaning is None:
            grounding = without_objects(
                Status.NO_COMMAND, "No command is in force: the last one was empty."
            )
        elif settings.max_image_age and age > settings.max_image_age:
            grounding = without_objects(Status.STALE_IMAGE, _stale(age, settings.max_image_age))
        else:
            try:
                grounding = self._ground_with_room(image, expression, settings)
            except ImageError as error:
                grounding = without_objects(Status.INVALID_IMAGE, str(error))
            except Exception as error:  # an answer with a status is always better than none
                self._encoded = None
                out_of_memory = _is_out_of_memory(error)
                grounding = without_objects(Status.ERROR, _failure(error, size))
                self._report(grounding.status_message)
        if out_of_memory:
            free_memory()  # here, where no traceback holds the tensors any more
        latency = time.perf_counter() - begin
        return Answer(image.message.header, command, grounding, age, latency, self._grounder.name)

    def _ground_with_room(
        self, image: ReceivedImage, expression: str, settings: Settings
    ) -> Grounding:
        """Ground; when memory runs out, once more in less of it, as `on_out_of_memory` says."""
        try:
            return self._ground(image, expression, settings)
        except Exception as error:
            if not _is_out_of_memory(error) or settings.on_out_of_memory == "error":
                raise
            failure = error.with_traceback(None)  # which would hold the tensors
        self._encoded = None
        free_memory()
        done = self._grounder.make_room(settings.on_out_of_memory)
        if not done:
            raise failure
        self._report(
            f"{_failure(failure, image_size(image.message))} {done} Configure the node again to go"
            " back."
        )
        return self._ground(image, expression, settings)

    def _ground(self, image: ReceivedImage, expression: str, settings: Settings) -> Grounding:
        if self._encoded is not image:
            self._encoded = None
            rgb = to_rgb(image.message)
            height, width = rgb.shape[:2]
            if min(height, width) < MIN_SIDE:
                raise ImageError(
                    f"An image of {width} x {height} pixels is too small: at least {MIN_SIDE} a"
                    " side are needed."
                )
            self._grounder.set_image(rgb)
            self._encoded = image
        self._grounder.thresholds = dataclasses.replace(
            self._grounder.thresholds,
            target=settings.target_threshold,
            mask=settings.mask_threshold,
            no_target=self._own_no_target
            if settings.no_target_threshold < 0
            else settings.no_target_threshold,
        )
        (grounding,) = self._grounder.ground([expression])
        scores = [grounding.no_target_score, *(item.score for item in grounding.objects)]
        if not all(math.isfinite(score) for score in scores):
            raise FloatingPointError("the model's output is not a number")
        return grounding


def _failure(error: Exception, size: tuple[int, int]) -> str:
    if _is_out_of_memory(error):
        return f"Out of memory with an image of {size[1]} x {size[0]} pixels; the memory was freed."
    reason = str(error).rstrip(".") or "no reason given"
    return f"Grounding failed: {type(error).__name__}: {reason}."


def _stale(age: float, limit: float) -> str:
    hint = ""
    if age > UNUSED_CLOCK:
        hint = " Its stamp is of another clock: play bags with use_sim_time or max_image_age 0."
    return f"The image is {age:.1f} s old; max_image_age is {limit:g} s.{hint}"


def _is_out_of_memory(error: Exception) -> bool:
    # torch has a class of its own for GPUs and a bare RuntimeError for the CPU
    text = str(error).lower()
    return (
        isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text
    )


def free_memory() -> None:
    """Give back what nothing refers to any more, on the GPU too."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
