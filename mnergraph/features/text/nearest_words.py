"""Nearest words in a table of word vectors, by cosine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm.auto import tqdm

from mnergraph.features.store.tensor_cache import file_stamp
from mnergraph.features.text.word2vec_io import read_embeddings
from mnergraph.files import write_tensors

#: Number of vectors whose neighbors are searched at once.
CHUNK_SIZE = 256


def k_nearest(
    vectors: np.ndarray, rows: Sequence[int], k: int, *, progress: bool = True
) -> dict[int, list[tuple[int, float]]]:
    """Return, for each of these rows, the indices of the k nearest others by cosine, nearest first, and the cosines.

    Args:
        vectors: ``[words, width]``, none of zeros.
        rows: indices of the vectors whose neighbors are returned.
        k: number of neighbors; fewer where there are no more.
        progress: whether to show a progress bar.

    Raises:
        ValueError: when k is less than 1.
    """
    if k < 1:
        raise ValueError(f"k is a number of neighbors, 1 or more, not {k}")
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=min(k + 1, len(vectors)), metric="cosine").fit(vectors)
    nearest: dict[int, list[tuple[int, float]]] = {}
    with tqdm(total=len(rows), desc="nearest words", unit="word", disable=not progress) as bar:
        for begin in range(0, len(rows), CHUNK_SIZE):
            batch = rows[begin : begin + CHUNK_SIZE]
            distances, neighbors = search.kneighbors(vectors[list(batch)])
            for row, distance, indices in zip(batch, distances, neighbors, strict=True):
                others = zip(indices.tolist(), (1.0 - distance).tolist(), strict=True)
                # a word is its own nearest, unless others have the same vector
                nearest[row] = [(index, cosine) for index, cosine in others if index != row][:k]
            bar.update(len(batch))
    return nearest


class NearestWords:
    """The nearest words of every word of a vocabulary, with cosines and vectors.

    Made by `from_file` or `from_table`, and saved with the model as a tokenizer is, so that a word always has the same
    neighbors. A word outside the vocabulary has none, unless its lower case is in it and ``lower`` is set.

    Args:
        words: the words with neighbors.
        counts: number of neighbors of each, ``[words]``.
        rows: the neighbors' rows of ``vectors``, word by word, ``[all neighbors]``.
        cosines: of word and neighbor, ``[all neighbors]``.
        names: the words of ``vectors``.
        vectors: ``[names, width]``.
        lower: whether an unknown word is looked up in lower case.
    """

    def __init__(
        self,
        words: Sequence[str],
        counts: Tensor,
        rows: Tensor,
        cosines: Tensor,
        *,
        names: Sequence[str],
        vectors: Tensor,
        lower: bool = True,
    ) -> None:
        self.words, self.counts, self.rows, self.cosines = tuple(words), counts, rows, cosines
        self.names, self.vectors, self.lower = tuple(names), vectors, lower
        ends = counts.cumsum(0).tolist()
        spans = map(range, [0, *ends], ends)
        self._entries = dict(zip(self.words, spans, strict=False))
        self._rows, self._cosines = rows.numpy(), cosines.numpy()

    @classmethod
    def from_file(
        cls,
        table: str | Path,
        words: Iterable[str],
        *,
        k: int = 4,
        lower: bool = True,
        seed: int | None = None,
        cache: Path | None = None,
        progress: bool = True,
    ) -> NearestWords:
        """Return the nearest words of these in a table of word vectors, by cosine.

        Args:
            table: the file, as `read_embeddings` takes it.
            words: the vocabulary: all words that the model will read, those of dev and test among them.
            k: number of neighbors of a word, itself excluded; fewer where the table has no more.
            lower: whether a word that is not in the table is looked up in lower case.
            seed: of a random vector, uniform within sqrt(3 / width), that stands for the neighbors of each word that is
                not in the table, as in MGCMT's released code; None for no neighbors.
            cache: folder of cached results, which a later call with the same arguments reads.
            progress: whether to show progress bars.

        Raises:
            FileNotFoundError: when there is no table.
            ValueError: when it is malformed, see `read_embeddings`, or has none of the words.
        """
        table, words = Path(table), sorted(set(words))
        path = None
        if cache is not None and table.is_file():
            facts = [table.name, file_stamp(table), words, k, lower, seed]
            key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
            path = cache / f"similar-{table.stem}-{key}.safetensors"
            if path.is_file():
                try:
                    return cls.load(path)
                except ValueError as error:
                    raise ValueError(f"{error}; delete it to compute them again") from None
        names, vectors = read_embeddings(table, progress=progress)
        try:
            nearest_words = cls.from_table(names, vectors, words, k=k, lower=lower, seed=seed, progress=progress)
        except ValueError as error:
            raise ValueError(f"{table}: {error}") from None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            nearest_words.save(path)
        return nearest_words

    @classmethod
    def from_table(
        cls,
        names: Sequence[str],
        vectors: Tensor,
        words: Sequence[str],
        *,
        k: int = 4,
        lower: bool = True,
        seed: int | None = None,
        progress: bool = True,
    ) -> NearestWords:
        """Return the nearest words of these in a table in memory, by cosine; rows of zeros are ignored.

        Args:
            names: the words of the table.
            vectors: ``[names, width]``.
            words: the vocabulary.
            k: number of neighbors of a word; see `from_file`, also for what follows.
            lower: whether a word that is not in the table is looked up in lower case.
            seed: of random vectors in the place of neighbors.
            progress: whether to show a progress bar.

        Raises:
            ValueError: when none of the words has a vector, or k is less than 1.
        """
        usable = vectors.any(1).nonzero()[:, 0].tolist()
        vectors, names = vectors[usable], [names[row] for row in usable]
        row_of = {name: row for row, name in enumerate(names)}
        rows = {word: row_of.get(word, row_of.get(word.lower()) if lower else None) for word in words}
        known = sorted({row for row in rows.values() if row is not None})
        if not known:
            raise ValueError(f"none of the {len(words)} words has a vector, such as {list(words[:5])}")
        nearest = k_nearest(vectors.numpy(), known, k, progress=progress)
        # the rows that are neighbors of any word, then random ones
        kept = sorted({row for neighbors in nearest.values() for row, _ in neighbors})
        compact = {row: new for new, row in enumerate(kept)}
        neighbors_of: dict[str, list[tuple[int, float]]] = {}
        unknown: list[str] = []
        for word, row in rows.items():
            if row is not None:
                neighbors_of[word] = [(compact[other], cosine) for other, cosine in nearest[row]]
            elif seed is not None:
                neighbors_of[word] = [(len(kept) + len(unknown), 1.0)]
                unknown.append(word)
        bound = (3 / vectors.shape[1]) ** 0.5
        uniform = np.random.default_rng(seed).uniform(-bound, bound, (len(unknown), vectors.shape[1]))
        random = torch.from_numpy(uniform.astype(np.float32))
        entries = list(chain.from_iterable(neighbors_of.values()))
        return cls(
            list(neighbors_of),
            torch.tensor([len(neighbors) for neighbors in neighbors_of.values()], dtype=torch.long),
            torch.tensor([row for row, _ in entries], dtype=torch.long),
            torch.tensor([cosine for _, cosine in entries], dtype=torch.float32),
            names=[*(names[row] for row in kept), *unknown],
            vectors=torch.cat([vectors[kept], random]),
            lower=lower,
        )

    @property
    def width(self) -> int:
        """Width of the vectors."""
        return self.vectors.shape[1]

    def __call__(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the neighbors of a sentence's words, word by word.

        Returns:
            their rows of ``vectors``, the index of the word that each is a neighbor of, and the cosine of the two.
        """
        ranges = [self._entries_of(word) for word in words]
        entries = np.array([*chain.from_iterable(ranges)], dtype=np.int64)
        owner = np.repeat(np.arange(len(words)), [len(entries_of_word) for entries_of_word in ranges])
        return self._rows[entries], owner, self._cosines[entries]

    def neighbors(self, word: str) -> list[tuple[str, float]]:
        """Return a word's neighbors by name with their cosines, nearest first."""
        return [(self.names[self.rows[i]], float(self.cosines[i])) for i in self._entries_of(word)]

    def _entries_of(self, word: str) -> range:
        entries = self._entries.get(word)
        if entries is None and self.lower:
            entries = self._entries.get(word.lower())
        return _NO_ENTRIES if entries is None else entries

    def __repr__(self) -> str:
        return f"NearestWords({len(self.words)} words, {len(self.names)} vectors of width {self.width})"

    def save(self, path: Path) -> None:
        """Write a safetensors file atomically; the words are JSON in its header."""
        tensors = {name: getattr(self, name).contiguous() for name in _TENSORS}
        names = {"words": self.words, "names": self.names, "lower": self.lower}
        write_tensors(path, tensors, {"similar": json.dumps(names)}, own=True)

    @classmethod
    def load(cls, path: Path) -> NearestWords:
        """Return the nearest words that `save` wrote.

        Raises:
            ValueError: when the file is corrupt or of another format; names it.
        """
        try:
            with safe_open(path, framework="pt") as file:
                names = json.loads(file.metadata()["similar"])
                nearest_words = cls(**names, **{name: file.get_tensor(name) for name in _TENSORS})
            nearest_words._check()
        except (SafetensorError, TypeError, KeyError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path} has no nearest words ({error})") from None
        return nearest_words

    def _check(self) -> None:
        """Raise a ValueError unless counts, rows and cosines belong to the words, and the vectors to the names."""
        entries = (int(self.counts.sum()),)
        if self.counts.shape != (len(self.words),) or self.rows.shape != entries or self.cosines.shape != entries:
            raise ValueError(f"{len(self.words)} words have counts {self.counts.shape} and rows {self.rows.shape}")
        if self.vectors.dim() != 2 or len(self.vectors) != len(self.names):
            raise ValueError(f"{len(self.names)} names have vectors {self.vectors.shape}")
        if entries[0] and not 0 <= int(self.rows.min()) <= int(self.rows.max()) < len(self.names):
            raise ValueError(f"rows are {self.rows.min()} to {self.rows.max()}, and there are {len(self.names)} names")
        if (self.counts < 0).any():
            raise ValueError("a word has fewer than no neighbors")
        if not (self.vectors.isfinite().all() and self.cosines.isfinite().all()):
            raise ValueError("its vectors are not finite")


_NO_ENTRIES = range(0)


_TENSORS = ("counts", "rows", "cosines", "vectors")
