"""A model whose steps another engine than torch runs, from the files of an export."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .checkpoint import CheckpointError
from .close_look import look_close
from .config import RelaConfig
from .export import OFFICIAL_PARTS, export_parts, identity, official_side, state_tensors
from .mask_refiner import surroundings
from .region_decoder import RegionState, RelaOutput
from .rela import ReLA

# Microseconds that a thread waits for another without giving up its core. Without a limit an answer
# takes up to twice as long on busy cores; much less than this is felt on idle ones.
SPIN = 200

Array = npt.NDArray[np.generic]
Run = Callable[[dict[str, Array]], list[Array]]
Loaded = tuple[Run, Mapping[str, str]]


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


def load_export(model: ReLA, name: str, folder: Path, digest: str) -> Exported:
    """``model`` by the engine ``name``, from a folder of
    :func:`~grex_ros.model.export.export_onnx`.

    Raises:
        CheckpointError: the folder is not an export of the checkpoint with ``digest``, or it is
            damaged.
    """
    if model.cfg.image_layers:
        return ExportedReLA(name, folder, digest, model.cfg)
    return ExportedOfficial(name, folder, digest, model)


class ExportedReLA:
    """The steps of ReLA by another engine.

    Takes and gives torch tensors, float32, on the CPU. What the words do not need of a picture is
    empty in its states, and the merged mask is empty in its outputs.

    Raises:
        CheckpointError: see :func:`load_export`.
    """

    def __init__(self, name: str, folder: Path, digest: str, cfg: RelaConfig) -> None:
        self.name, self._looks = name, cfg.close_looks
        parts = export_parts(cfg)
        loaded = {part: _load(name, folder / f"{part}.onnx", digest) for part in parts}
        self._run = {part: run for part, (run, _) in loaded.items()}
        self._draw_side = int(loaded["masks"][1]["draw_side"])

    def encode_text(self, tokens: Tensor, word_mask: Tensor) -> Tensor:
        """As :meth:`ReLA.encode_text`."""
        return _call(self._run["text"], tokens=tokens, word_mask=word_mask)[0]

    def encode_image(
        self, images: Tensor, words: Tensor | None = None, word_mask: Tensor | None = None
    ) -> RegionState:
        """As :meth:`ReLA.encode_image`, for one picture (1, 3, H, W)."""
        regions, position, masks, boxes, *objectness = _call(self._run["image"], images=images)
        nothing = masks.new_empty(1, 0, 0, 0)
        state = RegionState([], [], [], nothing, regions, position, masks, boxes=boxes)
        state.objectness = objectness[0] if objectness else None
        return state

    @one_thread()
    def look_close(self, state: RegionState, seen: Tensor, whole: Tensor) -> RegionState:
        """As :meth:`ReLA.look_close`."""
        if not self._looks:
            return state
        return look_close(state, self._looks, self._tell_close, seen, whole)

    def _tell_close(self, crops: Tensor, masks: Tensor, regions: Tensor, boxes: Tensor) -> Tensor:
        run = self._run["look"]
        return _call(run, crops=crops, masks=masks, regions=regions, boxes=boxes)[0]

    def ground(self, state: RegionState, words: Tensor, word_mask: Tensor) -> RelaOutput:
        """As :meth:`ReLA.ground`, without the merged mask."""
        assert state.boxes is not None  # see encode_image
        target, no_target, *count = _call(
            self._run["ground"],
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
        return _call(self._run["masks"], crops=crops, coarse=coarse)[0], corners


class ExportedOfficial:
    """The steps of an official preset, whose words meet the picture's pixels, by another engine.

    Torch runs the pixel decoder: deformable attention as bags is faster than what the engines make
    of it. An export is of pictures of one size; torch answers for others. Masks of single regions,
    which no answer of these presets needs, are empty in the outputs.

    Raises:
        CheckpointError: see :func:`load_export`.
    """

    def __init__(self, name: str, folder: Path, digest: str, model: ReLA) -> None:
        self.name, self._model, self._side = name, model, official_side(model)
        loaded = (_load(name, folder / f"{part}.onnx", digest)[0] for part in OFFICIAL_PARTS)
        self._backbone, self._text, self._ground = loaded

    def encode_text(self, tokens: Tensor, word_mask: Tensor) -> Tensor:
        """As :meth:`ReLA.encode_text`."""
        return _call(self._text, tokens=tokens, word_mask=word_mask)[0]

    def encode_image(
        self, images: Tensor, words: Tensor | None = None, word_mask: Tensor | None = None
    ) -> RegionState:
        """As :meth:`ReLA.encode_image`."""
        model = self._model
        if images.shape[2:] != (self._side, self._side):
            return model.encode_image(images, words, word_mask)
        given = {"images": images}
        if words is not None and word_mask is not None:
            given |= {"words": words, "word_mask": word_mask}
        each = [
            _call(self._backbone, **{name: x[i : i + 1] for name, x in given.items()})
            for i in range(len(images))
        ]
        features = [torch.cat(maps).permute(0, 3, 1, 2) for maps in zip(*each, strict=True)]
        memories, mask_features = model.pixel_decoder(features)
        return model.region_decoder.encode_image(memories, mask_features, features[-1])

    def ground(self, state: RegionState, words: Tensor, word_mask: Tensor) -> RelaOutput:
        """As :meth:`ReLA.ground`, without the regions' own masks."""
        if state.mask_features.shape[2:] != (self._side // 4, self._side // 4):
            return self._model.ground(state, words, word_mask)
        each = [
            _call(
                self._ground,
                **state_tensors(state, i),
                words=words[i : i + 1],
                word_mask=word_mask[i : i + 1],
            )
            for i in range(len(words))
        ]
        target_mask, minimap, no_target = (torch.cat(x) for x in zip(*each, strict=True))
        return RelaOutput(target_mask, minimap, no_target, target_mask[:, :0])

    def look_close(self, state: RegionState, seen: Tensor, whole: Tensor) -> RegionState:
        """As :meth:`ReLA.look_close`: these presets do not look."""
        return state

    def draw_masks(
        self, logits: Tensor, boxes: Tensor, seen: Tensor, whole: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`ReLA.draw_masks`."""
        return self._model.draw_masks(logits, boxes, seen, whole)


Exported = ExportedReLA | ExportedOfficial


def _call(run: Run, **inputs: Tensor) -> list[Tensor]:
    """A run takes from ``inputs`` what its graph asks for: not every model uses all of them."""
    arrays = {name: np.ascontiguousarray(x.detach().numpy()) for name, x in inputs.items()}
    return [torch.from_numpy(x) for x in run(arrays)]


def _load(name: str, file: Path, digest: str) -> Loaded:
    """One step, and what its file says about itself."""
    if not file.is_file():
        raise CheckpointError(f"there is no {file}; run: grex export")
    load = _load_openvino if name == "openvino" else _load_onnxruntime
    try:
        run, about = load(file, torch.get_num_threads())
    except Exception as error:  # every engine has its own kinds
        raise CheckpointError(f"{name} cannot load {file} ({error}); run: grex export") from error
    if not identity(digest).items() <= about.items():
        raise CheckpointError(
            f"{file} was exported from another checkpoint or by another version of grex_ros; "
            "run: grex export"
        )
    return run, about


def onnxruntime_session(graph: Path | bytes, threads: int) -> Any:
    """An ``onnxruntime.InferenceSession`` of a file or its content, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    # Threads spin while they wait for each other within a run, and not after it, where they would
    # take the CPU from torch and the camera.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN))
    given = graph if isinstance(graph, bytes) else str(graph)
    return onnxruntime.InferenceSession(given, options, ["CPUExecutionProvider"])


def _load_onnxruntime(file: Path, threads: int) -> Loaded:
    session = onnxruntime_session(file, threads)
    about = session.get_modelmeta().custom_metadata_map
    asked = [x.name for x in session.get_inputs()]
    return lambda inputs: session.run(None, {name: inputs[name] for name in asked}), about


def _load_openvino(file: Path, threads: int) -> Loaded:
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
