"""GREG, the generation head: from a set of objects to an expression that means exactly them.

A small text decoder attends all regions of the picture, of which those in the set are marked: what
to say of an object depends on what else is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .config import RelaConfig
from .distinct import box_overlap
from .proposals import box_waves
from .region_decoder import RegionState
from .tables import pixel_centres

PAD, BEGIN, END, UNKNOWN = range(4)
SPECIAL = ("[PAD]", "[BEGIN]", "[END]", "[UNK]")
SAME = 0.5  # least IoU at which a region stands for an object
LENGTH_POWER = 0.7  # scores are log-probabilities / words ** LENGTH_POWER, as in GNMT

_WORD = re.compile(r"[a-z0-9]+(?:[-'][a-z0-9]+)*|,")


def split_words(text: str) -> list[str]:
    """ "Cups, bowls" -> ["cups", ",", "bowls"]: words, numbers and commas, lower case."""
    return _WORD.findall(text.lower())


class Vocabulary:
    """The words that the head can say; ids 0..3 are :data:`SPECIAL`."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = (*SPECIAL, *words)
        self._ids = {word: i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, texts: Iterable[str], most: int) -> Tensor:
        """Ids (B, L) int64: begin, words, end, padding. A text without words, or of more than
        ``most`` - 1, is a row of padding."""
        rows = []
        for text in texts:
            words = split_words(text)
            ids = [BEGIN, *(self._ids.get(word, UNKNOWN) for word in words), END]
            rows.append(torch.tensor(ids if 0 < len(words) < most else [PAD]))
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)

    def decode(self, ids: Iterable[int]) -> str:
        """The sentence, without special ids."""
        words = [self.words[i] for i in ids if i >= len(SPECIAL)]
        return " ".join(words).replace(" ,", ",")


@dataclass
class ChosenSets:
    """S sets of objects on P pictures of Q regions. An object is a region, or where no region
    stands for it, its box and the mask features inside; N is the most of the latter in any set."""

    picture: Tensor  # (S,) int64
    marked: Tensor  # (S, Q) bool: the region is in the set
    hidden: Tensor  # (S, Q) bool: the region is not to be seen
    pooled: Tensor  # (S, N, mask_dim)
    boxes: Tensor  # (S, N, 4) centre x, y, width, height in 0..1 of the padded picture
    given: Tensor  # (S, N) bool: no padding


class ExpressionDecoder(nn.Module):
    """A layer in which regions see which of them are meant, then pre-norm decoder layers."""

    def __init__(self, cfg: RelaConfig) -> None:
        super().__init__()
        dim = cfg.hidden_dim
        self.most = cfg.generation_tokens
        self.vocabulary = Vocabulary(cfg.generation_words)
        self.region = nn.Linear(dim, dim)
        self.appearance = nn.Linear(cfg.mask_dim, dim)
        self.geometry = nn.Linear(dim, dim)
        self.mark_embed = nn.Embedding(3, dim)  # not in the set, in it, in it without a region
        self.word_embed = nn.Embedding(len(self.vocabulary), dim)
        self.position_embed = nn.Embedding(self.most, dim)
        for table in (self.word_embed, self.position_embed):
            nn.init.normal_(table.weight, std=0.05)
        self.word_bias = nn.Parameter(torch.zeros(len(self.vocabulary)))
        same = {"dropout": 0.1, "batch_first": True, "norm_first": True}
        self.context = nn.TransformerEncoderLayer(dim, cfg.heads, cfg.decoder_ffn, **same)  # type: ignore[arg-type]
        self.context_norm = nn.LayerNorm(dim)
        layer = nn.TransformerDecoderLayer(dim, cfg.heads, cfg.decoder_ffn, **same)  # type: ignore[arg-type]
        self.layers = nn.TransformerDecoder(layer, cfg.generation_layers, nn.LayerNorm(dim))

    def encode(self, state: RegionState, sets: ChosenSets) -> tuple[Tensor, Tensor]:
        """What the words attend: (S, Q + N, C), and (S, Q + N) True where there is nothing."""
        assert state.boxes is not None
        dim = self.region.in_features
        waves = self.geometry(box_waves(state.boxes.detach().float(), dim))
        regions = (self.region(state.regions.transpose(0, 1)) + waves)[sets.picture]
        marked = regions + self.mark_embed(sets.marked.long())
        given = self.appearance(sets.pooled) + self.geometry(box_waves(sets.boxes, dim))
        given = given + self.mark_embed.weight[2]
        blocked = torch.cat((sets.hidden, ~sets.given), 1)
        x = torch.cat((marked, given.to(marked.dtype)), 1)
        return self.context_norm(self.context(x, src_key_padding_mask=blocked)), blocked

    def forward(self, memory: Tensor, blocked: Tensor, tokens: Tensor) -> Tensor:
        """Ids (S, L) that begin with BEGIN, L at most ``most`` -> logits (S, L, words) of the
        word after each."""
        length = tokens.shape[1]
        x = self.word_embed(tokens) * self.region.in_features**0.5
        x = x + self.position_embed.weight[:length]
        later = torch.ones(length, length, dtype=torch.bool, device=tokens.device).triu(1)
        x = self.layers(x, memory, tgt_mask=later, memory_key_padding_mask=blocked)
        return nn.functional.linear(x, self.word_embed.weight.to(x.dtype)) + self.word_bias

    @torch.no_grad()
    def search(self, memory: Tensor, blocked: Tensor, beams: int) -> list[tuple[str, float]]:
        """Beam search for one set, (1, Q + N, C) and (1, Q + N); ``beams`` 1 is greedy.

        Returns:
            Different expressions and their scores, best first; the greedy one is among them.
        """
        device = memory.device
        never = torch.tensor([PAD, BEGIN, UNKNOWN], device=device)
        tokens = torch.full((1, 1), BEGIN, device=device)
        scores = torch.zeros(1, device=device)
        found: dict[str, float] = {}
        for length in range(1, self.most + 1):
            rows = len(tokens)
            logits = self(memory.expand(rows, -1, -1), blocked.expand(rows, -1), tokens)[:, -1]
            logits = logits.float().index_fill(1, never, -torch.inf)
            words = logits.log_softmax(1)
            if length == 1:
                words[:, END] = -torch.inf
            elif length == self.most:
                words = words.where(torch.arange(words.shape[1], device=device) == END, -torch.inf)
            total = (scores[:, None] + words).flatten()
            best = total.topk(min(2 * beams, len(total)))
            live: list[tuple[int, int, float]] = []
            pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
            for rank, (score, place) in enumerate(pairs):
                row, word = divmod(place, words.shape[1])
                if score == -torch.inf or len(live) == beams:
                    break
                if word != END:
                    live.append((row, word, score))
                elif rank < beams:
                    text = self.vocabulary.decode(tokens[row].tolist())
                    found[text] = max(found.get(text, -torch.inf), score / length**LENGTH_POWER)
            if len(found) >= beams or not live:
                break
            kept = torch.tensor([row for row, _, _ in live], device=device)
            said = torch.tensor([[word] for _, word, _ in live], device=device)
            tokens = torch.cat((tokens[kept], said), 1)
            scores = torch.tensor([score for _, _, score in live], device=device)
        if beams > 1:  # which a beam may have lost
            found = dict(self.search(memory, blocked, 1)) | found
        return sorted(found.items(), key=lambda item: -item[1])


