"""Image encoders: pictures to feature maps at strides 4, 8, 16 and 32 (``res2`` to ``res5``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import RelaConfig
from .tables import constant_table, only_asked


class WindowAttention(nn.Module):
    """Multi-head self-attention in windows with a relative position bias (Swin)."""

    relative_position_index: Tensor

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        axis = torch.arange(window)
        yx = torch.cartesian_prod(axis, axis)
        offset = yx[:, None] - yx[None] + window - 1
        index = offset[..., 0] * (2 * window - 1) + offset[..., 1]
        self.register_buffer("relative_position_index", index, persistent=False)
        self._biases: dict[tuple[Any, ...], tuple[Tensor, Tensor | None]] = {}

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        """``x`` (B, H*W, C). The tokens that fill up the last windows are zeros before ``qkv``, so
        its bias after it: they take part as keys, and are neither projected nor kept."""
        b, n, c = x.shape
        qkv = self.qkv(x)
        if windows.filled:
            qkv = torch.cat((qkv, self.qkv.bias.to(qkv.dtype).expand(b, 1, -1)), 1)
        count, size = windows.tokens.shape
        qkv = take(qkv, windows.tokens.flatten())
        qkv = qkv.view(b * count, size, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        if x.device.type == "cpu" and only_asked():
            y = attend_windows(q, k, v, self.bias(None, qkv.dtype)[0], windows.mask)
        else:
            mask = self.bias(windows.mask, qkv.dtype)
            mask = mask.repeat(b, 1, 1, 1) if b > 1 and len(mask) > 1 else mask
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)
        return self.proj(take(y.reshape(b, count * size, c), windows.places))

    def bias(self, mask: Tensor | None, dtype: torch.dtype) -> Tensor:
        """What is added to the scores of tokens in a window, (1 or windows, heads, N, N): the bias
        of their relative positions, and :attr:`Windows.mask`.

        A model that is only asked on a GPU keeps it: to gather it anew takes as long as to attend.
        """
        table = self.relative_position_bias_table
        key = (None if mask is None else mask.data_ptr(), dtype, table.device)
        asked = only_asked()
        if asked and key in self._biases:
            return self._biases[key][0]
        size = len(self.relative_position_index)
        bias = table.t().index_select(1, self.relative_position_index.flatten())
        bias = bias.view(1, self.heads, size, size).to(dtype)
        if mask is not None:
            bias = bias + mask[:, None].to(dtype)
        if asked and table.device.type == "cuda" and not table.requires_grad:
            self._biases[key] = bias, mask  # with the mask no other gets its address
        return bias


def take(x: Tensor, index: Tensor) -> Tensor:
    """Rows ``index`` (M,) of every picture: (B, N, C) -> (B, M, C). Torch shares the rows among
    threads only along the first dimension."""
    b, n, c = x.shape
    if b > 1:
        index = (torch.arange(0, b * n, n, device=x.device)[:, None] + index).flatten()
    return x.reshape(b * n, c).index_select(0, index).view(b, -1, c)


def attend_windows(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
    """Attention window by window, so that its weights (heads, N, N) stay in the cache of a CPU.

    ``q``, ``k``, ``v`` (B * windows, heads, N, d), ``bias`` (heads, N, N), ``mask``
    (windows, N, N); (B * windows, N, heads, d).
    """
    total, heads, n, d = q.shape
    out = q.new_empty(total, n, heads, d)
    for i in range(total):
        start = bias if mask is None else bias + mask[i % len(mask)]
        weights = torch.baddbmm(start, q[i], k[i].transpose(1, 2), alpha=d**-0.5)
        out[i] = torch.bmm(weights.softmax(-1), v[i]).transpose(0, 1)
    return out


def gelu(x: Tensor) -> Tensor:
    """GELU that may overwrite ``x`` where no gradient is wanted."""
    return torch.ops.aten.gelu_(x) if only_asked() else F.gelu(x)


class Mlp(nn.Module):
    """Two linear layers with GELU between them, four times as wide inside."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return self.fc2(gelu(self.fc1(x)))


