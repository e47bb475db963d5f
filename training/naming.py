"""How often what regions know of objects fits the right name best: what the words build on.

    python -m training.naming --dataset data/large --split train --limit 150

Every object is asked for among all names of the dataset ("red cup", "green jar", ...). The region
of an object is the one whose box has the largest IoU with the object's; where that is below 0.5,
the object was not found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

from grex_ros.grounding.pictures import PictureLoader
from grex_ros.metrics.grec import overlaps
from grex_ros.model.checkpoint import DEFAULT_CHECKPOINT, CheckpointError, load_checkpoint
from grex_ros.model.mask_refiner import boxes_in_whole
from grex_ros.model.rela import ReLA
from grex_ros.model.text_encoder import tokenizer_for
from training.dataset.load import load_dataset
from training.dataset.records import DatasetError, Instance, Record, read_image
from training.steps import WordCache

CPU = torch.device("cpu")
FOUND = 0.5  # IoU of a region's box and an object's


@dataclass
class Naming:
    """Of so many objects, how many have a region, and of those how many are named right."""

    objects: int = 0
    found: int = 0
    name: int = 0  # the right one of all names of the dataset fits best
    among_five: int = 0  # ... is among the five that fit best
    in_picture: int = 0  # ... fits best of those in the picture
    kind: int = 0  # the name that fits best is of the right kind
    color: int = 0  # ... of the right colour

    def count(self, fits: Tensor, truth: Instance, around: set[str], known: list[Instance]) -> None:
        """Adds an object that was found.

        Args:
            fits: (N,) how well its region fits the name of each of ``known``.
            truth: the object.
            around: the names of all objects in the picture.
            known: one object of every name in the dataset.
        """
        ranked = [known[i] for i in fits.argsort(descending=True).tolist()]
        names = [instance.name for instance in ranked]
        self.found += 1
        self.name += names[0] == truth.name
        self.among_five += truth.name in names[:5]
        self.in_picture += next(name for name in names if name in around) == truth.name
        self.kind += ranked[0].category == truth.category
        self.color += ranked[0].color == truth.color


def regions_of(model: ReLA, record: Record) -> tuple[Tensor, Tensor]:
    """What the model knows of the regions of a picture (Q, C), and their boxes (Q, 4) as x0, y0,
    x1, y1 in pixels of it."""
    whole, seen = PictureLoader(model.cfg)(read_image(record), CPU)
    state = model.look_close(model.encode_image(model.normalise([seen])), seen, whole)
    assert state.boxes is not None
    boxes = boxes_in_whole(state.boxes[0], state.masks[0], seen, whole)
    return model.region_decoder.head.norm(state.regions[:, 0]), boxes


@torch.inference_mode()
def count_names(model: ReLA, records: Sequence[Record], progress: Progress) -> Naming:
    """Asks for every object of ``records``. ValueError for a model that knows no names."""
    alignment, adapter = model.region_decoder.alignment, model.text_adapter
    if alignment is None or adapter is None:
        raise ValueError(f"preset {model.cfg.name} does not learn how names fit regions")
    of_name = {instance.name: instance for record in records for instance in record.instances}
    known = [of_name[name] for name in sorted(of_name)]
    words, mask = WordCache(model, tokenizer_for(model.cfg))([i.name for i in known], CPU)
    adapted = adapter(words, mask)
    naming = Naming()
    for record in progress.track(records, description="pictures"):
        if not record.instances:
            continue
        regions, boxes = regions_of(model, record)
        fits = alignment(regions, adapted, mask)
        true = np.array([instance.box for instance in record.instances])
        pairs = overlaps(true, boxes.double().numpy(), "iou")
        around = {instance.name for instance in record.instances}
        naming.objects += len(true)
        for instance, row in zip(record.instances, pairs, strict=True):
            if row.max() >= FOUND:
                naming.count(fits[row.argmax()], instance, around, known)
    return naming


def main(
    dataset: Annotated[str, typer.Option(help="Folder of a dataset.")] = "data/tabletop",
    split: Annotated[str, typer.Option(help="Split to count.")] = "val",
    checkpoint: Annotated[
        Path, typer.Option(help="Weights.", show_default="the package's")
    ] = DEFAULT_CHECKPOINT,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many images.")] = None,
) -> None:
    """Count how many objects are found, and how many of those are named right."""
    errors = Console(stderr=True)
    try:
        records = load_dataset(dataset, split)[:limit]
        model = load_checkpoint(checkpoint)[0].eval()
        with Progress(console=errors, transient=True) as progress:
            found = count_names(model, records, progress)
    except (DatasetError, CheckpointError, ValueError, OSError) as error:
        errors.print(f"naming: {error}", style="red", markup=False)
        raise typer.Exit(1) from error
    table = Table(title=f"{found.objects} objects of {dataset}, split {split}")
    for column in ("found", "name", "among five", "in picture", "kind", "colour"):
        table.add_column(column, justify="right")
    parts = (found.name, found.among_five, found.in_picture, found.kind, found.color)
    shares = (found.found / max(found.objects, 1), *(n / max(found.found, 1) for n in parts))
    table.add_row(*(f"{100 * share:.1f} %" for share in shares))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
