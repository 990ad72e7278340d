"""Check a data set: counts, checksums, label faults, leaks between splits, images, evidence."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from mnergraph.data.datasets.base import SPLITS, PostDataset, find_boxes, find_text_file, read_gold_boxes
from mnergraph.data.datasets.grounded import GroundedTwitter
from mnergraph.data.datasets.published import PublishedDataset
from mnergraph.data.datasets.twitter import Twitter2015, Twitter2017, published_split
from mnergraph.data.evidence import Coverage, Evidence
from mnergraph.data.formats.boxes import GoldBoxes, attach_gold_boxes
from mnergraph.data.formats.conll import read_conll
from mnergraph.data.grounding_counts import GroundingCounts, count_grounding
from mnergraph.data.image_files import check_image, image_path_of
from mnergraph.features.vision.image_io import HANDLED, ImageIssue, file_sha256
from mnergraph.labels import invalid_inside_tags, tags_to_spans
from mnergraph.pair import Pair
from mnergraph.quoting import listed


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


#: Columns of what `Coverage` counts, in its order.
_EVIDENCE = ("captions", "objects", "region features", "image features", "context")


@dataclass(frozen=True)
class Report:
    """Findings of `verify`, to be printed; ``problems`` has one line per kind of fault.

    ``image_files`` is how many posts of each split have a file in ``images``; ``coverage`` counts the rest.
    """

    folder: Path
    splits: dict[str, SplitReport]
    text_leaks: list[Leak]
    id_leaks: list[Leak]
    images: Path | None
    image_issues: list[ImageIssue]
    image_files: dict[str, int]
    coverage: dict[str, Coverage]
    unmatched_ids: int
    faults: list[str]
    grounding: dict[str, GroundingCounts] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """Faults, a line per kind; empty when there are none."""
        found = list(self.faults)
        for name, split in self.splits.items():
            if split.orphans:
                found.append(f"{name}: {split.orphans} orphan I- tags in {split.orphan_posts} posts (see fix_bio)")
        if self.text_leaks:
            other = sum(leak.differs for leak in self.text_leaks)
            what = f"{len(self.text_leaks)} texts in several splits, {other} with other labels"
            found.append(_first_few(what, self.text_leaks))
        if self.id_leaks:
            other = sum(leak.differs for leak in self.id_leaks)
            what = f"{len(self.id_leaks)} ids in several splits, {other} with other words"
            found.append(_first_few(what, self.id_leaks))
        return [*found, *self._issue_lines(harmless=False)]

    @property
    def notes(self) -> list[str]:
        """Images with defects that are handled when they are read (see `HANDLED`), a line per kind."""
        return self._issue_lines(harmless=True)

    def _issue_lines(self, *, harmless: bool) -> list[str]:
        chosen = [fault for fault in self.image_issues if (fault.code in HANDLED) == harmless]
        return [
            _first_few(f"{count} images {kind}", [fault.detail for fault in chosen if fault.code == kind])
            for kind, count in Counter(fault.code for fault in chosen).items()
        ]

    def __str__(self) -> str:
        types = sorted({kind for split in self.splits.values() for kind in split.lenient})
        rows = [["split", "posts", "words", *types, "images", *_EVIDENCE, "text is"]]
        for name, split in self.splits.items():
            cover = self.coverage[name]
            # Where orphans make a difference, both counts: B- tags / lenient.
            counts = [
                "/".join(map(str, dict.fromkeys((split.entities.get(k, 0), split.lenient.get(k, 0))))) for k in types
            ]
            known = split.published or f"not a published one ({split.sha256[:12]})"
            rows.append([name, str(split.posts), str(split.words), *counts])
            evidence = (cover.captions, cover.objects, cover.regions, cover.images, cover.context)
            rows[-1] += [*map(str, (self.image_files[name], *evidence)), known]
        lines = _aligned(rows)
        if self.grounding:
            lines += ["", *_aligned(_grounding_rows(self.grounding)), ""]
        lines.append(f"images: {self.images or 'no folder'}; ids with evidence and without post: {self.unmatched_ids}")
        problems = [f"- {problem}" for problem in self.problems]
        notes = [f"- {note}" for note in self.notes]
        lines += ["handled:", *notes] if notes else []
        return "\n".join([str(self.folder), *lines, "problems:" if problems else "no problems", *problems])


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _grounding_rows(grounding: Mapping[str, GroundingCounts]) -> list[list[str]]:
    """Return the table of grounded entities; what needs proposals is a dash where there are none."""
    rows = [["split", "entities", "groundable", "several boxes", "boxes", "posts with a box"]]
    rows[0] += ["proposals", "of no gold box", "entities not covered", "can be right"]
    for name, counts in grounding.items():
        numbers = (counts.entities, counts.groundable, counts.several_boxes, counts.boxes, counts.posts_with_box)
        covered = [str(counts.distractors), str(counts.uncovered), f"{100 * counts.ceiling:.2f} %"]
        rows.append([name, *map(str, numbers), str(counts.proposals), *(covered if counts.proposals else "---")])
    return rows


def _first_few(what: str, things: Sequence[object], most: int = 5) -> str:
    return f"{what}: {'; '.join(map(str, things[:most]))}{'; ...' if len(things) > most else ''}"


def verify(
    source: PostDataset | str | Path,
    *,
    images: str | Path | None = None,
    evidence: Evidence | None = None,
    boxes: str | Path | None = None,
    progress: bool = True,
) -> Report:
    """Return a report on all splits of a data set, or of a folder laid out like one; faults are reported, not raised.

    Args:
        source: a data set (all its splits are checked, with its images and evidence), or a folder.
        images: folder of images; None for the source's.
        evidence: files of evidence; None for the source's.
        boxes: gold boxes of entities, a file as ``boxes.jsonl`` or a folder as GMNER's ``xml``; None for the source's.
        progress: whether to show a progress bar while images are decoded.
    """
    folder = source.folder if isinstance(source, PostDataset) else Path(source).expanduser()
    raw = folder / "raw"
    candidates = (folder, raw, folder / "txt")  # the last one is that of GMNER's repository
    found = {name: [path for place in candidates if (path := find_text_file(place, name))] for name in SPLITS}
    texts = {name: paths[0] for name, paths in found.items() if paths}
    if not texts:
        raise FileNotFoundError(f"no train.txt, valid.txt or test.txt in {folder} or {raw}")
    if isinstance(source, PostDataset):
        images, evidence = images or source.images, evidence or source.evidence
        boxes = boxes or source.boxes
    places = [Path(images)] if images else [raw / "images", folder / "images"]
    place = next((path for path in places if path.is_dir()), None)
    faults = [f"{images} is no folder of images"] if images and not place else []
    posts = {name: _read_posts(path, source, faults) for name, path in texts.items()}
    splits = {name: _split_report(texts[name], name, pairs, source, faults) for name, pairs in posts.items()}
    evidence = evidence or Evidence.from_folder(raw, folder)
    coverage, unmatched_ids = _coverage(evidence, posts, faults)
    gold_path = Path(boxes) if boxes else find_boxes(raw, folder)
    grounding = _grounding(gold_path, evidence, posts, faults) if gold_path else {}
    by_id = _shared_between_splits(posts, lambda pair: pair.id, lambda pair: pair.words)
    image_issues = _image_issues(place, posts, progress) if place else []
    absent = {issue.id for issue in image_issues if issue.code in ("missing", "refused")}
    files = {name: sum(pair.id not in absent for pair in pairs) if place else 0 for name, pairs in posts.items()}
    return Report(
        folder, splits, leaks(posts), by_id, place, image_issues, files, coverage, unmatched_ids, faults, grounding
    )


def leaks(posts: Mapping[str, Sequence[Pair]]) -> list[Leak]:
    """Return the texts that occur in more than one of these named sets of posts, whatever their tokenization.

    Also across data sets: ``leaks({"GMNER train": ..., "Twitter2017 test": ...})``.
    """
    return _shared_between_splits(posts, lambda pair: "".join(pair.words), lambda pair: pair.labels)


def warn_of_shared_posts(train: Iterable[Pair], test: Iterable[Pair], *, stacklevel: int = 2) -> list[str]:
    """Return the ids of the training posts whose id or words a test post has, too, with a warning that counts them.

    It is for splits of different data sets: Twitter-GMNER's training split has 2,030 test posts of Twitter-2015 and
    Twitter-2017, by their ids, and a model that was trained on these is not to be scored on them.

    Args:
        train: posts that a model is trained on.
        test: posts that it is scored on.
        stacklevel: of the warning.
    """
    known = list(test)
    ids, texts = {pair.id for pair in known} - {""}, {"".join(pair.words) for pair in known}
    shared = [pair.id for pair in train if pair.id in ids or "".join(pair.words) in texts]
    if shared:
        warnings.warn(
            f"{len(shared)} training posts are test posts, too, by id or words ({listed(shared)}); leave them out of "
            "one of the two, or scores are too high",
            stacklevel=stacklevel,
        )
    return shared


def warn_of_remixed_splits(trained_on: str, scored_on: str) -> bool:
    """Return whether a data set's splits are those of another, mixed anew, with a warning of what that means.

    Twitter-GMNER's are: by their ids 2,030 of its training posts are test posts of Twitter-2015 and Twitter-2017, and
    886 of its test posts are training posts of these.

    Args:
        trained_on: name of the class of the data set that a model was trained on.
        scored_on: of the one that it is scored on.
    """
    pair = (trained_on, scored_on)
    if any(pair in ((mixed, "GroundedTwitter"), ("GroundedTwitter", mixed)) for mixed in _MIXED):
        warnings.warn(
            f"the model was trained on {trained_on} and is scored on {scored_on}, which share posts: Twitter-GMNER's "
            "splits are those of Twitter-2015 and Twitter-2017, mixed anew; leave the shared posts out of the training "
            "(mnergraph.data.warn_of_shared_posts lists them), or the scores are too high",
            stacklevel=2,
        )
        return True
    return False


#: Data sets whose posts Twitter-GMNER has in other splits.
_MIXED = ("Twitter2015", "Twitter2017", "Twitter2017C")


def _shared_between_splits(
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


def _read_posts(path: Path, source: PostDataset | str | Path, faults: list[str]) -> list[Pair]:
    try:
        pairs = read_conll(path)
        return source.select(pairs) if isinstance(source, PostDataset) else pairs
    except ValueError as error:
        faults.append(str(error))
        return []


def _split_report(
    path: Path, name: str, pairs: list[Pair], source: PostDataset | str | Path, faults: list[str]
) -> SplitReport:
    found = file_sha256(path)
    if isinstance(source, PublishedDataset) and found != source.sha256[name]:
        kind = type(source).__name__
        faults.append(f"{name}: not {kind} as published: sha256 is {found}, published is {source.sha256[name]}")
    repeated = [id for id, count in Counter(pair.id for pair in pairs).items() if count > 1]
    if repeated:
        faults.append(f"{name}: {len(repeated)} ids occur on several posts: {', '.join(repeated[:5])}")
    tags = [pair.labels or () for pair in pairs]
    return SplitReport(
        path=path,
        sha256=found,
        published=published_split(found, (Twitter2015, Twitter2017, GroundedTwitter)),
        posts=len(pairs),
        words=sum(len(pair.words) for pair in pairs),
        entities=Counter(span.type for labels in tags for span in tags_to_spans(labels, strict=True)),
        lenient=Counter(span.type for labels in tags for span in tags_to_spans(labels)),
        orphans=sum(len(invalid_inside_tags(labels)) for labels in tags),
        orphan_posts=sum(bool(invalid_inside_tags(labels)) for labels in tags),
    )


def _coverage(
    evidence: Evidence, posts: Mapping[str, list[Pair]], faults: list[str]
) -> tuple[dict[str, Coverage], int]:
    """Return the coverage per split and the number of ids in no split; attaching all evidence finds every fault."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            everything = [pair for pairs in posts.values() for pair in pairs]
            evidence.attach(everything)
            counted = {name: evidence.coverage(pairs) for name, pairs in posts.items()}
            unmatched_ids = evidence.coverage(everything).unmatched_ids
        except ValueError as error:
            faults.append(str(error))
            counted, unmatched_ids = {name: Coverage(len(pairs)) for name, pairs in posts.items()}, 0
    faults.extend(dict.fromkeys(str(warning.message) for warning in caught))
    return counted, unmatched_ids


