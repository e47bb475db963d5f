"""Generates a dataset of tabletop scenes: ``python -m training.generate --out data/tabletop``."""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from grex_ros.scenes.expressions import MANY_TARGETS, ONE_TARGET, TABLETOP, compose
from grex_ros.scenes.objects import KINDS, PROCEDURAL_KINDS
from grex_ros.scenes.programs import Program
from grex_ros.scenes.renderer import RenderingUnavailable, SceneRenderer
from grex_ros.scenes.scene import LOOKS, sample_scene, view
from grex_ros.scenes.world import has_unnamed_things
from training.dataset.unseen_phrases import SeenWording, UnseenWording
from training.dataset.writer import Entry, Journal, JournalError, entry, write_image

SPLITS = ("train", "val", "testA", "testB")
SCENES_A_SPLIT = 250_000  # how many seeds each split owns
SENTENCES = 0.3  # of the expressions are inside a whole sentence: "could you hand me ..."
REFERENCED = 0.2  # of the training pictures say each set of targets in several ways; others all do
# How to speak, and how often in a whole sentence.
WORDINGS = {
    "ours": (TABLETOP, SENTENCES),
    "unseen": (dataclasses.replace(TABLETOP, speaker=UnseenWording), 0.0),
    "seen": (dataclasses.replace(TABLETOP, speaker=SeenWording), 0.0),
}

_EXPRESSIONS_STREAM = 0x776F7264  # keeps the words' random numbers apart from the scene's


@dataclass(frozen=True)
class Task:
    """One picture to make. The image id is the scene's seed."""

    root: Path
    seed: int
    split: str
    width: int
    height: int
    expressions: int
    no_target: float
    meshes: bool
    references: int = 1  # ways in which a set of targets is said
    look: str = "wide"
    wording: str = "ours"  # a key of WORDINGS
    emphasis: tuple[tuple[str, float], ...] = ()  # Setting.emphasis


def scene_seed(seed: int, split: str, number: int) -> int:
    """The seed of a split's scene; no two splits and no two values of ``seed`` share one.

    ``number`` counts from 0. ValueError beyond ``SCENES_A_SPLIT``.
    """
    if not 0 <= number < SCENES_A_SPLIT:
        raise ValueError(f"a split has at most {SCENES_A_SPLIT} scenes")
    return (seed * len(SPLITS) + SPLITS.index(split)) * SCENES_A_SPLIT + number + 1


