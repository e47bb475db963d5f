"""What the generation head learns from: its words, its sentences, and sets of objects."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor

from grex_ros.grounding.command import CommandError, parse_command
from grex_ros.model.generation import (
    SAME,
    ChosenSets,
    Vocabulary,
    box_inside,
    box_overlap,
    pool,
    split_words,
)
from grex_ros.model.region_decoder import RegionState
from grex_ros.model.rela import ReLA
from training.criterion import PictureTruth

MOST_WORDS = 1500
LEAST_COUNT = 2  # a word said once is a slip more often than not
UNSEEN = 0.1  # share of objects that are given by box or mask though a region stands for them


@functools.lru_cache(maxsize=1 << 18)
def bare(text: str) -> str:
    """The expression in a sentence, without verbs and courtesies; "" if there is none."""
    try:
        command = parse_command(text)
    except CommandError:
        return ""
    return command.expression if command else ""


def vocabulary(texts: Iterable[str]) -> tuple[str, ...]:
    """The words of the expressions in ``texts``, sorted: the most frequent where there are more
    than :data:`MOST_WORDS`, and only those said :data:`LEAST_COUNT` times."""
    counts = Counter(word for text in texts for word in split_words(bare(text)))
    often = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_WORDS]
    return tuple(sorted(word for word, count in often if count >= LEAST_COUNT))


def fit_words(tensors: dict[str, Tensor], words: tuple[str, ...], model: ReLA) -> None:
    """Gives the rows of a head with the vocabulary ``words``, in place, the order of the model's;
    words that are new keep the model's rows."""
    if model.generation is None or not words:
        return
    before = {word: i for i, word in enumerate(Vocabulary(words).words)}
    known = [(i, before[w]) for i, w in enumerate(model.generation.vocabulary.words) if w in before]
    new, old = torch.tensor(known).T
    for name in ("word_embed.weight", "word_bias"):
        rows = model.generation.get_parameter(name).detach().cpu().clone()
        rows[new] = tensors[f"generation.{name}"][old]
        tensors[f"generation.{name}"] = rows


def training_sets(
    state: RegionState,
    truth: list[PictureTruth],
    matches: list[tuple[Tensor, Tensor]],
    wanted: Tensor,
) -> ChosenSets:
    """The sets that expressions mean, as :func:`~grex_ros.model.generation.choose` would give them.

    At random, some objects are given by their mask or box, and the region that stands for them is
    hidden: this is how the head learns of objects that no region stands for.

    Args:
        state: of P pictures, before :meth:`RegionState.repeat`, with boxes.
        wanted: (E,) bool, which of all expressions of ``truth``, in their order.
    """
    assert state.boxes is not None
    count = state.regions.shape[0]
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    pooled, boxes = [], []
    for i, (t, (regions, objects)) in enumerate(zip(truth, matches, strict=True)):
        meant = t.meant > 0.5
        overlap = box_overlap(t.boxes, state.boxes[i].detach().float())[objects, regions]
        good = overlap >= SAME
        seen = torch.zeros(len(t.boxes), dtype=torch.bool, device=meant.device)
        seen[objects] = good
        dropped = seen & (torch.rand(len(seen)) < UNSEEN).to(seen.device)
        place = torch.zeros(len(seen), count, device=meant.device)
        place[objects[good], regions[good]] = 1
        marked = (meant & seen & ~dropped).float() @ place > 0
        hidden = (meant & dropped).float() @ place > 0
        parts.append((marked, hidden, meant & (~seen | dropped)))
        by_box = (torch.rand(len(seen)) < 0.5).to(seen.device)
        framed = box_inside(t.boxes, *t.masks.shape[1:])
        inside = torch.where(by_box[:, None, None], framed, t.masks)
        pooled.append(pool(state.mask_features[i], inside))
        boxes.append(t.boxes)
    counts = torch.tensor([len(t.meant) for t in truth], device=wanted.device)
    picture = torch.arange(len(truth), device=wanted.device).repeat_interleave(counts)[wanted]
    marked, hidden = (torch.cat([part[k] for part in parts])[wanted] for k in (0, 1))
    rows = [row for part in parts for row in part[2]]
    given = [torch.nonzero(rows[k])[:, 0] for k in torch.nonzero(wanted)[:, 0].tolist()]
    pad = functools.partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
    pictures = picture.tolist()
    return ChosenSets(
        picture,
        marked,
        hidden,
        pad([pooled[p][g] for p, g in zip(pictures, given, strict=True)]),
        pad([boxes[p][g] for p, g in zip(pictures, given, strict=True)]),
        pad([torch.ones_like(g, dtype=torch.bool) for g in given]),
    )
