"""A detector beside the trunk: CenterNet on MobileNetV3, which has learned from all of COCO.

Our own pictures of everyday scenes are few, and what is learned from them is soon learned by
heart. The detector has seen a hundred thousand photographs and keeps its weights; what it sees is
told to the memories, the proposals and the regions (see :class:`DetectorSight`). It follows TTFNet
(Liu et al. 2020): of every cell of 4 x 4 pixels, how much it looks like the centre of an object of
each kind, and how far the object's four sides are from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .box_refiner import pick
from .config import RelaConfig
from .proposals import Hints
from .tables import pixel_centres

CLASSES = 80  # COCO's kinds in the order of their ids
SIDES = 4  # left, top, right, bottom
CHANNELS = (192, 256)  # of its features at strides 8 and 16
COARSEST = 480  # channels at stride 32
CELL = 4  # pixels
REACH = 16  # pixels: unit of the distances to the sides
FAINTEST = -3.5  # logit below which a kind is not seen at all
LEAST = 0.02  # of a picture's side: the smallest box
STEP = 20.0  # hints are logits of a few units, which an optimizer would take long to reach


def _filter(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution padded as TensorFlow's SAME does for even sides: with a stride of two less
    before than behind, for which the kernel has a first row and column of zeros."""
    kernel += stride == 2
    padding = (kernel - 1) // 2
    return nn.Conv2d(c_in, c_out, kernel, stride, padding, groups=groups)


def _double(x: Tensor) -> Tensor:
    """Twice as many rows and columns, between two the mean of both (TensorFlow 1's bilinear)."""
    x = F.interpolate(x, scale_factor=2.0, mode="nearest")
    return F.avg_pool2d(x, 2, 1, padding=1, count_include_pad=False)[..., 1:, 1:]


class SqueezeExcite(nn.Module):
    """Scales channels by what all of the picture says of them."""

    def __init__(self, channels: int, hidden: int, hard: bool = True) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1, bias=hard)
        self.hard = hard

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        scale = self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * (F.hardsigmoid(scale) if self.hard else scale.sigmoid())


