"""An off-screen OpenGL context: EGL, else OSMesa."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

BACKENDS = ("egl", "osmesa")


class RenderingUnavailable(RuntimeError):
    """There is no OpenGL stack that can draw without a screen."""


def open_context(width: int, height: int) -> Any:
    """A current GL context.

    Takes what the environment variable MUJOCO_GL names (egl or osmesa), else tries both. Raises
    RenderingUnavailable with a one-line reason.
    """
    asked = os.environ.get("MUJOCO_GL", "").strip().lower()
    reasons = []
    for backend in (asked,) if asked in BACKENDS else BACKENDS:
        try:
            context = _open(backend, width, height)
        except Exception as error:  # PyOpenGL fails with whatever the missing library leaves it
            reasons.append(f"{backend}: {' '.join(str(error).split()) or type(error).__name__}")
        else:
            os.environ["MUJOCO_GL"] = backend  # MuJoCo loads its GL functions by this name
            return context
    raise RenderingUnavailable(
        f"no OpenGL without a screen ({'; '.join(reasons)}); install libegl1 and libgl1-mesa-dri,"
        " or libosmesa6"
    )


def import_mujoco() -> Any:
    """The mujoco module; its own choice of a GL backend, which may fail, is put aside."""
    if "mujoco" in sys.modules:
        return sys.modules["mujoco"]
    asked = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = "disabled"
    try:
        return importlib.import_module("mujoco")
    finally:
        if asked is None:
            del os.environ["MUJOCO_GL"]
        else:
            os.environ["MUJOCO_GL"] = asked


def _open(backend: str, width: int, height: int) -> Any:
    import_mujoco()
    if os.environ.get("PYOPENGL_PLATFORM", backend) != backend:
        # PyOpenGL binds to one platform at its first import; a failed one must not stay
        for name in [n for n in sys.modules if n.split(".")[0] == "OpenGL"]:
            del sys.modules[name]
        for other in BACKENDS:
            sys.modules.pop(f"mujoco.{other}", None)
            sys.modules.pop("mujoco.egl.egl_ext", None)
    os.environ["PYOPENGL_PLATFORM"] = backend
    context = importlib.import_module(f"mujoco.{backend}").GLContext(width, height)
    context.make_current()
    return context
