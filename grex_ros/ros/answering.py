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
from typing import Any, Protocol, TypeVar

from std_msgs.msg import Header

from grex_ros.grounding.description import Description, Region, RegionError
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


T = TypeVar("T")


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

    def describe(self, regions: Sequence[Region]) -> Description:
        """An expression that means these objects in the image. RegionError if one is none."""

    def make_room(self, how: str) -> str:
        """Go on with less memory, by the parameter `on_out_of_memory`; what was done, or empty."""


@dataclass(frozen=True, eq=False)
class ReceivedImage:
    """An image message and when it came, in nanoseconds of the node's clock."""

    message: ImageMessage
    arrival: int


@dataclass(frozen=True)
class DescriptionAnswer:
    """The answer to ~/describe. Durations in seconds; ``status`` is TARGETS exactly if there is an
    expression.
    """

    header: Header
    status: Status
    status_message: str
    expression: str = ""
    verified: bool = False
    image_age: float = 0.0
    latency: float = 0.0
    model: str = ""


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
        expression = command.meaning.expression if command and command.meaning else ""

        def without_objects(status: Status, message: str) -> Grounding:
            sentence = self._with_clock_note(message)
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
        else:
            found, status, sentence = self._ask(
                image, settings, age, "Grounding", lambda: self._ground(expression)
            )
            grounding = found or without_objects(status, sentence)
        latency = time.perf_counter() - begin
        return Answer(image.message.header, command, grounding, age, latency, self._grounder.name)

    def describe(
        self, image: ReceivedImage, regions: Callable[[], Sequence[Region]], settings: Settings
    ) -> DescriptionAnswer:
        """An expression for the objects of ``regions``, or the reason why there is none;
        ``regions`` may raise RegionError.
        """
        begin = time.perf_counter()
        age, self.clock_note = image_age(image, self._now())
        found, status, sentence = self._ask(
            image, settings, age, "Describing", lambda: self._grounder.describe(regions())
        )
        return DescriptionAnswer(
            image.message.header,
            status,
            "" if found else self._with_clock_note(sentence),
            found.text if found else "",
            bool(found and found.verified),
            age,
            time.perf_counter() - begin,
            self._grounder.name,
        )

    def _ask(
        self, image: ReceivedImage, settings: Settings, age: float, what: str, ask: Callable[[], T]
    ) -> tuple[T | None, Status, str]:
        """What ``ask`` says of the image, encoded, or the status and the sentence instead of it."""
        if settings.max_image_age and age > settings.max_image_age:
            return None, Status.STALE_IMAGE, _stale(age, settings.max_image_age)
        try:
            return self._ask_with_room(image, settings, what, ask), Status.TARGETS, ""
        except ImageError as error:
            return None, Status.INVALID_IMAGE, str(error)
        except RegionError as error:
            return None, Status.INVALID_COMMAND, f"The objects cannot be described: {error}."
        except Exception as error:  # an answer with a status is always better than none
            self._encoded = None
            out_of_memory = _is_out_of_memory(error)
            sentence = _failure(error, image_size(image.message), what)
        self._report(sentence)
        if out_of_memory:
            free_memory()  # here, where no traceback holds the tensors any more
        return None, Status.ERROR, sentence

    def _ask_with_room(
        self, image: ReceivedImage, settings: Settings, what: str, ask: Callable[[], T]
    ) -> T:
        """Ask; when memory runs out, once more in less of it, as `on_out_of_memory` says."""
        try:
            self._take_up(image, settings)
            return ask()
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
            f"{_failure(failure, image_size(image.message), what)} {done} Configure the node again"
            " to go back."
        )
        self._take_up(image, settings)
        return ask()

    def _with_clock_note(self, sentence: str) -> str:
        return f"{sentence} {self.clock_note}".rstrip()

    def _take_up(self, image: ReceivedImage, settings: Settings) -> None:
        """Encode the image, if that is not done, and set the thresholds."""
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

    def _ground(self, expression: str) -> Grounding:
        (grounding,) = self._grounder.ground([expression])
        scores = [grounding.no_target_score, *(item.score for item in grounding.objects)]
        if not all(math.isfinite(score) for score in scores):
            raise FloatingPointError("the model's output is not a number")
        return grounding


def _failure(error: Exception, size: tuple[int, int], what: str) -> str:
    if _is_out_of_memory(error):
        return f"Out of memory with an image of {size[1]} x {size[0]} pixels; the memory was freed."
    reason = str(error).rstrip(".") or "no reason given"
    return f"{what} failed: {type(error).__name__}: {reason}."


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
