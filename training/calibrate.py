"""Finds the shifts of a checkpoint's scores that make 0.5 the right threshold, and stores them.

    python -m training.calibrate in.safetensors out.safetensors --dataset data/tabletop \\
        --split train --pictures 200 --objective giou,n_acc,t_acc
    python -m training.calibrate in.safetensors out.safetensors --target 0.8 --no-target -0.85

A model is trained on more, or fewer, expressions without a target than a robot will hear, and says
"no target" too often, or too seldom. Three shifts put that right: of the target logits (of as many
objects as are expected, see ``membership.raised``), of the no-target logit, and of the masks'
logits. They are found on pictures that the weights were not trained on, of a training split (val
and test stay unseen), from scores that are collected once.

**Shifts and not thresholds**, because 0.5 is then "as likely as not" in every score that is
published: a planner that compares scores, weighs them or has a threshold of its own goes on as it
is when the checkpoint changes, and so do all parameters of the node. **Beside the weights and not
in their biases**, because the no-target head reads the target scores: a moved target bias would
move both. The Grounder adds the shifts (``grounding.reading.Calibration``); training that starts
from the checkpoint is not affected.

The objective is the mean of the measures named, in percent; with several datasets the mean over
them, each weighing the same. N-acc and T-acc do not depend on how many expressions mean nothing,
gIoU and Pr@F1 do: that share is stored, too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress

from grex_ros.grounding.membership import sigmoid
from grex_ros.grounding.reading import Calibration
from grex_ros.metrics import grec, gres
from training.dataset.load import leave_out, load_dataset
from training.dataset.records import DatasetError, Record, merged_mask, read_image

if TYPE_CHECKING:
    from grex_ros.grounding.grounder import Grounder
    from grex_ros.grounding.objects import Grounding

MEASURES = ("giou", "n_acc", "t_acc", "pr_f1")
LARGEST = 3.0  # shift that is tried, in logits
STEP = 0.25
MASK_SHIFTS = (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0)
AS_GOOD = 0.05  # percent below the best that count as the best


@dataclass(frozen=True, eq=False)
class Scores:
    """What the model says of N expressions, without shifts; K is the most objects of any.

    Attributes:
        no_target: logits (N,).
        targets: logits (N, K) of the objects, best first; -inf where there is none.
        iou: (N, K + 1), the GRES IoU if the first 0, 1, ... objects are the answer.
        right: (N, K + 1), whether their boxes are right, as GREC counts.
        meant: (N,), how many objects are meant.
        raised: (N,), how many objects, best first, a positive target shift is for
            (``membership.raised``); a negative one is for all.
    """

    no_target: np.ndarray
    targets: np.ndarray
    iou: np.ndarray
    right: np.ndarray
    meant: np.ndarray
    raised: np.ndarray

    def measure(self, target: float, no_target: float) -> dict[str, float | None]:
        """The measures in percent if the scores were shifted so; None where nothing counts."""
        refusal = sigmoid(self.no_target + no_target)
        shifted = (np.arange(self.targets.shape[1]) < self.raised[:, None]) | (target < 0)
        scores = sigmoid(self.targets + target * shifted) * (1 - refusal)[:, None]
        kept = (scores >= 0.5).sum(1) * (refusal < 0.5)
        rows, nothing = np.arange(len(kept)), self.meant == 0
        return {
            "giou": _percent(self.iou[rows, kept]),
            "n_acc": _percent(kept[nothing] == 0),
            "t_acc": _percent(kept[~nothing] > 0),
            "pr_f1": _percent(self.right[rows, kept]),
        }


def objective(measured: Sequence[dict[str, float | None]], measures: Sequence[str]) -> float:
    """The mean over datasets of the mean of the measures that each has."""
    means = []
    for of_dataset in measured:
        values = [of_dataset[name] for name in measures]
        known = [value for value in values if value is not None]
        if known:
            means.append(sum(known) / len(known))
    return sum(means) / len(means) if means else 0.0


def best_shifts(datasets: Sequence[Scores], measures: Sequence[str]) -> tuple[float, float]:
    """Target and no-target shift of the highest objective; of many about as good ones, the one
    nearest to their middle, which the next pictures are least likely to spoil."""
    steps = np.arange(-round(LARGEST / STEP), round(LARGEST / STEP) + 1) * STEP
    grid = np.array([(target, no_target) for target in steps for no_target in steps])
    values = np.array([objective([s.measure(*at) for s in datasets], measures) for at in grid])
    good = grid[values >= values.max() - AS_GOOD]
    middle = np.abs(good - good.mean(0)).sum(1)
    target, no_target = good[middle.argmin()]
    return round(float(target), 6), round(float(no_target), 6)


def collect(grounder: Grounder, records: Sequence[Record], progress: Progress) -> Scores:
    """Asks a Grounder every expression of the records, without a target shift and with the largest
    one. DatasetError as in read_image."""
    from grex_ros.grounding.reading import Thresholds

    # As far as shifts will be tried, so that every object that may ever count is there.
    plain, far = (Calibration(target, -LARGEST) for target in (0.0, LARGEST))
    grounder.thresholds = Thresholds(target=0.5 * float(sigmoid(np.array(-LARGEST))))
    rows = []
    for record in progress.track(records, description="scores"):
        grounder.set_image(read_image(record))
        pairs = []
        for grounder.calibration in (plain, far):  # what differs is raised
            pairs.append(grounder.ground([e.text for e in record.expressions]))
        rows += [_row(record, i, *pair) for i, pair in enumerate(zip(*pairs, strict=True))]
    most = max((len(row[1]) for row in rows), default=0)
    return Scores(
        no_target=np.array([row[0] for row in rows]),
        targets=np.array([row[1] + [-math.inf] * (most - len(row[1])) for row in rows]),
        iou=np.array([row[2] + [0.0] * (most + 1 - len(row[2])) for row in rows]),
        right=np.array([row[3] + [False] * (most + 1 - len(row[3])) for row in rows]),
        meant=np.array([row[4] for row in rows]),
        raised=np.array([row[5] for row in rows]),
    )


def best_mask_shift(
    grounder: Grounder, records: Sequence[Record], found: Calibration, progress: Progress
) -> float:
    """The mask shift of the highest mean IoU of expressions with targets, all else as ``found``;
    of equals the smallest."""
    from grex_ros.grounding.reading import Thresholds

    total = dict.fromkeys(sorted(MASK_SHIFTS, key=abs), 0.0)
    grounder.thresholds = Thresholds()
    for record in progress.track(records, description="masks"):
        meant = [expression for expression in record.expressions if not expression.no_target]
        if not meant:
            continue
        truths = [merged_mask(record, expression) for expression in meant]
        grounder.set_image(read_image(record))
        for shift in total:
            grounder.calibration = replace(found, mask=shift)
            answers = grounder.ground([expression.text for expression in meant])
            total[shift] += sum(
                _iou(answer.mask() > 0, truth)
                for answer, truth in zip(answers, truths, strict=True)
            )
    return max(total, key=lambda shift: total[shift])


def main(
    source: Annotated[Path, typer.Argument(help="checkpoint to read")],
    out: Annotated[Path, typer.Argument(help="checkpoint to write")],
    dataset: Annotated[
        list[str] | None, typer.Option(help="dataset to search on; may be given several times")
    ] = None,
    split: Annotated[str, typer.Option(help="its split; never val or test")] = "train",
    pictures: Annotated[
        int, typer.Option(min=1, help="the last so many of it, which training must leave out")
    ] = 200,
    measures: Annotated[
        str, typer.Option("--objective", help=f"mean of some of {', '.join(MEASURES)}")
    ] = "giou,n_acc,t_acc",
    target: Annotated[
        float | None, typer.Option(help="added to target logits, instead of a search")
    ] = None,
    no_target: Annotated[
        float | None, typer.Option(help="added to no-target logits, instead of a search")
    ] = None,
    mask: Annotated[
        float | None, typer.Option(help="added to mask logits, instead of a search")
    ] = None,
    image_size: Annotated[
        int,
        typer.Option(min=0, help="longer side at which it sees from now on; 0 = as the source"),
    ] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    engine: Annotated[str, typer.Option(help="auto, torch, onnxruntime, openvino.")] = "auto",
) -> None:
    """Write the checkpoint with shifted scores."""
    from grex_ros.grounding.grounder import Grounder
    from grex_ros.model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

    console = Console(stderr=True)
    given = {"target": target, "no_target": no_target, "mask": mask}
    by_hand = {name: value for name, value in given.items() if value is not None}
    about: dict[str, Any] = {}
    try:
        wanted = _read_measures(measures)
        if bool(dataset) == bool(by_hand):
            raise ValueError(
                "give --dataset to search, or the shifts --target, --no-target, --mask"
            )
        if dataset and split.startswith(("val", "test")):
            raise ValueError(f"split {split!r} is for scoring; take pictures of a training split")
        albums = [leave_out(load_dataset(name, split), pictures)[1] for name in dataset or ()]
        model, metadata = load_checkpoint(source)
        if not model.cfg.instance_heads:
            raise ValueError(f"{source}: presets without instance heads have no target scores")
        model.cfg = model.cfg.at_size(image_size)
        if dataset:
            grounder = Grounder.from_checkpoint(
                source, device=device, engine=engine, image_size=image_size
            )
            with Progress(console=console, transient=True) as progress:
                scores = [collect(grounder, records, progress) for records in albums]
                found = Calibration(*best_shifts(scores, wanted))
                together = [record for records in albums for record in records]
                best = best_mask_shift(grounder, together, found, progress)
            about = _about(dataset, split, albums, scores, found, wanted)
            found = replace(found, mask=best)
        else:
            found = replace(Calibration.from_metadata(metadata), **by_hand)
    except (DatasetError, CheckpointError, ValueError) as error:
        console.print(f"calibrate: {error}", style="red", markup=False)
        raise typer.Exit(1) from error
    metadata |= {**found.to_metadata(), "calibrated_on": json.dumps(about)}
    save_checkpoint(model, out, metadata)
    for of_dataset in about.get("datasets", ()):
        print(f"{of_dataset['path']}: {of_dataset['pictures']} pictures of split {split}")
        for when in ("unshifted", "shifted"):
            values = of_dataset[when].items()
            print(f"  {when}: " + ", ".join(f"{k} {v:.1f}" for k, v in values if v is not None))
    print(
        f"wrote {out}: target {found.target:+g}, no-target {found.no_target:+g}, "
        f"mask {found.mask:+g}"
    )


def _read_measures(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or set(names) - set(MEASURES):
        raise ValueError(f"--objective takes some of {', '.join(MEASURES)}, not {text!r}")
    return names


def _about(
    names: Sequence[str],
    split: str,
    albums: Sequence[Sequence[Record]],
    scores: Sequence[Scores],
    found: Calibration,
    measures: Sequence[str],
) -> dict[str, Any]:
    """What the metadata says of the search."""
    datasets = [
        {
            "path": name,
            "split": split,
            "pictures": len(records),
            "expressions": len(of_dataset.meant),
            "no_target_prior": round(float((of_dataset.meant == 0).mean()), 4),
            "unshifted": of_dataset.measure(0.0, 0.0),
            "shifted": of_dataset.measure(found.target, found.no_target),
        }
        for name, records, of_dataset in zip(names, albums, scores, strict=True)
    ]
    return {"objective": list(measures), "datasets": datasets}


def _row(
    record: Record, number: int, answer: Grounding, far: Grounding
) -> tuple[float, list[float], list[float], list[bool], int, int]:
    """An expression's row of Scores, as far as there are objects, from its answers with the target
    shift 0 and the largest one."""
    expression = record.expressions[number]
    truth = merged_mask(record, expression)
    boxes = [instance.box for instance in record.targets(expression)]
    refusal = answer.no_target_score
    painted, nothing = np.zeros(truth.shape, bool), expression.no_target
    pairs = enumerate(zip(answer.objects, far.objects, strict=False), 1)
    raised = max((place for place, (low, high) in pairs if low.score != high.score), default=0)
    logits: list[float] = []
    iou, right = [float(nothing)], [nothing]
    for thing in answer.objects:
        x0, y0, x1, y1 = thing.box
        painted[y0:y1, x0:x1] |= thing.mask
        logits.append(_logit(thing.score / (1 - refusal)))
        found = [item.box for item in answer.objects[: len(logits)]]
        ones = [1.0] * len(found)
        iou.append(
            gres.score_expression(painted, truth, predicted_no_target=False, no_target=nothing).iou
        )
        right.append(grec.score_expression(found, ones, boxes).correct)
    return _logit(refusal) + LARGEST, logits, iou, right, len(boxes), raised


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def _logit(p: float) -> float:
    p = min(max(p, 1e-7), 1 - 1e-7)
    return math.log(p / (1 - p))


def _percent(values: np.ndarray) -> float | None:
    return 100 * float(values.mean()) if len(values) else None


if __name__ == "__main__":
    typer.run(main)
