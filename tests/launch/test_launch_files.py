"""The launch file: its arguments, read from the source; and the real thing where `launch` is."""

from __future__ import annotations

import ast
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from grex_ros.msg import Grounding as G
from rclpy.context import Context

from tests.ros.color_grounder import picture
from tests.ros.graph import Peer, wait_until

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "launch" / "grex.launch.py"
ARGUMENTS = {
    "namespace",
    "params_file",
    "image_topic",
    "depth_topic",
    "camera_info_topic",
    "command_topic",
    "checkpoint",
    "device",
    "use_sim_time",
    "autostart",
    "log_level",
}


def declared() -> dict[str, dict[str, Any]]:
    """The DeclareLaunchArgument calls of the file: name -> keyword arguments."""
    found = {}
    for node in ast.walk(ast.parse(FILE.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "DeclareLaunchArgument":
            keywords = {str(item.arg): ast.literal_eval(item.value) for item in node.keywords}
            found[ast.literal_eval(node.args[0])] = keywords
    return found


def test_every_argument_is_there_with_a_default_and_a_description() -> None:
    arguments = declared()
    assert set(arguments) == ARGUMENTS
    for name, keywords in arguments.items():
        assert isinstance(keywords["default_value"], str), name
        assert keywords["description"].endswith("."), name
        assert len(keywords["description"]) > 20, name
        if "choices" in keywords:
            assert keywords["default_value"] in keywords["choices"], name


def test_every_argument_is_used() -> None:
    source = FILE.read_text(encoding="utf-8").split("def start(", 1)[1]
    for name in ARGUMENTS:
        topic = name.removesuffix("_topic")
        assert f'"{name}"' in source or f'"{topic}"' in source, name


def test_nothing_is_evaluated_or_fetched_at_launch() -> None:
    names = {
        getattr(node.func, "id", getattr(node.func, "attr", ""))
        for node in ast.walk(ast.parse(FILE.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    assert not names & {"eval", "exec", "system", "run", "Popen", "urlopen"}


# With the real launch system


def launch(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    program = (
        "import sys, launch, launch.launch_description_sources as s;"
        "service = launch.LaunchService(argv=sys.argv[2:]);"
        "source = s.PythonLaunchDescriptionSource(sys.argv[1]);"
        "pairs = [tuple(a.split(':=', 1)) for a in sys.argv[2:]];"
        "service.include_launch_description("
        "launch.actions.IncludeLaunchDescription(source, launch_arguments=pairs));"
        "sys.exit(service.run())"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, str(FILE), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
        cwd=ROOT,
    )


@pytest.fixture
def real_launch() -> None:
    for module in ("launch", "launch_ros", "ament_index_python"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    try:
        get_package_prefix("grex_ros")
    except PackageNotFoundError:
        pytest.skip("grex_ros is not installed")


@pytest.mark.usefixtures("real_launch")
def test_the_description_builds() -> None:
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    source = PythonLaunchDescriptionSource(str(FILE))
    from launch import LaunchContext

    description = source.try_get_launch_description_without_context()
    assert description is not None
    names = {item.name for item in description.get_launch_arguments()}
    assert names == ARGUMENTS
    assert LaunchContext() is not None


@pytest.mark.usefixtures("real_launch")
@pytest.mark.timeout(240)
def test_the_launched_node_answers(ros_context: Context) -> None:
    peer = Peer(ros_context, "/arm")
    process = launch(
        "namespace:=arm", "image_topic:=image", "device:=cpu", "log_level:=info", "autostart:=true"
    )
    try:
        wait_until(lambda: peer.node.count_subscribers("/arm/image") > 0, "activation", 180.0)
        peer.await_images_heard()
        peer.await_commands_heard()
        peer.say("the red cup")
        end = time.monotonic() + 60
        answered = False
        while not answered and time.monotonic() < end:
            peer.show(picture(("red", 8, 8, 20, 16), height=120, width=160))
            time.sleep(0.2)
            while peer.answers.unread():
                answered |= peer.answers.next().status in (G.TARGETS, G.NO_TARGET)
        assert answered
    finally:
        process.send_signal(signal.SIGINT)
        try:
            output, _ = process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        peer.spinning.stop()
    assert "process has finished cleanly" in output, output
    assert "config/grex.yaml" in output


@pytest.mark.usefixtures("real_launch")
def test_a_parameter_file_that_is_not_there_is_named() -> None:
    process = launch("params_file:=/nowhere/grex.yaml")
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "/nowhere/grex.yaml does not exist" in output
