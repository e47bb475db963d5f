"""Pixel decoders: backbone features to three memories (strides 32, 16, 8) and mask features."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import RelaConfig
from .tables import pixel_centres, sine_position


class DeformableAttention(nn.Module):
    """Multi-scale deformable self-attention (Deformable DETR), in plain PyTorch."""

    LEVELS, POINTS = 3, 4

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        samples = heads * self.LEVELS * self.POINTS
        self.sampling_offsets = nn.Linear(dim, 2 * samples)
        self.attention_weights = nn.Linear(dim, samples)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        """Head h starts looking in direction h, point p at distance p + 1 (Deformable DETR)."""
        for layer in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        direction = torch.stack((angle.cos(), angle.sin()), -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.POINTS + 1)
        offsets = direction[:, None, None] * steps[:, None]
        offsets = offsets.expand(-1, self.LEVELS, -1, -1)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.flatten())
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, query: Tensor, memory: Tensor, reference: Tensor, sizes: list[tuple[int, int]]
    ) -> Tensor:
        """``query`` and ``memory`` (B, N, C); ``reference`` (N, 2) x and y in 0..1."""
        b, n, c = memory.shape
        shape = (b, n, self.heads, self.LEVELS, self.POINTS)
        offsets = self.sampling_offsets(query).view(*shape, 2)
        weights = self.attention_weights(query).view(b, n, self.heads, -1).softmax(-1)
        value = self.value_proj(memory).view(b, n, self.heads, -1).permute(0, 2, 3, 1)
        sampled, start = [], 0
        for level, (h, w) in enumerate(sizes):
            grid = value[..., start : start + h * w].reshape(b * self.heads, -1, h, w)
            start += h * w
            scale = offsets.new_tensor((w, h))
            points = reference[:, None, None] + offsets[:, :, :, level] / scale
            points = points.transpose(1, 2).flatten(0, 1)  # (B*heads, N, points, 2)
            sampled.append(F.grid_sample(grid, 2 * points - 1, align_corners=False))
        values = torch.cat(sampled, -1)  # (B*heads, C/heads, N, levels*points)
        weights = weights.transpose(1, 2).reshape(b * self.heads, 1, n, -1)
        out = (values * weights).sum(-1).view(b, c, n).transpose(1, 2)
        return self.output_proj(out)


class DeformableLayer(nn.Module):
    """Deformable self-attention and feed-forward, post-norm."""

    def __init__(self, dim: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(dim, heads)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, ffn)
        self.linear2 = nn.Linear(ffn, dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(
        self, x: Tensor, position: Tensor, reference: Tensor, sizes: list[tuple[int, int]]
    ) -> Tensor:
        """``x`` and ``position`` (B, N, C) or (N, C); see :class:`DeformableAttention`."""
        x = self.norm1(x + self.self_attn(x + position, x, reference, sizes))
        return self.norm2(x + self.linear2(F.relu(self.linear1(x))))


class DeformablePixelDecoder(nn.Module):
    """The official pixel decoder: a deformable encoder over strides 32 to 8, one FPN step to 4."""

    def __init__(self, cfg: RelaConfig, channels: tuple[int, ...]) -> None:
        super().__init__()
        dim = cfg.hidden_dim
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, dim, 1), nn.GroupNorm(32, dim)) for c in channels[:0:-1]
        )
        self.level_embed = nn.Parameter(torch.randn(len(self.input_proj), dim))
        self.layers = nn.ModuleList(
            DeformableLayer(dim, cfg.heads, cfg.pixel_ffn) for _ in range(cfg.pixel_layers)
        )
        self.lateral = nn.Conv2d(channels[0], dim, 1, bias=False)
        self.lateral_norm = nn.GroupNorm(32, dim)
        self.output = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.output_norm = nn.GroupNorm(32, dim)
        self.mask_features = nn.Conv2d(dim, cfg.mask_dim, 1)

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """``features`` res2..res5 -> memories (B, C, h, w) of strides 32, 16, 8 and mask features
        (B, mask_dim, H/4, W/4)."""
        maps = [p(f) for p, f in zip(self.input_proj, features[:0:-1], strict=True)]
        sizes = [(m.shape[2], m.shape[3]) for m in maps]
        x = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)
        dim = x.shape[-1]
        position = torch.cat(
            [
                sine_position(h, w, dim, x) + e
                for (h, w), e in zip(sizes, self.level_embed, strict=True)
            ]
        )
        reference = torch.cat([pixel_centres(h, w, x) for h, w in sizes])
        for layer in self.layers:
            x = layer(x, position, reference, sizes)
        memories = [
            m.transpose(1, 2).unflatten(2, size)
            for m, size in zip(x.split([h * w for h, w in sizes], 1), sizes, strict=True)
        ]
        fine = self.lateral_norm(self.lateral(features[0]))
        fine = fine + F.interpolate(memories[-1], fine.shape[-2:], mode="bilinear")
        fine = F.relu(self.output_norm(self.output(fine)))
        return memories, self.mask_features(fine)


class FpnPixelDecoder(nn.Module):
    """The compact pixel decoder: self-attention at strides 32 and 16, then a feature pyramid of
    depthwise convolutions. A tenth of the arithmetic of the deformable one."""

    def __init__(self, cfg: RelaConfig, channels: tuple[int, ...]) -> None:
        super().__init__()
        dim, fine = cfg.hidden_dim, cfg.mask_dim
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, d, 1), nn.GroupNorm(8, d))
            for c, d in zip(channels, (fine, dim, dim, dim), strict=True)
        )
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(dim, cfg.heads, cfg.pixel_ffn, 0.0, batch_first=True),
            cfg.pixel_layers,
            enable_nested_tensor=False,
        )
        self.smooth = nn.ModuleList(_separable(dim) for _ in range(2))
        self.to_fine = nn.Conv2d(dim, fine, 1)
        self.refine = nn.Sequential(_separable(fine), _separable(fine))
        self.mask_features = nn.Conv2d(fine, fine, 1)

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """As :meth:`DeformablePixelDecoder.forward`."""
        maps = [f(x) for f, x in zip(self.lateral, features, strict=True)]
        coarse = maps[3:1:-1]
        sizes = [(m.shape[2], m.shape[3]) for m in coarse]
        dim = coarse[0].shape[1]
        position = torch.cat([sine_position(h, w, dim, coarse[0]) for h, w in sizes])
        x = torch.cat([m.flatten(2).transpose(1, 2) for m in coarse], 1) + position
        split = self.encoder(x).split([h * w for h, w in sizes], 1)
        s32, s16 = (t.transpose(1, 2).unflatten(2, s) for t, s in zip(split, sizes, strict=True))
        s16 = self.smooth[0](s16 + _upsample(s32, s16))
        s8 = self.smooth[1](maps[1] + _upsample(s16, maps[1]))
        fine = self.refine(maps[0] + _upsample(self.to_fine(s8), maps[0]))
        return [s32, s16, s8], self.mask_features(fine)


def _separable(dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False),
        nn.Conv2d(dim, dim, 1, bias=False),
        nn.GroupNorm(8, dim),
        nn.ReLU(),
    )


def _upsample(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


def build_pixel_decoder(cfg: RelaConfig, channels: tuple[int, ...]) -> nn.Module:
    """The pixel decoder that ``cfg`` names, for backbone ``channels`` of res2 to res5."""
    cls = DeformablePixelDecoder if cfg.pixel_decoder == "deformable" else FpnPixelDecoder
    return cls(cfg, channels)
