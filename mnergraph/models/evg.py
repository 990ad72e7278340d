"""EVG: entity-aware visual grounding, the second step of the two-step baselines of grounded MNER.

Yu, Li, Wang and Xia, "Grounded Multimodal Named Entity Recognition on Social Media", ACL 2023, where UMT, UMGF and ITA
are followed by it (UMT-VinVL-EVG and so on). No code was released.

Graph: entities that are known beforehand, each with a sequence of its own, "[CLS] sentence [SEP] entity [SEP]", and
objects. The objects query the text of each entity by a transformer layer, and a sigmoid says of each object whether it
shows the entity; the best one is the answer if its probability reaches a threshold, else the entity is not in the
image. In training the entities are the gold ones; afterwards those of any model that finds entities. EVG does not read
their types.

Where the paper is silent we choose: objects are encoded as `PlacedObjects` has them; the loss is the mean over an
entity's objects with boxes; the threshold is 0.5; of a sequence that is too long, words far from the entity are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import HeteroData

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.graph.collate import EdgeType, set_store
from mnergraph.graph.evidence_kinds import OBJECT_BOXES
from mnergraph.graph.layout import Edges, Layout
from mnergraph.graph.node_types import LABEL_PIECE, NodeType, Objects, Tokenizer, to_tensor
from mnergraph.graph.schema import Schema
from mnergraph.labels import Entity, LabelSet, Region, Span, tags_to_spans
from mnergraph.models.base import Tagger
from mnergraph.models.batch_config import BatchConfig
from mnergraph.models.batches import run_in_batches
from mnergraph.nn.bfloat16 import in_use
from mnergraph.nn.conv.attention import RelationAttention
from mnergraph.nn.heads.base import full_precision
from mnergraph.nn.heads.entities import EntityHead, SpecialTags, pairs_of
from mnergraph.nn.heads.grounding import GROUNDING, GroundingHead, gold_entities, target_distribution
from mnergraph.nn.layers.hetero import AddNorm, FeedForward
from mnergraph.nn.layers.placed_objects import PLACED_OBJECTS, PlacedObjects
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair

#: Node type of the entities' sequences, and the subtype of their pieces.
SEQUENCE, SEQUENCE_PIECE = "entity_sequence", "sequence_piece"
#: The edge type that joins pieces to their sequence.
SEQUENCE_PIECES: EdgeType = (SEQUENCE_PIECE, "part_of", SEQUENCE)


class EntitySequences(NodeType):
    """``entity_sequence`` nodes: one for each known entity, with the pieces of "[CLS] sentence [SEP] entity [SEP]".

    Entities are the pair's ``entities``; without any those of its gold boxes, or else of its labels. Pieces have
    ``input_ids`` and ``segment``, 1 for the entity.

    Args:
        tokenizer: turns words into pieces.
        max_length: the most pieces of a sequence; words far from the entity are cut.
    """

    name = SEQUENCE

    def __init__(self, tokenizer: Tokenizer, max_length: int) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        self._between: tuple[int, ...] = getattr(tokenizer, "between", tokenizer.end)

    @property
    def subtypes(self) -> tuple[str, ...]:
        """The sequences' pieces."""
        return (SEQUENCE_PIECE,)

    def store(self, pair: Pair) -> dict[str, Any]:
        """Return the number of entities."""
        return {"num_nodes": len(known_spans(pair))}

    def add_to(self, data: HeteroData, pair: Pair) -> None:
        """Add the entities and the pieces of their sequences to the pair's graph."""
        spans = known_spans(pair)
        pieces = self.tokenizer(pair.words) if spans else []
        sequences = [self._sequence(pieces, *span) for span in spans]
        ids = np.array([*chain.from_iterable(ids for ids, _ in sequences)], dtype=np.int64)
        segment = np.array([*chain.from_iterable(segment for _, segment in sequences)], dtype=np.int64)
        owner = np.repeat(np.arange(len(sequences)), [len(ids) for ids, _ in sequences])
        set_store(data, SEQUENCE, {"num_nodes": len(sequences)})
        values = {"input_ids": to_tensor(ids), "segment": to_tensor(segment), "num_nodes": len(ids)}
        set_store(data, SEQUENCE_PIECE, values)
        set_store(data, SEQUENCE_PIECES, {"edge_index": to_tensor(np.array([np.arange(len(ids)), owner]))})

    def batch_cost(self, pair: Pair) -> int:
        """Return the pieces of the sequences, roughly."""
        return len(known_spans(pair)) * (len(pair.words) + len(self._between) + 8)

    def _sequence(self, pieces: Sequence[Sequence[int]], start: int, end: int) -> tuple[list[int], list[int]]:
        """Return the ids of an entity's sequence and their segments."""
        special = len(self.tokenizer.start) + len(self._between) + len(self.tokenizer.end)
        left = max(2, self.max_length - special)
        entity = [*chain.from_iterable(pieces[start:end])][: left // 2]
        left -= len(entity)
        # the sentence loses the words that are farthest from the entity
        first, last = 0, len(pieces)
        while sum(map(len, pieces[first:last])) > left and last - first > 1:
            if start - first >= last - end:
                first += 1
            else:
                last -= 1
        sentence = [*chain.from_iterable(pieces[first:last])][:left]
        before = [*self.tokenizer.start, *sentence, *self._between]
        after = [*entity, *self.tokenizer.end]
        return before + after, [0] * len(before) + [1] * len(after)


def known_spans(pair: Pair) -> list[tuple[int, int]]:
    """Return the word spans of the entities of a pair that are known: given ones, or else gold ones."""
    if pair.entities:
        return list(pair.entities)
    if pair.grounding is not None:
        return [(entity.start, entity.end) for entity in pair.grounding]
    return [(span.start, span.end) for span in tags_to_spans(pair.labels or ())]


class KnownEntities(EntityHead):
    """Entities that are known beforehand: those of the gold boxes or the labels. It learns nothing."""

    def loss(self, graph: GraphState) -> Tensor:
        """Return zeros, ``[posts]``."""
        return torch.zeros(graph.num_graphs, device=graph.layouts["token"].ptr.device)

    def decode(self, graph: GraphState) -> list[list[Entity]]:
        """Return the gold entities of every post.

        Raises:
            ValueError: for posts without labels.
        """
        unknown = [pair.id for pair in pairs_of(graph) if pair.labels is None]
        if unknown:
            raise ValueError(
                "EVG finds no entities, it grounds those of another model: give it as grounder to mnergraph.pipeline "
                "or Predictor, or as --grounder to mnergraph predict"
            )
        return [
            [Entity(entity.start, entity.end, entity.type, 1.0) for entity in pair.grounding or ()]
            if pair.grounding is not None
            else [Entity(*span, 1.0) for span in tags_to_spans(pair.labels or ())]
            for pair in pairs_of(graph)
        ]

    def decode_tags(self, graph: GraphState, *, special_tags: SpecialTags = "outside") -> list[list[str]]:
        """Return the gold tags of every post; see `decode`."""
        self.decode(graph)
        return [list(pair.labels or ()) for pair in pairs_of(graph)]

    def span_probabilities(
        self, graph: GraphState, spans: Sequence[Sequence[Span]], tags: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Return 1 for every span of a gold entity, else 0."""
        known = [{(entity.start, entity.end, entity.type) for entity in post} for post in self.decode(graph)]
        return [[float(tuple(span) in post) for span in of] for of, post in zip(spans, known, strict=True)]


class EntityObjects(nn.Module):
    """Scores of every object for every known entity of its post, by a transformer layer from text to objects.

    H = encoder([CLS] sentence [SEP] entity [SEP]);  R' = FFN(LN(R + MHA(R, H, H)));  score of k = w . R'_k + b

    Args:
        encoder: the text encoder.
        num_heads: attention heads.
        intermediate_size: of the feed-forward layer.
        dropout: on objects, attention weights and residuals.
        region_dim: features of the objects' region vectors; None without any.
    """

    def __init__(
        self,
        encoder: TextEncoderModel,
        *,
        num_heads: int,
        intermediate_size: int,
        dropout: float,
        region_dim: int | None,
    ) -> None:
        super().__init__()
        size = encoder.hidden_size
        self.backbone, self.model, self.padding = encoder, encoder.model, encoder.tokenizer.padding
        self.shortest = (*encoder.tokenizer.start, *encoder.tokenizer.end)
        self.has_segments = encoder.num_segments > 1
        self.objects = PlacedObjects(size, region_dim=region_dim, label_dim=size, dropout=dropout)
        self.attention = RelationAttention(size, num_heads, dropout=dropout)
        self.residual, self.feed_forward = AddNorm(size, dropout), FeedForward(size, intermediate_size, dropout)
        self.score = nn.Linear(size, 1)

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with the scores under `GROUNDING`, ``[entities x objects of their post]``."""
        label_pieces = self.model.get_input_embeddings()(graph.data[LABEL_PIECE].input_ids)
        if self.backbone.embedding_projection is not None:
            label_pieces = self.backbone.embedding_projection(label_pieces)
        graph = self.objects(graph.update(**{LABEL_PIECE: label_pieces}))
        texts, states = self._encode(graph)
        candidates, rows = candidate_layout(graph)
        if texts.num_graphs != candidates.num_graphs:  # the sequence that stands for none
            candidates = Layout(torch.zeros_like(texts.ptr))
        x = graph.x[PLACED_OBJECTS].index_select(0, rows).to(states.dtype)
        x = self.residual(x, self.attention(states, x, Edges(texts, candidates)))
        return graph.with_scores(GROUNDING, self.score(self.feed_forward(x))[:, 0])

    def _encode(self, graph: GraphState) -> tuple[Layout, Tensor]:
        """Return the layout of the pieces, a graph for each entity, and their states ``[pieces, hidden_size]``."""
        pieces = graph.data[SEQUENCE_PIECE]
        counts = graph.data[SEQUENCE_PIECES].edge_index[1].bincount(minlength=graph.layouts[SEQUENCE].num_nodes)
        ids, segment = pieces.input_ids, pieces.segment
        if not len(counts):  # so that every parameter has a gradient in batches without entities, too
            ids = torch.tensor(self.shortest, device=ids.device)
            segment, counts = torch.zeros_like(ids), torch.tensor([len(ids)], device=ids.device)
        layout = Layout(F.pad(counts.cumsum(0), (1, 0)))
        given = {"input_ids": layout.to_dense(ids, self.padding), "attention_mask": layout.mask.long()}
        if self.has_segments:
            given["token_type_ids"] = layout.to_dense(segment)
        return layout, layout.to_flat(in_use(self.model)(**given).last_hidden_state)


def candidate_layout(graph: GraphState) -> tuple[Layout, Tensor]:
    """Return the layout of all pairs of an entity and an object, a graph for each entity, and the objects' rows."""
    objects, post = graph.layouts["object"], graph.layouts[SEQUENCE].graph_index
    layout = Layout(F.pad(objects.counts[post].cumsum(0), (1, 0)))
    return layout, objects.ptr[post[layout.graph_index]] + layout.position


class ObjectThreshold(GroundingHead):
    """The most probable object of each known entity, if its probability reaches a threshold (EVG).

    p_k = sigmoid(score of k);  L = sum over entities of the mean over their objects with a box of the binary cross
    entropy, 1 for those with an IoU above 0.5 with a gold box of the entity.

    Args:
        entities: the head of the known entities.
        threshold: probability from which on an object shows the entity.
    """

    def __init__(self, entities: EntityHead, threshold: float) -> None:
        super().__init__(entities)
        self.threshold = threshold

    def loss(self, graph: GraphState) -> Tensor:
        """Return the loss of every post, ``[posts]``.

        Raises:
            ValueError: for a post without gold boxes, by its id.
        """
        gold = gold_entities(graph)
        targets = [
            target_distribution(entity.boxes, [item.box for item in pair.objects]) > 0
            for pair, post in zip(pairs_of(graph), gold, strict=True)
            for entity in post
        ]
        scores, layout, has_box = self._scores(graph)
        target = torch.from_numpy(np.concatenate([np.zeros(0, dtype=bool), *targets])).to(scores)
        each = F.binary_cross_entropy_with_logits(scores, target, reduction="none") * has_box
        total, count = (
            scores.new_zeros(layout.num_graphs).index_add(0, layout.graph_index, values.to(scores))
            for values in (each, has_box)
        )
        mean = total / count.clamp(min=1)
        loss: Tensor = scores.new_zeros(graph.num_graphs).index_add(0, graph.layouts[SEQUENCE].graph_index, mean)
        return loss

    @torch.inference_mode()
    def ground(self, graph: GraphState, entities: Sequence[Sequence[Entity]]) -> list[list[Entity]]:
        """Return the entities of every post, each with the `Region` that shows it.

        Raises:
            ValueError: for entities that the graph was not built for.
        """
        scores, layout, has_box = self._scores(graph)
        probabilities = (scores.sigmoid() * has_box).split(layout.counts.tolist())
        rows = iter([row.tolist() for row in probabilities])
        found = []
        for pair, post in zip(pairs_of(graph), entities, strict=True):
            if known_spans(pair) != [(entity.start, entity.end) for entity in post]:
                raise ValueError(f"post {pair.id!r}: its graph was built for other entities")
            found.append([replace(entity, region=self._region(pair, next(rows))) for entity in post])
        return found

    def _region(self, pair: Pair, probabilities: Sequence[float]) -> Region:
        best = max(range(len(probabilities)), key=lambda index: probabilities[index], default=None)
        if best is None or pair.objects[best].box is None or probabilities[best] < self.threshold:
            return Region(1.0 - (0.0 if best is None else probabilities[best]))
        return Region(probabilities[best], best, pair.objects[best].box, pair.objects[best].label)

    @staticmethod
    def _scores(graph: GraphState) -> tuple[Tensor, Layout, Tensor]:
        """Return scores of entities' objects, their layout with a graph for each entity, and which have a box."""
        layout, rows = candidate_layout(graph)
        has_box = graph.data["object"].box.isfinite().all(-1)
        return full_precision(graph.emissions[GROUNDING]), layout, has_box[rows]


class EVG(Tagger):
    """Entity-aware visual grounding of entities that another model found (Yu et al., ACL 2023).

    Args:
        encoder: text encoder.
        labels: label set of the entities, which it does not read.
        region_dim: features of the objects' region vectors; None for labels and boxes alone.
        num_heads: attention heads.
        intermediate_size: of the feed-forward layer; by default 4 times the hidden size.
        dropout: on objects, attention weights and residuals.
        threshold: probability from which on an object shows an entity.
    """

    def __init__(
        self,
        encoder: TextEncoderModel,
        labels: LabelSet,
        *,
        region_dim: int | None = None,
        num_heads: int = 12,
        intermediate_size: int | None = None,
        dropout: float = 0.1,
        threshold: float = 0.5,
    ) -> None:
        entities = KnownEntities(labels)
        layer = EntityObjects(
            encoder,
            num_heads=num_heads,
            intermediate_size=intermediate_size or 4 * encoder.hidden_size,
            dropout=dropout,
            region_dim=region_dim,
        )
        super().__init__(
            schema=Schema(nodes=["object", SEQUENCE]),
            layers=[layer],
            heads=[entities, ObjectThreshold(entities, threshold)],
            encoder=encoder,
            labels=labels,
            node_types=[
                Objects(encoder.tokenizer, region_dim=region_dim),
                EntitySequences(encoder.tokenizer, encoder.max_length),
            ],
            evidence=[OBJECT_BOXES],
        )

    def ground(
        self,
        pairs: Sequence[Pair],
        entities: Sequence[Sequence[Entity]],
        *,
        batching: BatchConfig = BatchConfig(),
    ) -> list[list[Entity]]:
        """Return the entities of posts, each with the region of the image that shows it.

        Args:
            pairs: the posts, with the evidence that the model reads.
            entities: the entities of every post.
            batching: how posts are taken into batches, and the precision.
        """
        given = [
            replace(pair, labels=None, grounding=None, entities=tuple((entity.start, entity.end) for entity in post))
            for pair, post in zip(pairs, entities, strict=True)
        ]
        waiting = {id(pair): list(post) for pair, post in zip(given, entities, strict=True)}

        def decode(graph: GraphState, posts: Sequence[Pair]) -> list[list[Entity]]:
            head = self.grounding_head
            assert head is not None
            return head.ground(graph, [waiting[id(pair)] for pair in posts])

        return run_in_batches(self, given, decode, config=batching)
