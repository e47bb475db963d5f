"""EfficientNet-Lite0, the trunk of the compact preset."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SameConv(nn.Conv2d):
    """Convolution padded as TensorFlow pads: the odd pixel goes to the bottom and the right."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride); H and W are multiples of the stride."""
        pad = []
        for kernel, stride in zip(self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max(kernel - stride, 0)
            pad += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pad, value=0.0))


def _conv(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    if stride == 1:
        conv = nn.Conv2d(c_in, c_out, kernel, 1, kernel // 2, groups=groups, bias=False)
    else:
        conv = SameConv(c_in, c_out, kernel, stride, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(c_out, eps=1e-3, momentum=0.01)]


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter each channel, narrow by 1x1 (MobileNetV2)."""

    def __init__(self, c_in: int, c_out: int, expand: int, kernel: int, stride: int) -> None:
        super().__init__()
        mid = c_in * expand
        layers: list[nn.Module] = []
        if expand != 1:
            layers += [*_conv(c_in, mid, 1), nn.ReLU6(inplace=True)]
        layers += [*_conv(mid, mid, kernel, stride, groups=mid), nn.ReLU6(inplace=True)]
        self.layers = nn.Sequential(*layers, *_conv(mid, c_out, 1))
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H/stride, W/stride)."""
        y = self.layers(x)
        return x + y if self.residual else y


# expand, kernel, stride, channels, repeats
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
STEM = 32  # channels
BEGINNING = 3  # stages up to stride 8


class _Stages(nn.Module):
    """What is built of the stages; its batch norms always run on their stored statistics: batches
    here are small and pretrained statistics are good."""

    def train(self, mode: bool = True) -> _Stages:
        """Sets the mode of all but the batch norms, which stay in eval mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def _stages(first: int) -> nn.ModuleList:
    """The stages from number ``first`` on."""
    stages = nn.ModuleList()
    c_in = STAGES[first - 1][3] if first else STEM
    for expand, kernel, stride, c_out, repeats in STAGES[first:]:
        blocks = []
        for i in range(repeats):
            blocks.append(InvertedResidual(c_in, c_out, expand, kernel, 1 if i else stride))
            c_in = c_out
        stages.append(nn.Sequential(*blocks))
    return stages


def _maps(stages: nn.ModuleList, x: Tensor) -> list[Tensor]:
    """What the last ``stages`` make of ``x``: the last map of each stride from 4 on."""
    features = []
    for i, stage in enumerate(stages, len(STAGES) - len(stages)):
        x = stage(x)
        if i in (1, 2, 4, 6):
            features.append(x)
    return features


class EfficientNetLite0(_Stages):
    """Trunk of EfficientNet-Lite0 (no squeeze-excite, ReLU6), without its classifier."""

    channels = (24, 40, 112, 320)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv(3, STEM, 3, 2), nn.ReLU6(inplace=True))
        self.stages = _stages(0)

    def forward(self, images: Tensor) -> list[Tensor]:
        """``images`` (B, 3, H, W) normalised, H and W multiples of 32 -> maps of strides 4, 8, 16
        and 32."""
        return _maps(self.stages, self.stem(images))

    def begin(self, images: Tensor) -> Tensor:
        """The map of stride 8 alone."""
        x = self.stem(images)
        for stage in self.stages[:BEGINNING]:
            x = stage(x)
        return x


class LateStages(_Stages):
    """What comes in the trunk after :meth:`EfficientNetLite0.begin`, with weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = _stages(BEGINNING)

    def forward(self, begun: Tensor) -> list[Tensor]:
        """(B, 40, H, W) -> maps of half and of a quarter of its size."""
        return _maps(self.stages, begun)

    def copy(self, trunk: EfficientNetLite0) -> None:
        """Takes over the weights of ``trunk``."""
        for own, its in zip(self.stages, trunk.stages[BEGINNING:], strict=True):
            own.load_state_dict(its.state_dict())
