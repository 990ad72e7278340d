"""Check a data set: counts, checksums, label faults, leaks between splits, pictures, evidence."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from mnergraph.data.conll import read_conll
from mnergraph.data.evidence import Coverage, Evidence
from mnergraph.data.findings import Leak, Report, SplitReport
from mnergraph.data.pictures import check_picture, picture_path
from mnergraph.data.posts import PostDataset
from mnergraph.data.splits import SPLITS, find_text
from mnergraph.data.twitter import TwitterBenchmark, published
from mnergraph.features.faults import PictureFault
from mnergraph.features.pictures import checksum
from mnergraph.graph.pair import Pair
from mnergraph.labels import orphans, spans


def verify(
    source: PostDataset | str | Path,
    *,
    images: str | Path | None = None,
    evidence: Evidence | None = None,
    progress: bool = True,
) -> Report:
    """Check all splits of a data set or of a folder laid out like one; faults are reported, not raised.

    Args:
        source: a data set (all its splits are looked at, with its pictures and evidence), or a folder.
        images: folder of pictures; None for the source's.
        evidence: files of evidence; None for the source's.
        progress: show a bar while pictures are decoded.
    """
    folder = source.folder if isinstance(source, PostDataset) else Path(source).expanduser()
    raw = folder / "raw"
    texts = {name: path for name in SPLITS if (path := find_text(folder, name) or find_text(raw, name))}
    if not texts:
        raise FileNotFoundError(f"no train.txt, valid.txt or test.txt in {folder} or {raw}")
    if isinstance(source, PostDataset):
        images, evidence = images or source.images, evidence or source.evidence
    places = [Path(images)] if images else [raw / "images", folder / "images"]
    place = next((path for path in places if path.is_dir()), None)
    faults = [f"{images} is no folder of pictures"] if images and not place else []
    posts = {name: _posts(path, source, faults) for name, path in texts.items()}
    splits = {name: _counts(texts[name], name, pairs, source, faults) for name, pairs in posts.items()}
    coverage, strangers = _coverage(evidence or Evidence.beside(raw, folder), posts, faults)
    by_id = _shared(posts, lambda pair: pair.id, lambda pair: pair.words)
    pictures = _pictures(place, posts, progress) if place else []
    return Report(folder, splits, leaks(posts), by_id, place, pictures, coverage, strangers, faults)


def leaks(posts: Mapping[str, Sequence[Pair]]) -> list[Leak]:
    """Texts that stand in more than one of these named sets of posts, however their words are cut.

    Also across data sets: ``leaks({"GMNER train": ..., "Twitter2017 test": ...})``.
    """
    return _shared(posts, lambda pair: "".join(pair.words), lambda pair: pair.labels)


def _shared(
    posts: Mapping[str, Sequence[Pair]], key: Callable[[Pair], str], value: Callable[[Pair], object]
) -> list[Leak]:
    found: dict[str, list[tuple[str, Pair]]] = defaultdict(list)
    for name, pairs in posts.items():
        for pair in pairs:
            found[key(pair)].append((name, pair))
    return [
        Leak(tuple((name, pair.id) for name, pair in same), len({value(pair) for _, pair in same}) > 1)
        for same in found.values()
        if len({name for name, _ in same}) > 1
    ]


def _posts(path: Path, source: PostDataset | str | Path, faults: list[str]) -> list[Pair]:
    try:
        pairs = read_conll(path)
        return source.select(pairs) if isinstance(source, PostDataset) else pairs
    except ValueError as error:
        faults.append(str(error))
        return []


def _counts(
    path: Path, name: str, pairs: list[Pair], source: PostDataset | str | Path, faults: list[str]
) -> SplitReport:
    found = checksum(path)
    if isinstance(source, TwitterBenchmark) and found != source.sha256[name]:
        kind = type(source).__name__
        faults.append(
            f"{name}: not {kind} as published: sha256 is {found}, published is {source.sha256[name]}"
        )
    repeated = [id for id, count in Counter(pair.id for pair in pairs).items() if count > 1]
    if repeated:
        faults.append(f"{name}: {len(repeated)} ids stand for several posts: {', '.join(repeated[:5])}")
    tags = [pair.labels or () for pair in pairs]
    return SplitReport(
        path=path,
        sha256=found,
        published=published(found),
        posts=len(pairs),
        words=sum(len(pair.words) for pair in pairs),
        entities=Counter(span.type for labels in tags for span in spans(labels, strict=True)),
        lenient=Counter(span.type for labels in tags for span in spans(labels)),
        orphans=sum(len(orphans(labels)) for labels in tags),
        orphan_posts=sum(bool(orphans(labels)) for labels in tags),
    )


def _coverage(
    evidence: Evidence, posts: Mapping[str, list[Pair]], faults: list[str]
) -> tuple[dict[str, Coverage], int]:
    """Coverage per split, and ids with evidence but in no split. A full ``attach`` finds every fault."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            everything = [pair for pairs in posts.values() for pair in pairs]
            evidence.attach(everything)
            counted = {name: evidence.coverage(pairs) for name, pairs in posts.items()}
            strangers = evidence.coverage(everything).strangers
        except ValueError as error:
            faults.append(str(error))
            counted, strangers = {name: Coverage(len(pairs)) for name, pairs in posts.items()}, 0
    faults.extend(dict.fromkeys(str(warning.message) for warning in told))
    return counted, strangers


def _pictures(folder: Path, posts: Mapping[str, list[Pair]], progress: bool) -> list[PictureFault]:
    ids = dict.fromkeys(pair.id for pairs in posts.values() for pair in pairs)
    found = []
    for id in tqdm(ids, desc="pictures", unit="picture", disable=not progress):
        try:
            path = picture_path(folder, id)
        except ValueError as error:
            found.append(PictureFault(id, "refused", str(error)))
            continue
        fault = check_picture(path, id) if path else PictureFault(id, "missing", id)
        found += [fault] if fault else []
    return found
