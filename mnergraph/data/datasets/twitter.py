"""Twitter-2015 (Zhang et al., 2018) and Twitter-2017 (Lu et al., 2018), the benchmarks of multimodal NER.

They take a local folder, or download: the text from the repository of UMT (Yu et al., 2020) at a pinned
commit, and the images, when asked, from the link given there. Using the data means accepting the terms of
Twitter and of the data sets' providers. No file of them comes with this package.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import ClassVar

from torch_geometric.data import HeteroData

from mnergraph.data.datasets.download import fetch_images, fetch_text
from mnergraph.data.datasets.published import TWITTER_TERMS, PublishedDataset
from mnergraph.data.evidence import Evidence
from mnergraph.data.image_files import placeholders
from mnergraph.pair import Pair

TEXT_URL = "https://raw.githubusercontent.com/jefferyYu/UMT/f2e9574abb8f557b1a364692e0bef059512c31de/data"


class TwitterBenchmark(PublishedDataset, ABC):
    """A published benchmark: a `PostDataset` with its files' checksums and their address.

    A text other than the published one is read with a warning that names both checksums. Arguments that are not
    listed here are those of `PostDataset`.

    Args:
        root: see ``PostDataset``; a text that is not there is downloaded into ``root/raw``.
        split: "train", "valid" or "test".
        download_images: download the images too, into ``root/raw/images``, unless a folder of images
            is there. Without, posts have the images that are there, or none.
        text_url: the folder that holds ``twitter2015/train.txt`` and so on; a mirror's, if need be.
    """

    folder_name: ClassVar[str]
    license = TWITTER_TERMS

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        download_images: bool = False,
        images: str | Path | None = None,
        evidence: Evidence | None = None,
        mapping: Mapping[str, str] | None = None,
        fix_bio: bool = False,
        builder: Callable[[Pair], HeteroData] | None = None,
        force_reload: bool = False,
        text_url: str = TEXT_URL,
    ) -> None:
        if not hasattr(self, "sha256"):
            raise TypeError(f"TwitterBenchmark is abstract; there is {', '.join(c.__name__ for c in BENCHMARKS)}")
        self.text_url = text_url
        if download_images and images is None:
            images = fetch_images(Path(root).expanduser(), self.folder_name[-4:])
        super().__init__(
            root,
            split,
            images=images,
            evidence=evidence,
            mapping=mapping,
            fix_bio=fix_bio,
            builder=builder,
            force_reload=force_reload,
        )
        self._warn_of_other_text()

    def download(self) -> None:
        """Fetch the text of the split."""
        name = f"{self.split}.txt"
        url = f"{self.text_url}/{self.folder_name}/{name}"
        fetch_text(url, Path(self.raw_dir) / name, self.sha256[self.split])


class Twitter2015(TwitterBenchmark):
    """Twitter-2015: 4000, 1000 and 3257 posts; PER, LOC, ORG, OTHER; with orphan I- tags (``fix_bio``)."""

    folder_name = "twitter2015"
    sha256: ClassVar[Mapping[str, str]] = {
        "train": "a6246e37aa1c8acd738747fa8257e01775f2a1cc0d4f36f82f9d41d6246ad6fa",
        "valid": "9dcc7f9df7331de3c9cdf67a3450e041c41c6254b5e43925c576e2dfaaabe2ad",
        "test": "edb2665b89bfe58bca06a2c10b9b31cbfa95456135b6a4cbf55c872e48d9b8f9",
    }


class Twitter2017(TwitterBenchmark):
    """Twitter-2017: 3373, 723 and 723 posts; PER, LOC, ORG and MISC."""

    folder_name = "twitter2017"
    sha256: ClassVar[Mapping[str, str]] = {
        "train": "801e149e8635b19d66b4ec1212c329be340ada501b35c5fa55455fb6f53633be",
        "valid": "41b5db90cb32059c14c2c3ccd50845fb77f1e3d3e4f7d0c210a61bc507d8a73e",
        "test": "a7d9e172ae85bd3e35276eb2b01ce223321bdc92a47b234e24305d72e7a05243",
    }


class Twitter2017C(TwitterBenchmark):
    """Twitter-2017 without the posts whose image is missing or is the providers' placeholder.

    The papers count 3075, 659 and 661 posts. The text does not determine which: the folder of images or a list of
    ids does. Arguments that are not listed here are those of `TwitterBenchmark`.

    Args:
        ids: the ids to keep, or a file with one per line; None to judge by the images.
        copies: an image that stands this often in the folder, byte by byte, is a placeholder.
        placeholder_sha256: checksums of further placeholders.
    """

    folder_name = Twitter2017.folder_name
    sha256 = Twitter2017.sha256

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        ids: str | Path | Iterable[str] | None = None,
        copies: int = 10,
        placeholder_sha256: Collection[str] = (),
        download_images: bool = False,
        images: str | Path | None = None,
        evidence: Evidence | None = None,
        mapping: Mapping[str, str] | None = None,
        fix_bio: bool = False,
        builder: Callable[[Pair], HeteroData] | None = None,
        force_reload: bool = False,
        text_url: str = TEXT_URL,
    ) -> None:
        self._ids = _read_ids(ids)
        self._copies = copies
        self._placeholder_sha256 = frozenset(placeholder_sha256)
        super().__init__(
            root,
            split,
            download_images=download_images,
            images=images,
            evidence=evidence,
            mapping=mapping,
            fix_bio=fix_bio,
            builder=builder,
            force_reload=force_reload,
            text_url=text_url,
        )

    def select(self, pairs: list[Pair]) -> list[Pair]:
        """The posts of the listed ids, or those with an image of their own."""
        if self._ids is not None:
            kept = [pair for pair in pairs if pair.id in self._ids]
        elif self.images is not None:
            stand_ins = placeholders(self.images, copies=self._copies, sha256=self._placeholder_sha256)
            found = map(self.with_image, pairs)
            kept = [pair for pair in found if pair.image_path and pair.image_path.stem not in stand_ins]
        else:
            raise ValueError(
                "Twitter2017C is Twitter2017 without the posts whose image is missing or a placeholder; "
                "the text does not determine which (the papers' 3075, 659 and 661 posts cannot be derived from "
                f"it). Give images= (there is none in {self.folder}), download_images=True to download, or ids= "
                "to keep"
            )
        if not kept:
            raise ValueError(f"no post of {self.split} is left; {'ids=' if self._ids else self.images} fits none")
        return kept


BENCHMARKS: tuple[type[TwitterBenchmark], ...] = (Twitter2015, Twitter2017, Twitter2017C)


def published_split(sha256: str, datasets: Iterable[type[PublishedDataset]] = (Twitter2015, Twitter2017)) -> str | None:
    """The data set, one of these, and the split whose text has this checksum, such as "Twitter2015 train"."""
    known = {value: f"{kind.__name__} {split}" for kind in datasets for split, value in kind.sha256.items()}
    return known.get(sha256)


def _read_ids(ids: str | Path | Iterable[str] | None) -> frozenset[str] | None:
    if isinstance(ids, str | Path):
        ids = Path(ids).read_text(encoding="utf-8-sig").split("\n")
    return None if ids is None else frozenset(stripped for id in ids if (stripped := id.strip()))
