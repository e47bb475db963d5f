"""One thread between the executor and the model: no queue of frames, the newest one wins."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Frame = TypeVar("Frame")

MAX_JOBS = 16
"""Jobs that may wait at once. Each has a caller who waits for it, so more means that they come too
fast.
"""


class Worker(Generic[Frame]):
    """Runs ``handle`` for the newest offered frame and any submitted jobs, one at a time, in a
    thread of its own.

    Offering and submitting never wait. A frame that is offered while another waits replaces it.
    Jobs go before frames, in their order. Whatever a handler or job raises goes to ``on_exception``
    and the thread goes on.

    Args:
        handle: takes one frame; runs in the worker's thread.
        on_exception: is told what a handler or job raised; runs in the worker's thread.
        min_period: seconds that must lie between the beginnings of two frames' handling, asked anew
            for each.
    """

    def __init__(
        self,
        handle: Callable[[Frame], None],
        on_exception: Callable[[Exception], None],
        min_period: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._handle = handle
        self._on_exception = on_exception
        self._min_period = min_period
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._jobs: deque[Callable[[], None]] = deque()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.dropped = 0
        """Frames that a newer one replaced before they were looked at."""

    @property
    def running(self) -> bool:
        """Whether frames and jobs are taken."""
        return self._thread is not None and not self._stopping

    def start(self) -> None:
        """Begin to work. Raises RuntimeError if the worker has been started before: a worker is
        used once.
        """
        if self._thread is not None:
            raise RuntimeError("a worker starts only once")
        self._thread = threading.Thread(target=self._run, name="grex_worker", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Take nothing more, drop the waiting frame, finish what runs and what was submitted.

        Returns False if that took longer than ``timeout`` seconds; the thread then ends by itself
        when it can.
        """
        with self._changed:
            self._stopping = True
            self._frame = None
            self._changed.notify()
        if self._thread is None or self._thread is threading.current_thread():
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def offer(self, frame: Frame) -> None:
        """Hand over the newest frame; an older one that still waits is dropped. Ignored when not
        running.
        """
        with self._changed:
            if not self.running:
                return
            if self._frame is not None and self._frame is not frame:
                self.dropped += 1
            self._frame = frame
            self._changed.notify()

    def submit(self, job: Callable[[], None]) -> bool:
        """Have ``job`` run before the next frame. False if the worker does not run or MAX_JOBS wait
        already.
        """
        with self._changed:
            if not self.running or len(self._jobs) >= MAX_JOBS:
                return False
            self._jobs.append(job)
            self._changed.notify()
            return True

    def _run(self) -> None:
        earliest = 0.0
        while True:
            with self._changed:
                while not self._jobs:
                    if self._stopping:
                        return
                    wait = earliest - time.monotonic()
                    if self._frame is not None and wait <= 0:
                        break
                    self._changed.wait(wait if self._frame is not None else None)
                if self._jobs:
                    job, frame = self._jobs.popleft(), None
                else:
                    job, frame, self._frame = None, self._frame, None
            try:
                if job is not None:
                    job()
                elif frame is not None:
                    earliest = time.monotonic() + self._min_period()
                    self._handle(frame)
            except Exception as error:  # the thread outlives everything
                self._report(error)

    def _report(self, error: Exception) -> None:
        try:
            self._on_exception(error)
        except Exception:  # nobody is left to tell
            pass
