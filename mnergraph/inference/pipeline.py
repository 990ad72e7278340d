"""`pipeline`: a model as a function of text and image, like Hugging Face's pipelines."""

from __future__ import annotations

import shutil
import tempfile
import warnings
import weakref
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any

from PIL import Image
from torch_geometric.data import Batch

from mnergraph.data.formats.jsonl import require_file
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
from mnergraph.pair import Pair
from mnergraph.quoting import quoted

#: The forms of a post's words and of its image.
Text = str | Sequence[str] | Pair
ImageInput = str | Path | bytes | Image.Image | None


#: Held while a pipeline makes its folder: its results can be pickled, a lock of its own could not.
_FOLDERS = Lock()


def pipeline(
    model: Tagger | str | Path,
    *,
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
        batch_pieces: pieces of a batch, see `BatchConfig`.
        workers: threads that build graphs and open images while the model computes; 0 for none.
        precision: fp32, bf16, or auto, see `BatchConfig`.
        return_boxes: whether to return the object with the largest attention weight of each entity.
        allow_urls: whether images may be given as addresses, which are then fetched, see `fetch_image`.
        allow_private_addresses: whether these may be of the own machine and network, too, not of the internet alone.
        stores: folders of feature stores in which images are looked up, made as those of the training were.
        run_extractors: whether to run the training's extractors on images that no store has.
        grounder: a model that grounds the entities in a second step (`EVG`), its folder, or its name on the hub.
    """
    tagger = model if isinstance(model, Tagger) else Tagger.from_pretrained(model)
    if isinstance(grounder, str | Path):
        grounder = Tagger.from_pretrained(grounder)
    batching = BatchConfig(batch_pieces=batch_pieces, workers=workers, precision=precision)
    steps = Predictor(tagger, batching=batching, stores=stores, run_extractors=run_extractors, grounder=grounder)
    return NERPipeline(
        steps,
        return_boxes=return_boxes,
        allow_urls=allow_urls,
        allow_private_addresses=allow_private_addresses,
    )


class NERPipeline:
    """What `pipeline` returns; several threads may call it at once."""

    def __init__(
        self, steps: Predictor, *, return_boxes: bool, allow_urls: bool, allow_private_addresses: bool = False
    ) -> None:
        self.steps, self.model = steps, steps.model
        self.return_boxes, self.allow_urls = return_boxes, allow_urls
        self.allow_private_addresses = allow_private_addresses
        self._folder: Path | None = None
        self._numbers = count()

    def __call__(
        self,
        text: Text | Sequence[Text],
        *,
        image: ImageInput | Sequence[ImageInput] = None,
        is_split_into_words: bool = False,
    ) -> NERResult | list[NERResult]:
        """Return the entities of one post, or of each of many.

        Args:
            text: plain text, split into words as the Twitter data is, or a `Pair`; a list of these for many posts.
            image: a path, the bytes of an image file, a PIL image, or with ``allow_urls`` an address; for many posts
                a list, with None for a post without an image. A `Pair` has its own.
            is_split_into_words: whether the text is a list of words (one post), or a list of such lists.

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

            One of many posts whose image can't be fetched from its address, or that can't be predicted, has no
            entities and ``error``, what is wrong, and a warning counts these; the others are predicted.

        Raises:
            ValueError: for a text without words, an image that does not exist, an address without ``allow_urls``, or
                another number of images than of posts.
            ImageURLError: a ValueError, for one post whose image can't be fetched from its address.
        """
        one = isinstance(text, str | Pair) or (is_split_into_words and all(isinstance(part, str) for part in text))
        texts: list[Any] = [text] if one or isinstance(text, Pair) else list(text)
        many = image if isinstance(image, list | tuple) else [image] if one else None
        images: list[Any] = [None] * len(texts) if many is None and image is None else list(many or ())
        if len(images) != len(texts):
            raise ValueError(f"{len(texts)} posts, so image is a list of as many; there are {len(images)}")
        posts: list[Pair] = []
        unfetched: dict[int, NERResult] = {}
        for index, (part, given) in enumerate(zip(texts, images, strict=True)):
            try:
                posts.append(self._pair(part, given, is_split_into_words))
            except ImageURLError as error:
                if one:
                    raise
                unfetched[index] = self._failed(self._pair(part, None, is_split_into_words), error)
        missing = MissingCounts()
        results: list[NERResult] = []
        for begin in range(0, len(posts), self.steps.window):
            window = posts[begin : begin + self.steps.window]
            computed, without = self.steps.compute_each(window, self._compute, failed=None if one else self._failed)
            whole = [index for index, result in enumerate(computed) if result.error is None]
            for place, fault in self.steps.ground([(window[index], computed[index]) for index in whole]).items():
                if one:
                    raise fault
                computed[whole[place]] = self._failed(window[whole[place]], fault)
            missing.add(without, len(window))
            results += computed
        missing.warn(stacklevel=2)
        if self.steps.grounder is not None:
            self.steps.grounder.missing.warn(stacklevel=2)
        for index, result in unfetched.items():
            results.insert(index, result)
        errors = [result.error for result in results if result.error is not None]
        if errors:
            warnings.warn(
                f"{len(errors)} of {len(results)} posts have an error in the place of entities; the first: {errors[0]}",
                stacklevel=2,
            )
        return results[0] if one else results

    def _failed(self, pair: Pair, error: Exception) -> NERResult:
        """Return the result of a post that can't be predicted."""
        text = str(error) if isinstance(error, ImageURLError) else describe_error(pair, error)
        return NERResult([], pair=pair, model=self.model, reader=self, error=text)

    def _pair(self, text: Text, image: ImageInput, is_split_into_words: bool) -> Pair:
        if isinstance(text, Pair):
            if image is not None:
                raise ValueError("a Pair has its own image; give none with it")
            return text
        path = None if image is None else self._image_file(image)
        if isinstance(text, str):
            return Pair.from_text(text, image_path=path)
        if not is_split_into_words:
            raise ValueError(f"{text!r} is a list; are these words? Then give is_split_into_words=True")
        return Pair.from_words(text, image_path=path)

    def _compute(self, batch: Batch, pairs: Sequence[Pair]) -> list[NERResult]:
        records: Sequence[PairRecord | None] = [None] * len(pairs)
        if self.return_boxes and any(pair.objects for pair in pairs):
            with record_attention(self.model) as record:
                predicted = self.model.decode(self.model(batch))
            records = record.posts
        else:
            predicted = self.model.decode(self.model(batch))
        return [
            NERResult(
                [_entity(pair, entity, record) for entity in entities],
                heads=heads,
                pair=pair,
                model=self.model,
                reader=self,
            )
            for pair, (entities, heads), record in zip(pairs, predicted, records, strict=True)
        ]

    # --- images that are no files -----------------------------------------------------------------------

    def _image_file(self, image: str | Path | bytes | Image.Image) -> Path:
        """The image as a file."""
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
        return self._folder / str(next(self._numbers))


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
