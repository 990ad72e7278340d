"""Questions put to a model: does attention tell what mattered, and what does the picture change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import kendalltau

from mnergraph.explain.occlusion import occlusion
from mnergraph.explain.recorder import record_attention
from mnergraph.graph.collate import EdgeType
from mnergraph.labels import Entity
from mnergraph.models.base import Tagger
from mnergraph.pair import Pair


@dataclass(frozen=True)
class Faithfulness:
    """Whether the objects that an entity's words hear most are those that matter most.

    Attributes:
        entity: the entity.
        heard: for every object how much its words hear of it (`PairRecord.heard`).
        mattered: for every object by how much its probability changes without it, up or down.
        correlation: Kendall's tau-b of both, -1 to 1; None with fewer than two objects, or where all
            objects are heard alike or matter alike, for then there are no ranks.
    """

    entity: Entity
    heard: tuple[float, ...]
    effect: tuple[float, ...]
    correlation: float | None


def faithfulness(
    model: Tagger, pair: Pair, *, relation: EdgeType | None = None, batch_size: int = 32
) -> list[Faithfulness]:
    """Is attention faithful: its rank correlation with occlusion, for every entity of a post.

    Attention that tells what a prediction rests on ranks objects as leaving them out does (Jain and Wallace,
    2019, "Attention is not Explanation", section 4.1).

    Args:
        model: the model; the post is read in evaluation mode.
        pair: the post, with the features that the model reads.
        relation: the one whose weights to read; by default all from objects to tokens or entities.
        batch_size: posts at once.

    Raises:
        ValueError: when words hear of no object by any weights.
    """
    with record_attention(model) as record:
        model.forward_examples([pair])
    (seen,) = record.posts
    dropped = occlusion(model, pair, what=("object",), batch_size=batch_size)
    told = []
    for place, entity in enumerate(dropped.entities):
        heard = seen.attention_to((entity.start, entity.end), relation=relation)
        if heard is None:
            raise ValueError(
                f"{type(model).__name__} weighs nothing along {relation or 'any relation'} from objects to "
                "tokens or entities"
            )
        weights = tuple(heard.tolist())
        mattered = tuple(abs(effect.change[place]) for effect in dropped.effects)
        ranked = len(set(weights)) > 1 and len(set(mattered)) > 1
        tau = float(kendalltau(weights, mattered).statistic) if ranked else None
        told.append(Faithfulness(entity, weights, mattered, tau))
    return told


@dataclass(frozen=True)
class ImageEffect:
    """Entities of a post that a model finds in either case, only with the picture, only without it."""

    pair: Pair
    kept: tuple[Entity, ...]
    gained: tuple[Entity, ...]
    lost: tuple[Entity, ...]


def image_ablation(model: Tagger, pairs: Sequence[Pair], *, batch_size: int = 32) -> list[ImageEffect]:
    """Entities gained and lost against the same model without its pictures.

    Entities are the same if words and type are; ``kept`` has the probabilities with the picture.

    Args:
        model: the model; posts are read in evaluation mode.
        pairs: the posts, with the features that the model reads.
        batch_size: posts at once.
    """
    blind = [pair.without_image() for pair in pairs]
    changes = []
    for begin in range(0, len(pairs), batch_size):
        some = slice(begin, begin + batch_size)
        for pair, with_it, without in zip(
            pairs[some], model.predict(pairs[some]), model.predict(blind[some]), strict=True
        ):
            both = {*map(_key, with_it)} & {*map(_key, without)}
            changes.append(
                ImageEffect(
                    pair,
                    kept=tuple(found for found in with_it if _key(found) in both),
                    gained=tuple(found for found in with_it if _key(found) not in both),
                    lost=tuple(found for found in without if _key(found) not in both),
                )
            )
    return changes


def _key(found: Entity) -> tuple[int, int, str]:
    return (found.start, found.end, found.type)
