"""Tokenization of words into word pieces, and windows over long texts."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

#: Maximum number of cached words; then the cache is emptied.
CACHE_SIZE = 1_000_000


class WordTokenizer:
    """Applies a Hugging Face tokenizer word by word; every word has at least one piece.

    A word that the tokenizer deletes (zero-width characters, a soft hyphen, a non-breaking space, with uncased
    vocabularies the emoji variation selector) becomes the unknown piece. The pieces of a word do not depend on its
    neighbors, so each word is tokenized once and cached.

    Args:
        tokenizer: a fast tokenizer with an unknown (or else padding) token.

    Attributes:
        start, end: ids of the special tokens around a sentence ([CLS] and [SEP]).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.is_fast:
            raise ValueError(f"{type(tokenizer).__name__} is a slow tokenizer; mnergraph needs a fast one")
        self.tokenizer = tokenizer
        bare = self._ids("a", special=False)
        wrapped = self._ids("a", special=True)
        start = next(i for i in range(len(wrapped)) if wrapped[i : i + len(bare)] == bare)
        self.start, self.end = tuple(wrapped[:start]), tuple(wrapped[start + len(bare) :])
        unknown = tokenizer.unk_token_id if tokenizer.unk_token_id is not None else tokenizer.pad_token_id
        if unknown is None:
            raise ValueError(f"{type(tokenizer).__name__} has neither an unknown nor a padding token")
        self.unknown: int = unknown
        self.padding: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else unknown
        self._pieces: dict[str, tuple[int, ...]] = {}

    def _ids(self, text: str, *, special: bool) -> list[int]:
        return self.tokenizer([text], is_split_into_words=True, add_special_tokens=special)["input_ids"]

    def __call__(self, words: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the ids of every word's pieces, at least one each."""
        known = self._pieces
        try:
            return [known[word] for word in words]
        except KeyError:
            if len(known) + len(words) > CACHE_SIZE:
                self._pieces = {}
            self._tokenize(list(dict.fromkeys(word for word in words if word not in self._pieces)))
            return [self._pieces[word] for word in words]

    def _tokenize(self, words: list[str]) -> None:
        # without the tokenizer's warning about long texts: `windows` splits them
        split = self.tokenizer(
            [[word] for word in words], is_split_into_words=True, add_special_tokens=False, verbose=False
        )["input_ids"]
        self._pieces |= {word: tuple(ids) or (self.unknown,) for word, ids in zip(words, split, strict=True)}

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
