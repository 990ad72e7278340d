"""`pipeline`: a model as a function of text and image, like Hugging Face's pipelines."""

from __future__ import annotations

import shutil
import tempfile
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count, islice, repeat, zip_longest
from pathlib import Path
from threading import Lock
from typing import Any, Literal, NamedTuple, cast, get_args

import torch
from PIL import Image
from torch_geometric.data import Batch

from mnergraph.data.datasets.base import PostDataset
from mnergraph.data.formats.jsonl import UnreadablePost, require_file
from mnergraph.data.missing_evidence import MissingCounts
from mnergraph.explain.record import PairRecord
from mnergraph.explain.recorder import record_attention
from mnergraph.features.vision.image_io import open_image
from mnergraph.inference.grounder import describe_region
from mnergraph.inference.image_urls import ImageURLError, fetch_image, is_url
from mnergraph.inference.output import NERResult
from mnergraph.inference.predictor import Predictor, describe_error
from mnergraph.labels import Entity
from mnergraph.models.base import Tagger
from mnergraph.models.batch_config import BatchConfig, Precision
from mnergraph.nn.heads.grounding import EntityGrounding
from mnergraph.nn.heads.tagging import TaggingHead
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair
from mnergraph.quoting import listed, quoted

#: The forms of a post's words and of its image.
Text = str | Sequence[str] | Pair | Mapping[str, Any] | UnreadablePost
ImageInput = str | Path | bytes | Image.Image | None
#: What the items of a result are: a post's words, or its entities.
Aggregation = Literal["none", "simple", "first"]


#: Held while a pipeline makes its folder: its results can be pickled, a lock of its own could not.
_FOLDERS = Lock()


def pipeline(
    model: Tagger | str | Path,
    *,
    aggregation_strategy: Aggregation = "simple",
    ignore_labels: Sequence[str] = ("O",),
    batch_size: int | None = None,
    device: int | str | torch.device | None = None,
    batch_pieces: int | None = None,
    workers: int = 2,
    precision: Precision = "fp32",
    return_boxes: bool = True,
    allow_urls: bool = False,
    allow_private_addresses: bool = False,
    stores: Sequence[str | Path] = (),
    run_extractors: bool = True,
    grounder: Tagger | str | Path | None = None,
) -> NERPipeline:
    """Return a function from text and image to entities: ``pipeline(model)("...", image="1.jpg")``.

    Args:
        model: the model, its folder, or its name on the hub.
        aggregation_strategy: what the items of a result are: ``"simple"`` for entities, ``"none"`` for words, each with
            its tag and this tag's probability. ``"first"`` is the same as ``"simple"``: a word has one tag, that of its
            first piece.
        ignore_labels: tags and entity types that are left out.
        batch_size: number of posts that are read, computed and returned together; None for windows of 2,048, or of 256
            where images go through a network first. Within these, batches have ``batch_pieces`` pieces at most.
        device: to which the model, and the grounder, are moved, such as ``"cuda:1"`` or 1; -1 for the CPU, None for
            where they are.
        batch_pieces: pieces of a batch, see `BatchConfig`.
        workers: threads that build graphs and open images while the model computes; 0 for none.
        precision: fp32, bf16, or auto, see `BatchConfig`.
        return_boxes: whether to return the object with the largest attention weight of each entity.
        allow_urls: whether images may be given as addresses, which are then fetched, see `fetch_image`.
        allow_private_addresses: whether these may be of the own machine and network, too, not of the internet alone.
        stores: folders of feature stores in which images are looked up, made as those of the training were.
        run_extractors: whether to run the training's extractors on images that no store has.
        grounder: a model that grounds the entities in a second step (`EVG`), its folder, or its name on the hub.

    Raises:
        ValueError: for an aggregation strategy that words with one tag each do not have, or for ``"none"`` with a model
            whose words have no tags.
    """
    tagger = model if isinstance(model, Tagger) else Tagger.from_pretrained(model)
    if isinstance(grounder, str | Path):
        grounder = Tagger.from_pretrained(grounder)
    if device is not None:
        for moved in (tagger, grounder):
            if moved is not None:
                moved.to("cpu" if device == -1 else device)
    batching = BatchConfig(batch_pieces=batch_pieces, workers=workers, precision=precision)
    steps = Predictor(tagger, batching=batching, stores=stores, run_extractors=run_extractors, grounder=grounder)
    return NERPipeline(
        steps,
        aggregation_strategy=aggregation_strategy,
        ignore_labels=ignore_labels,
        batch_size=batch_size,
        return_boxes=return_boxes,
        allow_urls=allow_urls,
        allow_private_addresses=allow_private_addresses,
    )


