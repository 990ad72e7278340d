"""GEI: "Entity-level Interaction via Heterogeneous Graph for Multimodal Named Entity Recognition".

Zhao, Dong, Shi, Yan, Xu and Li, Findings of EMNLP 2022. No code was released.

Graph: tokens (words); entities, grown inside the model where span detection finds them; visual nodes, which
are the whole picture and its objects as one node type ([I; O], eq. 5). Tokens all meet, visual nodes all
meet, every entity meets every visual node, and an entity is joined with its words.

The picture reaches words through their entity alone (eqs. 11-12): no layer hands it to a word of no entity.
Words then speak to one another (eq. 7), so what an entity's words have seen can reach other words by way of
the text from the second layer on. That is the paper's equations, not a choice of ours.

In training, entities stand where the gold labels have them; from epoch 2 to epoch 6, counted from 0, the
share of sentences with predicted ones rises from 0% to 90% (section 3.1), drawn anew for every sentence at
every step. In evaluation, and for posts without labels, all are predicted.

Where the paper is silent we choose:

- d_m = 512. Transformer-1 and Transformer-2 are one layer each, ReLU inside, 4 times as wide as the nodes.
- The attention of eq. 7 and the feed-forwards have residual and norm, and weights for either modality. Gates
  have no bias. M_V is made of D_V and H_E as M_E of H_E and D_V. Emissions are linear in the last words.
- Spans are read leniently off B, I and O, gold or predicted: an orphan I opens one.
- An entity without picture stays as it is, and so do visual nodes without entities.
- The whole picture has a linear map of its own in eq. 6, as evidence may give it another width than objects;
  to share theirs, give it as an object with a region. A grid stands for the picture by its mean.
- Objects also speak by the embedding of their label, if asked.

Ablations of table 1: without "entity-level interaction", visual nodes and words of entities meet directly, by
eqs. 8-10; without "span detection" visual nodes and all words do; with "image region" the visual nodes are
the picture's grid alone.

In the last layer nothing that visual nodes or entities receive after the words have heard them can reach a
tag; those parameters, which would never learn, do not exist here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from torch import nn

from mnergraph.features.backbone import Backbone
from mnergraph.graph import Complete, EntityWords, Kind, Member, Relation, Schema
from mnergraph.labels import Labels
from mnergraph.models.base import Tagger
from mnergraph.nn.attention import Attention
from mnergraph.nn.blocks import TransformerBlock
from mnergraph.nn.crf import CRF
from mnergraph.nn.encoders import ImageEncoder, ObjectEncoder, TextEncoder
from mnergraph.nn.entities import GrowEntities, JoinEntityWords, Pool
from mnergraph.nn.fusion import AddNorm, EachNode, FeedForward, RelationalLayer
from mnergraph.nn.gated import Gated
from mnergraph.nn.heads import Emit, Task, boundary_of
from mnergraph.nn.heads import span_detection as side_task
from mnergraph.nn.schedule import ScheduledSampling
from mnergraph.nn.union import Merge

TOKENS, VISUALS = ("token", "attends", "token"), ("visual", "attends", "visual")
POOLS, FILLS = ("token", "forms", "entity"), ("entity", "fills", "token")
TO_ENTITIES, FROM_ENTITIES = ("visual", "shows", "entity"), ("entity", "names", "visual")
TO_TOKENS, FROM_TOKENS = ("visual", "shows", "token"), ("token", "names", "visual")


def schema(
    *, entities: bool = True, spans: bool = True, sources: Sequence[str] = ("image", "object")
) -> Schema:
    """GEI's graph, or that of an ablation; ``sources``: what becomes a visual node."""
    inside = [Relation(*TOKENS, Complete()), Relation(*VISUALS, Complete())]
    if entities:
        between = [Relation(*TO_ENTITIES, Complete()), Relation(*FROM_ENTITIES, Complete())]
        between += [Relation(*POOLS, Member()), Relation(*FILLS, Member())]
    else:
        kind: Kind = EntityWords() if spans else Complete()
        between = [Relation(*TO_TOKENS, kind), Relation(*FROM_TOKENS, kind)]
    return Schema(inside + between, nodes=sources)


SCHEMA = schema()


