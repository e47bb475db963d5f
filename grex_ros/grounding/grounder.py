"""The one door between a program and the model: picture and expressions in, answers out."""

from __future__ import annotations

import math
import os
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from grex_ros.model.checkpoint import (
    DEFAULT_CHECKPOINT,
    CheckpointError,
    file_digest,
    load_checkpoint,
)
from grex_ros.model.engines import choose_engine
from grex_ros.model.exported import Exported, ExportedReLA, one_thread
from grex_ros.model.generation import choose
from grex_ros.model.inference import GraphedModel, autocast, compile_parts, lower_weights, prepare
from grex_ros.model.region_decoder import RegionState, RelaOutput
from grex_ros.model.rela import ReLA
from grex_ros.model.text_encoder import Tokenizer, tokenizer_for

from .description import Description, Region, read_regions, same_objects
from .device import PRECISIONS, check_precision, choose_device
from .membership import Floats, membership, raised, sigmoid
from .objects import Grounding, Status
from .pictures import PictureLoader, full_size, given_tensors
from .reading import (
    Calibration,
    Objects,
    Thresholds,
    objects_from_mask,
    objects_from_regions,
    target_probability,
)
from .refinement import RegionMasks

TEXT_CACHE = 256  # expressions whose word features are kept
WARM_UP_SIZES = ((480, 640), (720, 1280))  # 4:3 and 16:9
WARM_UP_TEXTS = ("the cup", "the red cup to the left of the blue bowl")
BEAMS = 4  # of a description
MOST_BEAMS = 16
AT_ONCE = 8  # expressions in one pass of a backbone that reads them


