"""How fast a run learns as it goes on, the average of its weights, and how it is stopped."""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def learning_rate_factor(progress: float, warmup: float) -> float:
    """Linear warm-up, then cosine to 1 %; ``progress`` 0..1."""
    if progress < warmup:
        return progress / warmup
    rest = min((progress - warmup) / (1 - warmup), 1.0) if warmup < 1 else 0.0
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * rest))


def moving_average(decay: float) -> Callable[..., None]:
    """Exponential moving average that forgets the start: its window grows to 1 / (1 - decay)."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        keep = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1 - keep)

    return update


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM put their number in the list instead of breaking a step in two; a second
    one does what it always does."""
    seen: list[int] = []
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: object) -> None:
        seen.append(number)
        signal.signal(number, signal.SIG_DFL)

    for number in before:
        signal.signal(number, note)
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
