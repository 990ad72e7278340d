"""A text encoder and its tokenizer: pretrained by name or folder, or tiny and randomly initialised."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as hf_logging

from mnergraph.features.text.word_embeddings import VOCABULARY_FILE, WordVectors
from mnergraph.features.text.word_embeddings import word_vectors_from_config as _untrained_vectors
from mnergraph.features.text.word_pieces import WordTokenizer
from mnergraph.graph import node_types

#: What stands wherever the tiny encoder appears: it knows nothing but what training teaches it.
TINY = "tiny-random"


_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class TextEncoderModel:
    """A text encoder, its tokenizer and the name it goes by.

    No dataclass: `ModelHubMixin` would copy its weights into every model's settings.

    Args:
        model: a Hugging Face encoder; called with ``input_ids`` and ``attention_mask``.
        pieces: its tokenizer, read word by word.
        name: hub name, folder's name, or `TINY`.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: WordTokenizer, name: str) -> None:
        self.model, self.tokenizer, self.name = model, tokenizer, name

    @property
    def characters(self) -> None:
        """It has no alphabet: its pieces tell of a word's spelling."""

    @property
    def hidden_size(self) -> int:
        """Width of the states that it gives every piece."""
        return self.model.config.hidden_size

    @property
    def max_length(self) -> int:
        """Pieces that it reads at once, special ones included."""
        positions = getattr(self.model.config, "max_position_embeddings", None)
        limit = self.tokenizer.tokenizer.model_max_length
        if not positions or positions < 0:
            return limit
        # RoBERTa and its kin count positions from behind the padding index
        skipped = getattr(getattr(self.model, "embeddings", None), "padding_idx", -1) + 1
        return min(positions - skipped, limit)

    def save(self, folder: Path) -> None:
        """Writes configuration and tokenizer, not the weights: those belong to the model that uses them."""
        self.model.config.save_pretrained(folder)
        self.tokenizer.tokenizer.save_pretrained(folder)
        (folder / "name.txt").write_text(self.name + "\n", encoding="utf-8")


def load_encoder(name: str | os.PathLike[str]) -> TextEncoderModel:
    """Any Hugging Face encoder, by hub name or folder.

    Raises:
        OSError: when it is neither a folder nor to be had from the hub; the message says what to do.
    """
    try:
        with without_progress_bars():
            tokenizer = AutoTokenizer.from_pretrained(name, add_prefix_space=True)
            model = AutoModel.from_pretrained(name, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise OSError(
            f"no text encoder at {os.fspath(name)!r}: give the name of a Hugging Face encoder while online, "
            f"or a folder with its config.json, model.safetensors and tokenizer.json ({error})"
        ) from error
    display_name = Path(name).name if Path(name).is_dir() else str(name)
    return TextEncoderModel(_without_pooler(model), WordTokenizer(tokenizer), display_name)


def _model_from_config(folder: str | os.PathLike[str]) -> TextEncoderModel:
    """The encoder of a folder that `TextEncoderModel.save` wrote, with random weights, to load others into."""
    folder = Path(folder)
    model = AutoModel.from_config(AutoConfig.from_pretrained(folder))
    name = (folder / "name.txt").read_text(encoding="utf-8").strip()
    return TextEncoderModel(_without_pooler(model), WordTokenizer(AutoTokenizer.from_pretrained(folder)), name)


def tiny_encoder(
    words: Iterable[str] = (), *, hidden_size: int = 64, num_layers: int = 2, heads: int = 4, max_length: int = 512
) -> TextEncoderModel:
    """A tiny randomly initialised BERT with its own vocabulary, for tests and the quickstart.

    Its vocabulary is the printable ASCII characters, as whole words and as pieces, and the words given, in
    lower case; so it spells what it does not know. Torch's random state decides its weights.
    """
    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    known = [word.lower() for word in words]
    vocabulary = dict.fromkeys([*_SPECIAL_TOKENS, *characters, *("##" + c for c in characters), *known])
    ids = {piece: place for place, piece in enumerate(vocabulary)}
    inner = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=10_000))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.decoder = decoders.WordPiece()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_max_length=max_length,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    config = BertConfig(
        vocab_size=len(ids),
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=heads,
        intermediate_size=2 * hidden_size,
        max_position_embeddings=max_length,
    )
    return TextEncoderModel(BertModel(config, add_pooling_layer=False), WordTokenizer(tokenizer), TINY)


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Without transformers' bar for reading weights; downloads, which may take minutes, keep theirs."""
    if not hf_logging.is_progress_bar_enabled() or are_progress_bars_disabled():
        yield  # somebody chose what to see
        return
    hf_logging.disable_progress_bar()
    enable_progress_bars()  # of huggingface_hub, which the line above has switched off too
    try:
        yield
    finally:
        hf_logging.enable_progress_bar()


def _without_pooler(model: PreTrainedModel) -> PreTrainedModel:
    """The model less the pooling layer that some carry: nothing reads it, so it would never learn."""
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model


class Encoder(Protocol):
    """What every model needs of its text encoder; `TextEncoderModel` and `WordVectors` are the two.

    Which of them a model takes, the layer says that reads it: `TextEncoder` a Backbone, `WordEncoder` word
    vectors.
    """

    @property
    def model(self) -> nn.Module:
        """What is learned of it."""

    @property
    def tokenizer(self) -> node_types.Tokenizer:
        """Words to the ids that the model reads."""

    @property
    def characters(self) -> node_types.Tokenizer | None:
        """Words to their characters, for models that read spelling; None where the pieces tell of it."""

    @property
    def name(self) -> str:
        """What it is called in records."""

    @property
    def hidden_size(self) -> int:
        """Features of what it gives each piece."""

    def save(self, folder: Path) -> None:
        """Writes all but the weights, for `encoder_from_config`."""


def encoder_from_config(folder: str | os.PathLike[str]) -> TextEncoderModel | WordVectors:
    """The encoder of a folder that ``save`` wrote, whichever it was, to load weights into."""
    folder = Path(folder)
    if (folder / VOCABULARY_FILE).is_file():
        return _untrained_vectors(folder)
    return _model_from_config(folder)
