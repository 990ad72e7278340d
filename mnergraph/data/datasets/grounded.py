"""Twitter-GMNER (Yu, Li, Wang, Xia; ACL 2023), the benchmark of grounded multimodal NER: entities with their boxes.

No file of it comes with this package. Using the data means accepting the terms of Twitter and of the data's providers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from torch_geometric.data import HeteroData

from mnergraph.data.datasets.base import describe_folder, find_text_file
from mnergraph.data.datasets.published import TWITTER_TERMS, PublishedDataset
from mnergraph.data.evidence import Evidence
from mnergraph.data.grounding_counts import GroundingCounts, count_grounding
from mnergraph.pair import Pair

SOURCE = "https://github.com/NUSTM/GMNER, folder Twitter10000_v2.0 (txt and xml)"


class GroundedTwitter(PublishedDataset):
    """Twitter-GMNER v2.0: 7000, 1500 and 1500 posts; PER, LOC, ORG, OTHER; entities with their boxes.

    Posts have ``grounding``: an entity's gold boxes are all boxes of its words, none where it is not in the image.
    Region proposals are the posts' objects, as in any data set: from ``objects.jsonl``, from feature stores, from
    VinVL's files by `mnergraph.data.convert_vinvl`; ``grounding_counts`` counts the entities that none of them covers.

    FMNERG (Wang et al., ACM MM 2023) has the same posts and boxes with finer types: its text is read with a warning
    that it is not GMNER's.

    The splits remix Twitter-2015 and Twitter-2017: 2,030 of the training posts are test posts of these, and 886 of the
    test posts are training posts of these. A model that is trained here is not to be scored there, nor the other way
    round; ``evaluate`` warns of it, and `mnergraph.data.warn_of_shared_posts` finds the posts that two share.

    Args:
        root: the folder with ``train.txt``, ``dev.txt``, ``test.txt``, itself or in its folder ``raw`` or ``txt``, and
            with ``boxes.jsonl`` or ``xml``; GMNER's repository has ``txt`` and ``xml``.
        split: "train", "valid" (or "dev", "val") or "test".
        images: see ``PostDataset``.
        evidence: see ``PostDataset``.
        mapping: see ``PostDataset``.
        fix_bio: see ``PostDataset``.
        boxes: see ``PostDataset``.
        builder: see ``PostDataset``.
        force_reload: see ``PostDataset``.

    Raises:
        FileNotFoundError: when there are no boxes, naming where they can be had.
    """

    license = TWITTER_TERMS

    sha256: ClassVar[Mapping[str, str]] = {
        "train": "72770413f5a80b75c6d8b59d985048bc8b26c489b7b8a09c4cc7ed2b97f3cc41",
        "valid": "07435237d7bfc1f2dd66f564fecab9637ff0bb9d08025d722859dbb2bd3f8532",
        "test": "a178a5f6f422a43f8e8692d84cbde4eb590dec9b2a0da4aa67e3ecf3ac690f0a",
    }

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
        super().__init__(
            root,
            split,
            images=images,
            evidence=evidence,
            mapping=mapping,
            fix_bio=fix_bio,
            boxes=boxes,
            builder=builder,
            force_reload=force_reload,
        )
        if self.boxes is None:
            raise FileNotFoundError(
                f"GroundedTwitter needs the gold boxes: no boxes.jsonl and no folder xml in {self.folder} or "
                f"{self.raw_dir} (there is: {describe_folder(self.folder)}); get them from {SOURCE}, or give boxes="
            )
        self._warn_of_other_text()

    @property
    def raw_dir(self) -> str:
        """The folder of the text: root/txt, as in GMNER's repository, if it holds the text of this split."""
        text = self.folder / "txt"
        return str(text) if find_text_file(text, self.split) else super().raw_dir

    @property
    def grounding_counts(self) -> GroundingCounts:
        """How many entities have boxes, and how many of these a proposal covers."""
        return count_grounding(self.pairs)
