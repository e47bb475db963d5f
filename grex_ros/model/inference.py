"""What is done to a model that will only be asked, never trained: the numbers stay the same."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights

from .backbone import LanguageSwin, PixelWordFusion, SwinBlock
from .region_decoder import RegionDecoder, RegionState, RelaOutput
from .rela import ReLA
from .resnet import NormedConv

GRAPHS = 32  # CUDA graphs that are kept
WORD_STEP = 8  # sentences are filled up to a multiple, so that few lengths need a graph


def prepare(model: ReLA) -> ReLA:
    """Folds batch norms into the convolutions before them and lays the weights out for them.
    The model cannot be trained or saved afterwards. Returns the same model."""
    plain_parts(model)
    model.eval().requires_grad_(False)
    for module in list(model.modules()):
        if isinstance(module, nn.Sequential):
            items = list(module.named_children())
            for (name, conv), (norm_name, norm) in zip(items, items[1:], strict=False):
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    module._modules[name] = fuse_conv_bn_eval(conv, norm)
                    module._modules[norm_name] = nn.Identity()
        elif isinstance(module, NormedConv) and not isinstance(module.norm, nn.Identity):
            norm = module.norm
            module.weight, module.bias = fuse_conv_bn_weights(
                module.weight,
                None,
                norm.running_mean,
                norm.running_var,
                1e-5,
                norm.weight,
                norm.bias,
            )
            module.norm = nn.Identity()  # type: ignore[assignment]
    model.requires_grad_(False)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def lower_weights(model: ReLA, dtype: torch.dtype) -> None:
    """Keeps in ``dtype`` what autocast would cast to it at every call: the weights of linear layers
    and convolutions. Norms, embeddings and tables stay as they are."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.to(dtype)
        elif isinstance(module, nn.MultiheadAttention):
            module.in_proj_weight.data = module.in_proj_weight.data.to(dtype)
            module.in_proj_bias.data = module.in_proj_bias.data.to(dtype)


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """In which a model of ``dtype`` runs; float32 is left alone."""
    enabled = dtype is not torch.float32
    # Casts that were kept from one graph would be missing in the next.
    keep = device.type != "cuda"
    return torch.autocast(
        device.type, dtype if enabled else torch.bfloat16, enabled, cache_enabled=keep
    )


def compile_parts(model: ReLA, backend: str = "inductor") -> None:
    """Has torch.compile fuse the small operations between the matrix products, each part when it is
    first called with a shape, which takes a minute or more; a GPU gains most. The words come once
    and are left alone. :func:`plain_parts` undoes it."""
    # Every shape of the Swin's blocks is compiled for itself: four stages, shifted or not.
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    for part in _compiled_parts(model):
        part.compile(dynamic=False, backend=backend)
    for owner in (model, model.region_decoder):
        for name in _compiled_methods(owner):
            whole = torch.compile(getattr(owner, name), dynamic=False, backend=backend)
            vars(owner)[name] = whole


def plain_parts(model: nn.Module) -> None:
    """The model as it was before :func:`compile_parts`."""
    for part in model.modules():
        part._compiled_call_impl = None
        for name in _compiled_methods(part):
            vars(part).pop(name, None)


def _compiled_parts(model: ReLA) -> list[nn.Module]:
    if isinstance(model.backbone, LanguageSwin):  # its tables of windows are not to be fused
        kinds = (SwinBlock, PixelWordFusion)
        blocks = [m for m in model.backbone.modules() if isinstance(m, kinds)]
        # Its expressions are all of one length; elsewhere every new length would be waited for.
        return [model.pixel_decoder, model.region_decoder, *blocks]
    late = [] if model.close_look is None else [model.close_look.late]
    return [model.pixel_decoder, model.backbone, *late]


def _compiled_methods(part: nn.Module) -> list[str]:
    """Those that are compiled beside what a call of the part runs."""
    if isinstance(part, RegionDecoder):
        return ["encode_image"]
    return ["begin_close"] if isinstance(part, ReLA) and part.close_look is not None else []


