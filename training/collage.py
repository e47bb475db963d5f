"""Pastes annotated objects of photographs onto other photographs: more real pictures from few.

    python -m training.collage --instances DIR/instances.json --images DIR/images --out data/collage
    python -m training.construct --instances data/collage/instances.json \\
        --images data/collage/images --out data/collage

Half of the pictures keep a photograph and its own annotated objects, half have a photograph that is
blurred beyond recognition as their ground. What is pasted over loses those pixels from its mask,
and nothing is covered so far that its annotation would become doubtful (copy-paste augmentation,
Ghiasi et al. 2021). Colours are not changed: a red cup stays one.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from grex_ros.grounding import rle
from training.dataset.coco import keep_boxes
from training.dataset.records import DatasetError, Instance, instance_mask

LEAST_AREA = 900  # pixels of a source object
LEAST_VISIBLE = 0.5  # of an object's own pixels, when others lie over it
LEAST_PIXELS = 120  # of an annotated object in a collage
TRIES = 20  # places that are tried for an object
KEPT_GROUND = 0.5  # of the collages: a photograph that can be recognised, with its objects

Mask = NDArray[np.bool_]
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Sources:
    """The photographs by id, their annotations, and the objects that may be cut out."""

    files: dict[int, Path]
    annotations: dict[int, list[dict[str, Any]]]
    cutouts: dict[int, list[dict[str, Any]]]  # by category
    chances: tuple[tuple[int, float], ...]  # of each category

    def image(self, image_id: int) -> Picture:
        """(H, W, 3) uint8 BGR; DatasetError if it cannot be read."""
        found = cv2.imread(
            str(self.files[image_id]), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        )
        if found is None:
            raise DatasetError(f"cannot read picture {self.files[image_id]} (image {image_id})")
        return np.asarray(found, np.uint8)


@functools.cache
def read_sources(instances: Path, images: Path, left_out: frozenset[int]) -> Sources:
    """Reads a COCO instance file without the pictures ``left_out``.

    Objects may be cut out that are large enough, whole within their picture, and of one piece or
    two. Rare categories are drawn more often than they occur.
    """
    content = json.loads(instances.read_text())
    keep_boxes(content["annotations"])  # as what lies on a ground, not to be cut out
    files = {i["id"]: images / i["file_name"] for i in content["images"] if i["id"] not in left_out}
    sizes = {i["id"]: (i["width"], i["height"]) for i in content["images"]}
    annotations: dict[int, list[dict[str, Any]]] = defaultdict(list)
    cutouts: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for note in content["annotations"]:
        if note["image_id"] not in files:
            continue
        annotations[note["image_id"]].append(note)
        x, y, w, h = note["bbox"]
        width, height = sizes[note["image_id"]]
        whole = min(x, y, width - x - w, height - y - h) > 2
        simple = isinstance(note["segmentation"], dict) or len(note["segmentation"]) <= 2
        clear = not note.get("iscrowd") and note.get("outlined", True)
        if clear and note["area"] >= LEAST_AREA and whole and simple:
            cutouts[note["category_id"]].append(note)
    if not cutouts:
        raise DatasetError(f"{instances}: no object is large and whole enough to be cut out")
    weights = {category: len(found) ** 0.5 for category, found in cutouts.items()}
    total = sum(weights.values())
    chances = tuple((category, weight / total) for category, weight in weights.items())
    return Sources(files, dict(annotations), dict(cutouts), chances)


def note_mask(note: dict[str, Any], height: int, width: int) -> Mask:
    """The pixels of a COCO annotation, bool (height, width)."""
    x, y, w, h = note["bbox"]
    box = (x, y, x + w, y + h)
    instance = Instance(note["id"], note["category_id"], "", box, note["segmentation"])
    return instance_mask(instance, height, width)


def shrink(mask: Mask, size: tuple[int, int]) -> Mask:
    """A mask at another (width, height)."""
    found = cv2.resize(mask.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA)
    return np.asarray(found > 127)


def ground(
    sources: Sources, side: int, rng: np.random.Generator
) -> tuple[Picture, list[tuple[int, bool, Mask]]]:
    """A photograph with its objects as (category, is crowd, mask), or a blurred one without."""
    image_id = int(rng.choice(list(sources.files)))
    image = sources.image(image_id)
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (round(width * scale), round(height * scale))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    if rng.random() > KEPT_GROUND:
        return np.asarray(
            cv2.GaussianBlur(small, (0, 0), rng.uniform(0.04, 0.1) * side), np.uint8
        ), []
    found = []
    for note in sources.annotations.get(image_id, []):
        mask = shrink(note_mask(note, height, width), size)
        # What is too small to be annotated here, or only a box, makes "all" of its kind doubtful.
        known = not note.get("iscrowd") and note.get("outlined", True) and mask.sum() >= 30
        found.append((note["category_id"], not known, mask))
    return small, found


def cut_out(
    sources: Sources, note: dict[str, Any], side: int, rng: np.random.Generator
) -> tuple[Picture, Mask]:
    """An object turned, mirrored at random and scaled for a picture of ``side`` pixels."""
    image = sources.image(note["image_id"])
    mask = note_mask(note, *image.shape[:2])
    ys, xs = np.nonzero(mask)
    box = np.s_[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    image, mask = image[box], mask[box]
    height, width = mask.shape
    scale = min(1.5, side * rng.uniform(0.12, 0.45) / max(height, width))
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-15, 15), scale)
    if rng.random() < 0.5:
        turn = turn @ np.array([[-1, 0, width], [0, 1, 0], [0, 0, 1.0]])
    corners = np.array([(0, 0, 1), (width, 0, 1), (0, height, 1), (width, height, 1.0)]) @ turn.T
    turn[:, 2] -= corners.min(0)
    w, h = np.ceil(corners.max(0) - corners.min(0)).astype(int).tolist()
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    pixels = cv2.warpAffine(image, turn, (w, h), flags=how, borderMode=cv2.BORDER_REPLICATE)
    turned = cv2.warpAffine(mask.astype(np.uint8) * 255, turn, (w, h), flags=how)
    return np.asarray(pixels, np.uint8), np.asarray(turned > 127)


def paste(picture: Picture, pixels: Picture, mask: Mask, x: int, y: int, soft: float) -> None:
    """Draws an object into the picture, its edge blended over some ``soft`` pixels."""
    h, w = mask.shape
    alpha = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), soft)[..., None]
    alpha = np.minimum(alpha, 2 * alpha * mask[..., None])  # nothing beyond the mask
    under = picture[y : y + h, x : x + w]
    picture[y : y + h, x : x + w] = (alpha * pixels + (1 - alpha) * under + 0.5).astype(np.uint8)


def place(
    own: Mask,
    shape: tuple[int, int],
    things: list[tuple[int, bool, Mask]],
    before: list[int],
    rng: np.random.Generator,
) -> Mask | None:
    """The object's mask in the picture, where it hides no annotated thing too far."""
    h, w = own.shape
    height, width = shape
    if h > height or w > width or own.sum() < LEAST_PIXELS:
        return None
    for _ in range(TRIES):
        full = np.zeros(shape, bool)
        y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        full[y : y + h, x : x + w] = own
        left = [int((mask & ~full).sum()) for _, _, mask in things]
        if all(
            crowd or after == area or after >= max(LEAST_VISIBLE * area, LEAST_PIXELS)
            for (_, crowd, _), after, area in zip(things, left, before, strict=True)
        ):
            return full
    return None


