"""The generation head, on pictures that are made of numbers: no backbone, no pixels."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from grex_ros.model.checkpoint import load_checkpoint, save_checkpoint
from grex_ros.model.config import RelaConfig
from grex_ros.model.generation import (
    BEGIN,
    END,
    LENGTH_POWER,
    PAD,
    UNKNOWN,
    ChosenSets,
    ExpressionDecoder,
    Vocabulary,
    box_inside,
    choose,
    mask_overlap,
    pool,
)
from grex_ros.model.region_decoder import RegionState
from grex_ros.model.rela import ReLA
from tests.model.test_rela import SMALL

WORDS = ("all", "blue", "cup", "cups", "red", "the")
CFG = SMALL.replace(generation_words=WORDS, generation_tokens=6, generation_layers=1)
RED, BLUE = (
    torch.randn(CFG.hidden_dim, generator=torch.Generator().manual_seed(s)) for s in (1, 2)
)
SIDE = 8


def drawn(pictures: int, seed: int) -> RegionState:
    """Each picture has a red cup in region 0 and a blue one in region 1; the rest is noise."""
    random = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random)

    regions = 0.3 * noise(CFG.regions, pictures, CFG.hidden_dim)
    regions[0] += RED
    regions[1] += BLUE
    boxes = torch.rand(pictures, CFG.regions, 4, generator=random) * 0.2 + 0.05
    boxes[..., :2] += 0.3
    boxes[:, 0, :2] = torch.rand(pictures, 2, generator=random) * 0.2 + 0.1
    boxes[:, 1, :2] = torch.rand(pictures, 2, generator=random) * 0.2 + 0.7
    features = 0.3 * noise(pictures, CFG.mask_dim, SIDE, SIDE)
    masks = torch.full((pictures, CFG.regions, SIDE, SIDE), -5.0)
    for i in range(pictures):
        inside = box_inside(boxes[i], SIDE, SIDE)
        features[i] += RED[: CFG.mask_dim, None, None] * inside[0]
        features[i] += BLUE[: CFG.mask_dim, None, None] * inside[1]
        masks[i] += 10 * inside
    certain = torch.zeros(pictures, CFG.regions)
    return RegionState(
        [], [], [], features, regions, regions, masks, boxes=boxes, objectness=certain
    )


def marked(state: RegionState, *sets: tuple[int, ...]) -> ChosenSets:
    """Sets of regions of picture 0, 1, ... in turn, all seen."""
    marks = torch.zeros(len(sets), CFG.regions, dtype=torch.bool)
    for row, chosen in zip(marks, sets, strict=True):
        row[list(chosen)] = True
    return ChosenSets(
        torch.arange(len(sets)) % state.regions.shape[1],
        marks,
        torch.zeros_like(marks),
        torch.zeros(len(sets), 0, CFG.mask_dim),
        torch.zeros(len(sets), 0, 4),
        torch.zeros(len(sets), 0, dtype=torch.bool),
    )


@pytest.fixture(scope="module")
def head() -> ExpressionDecoder:
    torch.manual_seed(0)
    return ExpressionDecoder(CFG).eval()


TEACHING = {(0,): "the red cup", (1,): "the blue cup", (0, 1): "all cups"}


@pytest.fixture(scope="module")
def taught() -> ExpressionDecoder:
    """Has learned to name the cups, of regions and of what no region stands for."""
    torch.manual_seed(0)
    head = ExpressionDecoder(CFG)
    optimizer = torch.optim.Adam(head.parameters(), 5e-3)
    said = head.vocabulary.encode(list(TEACHING.values()), head.most).repeat(4, 1)
    for step in range(160):
        state = drawn(12, step)
        sets = marked(state, *list(TEACHING) * 4)
        if step % 2:  # the same sets, without their regions
            inside = [box_inside(boxes[:2], SIDE, SIDE) for boxes in state.boxes]
            pairs = zip(state.mask_features, inside, strict=True)
            sets.pooled = torch.stack([pool(features, part) for features, part in pairs])
            sets.boxes, sets.given = state.boxes[:, :2], sets.marked[:, :2]
            sets.hidden, sets.marked = sets.marked, torch.zeros_like(sets.marked)
        logits = head(*head.encode(state, sets), said[:, :-1])
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), said[:, 1:].flatten(), ignore_index=PAD
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head.eval()


@torch.no_grad()
def best(head: ExpressionDecoder, state: RegionState, sets: ChosenSets) -> str:
    return head.search(*head.encode(state, sets), 3)[0][0]


@pytest.mark.parametrize(("chosen", "text"), TEACHING.items())
def test_it_learns_to_name_marked_regions(
    taught: ExpressionDecoder, chosen: tuple[int, ...], text: str
) -> None:
    said = [best(taught, state, marked(state, chosen)) for state in (drawn(1, s) for s in (-1, -2))]
    assert said == [text, text]


@pytest.mark.parametrize(("chosen", "text"), TEACHING.items())
def test_it_learns_to_name_what_no_region_stands_for(
    taught: ExpressionDecoder, chosen: tuple[int, ...], text: str
) -> None:
    state = drawn(1, -3)
    boxes = state.boxes[0, list(chosen)].clone()
    state.boxes[0, list(chosen)] = 0.01  # the regions are lost
    state.regions[list(chosen)] = 0
    sets = choose(state, boxes, box_inside(boxes, SIDE, SIDE), torch.zeros(len(boxes)).bool())
    assert sets.given.sum() == len(chosen)
    assert not sets.marked.any()
    assert best(taught, state, sets) == text


@torch.no_grad()
def test_a_word_sees_only_those_before_it(head: ExpressionDecoder) -> None:
    state = drawn(1, 0)
    memory, blocked = head.encode(state, marked(state, (0,)))
    tokens = torch.tensor([[BEGIN, 4, 5, 6, 7]])
    changed = tokens.clone()
    changed[0, 3] = 8
    before, after = head(memory, blocked, tokens), head(memory, blocked, changed)
    torch.testing.assert_close(before[:, :3], after[:, :3], rtol=0, atol=1e-6)
    assert (before[:, 3:] - after[:, 3:]).abs().amax(-1).min() > 1e-3


@torch.no_grad()
def test_what_is_hidden_or_padding_is_not_seen(head: ExpressionDecoder) -> None:
    state = drawn(1, 0)
    sets = marked(state, (0,))
    sets.hidden[0, 3] = True
    sets.pooled, sets.boxes = torch.randn(1, 2, CFG.mask_dim), torch.rand(1, 2, 4)
    sets.given = torch.tensor([[True, False]])
    tokens = torch.tensor([[BEGIN, 4, 5]])

    def logits() -> Tensor:
        return head(*head.encode(state, sets), tokens)

    first = logits()
    state.regions[3] += 5
    sets.pooled[0, 1] += 5
    torch.testing.assert_close(logits(), first, rtol=0, atol=1e-6)
    sets.pooled[0, 0] += 5
    second = logits()
    assert (second - first).abs().max() > 1e-3
    state.regions[4] += 5
    assert (logits() - second).abs().max() > 1e-3


@torch.no_grad()
def test_the_marks_and_the_boxes_matter(head: ExpressionDecoder) -> None:
    state = drawn(1, 0)
    tokens = torch.tensor([[BEGIN, 4, 5]] * 3)
    one, other, both = head(*head.encode(state, marked(state, (0,), (1,), (0, 1))), tokens)
    for a, b in ((one, other), (one, both), (other, both)):
        assert (a - b).abs().max() > 1e-3
    state.boxes = state.boxes.flip(1)
    moved = head(*head.encode(state, marked(state, (0,))), tokens[:1])
    assert (moved[0] - one).abs().max() > 1e-3


@torch.no_grad()
def test_sets_in_a_batch_do_not_see_each_other(head: ExpressionDecoder) -> None:
    state = drawn(2, 0)
    sets = marked(state, (0,), (1, 2), (0, 1))
    tokens = torch.tensor([[BEGIN, 4, 5], [BEGIN, 6, 7], [BEGIN, 8, 9]])
    together = head(*head.encode(state, sets), tokens)
    for i in range(3):
        one = ChosenSets(*(value[i : i + 1] for value in vars(sets).values()))
        alone = head(*head.encode(state, one), tokens[i : i + 1])
        torch.testing.assert_close(alone, together[i : i + 1], rtol=0, atol=1e-5)


@torch.no_grad()
def score(head: ExpressionDecoder, memory: Tensor, blocked: Tensor, words: list[int]) -> float:
    """By the definition: log-probabilities of words that may be said, and of the end after them."""
    total = 0.0
    for place in range(len(words)):
        logits = head(memory, blocked, torch.tensor([[BEGIN, *words[:place]]]))[0, -1]
        logits[[PAD, BEGIN, UNKNOWN]] = -torch.inf
        total += float(logits.log_softmax(0)[words[place]])
    return total / len(words) ** LENGTH_POWER


def test_wide_beams_find_the_best_of_all_sentences() -> None:
    torch.manual_seed(3)
    cfg = CFG.replace(generation_words=("a", "b"), generation_tokens=4)
    head = ExpressionDecoder(cfg).eval()
    torch.nn.init.normal_(head.word_embed.weight, std=0.3)  # so that sentences differ
    state = drawn(1, 0)
    with torch.no_grad():
        memory, blocked = head.encode(state, marked(state, (0, 2)))
    every = [[*w, END] for n in (1, 2, 3) for w in itertools.product((4, 5), repeat=n)]
    scores = {head.vocabulary.decode(w): score(head, memory, blocked, w) for w in every}
    found = head.search(memory, blocked, 16)
    ranked = sorted(scores, key=lambda text: -scores[text])
    assert [text for text, _ in found] == ranked
    for text, value in found:
        assert value == pytest.approx(scores[text], abs=1e-5)


def test_beams_are_never_worse_than_greedy(head: ExpressionDecoder) -> None:
    torch.manual_seed(1)
    better = 0
    for seed in range(8):
        state = drawn(1, seed)
        head.word_embed.weight.data.normal_(std=0.3)
        with torch.no_grad():
            memory, blocked = head.encode(state, marked(state, (0,)))
        ((greedy, value),) = head.search(memory, blocked, 1)
        found = head.search(memory, blocked, 4)
        assert greedy in dict(found)
        assert found[0][1] >= value
        better += found[0][1] > value
        assert len(found) == len(dict(found)) >= 4
        for text, _ in found:
            words = text.replace(",", " ,").split()
            assert 0 < len(words) < head.most
            assert set(words) <= set(WORDS)
    assert better  # or greedy is all that it does


def test_without_words_nothing_is_said() -> None:
    head = ExpressionDecoder(CFG.replace(generation_words=())).eval()
    state = drawn(1, 0)
    with torch.no_grad():
        assert head.search(*head.encode(state, marked(state, (0,))), 3) == []


def test_vocabulary() -> None:
    words = Vocabulary((",", "cups", "left-most", "red"))
    ids = words.encode(["Red cups, left-most!", "red zebra", "", "red " * 9], 6)
    assert ids.tolist() == [
        [BEGIN, 7, 5, 4, 6, END],
        [BEGIN, 7, UNKNOWN, END, PAD, PAD],
        [PAD] * 6,
        [PAD] * 6,
    ]
    assert words.decode(ids[0].tolist()) == "red cups, left-most"
    assert words.decode(ids[1].tolist()) == "red"


def test_overlap_of_masks() -> None:
    mask = torch.zeros(1, 4, 4)
    mask[0, :2] = 1
    logits = torch.full((2, 4, 4), -1.0)
    logits[0, :1] = 1
    logits[1, 1:3] = 1
    torch.testing.assert_close(mask_overlap(mask, logits), torch.tensor([[1 / 2, 1 / 3]]))


def test_inside_of_boxes() -> None:
    boxes = torch.tensor([[0.5, 0.25, 0.5, 0.5], [0.9, 0.9, 0.001, 0.001]])
    inside = box_inside(boxes, 4, 8)
    wanted = torch.zeros(2, 4, 8)
    wanted[0, :2, 2:6] = 1
    wanted[1, 3, 7] = 1  # never nothing
    torch.testing.assert_close(inside, wanted)
    features = torch.arange(32.0).view(1, 4, 8)
    torch.testing.assert_close(pool(features, inside), torch.tensor([[7.5], [31.0]]))


def test_regions_that_stand_for_given_objects() -> None:
    state = drawn(1, 0)
    assert state.boxes is not None and state.objectness is not None
    state.boxes[0, 5] = state.boxes[0, 0] + torch.tensor([0.005, 0, 0, 0])
    state.objectness[0, 5] = 4.0  # a little off, and surer
    boxes = torch.stack((state.boxes[0, 0], torch.tensor([0.95, 0.05, 0.05, 0.05])))
    inside = box_inside(boxes, SIDE, SIDE)
    by_box = choose(state, boxes, inside, torch.tensor([False, False]))
    assert by_box.marked.nonzero().tolist() == [[0, 5]]
    assert not by_box.hidden.any()
    assert by_box.given.tolist() == [[True]]
    torch.testing.assert_close(by_box.boxes[0], boxes[1:])
    torch.testing.assert_close(by_box.pooled[0], pool(state.mask_features[0], inside[1:]))
    # By mask the box does not count.
    mask = (state.masks[0, 1:2] > 0).float()
    by_mask = choose(state, boxes[1:], mask, torch.tensor([True]))
    assert by_mask.marked.nonzero().tolist() == [[0, 1]]
    assert by_mask.given.numel() == 0


def test_a_checkpoint_stands_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ReLA(CFG).eval()
    save_checkpoint(model, tmp_path / "a.safetensors", dtype=torch.float32)
    loaded, _ = load_checkpoint(tmp_path / "a.safetensors")
    assert loaded.generation is not None and model.generation is not None
    assert loaded.generation.vocabulary.words == model.generation.vocabulary.words
    state = drawn(1, 0)
    sets = marked(state, (0, 1))
    with torch.no_grad():
        said, again = (
            head.search(*head.encode(state, sets), 3)
            for head in (model.generation, loaded.generation)
        )
    assert said == again


def test_without_the_switch_there_is_no_head() -> None:
    assert ReLA(SMALL.replace(generation_layers=0)).generation is None
    for preset in ("swin_base", "swin_tiny", "r50", "tiny"):
        assert RelaConfig.preset(preset).generation_layers == 0
    with pytest.raises(ValueError, match="generation_layers needs instance_heads"):
        RelaConfig.preset("tiny").replace(generation_layers=2)


def test_the_head_is_small() -> None:
    words = tuple(f"word{i}" for i in range(300))
    head = ExpressionDecoder(RelaConfig.preset("tabletop").replace(generation_words=words))
    assert sum(p.numel() for p in head.parameters()) < 1.5e6
