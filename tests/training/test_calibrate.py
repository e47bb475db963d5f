"""Calibration: the best shifts of made-up scores, and of a small model from end to end."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import typer
from rich.progress import Progress
from typer.testing import CliRunner

from grex_ros.grounding.grounder import Grounder
from grex_ros.grounding.reading import Calibration, Thresholds
from grex_ros.model.checkpoint import DEFAULT_CHECKPOINT, load_checkpoint, save_checkpoint
from grex_ros.model.config import RelaConfig
from grex_ros.model.rela import ReLA
from tests.training.tiny_dataset import write_dataset
from training.calibrate import Scores, best_shifts, collect, main, objective
from training.dataset.load import load_dataset
from training.dataset.records import merged_mask, read_image

ALL = ("giou", "n_acc", "t_acc")


def made_up(rows: list[tuple[float, float, int]]) -> Scores:
    """No-target logit, logit of one object, and how many are meant: 0, or that one."""
    meant = np.array([row[2] for row in rows])
    right = np.stack((meant == 0, meant == 1), 1)
    return Scores(
        no_target=np.array([row[0] for row in rows]),
        targets=np.array([[row[1]] for row in rows]),
        iou=right.astype(float),
        right=right,
        meant=meant,
        raised=np.ones(len(rows)),
    )


def test_the_best_no_target_shift_lies_between_the_two_kinds() -> None:
    """Objects are sure, "no target" is said of everything: 1.5 to 2.5 below is right."""
    scores = made_up([(1.5, 9.0, 1), (1.0, 9.0, 1), (2.5, 9.0, 0), (3.5, 9.0, 0)])
    assert scores.measure(0, 0) == {"giou": 50.0, "n_acc": 100.0, "t_acc": 0.0, "pr_f1": 50.0}
    target, no_target = best_shifts([scores], ALL)
    assert no_target == pytest.approx(-2.0, abs=0.3)
    assert set(scores.measure(target, no_target).values()) == {100.0}


def test_the_best_target_shift_lies_between_the_two_kinds() -> None:
    """Never "no target"; objects that are meant have -1 and more, others -2 and less."""
    scores = made_up([(-9.0, -1.0, 1), (-9.0, -0.5, 1), (-9.0, -2.0, 0), (-9.0, -3.0, 0)])
    target, no_target = best_shifts([scores], ALL)
    assert target == pytest.approx(1.5, abs=0.3)
    assert set(scores.measure(target, no_target).values()) == {100.0}


def test_scores_that_are_right_stay() -> None:
    scores = made_up([(-9.0, 9.0, 1), (9.0, -9.0, 0)])
    assert best_shifts([scores], ALL) == (0.0, 0.0)


def test_the_objective_decides() -> None:
    """One no-target expression looks like three with targets."""
    scores = made_up([(1.0, 9.0, 1)] * 3 + [(1.0, 9.0, 0)])
    assert best_shifts([scores], ("n_acc",))[1] > -1.0
    assert best_shifts([scores], ("t_acc",))[1] < -1.0
    assert best_shifts([scores], ("giou",))[1] < -1.0  # three of four
    # Each dataset weighs the same, however large: the other one has nothing but no-target.
    nothing = made_up([(1.0, 9.0, 0)])
    assert best_shifts([scores, nothing], ("giou",))[1] > -1.0
    assert objective([scores.measure(0, 0), nothing.measure(0, 0)], ("giou",)) == 62.5


def test_measures_count_the_objects_that_pass() -> None:
    """Two are meant, as are expected of three; scores have the factor 1 - no-target score."""
    scores = Scores(
        no_target=np.array([-9.0, -9.0]),
        targets=np.array([[2.0, -0.3, -0.4], [-1.5, -math.inf, -math.inf]]),
        iou=np.array([[0.0, 0.4, 0.9, 0.6], [1.0, 0.0, 0.0, 0.0]]),
        right=np.array([[False, False, True, False], [True, False, False, False]]),
        meant=np.array([2, 0]),
        raised=np.array([2, 1]),
    )
    assert scores.measure(0, 0)["giou"] == pytest.approx(70.0)
    assert scores.measure(1.1, 0) == {"giou": 95.0, "n_acc": 100.0, "t_acc": 100.0, "pr_f1": 100.0}
    assert scores.measure(3.0, -3.0)["giou"] == pytest.approx(45.0)  # the third is not raised
    assert scores.measure(-3.0, 0)["giou"] == pytest.approx(50.0)  # a negative shift is for all
    assert scores.measure(0, 8.5)["t_acc"] == 100.0 and scores.measure(0, 8.9)["t_acc"] == 0.0
    assert scores.measure(0, 3.0)["t_acc"] == 100.0 and scores.measure(0, 9.1)["t_acc"] == 0.0


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures, each with two coloured squares."""
    boxes = {1: (20, 20, 70, 70), 2: (110, 60, 160, 110)}
    pictures = {}
    for image_id in (1, 2, 3):
        picture = np.full((128, 192, 3), 150 + 10 * image_id, np.uint8)
        picture[20:70, 20:70] = (220, 20, 20)
        picture[60:110, 110:160] = (20, 20, 220)
        pictures[image_id] = picture
    said = [
        ("the red box", [1], {}),
        ("the blue box", [2], {}),
        ("both boxes", [1, 2], {}),
        ("the banana", [], {}),
    ]
    root = tmp_path_factory.mktemp("data")
    return write_dataset(root, pictures, dict.fromkeys(pictures, boxes), said, split="train")


