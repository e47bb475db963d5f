"""What is read from the regions: masks, minimap, no-target, and the instance heads."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import RelaConfig


def inverse_sigmoid(x: Tensor) -> Tensor:
    """The logit of probabilities that are kept 1e-4 away from 0 and 1; exporters know its parts."""
    x = x.clamp(1e-4, 1 - 1e-4)
    return (x / (1 - x)).log()


class MLP(nn.Module):
    """``layers`` linear layers with ReLU between them."""

    def __init__(self, dim_in: int, hidden: int, dim_out: int, layers: int) -> None:
        super().__init__()
        dims = [dim_in] + [hidden] * (layers - 1) + [dim_out]
        self.layers = nn.ModuleList(
            nn.Linear(a, b) for a, b in zip(dims[:-1], dims[1:], strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim_in) -> (..., dim_out)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class MaskHead(nn.Module):
    """Official heads: mask of every region, minimap, target mask, no-target."""

    def __init__(self, cfg: RelaConfig) -> None:
        super().__init__()
        dim = cfg.hidden_dim
        self.norm = nn.LayerNorm(dim)
        self.mask_embed = MLP(dim, dim, cfg.mask_dim, 3)
        self.minimap = nn.Linear(dim, 2)
        self.no_target = None if cfg.relevance_no_target else MLP(dim, dim, 2, 2)

    def region_masks(self, regions: Tensor, mask_features: Tensor) -> Tensor:
        """(B, Q, C), (B, M, H, W) -> mask logits (B, Q, H, W)."""
        embed = self.mask_embed(self.norm(regions))
        masks = embed @ mask_features.flatten(2)
        return masks.reshape(*embed.shape[:2], *mask_features.shape[2:])

    def target_mask(
        self, regions: Tensor, mask_features: Tensor, counts: list[int]
    ) -> tuple[Tensor, Tensor]:
        """Minimap logits (B, Q, 2) and target mask logits (B, 2, H, W); channel 1 = target.

        The minimap weighs the regions' mask embeddings as it is, without softmax. ``regions``
        (B, Q, C) are those of ``counts[i]`` expressions on ``mask_features[i]``.
        """
        regions = self.norm(regions)
        minimap = self.minimap(regions)
        embed = minimap.transpose(1, 2) @ self.mask_embed(regions)  # (B, 2, M)
        if len(set(counts)) == 1:  # many pictures, as in training: one product for all of them
            each = embed.unflatten(0, (len(counts), -1))
            masks = torch.einsum("pbac,pchw->pbahw", each, mask_features).flatten(0, 1)
            return minimap, masks
        parts = zip(embed.split(counts), mask_features, strict=True)
        return minimap, torch.cat([torch.einsum("bac,chw->bahw", e, f) for e, f in parts])


class InstanceHeads(nn.Module):
    """Boxes and objectness of regions that have seen the image; target score of those that have
    seen the words."""

    def __init__(self, cfg: RelaConfig) -> None:
        super().__init__()
        dim = cfg.hidden_dim
        self.box = MLP(dim, dim, 4, 3)
        self.objectness = nn.Linear(dim, 1)
        self.target = MLP(dim, dim, 1, 2)
        for name, value in (("box.layers.2.weight", 0.0), ("box.layers.2.bias", 0.0)):
            nn.init.constant_(self.get_parameter(name), value)
        for name in ("objectness.bias", "target.layers.1.bias"):
            nn.init.constant_(self.get_parameter(name), -2.0)  # most regions hold no object

    def boxes(self, regions: Tensor, start: Tensor | None) -> Tensor:
        """(B, Q, C) -> (B, Q, 4): centre x, y, width, height, each 0..1 of the padded image.

        ``start`` are the boxes so far, in the same form, which the head's output moves.
        """
        moved = self.box(regions)
        return (moved if start is None else moved + inverse_sigmoid(start)).sigmoid()


class PhraseAlignment(nn.Module):
    """How well regions fit phrases such as "red cup": cosine over a learned temperature.

    Trained on the names of annotated objects, so that regions know what they show before they are
    asked (phrase-object alignment, as in InstAlign).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.region = nn.Linear(dim, dim)
        self.phrase = nn.Linear(dim, dim)
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, regions: Tensor, words: Tensor, word_mask: Tensor) -> Tensor:
        """Regions (N, C), words (P, L, C) and mask (P, L) of P phrases -> logits (N, P)."""
        mask = word_mask[..., None].to(words.dtype)
        phrases = self.phrase((mask * words).sum(1) / mask.sum(1))
        regions = F.normalize(self.region(regions), dim=-1)
        return self.scale * regions @ F.normalize(phrases, dim=-1).T


class RelevanceNoTarget(nn.Module):
    """No-target and count from the regions weighted by their relevance, the most relevant region,
    and the sentence (the plain mean of the official model is diluted by background regions)."""

    def __init__(self, cfg: RelaConfig) -> None:
        super().__init__()
        dim = cfg.hidden_dim
        self.no_target = MLP(3 * dim + 2, dim, 2, 2)
        self.count = MLP(3 * dim + 2, dim, cfg.count_classes, 2) if cfg.count_classes else None

    def forward(
        self, regions: Tensor, target_logits: Tensor, words: Tensor, word_mask: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Regions (B, Q, C), target logits (B, Q), words (B, L, C), mask (B, L) ->
        no-target logits (B, 2), class 1 = no target, and count logits (B, count_classes)."""
        weight = target_logits.softmax(1)[..., None]
        score = target_logits.sigmoid()
        mask = word_mask[..., None].to(words.dtype)
        pooled = [
            (weight * regions).sum(1),
            (score[..., None] * regions).sum(1) / (1 + score.sum(1, keepdim=True)),
            (mask * words).sum(1) / mask.sum(1),
            target_logits.amax(1, keepdim=True),
            score.sum(1, keepdim=True),
        ]
        x = torch.cat(pooled, 1)
        return self.no_target(x), None if self.count is None else self.count(x)
