"""Query nodes: one question per entity type, the same for every post."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from torch_geometric.data import HeteroData

from mnergraph.features.text.tweet_tokenizer import split_words
from mnergraph.features.text.word_pieces import WordTokenizer
from mnergraph.graph.collate import EdgeType, set_store
from mnergraph.graph.node_types import NodeType, add_subtokens
from mnergraph.pair import Pair
from mnergraph.quoting import listed

#: Node type of the queries, and the subtype of their pieces.
QUERY, QUERY_PIECE = "query", "query_piece"
#: The edge type that joins pieces to their query.
QUERY_PIECES: EdgeType = (QUERY_PIECE, "part_of", QUERY)
#: The relation from queries to tokens within the text encoder.
QUERY_TO_TOKENS: EdgeType = (QUERY, "asks", "token")

#: The question, and what it asks for by entity type; of another type it asks for "entities of the type ...".
TEMPLATE = "Which {what} are named in the text?"
OTHER_NAMES = "other names (events, products, films, songs, games, nationalities, languages)"
DESCRIPTIONS: Mapping[str, str] = {
    "PER": "people (politicians, athletes, artists, fictional characters)",
    "LOC": "locations (countries, cities, regions, rivers, parks, venues)",
    "ORG": "organizations (companies, governments, schools, teams, bands, news agencies)",
    "MISC": OTHER_NAMES,
    "OTHER": OTHER_NAMES,
}


def query_texts(types: Sequence[str], queries: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the query of every entity type, in the order of the types.

    Args:
        types: the entity types.
        queries: queries by type; for others, the `TEMPLATE` with the type's description, or with its name.

    Raises:
        ValueError: for a query of no words, or of a type that is not among the types.
    """
    given = queries or {}
    if unknown := sorted(set(given) - set(types)):
        raise ValueError(f"queries are for the types {', '.join(types)}, not for {listed(unknown)}")
    if empty := [name for name, text in given.items() if not text.strip()]:
        raise ValueError(f"the query of {listed(empty)} has no words")
    return {name: given.get(name) or TEMPLATE.format(what=DESCRIPTIONS.get(name, _unnamed(name))) for name in types}


def _unnamed(entity_type: str) -> str:
    return f"entities of the type {entity_type.replace('_', ' ').lower()}"


class Queries(NodeType):
    """``query`` nodes, one per entity type, and ``query_piece`` nodes: what stands before the post in the encoder.

    The pieces of a query are the special ones before a text ([CLS]), those of its words, and the special ones between
    two texts ([SEP]). They are joined to their query by ``(query_piece, part_of, query)``.

    Args:
        tokenizer: turns words into pieces.
        queries: the query of every entity type.
        max_pieces: the most pieces of a query, special ones included.

    Raises:
        ValueError: for a longer query.
    """

    name = QUERY

    def __init__(self, tokenizer: WordTokenizer, queries: Mapping[str, str], max_pieces: int) -> None:
        self.queries = dict(queries)
        words = [[word.text for word in split_words(text)] for text in self.queries.values()]
        self.pieces = [(*tokenizer.start, *chain.from_iterable(tokenizer(w)), *tokenizer.between) for w in words]
        for name, pieces in zip(self.queries, self.pieces, strict=True):
            if len(pieces) > max_pieces:
                raise ValueError(
                    f"the query of {name} has {len(pieces)} word pieces, special ones included; give a shorter one "
                    f"(queries={{{name!r}: ...}}): at most {max_pieces} fit, a third of what the encoder takes"
                )

    @property
    def subtypes(self) -> tuple[str, ...]:
        """The queries' pieces."""
        return (QUERY_PIECE,)

    def store(self, pair: Pair) -> dict[str, Any]:
        """Return the number of queries."""
        return {"num_nodes": len(self.pieces)}

    def add_to(self, data: HeteroData, pair: Pair) -> None:
        """Add queries and their pieces to the pair's graph."""
        set_store(data, QUERY, self.store(pair))
        add_subtokens(data, QUERY_PIECES, self.pieces)

    def describe(self, data: HeteroData) -> list[dict[str, Any]]:
        """Return ``label``, the entity type, and ``text`` of every query."""
        return [{"label": name, "text": text} for name, text in self.queries.items()]
