"""What runs the steps of the model: torch, or a faster engine from an export of it.

An engine is used only if it is installed and gives torch's numbers.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .checkpoint import CheckpointError
from .export import EXPORTER, PARTS, export_onnx, export_problem, identity
from .mask_refiner import surroundings
from .region_decoder import RegionState, RelaOutput
from .rela import ReLA

EXPORTED = ("onnxruntime", "openvino")  # the first is the fastest
ENGINES = ("auto", "torch", "compile", *EXPORTED)
DRAWN = 4  # masks that are drawn anew to compare engines
EXPORTS_KEPT = 4  # checkpoints whose exports stay in the cache, 130 MB each

# The largest difference that is rounding; the engines' are a tenth of it (see Difference).
SMALL = {"words": 3e-4, "logits": 3e-4, "boxes": 1e-4, "masks": 1e-4}

Array = npt.NDArray[np.generic]
Run = Callable[[dict[str, Array]], list[Array]]

_log = logging.getLogger(__name__)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes in one thread. Its others would spin while they wait for more to do, on cores
    that the threads of another engine need."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class ExportedReLA:
    """The steps of ReLA by another engine, from a folder of :func:`export_onnx`.

    Takes and gives torch tensors, float32, on the CPU. What the words do not need of a picture is
    empty in its states, and the merged mask is empty in its outputs.

    Raises:
        CheckpointError: the folder is not an export of the checkpoint with ``digest``, or it is
            damaged.
    """

    def __init__(self, name: str, folder: Path, digest: str) -> None:
        self.name = name
        load = _load_openvino if name == "openvino" else _load_onnxruntime
        runs = {}
        for part in PARTS:
            file = folder / f"{part}.onnx"
            if not file.is_file():
                raise CheckpointError(f"there is no {file}; run: grex export")
            try:
                runs[part], found = load(file, torch.get_num_threads())
            except Exception as error:  # every engine has its own kinds
                raise CheckpointError(
                    f"{name} cannot load {file} ({error}); run: grex export"
                ) from error
            if not identity(digest).items() <= found.items():
                raise CheckpointError(
                    f"{file} was exported from another checkpoint or by another version of "
                    "grex_ros; run: grex export"
                )
        self._image, self._text, self._ground = runs["image"], runs["text"], runs["ground"]
        self._masks, self._draw_side = runs["masks"], int(found["draw_side"])

    def encode_text(self, tokens: Tensor, word_mask: Tensor) -> Tensor:
        """As :meth:`ReLA.encode_text`."""
        return _call(self._text, tokens=tokens, word_mask=word_mask)[0]

    def encode_image(
        self, images: Tensor, words: Tensor | None = None, word_mask: Tensor | None = None
    ) -> RegionState:
        """As :meth:`ReLA.encode_image`, for one picture (1, 3, H, W)."""
        regions, position, masks, boxes = _call(self._image, images=images)
        nothing = masks.new_empty(1, 0, 0, 0)
        return RegionState([], [], [], nothing, regions, position, masks, boxes=boxes)

    def ground(self, state: RegionState, words: Tensor, word_mask: Tensor) -> RelaOutput:
        """As :meth:`ReLA.ground`, without the merged mask."""
        assert state.boxes is not None  # see encode_image
        target, no_target, *count = _call(
            self._ground,
            regions=state.regions,
            position=state.region_position,
            boxes=state.boxes,
            words=words,
            word_mask=word_mask,
        )
        nothing = target.new_empty(len(words), 2, 0, 0)
        return RelaOutput(
            nothing,
            nothing.flatten(2),
            no_target,
            state.masks,
            boxes=state.boxes,
            target=target,
            count=count[0] if count else None,
        )

    @one_thread()
    def draw_masks(
        self, logits: Tensor, boxes: Tensor, seen: Tensor, whole: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`ReLA.draw_masks`."""
        corners, crops, coarse = surroundings(logits, boxes, seen, whole, self._draw_side)
        return _call(self._masks, crops=crops, coarse=coarse)[0], corners


def _call(run: Run, **inputs: Tensor) -> list[Tensor]:
    """A run takes from ``inputs`` what its graph asks for: not every model uses all of them."""
    arrays = {name: np.ascontiguousarray(x.detach().numpy()) for name, x in inputs.items()}
    return [torch.from_numpy(x) for x in run(arrays)]