@dataclass(frozen=True)
class _Options:
    """How the results of a call are computed and what is in them."""

    aggregation: Aggregation
    ignore_labels: tuple[str, ...]
    batch_size: int | None

    @classmethod
    def of(
        cls, model: Tagger, aggregation: Aggregation, ignore_labels: Sequence[str], batch_size: int | None
    ) -> _Options:
        """Return checked options; transformers' own enumeration and upper case are taken, too."""
        name = str(getattr(aggregation, "value", aggregation)).lower()
        if name in ("average", "max"):
            raise ValueError(
                f"aggregation_strategy {name!r} combines the scores of a word's pieces; here a word has one tag and "
                "one score: 'simple' groups the words to entities, and 'none' returns them"
            )
        if name not in get_args(Aggregation):
            raise ValueError(f"aggregation_strategy {name!r} is not among {', '.join(get_args(Aggregation))}")
        if name == "none" and (reason := _without_tags(model)):
            raise ValueError(f"aggregation_strategy 'none' returns words with their tags; {reason}")
        if isinstance(ignore_labels, str):
            raise ValueError(f"ignore_labels is a list of labels, not the text {ignore_labels!r}")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size is 1 or more posts, not {batch_size}")
        return cls(cast(Aggregation, name), tuple(ignore_labels), batch_size)


def _without_tags(model: Tagger) -> str:
    """Why a model's words have no tags with probabilities; "" where they do."""
    if not isinstance(model.entity_head, TaggingHead):
        return f"the entities of {type(model).__name__} are spans, and its words have no tags"
    grounding = model.grounding_head
    if isinstance(grounding, EntityGrounding) and grounding.gives_types:
        return f"this {type(model).__name__} gives types to entities, not to words (Grounding(types='regions'))"
    return ""


