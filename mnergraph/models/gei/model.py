"""GEI: "Entity-level Interaction via Heterogeneous Graph for Multimodal Named Entity Recognition".

Zhao, Dong, Shi, Yan, Xu and Li, Findings of EMNLP 2022. No code was released.

Graph: tokens (words); entities, created in the forward pass where span detection finds them or gold labels have
them (`ScheduledSampling`); visual nodes, the whole image and its objects as one node type ([I; O], eq. 5).
Tokens are connected to one another, visual nodes to one another, every entity to every visual node and to its
words.

The image reaches words through their entity alone (eqs. 11-12): no layer connects it to a word outside all
entities. Words attend to one another (eq. 7), so from the second layer on what an entity's words received can
reach other words by way of the text. That is the paper's equations, not a choice of ours.

Where the paper is silent we choose, in addition to the choices of `interacting_layer`: d_m = 512; Transformer-1
and -2 are one layer each, with ReLU, 4 times as wide as the nodes. The whole image has a linear map of its own
in eq. 6, as its features may have another dimension than the objects'; to share theirs, give it as an object
with a region vector. A grid is represented by its mean.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import ClassVar

from torch import nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.graph.context import Context
from mnergraph.graph.edge_rules import Complete, EdgeRule, InEntity, Member
from mnergraph.graph.evidence_kinds import IMAGE_FEATURES, REGION_FEATURES
from mnergraph.graph.node_types import Images, Objects
from mnergraph.graph.schema import Relation, Schema
from mnergraph.labels import LabelSet
from mnergraph.models.ablations import check_ablations
from mnergraph.models.base import Tagger
from mnergraph.models.gei.layers import interacting_layer
from mnergraph.nn.encoders.pretrained import TextEncoder
from mnergraph.nn.encoders.visual import ImageEncoder, ObjectEncoder
from mnergraph.nn.heads.base import Head
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.grounding import Grounding
from mnergraph.nn.heads.scheduled_sampling import ScheduledSampling, ScheduledSamplingConfig
from mnergraph.nn.heads.tagging import (
    TAGS,
    SpanDetectionHead,
    TaggingHead,
    TaggingScores,
    span_detection_scores,
    span_label_ids,
)
from mnergraph.nn.layers.entity_nodes import EntityEdges, EntityNodes
from mnergraph.nn.layers.hetero import NodeTypeModule
from mnergraph.nn.layers.node_types import MergeNodeTypes
from mnergraph.nn.layers.transformer import TransformerConfig

TOKENS, VISUALS = ("token", "attends", "token"), ("visual", "attends", "visual")
POOLS, FILLS = ("token", "forms", "entity"), ("entity", "fills", "token")
TO_ENTITIES, FROM_ENTITIES = ("visual", "shows", "entity"), ("entity", "names", "visual")
TO_TOKENS, FROM_TOKENS = ("visual", "shows", "token"), ("token", "names", "visual")
#: The node types that become visual nodes.
SOURCES = ("image", "object")

#: Name of the span labels that entities are read from: gold or predicted, ``[tokens]``.
SPAN_LABELS = "span labels"

#: The rows of table 1. Entities come from span detection, so that without it there is no interaction either.
NO_ENTITY_INTERACTION, NO_SPAN_DETECTION, IMAGE_REGION = ABLATIONS = (
    "- Entity-level interaction",
    "- Span Detection",
    "+ Image Region",
)


def schema(*, entities: bool = True, spans: bool = True, sources: Sequence[str] = SOURCES) -> Schema:
    """Return GEI's schema, or that of an ablation.

    Args:
        entities: there are entity nodes.
        spans: there is span detection; without entity nodes an entity's words are connected to visual nodes.
        sources: node types that become visual nodes.
    """
    intra = [Relation(*TOKENS, Complete()), Relation(*VISUALS, Complete())]
    if entities:
        inter = [Relation(*TO_ENTITIES, Complete()), Relation(*FROM_ENTITIES, Complete())]
        inter += [Relation(*POOLS, Member()), Relation(*FILLS, Member())]
    else:
        rule: EdgeRule = InEntity() if spans else Complete()
        inter = [Relation(*TO_TOKENS, rule), Relation(*FROM_TOKENS, rule)]
    return Schema(intra + inter, nodes=sources)


SCHEMA = schema()


class GEI(Tagger):
    """Graph-based entity-level interaction (Zhao et al., Findings of EMNLP 2022).

    Args:
        encoder: text encoder.
        labels: label set.
        ablate: rows of the paper's table 1, any of `GEI.ABLATIONS`: without entity-level interaction the words
            of entities are connected to visual nodes, without span detection all words are; with image regions
            the grid's nodes take the place of image and objects.
        region_dim: dimension of the objects' region vectors (2048 for a ResNet-152); None without any.
        label_features: the labels' embeddings are features of the objects, too; the paper has regions alone.
        image_dim: dimension of the image features; None without any.
        hidden_size: of the graph's nodes, d_m.
        num_layers: interacting layers, L.
        num_heads: attention heads.
        intermediate_size: of the feed-forward layers; by default 4 times the hidden size.
        dropout: on attention weights and residuals.
        scheduled_sampling: when predicted entities replace gold ones in training.
        context: which texts about a post the encoder reads beside the sentence; None for none.
        grounding: how entities are grounded in the image; None where they are not.
    """

    ABLATIONS: ClassVar[tuple[str, ...]] = ABLATIONS

    def __init__(
        self,
        encoder: TextEncoderModel,
        labels: LabelSet,
        *,
        ablate: Collection[str] = (),
        region_dim: int | None = None,
        label_features: bool = True,
        image_dim: int | None = None,
        hidden_size: int = 512,
        num_layers: int = 6,
        num_heads: int = 8,
        intermediate_size: int | None = None,
        dropout: float = 0.4,
        scheduled_sampling: ScheduledSamplingConfig = ScheduledSamplingConfig(),
        context: Context | None = None,
        grounding: Grounding | None = None,
    ) -> None:
        ablate = check_ablations(ablate, self.ABLATIONS)
        regions, spans = IMAGE_REGION in ablate, NO_SPAN_DETECTION not in ablate
        entities = spans and NO_ENTITY_INTERACTION not in ablate
        if regions and image_dim is None:
            raise ValueError(f"{IMAGE_REGION!r} needs image_dim, the dimension of the grid's vectors")
        sources = ["image"] * (image_dim is not None) + ["object"] * (not regions)
        graph = schema(entities=entities, spans=spans, sources=sources)
        dynamic = [relation.key for relation in graph if isinstance(relation.rule, Member | InEntity)]
        transformers = TransformerConfig(encoder.hidden_size, num_heads, dropout=dropout)
        heads: list[Head] = [TaggingHead(CRF(labels.tags), labels, weight=0.5)]
        stack: list[nn.Module] = [TextEncoder(encoder)]
        if spans:
            # eqs. 2-4
            span_head = SpanDetectionHead(labels, weight=0.5)
            heads.append(span_head)
            stack += span_detection_scores(TOKENS, labels, transformers)
        # eq. 1
        stack.append(transformers.layer(TOKENS))
        # eqs. 5-6, and the words' linear map after eq. 1
        if image_dim is not None:
            stack.append(ImageEncoder(hidden_size, image_dim))
        if not regions:
            label_dim = encoder.hidden_size if label_features else None
            stack.append(ObjectEncoder(hidden_size, region_dim=region_dim, label_dim=label_dim))
        stack.append(MergeNodeTypes("visual", sources, empty_relations=[key for key in dynamic if "visual" in key]))
        stack.append(NodeTypeModule({"token": nn.Linear(encoder.hidden_size, hidden_size), "visual": nn.ReLU()}))
        if spans:
            label_map, schedule = span_label_ids(labels), scheduled_sampling
            stack.append(ScheduledSampling(span_head.decode_labels, label_map, out_key=SPAN_LABELS, config=schedule))
            create = EntityNodes if entities else EntityEdges
            stack.append(create(labels.span_labels.tags, dynamic, in_key=SPAN_LABELS))
        layer = partial(
            interacting_layer,
            hidden_size,
            num_heads,
            intermediate_size or 4 * hidden_size,
            dropout,
            intra=(TOKENS, VISUALS),
            inter=(TO_ENTITIES, FROM_ENTITIES) if entities else (TO_TOKENS, FROM_TOKENS),
            membership=(POOLS, FILLS) if entities else None,
        )
        for index in range(num_layers):
            stack += layer(is_last=index == num_layers - 1)
        super().__init__(
            schema=graph,
            layers=[*stack, TaggingScores(TAGS, hidden_size, len(labels))],
            heads=heads,
            encoder=encoder,
            context=context,
            grounding=grounding,
            labels=labels,
            node_types=[
                *([Images(image_dim, pool=not regions)] if "image" in sources else []),
                *([Objects(encoder.tokenizer, region_dim=region_dim)] if "object" in sources else []),
            ],
            evidence=[IMAGE_FEATURES] if regions else [IMAGE_FEATURES, REGION_FEATURES],
        )
