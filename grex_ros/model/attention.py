"""The layers that the region decoder is made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention with residual and norm after it (post-norm)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(dim, heads)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        x: Tensor,
        key: Tensor,
        value: Tensor,
        query_position: Tensor | float = 0.0,
        blocked: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """Sequence first: ``x`` (Q, B, C), ``key`` and ``value`` (N, B, C); ``blocked``
        (B, Q, N) or (B, 1, N), True where a query may not look, or ``bias`` (B, heads, Q, N),
        which is added to the scores."""
        attn = self.attn
        weights, biases = attn.in_proj_weight.chunk(3), attn.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(t, w, b).unflatten(-1, (attn.num_heads, -1)).permute(1, 2, 0, 3)
            for t, w, b in zip((x + query_position, key, value), weights, biases, strict=True)
        )  # (B, heads, length, C / heads)
        added = None if bias is None else bias.to(q.dtype)
        if blocked is not None:
            added = ~blocked[:, None]  # one mask for all heads
            if torch.jit.is_tracing():  # or the graph tests every weight for rows all blocked
                added = torch.zeros_like(added, dtype=q.dtype).masked_fill(~added, -torch.inf)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=added)
        return self.norm(x + attn.out_proj(out.permute(2, 0, 1, 3).flatten(2)))


class FeedForward(nn.Module):
    """Two linear layers with residual and norm after them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return self.norm(x + self.linear2(F.relu(self.linear1(x))))


class Product(nn.Module):
    """Adds the product of regions and what they read. A sum alone leaves it to the next layers to
    find out whether a region is what the words say."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.region = nn.Linear(dim, dim)
        self.read = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, read: Tensor) -> Tensor:
        """``x`` (Q, B, C) before and ``read`` (Q, B, C) after attending the words."""
        return self.norm(read + self.out(F.gelu(self.region(x)) * self.read(read)))
