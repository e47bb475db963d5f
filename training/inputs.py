"""From samples to what a training step takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from grex_ros.model.generation import Vocabulary
from grex_ros.model.rela import ReLA
from grex_ros.model.text_encoder import Tokenizer, tokenizer_for
from training.config import TrainConfig
from training.dataset.samples import Batch, OfficialSample, Sample, pad_alike
from training.parameters import memory_format
from training.regions import EncodedPictures, RegionCache
from training.steps import PretrainedClasses, WordCache, target_sentences


class Collate:
    """What a DataLoader's worker makes of samples, so that the process which trains has little to
    do beside it: a :class:`Batch`, or the list of :class:`OfficialSample` as it is."""

    def __init__(
        self, tokenizer: Tokenizer | None, vocabulary: Vocabulary | None, most: int
    ) -> None:
        """``tokenizer`` where the texts are to be encoded anew; ``vocabulary`` and ``most`` words
        of the generation head, where there is one."""
        self.tokenizer, self.vocabulary, self.most = tokenizer, vocabulary, most

    def __call__(self, samples: list[Any]) -> Any:
        """In the order of the samples."""
        if not isinstance(samples[0], Sample):
            return samples
        batch = Batch.of(samples)
        if self.tokenizer is not None:
            batch.words = self.tokenizer([text for sample in samples for text in sample.texts])
        if self.vocabulary is not None:
            batch.sentences = target_sentences(self.vocabulary, samples, self.most)
        return batch


class StepInputs:
    """Arguments of :class:`TrainingStep` and :class:`OfficialStep`, with what is computed once: the
    words of a frozen text encoder, the regions of a frozen image part."""

    def __init__(
        self, model: ReLA, config: TrainConfig, device: torch.device, regions: RegionCache
    ) -> None:
        self.model, self.config, self.device = model, config, device
        self.tokenizer = tokenizer_for(model.cfg)
        self.words = WordCache(model, self.tokenizer)
        self.regions = regions
        head = model.generation
        if head is None or config.only not in ("", "generation"):
            vocabulary, most = None, 0
        else:
            vocabulary, most = head.vocabulary, head.most
        # A CPU encodes each text once; a GPU all of a batch in less time than it looks them up.
        self.alone = bool(config.only)  # no words are needed
        anew = device.type != "cpu" and not self.alone
        self.collate = Collate(self.tokenizer if anew else None, vocabulary, most)
        semantics = model.region_decoder.semantics
        learns = any(parameter.requires_grad for parameter in model.backbone.parameters())
        self.classes = None
        if semantics is not None and config.loss.semantics and learns:
            self.classes = PretrainedClasses(semantics, device)

    def __call__(self, samples: Batch | Sequence[OfficialSample]) -> dict[str, Any]:
        """By name, of one batch as :attr:`collate` makes it, on the device."""
        if isinstance(samples, Batch):
            return self._objects(samples)
        return self._official(samples)

    def _objects(self, batch: Batch) -> dict[str, Any]:
        device, samples = self.device, batch.samples(self.device)
        sentences = None if batch.sentences is None else batch.sentences.to(device)
        words, mask = torch.empty(0), torch.empty(0)
        if not self.alone:
            words, mask = self._words(batch, [t for s in samples for t in s.texts])
        pictures: Tensor | EncodedPictures
        classes = None
        if self.config.freeze_image:
            pictures = self.regions(samples, device)
            samples = pad_alike(samples, "replicate")
        else:
            pictures = self._images(samples)
            classes = self.classes(pictures) if self.classes else None
            samples = pad_alike(samples)
        truth = [s.truth for s in samples]
        named = not self.alone or self.config.only_looks
        phrases = sorted({name for t in truth for name in t.names}) if named else []
        return {
            "pictures": pictures,
            "words": words,
            "mask": mask,
            "truth": truth,
            "phrases": phrases,
            "phrase_words": self.words(phrases, device) if phrases else (words, mask),
            "sentences": sentences,
            "classes": classes,
            "plain": [] if self.model.close_look is None else [s.pixels for s in samples],
            "closeups": [s.closeup for s in samples if s.closeup is not None],
        }

    def _words(self, batch: Batch, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Features and mask of ``texts``, which are those of ``batch``."""
        if batch.words is None:
            return self.words(texts, self.device)
        tokens, mask = (x.to(self.device, non_blocking=True) for x in batch.words)
        with torch.no_grad():
            return self.model.encode_text(tokens, mask).float(), mask

    def _official(self, samples: Sequence[OfficialSample]) -> dict[str, Tensor]:
        texts = [s.text for s in samples]
        tokens, mask = self.tokenizer(texts, pad_to=self.model.cfg.max_tokens)
        given = {
            "images": self._images(samples),
            "tokens": tokens,
            "mask": mask,
            "union": torch.stack([s.union for s in samples]),
            "empty": torch.tensor([s.empty for s in samples]),
        }
        return {name: tensor.to(self.device) for name, tensor in given.items()}

    def _images(self, samples: Sequence[Sample | OfficialSample]) -> Tensor:
        images = self.model.normalise(
            [s.pixels.to(self.device, non_blocking=True) for s in samples]
        )
        return images.contiguous(memory_format=memory_format(self.device))
