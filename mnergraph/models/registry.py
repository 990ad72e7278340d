"""All models and their schemas by the names that the papers give them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnergraph.registry import Registry

if TYPE_CHECKING:
    from mnergraph.graph.schema import Schema
    from mnergraph.models.base import Tagger

#: Every model by the name its paper gives it.
MODELS: Registry[type[Tagger]] = Registry(
    "model",
    {
        "BiLSTM-CRF": (
            "mnergraph.models.text_only:BiLSTMCRF",
            "Word vectors, a bidirectional LSTM and a linear-chain CRF (Huang et al., 2015).",
        ),
        "CNN-BiLSTM-CRF": (
            "mnergraph.models.text_only:CNNBiLSTMCRF",
            "BiLSTM-CRF over word vectors and a convolution over characters (Ma and Hovy, ACL 2016).",
        ),
        "HBiLSTM-CRF": (
            "mnergraph.models.text_only:HBiLSTMCRF",
            "BiLSTM-CRF over word vectors and an LSTM over characters (Lample et al., 2016).",
        ),
        "BERT": (
            "mnergraph.models.text_only:BERT",
            "A text encoder and a softmax over every word's labels (Devlin et al., 2019).",
        ),
        "BERT-CRF": (
            "mnergraph.models.text_only:BERTCRF",
            "A text encoder and a linear-chain CRF over the words (the papers' BERT-CRF).",
        ),
        "GVATT": (
            "mnergraph.models.gvatt:GVATT",
            "Visual attention by a text query, then gates (Lu et al., ACL 2018).",
        ),
        "AdaCAN": (
            "mnergraph.models.adacan:AdaCAN",
            "Adaptive co-attention of words and image (Zhang et al., AAAI 2018).",
        ),
        "MT-BERT-CRF": (
            "mnergraph.models.umt:MTBERTCRF",
            "Multimodal transformer (Yu et al., ACL 2020, section 2.3); with span detection it is `UMT`.",
        ),
        "UMT": (
            "mnergraph.models.umt:UMT",
            "Unified multimodal transformer (Yu et al., ACL 2020). Without span detection it is `MTBERTCRF`.",
        ),
        "OCSGA": (
            "mnergraph.models.ocsga:OCSGA",
            "Co-attention of words and the class names of objects (Wu et al., ACM MM 2020).",
        ),
        "Object-AGBAN": (
            "mnergraph.models.object_agban:ObjectAGBAN",
            "Adversarial gated bilinear attention of words and objects (Zheng et al., IEEE TMM 2020).",
        ),
        "UMGF": (
            "mnergraph.models.umgf.model:UMGF",
            "Unified multi-modal graph fusion (Zhang et al., AAAI 2021).",
        ),
        "MGCMT": (
            "mnergraph.models.mgcmt.model:MGCMT",
            "Multi-granularity cross-modality transformer (Liu et al., 2022).",
        ),
        "MAF": (
            "mnergraph.models.maf:MAF",
            "Matching and alignment of text and image (Xu et al., WSDM 2022).",
        ),
        "GEI": (
            "mnergraph.models.gei.model:GEI",
            "Graph-based entity-level interaction (Zhao et al., Findings of EMNLP 2022).",
        ),
        "MRC-MNER": (
            "mnergraph.models.mrc_mner.model:MRCMNER",
            "Machine reading comprehension: a question per entity type (Jia et al., ACM MM 2022).",
        ),
        "HamLearning": (
            "mnergraph.models.hamlearning.model:HamLearning",
            "Hierarchical alignments of a text with its image and objects (Liu et al., 2023).",
        ),
        "HVPNeT": (
            "mnergraph.models.hvpnet.model:HVPNeT",
            "Hierarchical visual prefixes in every layer of the text encoder (Chen et al., Findings of NAACL 2022).",
        ),
        "Captions": (
            "mnergraph.models.captions:Captions",
            "A text encoder that reads the image's caption beside the post, and a CRF (Chen et al., W-NUT 2021).",
        ),
        "ATTR-MMKG-MNER": (
            "mnergraph.models.attr_mmkg_mner:ATTRMMKGMNER",
            "Image attributes, image regions and knowledge attended by every word (Chen D. et al., DASFAA 2021).",
        ),
        "ITA": (
            "mnergraph.models.ita:ITA",
            "Image-text alignments: the image as words, and two views that agree (Wang et al., NAACL 2022).",
        ),
        "PGIM": (
            "mnergraph.models.pgim:PGIM",
            "A text encoder that reads a language model's knowledge beside the post, and a CRF (Li et al., 2023).",
        ),
    },
)

#: Every model that grounds the entities of another one, by the name its paper gives it.
GROUNDERS: Registry[type[Tagger]] = Registry(
    "grounder",
    {
        "EVG": (
            "mnergraph.models.evg:EVG",
            "Entity-aware visual grounding, the second step of two-step grounded MNER (Yu et al., ACL 2023).",
        ),
    },
)

#: Every schema that a model uses, by name.
SCHEMAS: Registry[Schema] = Registry(
    "schema",
    {
        "text (BERT, BERT-CRF, BiLSTM-CRF and its kin)": (
            "mnergraph.models.text_only:SCHEMA",
            "graph of text (BERT, BERT-CRF, BiLSTM-CRF and its kin)",
        ),
        "context": (
            "mnergraph.graph.context:CONTEXT_SCHEMA",
            "what context adds to any graph (Captions, ITA, PGIM)",
        ),
        "GVATT": ("mnergraph.models.gvatt:SCHEMA", "graph of GVATT"),
        "ATTR-MMKG-MNER": ("mnergraph.models.attr_mmkg_mner:SCHEMA", "graph of ATTR-MMKG-MNER, without context"),
        "AdaCAN": ("mnergraph.models.adacan:SCHEMA", "graph of AdaCAN"),
        "UMT (and MT-BERT-CRF)": ("mnergraph.models.umt:SCHEMA", "graph of UMT (and MT-BERT-CRF)"),
        "OCSGA": ("mnergraph.models.ocsga:SCHEMA", "graph of OCSGA"),
        "Object-AGBAN": ("mnergraph.models.object_agban:SCHEMA", "graph of Object-AGBAN"),
        "UMGF": ("mnergraph.models.umgf.model:SCHEMA", "graph of UMGF"),
        "UMGF, released": ("mnergraph.models.umgf.model:RELEASED_SCHEMA", "graph of UMGF, released"),
        "MGCMT": ("mnergraph.models.mgcmt.model:SCHEMA", "graph of MGCMT"),
        "MAF": ("mnergraph.models.maf:SCHEMA", "graph of MAF"),
        "GEI": ("mnergraph.models.gei.model:SCHEMA", "graph of GEI"),
        "MRC-MNER": ("mnergraph.models.mrc_mner.model:SCHEMA", "graph of MRC-MNER"),
        "HamLearning": ("mnergraph.models.hamlearning.model:SCHEMA", "graph of HamLearning"),
        "HVPNeT": ("mnergraph.models.hvpnet.model:SCHEMA", "graph of HVPNeT"),
    },
)
