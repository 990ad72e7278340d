"""What ``verify`` found about a data set, as data and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnergraph.data.evidence import Coverage
from mnergraph.features.faults import HANDLED, PictureFault


@dataclass(frozen=True)
class SplitReport:
    """A split's text. ``entities`` counts B- tags by type, ``lenient`` orphan I- tags too."""

    path: Path
    sha256: str
    published: str | None = None
    posts: int = 0
    words: int = 0
    entities: Mapping[str, int] = field(default_factory=dict)
    lenient: Mapping[str, int] = field(default_factory=dict)
    orphans: int = 0
    orphan_posts: int = 0


@dataclass(frozen=True)
class Leak:
    """A text, or an id, in several splits: (split, id) of each post, and whether labels, or words, differ."""

    places: tuple[tuple[str, str], ...]
    differs: bool

    def __str__(self) -> str:
        return " = ".join(f"{split} {id}" for split, id in self.places)


@dataclass(frozen=True)
class Report:
    """All that ``verify`` found; ``print`` it. ``problems`` has one line per kind of fault."""

    folder: Path
    splits: dict[str, SplitReport]
    text_leaks: list[Leak]
    id_leaks: list[Leak]
    images: Path | None
    pictures: list[PictureFault]
    coverage: dict[str, Coverage]
    strangers: int
    faults: list[str]

    @property
    def problems(self) -> list[str]:
        """What is wrong, a line each; empty when nothing is."""
        found = list(self.faults)
        for name, split in self.splits.items():
            if split.orphans:
                found.append(
                    f"{name}: {split.orphans} orphan I- tags in {split.orphan_posts} posts (see repair)"
                )
        if self.text_leaks:
            other = sum(leak.differs for leak in self.text_leaks)
            what = f"{len(self.text_leaks)} texts in several splits, {other} with other labels"
            found.append(_some(what, self.text_leaks))
        if self.id_leaks:
            other = sum(leak.differs for leak in self.id_leaks)
            what = f"{len(self.id_leaks)} ids in several splits, {other} with other words"
            found.append(_some(what, self.id_leaks))
        return [*found, *self._pictures(harmless=False)]

    @property
    def notes(self) -> list[str]:
        """Pictures that need care and get it (see `HANDLED`), a line per kind; nothing is wrong with them."""
        return self._pictures(harmless=True)

    def _pictures(self, *, harmless: bool) -> list[str]:
        chosen = [fault for fault in self.pictures if (fault.kind in HANDLED) == harmless]
        return [
            _some(f"{count} pictures {kind}", [fault.detail for fault in chosen if fault.kind == kind])
            for kind, count in Counter(fault.kind for fault in chosen).items()
        ]

    def __str__(self) -> str:
        types = sorted({kind for split in self.splits.values() for kind in split.lenient})
        rows = [["split", "posts", "words", *types, "captions", "objects", "regions", "images", "text is"]]
        for name, split in self.splits.items():
            cover = self.coverage[name]
            # Where orphans make a difference, both counts: B- tags / lenient.
            counts = [
                "/".join(map(str, dict.fromkeys((split.entities.get(k, 0), split.lenient.get(k, 0)))))
                for k in types
            ]
            known = split.published or f"not a published one ({split.sha256[:12]})"
            rows.append([name, str(split.posts), str(split.words), *counts])
            rows[-1] += [*map(str, (cover.captions, cover.objects, cover.regions, cover.images)), known]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        lines.append(
            f"pictures: {self.images or 'no folder'}; ids with evidence and without post: {self.strangers}"
        )
        problems = [f"- {problem}" for problem in self.problems]
        notes = [f"- {note}" for note in self.notes]
        lines += ["handled:", *notes] if notes else []
        return "\n".join([str(self.folder), *lines, "problems:" if problems else "no problems", *problems])


def _some(what: str, things: Sequence[object], most: int = 5) -> str:
    return f"{what}: {'; '.join(map(str, things[:most]))}{'; ...' if len(things) > most else ''}"
