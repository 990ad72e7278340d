"""Context nodes: words about a post that are not the post's own, encoded in one sequence with the sentence.

Captions, object tags, text in the image and knowledge reach a model's tokens by the text encoder's own self-attention:
[CLS] sentence [SEP] context [SEP] (ITA, Wang et al., NAACL 2022; Chen et al., W-NUT 2021). As a graph this is one more
node type without tags, ``context``, joined with the tokens by a complete relation, `CONTEXT_TO_TOKENS`, within the
encoder. Every model takes it by one argument::

    UMGF(encoder, labels, context=Context(sources=("caption", "knowledge"), budget=64))
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from torch_geometric.data import HeteroData

from mnergraph.features.text.tweet_tokenizer import split_words
from mnergraph.graph.collate import EdgeType, pair_of, set_store
from mnergraph.graph.edge_rules import Complete
from mnergraph.graph.evidence_kinds import context_kind
from mnergraph.graph.node_types import NodeType, Tokenizer, to_tensor
from mnergraph.graph.schema import Relation, Schema
from mnergraph.pair import ContextText, Pair

#: Node type of the words of context, and the subtype of their pieces.
CONTEXT, CONTEXT_PIECE = "context", "context_piece"
#: The edge type that joins pieces to their words.
CONTEXT_PIECES: EdgeType = (CONTEXT_PIECE, "part_of", CONTEXT)
#: The relation from context to tokens within the text encoder.
CONTEXT_TO_TOKENS: EdgeType = (CONTEXT, "informs", "token")
#: What context adds to a model's schema.
CONTEXT_SCHEMA = Schema([Relation(*CONTEXT_TO_TOKENS, Complete())])


@dataclass(frozen=True)
class Agreement:
    """Settings of the agreement of a model with and without context (ITA's cross-view alignment).

    L = weight * KL(q^(1/T) || p^(1/T)) + text_weight * NLL of the tags without context, where q are the marginals of
    the tags with context, detached, and p those without, by the same weights.

    Args:
        weight: weight of the divergence.
        text_weight: weight of the loss of the tags without context.
        temperature: T.
    """

    weight: float = 0.5
    text_weight: float = 1.0
    temperature: float = 2.0

    def __post_init__(self) -> None:
        if self.weight < 0 or self.text_weight < 0 or self.temperature <= 0:
            raise ValueError(f"{self}: weights are 0 or more, the temperature is more than 0")


@dataclass(frozen=True)
class Context:
    """Which texts about a post a model reads beside the sentence, and how much of them.

    Args:
        sources: the sources, in their order in the sequence; by default a post's caption and all of its ``context``.
        budget: the most word pieces of a post's context, those between its texts included. Where texts have more, the
            longest lose words at their end first, so that no source is lost to another.
        agreement: train the model to predict the same without context; None for the tags' loss alone.

    Raises:
        ValueError: for a budget of fewer than 8 pieces, no source, or one that is given twice.
    """

    sources: tuple[str, ...] | None = None
    budget: int = 160
    agreement: Agreement | None = None

    def __post_init__(self) -> None:
        if self.budget < 8:
            raise ValueError(f"a context of at most {self.budget} word pieces; right is 8 or more")
        if self.sources is not None and (not self.sources or len(set(self.sources)) != len(self.sources)):
            raise ValueError(f"sources are {self.sources}; right are one or more, each once, or None for all")

    def texts(self, pair: Pair) -> tuple[ContextText, ...]:
        """Return the texts of a pair that are read, one per source that has any, in the order of the sources."""
        sources: Iterable[str] = self.sources or dict.fromkeys(["caption", *(entry.source for entry in pair.context)])
        texts = (ContextText(source, pair.context_of(source).strip()) for source in sources)
        return tuple(entry for entry in texts if entry.text)


class ContextSegment(NamedTuple):
    """The words of one source that a post's context has room for.

    Attributes:
        source: the source.
        words: the words, at least one.
        pieces: the ids of every word's pieces.
        num_words: number of words of the source, those left out included.
    """

    source: str
    words: tuple[str, ...]
    pieces: tuple[tuple[int, ...], ...]
    num_words: int


class ContextWords(NodeType):
    """``context`` nodes: the words of texts about the post, and ``context_piece`` nodes, their pieces.

    ``segment`` is the index of the text that a word is of. Pieces are joined to their word by
    ``(context_piece, part_of, context)``; special pieces between and after the texts belong to no word.

    Args:
        tokenizer: turns words into pieces.
        context: which texts, and how much of them.
    """

    name = CONTEXT

    def __init__(self, tokenizer: Tokenizer, context: Context) -> None:
        self.tokenizer, self.context = tokenizer, context
        between: tuple[int, ...] = getattr(tokenizer, "between", tokenizer.end)
        shared = 0  # the sentence ends with its own special pieces already
        while shared < len(between) and between[: shared + 1] == tokenizer.end[: shared + 1]:
            shared += 1
        self._lead, self._between, self._end = between[shared:], between, tokenizer.end

    @property
    def subtypes(self) -> tuple[str, ...]:
        """The words' pieces."""
        return (CONTEXT_PIECE,)

    def prepare(self, pair: Pair) -> Pair:
        """Return the pair with the texts that are read as its ``context``, in their order."""
        texts = self.context.texts(pair)
        prepared = pair if pair.context == texts else replaced(pair, context=texts)
        if self.context.texts(prepared) == texts:
            return prepared
        # an empty text that keeps a caption or the objects' labels from taking its place stays
        empty = (entry for entry in pair.context if not entry.text.strip())
        return replaced(pair, context=(*texts, *empty))

    def segments(self, pair: Pair) -> list[ContextSegment]:
        """Return the texts of a pair, each as far as the budget goes, in their order; without those of no word."""
        split = [(entry.source, [word.text for word in split_words(entry.text)]) for entry in self.context.texts(pair)]
        split = [(source, words) for source, words in split if words]
        pieces = [self.tokenizer(words) for _, words in split]
        special = len(self._lead) + len(self._end) + len(self._between) * (len(split) - 1)
        limits = _shares([sum(map(len, ids)) for ids in pieces], max(0, self.context.budget - special))
        found = []
        for (source, words), ids, limit in zip(split, pieces, limits, strict=True):
            kept = int(np.searchsorted(np.cumsum([len(word) for word in ids]), limit, side="right"))
            if kept:
                found.append(ContextSegment(source, tuple(words[:kept]), tuple(ids[:kept]), len(words)))
        return found

    def store(self, pair: Pair) -> dict[str, Any]:
        """Return the index of the text of every word."""
        return self._store(self.segments(pair))

    def add_to(self, data: HeteroData, pair: Pair) -> None:
        """Add words and pieces to the pair's graph."""
        segments = self.segments(pair)
        ids: list[int] = []
        inner: list[int] = []
        for index, segment in enumerate(segments):
            ids += self._between if index else self._lead
            inner += range(len(ids), len(ids) + sum(map(len, segment.pieces)))
            ids += chain.from_iterable(segment.pieces)
        words = chain.from_iterable(segment.pieces for segment in segments)
        owners = [word for word, pieces in enumerate(words) for _ in pieces]
        ids += self._end if segments else ()
        set_store(data, CONTEXT, self._store(segments))
        set_store(data, CONTEXT_PIECE, {"input_ids": to_tensor(np.array(ids, dtype=np.int64)), "num_nodes": len(ids)})
        edge_index = np.array([inner, owners], dtype=np.int64).reshape(2, -1)
        set_store(data, CONTEXT_PIECES, {"edge_index": to_tensor(edge_index)})

    def length(self, pair: Pair) -> int:
        """Return the number of pieces of a pair's context, special ones included."""
        segments = self.segments(pair)
        words = sum(len(pieces) for segment in segments for pieces in segment.pieces)
        special = len(self._lead) + len(self._end) + len(self._between) * (len(segments) - 1)
        return words + special if segments else 0

    def missing(self, pair: Pair) -> tuple[str, ...]:
        """Return ``"context (caption)"`` and the like for sources without a text; ``"context"`` if none are named."""
        has = {entry.source for entry in self.context.texts(pair)}
        if self.context.sources is None:
            return () if has else (context_kind(),)
        return tuple(context_kind(source) for source in self.context.sources if source not in has)

    def describe(self, data: HeteroData) -> list[dict[str, Any]]:
        """Return ``label``, the word, and ``source`` of every node."""
        segments = self.segments(pair_of(data))
        return [{"label": word, "source": segment.source} for segment in segments for word in segment.words]

    def _store(self, segments: Sequence[ContextSegment]) -> dict[str, Any]:
        counts = [len(segment.words) for segment in segments]
        return {"segment": to_tensor(np.repeat(np.arange(len(counts)), counts)), "num_nodes": sum(counts)}


class TrimmedContext(NamedTuple):
    """How much of posts' context a model leaves out, as its budget is smaller.

    Attributes:
        posts: number of posts of whose context words are left out.
        words: number of words left out.
        total: number of words of all posts' context.
        budget: the most word pieces of a post's context.
    """

    posts: int
    words: int
    total: int
    budget: int


def count_trimmed(node_types: Iterable[NodeType], pairs: Iterable[Pair]) -> TrimmedContext | None:
    """Return how much of posts' context is left out; None for node types without context."""
    context = next((node_type for node_type in node_types if isinstance(node_type, ContextWords)), None)
    if context is None:
        return None
    posts = words = total = 0
    for pair in pairs:
        segments = context.segments(pair)
        left_out = sum(segment.num_words - len(segment.words) for segment in segments)
        posts, words = posts + bool(left_out), words + left_out
        total += sum(segment.num_words for segment in segments)
    return TrimmedContext(posts, words, total, context.context.budget)


def describe_trimmed(trimmed: TrimmedContext, num_posts: int) -> str:
    """Return one line on the context that is left out."""
    share = 100 * trimmed.words / max(1, trimmed.total)
    return (
        f"context: {trimmed.posts} of {num_posts} posts have more than {trimmed.budget} word pieces; "
        f"{trimmed.words} of {trimmed.total} words ({share:.0f}%) are left out"
    )


def _shares(lengths: Sequence[int], budget: int) -> list[int]:
    """Return how much of each text fits, such that the longest are cut to one length if all do not fit."""
    left, shares = budget, [0] * len(lengths)
    by_length = sorted(range(len(lengths)), key=lambda index: lengths[index])
    for place, index in enumerate(by_length):
        shares[index] = min(lengths[index], left // (len(by_length) - place))
        left -= shares[index]
    return shares
