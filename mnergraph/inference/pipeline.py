"""`pipeline`: a model as a function of text and picture, in the manner of Hugging Face's pipelines."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

from PIL import Image

from mnergraph.data.formats.jsonl import require_file
from mnergraph.explain.record import PairRecord
from mnergraph.explain.recorder import record_attention
from mnergraph.features.vision.image_io import open_image
from mnergraph.inference.output import NERResult
from mnergraph.inference.processor import Pipeline
from mnergraph.labels import Entity
from mnergraph.models.base import Tagger
from mnergraph.pair import Pair

#: What a post's words and its picture may be given as.
Text = str | Sequence[str] | Pair


Shown = str | Path | bytes | Image.Image | None


#: Seconds to wait for a picture's address, and bytes that are taken from it at most.
PATIENCE, MOST = 20, 50_000_000


def pipeline(
    model: Tagger | str | Path,
    *,
    batch_size: int = 32,
    return_boxes: bool = True,
    allow_urls: bool = False,
    stores: Sequence[str | Path] = (),
    run_extractors: bool = True,
) -> NERPipeline:
    """A function of text and picture that finds entities: ``pipeline(model)("...", image="1.jpg")``.

    Args:
        model: the model, its folder, or its name on the hub.
        batch_size: posts at once.
        return_boxes: whether to tell the object that each entity heard most of.
        allow_urls: whether pictures may be given as addresses, which are then fetched.
        stores: folders of feature stores in which pictures are looked up, made as those of the training were.
        run_extractors: whether to run the training's extractors on pictures that no store knows.
    """
    tagger = model if isinstance(model, Tagger) else Tagger.from_pretrained(model)
    steps = Pipeline(tagger, batch_size=batch_size, stores=stores, run_extractors=run_extractors)
    return NERPipeline(steps, return_boxes=return_boxes, allow_urls=allow_urls)


class NERPipeline:
    """What `pipeline` returns."""

    def __init__(self, steps: Pipeline, *, return_boxes: bool, allow_urls: bool) -> None:
        self.steps, self.model = steps, steps.model
        self.return_boxes, self.allow_urls = return_boxes, allow_urls
        self._folder: Path | None = None
        self._numbers = count()

    def __call__(
        self,
        text: Text | Sequence[Text],
        *,
        image: Shown | Sequence[Shown] = None,
        is_split_into_words: bool = False,
    ) -> NERResult | list[NERResult]:
        """The entities of one post, or of each of many.

        Args:
            text: plain text, which is cut the way the Twitter data is, or a `Pair`; a list of these is many
                posts.
            image: the picture: a path, the bytes of its file, a PIL image, or where that is allowed its
                address; for many posts a list, None for a post without. A `Pair` has its own.
            is_split_into_words: text is words already: a list of words is one post, and a list of such lists many.

        Returns:
            For one post a list of dicts, one for each entity, with

            - ``entity_group`` (also ``label``), the type, and ``score``, its probability
            - ``word`` (also ``text``), and its place in the text: ``text[start:end]``, in characters
            - ``word_start`` and ``word_end``, its place among the words
            - ``box``, ``box_label`` and ``box_score``: the object that the entity heard most of, as its
              detector told it, and ``box_weight``, how much (`PairRecord.attention_to`); None where there is none

        Raises:
            ValueError: for a text without words, a picture that is not there, an address that is not allowed,
                or not as many pictures as posts.
        """
        one = isinstance(text, str | Pair) or (is_split_into_words and all(isinstance(part, str) for part in text))
        texts: list[Any] = [text] if one or isinstance(text, Pair) else list(text)
        many = image if isinstance(image, list | tuple) else [image] if one else None
        images: list[Any] = [None] * len(texts) if many is None and image is None else list(many or ())
        if len(images) != len(texts):
            raise ValueError(f"{len(texts)} posts, so image is a list of as many; there are {len(images)}")
        posts = [self._post(told, shown, is_split_into_words) for told, shown in zip(texts, images, strict=True)]
        found: list[NERResult] = []
        for begin in range(0, len(posts), self.steps.batch_size):
            found += self._read(posts[begin : begin + self.steps.batch_size])
        return found[0] if one else found

    def _post(self, told: Text, shown: Shown, is_split_into_words: bool) -> Pair:
        if isinstance(told, Pair):
            if shown is not None:
                raise ValueError("a Pair has its own picture; give none beside it")
            return told
        picture = None if shown is None else self._picture(shown)
        if isinstance(told, str):
            return Pair.from_text(told, image_path=picture)
        if not is_split_into_words:
            raise ValueError(f"{told!r} is a list; are these words? Then give is_split_into_words=True")
        return Pair.from_words(told, image_path=picture)

    def _read(self, posts: Sequence[Pair]) -> list[NERResult]:
        pairs = self.steps.prepared(posts)
        records: Sequence[PairRecord | None] = [None] * len(pairs)
        if self.return_boxes and any(pair.objects for pair in pairs):
            with record_attention(self.model) as record:
                predicted = self.model.predict_heads(pairs)
            records = record.posts
        else:
            predicted = self.model.predict_heads(pairs)
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

    # --- pictures that are no files ---------------------------------------------------------------------

    def _picture(self, shown: str | Path | bytes | Image.Image) -> Path:
        """The picture as a file."""
        if isinstance(shown, str) and urlsplit(shown).scheme in ("http", "https"):
            if not self.allow_urls:
                raise ValueError(f"{shown} is an address; pipeline(model, allow_urls=True) fetches such pictures")
            with urlopen(shown, timeout=PATIENCE) as answer:
                data: bytes = answer.read(MOST + 1)
            if len(data) > MOST:
                raise ValueError(f"the picture has more than {MOST:,} bytes")
            shown = data
        if isinstance(shown, str | Path):
            return require_file(Path(shown))
        target = self._new_file()
        if isinstance(shown, bytes):
            target.write_bytes(shown)
        else:
            open_image(shown).image.save(target, "PNG", compress_level=1)
        return target

    def _new_file(self) -> Path:
        """A name in a folder that vanishes with this reader and what it found."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="mnergraph-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder / str(next(self._numbers))


def _entity(pair: Pair, entity: Entity, record: PairRecord | None) -> dict[str, Any]:
    start, end = pair.word_offsets[entity.start][0], pair.word_offsets[entity.end - 1][1]
    told = {
        "entity_group": entity.type,
        "label": entity.type,
        "score": round(entity.score, 6),
        "word": pair.text[start:end],
        "text": pair.text[start:end],
        "start": start,
        "end": end,
        "word_start": entity.start,
        "word_end": entity.end,
    }
    nothing = {"box": None, "box_label": None, "box_score": None, "box_weight": None}
    heard = None if record is None else record.attention_to((entity.start, entity.end))
    if heard is None or not len(heard):
        return {**told, **nothing}
    place = int(heard.argmax())
    thing = pair.objects[place]
    return {
        **told,
        "box": None if thing.box is None else [float(side) for side in thing.box],
        "box_label": thing.label,
        "box_score": thing.score,
        "box_weight": round(float(heard[place]), 6),
    }
