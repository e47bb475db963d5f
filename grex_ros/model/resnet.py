"""ResNet-50 as detectron2 builds it: the image encoder of the official preset ``r50``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FrozenBatchNorm(nn.Module):
    """Batch norm that never learns: statistics, scale and shift are buffers."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=1e-5
        )


class NormedConv(nn.Conv2d):
    """Convolution without bias, padded to keep the size, and the norm after it."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__(c_in, c_out, kernel, stride, kernel // 2, bias=False)
        self.norm = FrozenBatchNorm(c_out)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))."""
        return self.norm(super().forward(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 (which carries the stride, as in torchvision), 1x1, and a shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        mid = c_out // 4
        self.shortcut = NormedConv(c_in, c_out, 1, stride) if c_in != c_out else None
        self.conv1 = NormedConv(c_in, mid, 1)
        self.conv2 = NormedConv(mid, mid, 3, stride)
        self.conv3 = NormedConv(mid, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H/stride, W/stride)."""
        y = F.relu_(self.conv1(x))
        y = self.conv3(F.relu_(self.conv2(y)))
        return F.relu_(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet50(nn.Module):
    """ResNet-50 without its classifier. It takes no language, so a picture is encoded once."""

    channels = (256, 512, 1024, 2048)
    DEPTHS = (3, 4, 6, 3)

    def __init__(self) -> None:
        super().__init__()
        self.stem = NormedConv(3, 64, 7, 2)
        self.stages = nn.ModuleList()
        c_in = 64
        for stage, (depth, c_out) in enumerate(zip(self.DEPTHS, self.channels, strict=True)):
            blocks = [Bottleneck(c_in, c_out, 2 if stage else 1)]
            blocks += [Bottleneck(c_out, c_out, 1) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(*blocks))
            c_in = c_out

    def forward(self, images: Tensor) -> list[Tensor]:
        """``images`` (B, 3, H, W) normalised, H and W multiples of 32."""
        x = F.max_pool2d(F.relu_(self.stem(images)), 3, 2, 1)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features