class GEI(Tagger):
    """Graph-based entity-level interaction (Zhao et al., Findings of EMNLP 2022).

    Args:
        encoder: the text encoder.
        labels: the label set.
        entity_level_interaction: whether entity nodes stand between words and picture.
        span_detection: whether spans are detected; without, all words meet the picture, and
            ``entity_level_interaction`` must be off, too.
        image_region: whether the picture's grid takes the place of the objects and the whole picture.
        region_width: width of the objects' region vectors (2048 for a ResNet-152); None when there are none.
        label_features: whether objects also speak by their label's embedding, added to the region.
        image_width: width of the picture's vectors; None when posts have none.
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
        encoder: Backbone,
        labels: Labels,
        *,
        entity_level_interaction: bool = True,
        span_detection: bool = True,
        image_region: bool = False,
        region_width: int | None = None,
        label_features: bool = True,
        image_width: int | None = None,
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
        if image_region and image_width is None:
            raise ValueError("image_region needs image_width, the width of the grid's vectors")
        sources = ["image"] * (image_width is not None) + ["object"] * (not image_region)
        graph = schema(entities=entity_level_interaction, spans=span_detection, sources=sources)
        drawn = [relation.key for relation in graph if isinstance(relation.kind, Member | EntityWords)]
        transformer = partial(TransformerBlock, TOKENS, encoder.width, heads, dropout=dropout)
        tasks = [Task("tags", CRF(labels.tags), weight=0.5)]
        stack: list[nn.Module] = [TextEncoder(encoder)]
        if span_detection:
            # eqs. 2-4
            side, spans = side_task(labels, weight=0.5), labels.boundaries.tags
            tasks.append(side)
            stack += [transformer(out="spans"), Emit("spans", encoder.width, len(spans), read=("spans",))]
        # eq. 1
        stack.append(transformer())
        # eqs. 5-6, and the words' linear map after eq. 1
        if image_width is not None:
            stack.append(ImageEncoder(width, image_width))
        if not image_region:
            named = encoder.width if label_features else None
            stack.append(ObjectEncoder(width, region_width=region_width, label_width=named))
        stack.append(Merge("visual", sources, later=[key for key in drawn if "visual" in key]))
        stack.append(EachNode({"token": nn.Linear(encoder.width, width), "visual": nn.ReLU()}))
        if span_detection:
            sampling = partial(
                ScheduledSampling, first=sampling_first, last=sampling_last, most=sampling_most
            )
            find = GrowEntities if entity_level_interaction else JoinEntityWords
            stack.append(sampling(side.decode, boundary_of(labels), out="found"))
            stack.append(find(spans, drawn, read="found"))
        for place in range(layers):
            last = place == layers - 1
            stack += interaction(width, heads, hidden, dropout, entities=entity_level_interaction, last=last)
        super().__init__(
            schema=graph,
            layers=[*stack, Emit("tags", width, len(labels))],
            tasks=tasks,
            encoder=encoder,
            labels=labels,
            region_width=region_width,
            image_width=image_width,
            pool_image=not image_region,
        )


def interaction(
    width: int, heads: int, hidden: int | None, dropout: float, *, entities: bool, last: bool
) -> Iterator[nn.Module]:
    """One layer of the heterogeneous graph interacting network (section 2.3)."""
    attention = partial(Attention, width, heads, dropout=dropout)
    norm = partial(AddNorm, width, dropout)
    # eq. 7
    yield RelationalLayer({TOKENS: attention(), VISUALS: attention()}, combine=norm)
    # eqs. 8-10, and M_V unless nobody will hear it
    pair = (TO_ENTITIES, FROM_ENTITIES) if entities else (TO_TOKENS, FROM_TOKENS)
    yield RelationalLayer({key: Gated(attention(), width) for key in pair[: 1 if last else 2]})
    # eqs. 11-12; no word has more than one entity to sum
    if entities:
        yield RelationalLayer({FILLS: Gated(Pool("sum"), width)})
    kinds = ("token",) if last else ("token", "visual")
    yield EachNode({kind: FeedForward(width, hidden or 4 * width, dropout) for kind in kinds})
    # H_E of the next layer
    if entities and not last:
        yield RelationalLayer({POOLS: Pool("max")})