class GraphedModel:
    """The image and grounding steps of a model as CUDA graphs, one for every shape of input: a
    frame is one call to the driver instead of thousands.

    What a step returns is overwritten when it runs again on the same shapes. On the CPU the same
    code runs without graphs. Not thread safe.
    """

    def __init__(self, model: ReLA) -> None:
        self.model = model
        self._steps: dict[Hashable, tuple[list[Tensor], Callable[[], Any]]] = {}

    def encode_text(self, tokens: Tensor, word_mask: Tensor) -> Tensor:
        """See :meth:`ReLA.encode_text`; not a graph, since words come once."""
        return self.model.encode_text(tokens, word_mask)

    def encode_image(
        self, images: Tensor, words: Tensor | None = None, word_mask: Tensor | None = None
    ) -> RegionState:
        """See :meth:`ReLA.encode_image`."""
        given = [t for t in (images, words, word_mask) if t is not None]
        key = ("image", *(t.shape for t in given))
        return self._run(key, lambda *tensors: self.model.encode_image(*tensors), given)

    def look_close(self, state: RegionState, seen: Tensor, whole: Tensor) -> RegionState:
        """See :meth:`ReLA.look_close`; ``state`` comes from :meth:`encode_image`."""
        if self.model.close_look is None:
            return state
        key = ("look", state.masks.data_ptr(), seen.shape, whole.shape)
        return self._run(key, lambda *two: self.model.look_close(state, *two), [seen, whole])

    def ground(self, state: RegionState, words: Tensor, word_mask: Tensor) -> RelaOutput:
        """See :meth:`ReLA.ground`; ``state`` comes from :meth:`look_close`."""
        if self.model.cfg.word_padding_mask:
            fill = -words.shape[1] % WORD_STEP
            words, word_mask = F.pad(words, (0, 0, 0, fill)), F.pad(word_mask, (0, fill))
        # The state's tensors belong to a graph, which always leaves them in the same place.
        places = state.mask_features.data_ptr(), state.regions.data_ptr()
        key = ("words", *places, tuple(state.counts), words.shape)
        return self._run(key, lambda w, m: self.model.ground(state, w, m), [words, word_mask])

    def draw_masks(
        self, logits: Tensor, boxes: Tensor, seen: Tensor, whole: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`ReLA.draw_masks`; filled up to a power of two regions, so that a few graphs do
        for any number."""
        n = len(boxes)
        fill = (1 << (n - 1).bit_length()) - n
        logits = F.pad(logits, (0, 0, 0, 0, 0, fill))
        boxes = F.pad(boxes, (0, 0, 0, fill), value=0.5)
        given = [logits, boxes, seen, whole]
        key = ("masks", *(t.shape for t in given))
        masks, corners = self._run(key, self.model.draw_masks, given)
        return masks[:n], corners[:n]

    def _run(self, key: Hashable, step: Callable[..., Any], tensors: list[Tensor]) -> Any:
        if key not in self._steps:
            if len(self._steps) >= GRAPHS:
                self._steps.clear()  # a state may not outlive the graph that fills it
            inputs = [t.clone() for t in tensors]
            self._steps[key] = inputs, self._record(step, inputs)
        inputs, replay = self._steps[key]
        for place, tensor in zip(inputs, tensors, strict=True):
            place.copy_(tensor, non_blocking=True)
        return replay()

    @staticmethod
    def _record(step: Callable[..., Any], inputs: list[Tensor]) -> Callable[[], Any]:
        if inputs[0].device.type != "cuda":
            kept = step(*inputs)
            return lambda: _overwrite(kept, step(*inputs))
        side = torch.cuda.Stream(inputs[0].device)
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):  # libraries choose their kernels and reserve their memory
                step(*inputs)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = step(*inputs)

        def replay() -> Any:
            graph.replay()
            return output

        return replay


def _overwrite(kept: Any, new: Any) -> Any:
    """Copies every tensor of ``new`` to its place in ``kept``, an output of the same step."""
    if isinstance(kept, Tensor):
        if kept.data_ptr() != new.data_ptr():  # a weight is its own copy
            kept.copy_(new)
    elif isinstance(kept, list | tuple):
        for old, value in zip(kept, new, strict=True):
            _overwrite(old, value)
    elif is_dataclass(kept):
        for item in fields(kept):
            _overwrite(getattr(kept, item.name), getattr(new, item.name))
    return kept
