"""What one training step computes: the model with its loss, and features that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grex_ros.model.efficientnet import EfficientNetLite0
from grex_ros.model.generation import PAD, Vocabulary
from grex_ros.model.guided_filter import GuidedFilter
from grex_ros.model.region_decoder import RegionState
from grex_ros.model.rela import ReLA
from grex_ros.model.semantics import RegionSemantics
from grex_ros.model.text_encoder import Tokenizer
from training.criterion import (
    LossWeights,
    OfficialWeights,
    PictureTruth,
    alignment_loss,
    generation_loss,
    instance_losses,
    language_losses,
    official_losses,
    proposal_losses,
    semantics_loss,
    weighted_sum,
)
from training.dataset.samples import Sample
from training.generation import bare, training_sets
from training.matcher import flat_matches
from training.outlines import Closeup, outline_losses, windows
from training.parameters import load_trunk


def memory_format(device: torch.device) -> torch.memory_format:
    """How pictures and weights lie while training. On a GPU cuDNN would compile every depthwise
    convolution anew for every size of pictures, 12 s in all, to be a sixth faster in the trunk."""
    return torch.contiguous_format if device.type == "cuda" else torch.channels_last


@dataclass
class EncodedPictures:
    """Regions of pictures and which objects they stand for."""

    state: RegionState
    matches: list[tuple[Tensor, Tensor]]


class TrainingStep(nn.Module):
    """The model with its loss, so that one forward call does a whole training step.

    With ``only_generation`` all but the generation head is left alone, with ``only_refiner`` all
    but what draws masks anew.
    """

    def __init__(
        self,
        model: ReLA,
        loss: LossWeights,
        only_generation: bool = False,
        only_refiner: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.loss = model, loss
        self.only_generation, self.only_refiner = only_generation, only_refiner

    def forward(
        self,
        pictures: Tensor | EncodedPictures,
        words: Tensor,
        mask: Tensor,
        truth: list[PictureTruth],
        phrases: list[str],
        phrase_words: tuple[Tensor, Tensor],
        sentences: Tensor | None = None,
        classes: Tensor | None = None,
        closeups: Sequence[Closeup] = (),
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """``pictures`` (B, 3, H, W) normalised, or what a frozen image part made of them;
        ``words`` (B*E, L, C) in the order of ``truth``; ``phrases`` are all names in ``truth``,
        ``phrase_words`` their features and mask; ``sentences`` (B*E, T) see
        :func:`target_sentences`; ``classes`` see :class:`PretrainedClasses`; ``closeups`` of the
        pictures, for the refiner."""
        if self.only_refiner:
            return self._refiner_alone(pictures, truth, closeups)
        if self.only_generation:
            return self._generation_alone(pictures, truth, sentences)
        if isinstance(pictures, EncodedPictures):
            state, matches = pictures.state, pictures.matches
            losses: dict[str, Tensor] = {}
        else:
            state = self.model.encode_image(pictures)
            no_object = torch.zeros(0, dtype=torch.int64, device=pictures.device)
            losses, matches = {}, [(no_object, no_object)] * len(truth)
            if state.layers:
                losses, matches = instance_losses(state, truth)
        out = self.model.ground(state.repeat([len(t.meant) for t in truth]), words, mask)
        cfg = self.model.cfg
        side = 0 if cfg.region_proposals else cfg.minimap_side
        losses |= language_losses(out, truth, matches, side)
        decoder = self.model.region_decoder
        find = not isinstance(pictures, EncodedPictures)
        if find and decoder.alignment is not None and self.model.text_adapter is not None:
            picture, region, item = flat_matches(matches)
            regions = state.regions[region, picture]
            pairs = zip(picture.tolist(), item.tolist(), strict=True)
            names = [truth[i].names[k] for i, k in pairs]
            adapted = self.model.text_adapter(*phrase_words)
            logits = decoder.alignment(decoder.head.norm(regions), adapted, phrase_words[1])
            losses["alignment"] = alignment_loss(logits, names, phrases)
        if classes is not None and decoder.semantics is not None and state.looks is not None:
            losses["semantics"] = semantics_loss(decoder.semantics.classify(state.looks), classes)
        if state.proposals is not None:
            losses |= proposal_losses(state.proposals, truth)
        if sentences is not None:
            losses |= self._generation(state, truth, matches, sentences)
        return weighted_sum(losses, self.loss), {k: v.detach() for k, v in losses.items()}

    def _generation(
        self,
        state: RegionState,
        truth: list[PictureTruth],
        matches: list[tuple[Tensor, Tensor]],
        sentences: Tensor,
    ) -> dict[str, Tensor]:
        head = self.model.generation
        wanted = sentences[:, 0] != PAD
        if head is None or not wanted.any():
            return {}
        sets = training_sets(state, truth, matches, wanted)
        tokens = sentences[wanted]
        memory, blocked = head.encode(state, sets)
        return {"generation": generation_loss(head(memory, blocked, tokens[:, :-1]), tokens)}

    def _generation_alone(
        self,
        pictures: Tensor | EncodedPictures,
        truth: list[PictureTruth],
        sentences: Tensor | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.model.generation is None or sentences is None:
            raise ValueError(f"preset {self.model.cfg.name} has no generation head to train")
        if isinstance(pictures, EncodedPictures):
            state, matches = pictures.state, pictures.matches
        else:
            with torch.no_grad():
                state = self.model.encode_image(pictures)
                _, matches = instance_losses(state, truth)
        losses = self._generation(state, truth, matches, sentences)
        if not losses:  # no expression of this batch has a target
            losses = {"generation": 0 * self.model.generation.word_bias.sum()}
        return weighted_sum(losses, self.loss), {k: v.detach() for k, v in losses.items()}

    def _refiner_alone(
        self,
        pictures: Tensor | EncodedPictures,
        truth: list[PictureTruth],
        closeups: Sequence[Closeup],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.model.mask_refiner is None or not isinstance(pictures, Tensor):
            raise ValueError(f"preset {self.model.cfg.name} has no mask refiner to train")
        with torch.no_grad():
            state = self.model.encode_image(pictures)
            pixels, coarse, drawn = windows(state, truth, closeups, self.model.draw_side)
            edges = GuidedFilter(pixels / 255)
        losses = outline_losses(self.model.refine_masks(pixels, coarse, edges).float(), drawn)
        return weighted_sum(losses, self.loss), {k: v.detach() for k, v in losses.items()}


def target_sentences(vocabulary: Vocabulary, samples: list[Sample], most: int) -> Tensor:
    """Word ids (B*E, T) of all expressions, begun and ended, without verbs and courtesies; those
    without a target, and those of ``most`` words or more, are rows of padding."""
    said = [
        bare(text) if meant.any() else ""
        for sample in samples
        for text, meant in zip(sample.texts, sample.truth.meant, strict=True)
    ]
    return vocabulary.encode(said, most)


class PretrainedClasses:
    """What the trunk from the wheel, which does not learn, takes the cells of pictures for."""

    def __init__(self, semantics: RegionSemantics, device: torch.device) -> None:
        self.trunk = EfficientNetLite0().eval().requires_grad_(False)
        load_trunk(self.trunk)
        layout = memory_format(device)
        self.trunk.to(device, memory_format=layout)  # type: ignore[call-overload]
        self.semantics = semantics

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        """Normalised pictures (B, 3, H, W) -> logits (B, cells, 1000)."""
        return self.semantics.classify(self.semantics.look(self.trunk(pictures)[-1]))


class OfficialStep(nn.Module):
    """The same for the official recipe: its loss, one expression a picture."""

    def __init__(self, model: ReLA, loss: OfficialWeights) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(
        self, images: Tensor, tokens: Tensor, mask: Tensor, union: Tensor, empty: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """``images`` (B, 3, H, W) normalised, ``tokens`` and ``mask`` (B, L), ``union`` (B, H, W)
        and ``empty`` (B,) as :func:`official_losses` takes them."""
        words = self.model.encode_text(tokens, mask)
        state = self.model.encode_image(images, words, mask)
        out = self.model.ground(state.repeat([1] * len(images)), words, mask)
        losses = official_losses(out, union, empty, self.model.cfg.minimap_side)
        return weighted_sum(losses, self.loss), {k: v.detach() for k, v in losses.items()}


class WordCache:
    """Word features of the frozen text encoder, computed once per expression.

    Always so many texts of so many words at a time: matrices of one size are multiplied in one way,
    so the last digit does not hang on what else is new, nor on when a run was resumed.
    """

    TEXTS, WORDS = 16, 8  # of a batch, and what its length is a multiple of

    def __init__(self, model: ReLA, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer
        self._features: dict[str, Tensor] = {}

    def __call__(self, texts: list[str], device: torch.device) -> tuple[Tensor, Tensor]:
        """Features (B, L, C) float32 and mask (B, L)."""
        self._encode(sorted(set(texts) - self._features.keys()), device)
        words = nn.utils.rnn.pad_sequence([self._features[t] for t in texts], True)
        lengths = torch.tensor([len(self._features[t]) for t in texts])
        mask = (torch.arange(words.shape[1])[None] < lengths[:, None]).long()
        return words.float().to(device), mask.to(device)

    @torch.no_grad()
    def _encode(self, texts: list[str], device: torch.device) -> None:
        lengths = {text: self.tokenizer([text])[1].shape[1] for text in texts}
        by_length: dict[int, list[str]] = {}
        for text, length in lengths.items():
            by_length.setdefault(length + -length % self.WORDS, []).append(text)
        for width, group in by_length.items():
            group += group[:1] * (-len(group) % self.TEXTS)
            for i in range(0, len(group), self.TEXTS):
                some = group[i : i + self.TEXTS]
                tokens, mask = (t.to(device) for t in self.tokenizer(some, pad_to=width))
                features = self.model.encode_text(tokens, mask).half().cpu()
                for text, feature in zip(some, features, strict=True):
                    self._features[text] = feature[: lengths[text]].clone()


class RegionCache:
    """Regions of a frozen image part, computed once a picture and kept in half precision (0.7 MB
    each). The words then learn several times faster than with a pass over the pixels."""

    def __init__(self, model: ReLA) -> None:
        self.model = model
        self._kept: dict[int, tuple[tuple[Tensor, ...], tuple[Tensor, Tensor]]] = {}

    @torch.no_grad()
    def __call__(self, samples: list[Sample], device: torch.device) -> EncodedPictures:
        """The samples' pictures in their order. Features of pictures of several sizes go on as
        they end at the edge: so must the truth (:func:`pad_alike` with "replicate")."""
        for sample in samples:
            if sample.index not in self._kept:
                self._kept[sample.index] = self._encode(sample, device)
        kept = [self._kept[s.index] for s in samples]
        height, width = (max(parts[2].shape[k] for parts, _ in kept) for k in (1, 2))
        features, boxes = [], []
        for (_, _, feature, box), _ in kept:
            h, w = feature.shape[1:]
            features.append(F.pad(feature.float(), (0, width - w, 0, height - h), "replicate"))
            boxes.append(box.float() * torch.tensor([w / width, h / height] * 2))
        regions, position = (
            torch.stack([parts[k] for parts, _ in kept], 1).float().to(device) for k in (0, 1)
        )
        maps = torch.stack(features).to(device)
        found = torch.stack(boxes).to(device)
        state = RegionState([], [], [], maps, regions, position, maps, boxes=found)
        matches = [(regions.to(device), objects.to(device)) for _, (regions, objects) in kept]
        return EncodedPictures(state, matches)

    def _encode(
        self, sample: Sample, device: torch.device
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, Tensor]]:
        """Alone: among others the last digit would hang on them, and on when a run was resumed."""
        images = self.model.normalise([sample.pixels.to(device)])
        state = self.model.encode_image(images.contiguous(memory_format=memory_format(device)))
        _, [(regions, objects)] = instance_losses(state, [sample.truth.to(device)])
        assert state.boxes is not None
        parts = (
            state.regions[:, 0],
            state.region_position[:, 0],
            state.mask_features[0],
            state.boxes[0],
        )
        return tuple(part.half().cpu() for part in parts), (regions.cpu(), objects.cpu())
