"""All data sets by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnergraph.registry import Registry

if TYPE_CHECKING:
    from mnergraph.data.datasets.base import PostDataset

#: Every data set by name.
DATASETS: Registry[type[PostDataset]] = Registry(
    "data set",
    {
        "PostFolder": (
            "mnergraph.data.datasets.base:PostFolder",
            "Your own posts: a folder with train.txt, valid.txt and test.txt, or some of these; see PostDataset.",
        ),
        "Lookalikes": (
            "mnergraph.data.lookalikes.dataset:Lookalikes",
            "Drawn posts, made on the spot: seconds, no download. Ten kilobytes a post.",
        ),
        "GroundedTwitter": (
            "mnergraph.data.datasets.grounded:GroundedTwitter",
            "Twitter-GMNER v2.0: 7000, 1500 and 1500 posts; PER, LOC, ORG, OTHER; entities with their boxes.",
        ),
        "Twitter2015": (
            "mnergraph.data.datasets.twitter:Twitter2015",
            "Twitter-2015: 4000, 1000 and 3257 posts; PER, LOC, ORG, OTHER; with orphan I- tags (``fix_bio``).",
        ),
        "Twitter2017": (
            "mnergraph.data.datasets.twitter:Twitter2017",
            "Twitter-2017: 3373, 723 and 723 posts; PER, LOC, ORG and MISC.",
        ),
        "Twitter2017C": (
            "mnergraph.data.datasets.twitter:Twitter2017C",
            'Twitter-2017 without the posts whose image is missing or is the providers" placeholder.',
        ),
    },
)
