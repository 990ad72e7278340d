from .datasets.base import (
    PostDataset as PostDataset,
)
from .datasets.base import (
    PostFolder as PostFolder,
)
from .datasets.twitter import (
    Twitter2015 as Twitter2015,
)
from .datasets.twitter import (
    Twitter2017 as Twitter2017,
)
from .datasets.twitter import (
    Twitter2017C as Twitter2017C,
)
from .datasets.twitter import (
    TwitterBenchmark as TwitterBenchmark,
)
from .evidence import (
    Coverage as Coverage,
)
from .evidence import (
    Evidence as Evidence,
)
from .formats.conll import (
    ConllError as ConllError,
)
from .formats.conll import (
    read_conll as read_conll,
)
from .formats.conll import (
    write_conll as write_conll,
)
from .formats.evidence_jsonl import (
    Detections as Detections,
)
from .formats.evidence_jsonl import (
    EvidenceError as EvidenceError,
)
from .formats.evidence_jsonl import (
    read_captions as read_captions,
)
from .formats.evidence_jsonl import (
    read_objects as read_objects,
)
from .formats.evidence_jsonl import (
    write_captions as write_captions,
)
from .formats.evidence_jsonl import (
    write_objects as write_objects,
)
from .formats.feature_file import (
    Features as Features,
)
from .formats.feature_file import (
    open_features as open_features,
)
from .formats.feature_file import (
    write_features as write_features,
)
from .formats.vinvl import (
    convert_vinvl as convert_vinvl,
)
from .image_files import (
    check_image as check_image,
)
from .image_files import (
    image_path_of as image_path_of,
)
from .image_files import (
    placeholders as placeholders,
)
from .lookalikes.dataset import (
    Lookalikes as Lookalikes,
)
from .registry import (
    DATASETS as DATASETS,
)
from .verify import (
    Leak as Leak,
)
from .verify import (
    Report as Report,
)
from .verify import (
    SplitReport as SplitReport,
)
from .verify import (
    leaks as leaks,
)
from .verify import (
    verify as verify,
)
