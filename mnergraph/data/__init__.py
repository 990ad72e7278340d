"""Where pairs come from: files of posts, the Twitter benchmarks, and evidence about pictures."""

from mnergraph.data.conll import ConllError, read_conll, write_conll
from mnergraph.data.evidence import Coverage, Evidence
from mnergraph.data.findings import Leak, Report, SplitReport
from mnergraph.data.lookalikes import Lookalikes
from mnergraph.data.pictures import check_picture, picture_path, placeholders
from mnergraph.data.posts import Folder, PostDataset
from mnergraph.data.records import (
    EvidenceError,
    Sight,
    read_captions,
    read_objects,
    write_captions,
    write_objects,
)
from mnergraph.data.twitter import Twitter2015, Twitter2017, Twitter2017C, TwitterBenchmark
from mnergraph.data.vectors import Features, open_features, write_features
from mnergraph.data.verify import leaks, verify
from mnergraph.data.vinvl import convert_vinvl
from mnergraph.data.words import Word, split_words
from mnergraph.features.faults import PictureFault
from mnergraph.features.pictures import checksum

#: Every data set by name.
DATASETS: dict[str, type[PostDataset]] = {
    kind.__name__: kind for kind in (Folder, Lookalikes, Twitter2015, Twitter2017, Twitter2017C)
}

__all__ = [
    "DATASETS",
    "ConllError",
    "Coverage",
    "Evidence",
    "EvidenceError",
    "Features",
    "Folder",
    "Leak",
    "Lookalikes",
    "PictureFault",
    "PostDataset",
    "Report",
    "Sight",
    "SplitReport",
    "Twitter2015",
    "Twitter2017",
    "Twitter2017C",
    "TwitterBenchmark",
    "Word",
    "check_picture",
    "checksum",
    "convert_vinvl",
    "leaks",
    "open_features",
    "picture_path",
    "placeholders",
    "read_captions",
    "read_conll",
    "read_objects",
    "split_words",
    "verify",
    "write_captions",
    "write_conll",
    "write_features",
    "write_objects",
]
