"""A component of spaCy pipelines: ``nlp.add_pipe("mnergraph", config={"model": "runs/umgf/model"})``.

spaCy imports this module, an entry point, with every pipeline of an environment that has mnergraph, so it imports the
rest of the package only when a component is made. spaCy reads the factory's types: they are no texts here, as
``from __future__ import annotations`` would make them.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

try:
    from spacy.language import Language
    from spacy.pipeline import Pipe
    from spacy.scorer import get_ner_prf
    from spacy.tokens import Doc
except ImportError as error:
    raise ImportError("the spaCy component needs spaCy: pip install 'mnergraph[phrases]'") from error

if TYPE_CHECKING:
    from mnergraph.inference.output import NERResult
    from mnergraph.inference.pipeline import NERPipeline


def _register_image() -> None:
    """Register ``doc._.image``, where it is not registered yet."""
    if not Doc.has_extension("image"):
        Doc.set_extension("image", default=None)


_register_image()


@Language.factory(
    "mnergraph",
    assigns=["doc.ents", "token.ent_iob", "token.ent_type"],
    default_config={
        "overwrite_ents": False,
        "device": None,
        "batch_pieces": None,
        "workers": 2,
        "precision": "fp32",
        "return_boxes": True,
        "allow_urls": False,
        "allow_private_addresses": False,
        "stores": [],
        "run_extractors": True,
        "grounder": None,
    },
    default_score_weights={"ents_f": 1.0, "ents_p": 0.0, "ents_r": 0.0, "ents_per_type": None},
)
def make_component(
    nlp: Language,
    name: str,
    model: str,
    overwrite_ents: bool,
    device: int | str | None,
    batch_pieces: int | None,
    workers: int,
    precision: Literal["fp32", "bf16", "auto"],
    return_boxes: bool,
    allow_urls: bool,
    allow_private_addresses: bool,
    stores: list[str],
    run_extractors: bool,
    grounder: str | None,
) -> "EntityComponent":
    """Return the component; see `EntityComponent`.

    Args:
        nlp: the pipeline.
        name: the component's name in it.
        model: the model's folder, or its name on the hub.
        overwrite_ents: whether predicted entities replace those of ``doc.ents`` that they overlap; by default those
            that are there stay, and predicted ones that overlap them are left out, as in spaCy's ``entity_ruler``.
        device: see `mnergraph.pipeline`, as for all further arguments.
        batch_pieces: pieces of a batch.
        workers: threads that build graphs.
        precision: fp32, bf16 or auto.
        return_boxes: whether entities have the object with the largest attention weight.
        allow_urls: whether ``doc._.image`` may be an address.
        allow_private_addresses: whether it may be one of the own network.
        stores: folders of feature stores.
        run_extractors: whether to run the training's extractors.
        grounder: folder, or name on the hub, of a model that grounds the entities.
    """
    from mnergraph.inference.pipeline import pipeline

    ner = pipeline(
        model,
        device=device,
        batch_pieces=batch_pieces,
        workers=workers,
        precision=precision,
        return_boxes=return_boxes,
        allow_urls=allow_urls,
        allow_private_addresses=allow_private_addresses,
        stores=stores,
        run_extractors=run_extractors,
        grounder=grounder,
    )
    return EntityComponent(ner, name=name, overwrite_ents=overwrite_ents)


class EntityComponent(Pipe):
    """Sets ``doc.ents`` of spaCy documents by a model that reads the text and the image ``doc._.image``.

    The words are spaCy's tokens, those of white space left out, so entities begin and end at tokens; a model reads them
    best if its training posts were split alike. The image is a path, the bytes of a file, a PIL image, or None.
    Entities have the extension attributes of `mnergraph.inference.to_spacy`.

    ``nlp.pipe`` predicts ``batch_size`` documents at a time. One that can't be predicted keeps its entities, its
    ``doc._.mnergraph_error`` says why, and a warning counts these; ``nlp(doc)`` raises the error.

    Args:
        ner: the model as a function.
        name: the component's name.
        overwrite_ents: whether predicted entities replace those that they overlap.
    """

    def __init__(self, ner: "NERPipeline", *, name: str = "mnergraph", overwrite_ents: bool = False) -> None:
        from mnergraph.inference.spacy_docs import register_extensions

        register_extensions()
        _register_image()
        self.ner, self.name, self.overwrite_ents = ner, name, overwrite_ents
        self.scorer = get_ner_prf

    @property
    def labels(self) -> tuple[str, ...]:
        """The entity types."""
        types: tuple[str, ...] = self.ner.model.labels.types
        return types

    def __call__(self, doc: Doc) -> Doc:
        """Return the document with its entities."""
        if post := _post(doc):
            result: Any = self.ner(post)
            self._set_entities(doc, result)
        return doc

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Yield documents with their entities, in order.

        Args:
            stream: the documents; ``batch_size`` of them are read at a time, those without words not counted.
            batch_size: number of documents that are predicted together.
        """
        waiting: deque[tuple[Doc, bool]] = deque()

        def posts() -> Iterator[dict[str, Any]]:
            for doc in stream:
                post = _post(doc)
                waiting.append((doc, post is not None))
                if post is not None:
                    yield post

        results: Any = self.ner(posts(), batch_size=batch_size)
        for result in results:
            while not waiting[0][1]:
                yield waiting.popleft()[0]
            doc, _ = waiting.popleft()
            self._set_entities(doc, result)
            yield doc
        yield from (doc for doc, _ in waiting)

    def _set_entities(self, doc: Doc, result: "NERResult") -> None:
        from mnergraph.inference.spacy_docs import entity_span, set_entity_attributes

        doc._.mnergraph_error = result.error
        if result.error is not None:
            return
        places = [token.i for token in doc if not token.is_space]
        found = [(entity_span(doc, entity, places), entity) for entity in result.entities]
        kept = list(doc.ents)
        if self.overwrite_ents:
            kept = [old for old in kept if all(old.end <= new.start or new.end <= old.start for new, _ in found)]
        else:
            found = [(new, entity) for new, entity in found if not any(token.ent_type for token in new)]
        for span, entity in found:
            set_entity_attributes(span, entity)
        doc.set_ents([*kept, *(span for span, _ in found)])


def docs_with_images(nlp: Language, posts: Iterable[tuple[str, Any]]) -> Iterator[Doc]:
    """Yield documents of texts with their images, for ``nlp.pipe``: their tokens and ``doc._.image``.

    Args:
        nlp: the pipeline, whose tokenizer is used.
        posts: texts and images: a path, the bytes of a file, a PIL image, or None.
    """
    _register_image()
    for text, image in posts:
        doc = nlp.make_doc(text)
        doc._.image = image
        yield doc


def _post(doc: Doc) -> dict[str, Any] | None:
    """Return words and image of a document; None where it has no words."""
    words = [token.text for token in doc if not token.is_space]
    return {"tokens": words, "image": doc._.image} if words else None
