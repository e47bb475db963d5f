"""Where a run says how it goes: the console, ``log.jsonl``, and TensorBoard."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from grex_ros.grounding.grounder import Grounder
from grex_ros.grounding.overlay import draw_overlay
from grex_ros.grounding.reading import Thresholds
from grex_ros.model.rela import ReLA
from grex_ros.model.text_encoder import tokenizer_for
from training.dataset.samples import OfficialSample, Sample

SHOWN = ("loss", "target", "mask", "dice", "minimap", "no_target", "generation", "outline")
TEXTS = 3  # expressions of a picture that are shown
console = Console()


class RunLog:
    """One run's log. What was written after ``step``, where the run goes on, is dropped.

    Args:
        out: the run's folder; TensorBoard's files lie in ``tensorboard`` in it.
        step: steps that are done.
        samples: pictures shown with the model's answers every ``overlay_minutes``; 0 = never.
    """

    def __init__(
        self,
        out: Path,
        step: int,
        samples: Sequence[Sample | OfficialSample] = (),
        overlay_minutes: float = 0.0,
    ) -> None:
        path = out / "log.jsonl"
        rows = path.read_text().splitlines() if path.is_file() else []
        kept = [row for row in rows if row.endswith("}") and json.loads(row)["step"] <= step]
        if kept != rows:
            path.write_text("".join(f"{row}\n" for row in kept))
        self._file = path.open("a", buffering=1)
        self._curves = _summary_writer(out / "tensorboard", step)
        self.samples, self.every = samples, 60 * overlay_minutes
        self._shown = 0.0  # when, on the clock; the first time at once

    def row(
        self, losses: Mapping[str, float], more: Mapping[str, float], step: int, seconds: float
    ) -> None:
        """Notes the mean losses since the last row, and ``more`` (learning rates, speed)."""
        row = {name: round(value, 4) for name, value in losses.items()}
        rates = {name: float(f"{value:.4g}") for name, value in more.items()}
        print(
            json.dumps({**row, **rates, "step": step, "seconds": round(seconds, 1)}),
            file=self._file,
        )
        if self._curves:
            for name, value in losses.items():
                self._curves.add_scalar(f"loss/{name}", value, step)
            for name, value in more.items():
                self._curves.add_scalar(f"run/{name}", value, step)

    def tell(
        self, losses: Mapping[str, float], step: int, progress: float, rate: float, seconds: float
    ) -> None:
        """One line for a person; ``rate`` in pictures a second, ``seconds`` until now."""
        left = seconds / max(progress, 1e-9) - seconds
        console.print(
            f"step {step}  {100 * progress:.1f} %  {rate:.1f} pictures/s  {left / 60:.0f} min left",
            *(f" {name.replace('_', '-')} {losses[name]:.3f}" for name in SHOWN if name in losses),
        )

    def overlays(self, model: ReLA, step: int) -> None:
        """Shows the model's answers in TensorBoard, if it is time to."""
        if not (self._curves and self.samples and self.every):
            return
        if self._shown and time.monotonic() - self._shown < self.every:
            return
        self._shown = time.monotonic()
        for number, sample in enumerate(self.samples):
            self._curves.add_image(
                f"answers/{number}", overlay(model, sample), step, dataformats="HWC"
            )

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        if self._curves:
            self._curves.close()


def overlay(model: ReLA, sample: Sample | OfficialSample) -> np.ndarray:
    """What the model finds for some expressions of a sample, side by side, (H, W, 3) uint8 RGB.
    Leaves the model in eval mode."""
    image = np.ascontiguousarray(sample.pixels.permute(1, 2, 0).numpy())
    if isinstance(sample, Sample):
        texts = sample.texts[:TEXTS]
        meant = [f"{int(row.sum())} meant" for row in sample.truth.meant[:TEXTS]]
    else:
        texts, meant = [sample.text], ["none meant" if sample.empty else "some meant"]
    grounder = Grounder(model, tokenizer_for(model.cfg), model.cfg.name, Thresholds())
    grounder.set_image(image)
    answers = grounder.ground(texts)
    shown = [draw_overlay(image, a, title) for a, title in zip(answers, meant, strict=True)]
    return np.hstack(shown)


def _summary_writer(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        console.print("no TensorBoard curves: pip install tensorboard", style="yellow")
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)
