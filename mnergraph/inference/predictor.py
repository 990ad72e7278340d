"""A model and the processor it was trained with: posts in, entities out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mnergraph.data.missing_evidence import require_evidence, warn_of_missing
from mnergraph.data.processor import Processor
from mnergraph.labels import Entity
from mnergraph.models.base import Tagger
from mnergraph.pair import Pair

#: Batches of posts that are read, sorted by length, and predicted together.
BATCHES = 8
#: Errors that one post's words or evidence can cause.
_OF_ONE_POST = (ValueError, TypeError, UnicodeError, LookupError, RuntimeError)


class Predictor:
    """A model and the processor that gives posts what the model's training posts had.

    Args:
        model: the model; its ``processor_config`` says with which evidence it was trained.
        batch_size: posts at once.
        stores: folders of feature stores in which to look images up, made as those of the training were.
        run_extractors: whether to run the training's extractors on images that no store has.

    Raises:
        StoreError: for a store that was made otherwise, naming each difference.
    """

    def __init__(
        self,
        model: Tagger,
        *,
        batch_size: int = 32,
        stores: Iterable[Path | str] = (),
        run_extractors: bool = True,
    ) -> None:
        self.model, self.batch_size = model, batch_size
        self.processor = Processor(model.processor_config, stores=stores, run_extractors=run_extractors)

    def __call__(self, pairs: Iterable[Pair]) -> Iterator[dict[str, Any]]:
        """Yield a dict for every post, in the order of the posts, which are read a few batches ahead.

        ``entities``: type, score (0 to 1), words, and offsets in words and characters; and by its name what every
        further head predicts. A post that the model can't read, such as one with half an emoji, has ``error``, what is
        wrong with it, in the place of entities; the others of its batch are predicted without it.
        """
        waiting = iter(pairs)
        missing: dict[str, list[str]] = defaultdict(list)
        total = 0
        while window := list(islice(waiting, self.batch_size * BATCHES)):
            results: dict[int, dict[str, Any]] = {}
            for indices in self.model.batches(window, self.batch_size):
                batch = [window[index] for index in indices]
                try:
                    found, without = self._predict(batch)
                except _OF_ONE_POST:
                    found, without = self._one_by_one(batch)
                results |= zip(indices, found, strict=True)
                for kind, names in without.items():
                    missing[kind] += names
            total += len(window)
            yield from (results[index] for index in range(len(window)))
        warn_of_missing(missing, total)

    def _predict(self, batch: list[Pair]) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
        """Return the results of posts as one batch, and which posts lack which evidence."""
        ready, without = self._process(batch)
        predicted = zip(ready, self.model.predict_heads(ready), strict=True)
        return [_result(pair, entities, heads) for pair, (entities, heads) in predicted], without

    def _one_by_one(self, batch: list[Pair]) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
        """Return the results of posts on their own, with an error in the place of what fails."""
        results: list[dict[str, Any]] = []
        missing: dict[str, list[str]] = defaultdict(list)
        for pair in batch:
            try:
                found, without = self._predict([pair])
            except _OF_ONE_POST as error:
                results.append({"id": pair.id, "text": pair.text, "error": _describe(pair, error)})
                continue
            results += found
            for kind, names in without.items():
                missing[kind] += names
        return results, missing

    def require_evidence(self, pairs: Sequence[Pair], *, split: str = "", allow_missing: Iterable[str] = ()) -> None:
        """Check, before work starts, that posts have the evidence that the model reads, or that processing gives it.

        Args:
            pairs: the posts.
            split: their split, for the message; without it posts that have no image are left out, as they are read
                by their text.
            allow_missing: kinds of evidence that may be missing for all of them, besides those of the training.

        Raises:
            MissingEvidenceError: when all posts lack evidence of a kind, with how to get it.
        """
        allowed = {*allow_missing, *self.processor.config.allow_missing}
        checked = pairs if split else [pair for pair in pairs if pair.image_path is not None]
        splits = {split: checked} if checked else {}
        require_evidence(self.model.builder, splits, available=self.processor.available, allow_missing=allowed)

    def prepared(self, pairs: Iterable[Pair], *, cache: Path | None = None, progress: bool = False) -> list[Pair]:
        """Return the pairs ready for the model; see `Processor`."""
        ready, missing = self._process(list(pairs), cache=cache, progress=progress)
        warn_of_missing(missing, len(ready))
        return ready

    def _process(
        self, pairs: list[Pair], *, cache: Path | None = None, progress: bool = False
    ) -> tuple[list[Pair], dict[str, list[str]]]:
        device = next(self.model.parameters()).device
        return self.processor.process(pairs, builder=self.model.builder, device=device, cache=cache, progress=progress)


def _result(pair: Pair, entities: Sequence[Entity], heads: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entities of a post with their words and offsets, and what further heads predict."""
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
                "start": pair.word_offsets[entity.start][0],
                "end": pair.word_offsets[entity.end - 1][1],
            }
            for entity in entities
        ],
        **heads,
    }


def _describe(pair: Pair, error: Exception) -> str:
    """Return what is wrong with a post, in one line."""
    if any("\ud800" <= character <= "\udfff" for character in "".join((pair.id, *pair.words))):
        return "half of a surrogate pair in the text: a character that was cut in two"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
