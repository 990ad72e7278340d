"""Grounding of entities: which object of the image shows an entity, or that none does (GMNER; Yu et al., ACL 2023).

`EntityGrounding` scores every pair of an entity and an object, (entity, grounds, object), and one learned object that
stands for "not in the image". Every model takes it by one argument::

    UMGF(encoder, labels, grounding=Grounding(region_dim=2048))
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

from mnergraph.graph.box_geometry import box_iou
from mnergraph.graph.layout import Edges, Layout
from mnergraph.labels import Entity, Region, Span, spans_to_tags, tags_to_spans
from mnergraph.nn.conv.pair_scores import PairScores
from mnergraph.nn.conv.pooling import SpanPooling
from mnergraph.nn.heads.base import Head, full_precision
from mnergraph.nn.heads.entities import EntityHead, pairs_of, word_layout
from mnergraph.nn.heads.scheduled_sampling import PredictedSpans, ScheduledSamplingConfig, WordSpan
from mnergraph.nn.layers.hetero import AddNorm, FeedForward
from mnergraph.nn.layers.placed_objects import PLACED_OBJECTS
from mnergraph.nn.state import GraphState
from mnergraph.pair import Box, DetectedObject, GroundedEntity, Pair
from mnergraph.quoting import listed

#: Name of the head.
GROUNDING = "grounding"
#: IoU with a gold box above which an object shows the entity in training (H-Index).
COVERING_IOU = 0.5


#: The distances, in tokens, from which on a further bucket begins; on both sides of an entity.
DISTANCES = (1, 2, 3, 4, 5, 9, 17)
#: Number of buckets, with the entity's own.
NUM_DISTANCES = 1 + 2 * len(DISTANCES)


class ScoredEntities(NamedTuple):
    """The scores of entities, in the order of their posts.

    Attributes:
        objects: log p(k | n), ``[entities, 1 + max objects]``, first that the image does not show the entity, then the
            post's objects; -inf for those without a box and for padding.
        post: the post of every entity, ``[entities]``.
        is_whole: whether all its words are in the graph, ``[entities]``, as words may be cut off.
        types: log probabilities of the types, ``[entities, types]``; None where they are from the tags.
    """

    objects: Tensor
    post: Tensor
    is_whole: Tensor
    types: Tensor | None


#: Which objects an entity's target distribution is spread over.
Targets = Literal["all", "best"]


@dataclass(frozen=True)
class Grounding:
    """Settings of the grounding of a model's entities.

    Args:
        region_dim: features of the objects' region vectors; None where the model's own objects say it, or for labels
            and boxes alone.
        hidden_size: features of an entity and an object in the scores.
        num_heads: attention heads among the objects.
        dropout: on entities, objects and attention weights.
        weight: weight of the objects' divergence in the model's loss.
        targets: over which objects an entity's target is spread: ``"all"`` with an IoU above 0.5 with one of its boxes,
            in proportion to it (H-Index), or the ``"best"`` one of these.
        uncovered: what an entity with boxes that no object covers is trained as: ``"skip"`` leaves it out of the loss,
            ``"nowhere"`` trains it as not in the image (H-Index).
        distinct: whether an object may show one entity of a post at most; the best assignment is predicted then.
        types: what gives an entity its type: its ``"tags"``, or the ``"regions"``, the entity and the objects that show
            it, by their probability; the tags' part is then which words are an entity, and a CRF learns no more.
        types_weight: weight of the types' cross entropy in the model's loss, with types from the regions.
        allowed: by entity type the labels of the objects that may show such an entity, in any case; types that are not
            listed may be shown by any object.
        scheduled_sampling: when training grounds predicted spans in the place of gold ones (`PredictedSpans`), as GEI's
            entity nodes are; None for gold spans alone.

    Raises:
        ValueError: for a setting out of range.
    """

    region_dim: int | None = None
    hidden_size: int = 128
    num_heads: int = 4
    dropout: float = 0.1
    weight: float = 1.0
    targets: Targets = "all"
    uncovered: Literal["skip", "nowhere"] = "skip"
    distinct: bool = False
    types: Literal["tags", "regions"] = "tags"
    types_weight: float = 1.0
    allowed: dict[str, list[str]] | None = None
    scheduled_sampling: ScheduledSamplingConfig | None = None

    def __post_init__(self) -> None:
        if self.targets not in get_args(Targets):
            raise ValueError(f"targets are all or best, not {self.targets!r}")
        if self.uncovered not in ("skip", "nowhere"):
            raise ValueError(f"uncovered is skip or nowhere, not {self.uncovered!r}")
        if self.types not in ("tags", "regions"):
            raise ValueError(f"types are from tags or regions, not {self.types!r}")
        for name in ("weight", "types_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is 0 or more, not {getattr(self, name)}")


class GroundingHead(Head):
    """Base class of heads that ground entities: which object of a post shows each, or that none does.

    Args:
        entities: the head of the entities, which are grounded.
        weight: weight of the loss in the model's loss.
    """

    shown = False  # its predictions are part of the entities
    scored = True

    def __init__(self, entities: EntityHead, *, weight: float = 1.0) -> None:
        super().__init__(GROUNDING, weight=weight)
        # in a tuple, as its parameters are not this head's
        self._entities = (entities,)

    @abstractmethod
    def ground(self, graph: GraphState, entities: Sequence[Sequence[Entity]]) -> list[list[Entity]]:
        """Return the entities of every post, each with the `Region` that shows it."""

    @property
    def entities(self) -> EntityHead:
        """The head of the entities."""
        return self._entities[0]

    def decode(self, graph: GraphState) -> list[list[GroundedEntity]]:
        """Return the grounded entities of every post, each with one box or none."""
        found = self.ground(graph, self.entities.decode(graph))
        return [[grounded(entity) for entity in post] for post in found]

    def gold(self, pair: Pair) -> tuple[GroundedEntity, ...] | None:
        """Return the pair's gold entities with their boxes."""
        return pair.grounding

    def metrics(
        self, gold: Sequence[Sequence[GroundedEntity]], predicted: Sequence[Sequence[GroundedEntity]]
    ) -> Mapping[str, float]:
        """Return F1 of GMNER, MNER and EEG, and the two parts of grounding; 0 to 1, see `score_grounding`."""
        from mnergraph.metrics.grounding import score_grounding

        scores = score_grounding(gold, predicted)
        return {
            "gmner": scores.gmner.f1,
            "mner": scores.mner.f1,
            "eeg": scores.eeg.f1,
            "groundability": scores.groundability,
            "localization": scores.localization,
        }


