"""One process of a run: ``python -m tests.training.distributed_run FOLDER...``, each with its
``run.yaml``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from training.config import TrainConfig
from training.train import Trainer


def main(folder: Path) -> None:
    trainer = Trainer(TrainConfig.load(folder / "run.yaml"), folder)
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # chance differs from process to process
    trainer.train()


if __name__ == "__main__":
    torch.set_num_threads(1)
    for argument in sys.argv[1:]:
        main(Path(argument))
