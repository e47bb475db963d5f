"""The guided filter: its windows, its equations, and what it does to a mask."""

from __future__ import annotations

import itertools

import pytest
import torch

from grex_ros.model import guided_filter
from grex_ros.model.guided_filter import GuidedFilter, inverse, times, window_mean


@pytest.mark.parametrize("size", [(9, 17), (40, 1)])
def test_windows_are_means(size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size)
    r = guided_filter.RADIUS
    expected = torch.empty_like(x)
    for i, j in itertools.product(*map(range, size)):
        rows = torch.arange(i - r, i + r + 1).clamp(0, size[0] - 1)
        columns = torch.arange(j - r, j + r + 1).clamp(0, size[1] - 1)
        expected[..., i, j] = x[..., rows, :][..., columns].mean((2, 3))
    torch.testing.assert_close(window_mean(x), expected, atol=1e-5, rtol=0)


def test_systems_are_solved() -> None:
    a = torch.rand(2, 5, 3, 3, dtype=torch.float64)
    matrices = a @ a.mT
    right = torch.rand(2, 3, 5, 1, dtype=torch.float64)
    regular = matrices + guided_filter.SMOOTHNESS * torch.eye(3)
    expected = torch.linalg.solve(regular, right[..., 0].mT).mT
    triangle = matrices[:, :, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]].mT[..., None]
    torch.testing.assert_close(times(inverse(triangle), right)[..., 0], expected)


def test_an_edge_moves_to_where_the_colours_change() -> None:
    colors = torch.full((1, 3, 48, 48), 0.3)
    colors[:, 0, :, 20:] = 0.8
    drawn = torch.sigmoid(torch.arange(48.0) - 24).expand(1, 48, 48)  # four columns too far
    found = GuidedFilter(colors + 0.01 * torch.rand(1, 3, 48, 48))(drawn) > 0.5
    assert found[..., 21:].float().mean() > 0.98 and found[..., :19].float().mean() < 0.02


def test_what_the_filter_would_wipe_out_stays() -> None:
    torch.manual_seed(0)
    drawn = torch.zeros(1, 48, 48)
    drawn[0, 10:12, 10] = 0.9
    assert GuidedFilter(torch.rand(1, 3, 48, 48))(drawn).equal(drawn)
    assert GuidedFilter(torch.full((1, 3, 48, 48), 0.5))(drawn).equal(drawn)


def test_lower_precision_around_it_changes_nothing() -> None:
    torch.manual_seed(0)
    drawn, colors = torch.rand(2, 24, 24), torch.rand(2, 3, 24, 24)
    with torch.autocast("cpu", torch.bfloat16):
        found = GuidedFilter(colors)(drawn)
    assert found.equal(GuidedFilter(colors)(drawn))
