"""Pixel decoders: backbone features to three memories (strides 32, 16, 8) and mask features."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import RelaConfig
from .tables import constant_table, map_size, only_asked, pixel_centres, sine_position


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

    def forward(self, query: Tensor, memory: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
        """``query`` and ``memory`` (B, N, C): the cells of three maps of ``sizes``, one after the
        other, each of which looks around its own place in all three."""
        b, n, _ = memory.shape
        shape = (b, n, self.heads, self.LEVELS, self.POINTS)
        # Places are told in full precision also where the layers around run in half of it.
        full = torch.promote_types(memory.dtype, torch.float32)
        offsets = self.sampling_offsets(query).to(full).view(*shape, 2)
        weights = self.attention_weights(query).to(full).view(b, n, self.heads, -1)
        weights = weights.softmax(-1).view(shape)
        value = self.value_proj(memory).to(full).view(b, n, self.heads, -1)
        # Bags are many times as fast, but only for inference.
        sample = sample_bags if only_asked() else sample_grids
        return self.output_proj(sample(value, offsets, weights, sizes))


def sample_grids(
    value: Tensor, offsets: Tensor, weights: Tensor, sizes: list[tuple[int, int]]
) -> Tensor:
    """Bilinear samples of ``value`` (B, N, heads, c) at every cell's centre + ``offsets``
    (B, N, heads, levels, points, 2; x and y in cells of the level), summed with ``weights``
    (B, N, heads, levels, points); (B, N, heads * c). Zero outside the maps."""
    b, n, heads, _ = value.shape
    maps = value.permute(0, 2, 3, 1)
    centres = torch.cat([pixel_centres(h, w, value) for h, w in sizes])[:, None, None]
    sampled, start = [], 0
    for level, (h, w) in enumerate(sizes):
        grid = maps[..., start : start + h * w].reshape(b * heads, -1, h, w)
        start += h * w
        points = centres + offsets[:, :, :, level] / map_size(w, h, offsets)
        points = points.transpose(1, 2).flatten(0, 1)  # (B*heads, N, points, 2)
        sampled.append(F.grid_sample(grid, 2 * points - 1, align_corners=False))
    values = torch.cat(sampled, -1)  # (B*heads, c, N, levels*points)
    factors = weights.flatten(3).transpose(1, 2).reshape(b * heads, 1, n, -1)
    return (values * factors).sum(-1).view(b, -1, n).transpose(1, 2)


def sample_bags(
    value: Tensor, offsets: Tensor, weights: Tensor, sizes: list[tuple[int, int]]
) -> Tensor:
    """What :func:`sample_grids` does, as one weighted sum over the rows of a table, so that no
    sample is written to memory. Maps get a border of zeros, which saves the test for outside."""
    b, n, heads, c = value.shape
    device, points = value.device, weights.shape[4]
    table = bordered(value, sizes)
    # x and y of all points of a cell lie side by side: operations run over whole rows.
    flat = [side for size in sizes for side in size]
    places = cell_places(*flat, value)[:, :, None].expand(-1, -1, points, -1).reshape(n, 1, -1)
    corners = map_corners(*flat, points, value)
    limit = corners[:, :2].flatten()
    place = (offsets.flatten(3) + places).clamp_(min=-1)  # (B, N, heads, levels * points * 2)
    torch.minimum(place, limit, out=place)
    corner = place.floor()
    x, y = (place - corner).unflatten(-1, (-1, 2)).unbind(-1)
    right = weights.flatten(3) * x
    left = weights.flatten(3) - right
    low_right, low_left = right * y, left * y
    factors = torch.cat((left - low_left, right - low_right, low_left, low_right), -1)
    # The cell up and left of the point.
    stride, start = corners[:, 2], corners[:, 3]
    x, y = corner.unflatten(-1, (-1, 2)).unbind(-1)
    cell = torch.addcmul(x + start, y, stride).int()  # exact: far below 2**24
    if b > 1:
        picture = torch.arange(b, dtype=torch.int32, device=device).view(b, 1, 1, 1)
        cell += picture * (len(table) // heads // b)
    row = cell * heads + torch.arange(heads, dtype=torch.int32, device=device)[:, None]
    down = stride.int() * heads
    rows = torch.cat((row, row + heads, row + down, row + (down + heads)), -1)
    out = F.embedding_bag(
        rows.view(b * n * heads, -1),
        table,
        mode="sum",
        per_sample_weights=factors.view(b * n * heads, -1),
    )
    return out.view(b, n, heads * c)


def bordered(value: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
    """``value`` (B, N, heads, c) of three maps, each with a row and a column of zeros before it
    and two behind, as rows (B * cells * heads, c)."""
    maps = []
    pieces = value.split([h * w for h, w in sizes], 1)
    for piece, (h, w) in zip(pieces, sizes, strict=True):
        grid = F.pad(piece.unflatten(1, (h, w)), (0, 0, 0, 0, 1, 2, 1, 2))
        maps.append(grid.flatten(1, 2))
    return torch.cat(maps, 1).view(-1, value.shape[-1])


@constant_table()
def map_corners(
    h0: int, w0: int, h1: int, w1: int, h2: int, w2: int, points: int, device: torch.device
) -> Tensor:
    """Of every level's points, (levels * points, 4): the map's width and height, the cells from one
    row of the bordered map to the next, and its first cell that is no border, counted through all
    maps."""
    rows, start = [], 0
    for h, w in ((h0, w0), (h1, w1), (h2, w2)):
        rows += [(w, h, w + 3, start + w + 4)] * points
        start += (h + 3) * (w + 3)
    return torch.tensor(rows, device=device)


@constant_table()
def cell_places(
    h0: int, w0: int, h1: int, w1: int, h2: int, w2: int, device: torch.device
) -> Tensor:
    """Where the centre of every cell of three maps lies in each of them, in cells of that one from
    the centre of its first: (N, levels, 2), x and y."""
    sizes = ((h0, w0), (h1, w1), (h2, w2))
    like = torch.empty(0, device=device)
    centres = torch.cat([pixel_centres(h, w, like) for h, w in sizes])[:, None]
    scale = torch.tensor([(w, h) for h, w in sizes], device=device)
    return centres * scale - 0.5


class DeformableLayer(nn.Module):
    """Deformable self-attention and feed-forward, post-norm."""

    def __init__(self, dim: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(dim, heads)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, ffn)
        self.linear2 = nn.Linear(ffn, dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, x: Tensor, position: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
        """``x`` and ``position`` (B, N, C) or (N, C); see :class:`DeformableAttention`."""
        x = self.norm1(x + self.self_attn(x + position, x, sizes))
        return self.norm2(x + self.linear2(self.linear1(x).relu_()))


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
        for layer in self.layers:
            x = layer(x, position, sizes)
        memories = [
            m.transpose(1, 2).unflatten(2, size)
            for m, size in zip(x.split([h * w for h, w in sizes], 1), sizes, strict=True)
        ]
        fine = self.lateral_norm(self.lateral(features[0]))
        fine = fine + F.interpolate(memories[-1], fine.shape[-2:], mode="bilinear")
        fine = self.output_norm(convolve(self.output, fine)).relu_()
        return memories, self.mask_features(fine)


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """``conv`` (3 x 3, padded by 1, without bias) of ``x``; on a CPU by Winograd's method where
    torch has it, a third of the time for 1e-5 of the largest value."""
    plain = x.device.type == "cpu" and x.dtype is conv.weight.dtype is torch.float32
    if not (only_asked() and plain and torch.backends.nnpack.is_available()):
        return conv(x)
    x, weight = x.contiguous(), conv.weight.contiguous()
    return torch.ops.aten._nnpack_spatial_convolution(x, weight, None, (1, 1), (1, 1))


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
        s32, s16 = (
            t.transpose(1, 2).reshape(-1, dim, *s) for t, s in zip(split, sizes, strict=True)
        )
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
