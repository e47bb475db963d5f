"""Shifts the target and no-target scores of a checkpoint, so that 0.5 is the right threshold:

    python -m training.calibrate in.safetensors out.safetensors --target 0.8 --no-target -0.85

Training on many more expressions with targets than a robot will hear, or the other way round, moves
both; `training.evaluate` on training pictures shows which shift balances N-acc and T-acc.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from grex_ros.model.checkpoint import load_checkpoint, save_checkpoint

TARGET_BIAS = "region_decoder.instance.target.layers.1.bias"
NO_TARGET_BIAS = "region_decoder.relevance.no_target.layers.1.bias"


def main(
    source: Annotated[Path, typer.Argument(help="checkpoint to read")],
    out: Annotated[Path, typer.Argument(help="checkpoint to write")],
    target: Annotated[float, typer.Option(help="added to target logits")] = 0.0,
    no_target: Annotated[float, typer.Option(help="added to no-target logits")] = 0.0,
) -> None:
    """Write the checkpoint with shifted scores."""
    model, metadata = load_checkpoint(source)
    with torch.no_grad():
        model.get_parameter(TARGET_BIAS).add_(target)
        model.get_parameter(NO_TARGET_BIAS)[1] += no_target
    for name in ("format", "config", "text_digest"):
        metadata.pop(name, None)
    metadata["calibration"] = json.dumps({"target": target, "no_target": no_target})
    save_checkpoint(model, out, metadata)
    print(f"wrote {out}")


if __name__ == "__main__":
    typer.run(main)
