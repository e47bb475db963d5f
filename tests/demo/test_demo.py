"""`grex demo` from end to end: real processes, real messages, the weights of the package."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from grex_ros.grounding import rle
from grex_ros.scenes.gl import open_context
from grex_ros.scenes.renderer import RenderingUnavailable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
MARK = "GREX_DEMO_TEST"  # in the environment of every process of a demo


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    value = uuid.uuid4().hex
    monkeypatch.setenv(MARK, value)
    yield value
    left = processes(value)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"processes {left} outlived the demo"


def processes(mark: str) -> list[int]:
    """Processes, other than this one, with the mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            environment = (entry / "environ").read_bytes() if entry.name.isdigit() else b""
        except OSError:  # it has just ended
            continue
        if f"{MARK}={mark}".encode() in environment and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def grex_demo(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "grex_ros.cli", "demo", *map(str, arguments)]


def check_answers(out: Path, printed: str) -> list[dict[str, Any]]:
    answers = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == 7
    assert len({answer["command_id"] for answer in answers}) == 7
    for number, answer in enumerate(answers, start=1):
        assert answer["number"] == number
        assert answer["status"] in ("TARGETS", "NO_TARGET")
        assert (answer["status"] == "TARGETS") == bool(answer["objects"])
        assert answer["expression"] in answer["command"] and answer["action"]
        assert answer["model"].startswith("tabletop@")
        assert answer["correct"] == judged(answer)
        assert answer["command"] in printed
        overlay = cv2.imread(str(out / f"{number}.png"))
        assert overlay.shape[1] == 640 and overlay.shape[0] > 480
    no_target = [a["truth"]["falsified"] for a in answers if not a["truth"]["targets"]]
    assert no_target == ["easy", "deceptive"]
    assert any(len(answer["truth"]["targets"]) > 1 for answer in answers)
    assert "7 of 7 answered" in printed
    return answers


def judged(answer: dict[str, Any]) -> bool:
    """Whether an answer is right, found out from its line alone and in another way: every target
    has an object and every object a target.
    """
    targets = [rle.decode(target["mask"]) for target in answer["truth"]["targets"]]
    found = [rle.decode(item["mask"]) for item in answer["objects"]]
    hits = np.array([[(t & f).sum() >= 0.5 * (t | f).sum() for f in found] for t in targets])
    hits = hits.reshape(len(targets), len(found))
    return bool((hits.sum(0) == 1).all() and (hits.sum(1) == 1).all())


def test_demo_on_the_bag(tmp_path: Path, mark: str) -> None:
    out = tmp_path / "a folder" / "demo"
    command = grex_demo("--bag", "--seed", 1, "--out", out)
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    answers = check_answers(out, done.stdout)
    assert {answer["truth"]["source"] for answer in answers} == {"demo_bag"}


def test_demo_rendered(tmp_path: Path, mark: str) -> None:
    try:
        open_context(16, 16).free()
    except RenderingUnavailable as error:
        pytest.skip(str(error))
    command = grex_demo("--seed", 2, "--out", tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    answers = check_answers(tmp_path, done.stdout)
    assert {answer["truth"]["source"] for answer in answers} == {"rendered"}
    assert {answer["truth"]["seed"] for answer in answers} == {2}


def test_a_node_without_weights_ends_the_demo_with_the_reason(tmp_path: Path, mark: str) -> None:
    missing = tmp_path / "missing.safetensors"
    command = grex_demo("--bag", "--out", tmp_path, "--checkpoint", missing)
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1
    assert str(missing) in done.stdout and "does not exist" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_camera_that_ends_early_is_named(tmp_path: Path, mark: str) -> None:
    from grex_ros.demo import run

    camera = [sys.executable, "-c", "print('lens broken'); raise SystemExit(3)"]
    waiting = [sys.executable, "-c", "import time; time.sleep(60)"]
    begin = time.monotonic()
    console = run.Console(file=(tmp_path / "said").open("w"))
    with run.started({"camera": camera}, os.environ, tmp_path) as others:
        code = run._converse(waiting, os.environ, others, tmp_path, console)
    console.file.close()
    said = (tmp_path / "said").read_text()
    assert code == 1 and time.monotonic() - begin < 30
    assert "camera ended with 3" in said and "lens broken" in said


def heed_interrupts() -> None:
    """What a script puts in the background is born deaf to Ctrl-C, and so are its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_interrupting_ends_everything(
    tmp_path: Path, mark: str, number: signal.Signals, code: int
) -> None:
    with subprocess.Popen(
        grex_demo("--bag", "--out", tmp_path), stdout=subprocess.PIPE, preexec_fn=heed_interrupts
    ) as demo:
        end = time.monotonic() + 60
        while len(processes(mark)) < 4 and time.monotonic() < end:
            time.sleep(0.2)
        assert len(processes(mark)) >= 4, "camera, node and commander did not start"
        time.sleep(1.0)
        demo.send_signal(number)
        assert demo.wait(40) == code
    assert not processes(mark)


def test_nothing_outlives_a_demo_that_is_killed(tmp_path: Path, mark: str) -> None:
    with subprocess.Popen(grex_demo("--bag", "--out", tmp_path), stdout=subprocess.PIPE) as demo:
        end = time.monotonic() + 60
        while len(processes(mark)) < 4 and time.monotonic() < end:
            time.sleep(0.2)
        time.sleep(1.0)
        demo.kill()
    while processes(mark) and time.monotonic() < end:
        time.sleep(0.2)
    assert not processes(mark)


def test_a_process_that_does_not_listen_is_killed(tmp_path: Path, mark: str) -> None:
    from grex_ros.demo import run

    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True)"
    command = [sys.executable, "-c", deaf + "; time.sleep(60)"]
    with run.started({"deaf": command}, os.environ, tmp_path) as processes_:
        end = time.monotonic() + 20
        while "up" not in (tmp_path / "deaf.log").read_text() and time.monotonic() < end:
            time.sleep(0.1)
        begin = time.monotonic()
        run.stop(list(processes_.values()), grace=0.5)
    assert processes_["deaf"].returncode == -signal.SIGKILL
    assert time.monotonic() - begin < 10
