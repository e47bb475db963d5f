"""What the generation head learns from: its words, its sentences, and sets of objects."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from grex_ros.grounding.command import CommandError, parse_command
from grex_ros.model.distinct import box_overlap
from grex_ros.model.generation import (
    SAME,
    ChosenSets,
    Vocabulary,
    box_inside,
    pool,
    split_words,
)
from grex_ros.model.region_decoder import RegionState
from grex_ros.model.rela import ReLA
from training.criterion import PictureTruth
from training.matcher import flat_matches, owners

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
    device = wanted.device
    boxes, masks = (pad_sequence([getattr(t, n) for t in truth], True) for n in ("boxes", "masks"))
    picture, region, item = flat_matches(matches)
    overlap = box_overlap(boxes, state.boxes.detach().float())
    good = overlap[picture, item, region] >= SAME
    seen = torch.zeros(boxes.shape[:2], dtype=torch.bool, device=device)
    seen[picture, item] = good
    dropped = seen & (torch.rand(seen.shape) < UNSEEN).to(device)
    place = torch.zeros(*seen.shape, state.regions.shape[0], device=device)
    place[picture, item, region] = good.float()
    by_box = (torch.rand(seen.shape) < 0.5).to(device)
    framed = box_inside(boxes.flatten(0, 1), *masks.shape[2:]).unflatten(0, seen.shape)
    inside = torch.where(by_box[..., None, None], framed, masks)
    pooled = pool(state.mask_features, inside)

    own = owners([len(t.meant) for t in truth], device)[wanted]
    fill = seen.shape[1]
    meant = torch.cat([F.pad(t.meant, (0, fill - t.meant.shape[1])) for t in truth])[wanted] > 0.5
    by_region, others = place[own], ~seen[own] | dropped[own]
    marked, hidden = (
        (chosen.float()[:, None] @ by_region)[:, 0] > 0
        for chosen in (meant & ~others, meant & dropped[own])
    )
    given = meant & others
    # Those that are given come first in their rows, which end with the longest.
    order = given.float().argsort(stable=True, dim=1, descending=True)
    order = order[:, : int(given.sum(1).max()) if len(given) else 0]
    there = given.gather(1, order)
    row = own[:, None]
    return ChosenSets(own, marked, hidden, pooled[row, order], boxes[row, order], there)
