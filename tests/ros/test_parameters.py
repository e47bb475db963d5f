"""Every parameter: described, bounded, checked at start and at change."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from rcl_interfaces.msg import ParameterType
from rclpy.context import Context
from rclpy.exceptions import ParameterException
from rclpy.parameter import Parameter

from grex_ros.model.config import IMAGE_SIZES
from grex_ros.ros.parameters import FIELDS, Settings, descriptor, problem, read
from tests.ros.graph import Graph

MakeGraph = Callable[..., Graph]
ROOT = Path(__file__).resolve().parents[2]
TYPES = {
    float: ParameterType.PARAMETER_DOUBLE,
    int: ParameterType.PARAMETER_INTEGER,
    bool: ParameterType.PARAMETER_BOOL,
    str: ParameterType.PARAMETER_STRING,
}


@pytest.fixture(scope="module")
def idle(ros_context: Context) -> Iterator[Graph]:
    """One unconfigured node; a test leaves values behind that are legal."""
    graph = Graph(ros_context, autostart=False, await_active=False)
    yield graph
    graph.close()


def test_all_are_declared_with_type_default_and_description(make_graph: MakeGraph) -> None:
    idle = make_graph(autostart=False, await_active=False, max_image_age=1.0)
    expected = Settings(autostart=False)
    assert read(idle.node) == expected
    for name in FIELDS:
        described = idle.node.describe_parameter(name)
        assert described.type == TYPES[type(getattr(expected, name))]
        assert described.description.endswith(".")
        assert not described.dynamic_typing
        numeric = isinstance(getattr(expected, name), float | int) and name != "autostart"
        assert bool(described.floating_point_range or described.integer_range) == numeric


@pytest.mark.parametrize("name", [name for name in FIELDS if FIELDS[name].metadata["bounds"]])
def test_edges(name: str, idle: Graph) -> None:
    bounds = FIELDS[name].metadata["bounds"]
    kind = type(FIELDS[name].default)
    step = 1 if kind is int else 1e-3
    for value in bounds:
        assert idle.set(**{name: kind(value)})[0].successful
    for value in (bounds[0] - step, bounds[1] + step):
        answer = idle.set(**{name: kind(value)})[0]
        assert not answer.successful
        assert name in answer.reason
    assert read(idle.node).__dict__[name] == kind(bounds[1])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("target_threshold", float("nan")),
        ("max_image_age", float("inf")),
        ("no_target_threshold", -0.5),
        ("no_target_threshold", -0.001),
        ("image_size", 1),
        ("image_size", 95),
        ("mode", "always"),
        ("mode", ""),
        ("device", "tpu"),
        ("device", "cuda:"),
        ("device", "cuda:0; rm"),
        ("precision", "int8"),
        ("engine", "tensorrt"),
        ("image_transport", "theora"),
    ],
)
def test_refused_values(idle: Graph, name: str, value: object) -> None:
    before = read(idle.node)
    answer = idle.set(**{name: value})[0]
    assert not answer.successful
    assert name in answer.reason
    assert read(idle.node) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mode", "once"),
        ("device", "cuda:1"),
        ("device", "cpu"),
        ("precision", "bfloat16"),
        ("engine", "onnxruntime"),
        ("image_transport", "compressed"),
        ("checkpoint", "/a b/c.safetensors"),
        ("no_target_threshold", -1.0),
        ("no_target_threshold", 0.0),
        ("image_size", 96),
        ("image_size", 448),
    ],
)
def test_accepted_values(idle: Graph, name: str, value: object) -> None:
    assert idle.set(**{name: value})[0].successful
    assert getattr(read(idle.node), name) == value


@pytest.mark.parametrize("value", ["0.5", True])
def test_another_type_is_refused(idle: Graph, value: object) -> None:
    assert not idle.set(target_threshold=value)[0].successful


def test_what_the_model_is_loaded_with_changes_only_while_unconfigured(
    make_graph: MakeGraph,
) -> None:
    graph = make_graph()
    fixed = {
        "checkpoint": "x",
        "device": "cpu",
        "precision": "float32",
        "engine": "torch",
        "image_size": 320,
        "threads": 2,
        "image_transport": "compressed",
    }
    assert set(fixed) == {n for n, f in FIELDS.items() if f.metadata["when"] == "unconfigured"}
    for _ in range(2):  # active, then inactive
        for name, value in fixed.items():
            answer = graph.set(**{name: value})[0]
            assert not answer.successful
            assert "unconfigured" in answer.reason
            assert "ros2 lifecycle set" in answer.reason
        graph.change("deactivate")
    graph.change("cleanup")
    for name, value in fixed.items():
        assert graph.set(**{name: value})[0].successful


def test_the_rest_changes_while_active_except_autostart(make_graph: MakeGraph) -> None:
    graph = make_graph()
    for name, item in FIELDS.items():
        if item.metadata["when"] == "any time":
            assert graph.set(**{name: item.default})[0].successful
    assert not graph.set(autostart=False)[0].successful


def test_a_whole_number_stands_for_a_float_at_start(make_graph: MakeGraph) -> None:
    graph = make_graph(autostart=False, await_active=False, max_rate=5, max_image_age=0)
    settings = read(graph.node)
    assert (settings.max_rate, settings.max_image_age) == (5.0, 0.0)
    assert graph.node.describe_parameter("max_rate").floating_point_range
    assert graph.set(max_rate=7.5)[0].successful


@pytest.mark.parametrize(
    "override",
    [{"target_threshold": 1.5}, {"max_rate": "fast"}, {"mode": "x"}, {"max_rate": -5}],
)
def test_bad_values_at_start_are_refused(
    make_graph: MakeGraph, override: dict[str, object]
) -> None:
    with pytest.raises(ParameterException, match=next(iter(override))):
        make_graph(autostart=False, await_active=False, **override)


def test_a_process_with_a_bad_value_ends_with_one_line() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "grex_ros.ros.node", "--ros-args", "-p", "mode:=sometimes"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert ended.returncode == 1
    assert "mode must be latched or once, not 'sometimes'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_shipped_file_names_every_parameter_with_its_default() -> None:
    text = (ROOT / "config" / "grex.yaml").read_text(encoding="utf-8")
    (values,) = (entry["ros__parameters"] for entry in yaml.safe_load(text).values())
    assert {name: values[name] for name in FIELDS} == Settings().__dict__
    assert set(values) == set(FIELDS)
    lines = text.splitlines()
    for name in FIELDS:
        (at,) = (i for i, line in enumerate(lines) if line.strip().startswith(f"{name}:"))
        assert "#" in lines[at - 1] or "#" in lines[at], f"{name} has no comment"


def test_the_checks_stand_alone() -> None:
    assert all(problem(name, item.default) == "" for name, item in FIELDS.items())
    assert "cuda:N" in problem("device", "gpu")
    assert descriptor("threads").integer_range[0].to_value == 256
    assert descriptor("image_size").integer_range[0].to_value == IMAGE_SIZES[1]
    assert not problem("image_size", IMAGE_SIZES[0])
    assert problem("image_size", IMAGE_SIZES[0] - 1)
    assert Parameter("x", value=1.0).type_ == Parameter.Type.DOUBLE