def _load_onnxruntime(file: Path, threads: int) -> tuple[Run, Mapping[str, str]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    # Threads spin while they wait for each other within a run, and not after it, where they would
    # take the CPU from torch and the camera.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    asked = [x.name for x in session.get_inputs()]
    return lambda inputs: session.run(None, {name: inputs[name] for name in asked}), about


def _load_openvino(file: Path, threads: int) -> tuple[Run, Mapping[str, str]]:
    import openvino

    core = openvino.Core()
    graph = core.read_model(str(file))
    info = graph.get_rt_info()
    about = {k: v.astype(str) for k, v in info["framework"].items()} if "framework" in info else {}
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",  # not bfloat16 where the CPU has it
    }
    request = core.compile_model(graph, "CPU", settings).create_infer_request()
    asked = [x.any_name for x in graph.inputs]

    def run(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return list(request.infer({name: inputs[name] for name in asked}).values())

    return run, about


# --- the choice ------------------------------------------------------------------------------


def choose_engine(
    model: ReLA, digest: str, wanted: str = "auto", dtype: torch.dtype = torch.float32
) -> tuple[ReLA | ExportedReLA, str]:
    """What runs ``model``, and if that is torch, why nothing faster does.

    Another engine than torch is compared with torch first. If the cache holds no export of the
    checkpoint, one is made, which takes some seconds.

    Args:
        model: as loaded from the checkpoint with ``digest``, on the device where it is to run.
        digest: of the checkpoint.
        wanted: torch, compile (which is torch here), onnxruntime, openvino, or auto:
            onnxruntime, else openvino, on the CPU in float32, if it is installed and equal; else
            torch.
        dtype: in which the model is to run.

    Raises:
        ValueError: ``wanted`` is unknown, not installed, or cannot run this model.
        CheckpointError: ``wanted`` has no export that can be used, or is not equal to torch.
    """
    if wanted not in ENGINES:
        raise ValueError(f"engine must be {', '.join(ENGINES[:-1])} or openvino, not {wanted!r}")
    if wanted in ("torch", "compile"):
        return model, ""
    problem = export_problem(model)
    on_cpu = model.pixel_mean.device.type == "cpu"
    if not on_cpu or dtype is not torch.float32:
        problem = "the other engines run on the CPU in float32 only"
    if problem:
        if wanted != "auto":
            raise ValueError(f"engine {wanted} cannot be used: {problem}; use engine torch")
        return model, problem if on_cpu else ""
    if wanted != "auto":
        return _equal_engine(model, digest, wanted), ""
    installed = [name for name in EXPORTED if is_installed(name)]
    if not installed:
        return model, missing("onnxruntime")
    reasons = []
    for name in installed:
        try:
            return _equal_engine(model, digest, name), ""
        except CheckpointError as error:
            reasons.append(str(error))
    _log.warning("engine torch: %s", "; ".join(reasons))
    return model, "; ".join(reasons)


def is_installed(package: str) -> bool:
    """Whether ``package`` can be imported."""
    return importlib.util.find_spec(package) is not None


def missing(package: str) -> str:
    """A sentence on a package that is not installed."""
    return f"{package} is not installed (pip install {package})"


def cache_folder(digest: str) -> Path:
    """Where the export of the checkpoint with ``digest`` is looked for, and written."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(root) / "grex_ros" / digest[:12]


def _equal_engine(model: ReLA, digest: str, name: str) -> ExportedReLA:
    if not is_installed(name):
        raise ValueError(missing(name))
    engine = _load(model, digest, name)
    side = model.cfg.image_size
    try:
        difference = compare(model, engine, (side * 3 // 4, side))
    except Exception as error:
        raise CheckpointError(f"{name} fails ({error}); run: grex export") from error
    if not difference.small:
        raise CheckpointError(
            f"{name} is not equal to torch ({difference}); run: grex export, which tells more"
        )
    return engine


def _load(model: ReLA, digest: str, name: str) -> ExportedReLA:
    """From the cache; exports first if there is no export of this checkpoint by this code."""
    folder = cache_folder(digest)
    try:
        return ExportedReLA(name, folder, digest)
    except CheckpointError as error:
        if not is_installed(EXPORTER):
            raise CheckpointError(f"{error}, for which {missing(EXPORTER)}") from error
    _log.info("exporting the model to %s, which takes some seconds", folder)
    try:
        export_onnx(model, folder, digest)
        _forget_old_exports(folder.parent)
        return ExportedReLA(name, folder, digest)
    except OSError as error:
        _log.warning("the export cannot be kept for the next start: %s", error)
    except Exception as error:
        raise CheckpointError(f"the model cannot be exported: {error}") from error
    with tempfile.TemporaryDirectory(prefix="grex_ros_") as temporary:
        export_onnx(model, Path(temporary), digest)
        return ExportedReLA(name, Path(temporary), digest)


def _forget_old_exports(cache: Path) -> None:
    found = [path for path in cache.iterdir() if (path / "image.onnx").is_file()]
    found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for folder in found[EXPORTS_KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)


# --- is it equal? ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """How far an engine is from torch on one picture and some expressions, at the worst place."""

    words: float  # of a word feature, in standard deviations of them
    logits: float  # of a no-target or target logit, in standard deviations of the target logits
    boxes: float  # of a number of a box, in parts of the picture
    masks: float  # share of pixels on the other side; of masks drawn anew the mean difference

    @property
    def small(self) -> bool:
        """Whether it is rounding."""
        return all(getattr(self, name) <= limit for name, limit in SMALL.items())

    def __str__(self) -> str:
        return ", ".join(f"{name} {getattr(self, name):.0e}" for name in SMALL)


@torch.inference_mode()
def compare(
    model: ReLA, engine: ReLA | ExportedReLA, size: tuple[int, int], count: int = 2, length: int = 9
) -> Difference:
    """Runs both on a drawn picture of ``size`` (height, width) and ``count`` random expressions
    of up to ``length`` words."""
    picture = drawn_picture(*size)
    batch, whole = model.normalise([picture]), picture.byte()
    random = torch.Generator().manual_seed(count)
    tokens = torch.randint(1, model.cfg.text_vocab, (count, length), generator=random)
    lengths = torch.randint(1, length + 1, (count, 1), generator=random)
    mask = (torch.arange(length) < lengths.clamp(min=min(3, length))).long()
    words, boxes, masks, logits = [], [], [], []
    for runner in (model, engine):
        features = runner.encode_text(tokens, mask)
        state = runner.encode_image(batch)
        out = runner.ground(state.repeat([count]), features, mask)
        assert out.boxes is not None and out.target is not None
        words.append(features)
        boxes.append(out.boxes[0])
        masks.append(out.masks[0])
        logits.append((out.no_target, out.target))
    # Two peaks of nearly the same height may change places: each region is compared with the one
    # in its place.
    there = (boxes[0][:, None] - boxes[1]).abs().sum(-1).argmin(1)
    (no_target, target), (other_no_target, other_target) = logits
    apart = torch.cat((no_target - other_no_target, target - other_target[:, there]), 1)
    given = masks[0][:DRAWN], boxes[0][:DRAWN].nan_to_num(0.5), whole, whole
    drawn, other_drawn = (runner.draw_masks(*given)[0].sigmoid() for runner in (model, engine))
    return Difference(
        float((words[0] - words[1]).abs().max() / words[0].std()),
        float(apart.abs().max() / target.std()),
        float((boxes[0] - boxes[1][there]).abs().max()),
        float(((masks[0] > 0) != (masks[1][there] > 0)).float().mean())
        + float((drawn - other_drawn).abs().mean()),
    )


def compare_often(model: ReLA, engine: ReLA | ExportedReLA) -> Difference:
    """The worst of pictures of several shapes and of few and many, short and long expressions."""
    side, longest = model.cfg.image_size, model.cfg.max_tokens
    sizes = ((side * 3 // 4, side), (side, side), (side, side * 3 // 4), (side, side // 2))
    found = [
        dataclasses.astuple(compare(model, engine, size, count, length))
        for size in sizes
        for count, length in ((1, 3), (3, 11), (14, longest))
    ]
    return Difference(*np.max(found, axis=0).tolist())


@torch.inference_mode()
def step_times(model: ReLA, engine: ReLA | ExportedReLA, runs: int = 20) -> dict[str, float]:
    """Median seconds of each step, for a picture of 640 x 480, one expression of six words and two
    masks."""
    side = model.cfg.image_size
    whole, seen = drawn_picture(480, 640).byte(), drawn_picture(side * 3 // 4, side)
    batch = model.normalise([seen])
    tokens, mask = torch.arange(5, 13)[None], torch.ones(1, 8, dtype=torch.int64)
    words, image = engine.encode_text(tokens, mask), engine.encode_image(batch)
    assert image.boxes is not None
    state, given = image.repeat([1]), (image.masks[0, :2], image.boxes[0, :2], seen.byte(), whole)
    steps: dict[str, Callable[[], object]] = {
        "text": lambda: engine.encode_text(tokens, mask),
        "image": lambda: engine.encode_image(batch),
        "ground": lambda: engine.ground(state, words, mask),
        "draw": lambda: engine.draw_masks(*given),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(runs):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def drawn_picture(height: int, width: int) -> Tensor:
    """(3, height, width), 0..255: a dozen shaded discs on a grainy table; the same every time."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / max(height, width)
    picture = np.stack([150 + 60 * x, 130 + 50 * y, 110 + 0 * x])
    for _ in range(12):
        cx, cy, radius = random.uniform(0, width / max(height, width)), random.uniform(0, 1), 0.06
        cy *= height / max(height, width)
        inside = np.hypot(x - cx, (y - cy) * random.uniform(0.6, 1.4)) < radius
        shade = 1 - (x - cx + y - cy) / (4 * radius)
        color = random.uniform(20, 230, (3, 1))
        picture[:, inside] = color * shade[inside]
    picture += random.normal(0, 6, picture.shape)
    return torch.from_numpy(picture.clip(0, 255).astype(np.float32))
