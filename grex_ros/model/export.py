"""The model as ONNX graphs, which other engines run faster than torch does.

One file for each step of :class:`~grex_ros.model.rela.ReLA`: text, image, look, ground, masks. Free
are the size of the picture (multiples of 32), the number of crops, of expressions, of words and of
masks.

Of an official preset: text, backbone, ground; all for one picture of its size and one expression
of full length, since the windows of a Swin are tables of that size.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MethodType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .close_look import CELLS, SIDE
from .config import RelaConfig
from .region_decoder import RegionState
from .rela import STRIDE, ReLA

PARTS = ("image", "look", "text", "ground", "masks")
OFFICIAL_PARTS = ("backbone", "text", "ground")
OPSET = 17  # the first with layer norm
EXPORTER = "onnx"  # the package that torch needs for it


def export_problem(model: ReLA) -> str:
    """Why ``model`` cannot be exported; empty if it can."""
    cfg = model.cfg
    changed = cfg.instance_heads or cfg.keep_aspect or cfg.word_padding_mask
    if not cfg.image_layers and changed:
        return f"the preset {cfg.name} is neither an official one nor has layers without words"
    # Thinner pictures would need regions that stand twice, a case that a graph does not hold.
    if cfg.region_proposals and (STRIDE // 8) * (cfg.image_size // 8) < cfg.regions:
        return f"pictures of {cfg.image_size} pixels are too small for {cfg.regions} regions"
    return ""


def export_parts(cfg: RelaConfig) -> tuple[str, ...]:
    """The steps that an export of such a model has."""
    if not cfg.image_layers:
        return OFFICIAL_PARTS
    return tuple(part for part in PARTS if part != "look" or cfg.close_looks)


def _code_digest() -> str:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


CODE = _code_digest()  # at import: of the code that runs, whatever becomes of the files


def identity(digest: str) -> dict[str, str]:
    """What an export must carry to be one of the checkpoint with this digest, by this code."""
    return {"checkpoint": digest, "code": CODE}


def export_onnx(model: ReLA, folder: Path, digest: str) -> None:
    """Writes one file for each of the model's parts; each replaces the one before in one step.

    Args:
        model: float32, on the CPU, in eval mode.
        folder: is made if need be.
        digest: of the checkpoint; goes into the metadata of the files.

    Raises:
        ImportError: the package onnx is not installed.
        OSError: the folder cannot be written.
        ValueError: see :func:`export_problem`.
    """
    import onnx

    if problem := export_problem(model):
        raise ValueError(problem)
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        **identity(digest),
        "grex_ros": _version(),
        "torch": torch.__version__,
        "opset": str(OPSET),
        "draw_side": str(model.draw_side),
    }
    for part in export_parts(model.cfg):
        graph = onnx.load_from_string(trace_onnx(model, part))
        onnx.helper.set_model_props(graph, about)
        file, name = tempfile.mkstemp(suffix=".part", dir=folder)
        try:
            with os.fdopen(file, "wb") as opened:
                opened.write(graph.SerializeToString())
            os.chmod(name, 0o644)  # whoever runs the node may read it
            os.replace(name, folder / f"{part}.onnx")
        except BaseException:
            os.unlink(name)
            raise


def _version() -> str:
    try:
        return importlib.metadata.version("grex_ros")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


class _Step(nn.Module):
    def __init__(self, model: ReLA) -> None:
        super().__init__()
        self.model = model


class _Text(_Step):
    def forward(self, tokens: Tensor, word_mask: Tensor) -> Tensor:
        return self.model.encode_text(tokens, word_mask)


class _Image(_Step):
    def forward(self, images: Tensor) -> tuple[Tensor | None, ...]:
        state = self.model.encode_image(images)
        return state.regions, state.region_position, state.masks, state.boxes, state.objectness


class _Look(_Step):
    def forward(self, crops: Tensor, masks: Tensor, regions: Tensor, boxes: Tensor) -> Tensor:
        return self.model.tell_close(crops, masks, regions, boxes)


class _Ground(_Step):
    def forward(
        self, regions: Tensor, position: Tensor, boxes: Tensor, words: Tensor, word_mask: Tensor
    ) -> tuple[Tensor | None, ...]:
        # The merged mask, all that would need the pixels, is left out of the graph.
        pixels = regions.new_zeros(1, self.model.cfg.mask_dim, 1, 1)
        state = RegionState(
            [], [], [], pixels, regions, position, pixels, boxes=boxes, counts=[len(words)]
        )
        out = self.model.ground(state, words, word_mask)
        return tuple(x for x in (out.target, out.no_target, out.count) if x is not None)


class _Masks(_Step):
    def forward(self, crops: Tensor, coarse: Tensor) -> Tensor:
        return self.model.draw_crops(crops, coarse)


class _Backbone(_Step):
    """Maps with their channels last, as torch's convolutions after it like them."""

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        return tuple(x.permute(0, 2, 3, 1) for x in self.model.backbone(*given))


