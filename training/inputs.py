"""From samples to what a training step takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from grex_ros.model.rela import ReLA
from grex_ros.model.text_encoder import tokenizer_for
from training.config import TrainConfig
from training.dataset.samples import OfficialSample, Sample, pad_alike
from training.steps import (
    EncodedPictures,
    PretrainedClasses,
    RegionCache,
    WordCache,
    target_sentences,
)


class StepInputs:
    """Arguments of :class:`TrainingStep` and :class:`OfficialStep`, with what is computed once: the
    words of a frozen text encoder, the regions of a frozen image part."""

    def __init__(self, model: ReLA, config: TrainConfig, device: torch.device) -> None:
        self.model, self.config, self.device = model, config, device
        self.tokenizer = tokenizer_for(model.cfg)
        self.words = WordCache(model, self.tokenizer)
        self.regions = RegionCache(model)
        semantics = model.region_decoder.semantics
        frozen = config.freeze_image or config.freeze_grounding
        self.classes = None
        if semantics is not None and config.loss.semantics and not frozen:
            self.classes = PretrainedClasses(semantics, device)

    def __call__(self, samples: Sequence[Any]) -> tuple[Any, ...]:
        """Of one batch, on the device."""
        if self.model.cfg.text_wheel:
            return self._objects(list(samples))
        return self._official(samples)

    def _objects(self, samples: list[Sample]) -> tuple[Any, ...]:
        device = self.device
        sentences = None
        if (head := self.model.generation) is not None:
            sentences = target_sentences(head.vocabulary, samples, head.most).to(device)
        texts = [] if self.config.freeze_grounding else [t for s in samples for t in s.texts]
        words, mask = self.words(texts, device) if texts else (torch.empty(0), torch.empty(0))
        pictures: Tensor | EncodedPictures
        classes = None
        if self.config.freeze_image:
            pictures = self.regions(samples, device)
            samples = pad_alike(samples, "replicate")
        else:
            pictures = self._images(samples)
            classes = self.classes(pictures) if self.classes else None
            samples = pad_alike(samples)
        truth = [s.truth.to(device) for s in samples]
        phrases = sorted({name for t in truth for name in t.names}) if texts else []
        phrase_words = self.words(phrases, device) if texts else (words, mask)
        return pictures, words, mask, truth, phrases, phrase_words, sentences, classes

    def _official(self, samples: Sequence[OfficialSample]) -> tuple[Tensor, ...]:
        texts = [s.text for s in samples]
        tokens, mask = self.tokenizer(texts, pad_to=self.model.cfg.max_tokens)
        union = torch.stack([s.union for s in samples])
        empty = torch.tensor([s.empty for s in samples])
        given = (t.to(self.device) for t in (tokens, mask, union, empty))
        return self._images(samples), *given

    def _images(self, samples: Sequence[Sample | OfficialSample]) -> Tensor:
        images = self.model.normalise(
            [s.pixels.to(self.device, non_blocking=True) for s in samples]
        )
        return images.contiguous(memory_format=torch.channels_last)
