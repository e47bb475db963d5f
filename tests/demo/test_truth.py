"""What counts as a right answer, and the truth's way through JSON."""

from __future__ import annotations

import numpy as np
import pytest

from grex_ros.demo.truth import Truth, from_json, is_correct, mask_iou
from grex_ros.grounding.objects import GroundedObject, Grounding, Status
from grex_ros.scenes.scene import ViewObject

SIZE = (40, 60)
Box = tuple[int, int, int, int]
LEFT: Box = (5, 10, 15, 20)
RIGHT: Box = (40, 10, 50, 20)


def full(box: Box) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def seen(index: int, box: Box) -> ViewObject:
    center = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return ViewObject(
        index=index,
        kind="cup",
        color="red",
        size="small",
        box=tuple(map(float, box)),  # type: ignore[arg-type]
        area=100,
        center=center,
        position=(0.1, -0.2, 0.75),
        visible_fraction=0.9,
    )


TRUTH = Truth(7, "rendered", SIZE, (seen(2, LEFT), seen(5, RIGHT)), {2: full(LEFT), 5: full(RIGHT)})


def answer(*boxes: Box, status: Status | None = None) -> Grounding:
    objects = tuple(
        GroundedObject(i + 1, 0.9, box, np.ones((box[3] - box[1], box[2] - box[0]), bool))
        for i, box in enumerate(boxes)
    )
    if status is None:
        status = Status.TARGETS if objects else Status.NO_TARGET
    return Grounding("cups", status, "", 0.1, objects, SIZE, 0.1)


def shifted(box: Box, by: int) -> Box:
    return (box[0] + by, box[1], box[2] + by, box[3])


@pytest.mark.parametrize(
    "grounding, targets, correct",
    [
        (answer(LEFT, RIGHT), (2, 5), True),
        (answer(RIGHT, LEFT), (2, 5), True),
        (answer(LEFT), (2,), True),
        (answer(shifted(LEFT, 3)), (2,), True),  # IoU 7 / 13
        (answer(shifted(LEFT, 4)), (2,), False),  # IoU 6 / 14
        (answer(RIGHT), (2,), False),
        (answer(LEFT), (2, 5), False),
        (answer(LEFT, RIGHT), (2,), False),
        (answer(LEFT, shifted(LEFT, 1)), (2, 5), False),  # one target found twice
        (answer(), (2,), False),
        (answer(), (), True),
        (answer(LEFT), (), False),
        (answer(status=Status.ERROR), (), False),
        (answer(status=Status.STALE_IMAGE), (), False),
    ],
)
def test_correct_is_the_set_of_targets_and_nothing_else(
    grounding: Grounding, targets: tuple[int, ...], correct: bool
) -> None:
    assert is_correct(grounding, TRUTH, targets) is correct


def test_iou() -> None:
    assert mask_iou(full(LEFT), full(LEFT)) == 1
    assert mask_iou(full(LEFT), full(shifted(LEFT, 5))) == pytest.approx(1 / 3)
    assert mask_iou(full(LEFT), full(RIGHT)) == 0
    assert mask_iou(full(LEFT), np.zeros((2, 2), bool)) == 0
    assert mask_iou(np.zeros(SIZE, bool), np.zeros(SIZE, bool)) == 0


def test_json_there_and_back() -> None:
    stamp, truth = from_json(TRUTH.to_json((12, 345), "camera_optical_frame"))
    assert stamp == (12, 345)
    assert (truth.seed, truth.source, truth.size, truth.view) == (7, "rendered", SIZE, TRUTH.view)
    assert truth.masks.keys() == {2, 5}
    assert all(np.array_equal(truth.masks[i], TRUTH.masks[i]) for i in (2, 5))
