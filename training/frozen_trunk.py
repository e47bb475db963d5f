"""A trunk that does not learn, by ONNX Runtime: on a CPU it takes a third of torch's time."""

from __future__ import annotations

import importlib.util
import io
import warnings

import torch
from torch import Tensor, nn

from grex_ros.model.export import EXPORTER, OPSET

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
    weights = list(trunk.parameters())
    missing = [name for name in (ENGINE, EXPORTER) if importlib.util.find_spec(name) is None]
    if missing or any(w.requires_grad or w.device.type != "cpu" for w in weights):
        return False
    import onnxruntime

    vars(trunk).pop("forward", None)  # that of older weights
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    graph = _graph(trunk)
    session = onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])

    def forward(images: Tensor) -> list[Tensor]:
        maps = session.run(None, {"images": images.contiguous().numpy()})
        # As torch's convolutions after it like them.
        return [torch.from_numpy(m).contiguous(memory_format=torch.channels_last) for m in maps]

    trunk.forward = forward
    return True


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
