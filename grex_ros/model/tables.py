"""Constant tables: they depend on sizes alone, so each is computed once and kept."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

KEPT = 256  # tables of each kind; a camera needs a handful, and CUDA graphs rely on them


def only_asked() -> bool:
    """Whether nobody wants a gradient or a graph of what runs: what is fast only then, or writes
    to memory that it was given, may be used."""
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return not torch.is_grad_enabled() and not recorded


def constant_table(
    kind: torch.dtype | None = None,
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Makes of ``make(*sizes, device)`` a ``table(*sizes, like)`` that is on the device of the
    tensor ``like``, of its dtype or of ``kind``, and kept for the next call. A table must not be
    written to."""

    def decorate(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @functools.lru_cache(maxsize=KEPT)
        def kept(*sizes: int, device: torch.device, dtype: torch.dtype) -> Tensor:
            with torch.inference_mode(False), torch.no_grad():  # training may use it as well
                return make(*sizes, device).to(dtype)

        @functools.wraps(make)
        def table(*args: int | Tensor) -> Tensor:
            *sizes, like = args
            assert isinstance(like, Tensor)
            dtype = kind or like.dtype
            if torch.compiler.is_compiling() or torch.jit.is_tracing():  # sizes may be symbols
                return make(*sizes, like.device).to(dtype)
            return kept(*sizes, device=like.device, dtype=dtype)

        return table

    return decorate


@constant_table()
def sine_position(height: int, width: int, dim: int, device: torch.device) -> Tensor:
    """Sine position encoding (H*W, dim), y half first, normalised to 2 pi (as DETR's)."""

    def axis(size: int) -> Tensor:
        position = torch.arange(1, size + 1, device=device, dtype=torch.float32)
        position = position / (size + 1e-6) * 2 * math.pi
        pair = torch.arange(dim // 2, device=device) // 2
        angle = position[:, None] / 10000 ** (2 * pair / (dim // 2))
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), 2).flatten(1)

    y = axis(height)[:, None].expand(-1, width, -1)
    x = axis(width)[None].expand(height, -1, -1)
    return torch.cat((y, x), -1).flatten(0, 1)


@constant_table()
def pixel_centres(height: int, width: int, device: torch.device) -> Tensor:
    """(H*W, 2): x and y of every cell's centre, in 0..1."""
    y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
    x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
    grid = torch.stack((x[None].expand(height, -1), y[:, None].expand(-1, width)), -1)
    return grid.flatten(0, 1)


@constant_table()
def map_size(width: float, height: float, device: torch.device) -> Tensor:
    """(2,): a tensor that is there already, since a CUDA graph cannot take one from the CPU."""
    return torch.tensor((width, height), device=device)
