"""Imports run one way, and each part keeps to its libraries."""

from __future__ import annotations

import sys

import pytest

from tests.package.source_imports import imported_modules, module_name, part_of, source_files

# part -> the parts it may import. What is not named here may import nothing of ours.
MAY_IMPORT = {
    "model": set(),
    "metrics": set(),
    "scenes": set(),
    "grounding": {"model"},
    "ros": {"grounding", "msg", "srv"},
    "demo": {"grounding", "ros", "scenes", "msg", "srv"},
    "doctor_echo": {"msg", "srv"},
    "doctor": {"doctor_echo", "grounding", "model", "msg", "srv"},
    "benchmark": {"grounding", "model"},
    "reports": {"model"},
    "cli_input": {"grounding"},
    "cli_describe": {"cli_input", "grounding"},
    "cli": {
        *("benchmark", "demo", "doctor", "grounding", "model", "reports"),
        *("cli_input", "cli_describe"),
    },
    "training": {"model", "metrics", "scenes", "grounding"},
}
OUR_PARTS = {*MAY_IMPORT, "msg", "srv"}

# part -> libraries that are all it may use beside the standard library; None = ROS, too.
LIBRARIES: dict[str, set[str] | None] = {
    "model": {
        *("torch", "numpy", "transformers", "safetensors"),
        *("onnx", "onnxruntime", "openvino"),
    },
    "metrics": {"numpy", "pycocotools", "pycocoevalcap", "nltk"},
    "scenes": {"numpy", "cv2", "mujoco"},
    "grounding": {"torch", "numpy", "cv2", "PIL"},
    "benchmark": {"torch", "numpy", "cv2", "rich"},
    "reports": {"rich"},
    "cli_input": {"numpy", "cv2", "typer"},
    "cli_describe": {"typer"},
    "cli": {"numpy", "cv2", "typer", "rich"},
    "training": {
        *("torch", "numpy", "cv2", "scipy", "accelerate", "safetensors", "yaml", "typer", "rich"),
        *("pycocotools", "matplotlib", "PIL", "onnxruntime"),
    },
    "ros": None,
    "demo": None,
    "doctor": None,
    "doctor_echo": None,
}

SOURCES = [path for folder in ("grex_ros", "training") for path in source_files(folder)]


def test_every_part_has_a_rule() -> None:
    """A new folder or module of grex_ros needs a place in the order."""
    parts = {part_of(module_name(path)) for path in SOURCES} - {"grex_ros"}
    assert parts == set(MAY_IMPORT) == set(LIBRARIES)


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_run_one_way(path) -> None:
    own = part_of(module_name(path))
    ours = {
        part_of(name)
        for name in imported_modules(path)
        if name.split(".")[0] in ("grex_ros", "training", "tests", "tools")
    } & (OUR_PARTS | {"tests", "tools"})
    assert ours - {own} <= MAY_IMPORT.get(own, set())


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_each_part_keeps_to_its_libraries(path) -> None:
    allowed = LIBRARIES.get(part_of(module_name(path)), set())
    if allowed is None:
        return
    used = {name.split(".")[0] for name in imported_modules(path)}
    foreign = used - set(sys.stdlib_module_names) - {"grex_ros", "training"}
    assert foreign <= allowed


def test_the_order_has_no_circle() -> None:
    """The table itself runs one way: parts can be sorted so that each imports only earlier ones."""
    settled = {"msg", "srv"}
    while len(settled) < len(OUR_PARTS):
        free = {part for part, needs in MAY_IMPORT.items() if needs <= settled} - settled
        assert free, f"a circle among {OUR_PARTS - settled}"
        settled |= free
