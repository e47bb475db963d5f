"""The official loss on the golden training step: its terms, and the gradient of every parameter."""

from __future__ import annotations

import gzip
import json
from typing import Any

import numpy as np
import pytest
import torch

from grex_ros.model.official import official_names
from tests.model.golden import DATA, GoldenSet
from training.criterion import OfficialWeights, official_losses, weighted_sum

GOLDEN: dict[str, Any] = json.loads(
    gzip.decompress((DATA / "golden_training.json.gz").read_bytes())
)


def ground_truth(seed: int) -> torch.Tensor:
    """Three rectangles by rule in 96 x 128."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((96, 128), np.float32)
    for _ in range(3):
        y, x = rng.integers(0, 88), rng.integers(0, 120)
        a, b = rng.integers(8, 48), rng.integers(8, 64)
        mask[y : y + a, x : x + b] = 1
    return torch.from_numpy(mask)


@pytest.mark.parametrize("case", GOLDEN["cases"])
def test_loss_and_gradients_equal_the_official_ones(case: str) -> None:
    expected = GOLDEN["cases"][case]
    golden = GoldenSet.read(DATA / "golden", "tiny")
    # In double precision: that of the float32 gradients of this CPU or that is 1e-3 itself.
    model = golden.model().double()
    images, tokens, mask = golden.inputs()
    empty = torch.tensor(expected["empty"])
    union = torch.stack([ground_truth(seed) for seed in expected["gt_seeds"]])
    union[empty] = 0
    assert [int(u.sum()) for u in union] == expected["gt_area"]

    out = model([image.double() for image in images], tokens, mask)
    losses = official_losses(out, union, empty, model.cfg.minimap_side)
    names = ("term_mask", "term_minimap_unweighted", "term_nt_unweighted")
    for name, term in zip(("mask", "minimap", "no_target"), names, strict=True):
        assert float(losses[name].detach()) == pytest.approx(expected[term], rel=1e-5)
    loss = weighted_sum(losses, OfficialWeights())
    assert float(loss.detach()) == pytest.approx(expected["loss_total"], rel=1e-5)

    loss.backward()
    official = dict(zip(GOLDEN["keys"], expected["grad_l2_and_sum"], strict=True))
    theirs = {ours: name for name, ours in official_names(model).items()}
    seen = set()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        l2, total = official[theirs[name]]
        grad = parameter.grad.double()
        # Much cancels out in the gate's one number: float64 is 0.3 % off the official float32.
        near = 1e-2 if grad.numel() == 1 else 1e-3
        if float(grad.norm()) < 1e-10:  # a bias before a norm; officially 2.1e-5 for rounding
            l2, near = 0.0, 0.0
            assert official[theirs[name]][0] < 3e-5, name
        assert float(grad.norm()) == pytest.approx(l2, rel=near, abs=1e-5), name
        # Of the keys' biases, whose gradient is zero but for rounding, 1e-4 is allowed.
        close = near * l2 * grad.numel() ** 0.5 + 1e-4
        assert float(grad.sum()) == pytest.approx(total, abs=close), name
        seen.add(theirs[name])
    assert seen == set(official)
