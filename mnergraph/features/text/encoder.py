"""Text encoders and their tokenizers: pretrained, loaded by name or folder, or tiny and randomly initialized."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy
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
from transformers.utils import is_sentencepiece_available
from transformers.utils import logging as hf_logging

from mnergraph.features.text.word_embeddings import VOCABULARY_FILE, WordVectors, word_vectors_from_config
from mnergraph.features.text.word_pieces import MAX_WORD_PIECE_CHARACTERS, WordTokenizer
from mnergraph.graph import node_types

#: Name of the tiny encoder with random weights.
TINY = "tiny-random"
#: The file of an encoder's name, in the folder of a saved one.
NAME_FILE = "name.txt"


_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


#: The layers from input embeddings to hidden size, of ELECTRA, ALBERT and DeBERTa.
_PROJECTIONS = ("embeddings_project", "encoder.embedding_hidden_mapping_in", "embeddings.embed_proj")


class TextEncoderModel:
    """A Hugging Face encoder with its tokenizer and its name.

    Not a dataclass, since `ModelHubMixin` would copy its weights into every model's settings.

    Args:
        model: a Hugging Face encoder, called with ``input_ids`` and ``attention_mask``.
        tokenizer: its tokenizer, which splits words one by one.
        name: hub name, name of the folder, or `TINY`.

    Raises:
        ValueError: for a model that is no text encoder: of another input, with a decoder, or without a table of
            embeddings.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: WordTokenizer, name: str) -> None:
        self.model, self.tokenizer, self.name = model, tokenizer, name
        if fault := _fault(model):
            raise ValueError(
                f"{name}: {type(model).__name__} {fault}; mnergraph takes text encoders, such as BERT or RoBERTa"
            )

    @property
    def characters(self) -> None:
        """None: the word pieces encode the spelling."""

    @property
    def hidden_size(self) -> int:
        """Size of the hidden state of a word piece."""
        return self.model.config.hidden_size

    @property
    def embedding_projection(self) -> nn.Module | None:
        """The model's layer from input embeddings to hidden size; None where they have this size.

        Raises:
            ValueError: for embeddings of another size in a model that has no such layer.
        """
        size = self.model.get_input_embeddings().embedding_dim
        if size == self.hidden_size:
            return None
        for name in _PROJECTIONS:
            try:
                layer: nn.Module = self.model.get_submodule(name)
            except AttributeError:
                continue
            return layer
        raise ValueError(
            f"{self.name}: the input embeddings of {type(self.model).__name__} have {size} features and its states "
            f"{self.hidden_size}, and what maps one to the other is not known here (known: {', '.join(_PROJECTIONS)})"
        )

    @property
    def num_segments(self) -> int:
        """Number of segments (``token_type_ids``) that the model has embeddings of; 1 for models without."""
        takes = "token_type_ids" in inspect.signature(self.model.forward).parameters
        return max(1, getattr(self.model.config, "type_vocab_size", 0) or 0) if takes else 1

    def check_label_embeddings(self) -> None:
        """Check that the labels of objects can be represented by the input embeddings.

        Raises:
            ValueError: when these have another size than the states and no known projection, or the model takes no
                embeddings in the place of ids; with what to do.
        """
        advice = "take another encoder, or a model that reads no labels of objects"
        try:
            _ = self.embedding_projection
        except ValueError as error:
            raise ValueError(f"{error}; {advice}") from None
        if "inputs_embeds" not in inspect.signature(self.model.forward).parameters:
            raise ValueError(f"{self.name}: {type(self.model).__name__} takes no embeddings as input; {advice}")

    @property
    def max_length(self) -> int:
        """Maximum length of an input in word pieces, special ones included."""
        positions = getattr(self.model.config, "max_position_embeddings", None)
        limit = self.tokenizer.tokenizer.model_max_length
        if not positions or positions < 0:
            return limit
        # RoBERTa numbers positions from padding_idx + 1
        skipped = getattr(getattr(self.model, "embeddings", None), "padding_idx", -1) + 1
        return min(positions - skipped, limit)

    def save(self, folder: Path) -> None:
        """Write configuration and tokenizer; the weights are saved with the model that uses them.

        What loading them added is left out: where from, and the name of code that the hub has for this encoder
        (``auto_map``), as transformers' own is used.
        """
        config, tokenizer = copy(self.model.config), copy(self.tokenizer.tokenizer)
        vars(config).pop("auto_map", None)
        added = ("auto_map", "is_local", "local_files_only")
        tokenizer.init_kwargs = {name: value for name, value in tokenizer.init_kwargs.items() if name not in added}
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / NAME_FILE).write_text(self.name + "\n", encoding="utf-8")