class EntityGrounding(GroundingHead):
    """Where the image shows each entity: an object of the post, or nowhere; trained jointly with the tags.

    e_n = `SentenceReader`(W_e max over the words i of entity n of x_i, W_s x of all words);  o_k = objects, as
    `grounding_objects` encodes them;  o_0 = a learned vector for "not in the image"
    p(k | n) = softmax over k of `PairScores`(e_n, o_k);  L = weight * sum over n of KL(y_n || p_n)

    With ``types="regions"`` the type of an entity is from t_n = softmax(W_t [e_n ; sum over k of p(k | n) o_k]), where
    p has no gradient; its cross entropy, times ``types_weight``, is added to L: what shows an entity says what it is.

    y_n is spread over the objects that cover a gold box of the entity (`Grounding.targets`), or all on o_0 for an
    entity without boxes. An object without a box is never predicted. Gold entities are grounded in training, as one
    whose words are wrong counts as wrong wherever it is, or by `Grounding.scheduled_sampling` from decoded spans; the
    decoded entities otherwise.

    Args:
        entities: the head of the entities, whose spans are grounded.
        grounding: the settings.
        token_size: features of a token, summed over ``in_keys``.
        in_keys: names of the tokens' features in the last graph.
    """

    def __init__(
        self, entities: EntityHead, grounding: Grounding, token_size: int, *, in_keys: Sequence[str] = ("token",)
    ) -> None:
        super().__init__(entities)
        self.settings, self.in_keys = grounding, tuple(in_keys)
        size, dropout = grounding.hidden_size, grounding.dropout
        self.pool, self.entity = SpanPooling("max"), nn.Linear(token_size, size)
        self.reader = SentenceReader(token_size, size, grounding.num_heads, dropout)
        self.nowhere = nn.Parameter(torch.empty(size).normal_(std=0.02))
        self.scores, self.dropout = PairScores(size), nn.Dropout(dropout)
        self.types = nn.Linear(2 * size, len(entities.labels.types)) if grounding.types == "regions" else None
        entities.gives_types = self.types is None
        schedule = grounding.scheduled_sampling
        self.predicted_spans = None if schedule is None else PredictedSpans(schedule)

    @property
    def gives_types(self) -> bool:
        """Whether entities get their types from this head, not from their tags."""
        return self.types is not None

    def loss(self, graph: GraphState) -> Tensor:
        """Return the weighted divergence and types' cross entropy of every post, summed over its entities, ``[posts]``.

        Raises:
            ValueError: for a post without gold boxes, by its id.
        """
        pairs, gold = pairs_of(graph), gold_entities(graph)
        spans = [[(e.start, e.end) for e in each] for each in gold]
        if self.predicted_spans is not None:
            spans = self.predicted_spans(spans, partial(self._decoded_spans, graph))
        found = self.entity_scores(graph, spans)
        log_p, post, is_whole, log_types = found
        target = self._targets(pairs, gold, log_p.shape[1]).to(log_p) * is_whole[:, None]
        is_target = target > 0
        log_target = torch.where(is_target, target, 1.0).log()
        loss = self.settings.weight * (target * (log_target - torch.where(is_target, log_p, 0.0))).sum(-1)
        if log_types is not None:
            names = self.entities.labels.types
            known = [names.index(e.type) if e.type in names else -1 for each in gold for e in each]
            gold_types = torch.tensor(known, dtype=torch.long, device=log_p.device)
            cross_entropy = F.nll_loss(log_types, gold_types, ignore_index=-1, reduction="none")
            loss = loss + self.settings.types_weight * is_whole * cross_entropy
        return log_p.new_zeros(graph.num_graphs).index_add(0, post, loss)

    def _decoded_spans(self, graph: GraphState) -> list[list[WordSpan]]:
        return [[(s.start, s.end) for s in tags_to_spans(tags)] for tags in self.entities.decode_tags(graph)]

    @torch.inference_mode()
    def ground(self, graph: GraphState, entities: Sequence[Sequence[Entity]]) -> list[list[Entity]]:
        """Return the entities of every post, each with the `Region` that shows it."""
        found = self.entity_scores(graph, [[(e.start, e.end) for e in post] for post in entities])
        if found.types is not None:
            entities = self._typed(graph, entities, found.types)
        rows = iter(found.objects.double().cpu().numpy())
        return [
            self._ground_post(pair.objects, post, [next(rows) for _ in post])
            for pair, post in zip(pairs_of(graph), entities, strict=True)
        ]

    @torch.inference_mode()
    def span_probabilities(self, graph: GraphState, spans: Sequence[Sequence[Span]]) -> list[list[float]]:
        """Return the probability of typed spans: that of an entity of these words, times that of its type."""
        entities = [[Entity(*span, 0.0) for span in post] for post in spans]
        types = self.entity_scores(graph, [[(span.start, span.end) for span in post] for post in spans]).types
        assert types is not None
        names, rows = self.entities.labels.types, iter(types.exp().tolist())
        return [
            [score * next(rows)[names.index(entity.type)] for entity, score in zip(post, scores, strict=True)]
            for post, scores in zip(entities, self._untyped(graph, entities), strict=True)
        ]

    def entity_scores(self, graph: GraphState, spans: Sequence[Sequence[WordSpan]]) -> ScoredEntities:
        """Return the scores of the entities of these spans.

        Args:
            graph: the last graph.
            spans: of every post, half-open ranges of words.
        """
        entities, members, is_whole = self._members(graph, spans)
        tokens = torch.cat([graph.x[key] for key in self.in_keys], -1)
        pooled = self.pool(tokens, tokens.new_zeros(entities.num_nodes, 0), members)
        x_entity = self.dropout(self.entity(pooled))
        x_entity = self.reader(x_entity, tokens, members)
        objects, x_object = graph.layouts["object"], graph.x[PLACED_OBJECTS]
        nowhere = self.nowhere.to(x_object.dtype).expand(graph.num_graphs, 1, -1)
        # [posts, 1 + max objects, hidden_size]
        choices = torch.cat([nowhere, objects.to_dense(x_object)], 1)
        has_box = objects.to_dense(graph.data["object"].box.isfinite().all(-1))
        is_choice = torch.cat([has_box.new_ones(graph.num_graphs, 1), has_box], 1)
        post = entities.graph_index
        scores = full_precision(self.scores(choices[post], x_entity))
        log_p = scores.masked_fill(~is_choice[post], -torch.inf).log_softmax(-1)
        log_types = None
        if self.types is not None:
            # without a gradient to p, as any object of the type would do for the type
            shown = torch.einsum("nk,nkh->nh", log_p.exp().detach().to(choices.dtype), choices[post])
            log_types = full_precision(self.types(torch.cat([x_entity, shown.to(x_entity.dtype)], -1))).log_softmax(-1)
        return ScoredEntities(log_p, post, is_whole, log_types)

    def _typed(self, graph: GraphState, entities: Sequence[Sequence[Entity]], log_types: Tensor) -> list[list[Entity]]:
        """Return the entities with the most probable types, scored as `span_probabilities` has it."""
        names, best = self.entities.labels.types, log_types.max(-1)
        found = iter(zip(best.indices.tolist(), best.values.exp().tolist(), strict=True))
        typed: list[list[Entity]] = []
        for post, scores in zip(entities, self._untyped(graph, entities), strict=True):
            typed.append([])
            for entity, score in zip(post, scores, strict=True):
                index, probability = next(found)
                typed[-1].append(replace(entity, type=names[index], score=score * probability))
        return typed

    def _untyped(self, graph: GraphState, entities: Sequence[Sequence[Entity]]) -> list[list[float]]:
        """Return the probabilities that these words are entities of any type."""
        lengths = [len(pair.words) for pair in pairs_of(graph)]
        totals = [np.zeros(len(post)) for post in entities]
        for name in self.entities.labels.types:
            spans = [[Span(entity.start, entity.end, name) for entity in post] for post in entities]
            tags = [spans_to_tags(post, length) for post, length in zip(spans, lengths, strict=True)]
            for total, post in zip(totals, self.entities.span_probabilities(graph, spans, tags), strict=True):
                total += post
        return [total.clip(0.0, 1.0).tolist() for total in totals]

    def _members(self, graph: GraphState, spans: Sequence[Sequence[WordSpan]]) -> tuple[Layout, Edges, Tensor]:
        """Return the layout of entities, the edges from the tokens that begin their words, and which are whole."""
        words = word_layout(graph)
        begins, counts = words.ptr[:-1].tolist(), words.counts.tolist()
        rows: list[int] = []
        owners: list[int] = []
        whole: list[bool] = []
        for post, begin, count in zip(spans, begins, counts, strict=True):
            for start, end in post:
                inside = range(begin + start, begin + min(end, count))
                rows.extend(inside)
                owners.extend([len(whole)] * len(inside))
                whole.append(end <= count)
        device = words.ptr.device
        entities = Layout(torch.tensor([0, *np.cumsum([len(post) for post in spans]).tolist()], device=device))
        is_first = graph.data["token"].starts_word.nonzero()[:, 0]
        source = is_first[torch.tensor(rows, dtype=torch.long, device=device)]
        index = torch.stack([source, torch.tensor(owners, dtype=torch.long, device=device)])
        return entities, Edges(graph.layouts["token"], entities, index), torch.tensor(whole, device=device).bool()

    def _targets(self, pairs: Sequence[Pair], gold: Sequence[Sequence[GroundedEntity]], num_choices: int) -> Tensor:
        """Return the target distribution of every gold entity, ``[entities, choices]``; zeros for one left out."""
        rows = np.zeros((sum(map(len, gold)), num_choices))
        number = 0
        for pair, entities in zip(pairs, gold, strict=True):
            boxes = [item.box for item in pair.objects]
            for entity in entities:
                target = target_distribution(entity.boxes, boxes, self.settings.targets)
                if entity.boxes and target.any():
                    rows[number, 1 : 1 + len(boxes)] = target
                elif not entity.boxes or self.settings.uncovered == "nowhere":
                    rows[number, 0] = 1.0
                number += 1
        return torch.from_numpy(rows)

    def _ground_post(
        self, objects: Sequence[DetectedObject], entities: Sequence[Entity], log_p: Sequence[np.ndarray]
    ) -> list[Entity]:
        """Return a post's entities with their regions, chosen under the declared constraints."""
        rows = [self._allowed(entity.type, objects, row) for entity, row in zip(entities, log_p, strict=True)]
        choices = assign_distinct(rows) if self.settings.distinct and rows else [int(row.argmax()) for row in rows]
        found = []
        for entity, row, choice in zip(entities, log_p, choices, strict=True):
            score = float(np.exp(row[choice]))
            item = objects[choice - 1] if choice else None
            region = Region(score) if item is None else Region(score, choice - 1, item.box, item.label)
            found.append(replace(entity, region=region))
        return found

    def _allowed(self, entity_type: str, objects: Sequence[DetectedObject], row: np.ndarray) -> np.ndarray:
        """Return the scores with -inf for objects that may not show an entity of a type."""
        allowed = (self.settings.allowed or {}).get(entity_type)
        if allowed is None:
            return row
        names = {name.lower() for name in allowed}
        barred = [index for index, item in enumerate(objects, 1) if item.label.lower() not in names]
        row = row.copy()
        row[barred] = -np.inf
        return row


