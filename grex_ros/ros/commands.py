"""The command that is in force, and whether it still waits for its answer."""

from __future__ import annotations

import itertools
import threading
import uuid

from grex_ros.grounding.command import CommandError, parse_command
from grex_ros.grounding.objects import Status
from grex_ros.ros.messages import Answer, ReceivedCommand

_FINAL = (Status.TARGETS, Status.NO_TARGET, Status.NO_COMMAND, Status.INVALID_COMMAND)


class CommandInForce:
    """Takes commands in and holds the newest. Every method may be called from any thread.

    The newest command replaces the one before it even if it cannot be read: a robot must not go on
    with what somebody has tried to change. A command is open until an answer is about the command
    itself; answers that only say that the image was unusable leave it open.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids = (
            f"{uuid.uuid4().hex[:8]}-{number}" for number in itertools.count(1)
        )  # unique over restarts
        self._current: ReceivedCommand | None = None
        self._open = False

    @property
    def current(self) -> ReceivedCommand | None:
        """The newest command; None before the first."""
        return self._current

    @property
    def open(self) -> bool:
        """Whether the command in force has not had its answer yet."""
        return self._open

    def read(self, text: str) -> ReceivedCommand:
        """Give a text its id and its meaning, without putting it in force."""
        with self._lock:
            identity = next(self._ids)
        try:
            return ReceivedCommand(identity, text, meaning=parse_command(text))
        except CommandError as error:
            return ReceivedCommand(identity, text, error=str(error))
        except (
            Exception
        ) as error:  # whatever a text does to the parser, it is the text that cannot be used
            return ReceivedCommand(identity, text, error=f"The command could not be read: {error}.")

    def receive(self, text: str) -> ReceivedCommand:
        """Put a text in force."""
        command = self.read(text)
        with self._lock:
            self._current, self._open = command, True
        return command

    def clear(self) -> None:
        """As before the first command."""
        with self._lock:
            self._current, self._open = None, False

    def answered(self, answer: Answer) -> None:
        """Close the command in force if ``answer`` is its answer."""
        with self._lock:
            if answer.command is self._current and answer.grounding.status in _FINAL:
                self._open = False
