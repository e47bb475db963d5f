"""The messages as planners see them: constants, fields and type hashes."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

from grex_ros.grounding.objects import Status
from tests.package.source_imports import ROOT

CONSTANT = re.compile(r"^uint8 ([A-Z_]+)=(\d+)$", re.MULTILINE)


def share_folder(package: str) -> Path:
    """Where a package keeps its files: in a sourced workspace, or in the virtual environment."""
    prefixes = os.environ.get("AMENT_PREFIX_PATH", sys.prefix).split(os.pathsep)
    folders = [Path(prefix) / "share" / package for prefix in prefixes]
    return next(folder for folder in folders if folder.is_dir())


def test_the_message_has_the_states_of_the_library() -> None:
    definition = (ROOT / "msg" / "Grounding.msg").read_text(encoding="utf-8")
    constants = {name: int(value) for name, value in CONSTANT.findall(definition)}
    assert constants == {status.name: status.value for status in Status}
    assert constants["UNKNOWN"] == 0


def test_the_built_message_is_the_one_in_this_checkout() -> None:
    """Catches a stale build: constants and fields of the generated class equal the definition's."""
    messages = pytest.importorskip("grex_ros.msg")
    for name in ("Grounding", "GroundedObject"):
        built = getattr(messages, name)
        definition = (ROOT / "msg" / f"{name}.msg").read_text(encoding="utf-8")
        for constant, value in CONSTANT.findall(definition):
            assert getattr(built, constant) == int(value)
        lines = [line for line in definition.splitlines() if line and line[0] != "#"]
        fields = [line.split()[1] for line in lines if "=" not in line]
        assert list(built.get_fields_and_field_types()) == fields


def test_a_fresh_answer_says_unknown() -> None:
    messages = pytest.importorskip("grex_ros.msg")
    assert messages.Grounding().status == messages.Grounding.UNKNOWN
    assert messages.GroundedObject().has_pose is False


@pytest.mark.parametrize(
    ("message", "hash_string"),
    [
        (
            "Detection2DArray",
            "RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
        ),
        ("LabelInfo", "RIHS01_3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783"),
    ],
)
def test_our_vision_msgs_can_talk_to_upstreams(message: str, hash_string: str) -> None:
    """The hashes are those of vision_msgs 4.1.1 as its maintainers release it."""
    description = share_folder("vision_msgs") / "msg" / f"{message}.json"
    if not description.exists():
        pytest.skip("this ROS 2 has no type hashes yet")
    hashes = json.loads(description.read_text(encoding="utf-8"))["type_hashes"]
    assert {h["type_name"]: h["hash_string"] for h in hashes}[
        f"vision_msgs/msg/{message}"
    ] == hash_string


def test_the_definitions_are_found_where_they_were_built() -> None:
    """`ros2 interface show` and bag tools read the .msg files from share/."""
    share = share_folder("grex_ros")
    for file in (
        "msg/Grounding.msg",
        "msg/GroundedObject.msg",
        "srv/Describe.srv",
        "srv/Ground.srv",
    ):
        assert (share / file).read_bytes() == (ROOT / file).read_bytes()
