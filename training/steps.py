"""What one training step computes: the model with its loss, and features that are kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from grex_ros.model.region_decoder import RegionState
from grex_ros.model.rela import ReLA
from grex_ros.model.text_encoder import Tokenizer
from training.criterion import (
    OFFICIAL_WEIGHTS,
    LossWeights,
    PictureTruth,
    alignment_loss,
    instance_losses,
    language_losses,
    official_losses,
    proposal_losses,
    weighted_sum,
)
from training.dataset.samples import Sample


@dataclass
class EncodedPictures:
    """Regions of pictures and which objects they stand for."""

    state: RegionState
    matches: list[tuple[Tensor, Tensor]]


class TrainingStep(nn.Module):
    """The model with its loss, so that one forward call does a whole training step."""

    def __init__(self, model: ReLA, loss: LossWeights) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(
        self,
        pictures: Tensor | EncodedPictures,
        words: Tensor,
        mask: Tensor,
        truth: list[PictureTruth],
        phrases: list[str],
        phrase_words: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """``pictures`` (B, 3, H, W) normalised, or what a frozen image part made of them;
        ``words`` (B*E, L, C) in the order of ``truth``; ``phrases`` are all names in ``truth``,
        ``phrase_words`` their features and mask."""
        if isinstance(pictures, EncodedPictures):
            state, matches = pictures.state, pictures.matches
            losses: dict[str, Tensor] = {}
        else:
            state = self.model.encode_image(pictures)
            losses, matches = instance_losses(state, truth)
        out = self.model.ground(state.repeat([len(t.meant) for t in truth]), words, mask)
        cfg = self.model.cfg
        side = 0 if cfg.region_proposals else cfg.minimap_side
        losses |= language_losses(out, truth, matches, side)
        decoder = self.model.region_decoder
        find = not isinstance(pictures, EncodedPictures)
        if find and decoder.alignment is not None and self.model.text_adapter is not None:
            regions = torch.cat([state.regions[r, i] for i, (r, _) in enumerate(matches)])
            names = [t.names[k] for t, (_, ks) in zip(truth, matches, strict=True) for k in ks]
            adapted = self.model.text_adapter(*phrase_words)
            logits = decoder.alignment(decoder.head.norm(regions), adapted, phrase_words[1])
            losses["alignment"] = alignment_loss(logits, names, phrases)
        if state.proposals is not None:
            losses |= proposal_losses(state.proposals, truth)
        return weighted_sum(losses, self.loss), {k: v.detach() for k, v in losses.items()}


class OfficialStep(nn.Module):
    """The same for presets without instance heads: the official loss, one expression a picture."""

    def __init__(self, model: ReLA) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, images: Tensor, tokens: Tensor, mask: Tensor, union: Tensor, empty: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """``images`` (B, 3, H, W) normalised, ``tokens`` and ``mask`` (B, L), ``union`` (B, H, W)
        and ``empty`` (B,) as :func:`official_losses` takes them."""
        words = self.model.encode_text(tokens, mask)
        state = self.model.encode_image(images, words, mask)
        out = self.model.ground(state.repeat([1] * len(images)), words, mask)
        losses = official_losses(out, union, empty, self.model.cfg.minimap_side)
        loss = torch.stack([OFFICIAL_WEIGHTS[name] * value for name, value in losses.items()])
        return loss.sum(), {k: v.detach() for k, v in losses.items()}


class WordCache:
    """Word features of the frozen text encoder, computed once per expression."""

    def __init__(self, model: ReLA, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer
        self._features: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, texts: list[str], device: torch.device) -> tuple[Tensor, Tensor]:
        """Features (B, L, C) float32 and mask (B, L)."""
        new = sorted(set(texts) - self._features.keys())
        if new:
            tokens, mask = (t.to(device) for t in self.tokenizer(new))
            features = self.model.encode_text(tokens, mask).half().cpu()
            for text, feature, length in zip(new, features, mask.sum(1).tolist(), strict=True):
                self._features[text] = feature[:length].clone()
        words = nn.utils.rnn.pad_sequence([self._features[t] for t in texts], True)
        lengths = torch.tensor([len(self._features[t]) for t in texts])
        mask = (torch.arange(words.shape[1])[None] < lengths[:, None]).long()
        return words.float().to(device), mask.to(device)


class RegionCache:
    """Regions of a frozen image part, computed once a picture and kept in half precision (0.7 MB
    each). The words then learn several times faster than with a pass over the pixels."""

    def __init__(self, model: ReLA) -> None:
        self.model = model
        self._kept: dict[int, tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]] = {}

    @torch.no_grad()
    def __call__(self, samples: list[Sample], device: torch.device) -> EncodedPictures:
        """The samples' pictures in their order; all must have one size."""
        new = [s for s in samples if s.index not in self._kept]
        if new:
            images = self.model.normalise([s.pixels.to(device) for s in new])
            state = self.model.encode_image(images.contiguous(memory_format=torch.channels_last))
            _, matches = instance_losses(state, [s.truth.to(device) for s in new])
            parts = (state.regions.unbind(1), state.region_position.unbind(1), state.mask_features)
            for i, (sample, matched) in enumerate(zip(new, matches, strict=True)):
                regions, position, features = (p[i].half().cpu() for p in parts)
                self._kept[sample.index] = (regions, position, features, matched)
        kept = [self._kept[s.index] for s in samples]
        regions, position, features = (
            torch.stack([k[part] for k in kept], dim).float().to(device)  # type: ignore[misc]
            for part, dim in ((0, 1), (1, 1), (2, 0))
        )
        state = RegionState([], [], [], features, regions, position, features)
        return EncodedPictures(state, [k[3] for k in kept])
