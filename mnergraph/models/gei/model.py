"""GEI: "Entity-level Interaction via Heterogeneous Graph for Multimodal Named Entity Recognition".

Zhao, Dong, Shi, Yan, Xu and Li, Findings of EMNLP 2022. No code was released.

Graph: tokens (words); entities, grown inside the model where span detection finds them or gold labels have
them (`ScheduledSampling`); visual nodes, the whole picture and its objects as one type ([I; O], eq. 5).
Tokens all meet, visual nodes all meet, every entity meets every visual node and is joined with its words.

The picture reaches words through their entity alone (eqs. 11-12): no layer hands it to a word of no entity.
Words then speak to one another (eq. 7), so what an entity's words have seen can reach other words by way of
the text from the second layer on. That is the paper's equations, not a choice of ours.

Where the paper is silent we choose, beside what stands with `interacting_layer`: d_m = 512; Transformer-1 and
-2 are one layer each, ReLU inside, 4 times as wide as the nodes. The whole picture has a linear map of its
own in eq. 6, as evidence may give it another width than objects; to share theirs, give it as an object with a
region. A grid stands for the picture by its mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.graph.edge_rules import Complete, EdgeRule, InEntity, Member
from mnergraph.graph.node_types import Images, Objects
from mnergraph.graph.schema import Relation, Schema
from mnergraph.labels import LabelSet
from mnergraph.models.base import Tagger
from mnergraph.models.gei.layers import interacting_layer
from mnergraph.nn.encoders.pretrained import TextEncoder
from mnergraph.nn.encoders.visual import ImageEncoder, ObjectEncoder
from mnergraph.nn.heads.base import Head
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.scheduled_sampling import ScheduledSampling
from mnergraph.nn.heads.tagging import (
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


#: What becomes a visual node.
SOURCES = ("image", "object")


def schema(*, entities: bool = True, spans: bool = True, sources: Sequence[str] = SOURCES) -> Schema:
    """GEI's graph, or that of an ablation."""
    inside = [Relation(*TOKENS, Complete()), Relation(*VISUALS, Complete())]
    if entities:
        between = [Relation(*TO_ENTITIES, Complete()), Relation(*FROM_ENTITIES, Complete())]
        between += [Relation(*POOLS, Member()), Relation(*FILLS, Member())]
    else:
        kind: EdgeRule = InEntity() if spans else Complete()
        between = [Relation(*TO_TOKENS, kind), Relation(*FROM_TOKENS, kind)]
    return Schema(inside + between, nodes=sources)


SCHEMA = schema()


class GEI(Tagger):
    """Graph-based entity-level interaction (Zhao et al., Findings of EMNLP 2022).

    Args:
        encoder: the text encoder.
        labels: the label set.
        entity_level_interaction: whether entities stand between; off, their words meet visual nodes directly.
        span_detection: whether there is any; off, as entity_level_interaction must be, all words do.
        image_region: whether the picture's grid alone becomes visual nodes.
        region_dim: width of the objects' region vectors (2048 for a ResNet-152); None when there are none.
        label_features: whether objects also speak by their label's embedding; the paper has regions alone.
        image_dim: width of the picture's vectors; None when posts have none.
        width: of the graph's nodes, d_m.
        layers: interacting layers, L.
        heads: of every attention.
        hidden: inside the feed-forwards; by default 4 times the width.
        dropout: of attention weights and residuals.
        sampling_first: the last epoch on gold entities alone, counted from 0.
        sampling_last: the epoch from which on the share of predicted entities no longer rises.
        sampling_most: that share.
    """

    def __init__(
        self,
        encoder: TextEncoderModel,
        labels: LabelSet,
        *,
        entity_level_interaction: bool = True,
        span_detection: bool = True,
        image_region: bool = False,
        region_dim: int | None = None,
        label_features: bool = True,
        image_dim: int | None = None,
        width: int = 512,
        layers: int = 6,
        heads: int = 8,
        hidden: int | None = None,
        dropout: float = 0.4,
        sampling_first: int = 2,
        sampling_last: int = 6,
        sampling_most: float = 0.9,
    ) -> None:
        if entity_level_interaction and not span_detection:
            raise ValueError("entities come from span detection; turn entity_level_interaction off, too")
        if image_region and image_dim is None:
            raise ValueError("image_region needs image_dim, the width of the grid's vectors")
        sources = ["image"] * (image_dim is not None) + ["object"] * (not image_region)
        graph = schema(entities=entity_level_interaction, spans=span_detection, sources=sources)
        drawn = [relation.key for relation in graph if isinstance(relation.rule, Member | InEntity)]
        transformers = TransformerConfig(encoder.hidden_size, heads, dropout=dropout)
        tasks: list[Head] = [TaggingHead(CRF(labels.tags), labels, weight=0.5)]
        stack: list[nn.Module] = [TextEncoder(encoder)]
        if span_detection:
            # eqs. 2-4
            side, spans = SpanDetectionHead(labels, weight=0.5), labels.span_labels.tags
            tasks.append(side)
            stack += span_detection_scores(TOKENS, labels, transformers)
        stack.append(transformers.layer(TOKENS))  # eq. 1
        # eqs. 5-6, and the words' linear map after eq. 1
        if image_dim is not None:
            stack.append(ImageEncoder(width, image_dim))
        if not image_region:
            named = encoder.hidden_size if label_features else None
            stack.append(ObjectEncoder(width, region_dim=region_dim, label_dim=named))
        stack.append(MergeNodeTypes("visual", sources, empty_relations=[key for key in drawn if "visual" in key]))
        stack.append(NodeTypeModule({"token": nn.Linear(encoder.hidden_size, width), "visual": nn.ReLU()}))
        if span_detection:
            sample = partial(
                ScheduledSampling, start_epoch=sampling_first, end_epoch=sampling_last, max_ratio=sampling_most
            )
            find = EntityNodes if entity_level_interaction else EntityEdges
            stack.append(sample(side.decode_labels, span_label_ids(labels), out_key="found"))
            stack.append(find(spans, drawn, in_key="found"))
        between = (TO_ENTITIES, FROM_ENTITIES) if entity_level_interaction else (TO_TOKENS, FROM_TOKENS)
        members = (POOLS, FILLS) if entity_level_interaction else None
        layer = partial(interacting_layer, within=(TOKENS, VISUALS), between=between, members=members)
        for place in range(layers):
            stack += layer(width, heads, hidden or 4 * width, dropout, last=place == layers - 1)
        super().__init__(
            schema=graph,
            layers=[*stack, TaggingScores("tags", width, len(labels))],
            heads=tasks,
            encoder=encoder,
            labels=labels,
            node_types=[
                *([Images(image_dim, pool=not image_region)] if "image" in sources else []),
                *([Objects(encoder.tokenizer, region_dim=region_dim)] if "object" in sources else []),
            ],
        )
