"""The model as ONNX graphs, which other engines run faster than torch does.

One file for each step of :class:`~grex_ros.model.rela.ReLA`: text, image, ground, masks. Free are
the size of the picture (multiples of 32), the number of expressions, of words and of masks.
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

from .region_decoder import RegionState
from .rela import STRIDE, ReLA

PARTS = ("image", "text", "ground", "masks")
OPSET = 17  # the first with layer norm
EXPORTER = "onnx"  # the package that torch needs for it


def export_problem(model: ReLA) -> str:
    """Why ``model`` cannot be exported; empty if it can."""
    cfg = model.cfg
    if not (cfg.instance_heads and cfg.image_layers):
        return f"the preset {cfg.name} runs on torch only: its words meet the picture's pixels"
    # Thinner pictures would need regions that stand twice, a case that a graph does not hold.
    if cfg.region_proposals and (STRIDE // 8) * (cfg.image_size // 8) < cfg.regions:
        return f"pictures of {cfg.image_size} pixels are too small for {cfg.regions} regions"
    return ""


def _code_digest() -> str:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


CODE = _code_digest()  # at import: of the code that runs, whatever becomes of the files


def identity(digest: str) -> dict[str, str]:
    """What an export must carry to be one of the checkpoint with this digest, by this code."""
    return {"checkpoint": digest, "code": CODE}


def export_onnx(model: ReLA, folder: Path, digest: str) -> None:
    """Writes one file for each of PARTS; each replaces the one before in one step.

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
    for part in PARTS:
        graph = onnx.load_from_string(_trace(model, part))
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
        return state.regions, state.region_position, state.masks, state.boxes


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


def _trace(model: ReLA, part: str) -> bytes:
    """The ONNX graph of one step.

    By tracing: torch's newer exporter reasons about two free sizes for more than ten minutes.
    A trace freezes what Python computes, so whoever uses it compares it with the model.
    """
    cfg = model.cfg
    many = {0: "expressions"}
    text = {0: "expressions", 1: "words"}
    module: nn.Module
    inputs: dict[str, Tensor]
    mask = torch.ones(2, 9, dtype=torch.int64)
    if part == "text":
        module, inputs = _Text(model), {"tokens": 5 + torch.arange(18).view(2, 9)}
        outputs, free = ["features"], {"tokens": text, "word_mask": text, "features": text}
    elif part == "image":
        module, inputs = _Image(model), {"images": torch.zeros(1, 3, 8 * STRIDE, 10 * STRIDE)}
        outputs = ["regions", "position", "masks", "boxes"]
        free = {"images": {2: "height", 3: "width"}, "masks": {2: "rows", 3: "columns"}}
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
        outputs = ["target", "no_target", "count"][: 3 if cfg.count_classes else 2]
        free = {"words": text, "word_mask": text} | {name: many for name in outputs}
        free |= {name: {1: "expressions"} for name in ("regions", "position")}
    if part in ("text", "ground"):
        inputs["word_mask"] = mask
    buffer = io.BytesIO()
    with _plain_attention(model), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a trace may freeze; and that there is a newer way
        torch.onnx.export(
            module.eval(),
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