class _OfficialGround(_Step):
    """All but the words comes in the order of :func:`state_tensors`."""

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        *levels, pixels, regions, position, words, word_mask = given
        memories, positions, features = levels[:3], levels[3:6], levels[6:]
        sizes = [(int(x.shape[2]), int(x.shape[3])) for x in features]
        state = RegionState(
            memories,
            positions,
            sizes,
            pixels,
            regions,
            position,
            pixels,
            level_features=features,
            counts=[1],
        )
        out = self.model.ground(state, words, word_mask)
        return out.target_mask, out.minimap, out.no_target


def state_tensors(state: RegionState, expression: int) -> dict[str, Tensor]:
    """What an official preset's ground step takes of a state for one of its expressions."""
    pictures = [i for i, count in enumerate(state.counts) for _ in range(count)]
    one, whose = slice(expression, expression + 1), pictures[expression]
    picture = slice(whose, whose + 1)
    named = {f"memory{i}": x[:, picture] for i, x in enumerate(state.memories)}
    named |= {f"position{i}": x for i, x in enumerate(state.positions)}
    named |= {f"features{i}": x[picture] for i, x in enumerate(state.level_features)}
    named["mask_features"] = state.mask_features[picture]
    named["regions"] = state.regions[:, one]
    named["region_position"] = state.region_position[:, one]
    return named


def official_side(model: ReLA) -> int:
    """Pixels along a side of the padded pictures of an official preset."""
    return model.cfg.image_size + -model.cfg.image_size % STRIDE


def _official_step(model: ReLA, part: str) -> tuple[nn.Module, dict[str, Tensor], list[str]]:
    """One of backbone and ground: module, inputs and names of the outputs."""
    cfg = model.cfg
    side = official_side(model)
    words = {
        "words": torch.zeros(1, cfg.max_tokens, cfg.text_dim),
        "word_mask": torch.ones(1, cfg.max_tokens, dtype=torch.int64),
    }
    read = words if cfg.language_in_backbone else {}
    images = torch.zeros(1, 3, side, side)
    if part == "backbone":
        return _Backbone(model), {"images": images, **read}, ["res2", "res3", "res4", "res5"]
    with torch.no_grad():
        state = model.encode_image(images, *read.values()).repeat([1])
    outputs = ["target_mask", "minimap", "no_target"]
    return _OfficialGround(model), {**state_tensors(state, 0), **words}, outputs