def choose(state: RegionState, boxes: Tensor, inside: Tensor, masked: Tensor) -> ChosenSets:
    """One set of N objects on one picture.

    Args:
        state: of a picture, with ``objectness`` and ``mask_features``.
        boxes: (N, 4) centre x, y, width, height in 0..1 of the padded picture.
        inside: (N, H/4, W/4) how much of a cell is the object's, 0..1.
        masked: (N,) bool, where ``inside`` is its mask; elsewhere its box alone counts.
    """
    assert state.boxes is not None and state.objectness is not None
    overlap = torch.where(
        masked[:, None],
        mask_overlap(inside, state.masks[0]),
        box_overlap(boxes, state.boxes[0].float()),
    )
    # Of regions on the same object the one that was taught to be it is the surest.
    fit = torch.where(overlap >= SAME, overlap + state.objectness[0].sigmoid(), 0.0)
    known = fit.amax(1) > 0
    marked = torch.zeros_like(state.objectness, dtype=torch.bool)
    marked[0, fit.argmax(1)[known]] = True
    other = ~known
    return ChosenSets(
        torch.zeros(1, dtype=torch.int64, device=boxes.device),
        marked,
        torch.zeros_like(marked),
        pool(state.mask_features[0].float(), inside[other])[None],
        boxes[other][None],
        other[other][None],
    )


def pool(features: Tensor, inside: Tensor) -> Tensor:
    """Mean of features (..., M, h, w) inside masks (..., N, h, w), 0..1 -> (..., N, M)."""
    weight = inside.flatten(-2).to(features.dtype)
    total = weight.sum(-1, keepdim=True).clamp(min=1)
    return weight @ features.flatten(-2).transpose(-1, -2) / total


def box_inside(boxes: Tensor, height: int, width: int) -> Tensor:
    """(N, 4) boxes -> (N, height, width), 1 where a cell's centre is inside, at least one."""
    centres = pixel_centres(height, width, boxes).view(height, width, 2)
    half = torch.maximum(boxes[:, 2:] / 2, boxes.new_tensor((0.51 / width, 0.51 / height)))
    apart = (centres - boxes[:, None, None, :2]).abs() <= half[:, None, None]
    return apart.all(-1).to(boxes.dtype)


def mask_overlap(masks: Tensor, logits: Tensor) -> Tensor:
    """IoU of masks (N, h, w) in 0..1 and regions (Q, h, w) of logits -> (N, Q)."""
    a, b = masks.flatten(1).float(), (logits.flatten(1) > 0).float()
    inner = a @ b.T
    return inner / (a.sum(1)[:, None] + b.sum(1) - inner).clamp(min=1e-9)
