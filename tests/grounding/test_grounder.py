"""The contract of the Grounder, on the weights in the package."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from grex_ros.grounding.grounder import Grounder, choose_device
from grex_ros.grounding.objects import Grounding, Status, crop_mask
from grex_ros.grounding.pictures import full_size
from grex_ros.grounding.reading import Thresholds
from grex_ros.model.config import RelaConfig


@pytest.fixture(scope="module")
def grounder() -> Grounder:
    return Grounder.from_checkpoint(device="cpu")


@pytest.mark.parametrize("side", [96, 224, 448])
def test_image_size_is_what_the_model_sees(side: int) -> None:
    grounder = Grounder.from_checkpoint(device="cpu", engine="torch", image_size=side)
    grounder.thresholds = Thresholds(target=0.0, no_target=1.0)
    grounder.set_image(scene())
    assert grounder._batch is not None and grounder._scaled == (side * 3 // 4, side)
    assert grounder._batch.shape[3] == side + -side % 32
    check(grounder.ground(["the red ball"])[0], (120, 160))


def test_another_engine_at_another_size() -> None:
    """An export holds no size: that of the checkpoint does for all."""
    pytest.importorskip("onnxruntime")
    answers = []
    for engine in ("torch", "onnxruntime"):
        grounder = Grounder.from_checkpoint(device="cpu", engine=engine, image_size=256)
        grounder.thresholds = Thresholds(target=0.0, no_target=1.0)
        grounder.set_image(scene())
        answers.append(grounder.ground(["the red ball"])[0])
    assert [o.box for o in answers[0].objects] == [o.box for o in answers[1].objects]
    assert answers[0].no_target_score == pytest.approx(answers[1].no_target_score, abs=1e-4)


@pytest.mark.parametrize("side", [-1, 95, 1281])
def test_image_size_has_limits(side: int) -> None:
    with pytest.raises(ValueError, match=f"between 96 and 1280, not {side}"):
        Grounder.from_checkpoint(device="cpu", image_size=side)


def test_an_official_preset_has_one_size() -> None:
    cfg = RelaConfig.preset("swin_tiny")
    assert cfg.at_size(0) == cfg.at_size(480) == cfg
    with pytest.raises(ValueError, match="swin_tiny sees pictures of 480 x 480 pixels alone"):
        cfg.at_size(512)


@pytest.fixture(autouse=True)
def usual_thresholds(grounder: Grounder) -> None:
    grounder.thresholds = Thresholds()


def scene(height: int = 120, width: int = 160) -> np.ndarray:
    """A red and a blue disk on gray."""
    y, x = np.mgrid[:height, :width]
    image = np.full((height, width, 3), 150, np.uint8)
    radius = height / 6
    image[np.hypot(y - height / 2, x - width / 4) < radius] = (200, 20, 20)
    image[np.hypot(y - height / 2, x - 3 * width / 4) < radius] = (20, 40, 200)
    return image


def check(answer: Grounding, size: tuple[int, int]) -> None:
    """What every answer promises."""
    assert answer.size == size
    assert 0 <= answer.no_target_score <= 1
    assert answer.latency > 0
    assert (answer.status is Status.TARGETS) == bool(answer.objects)
    assert bool(answer.status_message) == (answer.status is not Status.TARGETS)
    assert [o.id for o in answer.objects] == list(range(1, len(answer.objects) + 1))
    scores = [o.score for o in answer.objects]
    assert scores == sorted(scores, reverse=True)
    labels = answer.label_image()
    assert labels.shape == size
    for item in answer.objects:
        x0, y0, x1, y1 = item.box
        assert 0 <= x0 < x1 <= size[1] and 0 <= y0 < y1 <= size[0]
        assert item.mask.shape == (y1 - y0, x1 - x0)
        for edge in (item.mask[0], item.mask[-1], item.mask[:, 0], item.mask[:, -1]):
            assert edge.any()  # the box is tight
    if answer.objects:
        best = answer.objects[0]
        x0, y0, x1, y1 = best.box
        assert (labels[y0:y1, x0:x1][best.mask] == 1).all()  # the best is painted last
    np.testing.assert_array_equal(answer.mask(), np.where(labels > 0, 255, 0))


@pytest.mark.parametrize(
    "size", [(120, 160), (480, 640), (1, 1), (16, 300), (300, 16), (1080, 1920)]
)
def test_answers_at_every_size(grounder: Grounder, size: tuple[int, int]) -> None:
    grounder.thresholds = Thresholds(target=0.0, no_target=1.0)  # as many objects as there can be
    grounder.set_image(scene(*size))
    for answer in grounder.ground(["everything", "the red ball"]):
        check(answer, size)


def test_no_target_threshold_decides(grounder: Grounder) -> None:
    grounder.set_image(scene())
    grounder.thresholds = Thresholds(no_target=0.0)
    answer = grounder.ground(["the ball"])[0]
    check(answer, (120, 160))
    assert answer.status is Status.NO_TARGET and "the ball" in answer.status_message


def test_target_threshold_only_removes(grounder: Grounder) -> None:
    grounder.set_image(scene())
    counts = []
    for target in (0.0, 0.2, 0.5, 0.9, 1.0):
        grounder.thresholds = Thresholds(target=target, no_target=1.0)
        counts.append(len(grounder.ground(["all objects"])[0].objects))
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 0


def test_mask_threshold_shrinks_masks(grounder: Grounder) -> None:
    grounder.set_image(scene())
    areas = []
    for mask in (0.1, 0.5, 0.9):
        grounder.thresholds = Thresholds(target=0.0, mask=mask, no_target=1.0)
        best = grounder.ground(["all objects"])[0].objects[0]
        areas.append(int(best.mask.sum()))
    assert areas[0] > areas[1] > areas[2] > 0


def same(a: Grounding, b: Grounding) -> None:
    assert (a.expression, a.status, len(a.objects)) == (b.expression, b.status, len(b.objects))
    assert a.no_target_score == pytest.approx(b.no_target_score, abs=1e-4)
    for x, y in zip(a.objects, b.objects, strict=True):
        assert x.score == pytest.approx(y.score, abs=1e-4)
        assert np.abs(np.subtract(x.box, y.box)).max() <= 1


def test_one_by_one_equals_all_at_once(grounder: Grounder) -> None:
    texts = ["the red ball", "all objects on the table", "the unicorn", "the red ball"]
    grounder.set_image(scene())
    together = grounder.ground(texts)
    assert [a.expression for a in together] == texts
    for text, answer in zip(texts, together, strict=True):
        same(grounder.ground([text])[0], answer)


def test_a_new_picture_replaces_the_old(grounder: Grounder) -> None:
    grounder.set_image(scene())
    first = grounder.ground(["the red ball"])[0]
    grounder.set_image(scene(90, 200))
    assert grounder.ground(["the red ball"])[0].size == (90, 200)
    grounder.set_image(scene())
    same(grounder.ground(["the red ball"])[0], first)


def test_views_of_other_arrays_are_fine(grounder: Grounder) -> None:
    image = scene()
    grounder.set_image(image)
    expected = grounder.ground(["the red ball"])[0]
    grounder.set_image(np.dstack([image, image])[:, :, :3])  # not contiguous
    same(grounder.ground(["the red ball"])[0], expected)


def test_no_expressions_no_answers(grounder: Grounder) -> None:
    grounder.set_image(scene())
    assert grounder.ground([]) == []


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_bad_pictures_are_refused(grounder: Grounder, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        grounder.set_image(image)


def test_words_before_a_picture_are_refused(grounder: Grounder) -> None:
    fresh = Grounder(grounder.model, grounder.tokenizer, "name", Thresholds())
    with pytest.raises(RuntimeError, match="set_image"):
        fresh.ground(["the cup"])


def test_an_output_that_is_no_number_is_an_error() -> None:
    grounder = Grounder.from_checkpoint(device="cpu", engine="torch")
    grounder.set_image(scene())
    grounder.model.region_decoder.instance.target.layers[-1].bias.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError):
        grounder.ground(["the cup"])


def test_long_expressions_are_cut_not_refused(grounder: Grounder) -> None:
    grounder.set_image(scene())
    check(grounder.ground(["the red cup " * 100])[0], (120, 160))


def test_name_is_preset_and_digest(grounder: Grounder) -> None:
    preset, digest = grounder.name.split("@")
    assert preset == "tabletop" and len(digest) == 12
    int(digest, 16)


@pytest.mark.parametrize(
    ("device", "words"),
    [("warp", "unknown device"), ("meta", "not supported"), ("cuda:99", "no GPU")],
)
def test_devices_that_are_not_there(device: str, words: str) -> None:
    if device.startswith("cuda") and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match=words):
        choose_device(device)


def test_only_a_gpu_compiles() -> None:
    with pytest.raises(ValueError, match="for a GPU"):
        Grounder.from_checkpoint(device="cpu", engine="compile")


@pytest.mark.parametrize("precision", ["float16", "int3"])
def test_precisions_that_do_not_fit_the_cpu(precision: str) -> None:
    with pytest.raises(ValueError, match="precision|GPU"):
        Grounder.from_checkpoint(device="cpu", precision=precision)


def test_full_size_puts_a_mask_where_it_was() -> None:
    """A picture of 30 x 40 seen as 240 x 320, padded to 256 x 320."""
    logits = torch.full((1, 64, 80), -10.0)
    logits[0, 0:30, 40:80] = 10.0  # rows 0..120 of 240, right half
    mask = full_size(logits, (240, 320), (30, 40))[0] > 0
    expected = torch.zeros(30, 40, dtype=torch.bool)
    expected[:15, 20:] = True
    assert (mask != expected).sum() <= 30  # the border may move by half a pixel


def test_crop_mask() -> None:
    mask = np.zeros((6, 7), bool)
    assert crop_mask(mask) is None
    mask[2, 3] = mask[4, 5] = True
    box, crop = crop_mask(mask) or ((), mask)
    assert box == (3, 2, 6, 5) and crop.shape == (3, 3) and crop.sum() == 2


def test_label_image_grows_to_16_bit() -> None:
    from grex_ros.grounding.objects import GroundedObject

    objects = tuple(
        GroundedObject(i + 1, 1.0, (i, 0, i + 1, 1), np.ones((1, 1), bool)) for i in range(300)
    )
    many = Grounding("all", Status.TARGETS, "", 0.0, objects, (1, 300), 0.0)
    assert many.label_image().dtype == np.uint16 and many.label_image().max() == 300
    few = dataclasses.replace(many, objects=objects[:254])
    assert few.label_image().dtype == np.uint8 and few.label_image().max() == 254


def test_after_out_of_memory_it_goes_on_in_lower_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grounder = Grounder.from_checkpoint(device="cpu")
    grounder.thresholds = Thresholds(target=0.0, no_target=1.0)
    grounder.set_image(scene())
    # Asked for what is surely there: of a doubtful score half precision has one digit.
    before = grounder.ground(["all objects"])[0]
    assert grounder.make_room("cpu") == ""  # it is there already
    assert "bfloat16" in grounder.make_room("lower_precision")
    assert grounder.dtype is torch.bfloat16
    grounder.set_image(scene())
    after = grounder.ground(["all objects"])[0]
    check(after, (120, 160))
    assert abs(after.no_target_score - before.no_target_score) < 0.05
    assert grounder.make_room("lower_precision") == ""  # there is no lower one


def test_warm_up_leaves_no_picture(grounder: Grounder) -> None:
    grounder.warm_up()
    with pytest.raises(RuntimeError, match="set_image"):
        grounder.ground(["the ball"])
