"""What the commands of `grex` have in common: options, and input that may be bad."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from grex_ros.grounding.grounder import Grounder

BAD_INPUT = 2

Checkpoint = Annotated[
    str, typer.Option(help="Weights, a .safetensors file; without it those of the package.")
]
Precision = Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")]
ImageSize = Annotated[
    int,
    typer.Option(min=0, help="Longer side at which it is seen, pixels; 0 = as the weights say."),
]
Device = Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda or cuda:N.")]


def _fail(message: str) -> NoReturn:
    print(f"grex: {' '.join(message.split())}", file=sys.stderr)
    raise typer.Exit(BAD_INPUT)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """What the user can put right is one line on stderr; only our own mistakes show a traceback."""
    try:
        yield
    except ImportError as error:
        _fail(f"{error}; `grex doctor` tells what else is missing")
    except OSError as error:
        named = error.filename and error.strerror
        _fail(f"{error.filename}: {error.strerror}" if named else str(error))
    except Exception as error:
        if isinstance(error, ValueError) or type(error).__name__ == "CheckpointError":
            _fail(str(error))
        raise


def read_picture(path: Path) -> Any:
    """(H, W, 3) uint8 RGB; turned as its EXIF data says. ValueError or OSError where it cannot."""
    import cv2
    import numpy as np

    data = np.fromfile(path, np.uint8)
    try:
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    except cv2.error as error:
        raise ValueError(f"{path} cannot be decoded: {error.err}") from error
    if picture is None:
        raise ValueError(f"{path} is no picture that can be read")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def load_grounder(
    checkpoint: str, device: str, precision: str, engine: str, image_size: int
) -> Grounder:
    """The Grounder that the options ask for; it raises what ``Grounder.from_checkpoint`` raises."""
    from grex_ros.grounding.grounder import Grounder

    return Grounder.from_checkpoint(
        checkpoint or None,
        device=device,
        precision=precision,
        engine=engine,
        image_size=image_size,
    )
