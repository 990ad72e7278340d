"""Word vectors as text encoder, for the models over LSTMs."""

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

#: The file by which a folder of saved word vectors is recognized.
VOCABULARY_FILE = "vocabulary.json"


#: The row of unknown words and characters.
UNKNOWN_ID = 0


def lookup_forms(word: str) -> tuple[str, str, str]:
    """Return the forms in which a word is looked up, in order: as written, in lower case, with its digits as 0."""
    lower = word.lower()
    return word, lower, re.sub(r"\d", "0", lower)


class Vocabulary:
    """Maps words to rows of a table; words none of whose `lookup_forms` is known have row 0.

    Args:
        words: the words of rows 1, 2, ...
    """

    start: tuple[int, ...] = ()
    end: tuple[int, ...] = ()

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._rows = {word: row for row, word in enumerate(words, UNKNOWN_ID + 1)}

    def __call__(self, words: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the row of every word."""
        rows = self._rows
        candidates = ((rows.get(form) for form in lookup_forms(word)) for word in words)
        return [(next((row for row in of_word if row is not None), UNKNOWN_ID),) for of_word in candidates]


class Alphabet:
    """Maps words to the ids of their characters; id 0 is that of unknown characters, and of an empty word.

    Args:
        characters: the characters of ids 1, 2, ...
    """

    start: tuple[int, ...] = ()
    end: tuple[int, ...] = ()

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self._ids = {character: index for index, character in enumerate(characters, UNKNOWN_ID + 1)}

    def __len__(self) -> int:
        """Return the number of ids."""
        return len(self.characters) + 1

    def __call__(self, words: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the ids of every word's characters, at least one each."""
        ids = self._ids
        return [tuple(ids.get(character, UNKNOWN_ID) for character in word) or (UNKNOWN_ID,) for word in words]


class WordTable(nn.Module):
    """Embedding table: the vectors of training words are parameters, those of other words are constant.

    Args:
        learned: ``[rows, width]``, the parameters.
        fixed: ``[further rows, width]``, the constants, which follow them.
    """

    fixed: Tensor

    def __init__(self, learned: Tensor, fixed: Tensor) -> None:
        super().__init__()
        self.learned = nn.Parameter(learned)
        self.register_buffer("fixed", fixed)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the vectors of row indices: ``[...]`` -> ``[..., width]``."""
        rows = len(self.learned)
        vectors = F.embedding(ids.clamp(max=rows - 1), self.learned)
        if not len(self.fixed):
            return vectors
        return torch.where((ids < rows)[..., None], vectors, self.fixed[(ids - rows).clamp(min=0)])


class WordVectors:
    """Word vectors with their vocabulary, the alphabet of its words, and a name.

    Not a dataclass, since `ModelHubMixin` would copy its weights into every model's settings.

    Args:
        model: the table.
        tokenizer: maps words to rows of the table.
        characters: maps words to characters, for character-level encoders.
        name: the file's name, or ``random:WIDTH``.
    """

    def __init__(self, model: WordTable, tokenizer: Vocabulary, characters: Alphabet, name: str) -> None:
        self.model, self.tokenizer, self.characters, self.name = model, tokenizer, characters, name

    @property
    def hidden_size(self) -> int:
        """Width of the vectors."""
        return self.model.learned.shape[1]

    def save(self, folder: Path) -> None:
        """Write vocabulary and alphabet; the vectors are saved with the model that uses them."""
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
    """Return random vectors of the words of the training posts, drawn from torch's random state.

    Words are compared in lower case with their digits as 0. Vectors are uniform in +-sqrt(3 / width) (Ma and Hovy,
    2016, section 3.1).

    Args:
        words: every word of the training posts, repeated words included.
        dim: dimension of the vectors.
        min_count: rarer words share the unknown word's row, which is trained by them; so do rarer characters.
    """
    return _build_word_vectors(Counter(words), {}, dim, min_count, f"random:{dim}")


def read_vectors(
    path: str | os.PathLike[str], words: Iterable[str], *, max_words: int = 100_000, min_count: int = 2
) -> WordVectors:
    """Return the vectors of a file in word2vec's or GloVe's text format, and random ones of words that it lacks.

    Vectors of training words are trained; those of other words of the file are constant.

    Args:
        path: the file.
        words: every word of the training posts, repeated words included.
        max_words: number of words to keep from the beginning of the file, besides those of the training posts.
        min_count: see `random_vectors`; of words that the file lacks.

    Raises:
        FileNotFoundError, ValueError: see `read_embeddings`.
    """
    counts = Counter(words)
    forms = {form for word in counts for form in lookup_forms(word)}
    known, vectors = read_embeddings(path, always_keep=forms, max_words=max_words)
    found = dict(zip(known, vectors, strict=True))
    return _build_word_vectors(counts, found, vectors.shape[1], min_count, Path(path).name)


def word_vectors_from_config(folder: str | os.PathLike[str]) -> WordVectors:
    """Return the word vectors of a folder that `WordVectors.save` wrote, with zeros until weights are loaded.

    Raises:
        ValueError: for sizes that no table has; names the file.
    """
    content = json.loads((Path(folder) / VOCABULARY_FILE).read_text(encoding="utf-8"))
    learned, width = content["learned"], content["width"]
    try:
        table = WordTable(torch.zeros(learned, width), torch.zeros(len(content["words"]) + 1 - learned, width))
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{Path(folder) / VOCABULARY_FILE}: {error}") from error
    return WordVectors(table, Vocabulary(content["words"]), Alphabet(content["characters"]), content["name"])


def _build_word_vectors(
    counts: Counter[str], found: Mapping[str, Tensor], dim: int, min_count: int, name: str
) -> WordVectors:
    """Return the table of the unknown word, the training posts' words, and the further words of the file."""
    if dim < 1:
        raise ValueError(f"a vector is at least 1 wide, not {dim}")
    met: dict[str, None] = {}
    missing: Counter[str] = Counter()
    for word, times in counts.items():
        form = next((form for form in lookup_forms(word) if form in found), None)
        if form is None:
            missing[lookup_forms(word)[-1]] += times
        else:
            met[form] = None
    random_words = [word for word, times in missing.items() if times >= min_count]
    others = [word for word in found if word not in met]
    bound = math.sqrt(3 / dim)
    random_rows = torch.empty(1 + len(random_words), dim).uniform_(-bound, bound)
    learned = torch.cat([random_rows[:1], *(found[word][None] for word in met), random_rows[1:]])
    fixed = torch.stack([found[word] for word in others]) if others else torch.zeros(0, dim)
    character_counts = Counter[str]()
    for word, times in counts.items():
        character_counts.update({character: times * word.count(character) for character in set(word)})
    characters = "".join(sorted(character for character, times in character_counts.items() if times >= min_count))
    return WordVectors(
        WordTable(learned, fixed), Vocabulary([*met, *random_words, *others]), Alphabet(characters), name
    )