def load_encoder(name: str | os.PathLike[str]) -> TextEncoderModel:
    """Load a Hugging Face encoder by hub name or folder.

    Raises:
        OSError: when it is neither a folder nor available from the hub; the message describes valid values.
        ValueError: for a model that is no text encoder (see `TextEncoderModel`), or a tokenizer that does not split
            words on their own as in running text (see `WordTokenizer`).
    """
    try:
        with without_progress_bars(), _hub_errors_only():
            tokenizer = AutoTokenizer.from_pretrained(name, add_prefix_space=True, trust_remote_code=False)
            model = AutoModel.from_pretrained(name, dtype=torch.float32, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        # transformers asks for its second choice of a reader, tiktoken
        unread = "tiktoken" in str(error) and not is_sentencepiece_available()
        hint = ", or pip install 'mnergraph[sentencepiece]' if its tokenizer is an spm.model or the like" * unread
        raise OSError(
            f"no text encoder at {os.fspath(name)!r}: give the name of a Hugging Face encoder while online, "
            f"or a folder with its config.json, model.safetensors and tokenizer.json{hint} ({error})"
        ) from error
    display_name = Path(name).name if Path(name).is_dir() else str(name)
    return TextEncoderModel(_without_pooler(model), WordTokenizer(tokenizer), display_name)


def _model_from_config(folder: str | os.PathLike[str]) -> TextEncoderModel:
    """Return the encoder saved in a folder by `TextEncoderModel.save`, with random weights.

    Raises:
        ValueError: for a file that describes no encoder, or a tokenizer with more pieces than the encoder has; names
            the file.
    """
    folder = Path(folder)
    with _naming(folder / "config.json"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        model = AutoModel.from_config(config, trust_remote_code=False)
        pieces = model.get_input_embeddings().weight.shape[0]
    with _naming(folder / "tokenizer.json"):
        inner = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        if inner.vocab_size > pieces:
            raise ValueError(f"{inner.vocab_size:,} pieces, and the encoder has vectors of {pieces:,}")
        tokenizer = WordTokenizer(inner)
    with _naming(folder / NAME_FILE):
        name = (folder / NAME_FILE).read_text(encoding="utf-8").strip()
    encoder = TextEncoderModel(_without_pooler(model), tokenizer, name)
    with _naming(folder / "tokenizer_config.json"):
        least = len(tokenizer.start) + len(tokenizer.end) + 1
        if encoder.max_length < least:
            raise ValueError(f"an input is at most {encoder.max_length} pieces long; right is {least} or more")
    return encoder


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Within it any error is a ValueError of one line that names this file of a saved encoder."""
    try:
        yield
    except Exception as error:  # transformers and tokenizers raise many types
        kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
        line = " ".join(str(error).split())[:400]
        raise ValueError(f"{path} does not fit a saved encoder: {kind}{line}") from error


def tiny_encoder(
    words: Iterable[str] = (), *, hidden_size: int = 64, num_layers: int = 2, heads: int = 4, max_length: int = 512
) -> TextEncoderModel:
    """Return a tiny randomly initialized BERT with its own vocabulary, for tests and the quickstart.

    The vocabulary holds the printable ASCII characters, as words and as continuation pieces, and the given words in
    lower case; other words are split into characters. The weights depend on torch's random state.
    """
    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    lowered = [word.lower() for word in words]
    vocabulary = dict.fromkeys([*_SPECIAL_TOKENS, *characters, *("##" + c for c in characters), *lowered])
    ids = {piece: index for index, piece in enumerate(vocabulary)}
    inner = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=MAX_WORD_PIECE_CHARACTERS))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.decoder = decoders.WordPiece()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
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
    """Disable transformers' progress bar for loading weights; downloads keep theirs."""
    if not hf_logging.is_progress_bar_enabled() or are_progress_bars_disabled():
        yield  # the caller has configured progress bars
        return
    hf_logging.disable_progress_bar()
    enable_progress_bars()  # of huggingface_hub, which the line above disables too
    try:
        yield
    finally:
        hf_logging.enable_progress_bar()


@contextmanager
def _hub_errors_only() -> Iterator[None]:
    """Silence huggingface_hub's log of failed requests; what fails in the end is raised."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _without_pooler(model: PreTrainedModel) -> PreTrainedModel:
    """Remove the pooling layer, whose output is unused, so that it has no parameters without gradient."""
    if getattr(model, "pooler", None) is not None:
        optional = "add_pooling_layer" in inspect.signature(type(model).__init__).parameters
        model.pooler = None if optional else nn.Identity()
    return model


def _fault(model: PreTrainedModel) -> str:
    """Return why a model can't encode the pieces of words; empty if it can."""
    if model.main_input_name != "input_ids":
        return f"reads {model.main_input_name}, not the pieces of words"
    if model.config.is_encoder_decoder:
        return "has a decoder"
    if getattr(model.config, "hidden_size", None) is None:
        return "has no states of one size"
    try:
        is_table = isinstance(model.get_input_embeddings(), nn.Embedding)
    except NotImplementedError:
        is_table = False
    return "" if is_table else "has no table of input embeddings"


class Encoder(Protocol):
    """Interface of text encoders; `TextEncoderModel` and `WordVectors` implement it.

    The layer `TextEncoder` takes a `TextEncoderModel`, `WordEncoder` takes `WordVectors`.
    """

    @property
    def model(self) -> nn.Module:
        """The trainable module."""

    @property
    def tokenizer(self) -> node_types.Tokenizer:
        """Maps words to the input ids of the model."""

    @property
    def characters(self) -> node_types.Tokenizer | None:
        """Maps words to character ids for character-level encoders; None for word-piece encoders."""

    @property
    def name(self) -> str:
        """Name in metadata and results."""

    @property
    def hidden_size(self) -> int:
        """Size of the vector of a token."""

    def save(self, folder: Path) -> None:
        """Write everything but the weights, for `encoder_from_config`."""


def encoder_from_config(folder: str | os.PathLike[str]) -> TextEncoderModel | WordVectors:
    """Return the encoder saved in a folder by ``save``, of either class, with weights yet to be loaded."""
    folder = Path(folder)
    if (folder / VOCABULARY_FILE).is_file():
        return word_vectors_from_config(folder)
    return _model_from_config(folder)
