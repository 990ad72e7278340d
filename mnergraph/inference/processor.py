"""A model and the processor it was trained with: posts in, entities out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from mnergraph.data.processor import Processor as Processor
from mnergraph.data.processor import ProcessorConfig as ProcessorConfig
from mnergraph.data.processor import warn_of
from mnergraph.models.base import Tagger
from mnergraph.pair import Pair


class Pipeline:
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
        """For every post its entities: type, score (0 to 1), words, and offsets in words and characters."""
        waiting = iter(pairs)
        missing: list[str] = []
        while batch := list(islice(waiting, self.batch_size)):
            ready, without = self._process(batch)
            missing += without
            for pair, entities in zip(ready, self.model.predict(ready), strict=True):
                yield {
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
                }
        warn_of(missing)

    def prepared(self, pairs: Iterable[Pair], *, cache: Path | None = None, progress: bool = False) -> list[Pair]:
        """Return the pairs ready for the model; see `Processor`."""
        ready, missing = self._process(list(pairs), cache=cache, progress=progress)
        warn_of(missing)
        return ready

    def _process(
        self, pairs: list[Pair], *, cache: Path | None = None, progress: bool = False
    ) -> tuple[list[Pair], list[str]]:
        device = next(self.model.parameters()).device
        return self.processor.process(pairs, builder=self.model.builder, device=device, cache=cache, progress=progress)
