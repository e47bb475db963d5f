"""Weights that are missing or damaged: configure fails, says which file and what to do, and can be
repeated. With the real model and the node's own way of loading it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from grex_ros.msg import Grounding as G
from rclpy.lifecycle import TransitionCallbackReturn

from grex_ros.ros.conversions import to_image
from grex_ros.ros.node import load_grounder
from tests.ros.graph import Graph, result, stderr_in, wait_until
from tests.ros.weights import real_checkpoint

pytest.importorskip("torch")
MakeGraph = Callable[..., Graph]
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@pytest.mark.timeout(240)
def test_from_missing_to_damaged_to_good(
    make_graph: MakeGraph, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good = real_checkpoint(tmp_path)
    missing, damaged, text = (tmp_path / name for name in ("missing.st", "damaged.st", "text.st"))
    shutil.copy(good, damaged)
    with damaged.open("r+b") as file:
        file.truncate(good.stat().st_size // 2)
    text.write_text("not weights")
    graph = make_graph(
        load_grounder, autostart=False, await_active=False, device="cpu", max_image_age=0.0
    )
    for path in (missing, damaged, text, tmp_path):
        assert graph.set(checkpoint=str(path))[0].successful
        capfd.readouterr()
        assert graph.change("configure") == FAILURE
        lines = [line for line in capfd.readouterr().err.splitlines() if "[ERROR]" in line]
        assert len(lines) == 1
        assert str(path) in lines[0]
        assert ";" in lines[0]  # the file, what is wrong with it; what to do
        assert graph.node.state == "unconfigured"
    call = graph.peer.ask("the cup")
    assert result(call).grounding.status == G.ERROR

    assert graph.set(checkpoint=str(good))[0].successful
    assert graph.change("configure") == SUCCESS
    assert graph.change("activate") == SUCCESS
    graph.await_active()
    graph.say("the red cup")
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    graph.peer.show(noise)
    answer = graph.answers.next(60)
    assert answer.status in (G.TARGETS, G.NO_TARGET)
    assert answer.model.partition("@")[2] != ""

    # The smallest, the oddest and the largest images through the real model.
    for height, width, statuses in [
        (1, 1, (G.INVALID_IMAGE,)),
        (16, 16, (G.TARGETS, G.NO_TARGET)),
        (17, 1001, (G.TARGETS, G.NO_TARGET)),
        (4320, 7680, (G.TARGETS, G.NO_TARGET)),
        (48, 64, (G.TARGETS, G.NO_TARGET)),
    ]:
        image = to_image(np.full((height, width, 3), 127, np.uint8), graph.peer.header())
        graph.peer.send(image)
        answer = graph.answers.next(60)
        assert answer.header == image.header
        assert answer.status in statuses, answer.status_message


@pytest.mark.parametrize(
    ("parameters", "words"),
    [({"device": "cuda:7"}, "cuda:7"), ({"precision": "float16", "device": "cpu"}, "float16")],
)
def test_a_device_or_precision_that_is_not_there(
    make_graph: MakeGraph,
    tmp_path: Path,
    parameters: dict[str, str],
    words: str,
) -> None:
    import torch

    if torch.cuda.device_count() > 7:
        pytest.skip("eight GPUs are there")
    with stderr_in(tmp_path) as errors:
        graph = make_graph(load_grounder, await_active=False, **parameters)
        wait_until(lambda: "waits unconfigured" in errors(), "the node's last word", 30)
        assert words in errors()
        assert "Traceback" not in errors()
    assert graph.node.state == "unconfigured"