def parse_splits(text: str, scenes: int) -> dict[str, int]:
    """ "train:0.94,val:0.06" -> scenes of each split; ValueError for unknown names or shares."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, colon, share = part.strip().partition(":")
        if name not in SPLITS or not colon or name in shares:
            raise ValueError(f"{part!r} is not one of {', '.join(SPLITS)} with a share, said once")
        shares[name] = float(share)
    if min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise ValueError(f"the shares of {text!r} do not add up to 1")
    counts = {name: int(round(scenes * share)) for name, share in shares.items()}
    largest = max(counts, key=lambda name: counts[name])
    counts[largest] += scenes - sum(counts.values())
    return counts


def parse_size(text: str) -> tuple[int, int]:
    """ "320x240" -> (320, 240); ValueError otherwise."""
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and min(int(width), int(height)) >= 32):
        raise ValueError(f"{text!r} is not a size such as 320x240, with at least 32 pixels a side")
    return int(width), int(height)


def parse_emphasis(text: str) -> tuple[tuple[str, float], ...]:
    """ "relation:3,and:2" -> (("relation", 3.0), ("and", 2.0)); ValueError for other than
    categories with a positive factor."""
    factors = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, factor = part.partition(":")
        if name not in ONE_TARGET | MANY_TARGETS:
            raise ValueError(f"{name!r} is none of {', '.join(ONE_TARGET | MANY_TARGETS)}")
        try:
            factors.append((name, float(factor)))
        except ValueError:
            raise ValueError(f"{part!r} is not a category and a factor, as in relation:3") from None
        if not 0 < factors[-1][1] < math.inf:
            raise ValueError(f"the factor of {part!r} is not above 0")
    return tuple(factors)


def make(task: Task, renderer: SceneRenderer) -> Entry:
    """Renders a scene, writes its JPEG and answers its records."""
    scene = sample_scene(task.seed, meshes=task.meshes, look=task.look)
    frame = renderer.render(scene, task.width, task.height)
    seen = view(scene, frame)
    rng = np.random.default_rng([task.seed, _EXPRESSIONS_STREAM])
    known = KINDS if task.meshes else PROCEDURAL_KINDS
    several = task.split != "train" or rng.random() < REFERENCED
    setting, sentences = WORDINGS[task.wording]
    setting = dataclasses.replace(setting, emphasis=dict(task.emphasis))
    expressions = compose(
        seen, rng, task.expressions, task.no_target, known, sentences=sentences,
        references=task.references if several else 1, setting=setting,
    )  # fmt: skip
    if has_unnamed_things(scene):
        expressions = [said for said in expressions if not means_all_things(said.program)]
    write_image(task.root, task.seed, frame)
    return entry(task.seed, task.split, frame.labels, seen, expressions)


def means_all_things(program: Program) -> bool:
    """Whether a program chooses among things of whatever kind, and not by a name that they have."""
    return program == ["all"] or any(
        means_all_things(inner)
        for inner in program
        if isinstance(inner, list) and not (inner == ["all"] and program[0] in ("kind", "group"))
    )


def generate(tasks: Iterable[Task], journal: Journal, workers: int, console: Console) -> None:
    """Makes the pictures that the journal lacks; may be interrupted at any time."""
    tasks = list(tasks)
    todo = [task for task in tasks if task.seed not in journal.done]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    rate = TextColumn("{task.fields[rate]:.1f} scenes/s")
    start = time.monotonic()
    with (
        Progress(*columns, rate, TimeRemainingColumn(), console=console) as progress,
        multiprocessing.get_context("spawn").Pool(workers, _start_worker) as pool,
    ):
        bar = progress.add_task(
            "scenes", total=len(tasks), completed=len(tasks) - len(todo), rate=0.0
        )
        for number, line in enumerate(pool.imap_unordered(_work, todo, chunksize=4), 1):
            journal.add(line)
            progress.update(bar, advance=1, rate=number / (time.monotonic() - start))


_renderer: SceneRenderer | None = None  # one GL context a worker process


def _start_worker() -> None:
    global _renderer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops the workers


def _work(task: Task) -> Entry:
    global _renderer
    if _renderer is None:
        _renderer = SceneRenderer(wide=task.look != "plain")
    return make(task, _renderer)


def main(
    out: Annotated[Path, typer.Option(help="Folder of the dataset.")] = Path("data/tabletop"),
    scenes: Annotated[int, typer.Option(min=1, help="Scenes of all splits together.")] = 4000,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds give other scenes.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that render.")] = 2,
    size: Annotated[str, typer.Option(help="Width x height in pixels.")] = "320x240",
    expressions: Annotated[int, typer.Option(min=1, max=900, help="Per scene, at most.")] = 12,
    no_target: Annotated[float, typer.Option(min=0, max=1, help="Share without a target.")] = 0.25,
    references: Annotated[
        int, typer.Option(min=1, max=9, help="Expressions for each set of targets, where several.")
    ] = 3,
    splits: Annotated[str, typer.Option(help="Shares of the splits.")] = "train:0.94,val:0.06",
    meshes: Annotated[bool, typer.Option(help="Imported household models too.")] = True,
    look: Annotated[str, typer.Option(help=f"{' or '.join(LOOKS)} scenes.")] = "wide",
    wording: Annotated[
        str,
        typer.Option(
            help="ours; unseen: in words that training never uses; seen: of what those can say, "
            "but in ours, to compare."
        ),
    ] = "ours",
    emphasis: Annotated[
        str,
        typer.Option(help="Categories wanted more often, and how much: relation:3,and:2."),
    ] = "",
) -> None:
    """Render scenes and compose expressions over them, in gRefCOCO's own file layout.

    Run it again to go on after an interruption, or with more scenes to add some.
    """
    console = Console()
    try:
        width, height = parse_size(size)
        counts = parse_splits(splits, scenes)
        if look not in LOOKS:
            raise ValueError(f"look {look!r} is none of {', '.join(LOOKS)}")
        if wording not in WORDINGS:
            raise ValueError(f"wording {wording!r} is none of {', '.join(WORDINGS)}")
        settings = {
            "seed": seed,
            "size": [width, height],
            "expressions": expressions,
            "no_target": no_target,
            "meshes": meshes,
            "look": look,
            "references": references,
        }
        if wording != "ours":
            settings["wording"] = wording
        factors = parse_emphasis(emphasis)
        if factors:
            settings["emphasis"] = emphasis
        with Journal(out, settings) as journal:
            tasks = [
                Task(out, scene_seed(seed, split, number), split, width, height, expressions,
                     no_target, meshes, references, look, wording, factors)
                for split, count in counts.items()
                for number in range(count)
            ]  # fmt: skip
            try:
                generate(tasks, journal, workers, console)
            except KeyboardInterrupt:
                console.print(f"{len(journal.done)} scenes are kept; the same command goes on.")
                raise typer.Exit(130) from None
            found = journal.finish()
    except (ValueError, RenderingUnavailable, JournalError) as error:
        console.print(f"[red]{error}[/red]", highlight=False)
        raise typer.Exit(2) from None
    console.print(", ".join(f"{number} {name}" for name, number in found.items()), f"in {out}")


if __name__ == "__main__":
    typer.run(main)