def collage(sources: Sources, side: int, seed: int) -> tuple[Picture, list[tuple[int, bool, Mask]]]:
    """A picture (H, W, 3) uint8 BGR and its things as (category, is crowd, visible pixels)."""
    rng = np.random.default_rng([seed, 0x636F6C6C])
    picture, things = ground(sources, side, rng)
    before = [int(mask.sum()) for _, _, mask in things]
    categories, chances = zip(*sources.chances, strict=True)
    # Few kinds a picture, so that "all cups" has something to choose from.
    kinds = rng.choice(categories, size=rng.integers(1, 5), p=chances)
    for _ in range(int(rng.integers(*((1, 4) if things else (3, 9))))):
        notes = sources.cutouts[int(rng.choice(kinds))]
        note = notes[int(rng.integers(len(notes)))]
        pixels, own = cut_out(sources, note, side, rng)
        full = place(own, picture.shape[:2], things, before, rng)
        if full is None:
            continue
        ys, xs = np.nonzero(full)
        oy, ox = np.nonzero(own)
        x, y = int(xs.min() - ox.min()), int(ys.min() - oy.min())
        paste(picture, pixels, own, x, y, rng.uniform(0.5, 1.2))
        things = [(category, crowd, mask & ~full) for category, crowd, mask in things]
        things.append((note["category_id"], False, full))
        before.append(int(full.sum()))
    return picture, [thing for thing in things if thing[2].any()]


