"""The overlay shows the objects where they are, leaves the rest alone and survives every size."""

from __future__ import annotations

import numpy as np
import pytest

from grex_ros.grounding.objects import GroundedObject, Grounding, Status
from grex_ros.grounding.overlay import draw_overlay, object_color, status_text


def answer(
    size: tuple[int, int],
    boxes: tuple[tuple[int, int, int, int], ...] = (),
    expression: str = "all red cups",
    status: Status | None = None,
    message: str = "",
) -> Grounding:
    objects = tuple(
        GroundedObject(i + 1, 0.9 - 0.1 * i, box, np.ones((box[3] - box[1], box[2] - box[0]), bool))
        for i, box in enumerate(boxes)
    )
    if status is None:
        status = Status.TARGETS if objects else Status.NO_TARGET
    return Grounding(expression, status, message, 0.93, objects, size, 0.1)


def gray(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def test_masks_are_tinted_in_their_own_colours_and_the_rest_is_left_alone() -> None:
    image = gray(480, 640)
    boxes = ((100, 200, 200, 300), (400, 200, 500, 300))
    drawn = draw_overlay(image, answer((480, 640), boxes))
    for number, (x, y) in enumerate([(150, 250), (450, 250)], start=1):
        expected = 128 * 0.6 + np.array(object_color(number)) * 0.4
        assert np.abs(drawn[y, x] - expected).max() <= 1
    assert (image == 128).all(), "the picture given must not be changed"
    assert (drawn[:150] == 128).all() and (drawn[330:480] == 128).all()


def test_each_object_carries_a_label_that_others_do_not_hide() -> None:
    # Two objects in one place: the second label has to step aside.
    boxes = ((100, 200, 200, 300), (105, 200, 205, 300))
    drawn = draw_overlay(gray(480, 640), answer((480, 640), boxes))
    for number in (1, 2):
        exact = (drawn[:480] == object_color(number)).all(2)
        assert exact.sum() > 300, f"no label in the colour of object {number}"


def test_the_caption_tells_the_status_in_colour() -> None:
    def caption(grounding: Grounding) -> np.ndarray:
        return draw_overlay(gray(1080, 1920), grounding)[1080:]

    found = caption(answer((1080, 1920), ((10, 60, 50, 100),)))
    nothing = caption(answer((1080, 1920)))
    failed = caption(answer((1080, 1920), status=Status.ERROR, message="Out of memory."))
    assert (found == (110, 220, 130)).all(2).any()
    assert (nothing == (255, 190, 80)).all(2).any()
    assert (failed == (255, 110, 100)).all(2).any()
    other = caption(answer((1080, 1920), expression="another expression"))
    assert other.shape == nothing.shape and (other != nothing).any()


def test_the_height_depends_on_the_width_alone() -> None:
    expressions = ("cup", "a very long expression that needs two lines " * 3, "x" * 500, "")
    titles = ("", "pick up", "pick up " * 60)
    shapes = {
        draw_overlay(gray(240, 320), answer((240, 320), expression=text), title).shape
        for text in expressions
        for title in titles
    }
    assert len(shapes) == 1


@pytest.mark.parametrize("height, width", [(1, 1), (1, 4000), (300, 2), (240, 320), (1080, 1920)])
def test_every_size(height: int, width: int) -> None:
    grounding = answer((height, width), ((0, 0, width, height),))
    drawn = draw_overlay(gray(height, width), grounding, "pick up the café cup 杯")
    assert drawn.dtype == np.uint8
    assert drawn.shape[0] > height and drawn.shape[1:] == (width, 3)


def test_objects_of_another_picture_are_refused() -> None:
    with pytest.raises(ValueError, match="another|about a picture"):
        draw_overlay(gray(240, 320), answer((480, 640), ((10, 10, 20, 20),)))


def test_status_in_words() -> None:
    assert status_text(answer((9, 9), ((0, 0, 1, 1), (1, 1, 2, 2)))) == "2 targets"
    assert status_text(answer((9, 9), ((0, 0, 1, 1),))) == "1 target"
    assert status_text(answer((9, 9))) == "no target 0.93"
    stale = answer((9, 9), status=Status.STALE_IMAGE, message="The image is 3.0 s old.")
    assert status_text(stale) == "stale image: The image is 3.0 s old."


def test_colours_are_distinct_and_stable() -> None:
    colors = [np.array(object_color(number)) for number in range(1, 13)]
    gaps = [np.abs(a - b).max() for i, a in enumerate(colors) for b in colors[:i]]
    assert min(gaps) > 30
    assert object_color(1) == object_color(1)
