"""Data sets of posts as PyG data sets: raw text -> parsed posts (cached) -> pairs with evidence -> graphs."""

from __future__ import annotations

import copy
import hashlib
import json
from abc import ABC
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from torch_geometric.data import Dataset, HeteroData

from mnergraph.data.datasets.cache import cache_folder, load_posts, save_posts
from mnergraph.data.evidence import Evidence, attach_node_evidence
from mnergraph.data.formats.boxes import GoldBoxes, attach_gold_boxes, read_boxes, read_boxes_xml
from mnergraph.data.formats.conll import read_conll
from mnergraph.data.image_files import attach_images, image_path_of
from mnergraph.features.vision.image_io import file_sha256
from mnergraph.graph.node_types import NodeType
from mnergraph.labels import LabelSet
from mnergraph.pair import Pair

#: Names under which gold boxes lie beside the text: a file, or the folder of GMNER's XML.
BOXES, BOXES_XML = "boxes.jsonl", "xml"


#: The splits' names, each with all names by which an argument or a file may call it, the usual one first.
SPLITS = {"train": ("train",), "valid": ("valid", "dev", "val"), "test": ("test",)}


def split_name(split: str) -> str:
    """Return the canonical name of a split (``dev`` and ``val`` are ``valid``)."""
    for name, aliases in SPLITS.items():
        if split in aliases:
            return name
    raise ValueError(f"no split {split!r}; there is train, valid (also: dev, val) and test")


def find_text_file(folder: str | Path, split: str) -> Path | None:
    """Return the text file of a split in a folder under any of its names, or None."""
    paths = (Path(folder) / f"{name}.txt" for name in SPLITS[split_name(split)])
    return next((path for path in paths if path.is_file()), None)


def find_boxes(*folders: str | Path) -> Path | None:
    """Return the gold boxes of the first folder that has them, a file or else a folder of XML files, or None."""
    places = (Path(folder) / name for name in (BOXES, BOXES_XML) for folder in folders)
    return next((place for place in places if place.is_file() or any(place.glob("*.xml"))), None)


def read_gold_boxes(path: Path, ids: Collection[str]) -> dict[str, GoldBoxes]:
    """Return the gold boxes of a file as ``boxes.jsonl``, or those of these posts of a folder of XML files, by id."""
    return read_boxes_xml(path, ids) if path.is_dir() else read_boxes(path)


def describe_folder(folder: Path) -> str:
    """Return the names in a folder, for an error message."""
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir()) if folder.is_dir() else []
    if not names:
        return "nothing"
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


