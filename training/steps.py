"""What one training step computes: the model with its loss, and features that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from grex_ros.model.efficientnet import EfficientNetLite0
from grex_ros.model.generation import PAD, UNKNOWN, Vocabulary
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
from training.parameters import load_trunk, memory_format
from training.regions import EncodedPictures, Looks


class TrainingStep(nn.Module):
    """The model with its loss, so that one forward call does a whole training step.

    ``only`` one part learns, or with an empty text all: "generation"; "regions", what finds
    objects; "refiner", what draws masks anew; "looks", what a close look adds.
    """

    def __init__(
        self,
        model: ReLA,
        loss: LossWeights,
        only: str = "",
    ) -> None:
        super().__init__()
        self.model, self.loss, self.only = model, loss, only

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
        plain: Sequence[Tensor] = (),
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """``pictures`` (B, 3, H, W) normalised, or what a frozen image part made of them;
        ``words`` (B*E, L, C) in the order of ``truth``; ``phrases`` are all names in ``truth``,
        ``phrase_words`` their features and mask; ``sentences`` (B*E, T) see
        :func:`target_sentences`; ``classes`` see :class:`PretrainedClasses`; ``closeups`` of the
        pictures, for the refiner; ``plain`` each picture (3, h, w) uint8, for a close look."""
        if self.only == "regions":
            return self._regions_alone(pictures, truth, classes)
        if self.only == "refiner":
            return self._refiner_alone(pictures, truth, closeups)
        if self.only == "generation":
            return self._generation_alone(pictures, truth, sentences, plain)
        if self.only == "looks":
            return self._looks_alone(pictures, truth, phrases, phrase_words)
        if isinstance(pictures, EncodedPictures):
            state, matches = pictures.state, pictures.matches
            losses: dict[str, Tensor] = {}
        else:
            state = self.model.encode_image(pictures)
            no_object = torch.zeros(0, dtype=torch.int64, device=pictures.device)
            losses, matches = {}, [(no_object, no_object)] * len(truth)
            if state.layers:
                losses, matches = instance_losses(state, truth)
        state = self._look(pictures, state, plain)
        out = self.model.ground(state.repeat([len(t.meant) for t in truth]), words, mask)
        cfg = self.model.cfg
        side = 0 if cfg.region_proposals else cfg.minimap_side
        losses |= language_losses(out, truth, matches, side)
        if not isinstance(pictures, EncodedPictures) or pictures.looks is not None:
            losses |= self._naming(state, truth, matches, phrases, phrase_words)
        losses |= self._cells(state, truth, classes)
        if sentences is not None:
            losses |= self._generation(state, truth, matches, sentences)
        return weighted_sum(losses, self.loss), {k: v.detach() for k, v in losses.items()}

    def _cells(
        self, state: RegionState, truth: list[PictureTruth], classes: Tensor | None
    ) -> dict[str, Tensor]:
        """What the cells of the maps show of objects and of ImageNet's classes."""
        losses: dict[str, Tensor] = {}
        semantics = self.model.region_decoder.semantics
        if classes is not None and semantics is not None and state.looks is not None:
            losses["semantics"] = semantics_loss(semantics.classify(state.looks), classes)
        if state.proposals is not None:
            losses |= proposal_losses(state.proposals, truth)
        return losses

    def _naming(
        self,
        state: RegionState,
        truth: list[PictureTruth],
        matches: list[tuple[Tensor, Tensor]],
        phrases: list[str],
        phrase_words: tuple[Tensor, Tensor],
    ) -> dict[str, Tensor]:
        """How well the regions of objects fit their names."""
        decoder, adapter = self.model.region_decoder, self.model.text_adapter
        if decoder.alignment is None or adapter is None:
            return {}
        picture, region, item = flat_matches(matches)
        regions = state.regions[region, picture]
        pairs = zip(picture.tolist(), item.tolist(), strict=True)
        names = [truth[i].names[k] for i, k in pairs]
        adapted = adapter(*phrase_words)
        logits = decoder.alignment(decoder.head.norm(regions), adapted, phrase_words[1])
        return {"alignment": alignment_loss(logits, names, phrases)}

    def _look(
        self, pictures: Tensor | EncodedPictures, state: RegionState, plain: Sequence[Tensor]
    ) -> RegionState:
        """The state after a close look. Where the image part learns, it is at the pictures as they
        are seen: what is done to them is done at that size."""
        if self.model.close_look is None:
            return state
        if isinstance(pictures, EncodedPictures):
            assert pictures.looks is not None
            looks = pictures.looks
        else:
            looks = Looks.at(self.model, state, [(picture, picture) for picture in plain])
        return looks.told(self.model.close_look, state)

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
        plain: Sequence[Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.model.generation is None or sentences is None:
            raise ValueError(f"preset {self.model.cfg.name} has no generation head to train")
        with torch.no_grad():
            if isinstance(pictures, EncodedPictures):
                state, matches = pictures.state, pictures.matches
            else:
                state = self.model.encode_image(pictures)
                _, matches = instance_losses(state, truth)
            state = self._look(pictures, state, plain)
        losses = self._generation(state, truth, matches, sentences)
        if not losses:  # no expression of this batch has a target
            losses = {"generation": 0 * self.model.generation.word_bias.sum()}
        return weighted_sum(losses, self.loss), {k: v.detach() for k, v in losses.items()}

    def _looks_alone(
        self,
        pictures: Tensor | EncodedPictures,
        truth: list[PictureTruth],
        phrases: list[str],
        phrase_words: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if not isinstance(pictures, EncodedPictures) or pictures.looks is None:
            raise ValueError(f"preset {self.model.cfg.name} has no close look to train")
        # What has no name is not learned from.
        seen = replace(pictures, looks=pictures.looks.of(pictures.matches))
        state = self._look(seen, seen.state, [])
        losses = self._naming(state, truth, pictures.matches, phrases, phrase_words)
        return weighted_sum(losses, self.loss), {k: v.detach() for k, v in losses.items()}

    def _regions_alone(
        self, pictures: Tensor | EncodedPictures, truth: list[PictureTruth], classes: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if not (self.model.cfg.image_layers and isinstance(pictures, Tensor)):
            raise ValueError(f"preset {self.model.cfg.name} finds no regions without words")
        state = self.model.encode_image(pictures)
        losses, _ = instance_losses(state, truth)
        losses |= self._cells(state, truth, classes)
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
    without a target, those of ``most`` words or more and those with a word that is not in the
    vocabulary are rows of padding."""
    said = [
        bare(text) if meant.any() else ""
        for sample in samples
        for text, meant in zip(sample.texts, sample.truth.meant, strict=True)
    ]
    rows = vocabulary.encode(said, most)
    rows[(rows == UNKNOWN).any(1)] = PAD
    return rows


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
