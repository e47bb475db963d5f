"""Whether another engine gives torch's numbers, and how fast it is."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .exported import Exported
from .region_decoder import RelaOutput
from .rela import ReLA

PICTURES = 4  # at most, until one shows no tie
DRAWN = 4  # masks that are drawn anew to compare engines

FLIPPED = 0.1  # a bit of a region's attention mask may flip, which moves official logits by 1e-3
# The largest difference that is rounding; the engines' are a tenth of it (see Difference).
SMALL = {"words": 3e-4, "logits": 3e-4, "boxes": 1e-4, "masks": 1e-4}

Runner = ReLA | Exported


@dataclass(frozen=True)
class Difference:
    """How far an engine is from torch on one picture and some expressions, at the worst place."""

    words: float  # of a word feature, in standard deviations of them
    # Of a no-target or target logit, in standard deviations of the target logits. Of official
    # presets FLIPPED times the worse of no-target, in parts of its largest, and of the merged
    # mask, in the mean.
    logits: float
    boxes: float  # of a number of a box, in parts of the picture
    masks: float  # share of pixels on the other side; of masks drawn anew the mean difference

    @property
    def small(self) -> bool:
        """Whether it is rounding."""
        return all(getattr(self, name) <= limit for name, limit in SMALL.items())

    def __str__(self) -> str:
        return ", ".join(f"{name} {getattr(self, name):.0e}" for name in SMALL)


@torch.inference_mode()
def compare(
    model: ReLA,
    engine: Runner,
    size: tuple[int, int],
    count: int = 2,
    length: int = 9,
    picture_seed: int = 0,
) -> Difference:
    """Runs both on a drawn picture of ``size`` (height, width) and ``count`` random expressions
    of up to ``length`` words; an official preset sees pictures of its own size alone."""
    cfg = model.cfg
    if not cfg.image_layers:
        size = (cfg.image_size, cfg.image_size)
    picture = drawn_picture(*size, picture_seed)
    random = torch.Generator().manual_seed(count)
    padded = length if cfg.word_padding_mask else cfg.max_tokens
    tokens = torch.randint(1, cfg.text_vocab, (count, padded), generator=random)
    lengths = torch.randint(1, length + 1, (count, 1), generator=random)
    mask = (torch.arange(padded) < lengths.clamp(min=min(3, length))).long()
    (words, out), (other_words, other) = (
        _ask(model, runner, picture, tokens, mask) for runner in (model, engine)
    )
    apart = float((words - other_words).abs().max() / words.std())
    if cfg.image_layers:
        whole = picture.byte()
        return Difference(apart, *_objects_apart(model, engine, out, other, whole))
    no_target = (out.no_target - other.no_target).abs().max() / out.no_target.abs().max()
    inside, other_inside = (x.target_mask.diff(dim=1) for x in (out, other))
    merged = (inside - other_inside).abs().mean() / inside.std()
    return Difference(
        apart,
        FLIPPED * float(torch.maximum(no_target, merged)),
        0.0,
        float(((inside > 0) != (other_inside > 0)).float().mean()),
    )


def compare_without_ties(
    model: ReLA, engine: Runner, size: tuple[int, int], count: int = 2, length: int = 9
) -> Difference:
    """As :func:`compare`; where the model knows thresholds, the first difference that is small on
    some pictures. Official regions look where a mask passes one, and of distinct regions two boxes
    are one object's above an overlap; if there is a tie, two right runs differ in all that follows,
    which happens on some pictures. A wrong engine differs on all."""
    smooth = model.cfg.image_layers and not model.cfg.distinct_regions
    for seed in range(1 if smooth else PICTURES):
        found = compare(model, engine, size, count, length, seed)
        if found.small:
            break
    return found


def _ask(
    model: ReLA, runner: Runner, picture: Tensor, tokens: Tensor, mask: Tensor
) -> tuple[Tensor, RelaOutput]:
    """Word features, and what ``runner`` says of one picture and these expressions."""
    count, batch, whole = len(tokens), model.normalise([picture]), picture.byte()
    words = runner.encode_text(tokens, mask)
    if model.cfg.language_in_backbone:
        state = runner.encode_image(batch.expand(count, -1, -1, -1), words, mask)
        return words, runner.ground(state.repeat([1] * count), words, mask)
    state = runner.look_close(runner.encode_image(batch), whole, whole)
    return words, runner.ground(state.repeat([count]), words, mask)


def _objects_apart(
    model: ReLA, engine: Runner, out: RelaOutput, other: RelaOutput, whole: Tensor
) -> tuple[float, float, float]:
    """Logits, boxes and masks of :class:`Difference`, of a model that tells objects apart."""
    assert out.boxes is not None and other.boxes is not None
    assert out.target is not None and other.target is not None
    boxes, masks = (out.boxes[0], other.boxes[0]), (out.masks[0], other.masks[0])
    # Two peaks of nearly the same height may change places: each region is compared with the one
    # in its place.
    there = (boxes[0][:, None] - boxes[1]).abs().sum(-1).argmin(1)
    apart = torch.cat((out.no_target - other.no_target, out.target - other.target[:, there]), 1)
    given = masks[0][:DRAWN], boxes[0][:DRAWN].nan_to_num(0.5), whole, whole
    drawn, other_drawn = (runner.draw_masks(*given)[0].sigmoid() for runner in (model, engine))
    return (
        float(apart.abs().max() / out.target.std()),
        float((boxes[0] - boxes[1][there]).abs().max()),
        float(((masks[0] > 0) != (masks[1][there] > 0)).float().mean())
        + float((drawn - other_drawn).abs().mean()),
    )


def compare_often(model: ReLA, engine: Runner) -> Difference:
    """The worst, ties aside, of pictures of several shapes and of few and many, short and long
    expressions."""
    side, longest = model.cfg.image_size, model.cfg.max_tokens
    sizes = [(side * 3 // 4, side), (side, side), (side, side * 3 // 4), (side, side // 2)]
    expressions = [(1, 3), (3, 11), (14, longest)]
    if not model.cfg.image_layers:
        sizes, expressions = sizes[1:2], [(1, 3), (2, longest)]
    found = [
        dataclasses.astuple(compare_without_ties(model, engine, size, count, length))
        for size in sizes
        for count, length in expressions
    ]
    return Difference(*np.max(found, axis=0).tolist())


@torch.inference_mode()
def step_times(model: ReLA, engine: Runner, runs: int = 20) -> dict[str, float]:
    """Median seconds of each step, for a picture of 640 x 480, one expression of six words and,
    where masks are drawn one by one, two of them."""
    cfg = model.cfg
    side = cfg.image_size
    whole = drawn_picture(480, 640).byte()
    seen = drawn_picture(side * 3 // 4 if cfg.image_layers else side, side)
    batch = model.normalise([seen])
    padded = 8 if cfg.word_padding_mask else cfg.max_tokens
    tokens, mask = torch.arange(5, 5 + padded)[None], torch.ones(1, padded, dtype=torch.int64)
    words = engine.encode_text(tokens, mask)
    read = (words, mask) if cfg.language_in_backbone else ()
    image = engine.encode_image(batch, *read)
    state = image.repeat([1])
    steps: dict[str, Callable[[], object]] = {
        "text": lambda: engine.encode_text(tokens, mask),
        "image": lambda: engine.encode_image(batch, *read),
        "ground": lambda: engine.ground(state, words, mask),
    }
    if image.boxes is not None:
        pictures = seen.byte(), whole
        if cfg.close_looks:
            steps["look"] = lambda: engine.look_close(image, *pictures)
        given = image.masks[0, :2], image.boxes[0, :2], *pictures
        steps["draw"] = lambda: engine.draw_masks(*given)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(runs):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def drawn_picture(height: int, width: int, seed: int = 0) -> Tensor:
    """(3, height, width), 0..255: a dozen shaded discs on a grainy table; of one seed the same
    every time."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    picture = np.stack([150 + 60 * x, 130 + 50 * y, 110 + 0 * x])
    for _ in range(12):
        cx, cy, radius = random.uniform(0, width / max(height, width)), random.uniform(0, 1), 0.06
        cy *= height / max(height, width)
        inside = np.hypot(x - cx, (y - cy) * random.uniform(0.6, 1.4)) < radius
        shade = 1 - (x - cx + y - cy) / (4 * radius)
        color = random.uniform(20, 230, (3, 1))
        picture[:, inside] = color * shade[inside]
    picture += random.normal(0, 6, picture.shape)
    return torch.from_numpy(picture.clip(0, 255).astype(np.float32))
