"""Faithfulness of attention, and the effect of the image on the predicted entities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import kendalltau

from mnergraph.explain.occlusion import occlusion
from mnergraph.explain.recorder import record_attention
from mnergraph.graph.collate import EdgeType
from mnergraph.labels import Entity
from mnergraph.models.base import Tagger
from mnergraph.models.batch_config import BatchConfig
from mnergraph.models.batches import run_in_batches
from mnergraph.pair import Pair


@dataclass(frozen=True)
class Faithfulness:
    """Rank correlation of an entity's attention to the objects with the effect of removing them.

    Attributes:
        entity: the entity.
        attention: for every object the attention of the entity's words to it (`PairRecord.attention_to`).
        effect: for every object the absolute change of the entity's probability without it.
        correlation: Kendall's tau-b of both, -1 to 1; None with fewer than two objects, or where all values of
            either are equal, as there are no ranks then.
    """

    entity: Entity
    attention: tuple[float, ...]
    effect: tuple[float, ...]
    correlation: float | None


def faithfulness(
    model: Tagger, pair: Pair, *, relation: EdgeType | None = None, batch_size: int = 32
) -> list[Faithfulness]:
    """Return the rank correlation of attention with occlusion for every entity of a post.

    Faithful attention ranks objects as leaving them out does (Jain and Wallace, 2019, "Attention is not
    Explanation", section 4.1).

    Args:
        model: the model; it predicts in evaluation mode.
        pair: the post, with the features that the model reads.
        relation: the edge type whose weights to read; by default all from objects to tokens or entities.
        batch_size: posts per forward pass.

    Raises:
        ValueError: when no weights from objects to tokens or entities are computed.
    """
    with record_attention(model) as record:
        model.forward_examples([pair])
    (pair_record,) = record.posts
    removed = occlusion(model, pair, what=("object",), batch_size=batch_size)
    results = []
    for index, entity in enumerate(removed.entities):
        attention = pair_record.attention_to((entity.start, entity.end), relation=relation)
        if attention is None:
            raise ValueError(
                f"{type(model).__name__} computes no weights along {relation or 'any relation'} from objects to "
                "tokens or entities"
            )
        weights = tuple(attention.tolist())
        changes = tuple(abs(effect.change[index]) for effect in removed.effects)
        has_ranks = len(set(weights)) > 1 and len(set(changes)) > 1
        tau = float(kendalltau(weights, changes).statistic) if has_ranks else None
        results.append(Faithfulness(entity, weights, changes, tau))
    return results


@dataclass(frozen=True)
class ImageEffect:
    """Entities of a post that a model predicts in either case, only with the image, and only without it."""

    pair: Pair
    kept: tuple[Entity, ...]
    gained: tuple[Entity, ...]
    lost: tuple[Entity, ...]


def image_ablation(model: Tagger, pairs: Sequence[Pair], *, batching: BatchConfig = BatchConfig()) -> list[ImageEffect]:
    """Return the entities that are gained and lost by the image, against the same model without images.

    Entities are equal if words and type are; ``kept`` has the probabilities with the image.

    Args:
        model: the model; it predicts in evaluation mode.
        pairs: the posts, with the features that the model reads.
        batching: how posts are taken into batches, and the precision.
    """
    text_only = [pair.without_image() for pair in pairs]
    found, found_in_text = (
        run_in_batches(model, posts, lambda graph, _: model.decode_entities(graph), config=batching)
        for posts in (pairs, text_only)
    )
    effects = []
    for pair, with_image, without in zip(pairs, found, found_in_text, strict=True):
        both = {*map(_key, with_image)} & {*map(_key, without)}
        effects.append(
            ImageEffect(
                pair,
                kept=tuple(entity for entity in with_image if _key(entity) in both),
                gained=tuple(entity for entity in with_image if _key(entity) not in both),
                lost=tuple(entity for entity in without if _key(entity) not in both),
            )
        )
    return effects


def _key(entity: Entity) -> tuple[int, int, str]:
    return (entity.start, entity.end, entity.type)
