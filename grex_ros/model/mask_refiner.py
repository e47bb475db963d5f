"""Draws the mask of a region anew in a crop of the picture at its own size.

The region decoder draws with cells of four pixels of what the model sees, of which a small object
has few. A small U-Net sees a region's surroundings, the mask so far and the same with its edges
where colours change, and corrects it, as PointRend (Kirillov et al. 2020) and boundary patch
refinement (Tang et al. 2021) do. It knows nothing of kinds and words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .tables import map_size

SEEN = 5  # numbers of a pixel: its colour and the two masks
CHANNELS = (32, 64, 96)  # at a half, a quarter and an eighth of the crop
MARGIN = 0.15  # of a box's sides, around it, belongs to the crop
LEAST_MARGIN = 4.0  # ... in pixels of what the model sees: a cell
SURE = 2.0  # logit beyond which the mask so far says no more
PLAIN_SIDE = 64  # pixels of a crop where there is no refiner


def _conv(c_in: int, c_out: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return [conv, nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]


class MaskRefiner(nn.Module):
    """The U-Net; untrained, it leaves masks as they are. Four pixels of a crop go in and come out
    side by side: layers of its full size would cost as much as all others together."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            nn.Sequential(*_conv(c_in, c, 1 if i == 0 else 2), *_conv(c, c))
            for i, (c_in, c) in enumerate(zip((4 * SEEN, *CHANNELS), CHANNELS, strict=False))
        )
        pairs = list(zip(CHANNELS[:0:-1], CHANNELS[-2::-1], strict=True))
        self.narrow = nn.ModuleList(nn.Conv2d(c_in, c, 1) for c_in, c in pairs)
        self.up = nn.ModuleList(nn.Sequential(*_conv(c, c)) for _, c in pairs)
        self.out = nn.Conv2d(CHANNELS[0], 4, 1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, crops: Tensor, logits: Tensor, edged: Tensor) -> Tensor:
        """``crops`` (N, 3, S, S) normalised, ``logits`` (N, S, S) of the masks so far and ``edged``
        (N, S, S) 0..1, what the guided filter makes of them -> (N, S, S) logits; S is a multiple
        of 8."""
        logits = logits.clamp(-SURE, SURE)
        masks = torch.stack((logits / (SURE / 2), 2 * edged - 1), 1)
        x = F.pixel_unshuffle(torch.cat((crops, masks), 1), 2)
        x = x.contiguous(memory_format=torch.channels_last)
        seen = []
        for layer in self.down:
            x = layer(x)
            seen.append(x)
        for narrow, up, fine in zip(self.narrow, self.up, seen[-2::-1], strict=True):
            x = up(fine + F.interpolate(narrow(x), scale_factor=2.0, mode="nearest"))
        return logits + F.pixel_shuffle(self.out(x), 2)[:, 0]


def windows(boxes: Tensor, padded: Tensor) -> Tensor:
    """Crops for boxes (N, 4), centre x, y, width, height in parts of the padded picture, whose
    width and height are ``padded`` (2,) -> corners (N, 4) x0, y0, x1, y1 in pixels of it. They may
    reach beyond the picture."""
    centre, sides = boxes[:, :2] * padded, boxes[:, 2:] * padded
    reach = sides / 2 + (MARGIN * sides).clamp(min=LEAST_MARGIN)
    return torch.cat((centre - reach, centre + reach), 1)


def cut(maps: Tensor, corners: Tensor, side: int) -> Tensor:
    """Bilinear samples of ``maps`` (C, h, w), or of each its own (N, C, h, w), in windows (N, 4)
    with corners in pixels of them -> (N, C, side, side). Beyond the edge the edge goes on."""
    h, w = maps.shape[-2:]
    low, high = corners[:, None, :2], corners[:, None, 2:]
    steps = (torch.arange(side, device=corners.device) + 0.5)[:, None] / side
    place = 2 * (low + (high - low) * steps) / map_size(w, h, corners) - 1  # (N, side, 2)
    grid = torch.stack(
        (
            place[:, None, :, 0].expand(-1, side, -1),
            place[:, :, None, 1].expand(-1, -1, side),
        ),
        -1,
    )
    if maps.dim() == 4:
        return F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    n, c = len(corners), len(maps)
    grid = grid.reshape(1, n * side, side, 2)
    found = F.grid_sample(maps[None], grid, padding_mode="border", align_corners=False)
    return found.view(c, n, side, side).transpose(0, 1)


class Source(NamedTuple):
    """A picture from which some of all windows are cut."""

    picture: Tensor  # (3, h, w)
    corners: Tensor  # (N, 4) of all windows, in pixels of it
    which: Tensor  # (N,) bool: those that come from it
    samples: int = 2  # along each side of a crop's pixel, which is their mean


