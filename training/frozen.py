"""Parts that do not learn, by ONNX Runtime: on a CPU the trunk takes a third of torch's time."""

from __future__ import annotations

import importlib.util
import io
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from grex_ros.model.export import EXPORTER, OPSET, trace_onnx
from grex_ros.model.rela import ReLA

ENGINE = "onnxruntime"


class _Maps(nn.Module):
    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.trunk(images))


def run_frozen_trunk(trunk: nn.Module) -> bool:
    """From now on ``trunk``, which takes pictures (B, 3, H, W) alone and gives a list of maps, is
    computed by ONNX Runtime with its weights of now, in as many threads as torch has. Its modules
    stay as they are. False, and nothing is changed, where it learns, is on a GPU, or a package is
    not installed."""
    if not _can_be_replaced(trunk):
        return False
    vars(trunk).pop("forward", None)  # that of older weights
    session = _session(_graph(trunk))

    def forward(images: Tensor) -> list[Tensor]:
        maps = session.run(None, {"images": images.contiguous().numpy()})
        # As torch's convolutions after it like them.
        return [torch.from_numpy(m).contiguous(memory_format=torch.channels_last) for m in maps]

    trunk.forward = forward
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
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])


def _graph(trunk: nn.Module) -> bytes:
    """The trunk as ONNX, for any number of pictures of any size."""
    images, free = torch.zeros(2, 3, 64, 96), {0: "pictures", 2: "height", 3: "width"}
    module, was_training = _Maps(trunk), trunk.training
    module.eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is a newer exporter
        names = [f"map{i}" for i in range(len(module(images)))]
        buffer = io.BytesIO()
        torch.onnx.export(
            module,
            (images,),
            buffer,  # type: ignore[arg-type]
            input_names=["images"],
            output_names=names,
            dynamic_axes=dict.fromkeys(["images", *names], free),
            opset_version=OPSET,
            dynamo=False,
        )
    trunk.train(was_training)
    return buffer.getvalue()
