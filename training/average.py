"""The mean of two checkpoints' weights, of which the second was trained on from the first.

    python -m training.average before.safetensors after.safetensors out.safetensors --share 0.6 \\
        --whole generation

A short training on new pictures takes something away from what was known before. Somewhere on the
straight line between the weights most of both is there (WiSE-FT, Wortsman et al. 2022).
"""

from __future__ import annotations

import reprlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from grex_ros.model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from grex_ros.model.rela import ReLA
from training.config import MAY_BE_NEW


@torch.no_grad()
def move_towards(before: ReLA, after: ReLA, share: float, whole: tuple[str, ...] = ()) -> None:
    """Makes of ``after`` the model that has taken ``share`` (0..1) of the way from ``before``;
    parts whose names begin with one of ``whole`` stay as they are in ``after``. A part that
    training may add can be missing in ``before`` if it is one of them; a generation head that is
    one of them may know other words.

    Raises:
        ValueError: the models differ in structure, the share is none, or there is no such part.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"--share must be 0 to 1, not {share}")
    first, second = asdict(before.cfg), asdict(after.cfg)
    may_differ = {name for name in MAY_BE_NEW if second[name]}
    if "generation" in whole:
        may_differ.add("generation_words")
    differ = [k for k in first if first[k] != second[k] and k not in may_differ]
    if other := [f"{k} {reprlib.repr(first[k])} and {reprlib.repr(second[k])}" for k in differ]:
        raise ValueError(f"the models differ: {', '.join(other)}")
    start, end = before.state_dict(), after.state_dict()
    prefixes = tuple(f"{name}." for name in whole)
    for name in prefixes:
        if not any(key.startswith(name) for key in end):
            raise ValueError(f"--whole: the model has no part {name[:-1]!r}")
    new = [name for name in end if name not in start and not name.startswith(prefixes)]
    if new:
        raise ValueError(f"{new[0]} is in the second alone: take its part --whole")
    for name, value in end.items():
        if value.is_floating_point() and not name.startswith(prefixes):
            value.copy_(torch.lerp(start[name], value, share))


def main(
    before: Annotated[Path, typer.Argument(help="checkpoint that the training started from")],
    after: Annotated[Path, typer.Argument(help="checkpoint that it ended with")],
    out: Annotated[Path, typer.Argument(help="checkpoint to write")],
    share: Annotated[float, typer.Option(help="of the way from the first to the second")] = 0.5,
    whole: Annotated[
        list[str] | None, typer.Option(help="part to take as it is in the second; repeatable")
    ] = None,
) -> None:
    """Write the mean, with the second's metadata."""
    try:
        first, _ = load_checkpoint(before)
        model, metadata = load_checkpoint(after)
        move_towards(first, model, share, tuple(whole or ()))
    except (CheckpointError, ValueError) as error:
        Console(stderr=True).print(f"average: {error}", style="red", markup=False)
        raise typer.Exit(1) from error
    save_checkpoint(model, out, metadata)
    print(f"wrote {out}: {share:g} of the way from {before} to {after}")


if __name__ == "__main__":
    typer.run(main)
