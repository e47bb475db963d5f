"""Stochastic depth of the Swin: only while training, more in later blocks, and fair on average."""

from __future__ import annotations

import pytest
import torch

from grex_ros.model.backbone import DropPath, LanguageSwin, SwinBlock
from grex_ros.model.config import RelaConfig


def test_branches_of_whole_pictures_are_left_out_and_made_up_for() -> None:
    torch.manual_seed(0)
    x = torch.rand(4000, 3, 2) + 1
    y = DropPath(0.3).train()(x)
    kept = (y != 0).flatten(1)
    assert (kept.all(1) | ~kept.any(1)).all()
    assert kept[:, 0].float().mean() == pytest.approx(0.7, abs=0.03)
    torch.testing.assert_close(y[kept[:, 0]], x[kept[:, 0]] / 0.7)
    assert DropPath(0.3).eval()(x) is x and DropPath(0.0).train()(x) is x


def test_the_rate_rises_evenly_from_block_to_block() -> None:
    cfg = RelaConfig.preset("tiny").replace(drop_path=0.3)
    rates = [m.drop_path.rate for m in LanguageSwin(cfg).modules() if isinstance(m, SwinBlock)]
    assert rates == pytest.approx([0.3 * i / 6 for i in range(7)])


def test_answers_do_not_hang_on_it_but_training_does() -> None:
    plain = LanguageSwin(RelaConfig.preset("tiny"))
    dropping = LanguageSwin(RelaConfig.preset("tiny").replace(drop_path=0.5))
    dropping.load_state_dict(plain.state_dict())
    images, words = torch.randn(2, 3, 64, 64), torch.randn(2, 3, 768)
    mask = torch.ones(2, 3)

    def last(model: LanguageSwin) -> torch.Tensor:
        with torch.no_grad():
            return model(images, words, mask)[-1]

    assert torch.equal(last(plain.train()), last(plain.eval()))
    assert torch.equal(last(dropping.eval()), last(plain))
    assert not torch.allclose(last(dropping.train()), last(plain))
