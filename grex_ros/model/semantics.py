"""What regions look like to an ImageNet classifier, said in words.

The classifier has seen more than a million photographs of a thousand kinds. Its answer about a
region, as a mixture of the names of its classes in the text encoder's space, helps with kinds that
the training pictures hardly show (a mixture of names by a classifier's probabilities is the image
embedding of ConSE, Norouzi et al. 2014).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import RelaConfig

CLASSES = 1000
FEATURES = 1280  # of EfficientNet-Lite0's last layer before its classifier


class RegionSemantics(nn.Module):
    """The classifier's last two layers, over regions instead of whole pictures.

    They keep their pretrained weights: a trunk that learns is held to what they understand by
    ``training.criterion.semantics_loss``. Untrained, ``project`` says nothing.
    """

    names: Tensor

    def __init__(self, cfg: RelaConfig, channels: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, FEATURES, 1)  # with its batch norm folded in
        self.classify = nn.Linear(FEATURES, CLASSES)
        self.register_buffer("names", torch.zeros(CLASSES, cfg.text_dim))
        self.project = nn.Linear(cfg.text_dim, cfg.hidden_dim)
        for parameter in self.project.parameters():
            nn.init.zeros_(parameter)
        for module in (self.expand, self.classify):
            module.requires_grad_(False)

    def look(self, coarse: Tensor) -> Tensor:
        """The trunk's last map (B, channels, h, w) -> features of its cells (B, h*w, 1280)."""
        return F.relu6(self.expand(coarse)).flatten(2).transpose(1, 2)

    def forward(self, looks: Tensor, masks: Tensor) -> Tensor:
        """What :meth:`look` saw and soft masks (B, Q, h, w) at its size -> (Q, B, hidden_dim)."""
        weight = masks.flatten(2)
        weight = weight / (weight.sum(-1, keepdim=True) + 1e-4)
        classes = self.classify(weight @ looks).softmax(-1)
        # Scaled so that its numbers are about as large as those of a layer norm.
        said = classes @ self.names * self.names.shape[1] ** 0.5
        return self.project(said).transpose(0, 1)
