"""`grex ground` and `grex doctor`, mostly as a user runs them: with the weights of the package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import UnionType
from typing import get_type_hints

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from grex_ros import doctor
from grex_ros.cli import app
from grex_ros.grounding import rle
from grex_ros.model.checkpoint import DEFAULT_CHECKPOINT, file_digest, save_checkpoint
from grex_ros.model.rela import ReLA
from tests.model.test_rela import DESCRIBING

# However well the weights are trained: objects in any picture, or none in any.
EVERYTHING = ["--target-threshold", "0", "--no-target-threshold", "1"]
NOTHING = ["--no-target-threshold", "0"]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.full((120, 160, 3), 200, np.uint8)
    cv2.circle(pixels, (50, 60), 25, (0, 0, 220), cv2.FILLED)
    path = tmp_path / "pictüre with space.png"
    cv2.imwrite(str(path), pixels)
    return path


def invoke(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_help_needs_no_heavy_library() -> None:
    code = (
        "import sys, grex_ros.cli;"
        "print([m for m in ('torch', 'numpy', 'cv2', 'rclpy', 'mujoco') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    code_, stdout, _ = invoke("--help")
    assert code_ == 0
    assert all(command in stdout for command in ("ground", "demo", "doctor"))


def test_options_are_of_types_that_the_typer_of_ubuntu_24_04_knows() -> None:
    assert len(app.registered_commands) > 5
    for command in app.registered_commands:
        assert command.callback is not None
        for name, hint in get_type_hints(command.callback).items():
            assert not isinstance(hint, UnionType), (command.callback.__name__, name)


def test_json_answer_in_a_process_of_its_own(picture: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "grex_ros.cli",
        "ground",
        str(picture),
        "Pick up all red cups!",
    ]
    done = subprocess.run([*command, "--json", *EVERYTHING], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["status"] == "TARGETS"
    assert answer["status_message"] == ""
    assert answer["command"] == "Pick up all red cups!"
    assert (answer["action"], answer["expression"]) == ("pick up", "all red cups")
    assert 0 <= answer["no_target_score"] <= 1
    assert answer["latency"] > 0
    assert answer["image_size"] == {"width": 160, "height": 120}
    assert answer["image"] == str(picture)
    assert answer["model"] == f"tabletop@{file_digest(DEFAULT_CHECKPOINT)[:12]}"
    assert [item["id"] for item in answer["objects"]] == list(range(1, len(answer["objects"]) + 1))
    scores = [item["score"] for item in answer["objects"]]
    assert scores == sorted(scores, reverse=True)
    for item in answer["objects"]:
        mask = rle.decode(item["mask"])
        rows, columns = np.nonzero(mask)
        assert mask.shape == (120, 160)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert item["box"] == box


def test_no_target_is_an_answer(picture: Path) -> None:
    code, stdout, _ = invoke("ground", picture, "all red cups", "--json", *NOTHING)
    answer = json.loads(stdout)
    assert code == 0
    assert (answer["status"], answer["objects"]) == ("NO_TARGET", [])
    assert answer["status_message"].endswith(".")


def test_an_answer_for_people_and_its_overlay(picture: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "answer.png"
    code, stdout, _ = invoke("ground", picture, "red ball", "--overlay", overlay, *EVERYTHING)
    assert code == 0
    assert "red ball" in stdout and "target" in stdout and "tabletop@" in stdout
    drawn = cv2.imread(str(overlay))
    assert drawn.shape[0] > 120 and drawn.shape[1] == 160
    assert (drawn[:120] != cv2.imread(str(picture))).any()

    code, stdout, _ = invoke("ground", picture, "red ball", *NOTHING)
    assert code == 0 and "no target" in stdout


BAD_INPUT = [
    ("no picture", ["missing.png", "cup"], "missing.png: No such file"),
    ("a folder", [".", "cup"], "Is a directory"),
    ("a text", ["text.txt", "cup"], "no picture"),
    ("an empty file", ["empty.png", "cup"], "no picture"),
    ("only a verb", ["PICTURE", "pick up"], "names no object"),
    ("no words", ["PICTURE", " "], "blank"),
    ("another language", ["PICTURE", "红杯子"], "English"),
    ("a negation", ["PICTURE", "don't touch the cup"], "forbids"),
    ("no weights", ["PICTURE", "cup", "--checkpoint", "no.safetensors"], "no.safetensors"),
    ("bad weights", ["PICTURE", "cup", "--checkpoint", "text.txt"], "text.txt is damaged"),
    ("no such device", ["PICTURE", "cup", "--device", "gpu"], "unknown device 'gpu'"),
    ("no such precision", ["PICTURE", "cup", "--precision", "int3"], "precision"),
    ("too small to see", ["PICTURE", "cup", "--image-size", "50"], "image_size must be between"),
    ("no such threshold", ["PICTURE", "cup", "--target-threshold", "1.5"], "target-threshold"),
    ("no such folder", ["PICTURE", "cup", "--overlay", "nowhere/o.png"], "nowhere/o.png cannot"),
    ("no such format", ["PICTURE", "cup", "--overlay", "overlay.xyz"], "overlay.xyz cannot"),
]


@pytest.mark.parametrize(
    "arguments, reason", [row[1:] for row in BAD_INPUT], ids=[row[0] for row in BAD_INPUT]
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str],
    reason: str,
    picture: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("not what it should be")
    Path("empty.png").touch()
    filled = [str(picture) if argument == "PICTURE" else argument for argument in arguments]
    code, stdout, stderr = invoke("ground", *filled)
    assert code == 2
    assert stdout == ""
    assert reason in stderr
    assert "Traceback" not in stderr
    if "Usage" not in stderr:  # typer's own refusals are framed
        assert stderr.startswith("grex: ") and stderr.count("\n") == 1


def test_a_truncated_picture_is_answered_or_refused_in_one_line(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (90, 90, 3), dtype=np.uint8)
    data = cv2.imencode(".png", noise)[1].tobytes()
    path = tmp_path / "half.png"
    path.write_bytes(data[: len(data) // 2])
    code, _, stderr = invoke("ground", path, "cup")
    assert code == 0 or (code == 2 and stderr.count("\n") == 1)


@pytest.mark.slow
@pytest.mark.timeout(400)  # it starts processes that import everything
def test_doctor_finds_this_machine_healthy() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "grex_ros.cli", "doctor", "--json"], capture_output=True, text=True
    )
    report = json.loads(done.stdout)
    problems = [check for check in report["checks"] if check["verdict"] == "problem"]
    assert (done.returncode, report["healthy"], problems) == (0, True, []), done.stderr
    details = {check["name"]: check["detail"] for check in report["checks"]}
    assert file_digest(DEFAULT_CHECKPOINT) in details["weights"]
    assert "and back" in details["round trip"]
    assert {"python", "torch", "device", "text encoder", "answer", "messages"} <= details.keys()


def test_doctor_exits_with_1_when_something_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = doctor.Check("weights", "problem", "gone", "fetch them")
    warned = doctor.Check("renderer", "warning", "no GL")
    for checks, expected in (([broken, warned], 1), ([warned], 0)):
        monkeypatch.setattr(doctor, "run_checks", lambda found=checks, **_: found)
        code, stdout, _ = invoke("doctor", "--json")
        assert code == expected
        assert json.loads(stdout)["healthy"] is (expected == 0)
        code, stdout, _ = invoke("doctor")
        assert code == expected
    assert "no GL" in stdout


def test_doctor_names_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = str(tmp_path / "missing.safetensors")
    (weights,) = doctor.check_model(missing, "cpu")
    assert weights.verdict == "problem" and missing in weights.detail
    assert doctor.check_device("gpu").verdict == "problem"
    monkeypatch.setattr(doctor, "LIBRARIES", ("no_such_library",))
    monkeypatch.setattr(doctor, "OPTIONAL", {"no_such_extra": "the demo plays a bag"})
    verdicts = {check.name: check.verdict for check in doctor.check_versions()}
    assert verdicts == {"python": "ok", "no_such_library": "problem", "no_such_extra": "warning"}


def test_doctor_notices_that_no_message_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ECHO_TIMEOUT", 1.0)
    # The other process hears another domain than this one.
    other = dict(os.environ, ROS_DOMAIN_ID=str(int(os.environ["ROS_DOMAIN_ID"]) % 100 + 1))
    start = subprocess.Popen

    def in_another_domain(*args: object, **kwargs: object) -> subprocess.Popen[str]:
        return start(*args, **{**kwargs, "env": other})  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(doctor.subprocess, "Popen", in_another_domain)
    (check,) = doctor.check_round_trip()
    assert check.verdict == "problem"
    assert "ROS_DOMAIN_ID" in check.remedy


def test_a_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> list[doctor.Check]:
        raise RuntimeError("out of order")

    for name in ("check_versions", "check_model", "check_round_trip"):
        monkeypatch.setattr(doctor, name, breaks)
    checks = doctor.run_checks(quiet=True)
    found = {check.name: check.detail for check in checks if check.verdict == "problem"}
    assert "out of order" in found["model"] and "out of order" in found["versions"]
    assert any(check.name == "renderer" for check in checks), "the later checks must run too"


@pytest.fixture(scope="module")
def describing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a generation head, untrained."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("describing") / "small.safetensors"
    save_checkpoint(ReLA(DESCRIBING), path)
    return path


def test_describe(picture: Path, describing: Path) -> None:
    boxes = ["--box", "25,35,75,85", "--box", "0,0,20.5,20"]
    command = ["describe", picture, *boxes, "--checkpoint", describing, "--device", "cpu"]
    code, stdout, _ = invoke(*command, "--json", "--beams", 3)
    assert code == 0
    answer = json.loads(stdout)
    assert answer["boxes"] == [[25, 35, 75, 85], [0, 0, 20.5, 20]]
    assert answer["image"] == str(picture)
    assert answer["expression"] in answer["candidates"]
    assert len(answer["candidates"]) >= 3
    assert answer["verified"] in (True, False)
    assert answer["model"] == f"tabletop@{file_digest(describing)[:12]}"
    code, stdout, _ = invoke(*command, "--beams", 1, "--no-verify")
    assert code == 0
    expression, remark = stdout.splitlines()
    assert expression in answer["candidates"]
    assert remark == "not verified"


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (["1,2,3"], "--box 1,2,3: give four numbers"),
        (["a,b,c,d"], "--box a,b,c,d: give four numbers"),
        (["1,2,3,nan"], "object 1 is no box"),
        (["1,2,30,40", "30,40,1,2"], "the box of object 2, 30, 40, 1, 2, has no pixel"),
    ],
)
def test_describe_says_which_box_cannot_be_used(
    picture: Path, describing: Path, boxes: list[str], message: str
) -> None:
    options = [argument for box in boxes for argument in ("--box", box)]
    code, stdout, stderr = invoke("describe", picture, *options, "--checkpoint", describing)
    assert (code, stdout) == (2, "")
    assert stderr.startswith("grex: ") and message in stderr
    assert stderr.count("\n") == 1


def test_describe_without_a_generation_head(picture: Path, tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    save_checkpoint(ReLA(DESCRIBING.replace(generation_layers=0)), path)
    code, _, stderr = invoke("describe", picture, "--box", "1,2,30,40", "--checkpoint", path)
    assert code == 2
    assert "this checkpoint has no generation head" in stderr
