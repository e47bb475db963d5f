"""`grex describe`: from boxes in a picture to an expression that means exactly what is in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grex_ros.cli_input import (
    Checkpoint,
    Device,
    ImageSize,
    Precision,
    load_grounder,
    one_line_errors,
    read_picture,
)

if TYPE_CHECKING:
    from grex_ros.grounding.description import Description


def describe(
    image: Annotated[Path, typer.Argument(help="A picture: JPEG, PNG, ...", show_default=False)],
    box: Annotated[
        list[str],
        typer.Option(help="x1,y1,x2,y2 in pixels; once for every object.", show_default=False),
    ],
    beams: Annotated[int, typer.Option(help="Width of the search, 1 (greedy) to 16.")] = 4,
    verify: Annotated[
        bool,
        typer.Option(help="Ground what was found again, and prefer what means the same objects."),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    checkpoint: Checkpoint = "",
    device: Device = "auto",
    precision: Precision = "auto",
    image_size: ImageSize = 0,
) -> None:
    """Say what some objects in a picture are, so that nothing else is meant.

    Exits with 0 if there is an expression, verified or not, and with 2 and one line if the picture,
    a box, the weights or the device cannot be used.
    """
    with one_line_errors():
        boxes = [_box(text) for text in box]
        picture = read_picture(image)
        grounder = load_grounder(checkpoint, device, precision, "torch", image_size)
        grounder.set_image(picture)
        found = grounder.describe(boxes, beams=beams, verify=verify)
    if as_json:
        answer = {
            "image": str(image),
            "boxes": boxes,
            "expression": found.text,
            "verified": found.verified,
            "score": found.score,
            "candidates": found.candidates,
            "latency": found.latency,
            "model": grounder.name,
            "device": str(grounder.device),
        }
        print(json.dumps(answer))
    else:
        print(found.text)
        print(_remark(found, len(boxes)))


def _box(text: str) -> list[float]:
    try:
        box = [float(number) for number in text.split(",")]
    except ValueError:
        box = []
    if len(box) != 4:
        raise ValueError(f"--box {text}: give four numbers, x1,y1,x2,y2")
    return box


def _remark(found: Description, count: int) -> str:
    if found.verified is None:
        return "not verified"
    same = "this object" if count == 1 else f"these {count} objects"
    if found.verified:
        return f"verified: grounded again, it means {same}"
    return f"not verified: grounded again, it does not mean exactly {same}"
