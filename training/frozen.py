"""Parts that do not learn, by ONNX Runtime: on a CPU the trunk takes a third of torch's time."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from grex_ros.model.export import EXPORTER, onnx_graph, trace_onnx
from grex_ros.model.exported import onnxruntime_session
from grex_ros.model.rela import ReLA

ENGINE = "onnxruntime"


class _Maps(nn.Module):
    """A method of a part, with a flat list of what it gives."""

    def __init__(self, part: nn.Module, method: str) -> None:
        super().__init__()
        self.part, self.method = part, method

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(pytree.tree_leaves(getattr(self.part, self.method)(images)))


def run_frozen_image(model: ReLA) -> None:
    """What of trunk and detector does not learn is computed by ONNX Runtime from now on, with the
    weights that it has now."""
    if model.close_look is not None:
        run_frozen(model.close_look.late, channels=model.backbone.channels[1])
        run_frozen(model.backbone, "begin")
    if not model.cfg.language_in_backbone:
        run_frozen(model.backbone)
    if model.sight is not None:
        run_frozen(model.sight.detector, "maps")


def run_frozen(part: nn.Module, method: str = "forward", channels: int = 3) -> bool:
    """From now on ``method`` of ``part``, which takes pictures or maps (B, ``channels``, H, W)
    alone and gives maps, is computed by ONNX Runtime with its weights of now, in as many threads as
    torch has. Its modules stay as they are. False, and nothing is changed, where it learns, is on a
    GPU, or a package is not installed."""
    if not _can_be_replaced(part):
        return False
    vars(part).pop(method, None)  # that of older weights
    images, free = torch.zeros(2, channels, 64, 96), {0: "pictures", 2: "height", 3: "width"}
    was_training = part.training
    part.eval()
    with torch.no_grad():
        structure = pytree.tree_structure(getattr(part, method)(images))
    names = [f"map{i}" for i in range(structure.num_leaves)]
    axes = dict.fromkeys(["images", *names], free)
    graph = onnx_graph(_Maps(part, method), {"images": images}, names, axes)
    part.train(was_training)
    session = _session(graph)

    def maps(images: Tensor) -> Any:
        found = session.run(None, {"images": images.contiguous().numpy()})
        # As torch's convolutions after it like them.
        last = [torch.from_numpy(m).contiguous(memory_format=torch.channels_last) for m in found]
        return pytree.tree_unflatten(last, structure)

    vars(part)[method] = maps
    return True


def run_frozen_text(model: ReLA) -> bool:
    """Likewise :meth:`ReLA.encode_text`, whose weights nothing changes in a run."""
    if not _can_be_replaced(model.text_encoder):
        return False
    vars(model).pop("encode_text", None)
    was_training = model.training
    session = _session(trace_onnx(model, "text"))
    model.train(was_training)

    def encode_text(tokens: Tensor, word_mask: Tensor) -> Tensor:
        inputs = {"tokens": tokens.numpy(), "word_mask": word_mask.numpy()}
        return torch.from_numpy(session.run(None, inputs)[0])

    vars(model)["encode_text"] = encode_text
    return True


def _can_be_replaced(part: nn.Module) -> bool:
    missing = [name for name in (ENGINE, EXPORTER) if importlib.util.find_spec(name) is None]
    learns = any(w.requires_grad or w.device.type != "cpu" for w in part.parameters())
    return not missing and not learns


def _session(graph: bytes) -> Any:
    return onnxruntime_session(graph, torch.get_num_threads())
