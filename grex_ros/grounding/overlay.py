"""The picture that a person looks at: what was asked, what was found, and how sure the model is."""

from __future__ import annotations

import colorsys
import unicodedata

import cv2
import numpy as np
import numpy.typing as npt

from .objects import GroundedObject, Grounding, Status

Rgb = tuple[int, int, int]
RgbImage = npt.NDArray[np.uint8]
Label = tuple[int, int, int, int]  # x0, y0, x1, y1

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_TINT = 0.4  # share of the object's colour in its mask
_CAPTION_LINES = 3
_BACKGROUND: Rgb = (24, 26, 30)
_TEXT: Rgb = (238, 238, 238)
_DIM: Rgb = (165, 168, 174)
_STATUS_COLORS: dict[Status, Rgb] = {
    Status.TARGETS: (110, 220, 130),
    Status.NO_TARGET: (255, 190, 80),
    Status.NO_COMMAND: _DIM,
}
_FAILURE: Rgb = (255, 110, 100)


def draw_overlay(image: RgbImage, grounding: Grounding, title: str = "") -> RgbImage:
    """Masks, boxes, ids and scores on a copy of the picture, and a caption below it.

    image is (H, W, 3) uint8 RGB, so is the result, with a caption of constant height for a given W
    added at the bottom: ``title`` (if any), the expression, the status. Letters that the font lacks
    lose their accents or become "?". ValueError if the objects are of a picture of another size.
    """
    height, width = image.shape[:2]
    if grounding.objects and grounding.size != (height, width):
        raise ValueError(
            f"the answer is about a picture of {grounding.size}, not {image.shape[:2]}"
        )
    picture = image.copy()
    scale = 0.3 + width / 2200  # of the font: 9 pixels high at a width of 320, 25 at 1920
    line = max(1, round(3 * scale))
    for item in reversed(grounding.objects):  # the best score on top
        _draw_object(picture, item, line)
    labels: list[Label] = []
    for item in grounding.objects:
        labels.append(_draw_label(picture, item, scale, labels))
    return np.vstack([picture, _caption(grounding, title, width, scale)])


def object_color(number: int) -> Rgb:
    """A stable colour for an object's id; neighbours are far apart in hue and brightness."""
    hue = (0.12 + number * 0.381966) % 1.0  # the golden angle; few objects are as cyan as the first
    value = (1.0, 0.85)[number % 2]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _draw_object(picture: RgbImage, item: GroundedObject, line: int) -> None:
    x0, y0, x1, y1 = item.box
    color = object_color(item.id)
    crop = picture[y0:y1, x0:x1]
    tinted = crop[item.mask] * (1 - _TINT) + np.array(color) * _TINT
    crop[item.mask] = tinted.astype(np.uint8)
    outlines, _ = cv2.findContours(
        item.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(x0, y0)
    )
    # A dark rim, so that a red line is seen on a red object.
    cv2.drawContours(picture, outlines, -1, (0, 0, 0), line + 2, cv2.LINE_AA)
    cv2.drawContours(picture, outlines, -1, color, line, cv2.LINE_AA)
    cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), color, max(1, line // 2), cv2.LINE_AA)


def _draw_label(
    picture: RgbImage, item: GroundedObject, scale: float, others: list[Label]
) -> Label:
    """Id and score at the box: above it, below it, or inside, wherever no other label is."""
    text = f"{item.id}: {item.score:.2f}"
    color = object_color(item.id)
    thickness = max(1, round(1.6 * scale))
    (wide, high), base = cv2.getTextSize(text, _FONT, scale * 0.9, thickness)
    pad = max(2, round(4 * scale))
    wide, high = wide + 2 * pad, high + base + pad
    x0, y0, _, y1 = item.box
    left = max(0, min(x0, picture.shape[1] - wide))
    tops = [max(0, min(top, picture.shape[0] - high)) for top in (y0 - high, y1, y0, y1 - high)]
    places = [(left, top, left + wide, top + high) for top in tops]
    free = (at for at in places if not any(_overlaps(at, other) for other in others))
    place = next(free, places[0])
    cv2.rectangle(picture, place[:2], (place[2] - 1, place[3] - 1), color, cv2.FILLED)
    ink = (0, 0, 0) if np.dot(color, (0.30, 0.59, 0.11)) > 120 else (255, 255, 255)
    at = (left + pad, place[3] - base)
    cv2.putText(picture, text, at, _FONT, scale * 0.9, ink, thickness, cv2.LINE_AA)
    return place


def _overlaps(a: Label, b: Label) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _caption(grounding: Grounding, title: str, width: int, scale: float) -> RgbImage:
    pitch = round(38 * scale)
    margin = round(14 * scale)
    strip = np.full((_CAPTION_LINES * pitch + 2 * margin, width, 3), _BACKGROUND, np.uint8)
    room = width - 2 * margin
    expression = grounding.expression or "-"
    if title:
        said = [(_shorten(title, room, scale), _TEXT), (_shorten(expression, room, scale), _DIM)]
    else:
        said = [(text, _TEXT) for text in _wrap(expression, room, scale)]
    color = _STATUS_COLORS.get(grounding.status, _FAILURE)
    said.append((_shorten(status_text(grounding), room, scale), color))
    top = (strip.shape[0] - len(said) * pitch) // 2
    for row, (text, ink) in enumerate(said):
        at = (margin, top + row * pitch + round(27 * scale))
        cv2.putText(strip, text, at, _FONT, scale, ink, max(1, round(1.6 * scale)), cv2.LINE_AA)
    return strip


def status_text(grounding: Grounding) -> str:
    """A few words: "2 targets", "no target 0.93", "stale image: The image is 3.0 s old ..."."""
    if grounding.status is Status.TARGETS:
        number = len(grounding.objects)
        return f"{number} target{'' if number == 1 else 's'}"
    if grounding.status is Status.NO_TARGET:
        return f"no target {grounding.no_target_score:.2f}"
    return f"{grounding.status.name.lower().replace('_', ' ')}: {grounding.status_message}"


def _wrap(text: str, room: int, scale: float) -> list[str]:
    """One line, or two if it must be."""
    if _width(text, scale) <= room:
        return [_shorten(text, room, scale)]
    words = text.split()
    first = words.pop(0)
    while words and _width(f"{first} {words[0]}", scale) <= room:
        first += f" {words.pop(0)}"
    return [_shorten(line, room, scale) for line in (first, " ".join(words)) if line]


def _shorten(text: str, room: int, scale: float) -> str:
    """The text as far as there is room for it, in letters that the font has."""
    text = _drawable(text)
    if _width(text, scale) <= room:
        return text
    while text and _width(f"{text}...", scale) > room:
        text = text[: -max(1, len(text) // 16)]
    return f"{text.rstrip()}..."


def _width(text: str, scale: float) -> int:
    (width, _), _ = cv2.getTextSize(_drawable(text), _FONT, scale, max(1, round(1.6 * scale)))
    return int(width)


def _drawable(text: str) -> str:
    plain = unicodedata.normalize("NFKD", " ".join(text.split()))
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return "".join(letter if " " <= letter <= "~" else "?" for letter in plain)
