"""How regions lie to each other: what "left of", "behind" and "the largest" ask for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import RelaConfig
from .heads import MLP

FEATURES = 9  # of a pair of boxes, see pair_features
NUMBERS = 16  # that a layer may ask of a pair


def pair_features(boxes: Tensor) -> Tensor:
    """(P, Q, 4) boxes in 0..1 -> (P, Q, Q, 9): where box j lies as box i sees it, in the picture's
    measure (dx, dy, dy of the lower edges, distance), in that of their sizes (dx, dy), and how
    much larger it is (width, height, both; logarithms)."""
    boxes = boxes.float()
    centre, size = boxes[..., :2], boxes[..., 2:].clamp(min=1e-3)
    offset = centre[:, None] - centre[:, :, None]
    foot = centre[..., 1] + size[..., 1] / 2
    reach = (size[:, None] + size[:, :, None]) / 2
    larger = size[:, None].log() - size[:, :, None].log()
    features = (
        4 * offset,
        4 * (foot[:, None] - foot[:, :, None])[..., None],
        4 * offset.square().sum(-1, keepdim=True).sqrt(),
        (offset / reach).clamp(-4, 4),
        larger,
        larger.sum(-1, keepdim=True),
    )
    return torch.cat(features, -1)


class PairGeometry(nn.Module):
    """Adds to the attention between regions what the asking region, which has heard the words,
    wants the other's place and size to be. It starts without any wish.

    Relative position in attention is that of Shaw et al. 2018, between boxes that of Hu et al. 2018
    (Relation Networks); here the words decide which relation counts.
    """

    def __init__(self, cfg: RelaConfig) -> None:
        super().__init__()
        self.heads = cfg.heads
        self.describe = MLP(FEATURES, 2 * NUMBERS, NUMBERS, 2)
        # Large numbers, so that small wishes count soon.
        nn.init.normal_(self.describe.get_parameter("layers.1.weight"))
        layers = cfg.decoder_layers - cfg.image_layers
        self.ask = nn.ModuleList(
            nn.Linear(cfg.hidden_dim, cfg.heads * NUMBERS) for _ in range(layers)
        )
        for layer in self.ask:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, boxes: Tensor) -> Tensor:
        """Boxes (P, Q, 4) in 0..1 of P pictures -> numbers of their pairs, (P, Q, 16, Q)."""
        features = pair_features(boxes).to(next(self.parameters()).dtype)
        return self.describe(features).transpose(2, 3)

    def bias(self, layer: int, x: Tensor, pairs: Tensor) -> Tensor:
        """Regions ``x`` (Q, B, C) and their ``pairs`` (B or 1, Q, 16, Q) -> what is added to the
        scores of their attention, (B, heads, Q, Q)."""
        asked = self.ask[layer](x).unflatten(-1, (self.heads, NUMBERS)).transpose(0, 1)
        return (asked @ pairs).transpose(1, 2)
