"""What the generation head is taught: words, sentences, sets, and the loss by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from grex_ros.model.generation import BEGIN, END, PAD, UNKNOWN, box_inside, pool
from grex_ros.model.region_decoder import RegionState
from grex_ros.model.rela import ReLA
from tests.model.test_rela import DESCRIBING
from training import generation
from training.config import TrainConfig
from training.criterion import LossWeights, PictureTruth, generation_loss, instance_losses
from training.dataset.samples import Sample
from training.generation import bare, fit_words, training_sets, vocabulary
from training.parameters import parameter_groups
from training.regions import EncodedPictures, Looks, RegionCache
from training.steps import TrainingStep, target_sentences

BOXES = torch.tensor([[0.25, 0.5, 0.3, 0.4], [0.75, 0.5, 0.3, 0.4], [0.5, 0.1, 0.1, 0.1]])
MEANT = torch.tensor([[1.0, 0, 0], [0, 0, 0], [1, 1, 0], [0, 0, 1]])
TEXTS = ["pick up the red cup", "the zebra", "could you find all cups, please?", "the lid"]


@pytest.fixture(scope="module")
def model() -> ReLA:
    torch.manual_seed(0)
    return ReLA(DESCRIBING).eval()


def samples() -> list[Sample]:
    """Two pictures of 96 x 64 with the same objects and sentences."""
    made = []
    for index in (0, 1):
        random = torch.Generator().manual_seed(index)
        pixels = torch.randint(0, 255, (3, 64, 96), generator=random, dtype=torch.uint8)
        names, outlined = ["red cup", "cup", "lid"], torch.ones(3, dtype=torch.bool)
        truth = PictureTruth(box_inside(BOXES, 16, 24), BOXES, MEANT, names, outlined)
        made.append(Sample(index, pixels, truth, TEXTS))
    return made


def encoded(model: ReLA) -> EncodedPictures:
    with torch.no_grad():
        state = model.encode_image(model.normalise([s.pixels for s in samples()]))
        looks = Looks.at(model, state, [(s.pixels, s.pixels) for s in samples()])
        matches = instance_losses(state, [s.truth for s in samples()])[1]
        return EncodedPictures(state, matches, looks)


def test_expressions_without_verbs_and_courtesies() -> None:
    assert bare("Could you please pick up all red cups?") == "all red cups"
    assert bare("the cup next to the bowl") == "the cup next to the bowl"
    assert bare("don't touch the cup") == ""
    assert bare("  ") == ""


def test_vocabulary_is_what_is_said_more_than_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said = ["pick up the red cup", "red cup", "the blue cup", "find the blue mug", "cup, bowl"]
    assert vocabulary(said) == ("blue", "cup", "red", "the")
    assert vocabulary(reversed(said)) == vocabulary(said)
    monkeypatch.setattr(generation, "MOST_WORDS", 2)
    assert vocabulary(said) == ("cup", "the")


def test_sentences_of_samples(model: ReLA) -> None:
    assert model.generation is not None
    rows = target_sentences(model.generation.vocabulary, samples()[:1], 8)
    words = model.generation.vocabulary
    assert [words.decode(row) for row in rows.tolist()] == ["the red cup", "", "", ""]
    assert rows[1].tolist() == [PAD] * 5  # no target
    assert rows[2:].tolist() == [[PAD] * 5] * 2  # words that the head cannot say
    assert rows.shape == (4, 5)


def test_the_loss_by_hand() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 7)
    tokens = torch.tensor([[BEGIN, 4, UNKNOWN, 6, END], [BEGIN, 5, END, PAD, PAD]])
    terms = []
    for row, place in ((0, 0), (0, 2), (0, 3), (1, 0), (1, 1)):
        probability = logits[row, place].log_softmax(0)
        wanted = torch.full((7,), 0.1 / 7)
        wanted[tokens[row, place + 1]] += 0.9
        terms.append(-(wanted * probability).sum())
    torch.testing.assert_close(generation_loss(logits, tokens), torch.stack(terms).mean())


def state_with_boxes() -> RegionState:
    """One picture, four regions: 2 lies on object 0, 3 far from object 1, nothing on object 2."""
    boxes = torch.rand(1, 4, 4) * 0.01
    boxes[0, 2] = BOXES[0] + 0.01
    boxes[0, 3] = torch.tensor([0.75, 0.9, 0.3, 0.1])
    features = torch.randn(1, 16, 16, 24)
    regions = torch.zeros(4, 1, 32)
    return RegionState([], [], [], features, regions, regions, features, boxes=boxes)


MATCHES = [(torch.tensor([2, 3]), torch.tensor([0, 1]))]
WANTED = torch.tensor([True, False, True, True])


def truth() -> list[PictureTruth]:
    return [samples()[0].truth]


def test_sets_are_the_regions_that_match(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "UNSEEN", 0.0)
    state = state_with_boxes()
    sets = training_sets(state, truth(), MATCHES, WANTED)
    assert sets.picture.tolist() == [0, 0, 0]
    assert sets.marked.nonzero().tolist() == [[0, 2], [1, 2]]
    assert not sets.hidden.any()
    # Object 1 has a region that does not fit, object 2 none.
    assert sets.given.tolist() == [[False], [True], [True]]
    torch.testing.assert_close(sets.boxes[1:, 0], BOXES[1:])
    # Here the masks are as large as the boxes.
    inside = box_inside(BOXES, 16, 24)
    torch.testing.assert_close(sets.pooled[1:, 0], pool(state.mask_features[0], inside[1:]))


def test_objects_that_are_dropped_are_given_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "UNSEEN", 1.0)
    sets = training_sets(state_with_boxes(), truth(), MATCHES, WANTED)
    assert not sets.marked.any()
    assert sets.hidden.nonzero().tolist() == [[0, 2], [1, 2]]
    assert sets.given.tolist() == [[True, False], [True, True], [True, False]]
    torch.testing.assert_close(sets.boxes[1], BOXES[:2])


def test_sets_on_several_pictures_are_those_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "UNSEEN", 0.0)
    one = state_with_boxes()
    two = replace(
        one,
        mask_features=one.mask_features.repeat(2, 1, 1, 1),
        regions=one.regions.repeat(1, 2, 1),
        boxes=one.boxes.repeat(2, 1, 1),
    )
    fewer = replace(
        truth()[0], masks=box_inside(BOXES[:2], 16, 24), boxes=BOXES[:2], meant=MEANT[:, :2]
    )
    sets = training_sets(two, [*truth(), fewer], MATCHES * 2, torch.ones(8, dtype=torch.bool))
    for picture, own in enumerate((truth()[0], fewer)):
        alone = training_sets(one, [own], MATCHES, torch.ones(4, dtype=torch.bool))
        rows, most = slice(4 * picture, 4 * picture + 4), alone.given.shape[1]
        assert sets.picture[rows].tolist() == [picture] * 4
        assert torch.equal(sets.marked[rows], alone.marked)
        assert torch.equal(sets.given[rows, :most], alone.given)
        assert not sets.given[rows, most:].any()
        for name in ("boxes", "pooled"):
            both = (getattr(sets, name)[rows, :most], getattr(alone, name))
            torch.testing.assert_close(*(x[alone.given] for x in both))


def test_the_head_alone_learns(model: ReLA) -> None:
    assert model.generation is not None
    groups = parameter_groups(model, TrainConfig(steps=1, freeze_grounding=True))
    learning = {id(p) for group in groups for p in group["params"]}
    assert learning == {id(p) for p in model.generation.parameters()}
    step = TrainingStep(model, LossWeights(generation=2.0), only="generation")
    sentences = target_sentences(model.generation.vocabulary, samples(), 8)
    nothing = torch.empty(0)
    truths = [s.truth for s in samples()]
    images = model.normalise([s.pixels for s in samples()])
    given = (images, nothing, nothing, truths, [], (nothing, nothing))
    plain = [s.pixels for s in samples()]
    loss, terms = step(*given, sentences, plain=plain)
    assert set(terms) == {"generation"}
    torch.testing.assert_close(loss.detach(), 2 * terms["generation"])
    loss.backward()
    for name, parameter in model.named_parameters():
        used = parameter.grad is not None and bool(parameter.grad.any())
        assert used == name.startswith("generation."), name
    model.zero_grad()
    # A batch in which nothing is meant teaches nothing, and does not fail.
    silent = torch.zeros_like(sentences)
    loss, _ = step(*given, silent, plain=plain)
    loss.backward()
    assert float(loss.detach()) == 0


def test_kept_regions_teach_the_same(model: ReLA, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "UNSEEN", 0.0)
    assert model.generation is not None
    step = TrainingStep(model, LossWeights(), only="generation")
    sentences = target_sentences(model.generation.vocabulary, samples(), 8)
    cache = RegionCache(model)
    kept = cache(samples(), torch.device("cpu"))
    nothing = torch.empty(0)
    losses = [
        step(
            pictures, nothing, nothing, [s.truth for s in samples()], [], (nothing,) * 2, sentences
        )
        for pictures in (kept, cache(samples(), torch.device("cpu")), encoded(model))
    ]
    first, second, fresh = (float(loss.detach()) for loss, _ in losses)
    assert first == second
    assert first == pytest.approx(fresh, rel=2e-3)  # kept in half precision


def test_a_head_goes_on_with_more_words(model: ReLA) -> None:
    assert model.generation is not None
    before = ("cup", "plate", "red")
    random = torch.Generator().manual_seed(0)
    tensors = {
        "generation.word_embed.weight": torch.randn(7, 32, generator=random),
        "generation.word_bias": torch.randn(7, generator=random),
        "other": torch.zeros(1),
    }
    old = dict(tensors)
    fit_words(tensors, before, model)
    assert model.generation.vocabulary.words[4:] == ("blue", "cup", "red", "the")
    for name in ("word_embed.weight", "word_bias"):
        fitted, kept = tensors[f"generation.{name}"], old[f"generation.{name}"]
        own = model.generation.get_parameter(name)
        torch.testing.assert_close(fitted[:4], kept[:4])
        torch.testing.assert_close(fitted[[5, 6]], kept[[4, 6]])
        torch.testing.assert_close(fitted[[4, 7]], own[[4, 7]].detach())
    none = {"other": torch.zeros(1)}
    fit_words(none, (), model)
    assert set(none) == {"other"}