def in_whole(corners: Tensor, seen: Tensor, whole: Tensor) -> Tensor:
    """Corners (N, 4) in pixels of ``seen`` (3, h, w) -> in those of ``whole`` (3, H, W)."""
    scale = whole.shape[2] / seen.shape[2], whole.shape[1] / seen.shape[1]
    return corners * map_size(*scale, corners).repeat(2)


def boxes_in_whole(boxes: Tensor, logits: Tensor, seen: Tensor, whole: Tensor) -> Tensor:
    """Boxes (N, 4), centre x, y, width, height in parts of the padded picture of which ``logits``
    (Q, h/4, w/4) are masks -> x0, y0, x1, y1 in pixels of ``whole``; the pictures as in
    :func:`in_whole`."""
    padded = map_size(4 * logits.shape[2], 4 * logits.shape[1], boxes)
    centre, half = boxes[:, :2] * padded, boxes[:, 2:] * padded / 2
    return in_whole(torch.cat((centre - half, centre + half), 1), seen, whole)


def crop_pictures(seen: Tensor, whole: Tensor, corners: Tensor, side: int) -> Tensor:
    """Crops (N, 3, side, side), 0..255, of windows (N, 4) with corners in pixels of ``seen``.

    ``whole`` (3, H, W) uint8 is the picture, ``seen`` (3, h, w) the same at the size that the model
    sees: what is large is taken from there, since samples of it would lie far apart.
    """
    finer = in_whole(corners, seen, whole)
    large = (finer[:, 2:] - finer[:, :2]).amax(1) > 2 * side
    if whole.shape[2] <= seen.shape[2]:
        large = torch.ones_like(large)
    return crops_of([Source(whole, finer, ~large), Source(seen, corners, large)], side)


def crops_of(sources: Sequence[Source], side: int) -> Tensor:
    """Crops (N, 3, side, side) of all windows, each from the source that has it."""
    return (some_crops if sources[0].corners.device.type == "cpu" else all_crops)(sources, side)


def some_crops(sources: Sequence[Source], side: int) -> Tensor:
    """Of each picture the windows that are to come from it, and no more of it than they show."""
    crops = torch.empty(len(sources[0].corners), len(sources[0].picture), side, side)
    for picture, corners, which, samples in sources:
        if which.any():
            crops[which] = crop(*_around(picture, corners[which]), side, samples)
    return crops


def all_crops(sources: Sequence[Source], side: int) -> Tensor:
    """All windows of all pictures, which a GPU has sooner than it is told which are needed."""
    first, *others = sources
    crops = crop(first.picture, first.corners, side, first.samples)
    for picture, corners, which, samples in others:
        found = crop(picture, corners, side, samples)
        crops = torch.where(which[:, None, None, None], found, crops)
    return crops


def crop(maps: Tensor, corners: Tensor, side: int, samples: int = 2) -> Tensor:
    """What :func:`cut` does, each pixel the mean of ``samples`` times as many."""
    found = cut(maps.contiguous().float(), corners, samples * side)
    return F.avg_pool2d(found, samples) if samples > 1 else found


def _around(picture: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
    """The part of a picture in which all windows lie, and their corners there."""
    height, width = picture.shape[1:]
    x0, y0 = (corners[:, :2].amin(0).floor() - 1).clamp(min=0).int().tolist()
    x1, y1 = (corners[:, 2:].amax(0).ceil() + 1).int().tolist()
    x0, y0 = min(x0, width - 1), min(y0, height - 1)  # a window may lie beyond the edge
    part = picture[:, y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    return part, corners - corners.new_tensor((x0, y0, x0, y0))


def surroundings(
    logits: Tensor, boxes: Tensor, seen: Tensor, whole: Tensor, side: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What is drawn in for regions of one picture.

    Args:
        logits: (N, h/4, w/4) masks so far, of the padded picture.
        boxes: (N, 4) centre x, y, width, height in parts of it.
        seen: (3, h, w) uint8, the picture as the model sees it, without padding.
        whole: (3, H, W) uint8, the picture itself, on the same device.
        side: pixels of a crop, S.

    Returns:
        The windows' corners (N, 4) in pixels of ``whole``, their pixels (N, 3, S, S) 0..255, and
        the masks so far there (N, S, S).
    """
    padded = map_size(4 * logits.shape[2], 4 * logits.shape[1], boxes)
    corners = windows(boxes, padded)
    coarse = cut(logits[:, None].float(), corners / 4, side)[:, 0]
    pixels = crop_pictures(seen, whole, corners, side)
    return in_whole(corners, seen, whole), pixels, coarse
