"""One process of a run: ``python -m tests.training.distributed_run CONFIG.yaml OUT``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from training.config import TrainConfig
from training.train import Trainer


def main(config: Path, out: Path) -> None:
    torch.set_num_threads(1)
    trainer = Trainer(TrainConfig.load(config), out)
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # chance differs from process to process
    trainer.train()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