class NERPipeline:
    """What `pipeline` returns; several threads may call it at once."""

    def __init__(
        self,
        steps: Predictor,
        *,
        return_boxes: bool,
        allow_urls: bool,
        allow_private_addresses: bool = False,
        aggregation_strategy: Aggregation = "simple",
        ignore_labels: Sequence[str] = ("O",),
        batch_size: int | None = None,
    ) -> None:
        self.steps, self.model = steps, steps.model
        self.return_boxes, self.allow_urls = return_boxes, allow_urls
        self.allow_private_addresses = allow_private_addresses
        self._options = _Options.of(self.model, aggregation_strategy, ignore_labels, batch_size)
        self._folder: Path | None = None
        self._numbers = count()

    def __call__(
        self,
        text: Text | Iterable[Text],
        *,
        image: ImageInput | Iterable[ImageInput] = None,
        is_split_into_words: bool = False,
        aggregation_strategy: Aggregation | None = None,
        ignore_labels: Sequence[str] | None = None,
        batch_size: int | None = None,
    ) -> NERResult | list[NERResult] | Iterator[NERResult]:
        """Return the entities of one post, or of each of many.

        Args:
            text: one post: plain text, split into words as the Twitter data is, a `Pair`, or a dict with ``text``, or
                ``words`` or ``tokens``, and if there is one, ``image`` and ``id``, as rows of data sets are. Many
                posts: a list of these, or a stream: a generator, a data set of PyTorch, of Hugging Face or of ours, or
                any other iterable.
            image: a path, the bytes of an image file, a PIL image, or with ``allow_urls`` an address; for many posts
                a list, or for a stream an iterable, with None for a post without an image. A `Pair` and a dict have
                their own.
            is_split_into_words: whether the text is a list of words (one post), or many of such lists.
            aggregation_strategy: that of this call; see `pipeline`.
            ignore_labels: those of this call.
            batch_size: that of this call.

        Returns:
            For one post a list of dicts, one for each entity, with

            - ``entity_group`` (also ``label``), the type, and ``score``, its probability
            - ``word`` (also ``text``), and its place in the text: ``text[start:end]``, in characters
            - ``word_start`` and ``word_end``, its place among the words
            - of a model that grounds entities (`Grounding`) ``box``, the object that shows the entity, xyxy in pixels,
              or None where the image does not show it, ``box_label``, and ``box_probability`` of this choice
            - ``attention_box``, ``attention_box_label`` and ``attention_box_score``: the object with the largest
              attention weight, as its detector returned it, and ``attention_weight``, that weight
              (`PairRecord.attention_to`); None without objects. No model is trained to attend to the right object

            With ``aggregation_strategy="none"`` one for each word whose tag is not ignored: ``entity``, the tag,
            ``score``, the tag's probability at this word (None for words that are cut off, whose tag is O),
            ``index``, the word's place from 0, ``word``, ``start`` and ``end``; entities are in ``result.entities``.

            For a list of posts a list. For a stream an iterator, which reads ``batch_size`` posts, predicts them and
            gives their results in order before it reads on: memory does not grow with the stream.

            One of many posts whose image can't be fetched from its address, or that can't be predicted, has no
            entities and ``error``, what is wrong, and a warning counts these; the others are predicted. In a stream
            these are also posts that can't be read: a text without words, an image that does not exist.

        Raises:
            ValueError: for a text without words, an image that does not exist and an address without ``allow_urls``,
                of one post or a list; for another number of images than of posts.
            ImageURLError: a ValueError, for one post whose image can't be fetched from its address.
            TypeError: for what is no post, nor many.
        """
        options = _Options.of(
            self.model,
            self._options.aggregation if aggregation_strategy is None else aggregation_strategy,
            self._options.ignore_labels if ignore_labels is None else ignore_labels,
            self._options.batch_size if batch_size is None else batch_size,
        )
        if isinstance(text, str | Pair | Mapping) or (
            is_split_into_words and isinstance(text, list | tuple) and all(isinstance(part, str) for part in text)
        ):
            images = image if isinstance(image, list | tuple) else [image]
            if len(images) != 1:
                raise ValueError(f"1 posts, so image is a list of as many; there are {len(images)}")
            return self._one(self._pair(text, images[0], is_split_into_words), options)
        if isinstance(text, list | tuple):
            images = [None] * len(text) if image is None else image if isinstance(image, list | tuple) else []
            if len(images) != len(text):
                raise ValueError(f"{len(text)} posts, so image is a list of as many; there are {len(images)}")
            posts = [
                self._post(part, given, is_split_into_words, ImageURLError)
                for part, given in zip(text, images, strict=True)
            ]
            return list(self._many(posts, options, stacklevel=3))
        if image is not None and (
            isinstance(image, str | bytes | Path | Image.Image) or not hasattr(image, "__iter__")
        ):
            raise ValueError("of a stream of posts, image is an iterable of as many images")
        stream = zip_longest(_items(text), repeat(None) if image is None else image, fillvalue=_ENDED)
        return self._many(self._read(stream, is_split_into_words, no_images=image is None), options, stacklevel=2)

    # --- one post, and many -----------------------------------------------------------------------------

    def _one(self, post: Pair, options: _Options) -> NERResult:
        """Return the result of a post; its fault is raised."""
        missing = MissingCounts()
        decode = partial(self._decode, options=options)
        (result,), without = self.steps.compute_each([post], decode, forward=self._forward)
        for fault in self.steps.ground([(post, result.entities)]).values():
            raise fault
        missing.add(without, 1).warn(stacklevel=3)
        if self.steps.grounder is not None:
            self.steps.grounder.missing.warn(stacklevel=3)
        return result

    def _many(self, posts: Iterable[Pair | NERResult], options: _Options, *, stacklevel: int) -> Iterator[NERResult]:
        """Yield the results of posts in their order, and those of posts that can't be read in their places."""
        waiting, missing = iter(posts), MissingCounts()
        total, failed, first = 0, 0, ""
        decode = partial(self._decode, options=options)
        while window := list(islice(waiting, options.batch_size or self.steps.window)):
            pairs = [post for post in window if isinstance(post, Pair)]
            computed, without = self.steps.compute_each(pairs, decode, forward=self._forward, failed=self._failed)
            missing.add(without, len(pairs))
            whole = [index for index, result in enumerate(computed) if result.error is None]
            faults = self.steps.ground([(pairs[index], computed[index].entities) for index in whole])
            for place, fault in faults.items():
                computed[whole[place]] = self._failed(pairs[whole[place]], fault)
            done = iter(computed)
            results = [next(done) if isinstance(post, Pair) else post for post in window]
            errors = [result.error for result in results if result.error is not None]
            total, failed, first = total + len(results), failed + len(errors), first or next(iter(errors), "")
            # nothing of a window is kept while the next one is read
            del window, pairs, computed, done
            results.reverse()
            while results:
                yield results.pop()
        missing.warn(stacklevel=stacklevel)
        if self.steps.grounder is not None:
            self.steps.grounder.missing.warn(stacklevel=stacklevel)
        if failed:
            warnings.warn(
                f"{failed} of {total} posts have an error in the place of entities; the first: {first}",
                stacklevel=stacklevel,
            )

    def _read(
        self, stream: Iterable[tuple[Any, Any]], is_split_into_words: bool, *, no_images: bool
    ) -> Iterator[Pair | NERResult]:
        """Yield the posts of a stream; those that can't be read as results with an error."""
        for number, (text, image) in enumerate(stream):
            if text is _ENDED:
                if no_images:
                    return
                raise ValueError(f"there are {number} posts and more images; image has as many")
            if image is _ENDED:
                raise ValueError(f"there are {number} images and more posts; image has as many, with None for none")
            yield self._post(text, image, is_split_into_words, ValueError)

    def _failed(self, pair: Pair, error: Exception) -> NERResult:
        """Return the result of a post that can't be predicted."""
        text = str(error) if isinstance(error, ImageURLError) else describe_error(pair, error)
        return NERResult([], pair=pair, model=self.model, reader=self, error=text)

    def _post(self, text: Any, image: Any, is_split_into_words: bool, fault: type[ValueError]) -> Pair | NERResult:
        """Return a post, or where it can't be read for a fault of this class, a result that says so."""
        if isinstance(text, UnreadablePost):
            return NERResult([], pair=None, model=self.model, reader=self, error=text.error, id=text.id)
        try:
            fields = _fields(text, image, is_split_into_words)
        except (ValueError, TypeError) as error:
            if not isinstance(text, Mapping) or fault is not ValueError:
                raise  # a fault of the call, not of one post
            where = "" if text.get("id") is None else str(text["id"])
            return NERResult([], pair=None, model=self.model, reader=self, error=str(error), id=where)
        try:
            return self._from_fields(fields)
        except fault as error:
            readable, text = None, " ".join([fields.words] if isinstance(fields.words, str) else fields.words)
            with suppress(ValueError):
                readable = self._from_fields(fields._replace(image=None))
            return NERResult(
                [], pair=readable, model=self.model, reader=self, error=str(error), text=text, id=fields.id
            )

    def _pair(self, text: Any, image: Any, is_split_into_words: bool) -> Pair:
        return self._from_fields(_fields(text, image, is_split_into_words))

    def _from_fields(self, fields: _Fields) -> Pair:
        if fields.pair is not None:
            return fields.pair
        path = None if fields.image is None else self._image_file(fields.image)
        if isinstance(fields.words, str):
            return Pair.from_text(fields.words, image_path=path, id=fields.id)
        return Pair.from_words(fields.words, image_path=path, id=fields.id)

    def _forward(self, batch: Batch, pairs: Sequence[Pair]) -> tuple[GraphState, Sequence[PairRecord | None]]:
        """Return the last graph, and what the posts' entities attend to, if it gives their boxes."""
        if self.return_boxes and any(pair.objects for pair in pairs):
            with record_attention(self.model) as record:
                graph = self.model(batch)
            return graph, record.posts
        return self.model(batch), [None] * len(pairs)

    def _decode(
        self,
        computed: tuple[GraphState, Sequence[PairRecord | None]],
        pairs: Sequence[Pair],
        options: _Options,
    ) -> list[NERResult]:
        graph, records = computed
        predicted = self.model.decode(graph)
        words: Sequence[list[dict[str, Any]] | None] = [None] * len(pairs)
        if options.aggregation == "none":
            tags = self.model.decode_tags(graph)
            chances = self.model.tagging_head.tag_probabilities(graph, tags)
            words = [_words(*post, options.ignore_labels) for post in zip(pairs, tags, chances, strict=True)]
        return [
            NERResult(
                [_entity(pair, entity, record) for entity in entities if entity.type not in options.ignore_labels],
                words=items,
                heads=heads,
                pair=pair,
                model=self.model,
                reader=self,
            )
            for pair, (entities, heads), record, items in zip(pairs, predicted, records, words, strict=True)
        ]

    # --- images that are no files -----------------------------------------------------------------------

    def _image_file(self, image: str | Path | bytes | Image.Image | Mapping[str, Any]) -> Path:
        """The image as a file; one of our own is deleted when nothing has its path any more."""
        if isinstance(image, Mapping):  # as Hugging Face's data sets hold images that are not decoded
            path, content = image.get("path"), image.get("bytes")
            image = content if content is not None and not (path and Path(path).is_file()) else str(path)
        if isinstance(image, str) and is_url(image):
            if not self.allow_urls:
                raise ValueError(f"{quoted(image)} is an address; pipeline(model, allow_urls=True) fetches such images")
            image = fetch_image(image, allow_private_addresses=self.allow_private_addresses)
        if isinstance(image, str | Path):
            return require_file(Path(image))
        target = self._new_file()
        if isinstance(image, bytes):
            target.write_bytes(image)
        else:
            open_image(image).image.save(target, "PNG", compress_level=1)
        return target

    def _new_file(self) -> Path:
        """A new name in a folder that is deleted with this pipeline and its results."""
        with _FOLDERS:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="mnergraph-"))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        path = _ReferencedPath(self._folder / str(next(self._numbers)))
        weakref.finalize(path, _delete, str(path)).atexit = False  # the folder is deleted then
        return path


