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
from mnergraph.inference.grounder import Grounder, describe_region
from mnergraph.labels import Entity
from mnergraph.models.base import Tagger
from mnergraph.models.batch_config import BatchConfig
from mnergraph.models.batches import OF_ONE_POST, Result, run_in_batches
from mnergraph.nn.state import GraphState
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
        grounder: a model that grounds the entities that this one finds (`EVG`), in a second step.

    Raises:
        StoreError: for a store that was made otherwise, naming each difference.
        ValueError: for a grounder beside a model that grounds entities itself.
    """

    def __init__(
        self,
        model: Tagger,
        *,
        batching: BatchConfig = BatchConfig(),
        stores: Iterable[Path | str] = (),
        run_extractors: bool = True,
        grounder: Tagger | None = None,
    ) -> None:
        self.model, self.batching = model, batching
        self.grounder: Grounder | None = None
        if grounder is not None:
            if model.grounding_head is not None:
                raise ValueError(f"{type(model).__name__} grounds its entities itself; leave out grounder")
            self.grounder = Grounder(grounder, batching=batching, stores=stores, run_extractors=run_extractors)
        self.processor = Processor(model.processor_config, stores=stores, run_extractors=run_extractors)

    def __call__(
        self, pairs: Iterable[Pair | UnreadablePost], *, progress: Callable[[int], object] = lambda posts: None
    ) -> Iterator[dict[str, Any]]:
        """Yield a dict for every post, in the order of the posts, which are read a window at a time.

        ``entities``: type, score (0 to 1), words, and offsets in words and characters; of a model that grounds
        entities also ``box``, xyxy in pixels or None where the image does not show the entity, ``box_label`` and
        ``box_probability``; and by its name what every further head predicts. A post that the model can't read, such as
        one with half an emoji, has ``error``, what is wrong with it, in the place of entities; the others of its batch
        are predicted without it.

        Args:
            pairs: the posts; the next `window` of them are read when the lines of the last ones are taken.
            progress: called after every batch with its number of posts.
        """
        waiting = iter(pairs)
        missing = MissingCounts()
        while window := list(islice(waiting, self.window)):
            lines, without = self.predict_window(window, progress)
            missing.add(without, len(window))
            yield from lines
        missing.warn()
        if self.grounder is not None:
            self.grounder.missing.warn()

    @property
    def window(self) -> int:
        """How many posts are read, sorted by their pieces, and predicted together."""
        processor = self.processor
        computes_features = processor.regions is not None or (processor.extractors and processor.run_extractors)
        return IMAGE_WINDOW if computes_features else WINDOW

    def predict_window(
        self, window: Sequence[Pair | UnreadablePost], progress: Callable[[int], object] = lambda posts: None
    ) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
        """Return the lines of these posts, in their order, and by kind of evidence the names of those that lack it.

        Args:
            window: the posts, which are sorted by their pieces and predicted together.
            progress: called with numbers of posts that are done.
        """
        pairs = [pair for pair in window if isinstance(pair, Pair)]
        progress(len(window) - len(pairs))
        predicted, missing = self.compute_each(pairs, self._decode, failed=_failed, progress=progress)
        whole = [index for index, line in enumerate(predicted) if "error" not in line]
        faults = self.ground([(pairs[index], predicted[index]["entities"]) for index in whole])
        for place, fault in faults.items():
            predicted[whole[place]] = _failed(pairs[whole[place]], fault)
        lines = iter(predicted)
        return [post.line() if isinstance(post, UnreadablePost) else next(lines) for post in window], missing

    def compute_each(
        self,
        pairs: Sequence[Pair],
        decode: Callable[[Any, Sequence[Pair]], Sequence[Result]],
        *,
        forward: Callable[[Batch, Sequence[Pair]], Any] | None = None,
        failed: Callable[[Pair, Exception], Result] | None = None,
        progress: Callable[[int], object] = lambda posts: None,
    ) -> tuple[list[Result], dict[str, list[str]]]:
        """Return what is decoded of every post, prepared for the model; and which posts lack which evidence.

        Args:
            pairs: the posts, a window of them.
            decode: from what ``forward`` returns and the posts to a result for every post; see `run_in_batches`.
            forward: from a batch of graphs and its posts to what ``decode`` takes; by default the model.
            failed: returns the result of a post that can't be prepared or computed. Without it the error is raised.
            progress: called with numbers of posts that are done.
        """
        ready, missing = self._process_each(pairs, raising=failed is None)
        whole = [(index, pair) for index, pair in enumerate(ready) if isinstance(pair, Pair)]
        computed = run_in_batches(
            self.model,
            [pair for _, pair in whole],
            decode,
            forward=forward,
            config=self.batching,
            failed=failed,
            progress=progress,
        )
        results = {index: result for (index, _), result in zip(whole, computed, strict=True)}
        for index, (pair, error) in enumerate(zip(pairs, ready, strict=True)):
            if failed is not None and not isinstance(error, Pair):
                results[index] = failed(pair, error)
                progress(1)
        return [results[index] for index in range(len(pairs))], missing

    def ground(self, found: Sequence[tuple[Pair, Sequence[dict[str, Any]]]]) -> dict[int, Exception]:
        """Add to the entities of posts, in place, where the image shows them; nothing without a grounder.

        Returns:
            the faults of posts that can't be grounded, by their place.
        """
        if self.grounder is None or not found:
            return {}
        try:
            self.grounder(*zip(*found, strict=True))
        except OF_ONE_POST as error:
            if len(found) == 1:
                return {0: error}
            # halves until the posts that fail are alone
            half = len(found) // 2
            second = self.ground(found[half:])
            return self.ground(found[:half]) | {half + place: fault for place, fault in second.items()}
        return {}

    def _decode(self, graph: GraphState, posts: Sequence[Pair]) -> list[dict[str, Any]]:
        predicted = self.model.decode(graph)
        return [_result(pair, entities, heads) for pair, (entities, heads) in zip(posts, predicted, strict=True)]

    def _process_each(
        self, pairs: Sequence[Pair], *, raising: bool
    ) -> tuple[list[Pair | Exception], dict[str, list[str]]]:
        """Return the pairs ready for the model, or the error of one that can't be processed; and what they lack."""
        try:
            ready, missing = self._process(list(pairs))
            return list(ready), missing
        except OF_ONE_POST as error:
            if raising:
                raise
            if len(pairs) == 1:
                return [error], {}
        # halves until the posts that fail are alone
        half = len(pairs) // 2
        first, without = self._process_each(pairs[:half], raising=raising)
        second, without_too = self._process_each(pairs[half:], raising=raising)
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
            if isinstance(pair, UnreadablePost):
                continue
            kinds = set(self.model.builder.missing(pair)) - self.processor.available(pair) - allowed
            if self.grounder is not None:
                kinds |= self.grounder.lacking(pair) - set(allow_missing)
            if kinds and not split and pair.image_path is None:
                continue
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
                **describe_region(entity.region),
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