def make(task: tuple[Path, Path, frozenset[int], Path, int, int, int]) -> dict[str, Any]:
    """Writes one collage; its entries for the instance file."""
    instances, images, left_out, out, side, seed, number = task
    picture, things = collage(read_sources(instances, images, left_out), side, seed + number)
    name = f"{number:06d}.jpg"
    if not cv2.imwrite(str(out / "images" / name), picture, [cv2.IMWRITE_JPEG_QUALITY, 93]):
        raise OSError(f"cannot write {out / 'images' / name}")
    notes = []
    for place_, (category, crowd, mask) in enumerate(things):
        ys, xs = np.nonzero(mask)
        x, y = int(xs.min()), int(ys.min())
        notes.append(
            {
                "id": number * 1000 + place_,
                "image_id": number,
                "category_id": category,
                "bbox": [x, y, int(xs.max()) + 1 - x, int(ys.max()) + 1 - y],
                "area": int(mask.sum()),
                "segmentation": rle.encode(mask),
                "iscrowd": int(crowd),
            }
        )
    height, width = picture.shape[:2]
    return {
        "image": {"id": number, "file_name": name, "height": height, "width": width},
        "annotations": notes,
    }


def main(
    instances: Annotated[Path, typer.Option(help="COCO instance file of the photographs.")],
    images: Annotated[Path, typer.Option(help="Folder of the photographs.")],
    out: Annotated[Path, typer.Option(help="Folder of the collages.")],
    pictures: Annotated[int, typer.Option(min=1, help="How many collages.")] = 3000,
    leave_out: Annotated[
        Path | None, typer.Option(help="File of image ids, one a line, that must not be used.")
    ] = None,
    side: Annotated[int, typer.Option(min=64, help="Longer side in pixels.")] = 320,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Make collages of photographs, in COCO's layout; the same command makes the same ones."""
    console = Console()
    lines = leave_out.read_text().splitlines() if leave_out else []
    left_out = frozenset(int(line) for line in lines if line.strip() and not line.startswith("#"))
    try:
        read_sources(instances, images, left_out)  # errors before the work
        (out / "images").mkdir(parents=True, exist_ok=True)
        tasks = [
            (instances, images, left_out, out, side, seed * 10_000_000, number)
            for number in range(1, pictures + 1)
        ]
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            made = pool.imap(make, tasks, chunksize=8)
            entries = list(track(made, "collages", total=pictures, console=console))
    except (DatasetError, OSError, KeyError, ValueError) as error:
        console.print(f"collage: {error!r}", style="red", markup=False)
        raise typer.Exit(1) from None
    source = json.loads(instances.read_text())
    content = {
        "info": {"description": "Collages of photographs"},
        "images": [entry["image"] for entry in entries],
        "annotations": [note for entry in entries for note in entry["annotations"]],
        "categories": source["categories"],
    }
    part = out / "instances.part"
    part.write_text(json.dumps(content, separators=(",", ":")))
    part.replace(out / "instances.json")
    number = Counter(int(note["iscrowd"]) for note in content["annotations"])
    console.print(f"{len(entries)} pictures, {number[0]} objects, {number[1]} crowds in {out}")


if __name__ == "__main__":
    typer.run(main)