class _ReferencedPath(type(Path())):  # type: ignore[misc]  # Python 3.11 has the class of this system's paths only so
    """A path that can be weakly referenced, so that its file is deleted when nothing holds it any more."""


def _delete(name: str) -> None:
    with suppress(OSError):  # its folder was deleted before
        Path(name).unlink()


class _Fields(NamedTuple):
    """What a post is made of: a pair, or words, image and id."""

    pair: Pair | None
    words: str | Sequence[str]
    image: Any
    id: str = ""


_ENDED: Any = object()


def _fields(text: Any, image: Any, is_split_into_words: bool) -> _Fields:
    """Return what a post is made of.

    Raises:
        ValueError: for an image beside a post that has its own, a list that is not said to be of words, and a dict
            without text.
        TypeError: for what is no post.
    """
    if isinstance(text, Pair | Mapping) and image is not None:
        raise ValueError(f"a {type(text).__name__} has its own image; give none with it")
    if isinstance(text, Pair):
        return _Fields(text, (), None)
    if isinstance(text, Mapping):
        key = next((key for key in ("text", "words", "tokens") if key in text), None)
        if key is None:
            raise ValueError(f"a post has text, words or tokens; this one has {listed(sorted(map(str, text)))}")
        words = "" if text[key] is None else text[key]
        if not isinstance(words, str | list | tuple):
            raise TypeError(f"{key} is {quoted(repr(words))}; right is a text, or a list of words")
        return _Fields(None, words, text.get("image"), "" if text.get("id") is None else str(text["id"]))
    if isinstance(text, str):
        return _Fields(None, text, image)
    if not isinstance(text, list | tuple):
        raise TypeError(f"{quoted(repr(text))} is no post: right is a text, a list of words, a dict or a Pair")
    if not is_split_into_words:
        raise ValueError(f"{text!r} is a list; are these words? Then give is_split_into_words=True")
    return _Fields(None, text, image)


