"""The settings of a processor: to a file and back, and what cannot be saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from mnergraph.data import Evidence
from mnergraph.data.chunker_config import chunker_config, make_chunker
from mnergraph.data.processor import Processor, ProcessorConfig
from mnergraph.features.text.noun_chunks import RuleChunker
from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.pair import Pair


@dataclass(frozen=True)
class LastWords:
    """The last words are a phrase."""

    count: int = 1
    split: object = None

    def __call__(self, words: Sequence[str]) -> list[tuple[int, int]]:
        return [(max(0, len(words) - self.count), len(words))] if words else []


def test_to_a_file_and_back(tmp_path: Path) -> None:
    assert ProcessorConfig.from_pretrained(tmp_path) is None
    evidence = Evidence(top_objects=2, chunker=LastWords(3), image_nodes="pooled")
    config = ProcessorConfig.of(evidence, RegionEncoder(size=32))
    config.save_pretrained(tmp_path)
    again = ProcessorConfig.from_pretrained(tmp_path)
    assert again == config
    processor = Processor(again)
    assert processor.evidence == evidence
    assert processor.regions == RegionEncoder(size=32)
    (pair,) = Processor(ProcessorConfig(chunker=config.chunker))([Pair(("hi",), caption="one two three four")])
    assert [item.label for item in pair.objects] == ["two three four"]
    assert "LastWords" in config.describe()
    (tmp_path / "processor_config.json").write_text('{"colour": 1}')
    with pytest.raises(ValueError, match=r"'colour' is no setting of a processor"):
        ProcessorConfig.from_pretrained(tmp_path)


def test_chunkers_that_can_be_made_again() -> None:
    for chunker in (RuleChunker(), LastWords(2)):
        assert make_chunker(chunker_config(chunker)) == chunker


def test_chunkers_that_cannot() -> None:
    class Local:
        def __call__(self, words: Sequence[str]) -> list[tuple[int, int]]:
            return []

    for chunker in (Local(), lambda words: []):
        with pytest.raises(ValueError, match=r"can't be imported by its name.*--import my_module"):
            ProcessorConfig.of(Evidence(chunker=chunker))
    with pytest.raises(ValueError, match=r"has split=.*which is no plain data"):
        chunker_config(LastWords(split=object()))
    with pytest.raises(ValueError, match=r"'gone:Chunker', which can't be imported here.*--import gone"):
        make_chunker({"class": "gone:Chunker", "settings": {}})