@pytest.fixture(scope="module")
def grounder() -> Grounder:
    return Grounder.from_checkpoint(DEFAULT_CHECKPOINT, device="cpu", engine="torch")


def test_collected_scores_say_what_the_grounder_would_answer(
    dataset: Path, grounder: Grounder, request: pytest.FixtureRequest
) -> None:
    """For several shifts: as many objects, the same IoU, the same refusals."""
    decoder = grounder.model.region_decoder
    assert decoder.relevance is not None and decoder.instance is not None
    # The weights have seen nothing like this picture; here they are unsure, whatever they are.
    unsure = (
        (decoder.relevance.no_target, lambda _, __, out: 0 * out + torch.tensor((0.0, -1.5))),
        (decoder.instance.target, lambda _, __, out: 3 * (out - out.mean()) / out.std()),
    )
    for head, logits in unsure:
        request.addfinalizer(head.register_forward_hook(logits).remove)
    (record,) = load_dataset(dataset, "train")[:1]
    scores = collect(grounder, [record], Progress(disable=True))
    assert len(scores.meant) == 4 and scores.targets.shape[1] >= 1
    grounder.thresholds = Thresholds()
    answered = set()
    for target, no_target in ((0, 0), (2.9, -2.9), (-1.5, 1.0), (-2.9, 2.9)):
        grounder.calibration = Calibration(target, no_target)
        answers = grounder.ground([expression.text for expression in record.expressions])
        ious = []
        for answer, expression in zip(answers, record.expressions, strict=True):
            truth, found = merged_mask(record, expression), answer.mask() > 0
            right = not found.any() if expression.no_target else None
            ious.append((found & truth).sum() / (found | truth).sum() if right is None else right)
        measured = scores.measure(target, no_target)
        assert measured["giou"] == pytest.approx(100 * np.mean(ious), abs=1e-4)
        counts = [len(answer.objects) for answer in answers]
        assert measured["t_acc"] == pytest.approx(100 * np.mean([n > 0 for n in counts[:3]]))
        answered.add(tuple(counts))
    grounder.calibration = Calibration()
    assert len(answered) > 2  # the shifts did something


def invoke(*arguments: str) -> tuple[int, str]:
    app = typer.Typer(add_completion=False)
    app.command()(main)
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)
    return result.exit_code, result.output


def test_the_search_is_stored_and_used(dataset: Path, tmp_path: Path, grounder: Grounder) -> None:
    out = tmp_path / "calibrated.safetensors"
    options = ("--dataset", str(dataset), "--pictures", "2", "--engine", "torch")
    code, output = invoke(str(DEFAULT_CHECKPOINT), str(out), *options)
    assert code == 0, output
    before, after = load_checkpoint(DEFAULT_CHECKPOINT), load_checkpoint(out)
    for name, value in before[0].state_dict().items():
        assert torch.equal(value, after[0].state_dict()[name]), name
    about = json.loads(after[1]["calibrated_on"])
    (of_dataset,) = about["datasets"]
    assert about["objective"] == list(ALL)
    assert (of_dataset["pictures"], of_dataset["expressions"]) == (2, 8)  # the last two
    assert of_dataset["no_target_prior"] == 0.25
    shifted, unshifted = (objective([of_dataset[when]], ALL) for when in ("shifted", "unshifted"))
    assert shifted >= unshifted
    found = Calibration.from_metadata(after[1])
    assert found.to_metadata() == {"score_shifts": after[1]["score_shifts"]}
    assert Grounder.from_checkpoint(out, device="cpu", engine="torch").calibration == found


