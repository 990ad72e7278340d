"""Tokenization of words into word pieces, and windows over long texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from threading import Lock
from typing import Any

from tokenizers.models import WordPiece
from transformers import PreTrainedTokenizerBase

#: Maximum number of cached words; then the cache is emptied.
CACHE_SIZE = 1_000_000
#: Maximum number of characters of a word for WordPiece, whose time grows with their cube: 0.06 s for so many.
MAX_WORD_PIECE_CHARACTERS = 1000


#: Words by which a tokenizer is tried: none is the first of the text that holds them all.
_PROBE = ("wins", "in", "Rome", "at", "4:30", "#NBA", "again")
#: Tokenizers of transformers change their settings during a call, and several threads may share one.
_LOCK = Lock()


class WordTokenizer:
    """Applies a Hugging Face tokenizer word by word; every word has at least one piece.

    A word has the pieces that it has within running text, after a space, whether the tokenizer marks the space before a
    word (byte-level BPE, SentencePiece), the rest of a word (WordPiece) or its end (BERTweet's BPE). A word that the
    tokenizer deletes (zero-width characters, a soft hyphen, a non-breaking space, with uncased vocabularies the emoji
    variation selector) becomes the unknown piece. The pieces of a word do not depend on its neighbors, so each word is
    tokenized once and cached. Several threads may use it at once.

    Args:
        tokenizer: a tokenizer with an unknown (or else padding) token, fast or slow. WordPiece that is set to split
            longer words than `MAX_WORD_PIECE_CHARACTERS` is set to this many: longer ones are unknown.

    Attributes:
        start, end: ids of the special tokens around a sentence ([CLS] and [SEP]).
        between: ids of those between the two texts of a pair ([SEP]); ``end`` where the tokenizer puts none.

    Raises:
        ValueError: for a tokenizer that gives words in running text other pieces than on their own, such as one of
            whole sentences; and for one without unknown and padding token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        model = tokenizer.backend_tokenizer.model if tokenizer.is_fast else None
        if isinstance(model, WordPiece) and model.max_input_chars_per_word > MAX_WORD_PIECE_CHARACTERS:
            model.max_input_chars_per_word = MAX_WORD_PIECE_CHARACTERS
        self._split = self._find_split()
        bare, wrapped = self._split(["a"])[0], tokenizer(" a", add_special_tokens=True)["input_ids"]
        places = (place for place in range(len(wrapped)) if wrapped[place : place + len(bare)] == bare)
        start = next(places, None)
        if start is None:
            raise ValueError(f"{type(tokenizer).__name__} gives a word other pieces between special tokens")
        self.start, self.end = tuple(wrapped[:start]), tuple(wrapped[start + len(bare) :])
        self.between = self._find_between(bare)
        unknown = tokenizer.unk_token_id if tokenizer.unk_token_id is not None else tokenizer.pad_token_id
        if unknown is None:
            raise ValueError(f"{type(tokenizer).__name__} has neither an unknown nor a padding token")
        self.unknown: int = unknown
        self.padding: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else unknown
        self._pieces: dict[str, tuple[int, ...]] = {}

    def _find_between(self, bare: list[int]) -> tuple[int, ...]:
        """Return the special tokens between two texts, given the pieces of the text " a"."""
        pair: list[int] = self.tokenizer(" a", " a", add_special_tokens=True, verbose=False)["input_ids"]
        places = [place for place in range(len(pair)) if pair[place : place + len(bare)] == bare]
        between = pair[places[0] + len(bare) : places[-1]] if places else []
        return tuple(between) or self.end

    def _find_split(self) -> Callable[[list[str]], list[list[int]]]:
        """Return the way to tokenize words one by one that gives the pieces of running text."""
        first, whole = (self._of_texts([text])[0] for text in ("he", " ".join(("he", *_PROBE))))
        for split in (self._of_words, self._of_spaced_texts):
            if [*first, *chain.from_iterable(split(list(_PROBE)))] == whole:
                return split
        raise ValueError(
            f"{type(self.tokenizer).__name__} gives words in running text other pieces than on their own, and "
            "mnergraph tokenizes word by word; take an encoder with another tokenizer"
        )

    def _of_words(self, words: list[str]) -> list[list[int]]:
        """Return the ids of words as lists of one word, with the space before them where the tokenizer knows how."""
        return self._ids([[word] for word in words], is_split_into_words=True)

    def _of_spaced_texts(self, words: list[str]) -> list[list[int]]:
        """Return the ids of words as texts that begin with a space, for tokenizers that add none (ModernBERT's)."""
        return self._of_texts([f" {word}" for word in words])

    def _of_texts(self, texts: list[str]) -> list[list[int]]:
        return self._ids(texts)

    def _ids(self, inputs: list[Any], **settings: Any) -> list[list[int]]:
        settings |= {"return_attention_mask": False, "return_token_type_ids": False}
        # without the tokenizer's warning about long texts: `windows` splits them
        with _LOCK:
            encoded = self.tokenizer(inputs, add_special_tokens=False, verbose=False, **settings)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def __call__(self, words: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the ids of every word's pieces, at least one each."""
        known = self._pieces
        try:
            return [known[word] for word in words]
        except KeyError:
            if len(known) + len(words) > CACHE_SIZE:
                known = {word: known[word] for word in words if word in known}
            new = list(dict.fromkeys(word for word in words if word not in known))
            known |= {word: tuple(ids) or (self.unknown,) for word, ids in zip(new, self._split(new), strict=True)}
            self._pieces = known
            return [known[word] for word in words]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_pieces": {}}


def windows(length: int, capacity: int) -> list[range]:
    """Return overlapping windows over a text of ``length`` pieces, each at most ``capacity`` long, with steps of half.

    There is one window if the text fits; the last one ends with the text.
    """
    if capacity < 1:
        raise ValueError(f"a window holds at least one piece, not {capacity}")
    if length <= capacity:
        return [range(length)]
    step = max(1, capacity // 2)
    starts = [*range(0, length - capacity, step), length - capacity]
    return [range(start, start + capacity) for start in starts]


def best_windows(length: int, spans: Sequence[range]) -> list[int]:
    """Return, for every piece, the index of the window in which it is farthest from either end.

    An end that is the beginning or end of the text does not count, as no context is cut off there.
    """

    def context(piece: int, span: range) -> int:
        left = length if span.start == 0 else piece - span.start
        right = length if span.stop == length else span.stop - 1 - piece
        return min(left, right)

    return [
        max((w for w, span in enumerate(spans) if piece in span), key=lambda w: context(piece, spans[w]))
        for piece in range(length)
    ]
