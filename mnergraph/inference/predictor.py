"""A model and the processor it was trained with: posts in, entities out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from torch_geometric.data import Batch

from mnergraph.data.formats.jsonl import UnreadablePost
from mnergraph.data.missing_evidence import MissingCounts, refuse_absent
from mnergraph.data.processor import Processor
from mnergraph.labels import Entity
from mnergraph.models.base import Tagger
from mnergraph.models.batch_config import BatchConfig
from mnergraph.models.batches import OF_ONE_POST, run_in_batches
from mnergraph.pair import Pair

#: Posts that are read, sorted by their pieces, and predicted together; fewer where images go through a network first,
#: which takes longer than the text.
WINDOW, IMAGE_WINDOW = 2048, 256


class Predictor:
    """A model and the processor that gives posts what the model's training posts had.

    Args:
        model: the model; its ``processor_config`` says with which evidence it was trained.
        batching: how posts are taken into batches, and the precision.
        stores: folders of feature stores in which to look images up, made as those of the training were.
        run_extractors: whether to run the training's extractors on images that no store has.

    Raises:
        StoreError: for a store that was made otherwise, naming each difference.
    """

    def __init__(
        self,
        model: Tagger,
        *,
        batching: BatchConfig = BatchConfig(),
        stores: Iterable[Path | str] = (),
        run_extractors: bool = True,
    ) -> None:
        self.model, self.batching = model, batching
        self.processor = Processor(model.processor_config, stores=stores, run_extractors=run_extractors)

    def __call__(
        self, pairs: Iterable[Pair | UnreadablePost], *, progress: Callable[[int], object] = lambda posts: None
    ) -> Iterator[dict[str, Any]]:
        """Yield a dict for every post, in the order of the posts, which are read a window at a time.

        ``entities``: type, score (0 to 1), words, and offsets in words and characters; and by its name what every
        further head predicts. A post that the model can't read, such as one with half an emoji, has ``error``, what is
        wrong with it, in the place of entities; the others of its batch are predicted without it.

        Args:
            pairs: the posts; the next `window` of them are read when the lines of the last ones are taken.
            progress: called after every batch with its number of posts.
        """
        waiting = iter(pairs)
        missing = MissingCounts()
        while window := list(islice(waiting, self.window)):
            lines, without = self._predict_window(window, progress)
            missing.add(without, len(window))
            yield from lines
        missing.warn()

    @property
    def window(self) -> int:
        """How many posts are read, sorted by their pieces, and predicted together."""
        processor = self.processor
        computes_features = processor.regions is not None or (processor.extractors and processor.run_extractors)
        return IMAGE_WINDOW if computes_features else WINDOW

    def _predict_window(
        self, window: Sequence[Pair | UnreadablePost], progress: Callable[[int], object]
    ) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
        """Return the lines of these posts, and which of them lack which evidence."""
        lines = {index: post.line() for index, post in enumerate(window) if isinstance(post, UnreadablePost)}
        progress(len(lines))
        indices = [index for index in range(len(window)) if index not in lines]
        ready, without = self._process_each([pair for pair in window if isinstance(pair, Pair)])
        for index, pair in zip(indices, ready, strict=True):
            if not isinstance(pair, Pair):
                lines[index] = pair
                progress(1)
        whole = [(index, pair) for index, pair in zip(indices, ready, strict=True) if isinstance(pair, Pair)]
        predicted = run_in_batches(
            self.model,
            [pair for _, pair in whole],
            self._compute,
            config=self.batching,
            failed=_failed,
            progress=progress,
        )
        lines |= {index: line for (index, _), line in zip(whole, predicted, strict=True)}
        return [lines[index] for index in range(len(window))], without

    def _compute(self, batch: Batch, posts: Sequence[Pair]) -> list[dict[str, Any]]:
        predicted = self.model.decode(self.model(batch))
        return [_result(pair, entities, heads) for pair, (entities, heads) in zip(posts, predicted, strict=True)]

    def _process_each(self, pairs: list[Pair]) -> tuple[list[Pair | dict[str, Any]], dict[str, list[str]]]:
        """Return the pairs ready for the model, or the line of one that can't be processed; and what they lack."""
        try:
            ready, missing = self._process(pairs)
            return list(ready), missing
        except OF_ONE_POST as error:
            if len(pairs) == 1:
                return [_failed(pairs[0], error)], {}
        # halves until the posts that fail are alone
        half = len(pairs) // 2
        (first, without), (second, without_too) = self._process_each(pairs[:half]), self._process_each(pairs[half:])
        kinds = dict.fromkeys([*without, *without_too])
        return first + second, {kind: [*without.get(kind, ()), *without_too.get(kind, ())] for kind in kinds}

    def require_evidence(
        self, pairs: Iterable[Pair | UnreadablePost], *, split: str = "", allow_missing: Iterable[str] = ()
    ) -> None:
        """Check, before work starts, that posts have the evidence that the model reads, or that processing gives it.

        Args:
            pairs: the posts, of which no more are read than until one has each kind of evidence.
            split: their split, for the message; without it posts that have no image are left out, as they are read
                by their text.
            allow_missing: kinds of evidence that may be missing for all of them, besides those of the training.

        Raises:
            MissingEvidenceError: when all posts lack evidence of a kind, with how to get it.
        """
        allowed = {*allow_missing, *self.processor.config.allow_missing}
        absent: set[str] | None = None
        for pair in pairs:
            if isinstance(pair, UnreadablePost) or not (split or pair.image_path is not None):
                continue
            kinds = set(self.model.builder.missing(pair)) - self.processor.available(pair) - allowed
            absent = kinds if absent is None else absent & kinds
            if not absent:
                return
        refuse_absent({kind: [split] for kind in sorted(absent or ())})

    def prepared(self, pairs: Iterable[Pair], *, cache: Path | None = None, progress: bool = False) -> list[Pair]:
        """Return the pairs ready for the model; see `Processor`."""
        ready, missing = self._process(list(pairs), cache=cache, progress=progress)
        MissingCounts().add(missing, len(ready)).warn()
        return ready

    def _process(
        self, pairs: list[Pair], *, cache: Path | None = None, progress: bool = False
    ) -> tuple[list[Pair], dict[str, list[str]]]:
        device = next(self.model.parameters()).device
        return self.processor.process(pairs, builder=self.model.builder, device=device, cache=cache, progress=progress)


def _result(pair: Pair, entities: Sequence[Entity], heads: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entities of a post with their words and offsets, and what further heads predict."""
    offsets = pair.word_offsets if entities else ()
    return {
        "id": pair.id,
        "text": pair.text,
        "entities": [
            {
                "type": entity.type,
                "score": round(entity.score, 6),
                "words": list(pair.words[entity.start : entity.end]),
                "word_start": entity.start,
                "word_end": entity.end,
                "start": offsets[entity.start][0],
                "end": offsets[entity.end - 1][1],
            }
            for entity in entities
        ],
        **heads,
    }


def _failed(pair: Pair, error: Exception) -> dict[str, Any]:
    """Return the line of a post that can't be predicted."""
    return {"id": pair.id, "text": pair.text, "error": describe_error(pair, error)}


def describe_error(pair: Pair, error: Exception) -> str:
    """Return what is wrong with a post, in one line."""
    if any("\ud800" <= character <= "\udfff" for character in "".join((pair.id, *pair.words))):
        return "half of a surrogate pair in the text: a character that was cut in two"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