class PostDataset(Dataset, ABC):
    """Posts of one split of a data set.

    A root is laid out as PyG does it or is a plain folder::

        root/raw/train.txt  valid.txt  test.txt   (or root/train.txt ...; dev.txt is valid.txt)
        root/raw/images/<id>.jpg                  (or root/images; .png and .jpeg too)
        root/raw/objects.jsonl  captions.jsonl  features.safetensors   (or in root)
        root/raw/boxes.jsonl, or root/raw/xml/<id>.xml                 (gold boxes of entities; or in root)
        root/processed/<split>-<key>.jsonl        (written; the key is that of the text and the settings)

    Where root cannot be written, the parsed posts go to ``~/.cache/mnergraph``, or ``$MNERGRAPH_CACHE``. A
    changed text or setting has another key, so a stale cache is never read; ``force_reload`` parses in any
    case.

    Where there are gold boxes (`mnergraph.data.formats.boxes`), every labelled post has ``grounding``: its entities,
    each with its boxes, none where it is not in the image. A post without image size has that of the annotation.

    Args:
        root: the folder.
        split: "train", "valid" (or "dev", "val") or "test".
        images: folder of the images; None for the folder of the layout, if there is one.
        evidence: evidence to attach; None for the files of the layout, with default settings.
        mapping: entity types to rename, such as ``{"OTHER": "MISC"}``.
        fix_bio: replace invalid I- tags (that continue no entity) by B- tags.
        boxes: gold boxes of entities, a file as ``boxes.jsonl`` or a folder as GMNER's ``xml``; None for those of the
            layout, if there are any.
        builder: converts a pair to a graph (``GraphBuilder(schema)``); without it only ``pairs`` is available.
        force_reload: parse the text again.

    Attributes:
        license: the licence or the terms of the posts, in a sentence, for the cards of models; "" if it is not known.
    """

    license: ClassVar[str] = ""

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        images: str | Path | None = None,
        evidence: Evidence | None = None,
        mapping: Mapping[str, str] | None = None,
        fix_bio: bool = False,
        boxes: str | Path | None = None,
        builder: Callable[[Pair], HeteroData] | None = None,
        force_reload: bool = False,
    ) -> None:
        if type(self) is PostDataset:
            raise TypeError("PostDataset is abstract; your own folder of posts is PostFolder(root)")
        self.split = split_name(split)
        self.folder = Path(root).expanduser()
        self.settings: dict[str, Any] = {"mapping": dict(mapping or {}), "fix_bio": fix_bio}
        self.builder = builder
        self._cache: Path | None = None
        super().__init__(str(self.folder), force_reload=force_reload)
        self.evidence = Evidence.from_folder(self.raw_dir, self.folder) if evidence is None else evidence
        self.images = self._images(images)
        parsed = self.select(load_posts(Path(self.processed_paths[0])))
        self.boxes = self._find_boxes(boxes)
        self._gold = None if self.boxes is None else read_gold_boxes(self.boxes, {pair.id for pair in parsed})
        self._pairs = self._with_gold_boxes(self.evidence.attach(attach_images(parsed, self.with_image)))

    @property
    def pairs(self) -> list[Pair]:
        """The posts with their evidence, in the order of the file, or of this selection of them."""
        return [self._pairs[index] for index in self.indices()]

    @property
    def tags(self) -> tuple[str, ...]:
        """The label set of these posts: O, then B and I of every type that occurs, types sorted."""
        return LabelSet.from_data(pair.labels or () for pair in self.pairs).tags

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Every word of these posts, of their objects' labels and of their captions, sorted."""
        words = {word for pair in self.pairs for word in pair.words}
        texts = (text for pair in self.pairs for text in (pair.caption or "", *(item.label for item in pair.objects)))
        return tuple(sorted(words.union(*(text.split() for text in texts))))

    def len(self) -> int:
        """The number of posts."""
        return len(self._pairs)

    def get(self, idx: int) -> HeteroData:
        """The graph of a post."""
        if self.builder is None:
            raise ValueError(
                f"{type(self).__name__} has no builder and so no graphs; read .pairs, or give "
                "builder=GraphBuilder(schema)"
            )
        return self.builder(self._pairs[idx])

    def with_builder(
        self, builder: Callable[[Pair], HeteroData], *, transform: Callable[[HeteroData], Any] | None = None
    ) -> PostDataset:
        """Return the same posts with this builder for their graphs, which are built whenever one is taken.

        For graphs that are built once and saved see `mnergraph.data.GraphDataset`.

        Args:
            builder: converts a pair to a graph.
            transform: applied to every graph, as PyG's transforms are.
        """
        other = copy.copy(self)
        other.builder, other.transform = builder, transform
        return other

    def with_stores(self, *folders: str | Path) -> PostDataset:
        """Return the same posts with evidence of feature stores; files of evidence take precedence over stores."""
        if not folders:
            return self
        return self.with_evidence(replace(self.evidence, stores=(*self.evidence.stores, *folders)))

    def with_evidence(self, evidence: Evidence) -> PostDataset:
        """Return the same posts with this evidence, which replaces what they have of the same kinds."""
        other = copy.copy(self)
        other.evidence, other._pairs = evidence, self._with_gold_boxes(evidence.attach(self._pairs))
        return other

    def with_node_evidence(self, node_types: Iterable[NodeType]) -> PostDataset:
        """Return the same posts with what node types of your own read; see `attach_node_evidence`."""
        other = copy.copy(self)
        other._pairs = attach_node_evidence(self._pairs, node_types, self.raw_dir, self.folder)
        return other

    def with_image(self, pair: Pair) -> Pair:
        """Return the pair with the path of its image, if there is one.

        Raises:
            ValueError: when the id, or a link of its name, leads out of the folder of images.
        """
        path = image_path_of(self.images, pair.id) if self.images else None
        return pair if path is None else replace(pair, image_path=path)

    def select(self, pairs: list[Pair]) -> list[Pair]:
        """Return the posts of the file that belong to the data set; by default all."""
        return pairs

    @property
    def raw_dir(self) -> str:
        """The folder of the text: root if it holds the text of this split, else root/raw."""
        return str(self.folder if find_text_file(self.folder, self.split) else self.folder / "raw")

    @property
    def raw_file_names(self) -> list[str]:
        found = find_text_file(self.raw_dir, self.split)
        return [found.name if found else f"{self.split}.txt"]

    @property
    def processed_dir(self) -> str:
        if self._cache is None:
            self._cache = cache_folder(self.folder)
        return str(self._cache)

    @property
    def processed_file_names(self) -> list[str]:
        key = hashlib.sha256(json.dumps(self._manifest(), sort_keys=True).encode()).hexdigest()[:16]
        return [f"{self.split}-{key}.jsonl"]

    def process(self) -> None:
        """Parse the text into one line of settings and checksum and one line per post."""
        pairs = read_conll(self.raw_paths[0], mapping=self.settings["mapping"], fix_bio=self.settings["fix_bio"])
        if not pairs:
            raise ValueError(f"{self.raw_paths[0]}: no posts in it; right is IMGID:<id>, word<TAB>tag, blank line")
        save_posts(pairs, self._manifest(), Path(self.processed_paths[0]))

    def _process(self) -> None:
        # PyG's own keeps pickles beside the cache and does not check whether the raw text changed.
        if not Path(self.raw_paths[0]).is_file():
            raise FileNotFoundError(
                f"no {self.split}.txt in {self.folder} or {self.folder / 'raw'}; "
                f"there is: {describe_folder(self.folder)}"
            )
        path = Path(self.processed_paths[0])
        if self.force_reload or not path.is_file():
            self.process()

    def _manifest(self) -> dict[str, Any]:
        return {"format": 1, "sha256": file_sha256(self.raw_paths[0]), **self.settings}

    def _find_boxes(self, given: str | Path | None) -> Path | None:
        if given is None:
            return find_boxes(self.raw_dir, self.folder)
        if not Path(given).exists():
            raise FileNotFoundError(f"boxes={str(given)!r} is not there; give a file as boxes.jsonl, or GMNER's xml")
        return Path(given)

    def _with_gold_boxes(self, pairs: list[Pair]) -> list[Pair]:
        return pairs if self._gold is None else attach_gold_boxes(pairs, self._gold, stacklevel=4)

    def _images(self, given: str | Path | None) -> Path | None:
        if given is not None:
            if not Path(given).is_dir():
                raise FileNotFoundError(f"images={str(given)!r} is no folder; give the one that holds <id>.jpg")
            return Path(given)
        places = (Path(self.raw_dir) / "images", self.folder / "images")
        return next((place for place in places if place.is_dir()), None)


class PostFolder(PostDataset):
    """Your own posts: a folder with train.txt, valid.txt and test.txt, or some of these; see PostDataset."""