def _grounding(
    path: Path, evidence: Evidence, posts: Mapping[str, list[Pair]], faults: list[str]
) -> dict[str, GroundingCounts]:
    """Return the counts of grounded entities per split, with the objects of the evidence as proposals."""
    counts = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            ids = {pair.id for pairs in posts.values() for pair in pairs}
            boxes: dict[str, GoldBoxes] = read_gold_boxes(path, ids)
            for name, pairs in posts.items():
                counts[name] = count_grounding(attach_gold_boxes(_with_objects(evidence, pairs), boxes))
        except (ValueError, OSError) as error:
            faults.append(str(error))
    faults.extend(dict.fromkeys(str(warning.message) for warning in caught))
    return counts


def _with_objects(evidence: Evidence, pairs: list[Pair]) -> list[Pair]:
    """Return the posts with their evidence, without it where it is faulty, of which `_coverage` reports the fault."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return evidence.attach(pairs)
        except ValueError:
            return pairs


def _image_issues(folder: Path, posts: Mapping[str, list[Pair]], progress: bool) -> list[ImageIssue]:
    ids = dict.fromkeys(pair.id for pairs in posts.values() for pair in pairs)
    found = []
    for id in tqdm(ids, desc="images", unit="image", disable=not progress):
        try:
            path = image_path_of(folder, id)
        except ValueError as error:
            found.append(ImageIssue(id, "refused", str(error)))
            continue
        fault = check_image(path, id) if path else ImageIssue(id, "missing", id)
        found += [fault] if fault else []
    return found