class DropPath(nn.Module):
    """Stochastic depth: while training, leaves out a branch of some pictures at random and makes
    up for it in the others."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        if not self.training or not self.rate:
            return x
        keep = torch.rand(len(x), 1, 1, device=x.device) >= self.rate
        return x * (keep / (1 - self.rate)).to(x.dtype)


class SwinBlock(nn.Module):
    """One block of attention in windows, shifted in every second one, and feed-forward."""

    def __init__(self, dim: int, heads: int, window: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, heads, window)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        """``x`` (B, H*W, C)."""
        x = x + self.drop_path(self.attn(self.norm1(x), windows))
        return x + self.drop_path(self.mlp(self.norm2(x)))


@dataclass(frozen=True)
class Windows:
    """Which tokens of a map of H x W share a window. As in the official code the map is filled up
    to whole windows: the window never shrinks, and filling takes part unless the mask parts it."""

    tokens: Tensor  # (windows, N): index of the token, H*W = filling
    places: Tensor  # (H*W,): where each token went
    mask: (
        Tensor | None
    )  # (windows, N, N): 0, or -100 between tokens that the shift brought together

    @property
    def filled(self) -> bool:
        """Whether any window holds filling."""
        return self.tokens.numel() > self.places.numel()

    @staticmethod
    def of(height: int, width: int, window: int, shift: int, like: Tensor) -> Windows:
        """Windows of ``window`` x ``window``, after a cyclic shift by ``shift`` up and left."""
        tokens = window_tokens(height, width, window, shift, like)
        places = window_places(height, width, window, shift, like)
        mask = shifted_window_mask(height, width, window, like) if shift else None
        return Windows(tokens, places, mask)


def split_windows(x: Tensor, window: int) -> Tensor:
    """(H, W), both multiples of ``window``, -> (windows, window * window)."""
    h, w = x.shape
    x = x.view(h // window, window, w // window, window).transpose(1, 2)
    return x.reshape(-1, window * window)


@constant_table(torch.int64)
def window_tokens(height: int, width: int, window: int, shift: int, device: torch.device) -> Tensor:
    """:attr:`Windows.tokens`."""
    index = torch.arange(height * width, device=device).view(height, width)
    index = F.pad(index, (0, -width % window, 0, -height % window), value=height * width)
    return split_windows(index.roll((-shift, -shift), (0, 1)), window)


@constant_table(torch.int64)
def window_places(height: int, width: int, window: int, shift: int, device: torch.device) -> Tensor:
    """:attr:`Windows.places`: the order of tokens, filling (which sorts last) left out."""
    tokens = window_tokens(height, width, window, shift, torch.empty(0, device=device))
    return tokens.flatten().argsort(stable=True)[: height * width]


@constant_table()
def shifted_window_mask(height: int, width: int, window: int, device: torch.device) -> Tensor:
    """:attr:`Windows.mask` of windows shifted by half a window."""

    def zones(size: int) -> Tensor:
        size = size + -size % window
        zone = torch.zeros(size, device=device)
        zone[size - window :] = 1
        zone[size - window // 2 :] = 2
        return zone

    tokens = split_windows(3 * zones(height)[:, None] + zones(width)[None], window)
    return (tokens[:, None] != tokens[:, :, None]) * -100.0


class PixelWordFusion(nn.Module):
    """Pixel-word attention after a Swin stage (PWAM of LAVT, as used by the official ReLA).

    The instance norms run over the pixels of one picture.
    """

    def __init__(self, dim: int, text_dim: int) -> None:
        super().__init__()
        self.visual = nn.Linear(dim, dim)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(text_dim, dim)
        self.value = nn.Linear(text_dim, dim)
        self.out = nn.Linear(dim, dim)
        self.project = nn.Linear(dim, dim)

    @staticmethod
    def _instance_norm(x: Tensor) -> Tensor:
        return F.instance_norm(x.transpose(1, 2)).transpose(1, 2)

    def attend_words(self, x: Tensor, words: Tensor, word_mask: Tensor) -> Tensor:
        """Every pixel's reading of the words, (B, HW, C)."""
        query = self._instance_norm(self.query(x))
        key, value = (f(words) * word_mask[..., None] for f in (self.key, self.value))
        similarity = query @ key.transpose(1, 2) * x.shape[-1] ** -0.5
        similarity = similarity + (1e4 * word_mask - 1e4)[:, None]
        # To apply `out` to the few words first would be cheaper, but costs a digit of precision.
        return self._instance_norm(self.out(similarity.softmax(-1) @ value))

    def forward(self, x: Tensor, words: Tensor, word_mask: Tensor) -> Tensor:
        """``x`` (B, HW, C), ``words`` (B, L, text_dim), ``word_mask`` (B, L) -> (B, HW, C)."""
        fused = F.gelu(self.visual(x)) * self.attend_words(x, words, word_mask)
        return F.gelu(self.project(fused))