class Grounder:
    """Grounds expressions in pictures. Not thread safe.

    Presets with instance heads give one object for every region that is meant. The official ones
    give one merged mask; its connected parts are the objects.
    """

    def __init__(
        self, model: ReLA, tokenizer: Tokenizer, name: str, thresholds: Thresholds
    ) -> None:
        self.model = model.eval()
        # What runs the steps: text, image, grounding, masks.
        self.engine: ReLA | GraphedModel | Exported = model
        self.engine_name = "torch"
        self.engine_note = ""  # why nothing faster than torch was chosen
        self.tokenizer = tokenizer
        self.name = name
        self.thresholds = thresholds
        self.calibration = Calibration()
        self.dtype = torch.float32
        self._words: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()
        self._batch: Tensor | None = None  # the normalised picture
        self._state: RegionState | None = None  # ... and what needs no words of it
        self._whole_state: RegionState | None = None  # ... with what other engines leave out
        self._masks: RegionMasks | None = None  # ... and its regions' masks
        self._size = (0, 0)  # height, width of the picture
        self._scaled = (0, 0)  # ... as the model sees it, without padding
        self._image_seconds = 0.0
        self._load = PictureLoader(model.cfg)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.pixel_mean.device

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        device: str = "auto",
        precision: str = "auto",
        engine: str = "auto",
        image_size: int = 0,
    ) -> Grounder:
        """Loads a checkpoint; None = the one in the package.

        Args:
            path: a .safetensors file.
            device: auto (GPU where there is one), cpu, cuda, cuda:1, ...
            precision: auto (float16 on a GPU, float32 on the CPU), float32, float16, bfloat16.
            engine: auto (the fastest that is installed and equal to torch), torch, compile,
                onnxruntime, openvino; see :func:`~grex_ros.model.engines.choose_engine`.
            image_size: longer side, in pixels, at which pictures are seen; 0 = as it says.
                Fewer are faster, more show smaller objects.

        Raises:
            CheckpointError: the file cannot be used; the message says what to do.
            ValueError: no such device, precision, engine or size here; a calibration that is
                none.
        """
        place = choose_device(device)
        check_precision(place, precision)
        file = DEFAULT_CHECKPOINT if path is None or path == "" else path
        model, metadata = load_checkpoint(file)
        model.cfg = model.cfg.at_size(image_size)
        tokenizer = tokenizer_for(model.cfg)
        thresholds = Thresholds(no_target=float(metadata.get("no_target_threshold", 0.5)))
        digest = file_digest(file)
        grounder = cls(model, tokenizer, f"{model.cfg.name}@{digest[:12]}", thresholds)
        grounder.calibration = Calibration.from_metadata(metadata)
        grounder.move(place, precision)
        found, grounder.engine_note = choose_engine(model, digest, engine, grounder.dtype)
        if not isinstance(found, ReLA):
            grounder.engine, grounder.engine_name = found, found.name
        if engine == "compile":
            grounder.compile()
        return grounder

    def compile(self) -> None:
        """Has torch.compile fuse what it can on a GPU; the first picture of a size waits for it,
        which :meth:`warm_up` does. :meth:`move` undoes it. ValueError on a CPU."""
        if self.device.type == "cpu":
            raise ValueError("engine compile is for a GPU; here use auto, onnxruntime or torch")
        compile_parts(self.model)
        self.engine_name = f"{self.engine_name}, compiled"

    def move(self, device: torch.device, precision: str = "auto") -> None:
        """Puts the model on a device, ready to be asked. It cannot be trained or saved any more.

        Args:
            device: cpu or cuda.
            precision: auto (float16 on a GPU, float32 on the CPU), float32, float16, bfloat16.
        """
        if precision == "auto":
            precision = "float16" if device.type == "cuda" else "float32"
        self.dtype = PRECISIONS[precision]
        self._forget_picture()
        self.forget_words()
        model = prepare(self.model.float().to(device))
        if self.dtype is not torch.float32:
            lower_weights(model, self.dtype)
        graphs = device.type == "cuda"
        self.engine, self.engine_name = (
            (GraphedModel(model), "torch, CUDA graphs") if graphs else (model, "torch")
        )

    def warm_up(self) -> None:
        """Asks once about pictures of the usual shapes, so that no camera frame waits for what
        happens only once: reserving memory, choosing kernels, recording graphs."""
        for height, width in WARM_UP_SIZES if self.device.type == "cuda" else WARM_UP_SIZES[:1]:
            self.set_image(np.zeros((height, width, 3), np.uint8))
            for text in WARM_UP_TEXTS:
                self.ground([text])
            if self._state is not None and self._masks and self._state.boxes is not None:
                self._masks.warm_up(self._state.masks[0], self._state.boxes[0])
        self._forget_picture()

    def make_room(self, how: str) -> str:
        """Goes on with less memory after the GPU's ran out.

        Args:
            how: "lower_precision": from float32 to half of it; "cpu": to the CPU.

        Returns:
            What was done, as a sentence; empty if nothing is left to be done.
        """
        cuda = self.device.type == "cuda"
        if how == "lower_precision" and self.dtype is torch.float32:
            precision = "float16" if cuda else "bfloat16"
            self.move(self.device, precision)
            return f"The model now runs in {precision}."
        if how == "cpu" and cuda:
            self.move(torch.device("cpu"))
            return "The model now runs on the CPU."
        return ""

    def forget_words(self) -> None:
        """Empties the cache of word features."""
        self._words.clear()

    @torch.inference_mode()
    def set_image(self, image: npt.NDArray[np.uint8]) -> None:
        """Encodes a picture, (H, W, 3) uint8 RGB, once for all expressions that follow; with a
        backbone that takes language, the expressions wait for no less than their own pass.

        Raises:
            ValueError: another shape or type.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(f"image must be (H, W, 3) uint8, not {image.shape} {image.dtype}")
        start = time.perf_counter()
        self._forget_picture()
        self._size = image.shape[:2]
        whole, pixels = self._pixels(image)
        self._scaled = (pixels.shape[1], pixels.shape[2])
        self._masks = RegionMasks(self._draw, pixels, whole)
        exported = isinstance(self.engine, ExportedReLA)
        with one_thread() if exported else nullcontext(), self._autocast():
            # Torch likes channels last, other engines first; turned round while they are bytes.
            batch = self.model.normalise([pixels.contiguous() if exported else pixels])
            if not exported:
                batch = batch.contiguous(memory_format=torch.channels_last)
            if not self.model.cfg.language_in_backbone:
                state = self.engine.encode_image(batch)
                self._state = self.engine.look_close(state, pixels, whole)
        self._batch = batch
        self._image_seconds = time.perf_counter() - start

    def _pixels(self, image: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """The picture (3, H, W), and (3, h, w) as the model sees it; uint8 on its device."""
        return self._load(image, self.device)

    def _forget_picture(self) -> None:
        self._batch = self._state = self._whole_state = self._masks = None

    @torch.inference_mode()
    def ground(self, expressions: Sequence[str]) -> list[Grounding]:
        """One answer per expression, about the picture of :meth:`set_image`, in their order.

        Raises:
            RuntimeError: there is no picture yet.
        """
        if self._batch is None:
            raise RuntimeError("set_image() comes first")
        if not expressions:
            return []
        start = time.perf_counter()
        words, mask = self._encode(expressions)
        answers = []
        step = AT_ONCE if self._state is None else len(expressions)
        for i in range(0, len(expressions), step):
            out = self._ground(words[i : i + step], mask[i : i + step])
            answers += self._answers(expressions[i : i + step], out)
        seconds = self._image_seconds + (time.perf_counter() - start) / len(expressions)
        return [replace(answer, latency=seconds) for answer in answers]

    @torch.inference_mode()
    def describe(
        self, regions: Sequence[Region], *, beams: int = BEAMS, verify: bool = True
    ) -> Description:
        """An expression that means exactly these objects in the picture of :meth:`set_image`.

        Args:
            regions: one or more, each a box x0, y0, x1, y1 in pixels or a mask (H, W).
            beams: width of the beam search, 1 (greedy) to 16.
            verify: ground what was found again, and prefer the first expression that means the
                same set: as many objects, each with an IoU of 0.5 or more.

        Raises:
            CheckpointError: the checkpoint has no generation head.
            RuntimeError: there is no picture yet.
            RegionError: a region cannot be used; a ValueError, as for ``beams``.
        """
        head = self.model.generation
        if head is None or not self.model.cfg.generation_words:
            raise CheckpointError(
                f"this checkpoint has no generation head: {self.name} grounds expressions, but "
                "cannot describe; train one that can (training/README.md)"
            )
        if not 1 <= beams <= MOST_BEAMS:
            raise ValueError(f"beams must be 1 to {MOST_BEAMS}, not {beams}")
        if self._batch is None:
            raise RuntimeError("set_image() comes first")
        start = time.perf_counter()
        given = read_regions(regions, self._size)
        with self._autocast():
            state = self._regions()
            cells = (state.mask_features.shape[2], state.mask_features.shape[3])
            tensors = given_tensors(given, self._size, self._scaled, cells)
            sets = choose(state, *(t.to(self.device) for t in tensors))
            found = head.search(*head.encode(state, sets), beams)
        if not found or not all(math.isfinite(score) for _, score in found):
            raise FloatingPointError("the model's output is not a number")
        texts = [text for text, _ in found]
        place, verified = 0, None
        if verify:
            same = [same_objects(answer.objects, given) for answer in self.ground(texts)]
            verified = any(same)
            place = same.index(True) if verified else 0
        seconds = time.perf_counter() - start
        return Description(texts[place], verified, found[place][1], tuple(texts), seconds)

    def _regions(self) -> RegionState:
        """The picture's regions with all that torch knows of them; other engines leave out the mask
        features, so torch then encodes the picture, once."""
        assert self._batch is not None and self._masks is not None
        if not isinstance(self.engine, ExportedReLA):
            assert self._state is not None
            return self._state
        if self._whole_state is None:
            state = self.model.encode_image(self._batch)
            self._whole_state = self.model.look_close(state, self._masks.seen, self._masks.image)
        return self._whole_state

    def _ground(self, words: Tensor, mask: Tensor) -> RelaOutput:
        """The model's output for word features (B, L, C) and mask (B, L) on the picture."""
        assert self._batch is not None
        with self._autocast():
            if self._state is not None:
                return self.engine.ground(self._state.repeat([len(words)]), words, mask)
            batch = self._batch.expand(len(words), -1, -1, -1)
            state = self.engine.encode_image(batch, words, mask)
            return self.engine.ground(state.repeat([1] * len(words)), words, mask)

    def _draw(self, *regions: Tensor) -> tuple[Tensor, Tensor]:
        with self._autocast():
            return self.engine.draw_masks(*regions)

    def _autocast(self) -> torch.autocast:
        return autocast(self.device, self.dtype)

    def _encode(self, expressions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Word features (B, L, C) and mask (B, L), each expression encoded once."""
        cfg = self.model.cfg
        length = 0 if cfg.word_padding_mask else cfg.max_tokens  # else padding is attended as well
        for text in expressions:
            if text not in self._words:
                tokens, mask = (t.to(self.device) for t in self.tokenizer([text], length))
                with self._autocast():
                    self._words[text] = self.engine.encode_text(tokens, mask)[0], mask[0]
            self._words.move_to_end(text)
        pad = torch.nn.utils.rnn.pad_sequence
        found = [self._words[text] for text in expressions]
        while len(self._words) > TEXT_CACHE:
            self._words.popitem(last=False)
        return pad([w for w, _ in found], True), pad([m for _, m in found], True)

    def _answers(self, texts: Sequence[str], out: RelaOutput) -> list[Grounding]:
        parts = [out.no_target]
        if out.target is not None:
            assert out.boxes is not None
            parts += [out.target, out.boxes.expand(len(texts), -1, -1).flatten(1)]
            parts += [] if out.count is None else [out.count]
        # One copy to the CPU for all of them: each would wait for the GPU.
        numbers = torch.cat([part.float() for part in parts], 1).cpu().double().numpy()
        if not np.isfinite(numbers).all():
            raise FloatingPointError("the model's output is not a number")
        regions = 0 if out.target is None else out.target.shape[1]
        nothing, target, boxes, count = np.split(numbers, (2, 2 + regions, 2 + 5 * regions), 1)
        shifts = self.calibration
        no_target = sigmoid(nothing[:, 1] - nothing[:, 0] + shifts.no_target)
        if regions:
            boxes = boxes.reshape(len(texts), regions, 4)
            target = membership(target, count if count.size else None, boxes)
            target = raised(target, shifts.target)
        return [
            self._answer(text, float(no_target[i]), target[i], out, i)
            for i, text in enumerate(texts)
        ]

    def _answer(
        self, text: str, no_target: float, target: Floats, out: RelaOutput, i: int
    ) -> Grounding:
        """``target``: of every region, the probability that it is meant if anything is."""
        objects: Objects = ()
        if no_target < self.thresholds.no_target:
            objects = self._objects(target, 1 - no_target, out, i)
        if objects:
            status, message = Status.TARGETS, ""
        elif no_target >= self.thresholds.no_target:
            status, message = Status.NO_TARGET, f'Nothing in view is "{text}".'
        else:
            status = Status.NO_TARGET
            message = f'No object in view is "{text}" with enough certainty.'
        return Grounding(text, status, message, no_target, objects, self._size, 0.0)

    def _objects(self, target: Floats, factor: float, out: RelaOutput, i: int) -> Objects:
        """The objects of expression ``i``; ``target`` scores (Q,) count times ``factor``."""
        least, pixel = self.thresholds.target, self.calibration.mask_threshold(self.thresholds.mask)
        if out.target is None:
            logits = full_size(out.target_mask[i].float(), self._scaled, self._size)
            probability = target_probability(logits)
            return objects_from_mask(probability, pixel, least, factor)
        scores = target * factor
        keep = np.flatnonzero(scores >= least)
        keep = keep[np.argsort(-scores[keep], kind="stable")]
        if not len(keep):
            return ()
        assert self._masks is not None
        if self._state is None:  # the words have changed the regions
            self._masks.forget()
        assert out.boxes is not None
        picture = 0 if len(out.masks) == 1 else i
        masks = self._masks(out.masks[picture], out.boxes[picture], keep.tolist(), pixel)
        return objects_from_regions(scores[keep].tolist(), masks, self._size)
