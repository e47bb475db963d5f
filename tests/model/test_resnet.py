"""The preset r50: a frozen ResNet-50, and one picture that serves many expressions."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import ResNetConfig, ResNetModel

from grex_ros.model.config import RelaConfig
from grex_ros.model.rela import ReLA
from grex_ros.model.resnet import FrozenBatchNorm, ResNet50

from .test_rela import inputs, picture

SMALL_R50 = RelaConfig.preset("tiny").replace(backbone="resnet50")


def randomise(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(3)
    for name, value in module.state_dict().items():
        if name.endswith("running_var") or (name.endswith("weight") and value.dim() == 1):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        elif value.dim() == 1:
            value.copy_(0.1 * torch.randn(value.shape, generator=generator))


def test_features_equal_those_of_transformers() -> None:
    ours = ResNet50().eval()
    randomise(ours)
    theirs = ResNetModel(ResNetConfig(downsample_in_bottleneck=False)).eval()
    # Both list the layers in one order, but for the shortcut, which transformers has first too.
    values = list(ours.state_dict().values())
    names = [n for n in theirs.state_dict() if "num_batches_tracked" not in n]
    theirs.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        features = ours(images)
        hidden = theirs(images, output_hidden_states=True).hidden_states[1:]
    assert [f.shape[1] for f in features] == list(ours.channels)
    for feature, expected in zip(features, hidden, strict=True):
        assert (feature - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_norms_never_learn() -> None:
    model = ResNet50().train()
    before = {n: v.clone() for n, v in model.named_buffers()}
    assert len(before) == 4 * 53
    model(torch.randn(1, 3, 32, 32))[-1].sum().backward()
    assert all(torch.equal(v, before[n]) for n, v in model.named_buffers())
    assert not any("norm" in n for n, _ in model.named_parameters())
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
    assert not list(FrozenBatchNorm(4).parameters())


@pytest.mark.parametrize("counts", [[3], [1, 2]])
def test_one_picture_serves_many_expressions(counts: list[int]) -> None:
    """Layers that see both image and words give what a call per expression gives."""
    torch.manual_seed(0)
    model = ReLA(SMALL_R50).eval()
    nn.init.normal_(model.region_decoder.word_proj.weight, std=0.5)  # type: ignore[union-attr]
    randomise(model.backbone)
    assert not model.cfg.language_in_backbone
    tokens, mask = inputs(3)
    pictures = [picture(7 + i) for i in range(len(counts))]
    with torch.inference_mode():
        words = model.encode_text(tokens, mask)
        state = model.encode_image(model.normalise(pictures))
        together = model.ground(state.repeat(counts), words, mask)
        shown = [image for image, n in zip(pictures, counts, strict=True) for _ in range(n)]
        for i, image in enumerate(shown):
            alone = model([image], tokens[i : i + 1], mask[i : i + 1])
            for name in ("target_mask", "minimap", "no_target", "masks"):
                ours, expected = getattr(together, name)[i], getattr(alone, name)[0]
                scale = expected.abs().max().item()
                torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4 * scale, msg=name)
    assert (together.target_mask[1] - together.target_mask[2]).abs().max() > 1e-3
