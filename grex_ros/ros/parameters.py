"""The node's parameters: declared in one table, checked at every change, read as one frozen
snapshot.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.node import Node
from rclpy.parameter import Parameter

_PACKAGED = "the weights in the package"


def _parameter(
    default: Any,
    description: str,
    *,
    bounds: tuple[float, float] | None = None,
    gap: tuple[float, float] | None = None,
    choices: str = "",
    constraints: str = "",
    when: str = "any time",
) -> Any:
    """A field of Settings. What lies between ``bounds`` can be set, but not what lies between the
    ends of ``gap``; ``choices`` is a regular expression; ``when`` is "any time", "unconfigured" or
    "start".
    """
    metadata = {
        "bounds": bounds,
        "gap": gap,
        "choices": choices,
        "constraints": constraints,
        "when": when,
    }
    return field(default=default, metadata={"description": description, **metadata})


@dataclass(frozen=True)
class Settings:
    """All parameters at one moment. Ages, periods and time-outs in seconds, rates in Hz."""

    target_threshold: float = _parameter(
        0.5, "Least score of an object that is reported.", bounds=(0.0, 1.0)
    )
    mask_threshold: float = _parameter(
        0.5, "Least probability of a pixel that belongs to an object's mask.", bounds=(0.0, 1.0)
    )
    no_target_threshold: float = _parameter(
        -1.0,
        "No-target score from which on the answer is NO_TARGET; -1 = what the checkpoint was tuned"
        " to.",
        bounds=(-1.0, 1.0),
        gap=(-1.0, 0.0),
        constraints="-1 or between 0 and 1",
    )
    max_image_age: float = _parameter(
        1.0,
        "An image older than this is answered STALE_IMAGE, seconds; 0 = no limit.",
        bounds=(0.0, 3600.0),
    )
    max_rate: float = _parameter(
        0.0,
        "At most this many frames are grounded in a second, Hz; 0 = as many as the model manages.",
        bounds=(0.0, 1000.0),
    )
    mode: str = _parameter(
        "latched",
        "latched: a command stays in force and every frame is answered. once: a command is"
        " answered once.",
        choices="latched|once",
        constraints="latched or once",
    )
    service_timeout: float = _parameter(
        5.0,
        "How long ~/ground and ~/describe wait for a camera frame if the request holds no image,"
        " seconds.",
        bounds=(0.1, 60.0),
    )
    checkpoint: str = _parameter(
        "", f"Path of the weights, a .safetensors file; empty = {_PACKAGED}.", when="unconfigured"
    )
    device: str = _parameter(
        "auto",
        "Where the model runs; auto = a GPU where there is one.",
        choices=r"auto|cpu|cuda(:\d+)?",
        constraints="auto, cpu, cuda, or cuda:N",
        when="unconfigured",
    )
    precision: str = _parameter(
        "auto",
        "Number format of the model; auto = float16 on a GPU, float32 on a CPU.",
        choices="auto|float32|float16|bfloat16",
        constraints="auto, float32, float16 or bfloat16",
        when="unconfigured",
    )
    engine: str = _parameter(
        "auto",
        "What runs the model; auto = on a CPU ONNX Runtime or OpenVINO, if it is installed and"
        " gives torch's numbers, else torch. compile: on a GPU torch.compile, which takes a minute"
        " or more when the node is configured.",
        choices="auto|torch|compile|onnxruntime|openvino",
        constraints="auto, torch, compile, onnxruntime or openvino",
        when="unconfigured",
    )
    on_out_of_memory: str = _parameter(
        "cpu",
        "What the model does, for good, when the GPU's memory runs out, before the same image is"
        " tried once more. cpu: moves to the CPU. lower_precision: from float32 to half of it."
        " error: nothing; the answer is ERROR.",
        choices="cpu|lower_precision|error",
        constraints="cpu, lower_precision or error",
    )
    image_size: int = _parameter(
        0,
        "Longer side at which the model sees images, pixels: fewer are faster, more show smaller"
        " objects; 0 = as the checkpoint says.",
        bounds=(0, 1280),
        gap=(0, 96),
        constraints="0 or between 96 and 1280",
        when="unconfigured",
    )
    threads: int = _parameter(
        0, "CPU threads of the model; 0 = torch's own choice.", bounds=(0, 256), when="unconfigured"
    )
    image_transport: str = _parameter(
        "raw",
        "raw: `image` is subscribed (sensor_msgs/Image). compressed: `image/compressed`"
        " (sensor_msgs/CompressedImage).",
        choices="raw|compressed",
        constraints="raw or compressed",
        when="unconfigured",
    )
    autostart: bool = _parameter(
        True, "Configure and activate at start, without a lifecycle manager.", when="start"
    )


_KINDS = {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}
FIELDS: dict[str, dataclasses.Field[Any]] = {
    item.name: item for item in dataclasses.fields(Settings)
}
DEFAULTS: dict[str, Any] = dataclasses.asdict(Settings())


def descriptor(name: str) -> ParameterDescriptor:
    """What `ros2 param describe` shows for a parameter of Settings."""
    item = FIELDS[name]
    about = item.metadata
    changes = {
        "any time": "",
        "unconfigured": " Changes only while unconfigured.",
        "start": " Read at start.",
    }
    described = ParameterDescriptor(
        name=name,
        description=about["description"] + changes[about["when"]],
        additional_constraints=about["constraints"],
        read_only=about["when"] == "start",
    )
    if about["bounds"]:
        low, high = about["bounds"]
        if isinstance(item.default, int):
            described.integer_range = [IntegerRange(from_value=low, to_value=high, step=0)]
        else:
            described.floating_point_range = [
                FloatingPointRange(from_value=low, to_value=high, step=0.0)
            ]
    return described


def problem(name: str, value: Any) -> str:
    """Why ``value`` cannot be the parameter's, as a sentence; empty if it can.

    A whole number may stand for a float.
    """
    about, kind = FIELDS[name].metadata, type(DEFAULTS[name])
    if type(value) is not kind and not (kind is float and type(value) is int):
        return f"{name} must be {_KINDS[kind]}, not {value!r}."
    if about["choices"] and not re.fullmatch(about["choices"], str(value)):
        return f"{name} must be {about['constraints']}, not {value!r}."
    if about["bounds"]:
        low, high = about["bounds"]
        below, above = about["gap"] or (low, low)
        inside = low <= value <= high and not below < value < above
        if not inside:  # NaN is never inside
            allowed = about["constraints"] or f"between {low:g} and {high:g}"
            return f"{name} must be {allowed}, not {value!r}."
    return ""


def declare(node: Node, is_unconfigured: Callable[[], bool]) -> None:
    """Declare every parameter and check all later changes.

    Raises an exception of rclpy.exceptions, with a sentence, if a value given at start is of a
    wrong type or refused.
    """

    def check(parameters: Iterable[Parameter[Any]]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name not in FIELDS:
                continue
            if FIELDS[parameter.name].metadata["when"] == "unconfigured" and not is_unconfigured():
                reason = (
                    f"{parameter.name} changes only while the node is unconfigured, because the"
                    " model is loaded with it; first run: ros2 lifecycle set"
                    f" {node.get_fully_qualified_name()} deactivate, then cleanup."
                )
                return SetParametersResult(successful=False, reason=reason)
            if reason := problem(parameter.name, parameter.value):
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(check)
    for name, item in FIELDS.items():
        try:
            node.declare_parameter(name, item.default, descriptor(name))
        except InvalidParameterTypeException:
            if not isinstance(item.default, float):
                raise
            _declare_from_integer(node, name)


def _declare_from_integer(node: Node, name: str) -> None:
    """Take `max_rate: 5` for 5.0, as a person who writes a parameter file means it."""
    node.declare_parameter(name, None, ParameterDescriptor(dynamic_typing=True))
    value = node.get_parameter(name).value
    node.undeclare_parameter(name)
    node.declare_parameter(name, float(value), descriptor(name), ignore_override=True)


def read(node: Node) -> Settings:
    """The parameters as they are now."""
    return Settings(**{name: node.get_parameter(name).value for name in FIELDS})