class PatchMerging(nn.Module):
    """Halves the resolution, doubles the channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H/2, W/2, 2C), odd sides rounded up."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        quads = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.reduction(self.norm(torch.cat(quads, -1)))


class SwinStage(nn.Module):
    """The blocks of one resolution, the fusion after them, and the step to the next."""

    def __init__(self, cfg: RelaConfig, stage: int) -> None:
        super().__init__()
        dim, window = cfg.swin_dim * 2**stage, cfg.swin_window
        self.window = window
        heads, before = cfg.swin_heads[stage], sum(cfg.swin_depths[:stage])
        rise = cfg.drop_path / max(sum(cfg.swin_depths) - 1, 1)  # from block to block, from 0
        self.blocks = nn.ModuleList(
            SwinBlock(dim, heads, window, rise * (before + i))
            for i in range(cfg.swin_depths[stage])
        )
        self.fusion = PixelWordFusion(dim, cfg.text_dim)
        self.norm = nn.LayerNorm(dim)
        last = stage == len(cfg.swin_depths) - 1
        self.gate = None if last else nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in "ab")
        self.merge = None if last else PatchMerging(dim)
        if self.gate is not None:  # at first the stream is plain Swin
            for parameter in self.gate.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, words: Tensor, word_mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W, C) -> feature map (B, C, H, W) and the next stage's input."""
        height, width = (int(side) for side in x.shape[1:3])  # numbers in a trace, too
        windows = [
            Windows.of(height, width, self.window, shift, x) for shift in (0, self.window // 2)
        ]
        tokens = x.flatten(1, 2)
        for i, block in enumerate(self.blocks):
            tokens = block(tokens, windows[i % 2])
        x = tokens.unflatten(1, (height, width))
        fused = self.fusion(tokens, words, word_mask).view_as(x)
        feature = self.norm(fused).permute(0, 3, 1, 2)  # channels last, which convolutions like
        if self.gate is not None and self.merge is not None:
            gate = self.gate[1](F.relu(self.gate[0](fused))).tanh()
            x = self.merge(x + gate * fused)
        return feature, x


class LanguageSwin(nn.Module):
    """Swin transformer with a pixel-word fusion after every stage."""

    def __init__(self, cfg: RelaConfig) -> None:
        super().__init__()
        self.channels = tuple(cfg.swin_dim * 2**s for s in range(4))
        self.patch_embed = nn.Conv2d(3, cfg.swin_dim, 4, stride=4)
        self.patch_norm = nn.LayerNorm(cfg.swin_dim)
        self.stages = nn.ModuleList(SwinStage(cfg, s) for s in range(4))

    def forward(self, images: Tensor, words: Tensor, word_mask: Tensor) -> list[Tensor]:
        """``images`` (B, 3, H, W) normalised, H and W multiples of 32."""
        x = self.patch_norm(self.patch_embed(images).permute(0, 2, 3, 1))
        features = []
        for stage in self.stages:
            feature, x = stage(x, words, word_mask)
            features.append(feature)
        return features