def trace_onnx(model: ReLA, part: str) -> bytes:
    """The ONNX graph of one step, one of ``PARTS`` or ``OFFICIAL_PARTS``; leaves the model in
    eval mode.

    By tracing: torch's newer exporter reasons about two free sizes for more than ten minutes.
    A trace freezes what Python computes, so whoever uses it compares it with the model.
    """
    cfg = model.cfg
    many = {0: "expressions"}
    text = {0: "expressions", 1: "words"}
    module: nn.Module
    inputs: dict[str, Tensor]
    free: dict[str, dict[int, str]]
    mask = torch.ones(2, 9, dtype=torch.int64)
    if part == "text":
        tokens = 5 + torch.arange(18).view(2, 9)
        module, inputs = _Text(model), {"tokens": tokens, "word_mask": mask}
        outputs, free = ["features"], {"tokens": text, "word_mask": text, "features": text}
    elif part == "image":
        module, inputs = _Image(model), {"images": torch.zeros(1, 3, 8 * STRIDE, 10 * STRIDE)}
        outputs = ["regions", "position", "masks", "boxes", "objectness"]
        free = {"images": {2: "height", 3: "width"}, "masks": {2: "rows", 3: "columns"}}
    elif part == "look":
        module, inputs = _Look(model), {"crops": torch.zeros(2, 3, SIDE, SIDE)}
        inputs["masks"] = torch.zeros(2, CELLS, CELLS)
        inputs |= {"regions": torch.zeros(2, cfg.hidden_dim), "boxes": torch.full((2, 4), 0.5)}
        outputs = ["told"]
        free = {name: {0: "crops"} for name in (*inputs, "told")}
    elif not cfg.image_layers:
        module, inputs, outputs = _official_step(model, part)
        free = {}
    elif part == "masks":
        coarse = torch.linspace(-4, 4, 2 * model.draw_side**2).view(2, model.draw_side, -1)
        module, inputs = _Masks(model), {"crops": torch.stack([coarse] * 3, 1), "coarse": coarse}
        outputs = ["drawn"]
        free = {name: {0: "masks"} for name in ("crops", "coarse", "drawn")}
    else:
        regions = torch.zeros(cfg.regions, 2, cfg.hidden_dim)
        words = torch.zeros(2, 9, cfg.text_dim)
        module, inputs = _Ground(model), {"regions": regions, "position": regions}
        inputs |= {"boxes": torch.full((1, cfg.regions, 4), 0.5), "words": words}
        inputs["word_mask"] = mask
        outputs = ["target", "no_target", "count"][: 3 if cfg.count_classes else 2]
        free = {"words": text, "word_mask": text} | {name: many for name in outputs}
        free |= {name: {1: "expressions"} for name in ("regions", "position")}
    with _plain_attention(model):
        return onnx_graph(module.eval(), inputs, outputs, free)


def onnx_graph(
    module: nn.Module,
    inputs: dict[str, Tensor],
    outputs: list[str],
    free: dict[str, dict[int, str]],
) -> bytes:
    """A module as ONNX, by tracing it with ``inputs``; ``free`` names the axes of inputs and
    outputs that may have any length."""
    buffer = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a trace may freeze; and that there is a newer way
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            buffer,  # type: ignore[arg-type]
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes=free,
            opset_version=OPSET,
            dynamo=False,
        )
    return buffer.getvalue()


@contextmanager
def _plain_attention(model: ReLA) -> Iterator[None]:
    """Attention of operations that are traced without freezing the lengths of the sequences."""
    layers = [m for m in model.modules() if isinstance(m, nn.MultiheadAttention)]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    for layer in layers:
        layer.forward = MethodType(_attend, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward
        torch.backends.mha.set_fastpath_enabled(fast)


def _attend(
    self: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """As nn.MultiheadAttention batch first, without attention mask; what is masked is -inf."""
    assert self.batch_first and self.in_proj_weight is not None and self.in_proj_bias is not None
    weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
    q, k, v = (
        F.linear(x, w, b).reshape(x.shape[0], x.shape[1], self.num_heads, self.head_dim)
        for x, w, b in zip((query, key, value), weights, biases, strict=True)
    )
    score = (q * self.head_dim**-0.5).transpose(1, 2) @ k.permute(0, 2, 3, 1)
    if key_padding_mask is not None:
        score = score + key_padding_mask[:, None, None]
    out = (score.softmax(-1) @ v.transpose(1, 2)).transpose(1, 2)
    return self.out_proj(out.reshape(query.shape)), None
