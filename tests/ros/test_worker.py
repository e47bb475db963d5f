"""The worker's promises: newest wins, nobody waits, nothing ends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from grex_ros.ros.worker import MAX_JOBS, Worker


class Recorder:
    """Handles frames; can be held in the middle of one."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        self.times: list[float] = []
        self.errors: list[Exception] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.period = 0.0
        self.worker: Worker[object] = Worker(self.handle, self.errors.append, lambda: self.period)

    def handle(self, frame: object) -> None:
        self.times.append(time.monotonic())
        self.entered.release()
        assert self.gate.wait(10)
        if isinstance(frame, Exception):
            raise frame
        self.seen.append(frame)

    def wait(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.002)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    recorder.worker.start()
    yield recorder
    recorder.gate.set()
    assert recorder.worker.stop(10)


def test_the_newest_frame_wins(recorder: Recorder) -> None:
    recorder.gate.clear()
    recorder.worker.offer(1)
    assert recorder.entered.acquire(timeout=10)
    for frame in range(2, 100):
        recorder.worker.offer(frame)
    recorder.gate.set()
    recorder.wait(lambda: len(recorder.seen) == 2)
    assert recorder.seen == [1, 99]
    assert recorder.worker.dropped == 97


def test_the_same_frame_again_is_not_dropped(recorder: Recorder) -> None:
    recorder.gate.clear()
    recorder.worker.offer(1)
    assert recorder.entered.acquire(timeout=10)
    frame = object()
    recorder.worker.offer(frame)
    recorder.worker.offer(frame)
    assert recorder.worker.dropped == 0


def test_jobs_go_first_and_in_order(recorder: Recorder) -> None:
    recorder.gate.clear()
    recorder.worker.offer("busy")
    assert recorder.entered.acquire(timeout=10)
    recorder.worker.offer("frame")
    for name in ("a", "b", "c"):
        assert recorder.worker.submit(lambda name=name: recorder.seen.append(name))
    recorder.gate.set()
    recorder.wait(lambda: len(recorder.seen) == 5)
    assert recorder.seen == ["busy", "a", "b", "c", "frame"]


def test_jobs_are_bounded(recorder: Recorder) -> None:
    recorder.gate.clear()
    recorder.worker.offer("busy")
    assert recorder.entered.acquire(timeout=10)
    taken = [recorder.worker.submit(lambda: None) for _ in range(MAX_JOBS + 1)]
    assert taken == [True] * MAX_JOBS + [False]


def test_exceptions_are_reported_and_survived(recorder: Recorder) -> None:
    def job() -> None:
        raise KeyError("job")

    recorder.worker.offer(ValueError("frame"))
    recorder.wait(lambda: len(recorder.errors) == 1)
    recorder.worker.submit(job)
    recorder.wait(lambda: len(recorder.errors) == 2)
    recorder.worker.offer("next")
    recorder.wait(lambda: recorder.seen == ["next"])
    assert [type(error) for error in recorder.errors] == [ValueError, KeyError]


def test_a_reporter_that_raises_is_survived_too() -> None:
    recorder = Recorder()

    def report(error: Exception) -> None:
        raise error

    worker: Worker[object] = Worker(recorder.handle, report)
    worker.start()
    worker.offer(ValueError("frame"))
    assert recorder.entered.acquire(timeout=10)
    worker.offer("next")
    recorder.wait(lambda: recorder.seen == ["next"])
    assert worker.stop(10)


def test_frames_keep_their_distance_and_jobs_do_not_wait(recorder: Recorder) -> None:
    recorder.period = 0.3
    recorder.worker.offer(1)
    recorder.wait(lambda: recorder.seen == [1])
    recorder.worker.offer(2)
    begin = time.monotonic()
    recorder.worker.submit(lambda: recorder.seen.append("job"))
    recorder.wait(lambda: recorder.seen == [1, "job"])
    assert time.monotonic() - begin < 0.2
    recorder.wait(lambda: recorder.seen == [1, "job", 2])
    assert recorder.times[1] - recorder.times[0] >= 0.299


def test_offering_never_waits(recorder: Recorder) -> None:
    recorder.gate.clear()
    recorder.worker.offer(1)
    assert recorder.entered.acquire(timeout=10)
    begin = time.monotonic()
    for frame in range(1000):
        recorder.worker.offer(frame)
    assert time.monotonic() - begin < 1.0


def test_stop_finishes_what_runs_and_drops_what_waits() -> None:
    recorder = Recorder()
    recorder.worker.start()
    recorder.gate.clear()
    recorder.worker.offer("runs")
    assert recorder.entered.acquire(timeout=10)
    recorder.worker.offer("waits")
    ran = threading.Event()
    recorder.worker.submit(ran.set)
    assert not recorder.worker.stop(0.05)  # still held
    recorder.worker.offer("late")
    assert not recorder.worker.submit(lambda: None)
    recorder.gate.set()
    assert recorder.worker.stop(10)
    assert recorder.seen == ["runs"]
    assert ran.is_set()
    assert not recorder.worker.running


def test_a_worker_is_used_once() -> None:
    recorder = Recorder()
    recorder.worker.offer("before start")
    recorder.worker.start()
    with pytest.raises(RuntimeError):
        recorder.worker.start()
    assert recorder.worker.stop(10)
    assert recorder.seen == []
