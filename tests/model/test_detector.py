"""The detector beside the trunk: its parts, and how it tells what it sees."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from grex_ros.model.detector import (
    CHANNELS,
    CLASSES,
    STEP,
    DetectorSight,
    Sighting,
    _coarser,
    _double,
    _filter,
)
from grex_ros.model.rela import ReLA
from tests.model.test_rela import SMALL, encode, picture


@pytest.fixture
def sight() -> DetectorSight:
    torch.manual_seed(0)
    return DetectorSight(SMALL).eval()


def sighting(height: int = 4, width: int = 6) -> Sighting:
    """Nothing is seen anywhere."""
    features = tuple(
        torch.zeros(1, c, max(height >> i, 1), max(width >> i, 1)) for i, c in enumerate(CHANNELS)
    )
    return Sighting(
        features,  # type: ignore[arg-type]
        torch.zeros(1, CLASSES, height, width),
        torch.full((1, height, width, 4), 0.5),
    )


@pytest.mark.parametrize(("kernel", "before"), [(3, 0), (5, 1)])
def test_strides_are_padded_as_tensorflow_does(kernel: int, before: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 3, 8, 12)
    layer = _filter(3, 4, kernel, stride=2)
    weight = torch.randn(4, 3, kernel, kernel)
    with torch.no_grad():
        layer.weight.copy_(F.pad(weight, (1, 0, 1, 0)))
    padded = F.pad(x, (before, kernel - 2 - before) * 2)
    wanted = F.conv2d(padded, weight, layer.bias, stride=2)
    torch.testing.assert_close(layer(x), wanted, atol=1e-5, rtol=1e-5)


def test_doubling() -> None:
    x = torch.tensor([[0.0, 4.0], [8.0, 20.0]]).view(1, 1, 2, 2)
    rows = [[0, 2, 4, 4], [4, 8, 12, 12], [8, 14, 20, 20], [8, 14, 20, 20]]
    assert _double(x)[0, 0].tolist() == rows


def test_four_cells_that_see_one_box_say_that_box() -> None:
    """A picture of 48 x 32 pixels; the box from (10, 6) to (30, 26)."""
    y, x = torch.meshgrid(4.0 * torch.arange(8), 4.0 * torch.arange(12), indexing="ij")
    sides = torch.stack((x - 10, y - 6, 30 - x, 26 - y))[None]
    kinds = torch.full((1, CLASSES, 8, 12), -9.0)
    kinds[0, 7, 3, 5] = 0.0
    kinds, boxes = _coarser(kinds, sides)
    wanted = torch.tensor([20 / 48, 16 / 32, 20 / 48, 20 / 32]).expand(4, 6, 4)
    torch.testing.assert_close(boxes[0], wanted)
    assert kinds[0, 7, 1, 2] == 1 and int((kinds > 0).sum()) == 1


@torch.no_grad()
def test_an_untrained_sight_that_trusts_nothing_changes_nothing() -> None:
    torch.manual_seed(0)
    model, without = ReLA(SMALL).eval(), ReLA(SMALL.replace(coco_detector=False)).eval()
    without.load_state_dict(model.state_dict(), strict=False)
    assert model.sight is not None
    model.sight.hint.weight.zero_()
    model.sight.hint.bias[1] = -1e4
    seen, alone = (encode(m, [picture(1), picture(2)]) for m in (model, without))
    torch.testing.assert_close(seen.regions, alone.regions)
    torch.testing.assert_close(seen.boxes, alone.boxes)
    model.sight.project.bias += 1
    assert not torch.allclose(encode(model, [picture(1)]).regions, alone.regions[:, :1])


def test_hints_say_where_and_how_large(sight: DetectorSight) -> None:
    """Where a kind is seen, the logit rises and the box is believed."""
    seen = sighting()
    seen.kinds[0, 3, 2, 5] = 1.0
    with torch.no_grad():
        sight.hint.weight[:, 0] = torch.tensor((2.0, 20.0)) / STEP
    hints = sight.hints(seen)
    assert hints.centre[0, 2, 5] == 2 and int((hints.centre != 0).sum()) == 1
    assert hints.trust[0, 2, 5, 0] > 0.999
    assert float(hints.trust.flatten().sort().values[-2]) < 0.05
    proposals = ReLA(SMALL).region_decoder.proposals
    memory = torch.randn(1, SMALL.hidden_dim, 4, 6)
    told, untold = proposals(memory, hints), proposals(memory)
    torch.testing.assert_close(told.heat - untold.heat, hints.centre)
    assert told.cell_boxes is not None
    torch.testing.assert_close(told.cell_boxes[0, 2, 5], torch.full((4,), 0.5))
    with torch.no_grad():  # boxes of those cells alone that may become regions
        asked = proposals(memory, hints)
    assert asked.cell_boxes is None
    torch.testing.assert_close(asked.boxes, told.boxes)
    torch.testing.assert_close(asked.content, told.content)


@torch.no_grad()
def test_kinds_are_read_around_the_centres_of_boxes(sight: DetectorSight) -> None:
    torch.nn.init.normal_(sight.names)
    torch.nn.init.normal_(sight.project.weight)
    seen = sighting()
    seen.kinds[0, 3, 2, 5] = 1.0
    boxes = torch.tensor([[[0.99, 0.7, 0.1, 0.1], [0.75, 0.5, 1, 1], [0.1, 0.1, 0.3, 0.3]]])
    there, beside, nothing = sight(seen, boxes)[:, 0]
    said = sight.names[3] / 1.1 * SMALL.text_dim**0.5
    kinds = F.one_hot(torch.tensor(3), CLASSES).float()
    torch.testing.assert_close(there, sight.project(torch.cat((said, kinds))))
    torch.testing.assert_close(beside, there)  # one cell away
    torch.testing.assert_close(nothing, sight.project.bias)


@torch.no_grad()
def test_boxes_at_the_edge_and_beyond_it_read_the_last_cell(sight: DetectorSight) -> None:
    torch.nn.init.normal_(sight.project.weight)
    seen = sighting()
    seen.kinds[0, 3, 3, 5] = 1.0
    for centre in (1.0, 1.5):
        for kind in (torch.float32, torch.bfloat16):
            boxes = torch.tensor([[[centre, centre, 0.1, 0.1]]], dtype=kind)
            assert not torch.allclose(sight(seen, boxes)[0, 0], sight.project.bias)
    nan = sight(seen, torch.full((1, 1, 4), torch.nan))  # of damaged weights
    assert nan.isfinite().all()