def _items(posts: Any) -> Iterator[Any]:
    """Return the posts of a stream one by one.

    Raises:
        TypeError: for what is no stream.
    """
    if isinstance(posts, PostDataset):
        return iter(posts.pairs)
    if hasattr(posts, "__iter__"):
        return iter(posts)
    if hasattr(posts, "__getitem__") and hasattr(posts, "__len__"):  # PyTorch's data sets
        return (posts[index] for index in range(len(posts)))
    raise TypeError(f"{quoted(repr(posts))} is neither a post nor an iterable of posts")


def _words(
    pair: Pair, tags: Sequence[str], chances: Sequence[float | None], ignore_labels: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a dict for every word whose tag is not ignored, with the names that transformers has."""
    return [
        {
            "entity": tag,
            "score": None if chance is None else round(chance, 6),
            "index": index,
            "word": pair.text[start:end],
            "start": start,
            "end": end,
        }
        for index, (tag, chance, (start, end)) in enumerate(zip(tags, chances, pair.word_offsets, strict=True))
        if tag not in ignore_labels
    ]


_ATTENTION = ("attention_box", "attention_box_label", "attention_box_score", "attention_weight")


def _entity(pair: Pair, entity: Entity, record: PairRecord | None) -> dict[str, Any]:
    offsets = pair.word_offsets
    start, end = offsets[entity.start][0], offsets[entity.end - 1][1]
    result = {
        "entity_group": entity.type,
        "label": entity.type,
        "score": round(entity.score, 6),
        "word": pair.text[start:end],
        "text": pair.text[start:end],
        "start": start,
        "end": end,
        "word_start": entity.start,
        "word_end": entity.end,
        **describe_region(entity.region),
    }
    attention = None if record is None else record.attention_to((entity.start, entity.end))
    if attention is None or not len(attention):
        return {**result, **dict.fromkeys(_ATTENTION)}
    index = int(attention.argmax())
    item = pair.objects[index]
    box = None if item.box is None else [float(side) for side in item.box]
    values = (box, item.label, item.score, round(float(attention[index]), 6))
    return {**result, **dict(zip(_ATTENTION, values, strict=True))}
