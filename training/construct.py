"""Composes expressions over annotated photographs, as GREx was made but by programs.

    python -m training.construct --instances instances.json --images DIR --out data/coco

For any picture set with COCO's instance annotations: single, multiple and no-target expressions,
each with the program that proves its targets (``training.dataset.photographs`` says what counts as
proved). An expression without a target falsifies one clause of a true one, or is true of another
picture of the same split and false of this one, or names something absent.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import shutil
import signal
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import track

from grex_ros.scenes.expressions import Composer, Expression, Setting, compose
from grex_ros.scenes.vocabulary import ABSURD_IN_PHOTOGRAPHS, alike
from grex_ros.scenes.wording import Wording
from training.dataset import photographs
from training.dataset.coco import DatasetFiles, keep_boxes, read_annotations, read_json
from training.dataset.findings import Findings
from training.dataset.grefcoco import IMAGE_FOLDER
from training.dataset.records import DatasetError, Record, read_image
from training.dataset.writer import Entry, Journal, JournalError, file_name, references

SENTENCES = 0.3  # of the expressions are inside a whole sentence: "show me ..., please"
BORROWED = 0.3  # of the expressions without a target come from other pictures, where that is so
REFERENCED = 0.2  # of the training pictures say each set of targets in several ways; others all do
PARTNERS = 2  # pictures that are asked for an expression to borrow
_STREAM, _PARTNER_STREAM = 0x70686F74, 0x6C656E64


@dataclass(frozen=True)
class Options:
    """What decides the expressions. ``balance``: shares of one, many and none where held out."""

    out: Path
    expressions: int  # a picture, in training
    held_out_expressions: int
    no_target: float
    references: int
    seed: int
    balance: tuple[int, int, int]


@dataclass(frozen=True)
class Album:
    """The pictures, their annotations as they were, and the split of each."""

    records: Mapping[int, Record]
    annotations: Mapping[int, list[dict[str, Any]]]
    categories: Sequence[Mapping[str, Any]]
    splits: Mapping[int, str]


def read_album(
    instances: Path, images: Path, held_out: frozenset[int], boxes: bool = False
) -> Album:
    """Reads a COCO instance file; pictures in ``held_out`` are of split "val", others "train".
    With ``boxes`` what has no segmentation is kept as a box.

    DatasetError if the file is not what it should be or lacks a picture that is held out.
    """
    content = read_json(instances, dict)
    if boxes:
        keep_boxes(content.get("annotations", ()))
    files = DatasetFiles("instances", images, instances, instances)
    ids = {int(image["id"]) for image in content.get("images", ()) if "id" in image}
    if missing := sorted(held_out - ids):
        raise DatasetError(f"{instances}: no image_id {missing[0]}, which is to be held out")
    read = read_annotations(files, content, ids, Findings())
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    annotations: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for note in content["annotations"]:
        if note not in annotations[note["image_id"]]:
            annotations[note["image_id"]].append(note)
    records = {}
    for image_id, picture in sorted(read.pictures.items()):
        left_out = read.left_out.get(image_id, {})
        notes = annotations[image_id]
        records[image_id] = Record(
            image_id, images / picture.file_name, picture.height, picture.width, (),
            tuple(read.instances.get(image_id, ())),
            frozenset(names[note["category_id"]] for note in notes if note["id"] in left_out),
        )  # fmt: skip
    splits = {image_id: "val" if image_id in held_out else "train" for image_id in records}
    return Album(records, annotations, content["categories"], splits)


def photo_words(rng: np.random.Generator, sizes: Any) -> Wording:
    """Words that do not speak of a table."""
    return Wording(rng, sizes, table=False)


class Author:
    """Writes the expressions of one picture after another."""

    def __init__(self, album: Album, options: Options):
        self._album = album
        self._options = options
        self._kinds = tuple(str(category["name"]) for category in album.categories)
        self._absurd = tuple(
            noun for noun in ABSURD_IN_PHOTOGRAPHS if not any(alike(noun, k) for k in self._kinds)
        )
        self._by_kind: dict[tuple[str, str], list[int]] = defaultdict(list)
        for image_id, record in album.records.items():
            for kind in sorted({instance.category for instance in record.instances}):
                self._by_kind[album.splits[image_id], kind].append(image_id)
        self._lent: dict[int, list[Expression]] = {}

    def write(self, image_id: int) -> Entry | str:
        """The records of a picture and its copy in the folder, or why it is left out."""
        album, options = self._album, self._options
        record, split = album.records[image_id], album.splits[image_id]
        try:
            rgb = read_image(record)
        except DatasetError as error:
            return str(error)
        view, setting = self._look(record, rgb)
        rng = np.random.default_rng([options.seed, image_id, _STREAM])
        held_out = split != "train"
        several = held_out or rng.random() < REFERENCED
        expressions = self._balanced if held_out else self._plain
        said = expressions(image_id, view, setting, rng, options.references if several else 1)
        shutil.copyfile(record.image_path, options.out / IMAGE_FOLDER / file_name(image_id))
        notes = self._annotations(image_id, view)
        ids = {index: instance.ann_id for index, instance in enumerate(record.instances, 1)}
        kinds = {index: instance.category_id for index, instance in enumerate(record.instances, 1)}
        image = {"id": image_id, "file_name": file_name(image_id),
                 "height": record.height, "width": record.width}  # fmt: skip
        refs = references(image_id, split, said, kinds, ids)
        return {"image": image, "annotations": notes, "refs": refs}

    def _look(self, record: Record, rgb: Any) -> tuple[list[photographs.PictureObject], Setting]:
        view, sight = photographs.view(record, rgb)
        # What cannot be counted on is not surely absent either.
        there = {*(seen.kind for seen in view), *sight.doubtful_kinds}
        doubtful = there - {seen.kind for seen in view}
        known = [k for k in self._kinds if not any(alike(k, other) for other in doubtful)]
        setting = Setting(sight, known, self._absurd, complete=False, hands=False,
                          speaker=photo_words)  # fmt: skip
        return view, setting

    def _plain(
        self, image_id: int, view: Any, setting: Setting, rng: np.random.Generator, times: int
    ) -> list[Expression]:
        options = self._options
        said = compose(view, rng, options.expressions, options.no_target, sentences=SENTENCES,
                       references=times, setting=setting)  # fmt: skip
        return self._with_borrowed(image_id, said, view, setting, rng)

    def _balanced(
        self, image_id: int, view: Any, setting: Setting, rng: np.random.Generator, times: int
    ) -> list[Expression]:
        """One, many and none in the wished proportion, as far as the picture has them."""
        total, balance = self._options.held_out_expressions, self._options.balance
        kept: list[Expression] = []
        for which, share in enumerate(balance):
            wanted = -(-total * share // sum(balance))
            said = compose(view, rng, 2 * wanted, 1.0 if which == 2 else 0.0, sentences=SENTENCES,
                           references=times if which < 2 else 1,
                           setting=replace(setting, one=float(which == 0)))  # fmt: skip
            if which == 2:
                said = self._with_borrowed(image_id, said, view, setting, rng)
            kept += [e for e in said if min(len(e.targets), 2) == (1, 2, 0)[which]][:wanted]
        return list({expression.text: expression for expression in kept}.values())

    def _with_borrowed(
        self, image_id: int, said: list[Expression], view: Any, setting: Setting,
        rng: np.random.Generator,
    ) -> list[Expression]:  # fmt: skip
        """Some of those without a target changed for expressions of other pictures."""
        composer = Composer(view, rng, None, setting)
        known = {expression.text for expression in said}
        lent: list[Expression] = []
        for partner in self._partners(image_id, view, rng):
            lent += [borrowed for e in self._lend(partner) if (borrowed := composer.borrow(e))]
        lent = [expression for expression in lent if expression.text not in known]
        for number, expression in enumerate(said):
            if lent and not expression.targets and rng.random() < BORROWED:
                said[number] = lent.pop(int(rng.integers(len(lent))))
        return list({expression.text: expression for expression in said}.values())

    def _partners(self, image_id: int, view: Any, rng: np.random.Generator) -> list[int]:
        split = self._album.splits[image_id]
        kinds = sorted({seen.kind for seen in view})
        like = sorted({n for kind in kinds for n in self._by_kind[split, kind]} - {image_id})
        return [like[n] for n in rng.permutation(len(like))[:PARTNERS]]

    def _lend(self, image_id: int) -> list[Expression]:
        """True expressions of a picture, the same whoever asks."""
        if image_id not in self._lent:
            record = self._album.records[image_id]
            try:
                view, setting = self._look(record, read_image(record))
            except DatasetError:
                view = []
            rng = np.random.default_rng([self._options.seed, image_id, _PARTNER_STREAM])
            lend = compose(view, rng, 10, 0.0, sentences=SENTENCES, setting=setting) if view else []
            self._lent[image_id] = lend
        return self._lent[image_id]

    def _annotations(self, image_id: int, view: Any) -> list[dict[str, Any]]:
        """As they were, crowds too, with the colour where it is known."""
        instances = self._album.records[image_id].instances
        colors = {instances[seen.index - 1].ann_id: seen.color for seen in view}
        return [{**n, "color": colors.get(n["id"], "")} for n in self._album.annotations[image_id]]


def evened(
    refs: list[dict[str, Any]], balance: tuple[int, int, int], no_target: float
) -> list[dict[str, Any]]:
    """Of the held-out refs as many as keep the proportion of one, many and none; of the training
    refs without a target no more than the share ``no_target`` (pictures with few objects run out of
    other expressions). Whole sets of targets are dropped, in an order that does not hang on the
    pictures'.
    """
    held_out: list[list[dict[str, Any]]] = [[], [], []]
    training: list[list[dict[str, Any]]] = [[], [], []]
    for ref in refs:
        strata = training if ref["split"] == "train" else held_out
        strata[2 if ref["no_target"] else min(len(ref["ann_id"]), 2) - 1].append(ref)
    unit = min(len(found) // share for found, share in zip(held_out, balance, strict=True) if share)
    dropped: set[int] = set()
    for found, share in zip(held_out, balance, strict=True):
        dropped |= _excess(found, unit * share)
    if no_target < 1:
        some = len(training[0]) + len(training[1])
        dropped |= _excess(training[2], round(some * no_target / (1 - no_target)))
    return [ref for ref in refs if ref["ref_id"] not in dropped]


def _excess(refs: list[dict[str, Any]], kept: int) -> set[int]:
    """Which are dropped so that no more than ``kept`` stay."""
    groups: dict[str, list[int]] = defaultdict(list)
    for ref in refs:
        same = ref["ref_id"] if ref["no_target"] else sorted(ref["ann_id"])
        groups[f"{ref['image_id']} {same}"].append(ref["ref_id"])
    excess = len(refs) - kept
    dropped: set[int] = set()
    for key in sorted(groups, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if excess <= len(dropped):
            break
        dropped.update(groups[key][len(dropped) - excess :])
    return dropped


_author: Author | None = None


def _start_worker(album: Album, options: Options) -> None:
    global _author
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops the workers
    _author = Author(album, options)


def _work(image_id: int) -> tuple[int, Entry | str]:
    assert _author is not None
    return image_id, _author.write(image_id)


def construct(
    album: Album, options: Options, journal: Journal, workers: int, console: Console
) -> list[str]:
    """Writes the pictures that the journal lacks; answers why some are left out."""
    todo = [image_id for image_id in album.records if image_id not in journal.done]
    context = multiprocessing.get_context("spawn")
    left_out = []
    with context.Pool(workers, _start_worker, (album, options)) as pool:
        done = pool.imap_unordered(_work, todo, chunksize=4)
        for _, made in track(done, "pictures", total=len(todo), console=console):
            if isinstance(made, str):
                left_out.append(made)
            else:
                journal.add(made)
    return sorted(left_out)


def parse_balance(text: str) -> tuple[int, int, int]:
    """ "1:1:1" -> (1, 1, 1); ValueError unless three whole numbers, not all zero."""
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isdigit() for part in parts) or not any(map(int, parts)):
        raise ValueError(f"{text!r} is not a proportion of one, many and none such as 1:1:1")
    return int(parts[0]), int(parts[1]), int(parts[2])


def main(
    instances: Annotated[Path, typer.Option(help="COCO instance annotations.")],
    images: Annotated[Path, typer.Option(help="Folder of the pictures.")],
    out: Annotated[Path, typer.Option(help="Folder of the dataset.")],
    val_ids: Annotated[
        Path | None, typer.Option(help="File with the image ids that are held out, one a line.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    expressions: Annotated[int, typer.Option(min=1, max=900, help="A picture, at most.")] = 32,
    val_expressions: Annotated[int, typer.Option(min=1, help="The same, held out.")] = 18,
    no_target: Annotated[float, typer.Option(min=0, max=1, help="Share in training.")] = 0.33,
    balance: Annotated[str, typer.Option(help="one:many:none where held out.")] = "1:1:1",
    references: Annotated[
        int, typer.Option(min=1, max=9, help="Expressions for each set of targets, where several.")
    ] = 3,
    boxes: Annotated[
        bool, typer.Option(help="Keep objects that have a box and no segmentation.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds say other things.")] = 0,
) -> None:
    """Compose expressions over photographs, in gRefCOCO's own file layout.

    Run it again to go on after an interruption.
    """
    console = Console()
    try:
        wished = parse_balance(balance)
        held_out = (
            frozenset(int(n) for n in val_ids.read_text().split()) if val_ids else frozenset()
        )
        album = read_album(instances, images, held_out, boxes)
        options = Options(out, expressions, val_expressions, no_target, references, seed, wished)
        settings = {
            "instances": hashlib.sha256(instances.read_bytes()).hexdigest(),
            "held out": sorted(held_out), "expressions": expressions, "no_target": no_target,
            "held-out expressions": val_expressions, "balance": list(wished),
            "references": references, "seed": seed, **({"boxes": True} if boxes else {}),
        }  # fmt: skip
        with Journal(out, settings) as journal:
            try:
                left_out = construct(album, options, journal, workers, console)
            except KeyboardInterrupt:
                console.print(f"{len(journal.done)} pictures are kept; the same command goes on.")
                raise typer.Exit(130) from None
            found = journal.finish(
                album.categories,
                lambda refs: evened(refs, wished, no_target),
                f"Expressions over {instances}",
            )
    except (OSError, ValueError, JournalError) as error:
        console.print(f"[red]{error}[/red]", highlight=False)
        raise typer.Exit(2) from None
    for reason in left_out[:10]:
        console.print(f"left out: {reason}", highlight=False)
    if left_out:
        console.print(f"{len(left_out)} pictures are left out")
    console.print(", ".join(f"{number} {name}" for name, number in found.items()), f"in {out}")


if __name__ == "__main__":
    typer.run(main)