def test_the_size_at_which_it_sees_is_stored(dataset: Path, tmp_path: Path) -> None:
    """The scores are those at that size, and the same weights see at it from then on."""
    options = ("--dataset", str(dataset), "--pictures", "1", "--engine", "torch")
    found = {}
    for side in ("96", "256"):
        out = tmp_path / f"{side}.safetensors"
        code, output = invoke(str(DEFAULT_CHECKPOINT), str(out), *options, "--image-size", side)
        assert code == 0, output
        model, metadata = load_checkpoint(out)
        assert model.cfg.image_size == int(side)
        (found[side],) = json.loads(metadata["calibrated_on"])["datasets"]
    assert found["96"] != found["256"]
    by_hand = ("--target", "0.5", "--image-size", "64")
    code, output = invoke(str(DEFAULT_CHECKPOINT), str(tmp_path / "no.safetensors"), *by_hand)
    assert code == 1 and "image_size must be between 96 and 1280, not 64" in output


def test_shifts_by_hand(tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    by_hand = ("--target", "0.8", "--no-target", "-0.85", "--mask", "0")
    assert invoke(str(DEFAULT_CHECKPOINT), str(first), *by_hand)[0] == 0
    found = Calibration.from_metadata(load_checkpoint(first)[1])
    assert found == Calibration(target=0.8, no_target=-0.85)
    assert invoke(str(first), str(second), "--mask", "0.5")[0] == 0
    found = Calibration.from_metadata(load_checkpoint(second)[1])
    assert found == Calibration(target=0.8, no_target=-0.85, mask=0.5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "give --dataset to search, or the shifts"),
        (("--dataset", "x", "--target", "1"), "give --dataset to search, or the shifts"),
        (("--dataset", "x", "--split", "val"), "split 'val' is for scoring"),
        (("--dataset", "nowhere"), "nowhere: no such folder"),
        (("--dataset", "x", "--objective", "gIoU"), "--objective takes some of giou"),
    ],
)
def test_what_cannot_be_calibrated(tmp_path: Path, options: tuple[str, ...], says: str) -> None:
    out = tmp_path / "out.safetensors"
    code, output = invoke(str(DEFAULT_CHECKPOINT), str(out), *options)
    assert code == 1 and says in output and "Traceback" not in output
    assert not out.exists()


def test_shifts_move_scores_and_masks(dataset: Path, grounder: Grounder) -> None:
    """Each score by what its shift says; a mask grows with its shift as with its threshold."""
    # Out of focus: a mask that ends at a sharp edge would not grow.
    picture = cv2.GaussianBlur(read_image(load_dataset(dataset, "train")[0]), (0, 0), 4)
    grounder.set_image(picture)
    everything = Thresholds(target=0.0, no_target=1.0)
    grounder.thresholds, grounder.calibration = everything, Calibration()
    (plain,) = grounder.ground(["the red box"])
    grounder.calibration = Calibration(target=1.0, no_target=0.5, mask=1.0)
    (moved,) = grounder.ground(["the red box"])
    refusal = 1 / (1 + math.exp(-0.5) * (1 - plain.no_target_score) / plain.no_target_score)
    assert moved.no_target_score == pytest.approx(refusal, rel=1e-4)
    before = plain.objects[0].score / (1 - plain.no_target_score)
    after = 1 / (1 + math.exp(-1.0) * (1 - before) / before)
    assert moved.objects[0].score == pytest.approx(after * (1 - refusal), rel=1e-3)
    grounder.calibration = Calibration()
    grounder.thresholds = Thresholds(0.0, 1 / (1 + math.e), 1.0)
    (wide,) = grounder.ground(["the red box"])
    np.testing.assert_array_equal(moved.objects[0].mask, wide.objects[0].mask)
    assert wide.objects[0].mask.sum() > plain.objects[0].mask.sum()


@pytest.mark.parametrize("text", ["[1]", "{", '{"tarket": 1}', '{"target": "x"}', '{"mask": NaN}'])
def test_a_calibration_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="score_shifts in the metadata"):
        Calibration.from_metadata({"score_shifts": text})
    assert Calibration.from_metadata({}) == Calibration()


def test_presets_without_instance_heads_are_refused(tmp_path: Path) -> None:
    official = tmp_path / "official.safetensors"
    save_checkpoint(ReLA(RelaConfig.preset("tiny")), official)
    code, output = invoke(str(official), str(tmp_path / "out.safetensors"), "--target", "1")
    assert code == 1 and "without instance heads" in output
