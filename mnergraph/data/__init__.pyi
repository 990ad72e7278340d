from .convert_data import (
    read_annotations as read_annotations,
)
from .convert_data import (
    write_annotations as write_annotations,
)
from .datasets.base import (
    PostDataset as PostDataset,
)
from .datasets.base import (
    PostFolder as PostFolder,
)
from .datasets.graphs import (
    GraphDataset as GraphDataset,
)
from .datasets.grounded import (
    GroundedTwitter as GroundedTwitter,
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
from .formats.boxes import (
    GoldBox as GoldBox,
)
from .formats.boxes import (
    GoldBoxes as GoldBoxes,
)
from .formats.boxes import (
    attach_gold_boxes as attach_gold_boxes,
)
from .formats.boxes import (
    read_boxes as read_boxes,
)
from .formats.boxes import (
    read_boxes_xml as read_boxes_xml,
)
from .formats.boxes import (
    with_gold_boxes as with_gold_boxes,
)
from .formats.boxes import (
    write_boxes as write_boxes,
)
from .formats.brat import (
    read_brat as read_brat,
)
from .formats.brat import (
    write_brat as write_brat,
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
from .formats.conll_columns import (
    read_conll_columns as read_conll_columns,
)
from .formats.doccano import (
    read_doccano as read_doccano,
)
from .formats.doccano import (
    write_doccano as write_doccano,
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
from .formats.hf_datasets import (
    from_dataset as from_dataset,
)
from .formats.hf_datasets import (
    to_dataset as to_dataset,
)
from .formats.label_studio import (
    labeling_config as labeling_config,
)
from .formats.label_studio import (
    read_label_studio as read_label_studio,
)
from .formats.label_studio import (
    write_label_studio as write_label_studio,
)
from .formats.predictions import (
    read_predictions as read_predictions,
)
from .formats.tag_schemes import (
    TagConversion as TagConversion,
)
from .formats.tag_schemes import (
    detect_scheme as detect_scheme,
)
from .formats.tag_schemes import (
    from_bio2 as from_bio2,
)
from .formats.tag_schemes import (
    to_bio2 as to_bio2,
)
from .formats.text_spans import (
    AnnotatedText as AnnotatedText,
)
from .formats.text_spans import (
    AnnotationError as AnnotationError,
)
from .formats.text_spans import (
    Notes as Notes,
)
from .formats.text_spans import (
    TextSpan as TextSpan,
)
from .formats.vinvl import (
    convert_vinvl as convert_vinvl,
)
from .grounding_counts import (
    GroundingCounts as GroundingCounts,
)
from .grounding_counts import (
    count_grounding as count_grounding,
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
from .verify import (
    warn_of_remixed_splits as warn_of_remixed_splits,
)
from .verify import (
    warn_of_shared_posts as warn_of_shared_posts,
)
