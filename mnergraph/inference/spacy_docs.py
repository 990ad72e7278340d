"""Results as spaCy's documents, and as displaCy draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from mnergraph.inference.output import NERResult

if TYPE_CHECKING:
    from spacy.tokens import Doc, Span
    from spacy.vocab import Vocab

#: What a result has of an entity beside its words and type: extension attributes of its spaCy span, None by default.
EXTENSIONS = (
    "score",
    "box",
    "box_label",
    "box_probability",
    "attention_box",
    "attention_box_label",
    "attention_box_score",
    "attention_weight",
)


def to_spacy(result: NERResult, vocab: Vocab | None = None) -> Doc:
    """Return one post as a spaCy ``Doc``: its words as tokens, its entities as ``doc.ents``.

    ``doc.text`` is the post's text, character for character: further white space is a token of its own, as spaCy has
    it. Entities have `EXTENSIONS`, such as ``doc.ents[0]._.score`` and ``doc.ents[0]._.box``, and those of spans that
    are set already, by whomever, are left as they are. ``doc._.mnergraph_error`` says why a post has no entities.

    Args:
        result: what `mnergraph.pipeline` returns for one post.
        vocab: that of a pipeline, ``nlp.vocab``; by default one of no language, which all such documents share.

    Raises:
        ImportError: without spaCy.
    """
    register_extensions()
    from spacy.tokens import Doc

    words, spaces, places = _tokens(result.text, () if result.pair is None else result.pair.word_offsets)
    doc = Doc(_default_vocab() if vocab is None else vocab, words=words, spaces=spaces)
    spans = []
    for entity in result.entities:
        span = entity_span(doc, entity, places)
        set_entity_attributes(span, entity)
        spans.append(span)
    doc.set_ents(spans)
    doc._.mnergraph_error = result.error
    return doc


def register_extensions() -> None:
    """Register the attributes of entities, `EXTENSIONS`, and ``doc._.mnergraph_error``, those that are not yet.

    Raises:
        ImportError: without spaCy.
    """
    try:
        from spacy.tokens import Doc, Span
    except ImportError as error:
        raise ImportError("to_spacy needs spaCy: pip install 'mnergraph[phrases]'") from error

    for name in EXTENSIONS:
        if not Span.has_extension(name):
            Span.set_extension(name, default=None)
    if not Doc.has_extension("mnergraph_error"):
        Doc.set_extension("mnergraph_error", default=None)


def entity_span(doc: Doc, entity: Mapping[str, Any], places: Sequence[int]) -> Span:
    """Return an entity of a result as a span of a document.

    Args:
        doc: the document.
        entity: the entity.
        places: the token of every word.
    """
    from spacy.tokens import Span

    first, last = places[entity["word_start"]], places[entity["word_end"] - 1]
    return Span(doc, first, last + 1, label=entity["entity_group"])


def set_entity_attributes(span: Span, entity: Mapping[str, Any]) -> None:
    """Set the attributes `EXTENSIONS` of a span to what a result has of its entity."""
    for name in EXTENSIONS:
        if name in entity:
            setattr(span._, name, entity[name])


@cache
def _default_vocab() -> Vocab:
    """The vocabulary of documents without a pipeline, of no language; one for all."""
    import spacy

    vocab: Vocab = spacy.blank("xx").vocab
    return vocab


def to_displacy(result: NERResult, *, scores: bool = False) -> dict[str, Any]:
    """Return one post as ``displacy.render(..., style="ent", manual=True)`` takes it.

    Args:
        result: what `mnergraph.pipeline` returns for one post.
        scores: whether an entity's label has its probability behind it: ``PER 0.97``.
    """
    entities = [
        {
            "start": entity["start"],
            "end": entity["end"],
            "label": f"{entity['entity_group']} {entity['score']:.2f}" if scores else entity["entity_group"],
        }
        for entity in result.entities
    ]
    return {"text": result.text, "ents": entities, "title": None}


def _tokens(text: str, offsets: Sequence[tuple[int, int]]) -> tuple[list[str], list[bool], list[int]]:
    """Return spaCy's tokens of a text, whether each has a space behind it, and the token of every word."""
    words: list[str] = []
    spaces: list[bool] = []
    places: list[int] = []
    edges = [(0, 0), *offsets, (len(text), len(text))]
    for (_, before), (start, end) in pairwise(edges):
        gap = text[before:start]
        if words and gap.startswith(" "):
            spaces[-1], gap = True, gap[1:]
        if gap:
            words.append(gap)
            spaces.append(False)
        if end > start:
            places.append(len(words))
            words.append(text[start:end])
            spaces.append(False)
    return words, spaces, places
