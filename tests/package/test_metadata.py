"""package.xml, CMakeLists.txt, setup.py and requirements say the same."""

from __future__ import annotations

import ast
import re
import runpy
import sys
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
import setuptools
from packaging.requirements import Requirement

from tests.package.source_imports import ROOT, imported_modules, source_files

PACKAGE = ElementTree.parse(ROOT / "package.xml").getroot()
CMAKE = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")

# module -> rosdep key, where they differ; None = only for training, or a robot can go without
ROSDEP_KEYS = {
    "numpy": "python3-numpy",
    "cv2": "python3-opencv",
    "torch": "python3-pytorch-pip",
    "transformers": "python3-transformers-pip",
    "safetensors": "python3-transformers-pip",
    "PIL": "python3-pil",
    "typer": "python3-typer",
    "rich": "python3-rich",
    "ament_index_python": "ament_index_python",
    "mujoco": None,
    "nltk": None,
    "onnx": None,
    "onnxruntime": None,
    "openvino": None,
    "pycocoevalcap": None,
    "pycocotools": None,
    "rosbags": None,
}


def dependencies(*tags: str) -> set[str]:
    """The texts of package.xml's elements of these kinds."""
    return {element.text or "" for tag in tags for element in PACKAGE.findall(tag)}


@pytest.fixture(scope="module")
def setup_arguments() -> dict[str, Any]:
    """What setup.py hands to setuptools; nothing is built."""
    received: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", received.update)
        patch.setattr(sys, "path", list(sys.path))
        runpy.run_path(str(ROOT / "setup.py"))
    return received


def test_one_name_and_one_version(setup_arguments: dict[str, Any]) -> None:
    assert re.search(r"^project\((\w+)\)", CMAKE, re.MULTILINE)[1] == "grex_ros"
    assert PACKAGE.findtext("name") == setup_arguments["name"] == "grex_ros"
    assert PACKAGE.findtext("version") == setup_arguments["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", setup_arguments["version"])


def test_the_licence_is_the_file() -> None:
    licence = PACKAGE.find("license")
    assert (ROOT / licence.attrib["file"]).read_text().startswith(f"{licence.text} License")


def test_every_interface_is_built() -> None:
    call = re.search(r"rosidl_generate_interfaces\((.*?)\)", CMAKE, re.DOTALL)[1]
    files = {
        str(path.relative_to(ROOT))
        for folder in ("msg", "srv")
        for path in (ROOT / folder).iterdir()
    }
    assert set(re.findall(r'"(.+?)"', call)) == files
    packages = call.split("DEPENDENCIES")[1].split()
    assert set(packages) <= dependencies("depend")
    for package in packages:
        assert f"find_package({package} REQUIRED)" in CMAKE


def test_colcon_takes_it_for_one_cmake_package() -> None:
    assert PACKAGE.findtext("export/build_type") == "ament_cmake"
    assert PACKAGE.findtext("member_of_group") == "rosidl_interface_packages"
    assert (ROOT / "interfaces" / "COLCON_IGNORE").exists()
    nested = {str(path.relative_to(ROOT)) for path in ROOT.glob("*/**/package.xml")}
    assert not {name for name in nested if name.split("/")[0] in ("interfaces", "training", "msg")}


def test_colcon_runs_tests_that_are_there() -> None:
    folders = re.search(r"foreach\(folder (contract [a-z ]+)\)", CMAKE)[1].split()
    for folder in folders:
        assert list((ROOT / "tests" / folder).glob("test_*.py")), folder


def test_every_import_of_the_robot_is_a_dependency() -> None:
    """What grex_ros and the launch files import is named in package.xml."""
    imported = {
        name.split(".")[0]
        for folder in ("grex_ros", "launch")
        for path in source_files(folder)
        for name in imported_modules(path)
    }
    foreign = imported - set(sys.stdlib_module_names) - {"grex_ros"}
    keys = {ROSDEP_KEYS.get(module, module) for module in foreign} - {None}
    assert keys <= dependencies("depend", "exec_depend")


def test_every_script_starts_something_that_is_there(setup_arguments: dict[str, Any]) -> None:
    targets = [
        entry.split(" = ")[1].split(":")
        for entry in setup_arguments["entry_points"]["console_scripts"]
    ]
    for script in (ROOT / "scripts").iterdir():
        shebang, code = script.read_text(encoding="utf-8").split("\n", 1)
        assert shebang == "#!@GREX_ROS_INTERPRETER@"
        statement = ast.parse(code).body[0]
        assert isinstance(statement, ast.ImportFrom)
        targets.append([statement.module or "", statement.names[0].name])
    assert len(targets) >= 4
    for module, name in targets:
        tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assigned = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        assert name in defined | assigned, f"{module} has no {name}"


def test_the_pins_lie_in_the_ranges(setup_arguments: dict[str, Any]) -> None:
    """What is run here is something that users are told to be able to run."""
    pins = {}
    for file in ("base.txt", "dev.txt"):
        for line in (ROOT / "requirements" / file).read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                requirement = Requirement(line)
                pins[requirement.name] = requirement.specifier
    extras = setup_arguments["extras_require"]
    ranges = [*setup_arguments["install_requires"], *extras["demo"], *extras["train"]]
    for text in ranges:
        requirement = Requirement(text)
        assert requirement.name in pins, f"{text} is in no requirements file"
        for pin in pins[requirement.name]:
            assert pin.version in requirement.specifier


def test_the_robot_gets_what_rosdep_has_no_key_for(setup_arguments: dict[str, Any]) -> None:
    """A robot has the dependencies from package.xml and requirements/robot.txt, and no others."""
    lines = (ROOT / "requirements" / "robot.txt").read_text(encoding="utf-8").splitlines()
    from_pip = {line for line in lines if line and not line.startswith("#")}
    names = {"opencv-python-headless": "python3-opencv", "pillow": "python3-pil"}
    for text in setup_arguments["install_requires"]:
        name = Requirement(text).name
        key = names.get(name) or ROSDEP_KEYS.get(name, name)
        assert key in dependencies("exec_depend") or text in from_pip, text


def test_torchvision_is_never_installed_by_default(setup_arguments: dict[str, Any]) -> None:
    """It cannot be imported beside a CPU build of torch and then breaks transformers."""
    files = "".join(path.read_text() for path in (ROOT / "requirements").glob("*.txt"))
    assert "torchvision" not in re.sub(r"#.*", "", files)
    assert not any("torchvision" in text for text in setup_arguments["install_requires"])
    assert any("torchvision" in text for text in setup_arguments["extras_require"]["gpu"])
