"""Words to sub-word pieces: every word keeps at least one, and no sentence is too long.

The tokenizer side of the text encoder; nothing here needs a model.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

#: Words remembered with their pieces; past it the memory starts afresh.
CACHE_SIZE = 1_000_000


class WordTokenizer:
    """A Hugging Face tokenizer, read word by word.

    A word that the tokenizer erases (zero-width characters, a soft hyphen, a non-breaking space, with uncased
    vocabularies the emoji variation selector) becomes the unknown piece and keeps its place. Pieces of a word
    do not depend on its neighbours, so each word is tokenized once and remembered.

    Args:
        tokenizer: a fast tokenizer with an unknown (or else padding) token.

    Attributes:
        start, end: ids that the encoder wants around a sentence ([CLS] and [SEP]).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.is_fast:
            raise ValueError(f"{type(tokenizer).__name__} is a slow tokenizer; mnergraph needs a fast one")
        self.tokenizer = tokenizer
        bare = self._ids("a", special=False)
        whole = self._ids("a", special=True)
        place = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
        self.start, self.end = tuple(whole[:place]), tuple(whole[place + len(bare) :])
        unknown = tokenizer.unk_token_id if tokenizer.unk_token_id is not None else tokenizer.pad_token_id
        if unknown is None:
            raise ValueError(f"{type(tokenizer).__name__} has neither an unknown nor a padding token")
        self.unknown: int = unknown
        self.padding: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else unknown
        self._pieces: dict[str, tuple[int, ...]] = {}

    def _ids(self, text: str, *, special: bool) -> list[int]:
        return self.tokenizer([text], is_split_into_words=True, add_special_tokens=special)["input_ids"]

    def __call__(self, words: Sequence[str]) -> list[tuple[int, ...]]:
        """The pieces of every word, at least one each."""
        known = self._pieces
        try:
            return [known[word] for word in words]
        except KeyError:
            if len(known) + len(words) > CACHE_SIZE:
                self._pieces = {}
            self._learn(list(dict.fromkeys(word for word in words if word not in self._pieces)))
            return [self._pieces[word] for word in words]

    def _learn(self, words: list[str]) -> None:
        # the tokenizer complains of texts over its length; a word alone is split into windows like any other
        split = self.tokenizer(
            [[word] for word in words], is_split_into_words=True, add_special_tokens=False, verbose=False
        )["input_ids"]
        self._pieces |= {word: tuple(ids) or (self.unknown,) for word, ids in zip(words, split, strict=True)}

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_pieces": {}}


def windows(length: int, capacity: int) -> list[range]:
    """Overlapping windows over a text of ``length`` pieces, each at most ``capacity`` long, stepping by half.

    One window when the text fits; the last one ends where the text ends.
    """
    if capacity < 1:
        raise ValueError(f"a window holds at least one piece, not {capacity}")
    if length <= capacity:
        return [range(length)]
    step = max(1, capacity // 2)
    starts = [*range(0, length - capacity, step), length - capacity]
    return [range(start, start + capacity) for start in starts]


def best_windows(length: int, spans: Sequence[range]) -> list[int]:
    """For every piece the window that shows it most context: where it is farthest from either rim.

    A rim that is the text's own beginning or end takes no context away.
    """

    def context(piece: int, span: range) -> int:
        left = length if span.start == 0 else piece - span.start
        right = length if span.stop == length else span.stop - 1 - piece
        return min(left, right)

    return [
        max((w for w, span in enumerate(spans) if piece in span), key=lambda w: context(piece, spans[w]))
        for piece in range(length)
    ]
