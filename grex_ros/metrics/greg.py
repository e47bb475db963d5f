"""GREG: how close a generated expression comes to what people said of the same set of objects,
and whether it finds that set again.

No-target is no part of GREG. There is no official evaluator; what is counted here, and by what:

    BLEU-1..4  pycocoevalcap: of the corpus, length of the closest reference
    ROUGE-L    pycocoevalcap: best precision and best recall over the references, beta 1.2
    CIDEr      pycocoevalcap: CIDEr-D, 1 to 4 words, sigma 6, times 10
    METEOR     nltk: exact words, then Porter stems, no WordNet synonyms; alpha 0.9, beta 3,
               gamma 0.5; the best reference of each

pycocoevalcap holds the COCO caption code, by which published expressions are scored, too. Of it
only Python parts run: its METEOR 1.5 and its tokenizer need Java, so METEOR differs from published
ones. Words are what ``tokenize`` gives, for expressions and references alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from .grec import as_boxes, count_matches, overlaps
from .strata import summarise_each

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


@dataclass(frozen=True)
class GregSample:
    """An expression generated for a set of ``targets`` objects (1 or more), the ``references`` said
    of that set, and whether the expression, grounded, ``found`` the set again; None = not asked."""

    text: str
    references: tuple[str, ...]
    targets: int
    found: bool | None = None


@dataclass(frozen=True)
class GregScores:
    """Scores of a set of expressions in percent; None where nothing was there to be scored.

    CIDEr in percent runs to 1000: expressions that equal all their references have more than 100.
    ``consistency`` is the share of expressions that found their set again.
    """

    expressions: int
    references: float | None  # of an expression, on average
    bleu1: float | None
    bleu2: float | None
    bleu3: float | None
    bleu4: float | None
    rouge_l: float | None
    meteor: float | None
    cider: float | None
    consistency: float | None


@dataclass(frozen=True)
class _Scored:
    sample: GregSample
    words: str
    references: list[str]
    rouge_l: float
    meteor: float
    cider: float | None


def tokenize(text: str) -> list[str]:
    """The words in lower case: letters and digits, an apostrophe inside; hyphens part words."""
    return _WORD.findall(text.lower())


def same_set(
    boxes: npt.ArrayLike, targets: npt.ArrayLike, *, overlap_threshold: float = 0.5
) -> bool:
    """Whether boxes (N, 4) are the targets (M, 4), (x0, y0, x1, y1) in pixels: N = M, and all pair
    up by IoU, the best pair first."""
    found, wanted = as_boxes(boxes), as_boxes(targets)
    if len(found) != len(wanted):
        return False
    return count_matches(overlaps(found, wanted, "iou"), overlap_threshold) == len(wanted)


def summarise(samples: Iterable[GregSample]) -> dict[str, GregScores]:
    """Scores of all ("overall"), and of those that mean one object ("single") and several
    ("multi").

    What is common and what is rare, which CIDEr weighs, is counted over all samples; it is None
    for a single one, where nothing is common or rare. Raises ValueError for a sample without a
    target or without a reference with a word in it, ImportError without nltk and pycocoevalcap.
    """
    scored = _score(list(samples))
    targets = [one.sample.targets for one in scored]
    return {"overall": _summary(scored), **summarise_each(scored, targets, _summary)}


def implementations() -> dict[str, str]:
    """What each score is counted by, versions included, for a report."""
    coco = f"pycocoevalcap {metadata.version('pycocoevalcap')}"
    nltk = f"nltk {metadata.version('nltk')}"
    return {
        "BLEU": f"{coco}, corpus BLEU, closest reference length",
        "ROUGE-L": f"{coco}, beta 1.2, best reference",
        "CIDEr": f"{coco}, CIDEr-D",
        "METEOR": f"{nltk}, exact words and Porter stems, no WordNet; not METEOR 1.5",
        "words": "lower case; letters and digits with inner apostrophes",
    }


def load_scorers() -> SimpleNamespace:
    """The libraries' parts; the ImportError of a missing one says how to get it."""
    try:
        from nltk.stem.porter import PorterStemmer
        from nltk.translate.meteor_score import meteor_score
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge
    except ImportError as error:
        raise ImportError(
            "GREG is counted by nltk and pycocoevalcap: pip install nltk pycocoevalcap"
        ) from error
    stemmer = PorterStemmer()
    no_synonyms = SimpleNamespace(synsets=lambda word: [])  # WordNet would have to be downloaded

    def meteor(references: Sequence[str], text: str) -> float:
        split = [reference.split() for reference in references]
        return float(meteor_score(split, text.split(), stemmer=stemmer, wordnet=no_synonyms))

    return SimpleNamespace(bleu=Bleu, cider=Cider, rouge=Rouge, meteor=meteor)


def _score(samples: Sequence[GregSample]) -> list[_Scored]:
    scorers = load_scorers()
    texts, references = [], []
    for sample in samples:
        said = [" ".join(tokenize(reference)) for reference in sample.references]
        said = [reference for reference in said if reference]
        if sample.targets < 1:
            raise ValueError(f"{sample.text!r}: GREG is about one object or more")
        if not said:
            raise ValueError(f"{sample.text!r}: no reference with a word in it")
        texts.append(" ".join(tokenize(sample.text)))
        references.append(said)
    cider: Sequence[float | None] = [None] * len(texts)
    if len(texts) > 1:
        cider = scorers.cider().compute_score(*_as_coco(texts, references))[1].tolist()
    return [
        _Scored(
            sample,
            text,
            said,
            float(scorers.rouge().calc_score([text], said)) if text else 0.0,
            scorers.meteor(said, text),
            rarity,
        )
        for sample, text, said, rarity in zip(samples, texts, references, cider, strict=True)
    ]


def _summary(scored: Sequence[_Scored]) -> GregScores:
    bleu: tuple[float | None, ...] = (None,) * 4
    if scored:
        pairs = _as_coco([one.words for one in scored], [one.references for one in scored])
        found_bleu = load_scorers().bleu(4).compute_score(*pairs, verbose=0)[0]
        bleu = tuple(100 * value for value in found_bleu)
    bleu_1, bleu_2, bleu_3, bleu_4 = bleu
    found = [one.sample.found for one in scored if one.sample.found is not None]
    rarity = [one.cider for one in scored if one.cider is not None]
    return GregScores(
        len(scored),
        _mean([len(one.references) for one in scored]),
        bleu_1,
        bleu_2,
        bleu_3,
        bleu_4,
        rouge_l=_mean([100 * one.rouge_l for one in scored]),
        meteor=_mean([100 * one.meteor for one in scored]),
        cider=_mean([100 * value for value in rarity]),
        consistency=_mean([100.0 * value for value in found]),
    )


def _as_coco(
    texts: Sequence[str], references: Sequence[list[str]]
) -> tuple[dict[int, Any], dict[int, Any]]:
    return dict(enumerate(references)), {i: [text] for i, text in enumerate(texts)}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
