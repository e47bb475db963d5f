#!/usr/bin/env python3
"""Build ROS interfaces into the virtual environment that runs this file (ROS 2 from wheels).

python tools/build_interfaces.py vision_msgs interfaces/vision_msgs std_msgs geometry_msgs
    generates the package vision_msgs from the definitions in a folder; does nothing where the
    real one is found
python tools/build_interfaces.py .
    builds this repository's messages and links its launch files and scripts; the Python files
    stay in the checkout
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

PACKAGE_XML = """<?xml version="1.0"?>
<package format="3">
  <name>{name}</name>
  <version>{version}</version>
  <description>Interfaces of {name}</description>
  <maintainer email="maintainers@grex-ros.example">grex_ros maintainers</maintainer>
  <license>MIT</license>
  <member_of_group>rosidl_interface_packages</member_of_group>
</package>
"""

CMAKE_LISTS = """cmake_minimum_required(VERSION 3.22)
project({name})
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
{find_packages}
rosidl_generate_interfaces({name} {files} DEPENDENCIES {dependencies})
ament_export_dependencies(rosidl_default_runtime)
ament_package()
"""


class BuildError(RuntimeError):
    """A build step failed; the message holds the end of its output."""


def run_cmake(source: Path, build: Path, prefix: Path, definitions: Mapping[str, str]) -> None:
    """Configure, build and install a package that generates interfaces against the ROS wheels.

    Raises BuildError with the end of the output of the step that failed. All output goes to
    ``build.log`` in the build folder.
    """
    environment = dict(os.environ)
    environment["AMENT_PREFIX_PATH"] = sys.prefix
    environment["CMAKE_PREFIX_PATH"] = sys.prefix
    environment["PATH"] = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{environment.get('PATH', '')}"
    settings = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_INSTALL_PREFIX": str(prefix),
        "CMAKE_PROJECT_INCLUDE": str(ROOT / "cmake" / "ros_wheels.cmake"),
        "Python3_EXECUTABLE": sys.executable,
        "BUILD_TESTING": "OFF",
        **definitions,
    }
    steps = (
        ["cmake", "-S", str(source), "-B", str(build), "-G", "Ninja"]
        + [f"-D{key}={value}" for key, value in settings.items()],
        ["cmake", "--build", str(build)],
        ["cmake", "--install", str(build)],
    )
    build.mkdir(parents=True, exist_ok=True)
    log_path = build / "build.log"
    with log_path.open("w+", encoding="utf-8", errors="replace") as log:
        for step in steps:
            # The installer of symbolic links leaves its list in the working folder.
            done = subprocess.run(
                step, cwd=build, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
            if done.returncode:
                log.seek(0)
                end = "".join(log.readlines()[-40:])
                raise BuildError(f"{end}\n{' '.join(step[:2])} failed; all of it is in {log_path}")


def generate(name: str, folder: Path, dependencies: Sequence[str], version: str = "4.1.1") -> None:
    """Generate the package ``name`` from the .msg and .srv files in the folders of ``folder``."""
    found = (*folder.glob("msg/*.msg"), *folder.glob("srv/*.srv"))
    files = sorted(path.relative_to(folder) for path in found)
    if not files:
        raise BuildError(f"{folder} holds no .msg and no .srv file")
    with tempfile.TemporaryDirectory(prefix=f"{name}_") as temporary:
        source = Path(temporary) / name
        for file in files:
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            (source / file).write_bytes((folder / file).read_bytes())
        (source / "package.xml").write_text(PACKAGE_XML.format(name=name, version=version))
        cmake_lists = CMAKE_LISTS.format(
            name=name,
            files=" ".join(f'"{file.as_posix()}"' for file in files),
            dependencies=" ".join(dependencies),
            find_packages="\n".join(f"find_package({other} REQUIRED)" for other in dependencies),
        )
        (source / "CMakeLists.txt").write_text(cmake_lists)
        run_cmake(source, Path(temporary) / "build", Path(sys.prefix), {})


def installed_elsewhere(name: str) -> bool:
    """True if a package of this name is found that was not generated into this environment."""
    spec = importlib.util.find_spec(name)
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    return any(not Path(place).is_relative_to(sys.prefix) for place in places)


def build_checkout() -> None:
    """Build this repository's messages into this environment, which then runs the checkout."""
    definitions = {
        "AMENT_CMAKE_SYMLINK_INSTALL": "ON",
        "GREX_ROS_PYTHON_FROM_CHECKOUT": "ON",
        "GREX_ROS_INTERPRETER": sys.executable,
    }
    run_cmake(ROOT, Path(sys.prefix) / "build" / "grex_ros", Path(sys.prefix), definitions)


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; 0 if it was done or was there already."""
    if sys.prefix == sys.base_prefix:
        print("run this with the Python of a virtual environment", file=sys.stderr)
        return 2
    try:
        if list(arguments) == ["."]:
            build_checkout()
        elif len(arguments) >= 2:
            name, folder, *dependencies = arguments
            if not installed_elsewhere(name):
                generate(name, Path(folder).resolve(), dependencies)
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
