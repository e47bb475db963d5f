"""How long an answer takes, and where the time goes: ``grex benchmark``.

Medians over runs after a warm-up. End to end is from a picture (uint8, RGB) to masks and boxes.
Stages are timed in runs of their own, because waiting for the GPU after each of them costs time.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from grex_ros.grounding.device import check_precision, choose_device
from grex_ros.grounding.grounder import Grounder
from grex_ros.grounding.reading import Thresholds
from grex_ros.model.config import RelaConfig
from grex_ros.model.engines import EXPORTED, export_once, is_installed, missing
from grex_ros.model.rela import ReLA
from grex_ros.model.text_encoder import tokenizer_for

WARM_UP = 3
EXPRESSION = "all yellow bananas"
EXAMPLE = Path(__file__).with_name("benchmark.jpg")  # a scene of `grex demo` with two of them
MORE = 8  # expressions asked at once
BUSY = """
import os
parent = os.getppid()
while os.getppid() == parent:
    sum(range(10_000))
"""

FIRST = "first expression (new words)"
FRAME = "next frame, same words"
FURTHER = "further expression (new words)"
AGAIN = "further expression (known words)"
BATCH = f"{MORE} expressions at once, each"


@dataclass(frozen=True)
class Timing:
    """Milliseconds over all runs."""

    median: float
    least: float
    most: float

    @staticmethod
    def of(seconds: list[float]) -> Timing:
        """Of a list of durations in seconds."""
        numbers = [1000 * s for s in seconds]
        return Timing(statistics.median(numbers), min(numbers), max(numbers))


@dataclass(frozen=True)
class Benchmark:
    """What was measured, and on what."""

    model: str
    engine: str
    parameters: int
    device: str
    precision: str
    threads: int
    busy: int  # other processes that computed meanwhile
    torch: str
    runs: int
    image: tuple[int, int]  # height, width
    image_size: int  # longer side at which the model sees it
    objects: int  # that the first expression means, by the model: each mask takes its time
    end_to_end: dict[str, Timing]
    stages: dict[str, Timing]
    peak_memory: int  # bytes: of the GPU where the model is on one, else of the process

    def to_record(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def use_threads(threads: int) -> None:
    """Before a model is loaded: how many CPU threads it has; 0 = torch's own choice."""
    if threads:
        torch.set_num_threads(threads)


