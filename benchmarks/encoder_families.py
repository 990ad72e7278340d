"""Tiny text encoders of every family: the real classes of transformers, with tokenizers trained on the spot.

They have the form of the pretrained encoders, not their weights, so that what a family's tokenizer, embeddings and
positions ask of the package can be tried without downloads.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import transformers as hf
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from mnergraph.features.text.encoder import TextEncoderModel, load_encoder, without_progress_bars

#: What the tokenizers are trained on: several scripts, repeated so that whole words become pieces.
TEXT = [
    "he wins in Rome, and she saw Ann at the O2 Arena today with a ball",
    "don't miss #NBA tonight @BBC 4:30 http://t.co/x1 naïve Zoë",
    "वह रोम में जीता",
    "он выиграл в Риме",
    "他在罗马获胜 😀",
] * 4
#: Pieces of a vocabulary, positions of an encoder, and the width of its states.
PIECES, POSITIONS, WIDTH = 400, 64, 16
_SIZES = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 2 * WIDTH}
_BERT_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_ROBERTA_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def write_family(name: str, folder: Path) -> None:
    """Write a family's encoder and tokenizer as its authors' are published: weights, configuration, vocabulary.

    Args:
        name: of the family, one of `FAMILIES`.
        folder: an empty folder.
    """
    tokenizer, model, config, settings = _PARTS[name]
    made = tokenizer(folder)
    special = {"pad_token_id": made.pad_token_id, "bos_token_id": made.cls_token_id, "eos_token_id": made.sep_token_id}
    sizes = {"vocab_size": len(made), "max_position_embeddings": POSITIONS, **special, **_SIZES, **settings}
    encoder = model(config(**sizes))
    with without_progress_bars():
        encoder.save_pretrained(folder)
    made.save_pretrained(folder)


def encoder_of(name: str) -> TextEncoderModel:
    """Return a family's encoder, with weights drawn from torch's random state."""
    with tempfile.TemporaryDirectory() as folder:
        write_family(name, Path(folder))
        return load_encoder(folder)


def _word_piece(folder: Path, **settings: Any) -> hf.PreTrainedTokenizerBase:
    inner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.train_from_iterator(TEXT, trainers.WordPieceTrainer(vocab_size=PIECES, special_tokens=_BERT_TOKENS))
    return hf.BertTokenizer(vocab=inner.get_vocab(), model_max_length=POSITIONS, **settings)


def _byte_level(special: list[str]) -> Tokenizer:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=PIECES, special_tokens=special, initial_alphabet=alphabet)
    inner.train_from_iterator(TEXT, trainer)
    return inner


def _roberta(folder: Path) -> hf.PreTrainedTokenizerBase:
    state = json.loads(_byte_level(_ROBERTA_TOKENS).to_str())["model"]
    merges = [tuple(pair) for pair in state["merges"]]
    # RoBERTa's two last positions are those before its padding index
    return hf.RobertaTokenizer(vocab=state["vocab"], merges=merges, model_max_length=POSITIONS - 2)


def _modernbert(folder: Path) -> hf.PreTrainedTokenizerBase:
    inner = _byte_level(_BERT_TOKENS)
    ends = [(token, inner.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    inner.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    inner.decoder = decoders.ByteLevel()
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), _BERT_TOKENS, strict=True))
    return hf.PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=POSITIONS, **names)


def _bertweet(folder: Path) -> hf.PreTrainedTokenizerBase:
    inner = Tokenizer(models.BPE(unk_token="<unk>", continuing_subword_prefix="", end_of_word_suffix="</w>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=PIECES, end_of_word_suffix="</w>"))
    state = json.loads(inner.to_str())["model"]
    pieces = [f"{piece[:-4] if piece.endswith('</w>') else piece + '@@'} 1" for piece in state["vocab"]]
    vocabulary, merges = folder / "vocab.txt", folder / "bpe.codes"
    vocabulary.write_text("\n".join(dict.fromkeys(pieces)) + "\n", encoding="utf-8")
    merges.write_text("".join(f"{one} {other} 1\n" for one, other in state["merges"]), encoding="utf-8")
    return hf.BertweetTokenizer(str(vocabulary), str(merges), model_max_length=POSITIONS - 2)


def _unigram(folder: Path, *, tokenizer: Callable[..., Any], special: list[str]) -> hf.PreTrainedTokenizerBase:
    inner = Tokenizer(models.Unigram())
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    unknown = next(token for token in special if token.lower().strip("<[]>") == "unk")
    trainer = trainers.UnigramTrainer(vocab_size=PIECES, special_tokens=special, unk_token=unknown)
    inner.train_from_iterator(TEXT, trainer)
    pieces = [(piece, score) for piece, score in json.loads(inner.to_str())["model"]["vocab"]]
    made: hf.PreTrainedTokenizerBase = tokenizer(vocab=pieces, model_max_length=POSITIONS - 2)
    return made


_ALBERT = partial(_unigram, tokenizer=hf.AlbertTokenizer, special=["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"])
_DEBERTA = partial(_unigram, tokenizer=hf.DebertaV2Tokenizer, special=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
_XLM = partial(_unigram, tokenizer=hf.XLMRobertaTokenizer, special=_ROBERTA_TOKENS)
_DISENTANGLED = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}
#: Tokenizer, model, configuration, and settings of its own of every family.
_PARTS: dict[str, tuple[Callable[[Path], hf.PreTrainedTokenizerBase], Any, Any, dict[str, Any]]] = {
    "BERT": (_word_piece, hf.BertModel, hf.BertConfig, {}),
    "DistilBERT": (
        _word_piece,
        hf.DistilBertModel,
        hf.DistilBertConfig,
        {"dim": WIDTH, "n_layers": 1, "n_heads": 2, "hidden_dim": 2 * WIDTH},
    ),
    "ELECTRA": (_word_piece, hf.ElectraModel, hf.ElectraConfig, {"embedding_size": WIDTH // 2}),
    "ALBERT": (_ALBERT, hf.AlbertModel, hf.AlbertConfig, {"embedding_size": WIDTH // 2}),
    "RoBERTa": (_roberta, hf.RobertaModel, hf.RobertaConfig, {}),
    "BERTweet": (_bertweet, hf.RobertaModel, hf.RobertaConfig, {}),
    "XLM-R": (_XLM, hf.XLMRobertaModel, hf.XLMRobertaConfig, {}),
    "DeBERTa-v2": (
        _DEBERTA,
        hf.DebertaV2Model,
        hf.DebertaV2Config,
        {**_DISENTANGLED, "conv_kernel_size": 3, "embedding_size": WIDTH // 2},
    ),
    "DeBERTa-v3": (
        _DEBERTA,
        hf.DebertaV2Model,
        hf.DebertaV2Config,
        {**_DISENTANGLED, "share_att_key": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm"},
    ),
    "ModernBERT": (
        _modernbert,
        hf.ModernBertModel,
        hf.ModernBertConfig,
        {"local_attention": 8, "cls_token_id": 2, "sep_token_id": 3},
    ),
}
#: A builder of every family's encoder.
FAMILIES: dict[str, Callable[[], TextEncoderModel]] = {name: partial(encoder_of, name) for name in _PARTS}