class SentenceReader(nn.Module):
    """Entities that read the words of their post, as "on the left" says where one is: a transformer layer.

    P = LN(E + W_o MHA(W_q E, W_k S, W_v S)),  out = LN(P + FFN(P));  S = the tokens' features

    Each head adds a learned number to the scores of its softmax for the distance of a token to the entity, as of two
    entities with such words each has those beside it: b[`distance_buckets`] (relative position biases of T5; Raffel et
    al., JMLR 2020). It is -distance / 2^h for head h = 0, 1, ... at first (slopes, as those of ALiBi; Press et al.,
    ICLR 2022): GEI after 30 epochs of Lookalikes, seed 0, has 93% of the boxes of posts with two names, 56% with 0.

    Its weights are not recorded, as entities are not nodes of the graph.

    Args:
        token_size: features of a token.
        hidden_size: features of an entity.
        num_heads: attention heads.
        dropout: on attention weights and residuals.

    Raises:
        ValueError: when the heads do not divide the hidden size.
    """

    def __init__(self, token_size: int, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(f"{num_heads} heads do not divide grounding's hidden size of {hidden_size}")
        self.num_heads, self.rate = num_heads, dropout
        self.query, self.output = nn.Linear(hidden_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.key, self.value = nn.Linear(token_size, hidden_size), nn.Linear(token_size, hidden_size)
        distances = torch.tensor([0, *DISTANCES, *DISTANCES], dtype=torch.get_default_dtype())
        self.distance = nn.Parameter(-torch.outer(distances, 0.5 ** torch.arange(num_heads)))
        self.residual, self.feed_forward = (
            AddNorm(hidden_size, dropout),
            FeedForward(hidden_size, 2 * hidden_size, dropout),
        )

    def forward(self, x: Tensor, tokens: Tensor, members: Edges) -> Tensor:
        """Return ``[entities, hidden_size]``.

        Args:
            x: the entities, ``[entities, hidden_size]``.
            tokens: the tokens, ``[tokens, token_size]``.
            members: the edges from the tokens that begin an entity's words to the entity.
        """
        layout, post = members.src, members.dst.graph_index
        heads = (self.num_heads, -1)
        # [entities, heads, 1, head_size], [entities, heads, max tokens, head_size]
        query = self.query(x).unflatten(-1, heads)[:, :, None]
        key, value = (
            layout.to_dense(linear(tokens))[post].unflatten(-1, heads).transpose(1, 2).to(query.dtype)
            for linear in (self.key, self.value)
        )
        # [entities, heads, 1, max tokens]
        near = self.distance[distance_buckets(members)].movedim(-1, 1)[:, :, None].to(query.dtype)
        mask = near.masked_fill(~layout.mask[post][:, None, None], -torch.inf)
        rate = self.rate if self.training else 0.0
        message = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=rate)
        found: Tensor = self.feed_forward(self.residual(x, self.output(message[:, :, 0].flatten(1))))
        return found


def distance_buckets(members: Edges) -> Tensor:
    """Return the distance of every token of a post to each of its entities as a bucket, ``[entities, max tokens]``.

    The bucket of 0 is that of the tokens from an entity's first word to its last; then come 1, 2, 3, 4, 5 to 8, 9 to 16
    and more, behind the entity and, as further buckets, before it. An entity without tokens is at the first token.

    Args:
        members: the edges from the tokens that begin an entity's words to the entity.
    """
    layout, entities = members.src, members.dst
    source, owner = members.index
    place = layout.position[source]
    first, last = (
        place.new_zeros(entities.num_nodes).scatter_reduce(0, owner, place, reduce, include_self=False)
        for reduce in ("amin", "amax")
    )
    position = torch.arange(layout.mask.shape[1], device=place.device)
    before = (first[:, None] - position).clamp(min=0)
    after = (position - last[:, None]).clamp(min=0)
    bounds = torch.tensor(DISTANCES, device=place.device)
    bucket = torch.bucketize(before + after, bounds, right=True)
    return torch.where(before > 0, bucket + len(DISTANCES), bucket)


def grounded(entity: Entity) -> GroundedEntity:
    """Return a predicted entity with the box of its region, or none."""
    return GroundedEntity(entity.start, entity.end, entity.type, () if entity.region is None else entity.region.boxes)


def gold_entities(graph: GraphState) -> list[tuple[GroundedEntity, ...]]:
    """Return the gold entities of every post with their boxes.

    Raises:
        ValueError: for posts without gold boxes, by their ids.
    """
    pairs = pairs_of(graph)
    if unknown := [pair.id for pair in pairs if pair.grounding is None]:
        raise ValueError(
            f"posts without gold boxes can't be trained on or scored: {listed(unknown)}; give boxes.jsonl beside the "
            "text"
        )
    return [pair.grounding or () for pair in pairs]


def target_distribution(gold: Sequence[Box], boxes: Sequence[Box | None], targets: Targets = "all") -> np.ndarray:
    """Return the share of each object in an entity's target, ``[objects]``; all 0 where none covers a gold box.

    The IoU of an object is the largest with any gold box; above 0.5 it is the object's share, before division by their
    sum (H-Index).

    Args:
        gold: the entity's boxes, xyxy in pixels.
        boxes: the objects' boxes; None for an object without.
        targets: see `Grounding`.
    """
    iou = np.zeros(len(boxes))
    with_box = [index for index, box in enumerate(boxes) if box is not None]
    if gold and with_box:
        objects, golds = (np.asarray(each, dtype=np.float64) for each in ([boxes[i] for i in with_box], gold))
        iou[with_box] = box_iou(objects.T[:, :, None], golds.T[:, None]).max(-1)
    iou[iou <= COVERING_IOU] = 0.0
    if targets == "best" and iou.any():
        iou = np.eye(len(boxes))[int(iou.argmax())]
    total = float(iou.sum())
    return iou / total if total else iou


def assign_distinct(log_p: Sequence[np.ndarray]) -> list[int]:
    """Return the choices with the largest probability in all, none of them but 0 more than once.

    Args:
        log_p: of every entity, log probabilities of the choices; finite for choice 0.
    """
    scores = np.stack(log_p)
    count, objects = scores.shape[0], scores.shape[1] - 1
    # choice 0 is a column of its own for every entity
    none = np.where(np.eye(count, dtype=bool), scores[:, :1], -np.inf)
    table = np.concatenate([scores[:, 1:], none], 1)
    rows, columns = linear_sum_assignment(np.where(np.isfinite(table), table, -1e9), maximize=True)
    assert rows.tolist() == list(range(count))
    return [0 if column >= objects else int(column) + 1 for column in columns]
