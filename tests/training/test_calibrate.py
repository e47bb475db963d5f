"""A calibrated checkpoint answers with shifted scores and is otherwise the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from grex_ros.model.checkpoint import DEFAULT_CHECKPOINT, load_checkpoint
from training.calibrate import NO_TARGET_BIAS, TARGET_BIAS, main


def test_only_the_two_biases_move(tmp_path: Path) -> None:
    out = tmp_path / "shifted.safetensors"
    main(DEFAULT_CHECKPOINT, out, target=1.0, no_target=-0.5)
    before, after = (load_checkpoint(p)[0].state_dict() for p in (DEFAULT_CHECKPOINT, out))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {TARGET_BIAS, NO_TARGET_BIAS}
    assert float(after[TARGET_BIAS] - before[TARGET_BIAS]) == pytest.approx(1.0, abs=2e-3)
    move = after[NO_TARGET_BIAS] - before[NO_TARGET_BIAS]
    assert move.tolist() == pytest.approx([0.0, -0.5], abs=2e-3)
