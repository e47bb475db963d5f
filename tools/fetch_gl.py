#!/usr/bin/env python3
"""See to it that MuJoCo can render in this virtual environment, without root and without a screen.

Does nothing where EGL or OSMesa work already. Otherwise takes Mesa's software renderer, and those
of its libraries that the machine lacks, from the machine's own apt sources and unpacks them into
the environment's ``lib`` folder, which the ROS wheels put into the library path of each of its
Pythons. The scenes' renderer falls back to OSMesa by itself.

Exits 0 if rendering works afterwards; otherwise prints one line and exits 1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BACKENDS = ("egl", "osmesa")

RENDER = """
import mujoco
box = "<geom type='box' size='1 1 1' rgba='1 0 0 1'/>"
model = mujoco.MjModel.from_xml_string(
    f"<mujoco><worldbody><light pos='0 0 3'/>{box}</worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 24, 32) as renderer:
    renderer.update_scene(data)
    raise SystemExit(int(renderer.render().max() == 0))
"""


class FetchError(RuntimeError):
    """The libraries are not to be had; the message is one line for a person."""


def renders(backend: str) -> bool:
    """True if this MUJOCO_GL backend draws a lit box, in a process of its own: drivers crash."""
    environment = {key: value for key, value in os.environ.items() if key != "PYOPENGL_PLATFORM"}
    environment["MUJOCO_GL"] = backend
    try:
        run = subprocess.run(
            [sys.executable, "-c", RENDER],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=120,
        )
    except subprocess.TimeoutExpired:
        return False
    return run.returncode == 0


def run(command: list[str]) -> None:
    """Run a command quietly; raises FetchError with the last line it wrote."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        lines = done.stdout.strip().splitlines() or ["no output"]
        raise FetchError(f"{command[0]} failed: {lines[-1]}")


def fetch(library_folder: Path) -> None:
    """Put libOSMesa, and what it needs that is not installed here, into a folder.

    Raises FetchError.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise FetchError("there is no apt-get to take Mesa from")
    with tempfile.TemporaryDirectory(prefix="grex_gl_") as temporary:
        lists, cache, tree = (Path(temporary) / name for name in ("lists", "cache", "tree"))
        (lists / "partial").mkdir(parents=True)
        (cache / "archives" / "partial").mkdir(parents=True)
        # apt's own lists and cache belong to root and may be empty or old. The list of installed
        # packages is the machine's own.
        apt = ["apt-get", "-qq", "-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache}"]
        apt += ["-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="]
        run([*apt, "update"])
        run([*apt, "install", "--yes", "--no-install-recommends", "--download-only", "libosmesa6"])
        for archive in sorted((cache / "archives").glob("*.deb")):
            if not archive.name.startswith("libc6_"):  # must fit the loader that is running
                run(["dpkg", "-x", str(archive), str(tree)])
        libraries = [path for path in tree.rglob("lib*.so*") if path.is_file()]
        if not any(path.name.startswith("libOSMesa.so") for path in libraries):
            raise FetchError("libosmesa6 holds no libOSMesa")
        for path in libraries:
            place_library(path, library_folder / path.name)
            if path.name.startswith("libOSMesa.so."):  # PyOpenGL asks for the plain name
                place_library(path, library_folder / "libOSMesa.so")


def place_library(path: Path, target: Path) -> None:
    """Copy a library; another name of a library becomes a link beside it."""
    target.unlink(missing_ok=True)
    real = path.resolve().name
    if real == target.name:
        shutil.copy2(path, target)
    else:
        target.symlink_to(real)


def main() -> int:
    """Find or fetch a renderer; 0 if there is one."""
    if any(renders(backend) for backend in BACKENDS):
        return 0
    try:
        fetch(Path(sys.prefix) / "lib")
    except FetchError as error:
        print(f"grex_ros: no renderer: {error}", file=sys.stderr)
        return 1
    if not renders("osmesa"):
        print("grex_ros: no renderer: Mesa was fetched, but does not draw", file=sys.stderr)
        return 1
    print("grex_ros: fetched OSMesa, to draw without a graphics driver")
    return 0


if __name__ == "__main__":
    sys.exit(main())