class MobileBlock(nn.Module):
    """Widen by 1 x 1, filter each channel, squeeze and excite, narrow by 1 x 1 (MobileNetV3)."""

    def __init__(
        self, c_in: int, mid: int, c_out: int, kernel: int, stride: int, squeeze: int, hard: bool
    ) -> None:
        super().__init__()
        self.hard = hard
        self.expand = nn.Conv2d(c_in, mid, 1) if mid != c_in else None
        self.depthwise = _filter(mid, mid, kernel, stride, groups=mid)
        self.squeeze = SqueezeExcite(mid, squeeze) if squeeze else None
        self.project = nn.Conv2d(mid, c_out, 1)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> (B, C', H/stride, W/stride), and the wide map before the filter."""
        act = F.hardswish if self.hard else F.relu
        wide = x if self.expand is None else act(self.expand(x))
        y = act(self.depthwise(wide))
        if self.squeeze is not None:
            y = self.squeeze(y)
        y = self.project(y)
        return (x + y if self.residual else y), wide


class Separable(nn.Module):
    """A filter for each channel without bias, then 1 x 1."""

    def __init__(self, c_in: int, c_out: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(c_in, c_in, kernel, padding=kernel // 2, groups=c_in, bias=False)
        self.pointwise = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)."""
        return self.pointwise(self.depthwise(x))


class UpMerge(nn.Module):
    """A coarse map, filtered in two widths and doubled, beside a narrow view of a finer one."""

    def __init__(self, coarse: int, fine: int, narrow: int, half: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(Separable(coarse, half, kernel) for kernel in (3, 5))
        self.narrow = nn.Conv2d(fine, narrow, 1)
        self.look = Separable(narrow, half, 5)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(B, C, H, W), (B, C', 2H, 2W) -> (B, 2 * half, 2H, 2W)."""
        up = _double(self.branches[0](coarse) + self.branches[1](coarse))
        return F.relu(torch.cat((self.look(F.relu(self.narrow(fine))), up), 1))


@dataclass
class Sighting:
    """What the detector sees in B pictures of H x W pixels."""

    features: tuple[Tensor, Tensor]  # (B, CHANNELS[i], H/s, W/s), s = 8, 16
    kinds: Tensor  # (B, 80, H/8, W/8): 0 = not seen, 1 = as likely as not
    boxes: Tensor  # (B, H/8, W/8, 4): centre x, y, width, height in 0..1


class CocoDetector(nn.Module):
    """The network, as far as boxes and kinds of every cell. Pixels are RGB 0..255."""

    # channels in, wide, out, kernel, stride, squeezed, hard swish
    BLOCKS = (
        (16, 16, 16, 3, 1, 0, False),
        (16, 64, 24, 3, 2, 0, False),
        (24, 72, 24, 3, 1, 0, False),
        (24, 72, 32, 5, 2, 24, False),
        (32, 96, 32, 5, 1, 24, False),
        (32, 96, 32, 5, 1, 24, False),
        (32, 192, 64, 3, 2, 0, True),
        (64, 160, 64, 3, 1, 0, True),
        (64, 144, 64, 3, 1, 0, True),
        (64, 144, 64, 3, 1, 0, True),
        (64, 384, 88, 3, 1, 96, True),
        (88, 528, 88, 3, 1, 136, True),
        (88, 528, 120, 5, 2, 136, True),
        (120, 720, 120, 5, 1, 184, True),
        (120, 720, 120, 5, 1, 184, True),
    )
    WIDE_4, WIDE_8, OUT_16 = 3, 5, 11  # blocks whose maps the way up sees again

    def __init__(self) -> None:
        super().__init__()
        self.stem = _filter(3, 16, 3, 2)
        self.blocks = nn.ModuleList(MobileBlock(*block) for block in self.BLOCKS)
        self.last = nn.Conv2d(120, COARSEST, 1)
        self.up_16 = UpMerge(COARSEST, 88, 22, 128)
        self.up_8 = UpMerge(CHANNELS[1], 96, 24, 96)
        self.up_4 = UpMerge(CHANNELS[0], 72, 18, 64)
        self.squeeze = SqueezeExcite(128, 32, hard=False)
        self.kinds = Separable(128, CLASSES, 3)
        self.sides = Separable(128, SIDES, 3)
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Sighting:
        """``pixels`` (B, 3, H, W) 0..255, H and W multiples of 32."""
        features, kinds, sides = self.maps(pixels)
        # Places are told in full precision also where the layers run in half of it.
        full = torch.promote_types(sides.dtype, torch.float32)
        return Sighting(features, *_coarser(kinds, sides.to(full)))

    def maps(self, pixels: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
        """Features as in :class:`Sighting`, logits of kinds (B, 80, H/4, W/4), and distances to the
        sides (B, 4, H/4, W/4) in pixels."""
        x = F.hardswish(self.stem(pixels))
        seen: dict[int, tuple[Tensor, Tensor]] = {}
        for i, block in enumerate(self.blocks):
            x, wide = seen[i] = block(x)
        s16 = self.up_16(F.hardswish(self.last(x)), seen[self.OUT_16][0])
        s8 = self.up_8(s16, seen[self.WIDE_8][1])
        s4 = self.squeeze(self.up_4(s8, seen[self.WIDE_4][1]))
        return (s8, s16), self.kinds(s4), self.sides(s4) * REACH


def _coarser(kinds: Tensor, sides: Tensor) -> tuple[Tensor, Tensor]:
    """:attr:`Sighting.kinds` and :attr:`Sighting.boxes` from maps of four pixels a cell: of four
    cells the best of each kind, and the mean of their boxes."""
    left, top, right, bottom = (F.avg_pool2d(sides, 2) / (2 * CELL)).unbind(1)  # in coarse cells
    height, width = left.shape[1:]
    x, y = pixel_centres(height, width, sides).view(height, width, 2).unbind(-1)
    # A cell's place is its first pixel, a quarter of a coarse cell before the centre of the four.
    centre_x = x + (right - left - 0.5) / 2 / width
    centre_y = y + (bottom - top - 0.5) / 2 / height
    size_x, size_y = (left + right) / width, (top + bottom) / height
    boxes = torch.stack((centre_x, centre_y, size_x.clamp(LEAST), size_y.clamp(LEAST)), -1)
    return (F.max_pool2d(kinds, 2) - FAINTEST).clamp(min=0) / -FAINTEST, boxes


class DetectorSight(nn.Module):
    """The detector, and how it tells what it sees."""

    names: Tensor

    def __init__(self, cfg: RelaConfig) -> None:
        super().__init__()
        self.detector = CocoDetector()
        told = (CHANNELS[1], CHANNELS[0] + CLASSES)
        self.tell = nn.ModuleList(nn.Conv2d(c, cfg.hidden_dim, 1) for c in told)
        self.hint = nn.Linear(1, 2)
        self.register_buffer("names", torch.zeros(CLASSES, cfg.text_dim))
        self.project = nn.Linear(cfg.text_dim + CLASSES, cfg.hidden_dim)
        for module in (*self.tell, self.project):
            for parameter in module.parameters():
                nn.init.zeros_(parameter)
        with torch.no_grad():  # at first: a little more likely, its box believed where it is sure
            self.hint.weight.copy_(torch.tensor(((3.0,), (8.0,))) / STEP)
            self.hint.bias.copy_(torch.tensor((0.0, -3.0)) / STEP)

    def memories(self, memories: list[Tensor], seen: Sighting) -> list[Tensor]:
        """Memories (B, C, h, w) of strides 32, 16 and 8, to the last two what the detector adds."""
        coarse, middle, fine = memories
        s8, s16 = seen.features
        told = torch.cat((s8, seen.kinds), 1)
        return [coarse, middle + self.tell[0](s16), fine + self.tell[1](told)]

    def hints(self, seen: Sighting) -> Hints:
        """What proposals may use, of every cell at stride 8."""
        told = STEP * self.hint(seen.kinds.amax(1)[..., None])
        centre, trust = told.split(1, -1)
        return Hints(centre[..., 0], trust.sigmoid(), seen.boxes)

    def forward(self, seen: Sighting, boxes: Tensor) -> Tensor:
        """Kinds that the detector sees at the centres of ``boxes`` (B, Q, 4), as numbers and as
        a mixture of their names; (Q, B, hidden_dim)."""
        around = F.max_pool2d(seen.kinds, 3, 1, 1)
        kinds = pick(around, boxes[:, :, None, :2])[:, :, 0]
        mixture = kinds / (kinds.sum(-1, keepdim=True) + 0.1)
        said = mixture @ self.names * self.names.shape[1] ** 0.5
        return self.project(torch.cat((said, kinds), -1)).transpose(0, 1)
