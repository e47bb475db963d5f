"""What a run draws: shares, order, scaled pictures, expressions of other pictures."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from grex_ros.model.config import RelaConfig
from tests.training.test_train import COLORS, make_dataset
from training.criterion import PictureTruth
from training.dataset.load import load_dataset
from training.dataset.mixture import BLOCK, POOL, Mixture, batch_numbers
from training.dataset.records import DatasetError, Instance, Record, ReferringExpression
from training.dataset.samples import Batch, Sample, TrainingPictures, pad_alike
from training.dataset.substitution import Substitutes
from training.dataset.zoom import random_zoom

CFG = RelaConfig.preset("tabletop").replace(image_size=160)


def record(
    image_id: int,
    categories: list[str],
    said: list[tuple[str, list[int]]],
    crowds: frozenset[str] = frozenset(),
) -> Record:
    """A picture that is not there; texts with the numbers of the instances that they mean."""
    instances = tuple(
        Instance(10 * image_id + k, k, name, (0, 0, 4, 4), [[0, 0, 4, 0, 4, 4]])
        for k, name in enumerate(categories)
    )
    expressions = tuple(
        ReferringExpression(k, k, text, tuple(10 * image_id + n for n in meant))
        for k, (text, meant) in enumerate(said)
    )
    return Record(image_id, Path(f"{image_id}.jpg"), 48, 64, expressions, instances, crowds)


def pictures(count: int, first: int = 0, substitution: float = 0.0) -> TrainingPictures:
    records = [record(first + i, ["cup"], [(f"cup {i}", [0])]) for i in range(count)]
    return TrainingPictures(records, CFG, 2, augment=False, substitution=substitution)


def test_every_block_has_the_shares_and_every_epoch_every_picture() -> None:
    mixture = Mixture([pictures(70), pictures(300)], [1, 3], seed=5)
    places = [mixture.place(n) for n in range(2 * BLOCK)]
    for start in (0, BLOCK):
        block = [source for source, _ in places[start : start + BLOCK]]
        assert block.count(0) == 250 and block.count(1) == 750
    for source, size in ((0, 70), (1, 300)):
        drawn = [index for s, index in places if s == source]
        epochs = [drawn[i : i + size] for i in range(0, len(drawn) - size + 1, size)]
        assert len(epochs) >= 5
        assert all(sorted(epoch) == list(range(size)) for epoch in epochs)
        assert epochs[0] != epochs[1] != list(range(size))
    # Not in step with each other: of 16 pictures some batch has 1 and some has 8 of the first.
    counts = {sum(s == 0 for s, _ in places[i : i + 16]) for i in range(0, 2 * BLOCK, 16)}
    assert min(counts) <= 1 and max(counts) >= 8


def test_a_number_is_one_sample_whoever_asks() -> None:
    sources = [pictures(20), pictures(30)]
    one, other = Mixture(sources, [1, 1], 3), Mixture(sources, [0.5, 0.5], 3)
    expected = [one.place(n) for n in range(5000)]
    for n in (4999, 0, 1500, 2, 3001):
        assert other.place(n) == expected[n]
    assert [Mixture(sources, [1, 1], 4).place(n) for n in range(50)] != expected[:50]


def test_shares_of_nothing_are_refused() -> None:
    with pytest.raises(DatasetError, match="dataset 2 of 2 has nothing"):
        Mixture([pictures(2), pictures(0)], [1, 1], 0)
    with pytest.raises(DatasetError, match="at least 1 %"):
        Mixture([pictures(2), pictures(2)], [1000, 1], 0)


def test_a_share_of_one_percent_is_enough_though_the_sum_is_off_by_a_bit() -> None:
    shares = [0.22, 0.17, 0.10, 0.07, 0.05, 0.04, 0.08, 0.19, 0.01, 0.02, 0.05]
    assert sum(shares) > 1
    mixture = Mixture([pictures(2) for _ in shares], shares, 0)
    drawn = [mixture.place(n)[0] for n in range(BLOCK)]
    assert drawn.count(8) == BLOCK // 100


# --- batches ------------------------------------------------------------------------------


def mixture_of_shapes(seed: int = 3) -> Mixture:
    """Of a hundred pictures, every fifth upright."""
    records = [record(i, ["cup"], [(f"cup {i}", [0])]) for i in range(100)]
    records[::5] = [replace(r, height=64, width=48) for r in records[::5]]
    return Mixture([TrainingPictures(records, CFG, 2, augment=False)], [1], seed)


def batches(mixture: Mixture, first: int, step: int, count: int) -> list[list[int]]:
    return list(itertools.islice(batch_numbers(mixture, 4, first, step, step), count))


def test_every_sample_comes_once_whatever_the_processes() -> None:
    mixture = mixture_of_shapes()
    alone = batches(mixture, 0, 1, 2 * POOL)
    assert sorted(itertools.chain(*alone)) == list(range(2 * POOL * 4))
    assert sorted(itertools.chain(*alone[:POOL])) == list(range(POOL * 4))
    shared = [batches(mixture, first, 2, POOL) for first in (0, 1)]
    assert sorted(itertools.chain(*shared[0], *shared[1])) == list(range(2 * POOL * 4))
    # One process that takes two batches a step sees what two processes see.
    passes = list(itertools.islice(batch_numbers(mixture, 4, 0, 1, 2), 2 * POOL))
    assert [passes[::2], passes[1::2]] == shared


def test_a_step_has_pictures_of_one_shape_and_steps_come_in_any_order() -> None:
    mixture = mixture_of_shapes()
    shapes = []
    for mine, theirs in zip(*(batches(mixture, k, 2, POOL) for k in (0, 1)), strict=True):
        of_step = [mixture.shape(n) for n in mine + theirs]
        shapes.append(of_step[0] if len(set(of_step)) == 1 else None)
    assert shapes.count(None) <= 1  # where upright ones end
    upright = [k for k, shape in enumerate(shapes) if shape == (160, 120)]
    assert shapes.count((120, 160)) >= 20 and len(upright) >= 4
    assert max(upright) - min(upright) > len(upright)  # not side by side


def test_batches_go_on_where_they_were_and_hang_on_the_seed() -> None:
    mixture = mixture_of_shapes()
    whole = batches(mixture, 0, 2, 3 * POOL)
    for at in (1, POOL - 1, POOL, 2 * POOL + 5):
        assert batches(mixture, 2 * at, 2, 3) == whole[at : at + 3]
    assert batches(mixture_of_shapes(4), 0, 2, POOL) != whole[:POOL]


# --- scaled pictures ----------------------------------------------------------------------


def test_boxes_and_masks_follow_a_scaled_picture(tmp_path: Path) -> None:
    records = load_dataset(make_dataset(tmp_path / "squares", 1), "train")
    source = TrainingPictures(records, CFG, 1, augment=False, zoom=1.0)
    rng = np.random.default_rng(0)
    scales, ratios = [], []
    for _ in range(60):
        sample = source.sample(0, rng)
        assert sample.pixels.shape == (3, 120, 160)
        assert sample.truth.masks.shape == (2, 32, 40)
        for color, box, mask in zip(
            COLORS.values(), sample.truth.boxes, sample.truth.masks, strict=True
        ):
            distance = (sample.pixels.float() - torch.tensor(color)[:, None, None]).abs().amax(0)
            y, x = torch.nonzero(distance < 60, as_tuple=True)
            centre_x, centre_y, width, height = (box * torch.tensor([160, 128, 160, 128])).tolist()
            assert x.float().mean() + 0.5 == pytest.approx(centre_x, abs=1.5)
            assert y.float().mean() + 0.5 == pytest.approx(centre_y, abs=1.5)
            assert x.max() - x.min() + 1 == pytest.approx(width, abs=4)
            assert centre_x - width / 2 >= -1 and centre_x + width / 2 <= 161  # whole
            rows, columns = torch.nonzero(mask > 0.5, as_tuple=True)
            assert 4 * (columns.float().mean() + 0.5) == pytest.approx(centre_x, abs=2)
            assert 4 * (rows.float().mean() + 0.5) == pytest.approx(centre_y, abs=2)
            assert 16 * float(mask.sum()) == pytest.approx(width * height, rel=0.15)
        red, blue = sample.truth.boxes
        assert red[0] < 0.5 < blue[0]  # neither mirrored nor shifted over the middle
        scales.append(width / 40)  # a quarter of the picture's width when not scaled
        ratios.append(width / height)
    assert min(scales) < 0.75 and max(scales) > 1.1
    assert 0.75 < min(ratios) < 0.9 and 1.1 < max(ratios) < 1.35


def test_a_picture_that_is_full_to_the_edge_is_not_cut() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        zoom = random_zoom((120, 160), np.array([[0, 50, 20, 120.0], [90, 0, 160, 30]]), rng)
        moved = zoom.boxes(np.array([[0, 50, 20, 120.0], [90, 0, 160, 30]]))
        assert moved.min() >= -1 and (moved[:, 2::2] <= 161).all() and (moved[:, 3::2] <= 121).all()


def test_pictures_of_several_sizes_share_a_batch() -> None:
    wide, tall = (sample_of(np.zeros((h, w, 3), np.uint8)) for h, w in ((120, 160), (160, 120)))
    boxes = [s.truth.boxes.clone() for s in (wide, tall)]
    wide.truth.masks[0, 3, 5] = tall.truth.masks[0, 3, 5] = 1
    for mode in ("constant", "replicate"):
        together = pad_alike([wide, tall], mode)
        assert [tuple(s.truth.masks.shape) for s in together] == [(1, 40, 40)] * 2
        assert all(s.truth.masks[0, 3, 5] == 1 for s in together)
        # In pixels they are where they were: 160 x 128 and 128 x 160 are now 160 x 160.
        torch.testing.assert_close(
            together[0].truth.boxes, boxes[0] * torch.tensor([1, 0.8, 1, 0.8])
        )
        torch.testing.assert_close(
            together[1].truth.boxes, boxes[1] * torch.tensor([0.8, 1, 0.8, 1])
        )


def sample_of(image: np.ndarray) -> Sample:
    height, width = image.shape[:2]
    h, w = height + -height % 32, width + -width % 32
    boxes = torch.tensor([[0.3, 0.4, 0.1, 0.2]])
    masks, outlined = torch.zeros(1, h // 4, w // 4), torch.tensor([True])
    truth = PictureTruth(masks, boxes, torch.ones(1, 1), ["cup"], outlined)
    return Sample(0, torch.from_numpy(image).permute(2, 0, 1), truth, ["the cup"])


# --- expressions of other pictures --------------------------------------------------------


def test_only_what_is_surely_absent_is_said() -> None:
    here = record(1, ["mug", "banana"], [("the mug", [0])], frozenset({"person"}))
    others = [
        record(2, ["cup"], [("the cup", [0])]),  # a mug may pass for one
        record(3, ["banana"], [("the banana", [0])]),
        record(4, ["person"], [("the person", [0])]),  # a crowd of them is here
        record(5, ["hammer"], [("the red one", [0]), ("the tool", [0])]),  # not named
        record(6, ["hammer", "mug"], [("the hammer and the mug", [0, 1])]),
        record(7, ["hammer"], [("all but the hammer", [0]), ("a hammer or a thing", [0])]),
        record(8, ["hammer"], [("the dragon", [])]),
    ]
    rng = np.random.default_rng(0)
    assert Substitutes(others).draw(here, rng) is None
    fitting = [record(9, ["hammer"], [("The hammers on the left", [0])])]
    drawn = [Substitutes([*others, *fitting]).draw(here, rng) for _ in range(20)]
    assert set(drawn) <= {"The hammers on the left", None} and drawn.count(None) < 10


def test_a_share_of_expressions_comes_from_elsewhere_and_means_nothing() -> None:
    cups = [record(i, ["cup"], [("the cup", [0]), ("a cup", [0])]) for i in range(50)]
    hammers = [record(50 + i, ["hammer"], [("the hammer", [0])]) for i in range(50)]
    source = TrainingPictures(cups + hammers, CFG, 4, augment=False, substitution=0.15)
    rng = np.random.default_rng(0)
    foreign = 0
    for index in range(100):
        for _ in range(10):
            said = source.said(index, rng)
            own = "cup" if index < 50 else "hammer"
            for text, empty in zip(said.texts, said.empty, strict=True):
                assert (own in text) == (not empty)
                foreign += empty
    assert foreign / 4000 == pytest.approx(0.15, abs=0.02)
    prior = Mixture([source], [1], 0).no_target_prior(1000)
    assert prior == pytest.approx(0.15, abs=0.02)
    assert Mixture([pictures(9)], [1], 0).no_target_prior(100) == 0


def test_a_batch_gives_back_its_samples() -> None:
    given = [sample_of(np.full((h, w, 3), h, np.uint8)) for h, w in ((120, 160), (160, 120))]
    found = Batch.of(given).samples(torch.device("cpu"))
    for sample, same in zip(given, found, strict=True):
        assert (sample.index, sample.texts) == (same.index, same.texts)
        assert sample.truth.names == same.truth.names
        assert torch.equal(sample.pixels, same.pixels)
        for name in ("masks", "boxes", "meant", "outlined"):
            assert torch.equal(getattr(sample.truth, name), getattr(same.truth, name))