@contextmanager
def busy_processes(number: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many other processes compute without a pause during the block: a robot's cores are shared
    with its camera, planner and controllers."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(number)]
    try:
        yield others
    finally:
        for other in others:
            other.kill()
            other.wait()


def random_grounder(
    preset: str, device: str, precision: str, engine: str = "torch", image_size: int = 0
) -> Grounder:
    """A preset with random weights: its answers mean nothing, its speed is that of trained ones.

    Args:
        engine: torch, compile, or onnxruntime or openvino on a CPU in float32.

    Raises:
        KeyError: no such preset. ValueError: no such device, precision, engine or size here.
    """
    torch.manual_seed(0)
    cfg = RelaConfig.preset(preset).at_size(image_size)
    place = choose_device(device)
    check_precision(place, precision)
    grounder = Grounder(ReLA(cfg), tokenizer_for(cfg), f"{preset}, random weights", Thresholds())
    grounder.move(place, precision)
    if engine == "compile":
        grounder.compile()
    if engine in EXPORTED:
        if not is_installed(engine):
            raise ValueError(missing(engine))
        if place.type != "cpu" or grounder.dtype is not torch.float32:
            raise ValueError(f"engine {engine} runs on the CPU in float32 only")
        grounder.engine = export_once(grounder.model, "random", engine)
        grounder.engine_name = engine
    return grounder


def run_benchmark(
    grounder: Grounder, image: npt.NDArray[np.uint8], runs: int, busy: int = 0
) -> Benchmark:
    """Times ``grounder`` on ``image`` (H, W, 3) RGB beside ``busy`` other processes; the first
    WARM_UP runs do not count."""
    if grounder.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(grounder.device)
    total: dict[str, list[float]] = defaultdict(list)
    stages: dict[str, list[float]] = defaultdict(list)
    with busy_processes(busy):
        for i in range(WARM_UP + runs):
            for name, seconds in _end_to_end(grounder, image, i).items():
                total[name].append(seconds)
        for _ in range(WARM_UP + runs):
            with _stage_clock(grounder) as clock:
                grounder.forget_words()
                grounder.set_image(image)
                grounder.ground([EXPRESSION])
            for name, seconds in clock.items():
                stages[name].append(seconds)
    parameters = sum(p.numel() for p in grounder.model.parameters())
    return Benchmark(
        model=grounder.name,
        engine=grounder.engine_name,
        parameters=parameters,
        device=_device_name(grounder.device),
        precision=str(grounder.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        busy=busy,
        torch=torch.__version__,
        runs=runs,
        image=(image.shape[0], image.shape[1]),
        image_size=grounder.model.cfg.image_size,
        objects=len(grounder.ground([EXPRESSION])[0].objects),
        end_to_end={name: Timing.of(seconds[WARM_UP:]) for name, seconds in total.items()},
        stages={name: Timing.of(seconds[WARM_UP:]) for name, seconds in stages.items()},
        peak_memory=_peak_memory(grounder.device),
    )


def _end_to_end(grounder: Grounder, image: npt.NDArray[np.uint8], i: int) -> dict[str, float]:
    grounder.forget_words()
    new = f"the blue bowl number {i}"
    texts = [f"the green box number {k}" for k in range(MORE)]

    def frame() -> None:
        grounder.set_image(image)
        grounder.ground([EXPRESSION])

    steps: dict[str, Callable[[], object]] = {
        FIRST: frame,
        FRAME: frame,
        FURTHER: lambda: grounder.ground([new]),
        AGAIN: lambda: grounder.ground([new]),
    }
    # One by one a backbone that reads the words would take seconds for each.
    if not grounder.model.cfg.language_in_backbone:
        steps[BATCH] = lambda: grounder.ground(texts)
    durations = {}
    for name, step in steps.items():
        begin = time.perf_counter()
        step()  # answers are on the CPU when it returns
        durations[name] = (time.perf_counter() - begin) / (MORE if name == BATCH else 1)
    return durations


@contextmanager
def _stage_clock(grounder: Grounder) -> Iterator[dict[str, float]]:
    """Seconds spent in each stage within the block."""
    model, engine = grounder.model, grounder.engine
    spent: dict[str, float] = {}
    within = [0.0]  # seconds of the stages inside the one that runs
    parts: list[tuple[Any, str, str]]
    if engine is model:
        parts = [
            (model, "encode_text", "text"),
            (model.backbone, "forward", "backbone"),
            (model.pixel_decoder, "forward", "pixel decoder"),
            (model.region_decoder, "encode_image", "region decoder"),
            (model, "ground", "region decoder"),
        ]
    else:
        parts = [
            (engine, "encode_text", "text"),
            (engine, "encode_image", "image"),
            (engine, "ground", "region decoder"),
        ]
    if model.close_look is not None:
        parts.append((engine, "look_close", "close look"))
    parts = [
        (grounder, "_pixels", "pre (resize, normalise)"),
        (model, "normalise", "pre (resize, normalise)"),
        *parts,
        (grounder, "_answers", "post (masks, boxes)"),
    ]
    for owner, name, stage in parts:
        spent[stage] = 0.0
        timed = _timed(getattr(owner, name), stage, spent, within, grounder.device)
        object.__setattr__(owner, name, timed)
    try:
        yield spent
    finally:
        for owner, name, _ in parts:
            object.__delattr__(owner, name)


def _timed(
    call: Callable[..., Any],
    stage: str,
    spent: dict[str, float],
    within: list[float],
    device: torch.device,
) -> Callable[..., Any]:
    def timed(*args: Any, **options: Any) -> Any:
        _wait(device)
        before, within[0] = within[0], 0.0
        begin = time.perf_counter()
        result = call(*args, **options)
        _wait(device)
        seconds = time.perf_counter() - begin
        spent[stage] += seconds - within[0]
        within[0] = before + seconds
        return result

    return timed


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def print_benchmark(result: Benchmark) -> None:
    """Tables for people."""
    console = Console()
    height, width = result.image
    console.print(
        f"{result.model}: {result.parameters / 1e6:.1f} million parameters; engine {result.engine},"
        f" {result.precision} on {result.device}, {result.threads} threads, torch {result.torch}"
        f"{f', beside {result.busy} busy processes' if result.busy else ''}",
        soft_wrap=True,
        highlight=False,
    )
    for title, timings in (
        (
            f"picture {width} x {height}, seen at {result.image_size}, to masks and boxes, ms",
            result.end_to_end,
        ),
        ("stages of the first expression, ms", result.stages),
    ):
        table = Table(title=title, title_justify="left", box=SIMPLE)
        table.add_column("")
        for heading in ("median", "least", "most"):
            table.add_column(heading, justify="right")
        for name, timing in timings.items():
            cells = (f"{n:.1f}" for n in (timing.median, timing.least, timing.most))
            table.add_row(name, *cells)
        console.print(table)
    ratio = result.end_to_end[FURTHER].median / result.end_to_end[FIRST].median
    console.print(
        f"{result.runs} runs; {result.objects} objects in the first answer."
        f" A further expression costs {100 * ratio:.0f} % of the first;"
        f" peak memory {result.peak_memory / 2**20:.0f} MiB.",
        soft_wrap=True,
        highlight=False,
    )
