"""How the node is doing, once a second on /diagnostics (REP 107)."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import NamedTuple

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from grex_ros.grounding.objects import Status
from grex_ros.ros.messages import Answer

WINDOW = 5.0
"""Seconds over which rate, latency and age are taken, and after which a silent camera is a warning.
"""
_FAULTS = (Status.ERROR, Status.INVALID_IMAGE, Status.STALE_IMAGE)


class _Answered(NamedTuple):
    """What is kept of an answer; the answer itself holds masks."""

    when: float
    latency: float
    image_age: float
    status: Status
    message: str


class Diagnostics:
    """Counts what happens and tells it as a diagnostic status. Every method may be called from any
    thread.
    """

    def __init__(self, name: str, hardware_id: str = "") -> None:
        self._name = name
        self._hardware_id = hardware_id
        self._lock = threading.Lock()
        self._answers: deque[_Answered] = deque(maxlen=1000)
        self._answered = 0
        self._last_image = -WINDOW
        self._last_error = ""
        self._failure = ""

    def image_came(self) -> None:
        """An image message arrived, be it good or bad."""
        with self._lock:
            self._last_image = time.monotonic()

    def answered(self, answer: Answer) -> None:
        """An answer went out."""
        with self._lock:
            grounding = answer.grounding
            said = _Answered(
                time.monotonic(),
                answer.latency,
                answer.image_age,
                grounding.status,
                grounding.status_message,
            )
            self._answers.append(said)
            self._answered += 1
            if said.status in _FAULTS:
                self._last_error = said.message

    def failed(self, sentence: str) -> None:
        """Something outside an answer failed; the level stays ERROR until `recovered`."""
        with self._lock:
            self._failure = self._last_error = sentence

    def recovered(self) -> None:
        """What `failed` was told of is over."""
        with self._lock:
            self._failure = ""

    def status(
        self, state: str, dropped: int = 0, command: str = "", model: str = "", note: str = ""
    ) -> DiagnosticStatus:
        """The status now; ``state`` is the lifecycle state's name, ``note`` a standing warning."""
        with self._lock:
            now = time.monotonic()
            recent = [said for said in self._answers if now - said.when <= WINDOW]
            silence = now - self._last_image
            level, message = self._level(state, recent, silence, note)
            count = len(recent)
            values = {
                "state": state,
                "last_error": self._last_error,
                "rate_hz": f"{count / WINDOW:.2f}",
                "latency_s": f"{sum(said.latency for said in recent) / count:.4f}" if count else "",
                "image_age_s": f"{recent[-1].image_age:.4f}" if count else "",
                "dropped_frames": str(dropped),
                "answers": str(self._answered),
                "last_status": recent[-1].status.name if count else "",
                "command": command,
                "model": model,
            }
        return DiagnosticStatus(
            level=level,
            name=self._name,
            message=message,
            hardware_id=self._hardware_id,
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )

    def _level(
        self, state: str, recent: list[_Answered], silence: float, note: str
    ) -> tuple[bytes, str]:
        if self._failure:
            return DiagnosticStatus.ERROR, self._failure
        if state != "active":
            return DiagnosticStatus.WARN, f"The node is {state}; images are not answered."
        if recent and recent[-1].status in _FAULTS:
            level = (
                DiagnosticStatus.ERROR
                if recent[-1].status is Status.ERROR
                else DiagnosticStatus.WARN
            )
            return level, recent[-1].message
        if silence > WINDOW:
            return DiagnosticStatus.WARN, f"No image has come for {WINDOW:.0f} s or more."
        if note:
            return DiagnosticStatus.WARN, note
        return DiagnosticStatus.OK, "Images are answered."


def diagnostic_array(status: DiagnosticStatus, stamp: object) -> DiagnosticArray:
    """One status as the message of /diagnostics; ``stamp`` is a builtin_interfaces Time."""
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp
    return message
