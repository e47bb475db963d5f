"""The demo's processes: camera, grex node and commander, from the first to the last."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

from rich.console import Console
from rich.markup import escape

from grex_ros.demo.files import shipped

GRACE = 10.0  # seconds that a process has to end after SIGTERM
_PR_SET_PDEATHSIG = 1  # of prctl(2)
LOG_LINES = 12  # of a process that ended too early


def run_demo(
    *, seed: int, out: Path, bag: bool, checkpoint: str, device: str, timeout: float
) -> int:
    """Run the demo; 0 if every command got its answer, 130 after Ctrl-C, else 1.

    Writes answers and overlays to ``out`` and what camera and node say to ``out``/logs.
    """
    console = Console()
    logs = out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    for old in (out / "answers.jsonl", *out.glob("[0-9]*.png")):
        old.unlink(missing_ok=True)
    environment = isolated_environment()
    console.print(
        f"camera, grex node and commander on ROS_DOMAIN_ID={environment['ROS_DOMAIN_ID']};"
        f" logs in {escape(str(logs))}",
        soft_wrap=True,
    )
    source = "bag" if bag else "auto"
    commands = {
        "camera": _node("grex_ros.demo.camera", {"seed": seed, "source": source}),
        "grex": _node(
            "grex_ros.ros.node",
            {"checkpoint": checkpoint, "device": device},
            {"image": "/camera/image_raw"},
        ),
    }
    commander = _node(
        "grex_ros.demo.commander",
        {"seed": seed, "out": str(out), "timeout": float(timeout)},
    )
    with _interruptible():
        try:
            with started(commands, environment, logs) as processes:
                return _converse(commander, environment, processes, logs, console)
        except KeyboardInterrupt:
            console.print("interrupted")
            return 130


def isolated_environment() -> dict[str, str]:
    """This process's environment, with a ROS domain of its own on this machine alone, and the
    transport that large images need.
    """
    environment = dict(os.environ)
    environment["ROS_DOMAIN_ID"] = str(random.SystemRandom().randint(1, 100))
    environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    environment["ROS_LOCALHOST_ONLY"] = "1"  # the same, for Humble
    old = environment.get("ROS_DISTRO") in ("humble", "jazzy")
    profiles = f"{'FASTRTPS' if old else 'FASTDDS'}_DEFAULT_PROFILES_FILE"
    environment.setdefault(profiles, str(shipped("config/fastdds.xml")))
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


@contextmanager
def started(
    commands: Mapping[str, Sequence[str]], environment: Mapping[str, str], logs: Path
) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Processes that run inside the block; they get SIGTERM behind it, and SIGKILL if that is not
    enough. Each writes to its own file in ``logs``. Ctrl-C reaches this process alone.
    """
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            with (logs / f"{name}.log").open("wb") as log:
                processes[name] = _start(command, environment, log)
        yield processes
    finally:
        stop(list(processes.values()))


def _start(
    command: Sequence[str], environment: Mapping[str, str], log: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """A process that Ctrl-C does not reach and that does not outlive this one, even if killed."""
    error = subprocess.STDOUT if log else None
    return subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=error,
        start_new_session=True,
        preexec_fn=_end_with_parent,
    )


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def stop(processes: Sequence[subprocess.Popen[bytes]], grace: float = GRACE) -> None:
    """End processes, kindly first."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    end = time.monotonic() + grace
    for process in processes:
        try:
            process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _converse(
    command: Sequence[str],
    environment: Mapping[str, str],
    others: Mapping[str, subprocess.Popen[bytes]],
    logs: Path,
    console: Console,
) -> int:
    """Run the commander to its end, or until one of the others is gone."""
    commander = _start(command, environment)
    try:
        while (code := commander.poll()) is None:
            for name, process in others.items():
                if process.poll() is not None:
                    said = (logs / f"{name}.log").read_text(errors="replace").splitlines()
                    end = "\n".join(said[-LOG_LINES:])
                    console.print(
                        f"[red]{name} ended with {process.returncode}[/], its last words:\n"
                        f"{escape(end)}",
                        soft_wrap=True,
                    )
                    return 1
            time.sleep(0.1)
    finally:
        stop([commander])
    if code:
        console.print(f"not every command got its answer; see {escape(str(logs))}", soft_wrap=True)
    return 1 if code else 0


def _node(
    module: str, parameters: Mapping[str, object], remappings: Mapping[str, str] | None = None
) -> list[str]:
    command = [sys.executable, "-m", module, "--ros-args"]
    for name, value in parameters.items():
        # Quoted, so that YAML takes a path that looks like a number for a text.
        text = "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)
        command += ["-p", f"{name}:={text}"]
    for old, new in (remappings or {}).items():
        command += ["-r", f"{old}:={new}"]
    return command


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
