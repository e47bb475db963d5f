"""What every test process sets before ROS is imported: a domain of its own, this machine only,
large images.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

_ROOT = Path(__file__).resolve().parent.parent

# Two runs on one machine must not hear each other; child processes inherit all of this.
os.environ["ROS_DOMAIN_ID"] = str(random.SystemRandom().randint(1, 100))
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
if os.environ.get("ROS_DISTRO") == "humble":
    os.environ["ROS_LOCALHOST_ONLY"] = "1"  # the same by its older name
_PROFILES = "FASTRTPS" if os.environ.get("ROS_DISTRO") in ("humble", "jazzy") else "FASTDDS"
os.environ.setdefault(f"{_PROFILES}_DEFAULT_PROFILES_FILE", str(_ROOT / "config" / "fastdds.xml"))
os.environ.setdefault("OMP_NUM_THREADS", "2")
# Exports of the model, kept for the next run, and nothing in anybody's home.
os.environ.setdefault("XDG_CACHE_HOME", str(_ROOT / "out" / "cache"))

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("grex_ros", deadline=None)
hypothesis.settings.load_profile("grex_ros")

try:
    import torch
except ImportError:  # the tests that need it say so themselves
    pass
else:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def ros_context() -> Iterator[Any]:
    """A context of rclpy's own kind that no other test shuts down."""
    rclpy = pytest.importorskip("rclpy")
    context = rclpy.context.Context()
    rclpy.init(context=context)
    yield context
    context.try_shutdown()


@pytest.fixture
def make_graph(ros_context: Any) -> Iterator[Callable[..., Any]]:
    """Makes graphs (see tests/ros/graph.py) and takes them down after the test."""
    from tests.ros.graph import Graph

    graphs: list[Graph] = []

    def make(*args: Any, **kwargs: Any) -> Graph:
        graphs.append(Graph(ros_context, *args, **kwargs))
        return graphs[-1]

    yield make
    for graph in graphs:
        graph.close()
