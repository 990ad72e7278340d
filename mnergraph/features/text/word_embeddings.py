"""A table of word vectors as text encoder, for the models that read sentences by LSTM."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnergraph.features.text.word2vec_io import read_embeddings

#: The file that makes a folder that of word vectors.
VOCABULARY_FILE = "vocabulary.json"


#: The row of words, and of characters, that are not in the table.
UNKNOWN_ID = 0


def lookup_forms(word: str) -> tuple[str, str, str]:
    """How a word is looked up, the first that is there: as written, in lower case, with its digits as 0."""
    lower = word.lower()
    return word, lower, re.sub(r"\d", "0", lower)


class Vocabulary:
    """Words to rows of a table, one row each; row 0 is that of words of which it has none of the `lookup_forms`.

    Args:
        words: the words of rows 1, 2, ...
    """

    start: tuple[int, ...] = ()
    end: tuple[int, ...] = ()

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._rows = {word: row for row, word in enumerate(words, UNKNOWN_ID + 1)}

    def __call__(self, words: Sequence[str]) -> list[tuple[int, ...]]:
        """The row of every word."""
        rows = self._rows
        found = ((rows.get(form) for form in lookup_forms(word)) for word in words)
        return [(next((row for row in of_word if row is not None), UNKNOWN_ID),) for of_word in found]


class Alphabet:
    """Words to their characters; id 0 is that of other characters, and stands for an empty word.

    Args:
        characters: the characters of ids 1, 2, ...
    """

    start: tuple[int, ...] = ()
    end: tuple[int, ...] = ()

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self._ids = {character: place for place, character in enumerate(characters, UNKNOWN_ID + 1)}

    def __len__(self) -> int:
        """Ids that there are."""
        return len(self.characters) + 1

    def __call__(self, words: Sequence[str]) -> list[tuple[int, ...]]:
        """The characters of every word, at least one each."""
        ids = self._ids
        return [tuple(ids.get(character, UNKNOWN_ID) for character in word) or (UNKNOWN_ID,) for word in words]


class WordTable(nn.Module):
    """Rows of vectors: those that training can reach are learned, those of other words stay as they came.

    Args:
        learned: ``[rows, width]``.
        fixed: ``[further rows, width]``, behind them.
    """

    fixed: Tensor

    def __init__(self, learned: Tensor, fixed: Tensor) -> None:
        super().__init__()
        self.learned = nn.Parameter(learned)
        self.register_buffer("fixed", fixed)

    def forward(self, ids: Tensor) -> Tensor:
        """``[...]`` -> ``[..., width]``."""
        rows = len(self.learned)
        found = F.embedding(ids.clamp(max=rows - 1), self.learned)
        if not len(self.fixed):
            return found
        return torch.where((ids < rows)[..., None], found, self.fixed[(ids - rows).clamp(min=0)])


class WordVectors:
    """A table of word vectors, its vocabulary, the alphabet of its words, and the name it goes by.

    No dataclass: `ModelHubMixin` would copy its weights into every model's settings.

    Args:
        model: the table.
        tokenizer: words to its rows.
        characters: words to characters, for models that read spelling.
        name: the file's name, or ``random:WIDTH``.
    """

    def __init__(self, model: WordTable, tokenizer: Vocabulary, characters: Alphabet, name: str) -> None:
        self.model, self.tokenizer, self.characters, self.name = model, tokenizer, characters, name

    @property
    def hidden_size(self) -> int:
        """Width of the vectors."""
        return self.model.learned.shape[1]

    def save(self, folder: Path) -> None:
        """Writes vocabulary and alphabet, not the vectors: those belong to the model that uses them."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "name": self.name,
            "width": self.hidden_size,
            "learned": len(self.model.learned),
            "characters": self.characters.characters,
            "words": self.tokenizer.words,
        }
        (folder / VOCABULARY_FILE).write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def random_vectors(words: Iterable[str], dim: int = 100, *, min_count: int = 2) -> WordVectors:
    """Random vectors for the words of the training posts; torch's random state decides them.

    Words are told apart in lower case with their digits as 0. Vectors are uniform in
    +-sqrt(3 / width) (Ma and Hovy, 2016, section 3.1).

    Args:
        words: every word of the training posts, as often as it stands there.
        dim: of the vectors.
        min_count: rarer words share the unknown word's row, which learns from them; so do rarer characters.
    """
    return _build_word_vectors(Counter(words), {}, dim, min_count, f"random:{dim}")


def read_vectors(
    path: str | os.PathLike[str], words: Iterable[str], *, max_words: int = 100_000, min_count: int = 2
) -> WordVectors:
    """Vectors of a file in word2vec's or GloVe's text format, and random ones for what it lacks.

    Vectors of training words learn; other words of the file keep theirs.

    Args:
        path: the file.
        words: every word of the training posts, as often as it stands there.
        max_words: how many words are kept from the file's beginning, besides those of the training posts.
        min_count: as for `random_vectors`, of words that the file lacks.

    Raises:
        FileNotFoundError, ValueError: what `read_embeddings` raises.
    """
    counts = Counter(words)
    wanted = {form for word in counts for form in lookup_forms(word)}
    known, vectors = read_embeddings(path, always_keep=wanted, max_words=max_words)
    found = dict(zip(known, vectors, strict=True))
    return _build_word_vectors(counts, found, vectors.shape[1], min_count, Path(path).name)


def word_vectors_from_config(folder: str | os.PathLike[str]) -> WordVectors:
    """The word vectors of a folder that `WordVectors.save` wrote, all zero, to load others into."""
    content = json.loads((Path(folder) / VOCABULARY_FILE).read_text(encoding="utf-8"))
    learned, width = content["learned"], content["width"]
    table = WordTable(torch.zeros(learned, width), torch.zeros(len(content["words"]) + 1 - learned, width))
    return WordVectors(table, Vocabulary(content["words"]), Alphabet(content["characters"]), content["name"])


def _build_word_vectors(
    counts: Counter[str], found: Mapping[str, Tensor], dim: int, min_count: int, name: str
) -> WordVectors:
    """The table of the unknown word, of the training posts' words, and of what else was found."""
    if dim < 1:
        raise ValueError(f"a vector is at least 1 wide, not {dim}")
    met: dict[str, None] = {}
    missing: Counter[str] = Counter()
    for word, times in counts.items():
        known = next((form for form in lookup_forms(word) if form in found), None)
        if known is None:
            missing[lookup_forms(word)[-1]] += times
        else:
            met[known] = None
    fresh = [word for word, times in missing.items() if times >= min_count]
    others = [word for word in found if word not in met]
    reach = math.sqrt(3 / dim)
    chance = torch.empty(1 + len(fresh), dim).uniform_(-reach, reach)
    learned = torch.cat([chance[:1], *(found[word][None] for word in met), chance[1:]])
    fixed = torch.stack([found[word] for word in others]) if others else torch.zeros(0, dim)
    seen = Counter[str]()
    for word, times in counts.items():
        seen.update({character: times * word.count(character) for character in set(word)})
    characters = "".join(sorted(character for character, times in seen.items() if times >= min_count))
    return WordVectors(WordTable(learned, fixed), Vocabulary([*met, *fresh, *others]), Alphabet(characters), name)
