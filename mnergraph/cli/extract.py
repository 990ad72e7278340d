"""`mnergraph features`: image features extracted once into a store, by one process or several."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mnergraph.data.datasets.base import SPLITS, PostFolder, find_text_file
from mnergraph.data.evidence import Evidence
from mnergraph.data.image_files import attach_images, image_files, image_path_of
from mnergraph.features.store.entries import from_store_entry, image_key, manifest_of, to_store_entry
from mnergraph.features.store.reader import FeatureStore
from mnergraph.features.store.writer import StoreWriter
from mnergraph.features.text.noun_chunks import Chunker, Phrase, RuleChunker, noun_phrases
from mnergraph.features.vision.extractor import Extractor
from mnergraph.features.vision.image_io import ImageIssue, open_image, summarize_issues
from mnergraph.training.interruption import keeps

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ImageTask:
    """An image to extract: its id, its file, and its sentence's phrases where the extractor reads them."""

    id: str
    path: Path
    phrases: tuple[Phrase, ...] | None = None

    @property
    def key(self) -> str:
        """The image's key in the store."""
        return image_key(self.path, self.phrases)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that the image can have, with its phrases and without."""
        return tuple(dict.fromkeys((self.key, image_key(self.path))))


@dataclass(frozen=True)
class ExtractionSummary:
    """Counts of a run by what was done with each image.

    Attributes:
        num_images: files examined.
        extracted: those whose features were computed now.
        known: those that the store had, or that have the same content as another.
        elsewhere: those of another process's share.
        faults: what was unusual about those extracted now.
    """

    num_images: int
    extracted: int
    known: int
    elsewhere: int
    faults: tuple[ImageIssue, ...]

    def __str__(self) -> str:
        parts = [f"{self.extracted} extracted now", f"{self.known} known"]
        if self.elsewhere:
            parts.append(f"{self.elsewhere} in other shares")
        text = f"{self.num_images} images: {', '.join(parts)}"
        return text + (f"\n{summarize_issues(self.faults)}" if self.faults else "")


def features(
    images: Path,
    store: Path,
    extractor: Extractor,
    posts: Path | None = None,
    chunker: Chunker | None = None,
    shard: str | None = None,
    dtype: Literal["float32", "float16", "bfloat16"] = "float32",
    batch_size: int = 16,
    workers: int = 0,
    device: str = "cpu",
    flush_seconds: float = 60.0,
    flush_images: int = 10_000,
    progress: bool = True,
    inspect: str | None = None,
    out: Path | None = None,
    engine: Literal["local", "ray"] = "local",
) -> ExtractionSummary | None:
    """Extract the features of a folder's images into a store; images in the store are not extracted again.

    Args:
        images: folder of images, ``<id>.jpg`` or the like.
        store: folder of the store; it is made, or appended to if it was made with the same settings.
        extractor: what extracts the features.
        posts: folder of posts (train.txt, valid.txt or dev.txt, test.txt): only their images, and for an extractor
            that reads phrases their sentences' noun phrases.
        chunker: finds these, by default `RuleChunker`; posts that read the store must have the same one.
        shard: ``i/n``: this process's share, from 1/1 to n/n; under torchrun each takes its own.
        dtype: precision of the stored features.
        batch_size: images at once.
        workers: processes that open and prepare images.
        device: where the extractor runs.
        flush_seconds: seconds after which extracted features are written to the store; a killed run loses no more.
        flush_images: images after which they are written, too.
        progress: whether to show a progress bar.
        inspect: instead of extracting, draw the store's entry for the image with this id.
        out: the drawing's file; by default ``<id>.png`` here.
        engine: local, this process; or ray: as many processes as there are workers, on one machine or a cluster. Posts
            is then a folder or file of Parquet or JSON lines, images where the paths of its images are looked up,
            and store a folder of Parquet files, which a further run of the same command completes.

    Returns:
        the counts; None after drawing, and with the engine ray.

    Raises:
        ValueError: for a store made with other settings, naming each difference.
        FileNotFoundError: when there is no such folder or image.
    """
    if engine == "ray":
        from mnergraph.cli.many_machines import extract_posts

        if shard is not None or inspect is not None or posts is None:
            raise ValueError("--engine ray goes with --posts, and not with --shard and --inspect")
        extract_posts(extractor, posts, images, store, chunker, dtype, batch_size, max(1, workers), progress)
        return None
    if not images.is_dir():
        raise FileNotFoundError(f"images={str(images)!r} is no folder")
    wanted = wanted_images(images, posts, extractor.chunker_for(chunker or RuleChunker()))
    if inspect is not None:
        target = out or Path(f"{Path(inspect).name}.png")
        plot_stored(FeatureStore(store), wanted, inspect).savefig(target, dpi=150)
        print(target)
        return None
    part, parts = _share(shard)
    open_store = partial(
        StoreWriter,
        store,
        manifest_of(extractor, dtype),
        part=part,
        shard_seconds=flush_seconds,
        shard_images=flush_images,
    )
    done = _extract(wanted, open_store, extractor, part, parts, batch_size, workers, device, progress)
    print(done)
    return done


def plot_stored(store: FeatureStore, wanted: Sequence[ImageTask], id: str) -> Figure:
    """Return a figure of the image with this id and its entry in the store: boxes, labels, scores, groundings."""
    from mnergraph.explain.plots.detections import plot_detections

    found = [one for one in wanted if one.id == id]
    if not found:
        raise FileNotFoundError(f"there is no image of {id!r}; there are {len(wanted)} others")
    known = [one for one in found if one.key in store]
    if not known:
        raise KeyError(f"the store {store.folder} has no entry for image {id!r}: extract it first")
    return plot_detections(open_image(known[0].path, id).image, from_store_entry(store, known[0].key), title=id)


def _extract(
    wanted: Sequence[ImageTask],
    open_store: Callable[[], StoreWriter],
    extractor: Extractor,
    part: int,
    parts: int,
    batch_size: int,
    workers: int,
    device: str,
    progress: bool,
) -> ExtractionSummary:
    keys = {one: one.key for one in wanted}
    mine = [one for one, key in keys.items() if int(key[:15], 16) % parts == part]
    store = open_store()
    with keeps(lambda: f"what was extracted is in {store.folder}; the same command continues"), store as writer:
        by_key = {keys[one]: one for one in reversed(mine) if keys[one] not in writer}
        todo = list(reversed(by_key.values()))
        evidence = extractor.extract(
            [one.path for one in todo],
            [one.phrases or () for one in todo] if extractor.needs_phrases else None,
            batch_size=batch_size,
            num_workers=workers,
            device=device,
            progress=progress,
        )
        faults = []
        for one, found in zip(todo, evidence, strict=True):
            writer.add(keys[one], *to_store_entry(found))
            if found.issue:
                faults.append(found.issue)
    return ExtractionSummary(len(wanted), len(todo), len(mine) - len(todo), len(wanted) - len(mine), tuple(faults))


def wanted_images(images: Path, posts: Path | None, chunker: Chunker | None) -> list[ImageTask]:
    """Return the images to extract; with posts only theirs, and with a chunker their noun phrases."""
    if posts is None:
        if chunker:
            raise ValueError("this extractor reads the posts' sentences: give posts, the folder of the posts")
        return [ImageTask(path.stem, path) for path in image_files(images)]
    return list(dict.fromkeys(_of_posts(images, posts, chunker)))


def _of_posts(images: Path, posts: Path, chunker: Chunker | None) -> Iterator[ImageTask]:
    folders = posts, posts / "raw"
    splits = [split for split in SPLITS if any(find_text_file(folder, split) for folder in folders)]
    if not splits:
        raise FileNotFoundError(
            f"no train.txt, valid.txt (or dev.txt, val.txt) or test.txt in {posts} or its folder raw"
        )
    for split in splits:
        pairs = PostFolder(posts, split, evidence=Evidence()).pairs
        for pair in attach_images(pairs, lambda pair: replace(pair, image_path=image_path_of(images, pair.id))):
            if pair.image_path is not None:
                yield ImageTask(pair.id, pair.image_path, noun_phrases(pair.words, chunker) if chunker else None)


def _share(shard: str | None) -> tuple[int, int]:
    """Return the index of this process's share, from 0, and the number of shares."""
    if shard is None:
        return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    place, _, parts = shard.partition("/")
    if not (place.isdigit() and parts.isdigit() and 1 <= int(place) <= int(parts)):
        raise ValueError(f"shard is i/n, from 1/n to n/n, not {shard!r}")
    return int(place) - 1, int(parts)
