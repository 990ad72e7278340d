"""Base class of models: a schema, a stack of layers, and heads. Subclasses assemble these and override no forward."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from huggingface_hub import ModelHubMixin
from torch import Tensor, nn
from torch_geometric.data import Batch, HeteroData

from mnergraph.data.processor import ProcessorConfig
from mnergraph.features.text.encoder import Encoder, TextEncoderModel
from mnergraph.features.text.nearest_words import NearestWords
from mnergraph.graph.batching import piece_batches
from mnergraph.graph.builder import GraphBuilder
from mnergraph.graph.collate import collate
from mnergraph.graph.context import CONTEXT, CONTEXT_SCHEMA, CONTEXT_TO_TOKENS, Context, ContextWords
from mnergraph.graph.evidence_kinds import OBJECT_BOXES
from mnergraph.graph.node_types import LABEL_PIECE, CreatedNodes, NodeType, Objects, Tokenizer, Tokens
from mnergraph.graph.schema import Schema
from mnergraph.labels import Entity, LabelSet, Span, spans_to_tags
from mnergraph.models.card import model_card
from mnergraph.models.grounding import GROUNDING_SCHEMA, grounding_parts, objects_for
from mnergraph.models.hub import folder_of, load_saved, model_settings, replacing_model, save
from mnergraph.models.init_arguments import init_arguments
from mnergraph.nn.encoders.crops import PixelEncoder
from mnergraph.nn.heads.agreement import WITHOUT_CONTEXT, agreement_heads
from mnergraph.nn.heads.base import Head
from mnergraph.nn.heads.entities import TAGS, EntityHead, SpecialTags, pairs_of
from mnergraph.nn.heads.grounding import EntityGrounding, Grounding, GroundingHead
from mnergraph.nn.heads.tagging import TaggingHead, TaggingScores
from mnergraph.nn.modes import evaluation_mode
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair


class Tagger(nn.Module, ModelHubMixin, ABC):
    """Base class of all models. A subclass's constructor passes the parts to this one.

    Args:
        schema: the node types and relations.
        layers: from node stores to scores, each `GraphState` -> `GraphState`.
        heads: the tasks; the one named ``"tags"``, an `EntityHead`, predicts the entities.
        encoder: the text encoder that the first layers use.
        labels: the label set of the tags.
        node_types: the objects that create the nodes of each type; by default `Tokens` of words and, if the schema has
            objects, `Objects` with their labels' pieces. Node types that a layer creates (its ``creates``) are
            added.
        evidence: kinds of evidence (`mnergraph.graph.evidence_kinds`) that the model reads besides those that its node
            types and edge rules need, such as region features where it can do without them.
        context: which texts about a post the text encoder reads beside the sentence, and how much of them; None for
            none. Schema and layers are given without them: context nodes, their relation to the tokens, and the
            heads of `Agreement` are added.
        nearest_words: the table from which `NearestWordNodes` take neighbors, if any; saved with the model.
        reduction: whether the loss is the ``"mean"`` or the ``"sum"`` over the posts.

    Attributes:
        builder: creates the graphs that the model takes.
        label_words: whether word vectors are to have vectors of the words of objects' labels.
        metadata: data, scores and versions recorded in training; saved with the weights.
        processor_config: the settings of the `Processor` of the training posts; saved with the weights.
        context: which texts about a post the model reads; None for none.
        grounding: how entities are grounded in the image; None where they are not.
        init_arguments: the constructor's arguments, defaults included; saved with the weights.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        model = super().__new__(cls, *args, **kwargs)
        model.init_arguments = init_arguments(cls, args, kwargs)
        return model

    init_arguments: dict[str, Any]
    label_words: ClassVar[bool] = False

    def __init__(
        self,
        *,
        schema: Schema,
        layers: Sequence[nn.Module],
        heads: Sequence[Head],
        encoder: Encoder,
        labels: LabelSet,
        node_types: Iterable[NodeType] = (),
        evidence: Sequence[str] = (),
        context: Context | None = None,
        grounding: Grounding | None = None,
        nearest_words: NearestWords | None = None,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        heads = list(heads)
        if context is not None:
            schema = schema | CONTEXT_SCHEMA
            node_types = [*node_types, ContextWords(_tokenizer_for(context, encoder, layers), context)]
            heads += _heads_of(context, heads)
        if grounding is not None:
            objects = objects_for(grounding, encoder, schema, node_types)
            encode_objects, head = grounding_parts(grounding, encoder, objects, layers, heads)
            schema, layers, heads = schema | GROUNDING_SCHEMA, [*layers, *encode_objects], [*heads, head]
            node_types = [*(each for each in node_types if not isinstance(each, Objects)), objects]
            evidence = list(dict.fromkeys([*evidence, OBJECT_BOXES]))
        self.schema, self.encoder, self.labels, self.reduction = schema, encoder, labels, reduction
        self.layers = nn.Sequential(*layers)
        self.heads = nn.ModuleDict({head.name: head for head in heads})
        if len(self.heads) != len(heads):
            raise ValueError(f"two heads have one name among {', '.join(head.name for head in heads)}")
        if reserved := {"id", "text", "entities"} & {head.name for head in heads}:
            raise ValueError(f"a head is named {', '.join(sorted(reserved))}, which results have already; rename it")
        given = {node_type.name: node_type for node_type in self._default_node_types()}
        given |= {node_type.name: node_type for node_type in node_types}
        self.builder = GraphBuilder(schema, given.values(), evidence=evidence)
        reads_labels = any(LABEL_PIECE in node_type.subtypes for node_type in self.builder.node_types.values())
        if reads_labels and isinstance(encoder, TextEncoderModel):
            encoder.check_label_embeddings()
        self.nearest_words, self.context, self.grounding = nearest_words, context, grounding
        self.metadata: dict[str, Any] = {}
        self.processor_config: ProcessorConfig | None = None

    def _default_node_types(self) -> Iterable[NodeType]:
        yield Tokens(self.encoder.tokenizer, self.labels)
        if "object" in self.schema.nodes:
            yield Objects(self.encoder.tokenizer)
        created = dict.fromkeys(name for module in self.modules() for name in getattr(module, "creates", ()))
        yield from (CreatedNodes(name) for name in created if name in self.schema.nodes and name != "entity")

    # --- one forward, for loss and for decoding -----------------------------------------------------------

    def forward(self, data: HeteroData | Batch) -> GraphState:
        """Return the last graph, with every head's scores."""
        first = GraphState.from_batch(data, self.schema)
        last: GraphState = self.layers(first)
        if CONTEXT not in first.layouts:
            return last
        return replace(last, views={WITHOUT_CONTEXT: lambda: self.layers(first.without_edges(CONTEXT_TO_TOKENS))})

    def loss(self, graph: GraphState) -> Tensor:
        """Return the weighted loss of all heads, reduced over the posts.

        Raises:
            ValueError: when a post of the batch has no gold value that a head needs.
        """
        # each view is computed once for all heads
        graph = replace(graph, views={name: cache(compute) for name, compute in graph.views.items()})
        losses = [head.weight * head.loss(graph) for head in self._heads()]
        total = torch.stack(losses).sum(0)
        return total.mean() if self.reduction == "mean" else total.sum()

    def decode_tags(self, graph: GraphState, *, special_tags: SpecialTags = "outside") -> list[list[str]]:
        """Return one tag for every word of every post; for special tags ([CLS], X) see `TaggingHead.decode_tags`."""
        head = self.grounding_head
        if not isinstance(head, EntityGrounding) or not head.gives_types:
            return self.entity_head.decode_tags(graph, special_tags=special_tags)
        found = zip(self.decode_entities(graph), pairs_of(graph), strict=True)
        return [spans_to_tags([(e.start, e.end, e.type) for e in post], len(pair.words)) for post, pair in found]

    def decode_entities(self, graph: GraphState) -> list[list[Entity]]:
        """Return the entities of every post, each with its probability; see `EntityHead.decode`.

        A model that grounds entities gives each the region of the image that shows it; see `GroundingHead`.
        """
        entities = self.entity_head.decode(graph)
        head = self.grounding_head
        return entities if head is None else head.ground(graph, entities)

    def span_probabilities(
        self, graph: GraphState, spans: Sequence[Sequence[Span]], tags: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Return the probability of spans, whether decoded or not; see `EntityHead.span_probabilities`."""
        head = self.grounding_head
        if isinstance(head, EntityGrounding) and head.gives_types:
            return head.span_probabilities(graph, spans)
        return self.entity_head.span_probabilities(graph, spans, tags)

    def shown_heads(self) -> list[Head]:
        """Return the heads whose predictions are part of results, not tags and auxiliary tasks; see `Head.shown`."""
        return [head for head in self._heads() if head.shown]

    def scored_heads(self) -> list[Head]:
        """Return the heads that have metrics besides the tags; see `Head.shown` and `Head.scored`."""
        return [head for head in self._heads() if head.shown or head.scored]

    def decode(self, graph: GraphState) -> list[tuple[list[Entity], dict[str, Any]]]:
        """Return of every post its entities and what further heads predict, see `decode_heads`."""
        return list(zip(self.decode_entities(graph), self.decode_heads(graph), strict=True))

    @torch.inference_mode()
    def decode_heads(self, graph: GraphState) -> list[dict[str, Any]]:
        """Return the predictions of every post by head, for `shown_heads`."""
        others = {head.name: head.decode(graph) for head in self.shown_heads()}
        return [{name: predicted[index] for name, predicted in others.items()} for index in range(graph.num_graphs)]

    def decode_with_gold(self, graph: GraphState) -> dict[str, list[tuple[Any, Any]]]:
        """Return pairs of gold value and prediction of the posts with a gold value, for `scored_heads`."""
        return {
            head.name: [
                (gold, predicted)
                for pair, predicted in zip(graph.data.pair, head.decode(graph), strict=True)
                if (gold := head.gold(pair)) is not None
            ]
            for head in self.scored_heads()
        }

    def head_metrics(self, decoded: Iterable[Mapping[str, Sequence[tuple[Any, Any]]]]) -> dict[str, dict[str, float]]:
        """Return the metrics by head.

        Args:
            decoded: the results of `decode_with_gold`, one per batch.
        """
        batches = list(decoded)
        metrics = {}
        for head in self._heads():
            pairs = [pair for batch in batches for pair in batch.get(head.name, ())]
            if pairs:
                gold, predicted = zip(*pairs, strict=True)
                metrics[head.name] = dict(head.metrics(list(gold), list(predicted)))
        return metrics

    def batches(self, pairs: Sequence[Pair], batch_pieces: int) -> list[list[int]]:
        """Return the indices of pairs in batches for `predict`, shortest posts first; see `piece_batches`."""
        lengths = self.builder.lengths(pairs)
        return piece_batches(lengths, batch_pieces, others=[self.builder.batch_cost(pair) for pair in pairs])

    @torch.inference_mode()
    def predict(self, pairs: Sequence[Pair]) -> list[list[Entity]]:
        """Return the entities of pairs, computed as one batch in evaluation mode; their labels are not used."""
        return self.decode_entities(self.forward_examples(pairs)) if pairs else []

    @torch.inference_mode()
    def predict_heads(self, pairs: Sequence[Pair]) -> list[tuple[list[Entity], dict[str, Any]]]:
        """Return of every pair its entities and what further heads predict, see `decode_heads`; as `predict` does."""
        return self.decode(self.forward_examples(pairs)) if pairs else []

    @torch.inference_mode()
    def forward_examples(self, pairs: Sequence[Pair]) -> GraphState:
        """Return the last graph of pairs, at least one, as `predict` computes it."""
        device = next(self.parameters()).device
        unlabelled = [replace(pair, labels=None, grounding=None) for pair in pairs]
        batch = collate(self.builder.build_all(unlabelled)).to(device)
        with evaluation_mode(self):
            graph: GraphState = self(batch)
        return graph

    @property
    def entity_head(self) -> EntityHead:
        """The head that gives the entities.

        Raises:
            KeyError: when the model has none.
            TypeError: when the head of this name is of another class.
        """
        head = self.heads[TAGS]
        if not isinstance(head, EntityHead):
            raise TypeError(f"the head {TAGS!r} is a {type(head).__name__}; a model's entities come from an EntityHead")
        return head

    @property
    def tagging_head(self) -> TaggingHead:
        """The head that gives the entities, where it is one of tags.

        Raises:
            KeyError: when the model has none.
            TypeError: when the entities come from another class of heads.
        """
        head = self.heads[TAGS]
        if not isinstance(head, TaggingHead):
            raise TypeError(f"the head {TAGS!r} is a {type(head).__name__}, not a TaggingHead")
        return head

    @property
    def grounding_head(self) -> GroundingHead | None:
        """The head that grounds the entities; None where the model grounds none."""
        return next((head for head in self._heads() if isinstance(head, GroundingHead)), None)

    def _heads(self) -> list[Head]:
        return [head for head in self.heads.values() if isinstance(head, Head)]

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the text encoder and of an image backbone, which have their own learning rate."""
        backbones = (part.backbone for part in self.modules() if isinstance(part, PixelEncoder))
        return [weight for net in (self.encoder.model, *backbones) for weight in net.parameters()]

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the heads, such as a CRF's transitions, and of the maps to their scores."""
        scores = (part for part in self.modules() if isinstance(part, TaggingScores))
        return [weight for part in (self.heads, *scores) for weight in part.parameters()]

    # --- to disk and back ------------------------------------------------------------------------------

    def hparams(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain JSON values: with encoder and labels, what builds the model.

        Raises:
            ValueError: for an argument that cannot be saved.
        """
        return model_settings(self)

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write the model into a folder, in the place of one that is there, which is kept if the disk is full.

        Args:
            save_directory: the folder.
            options: ``push_to_hub=True`` to upload it too, with ``repo_id`` (by default the folder's name) and further
                options as huggingface_hub's `ModelHubMixin.save_pretrained` takes them.

        Returns:
            The address of the commit on the hub, if it was uploaded.

        Raises:
            ValueError: for a constructor argument that cannot be saved, before anything is written.
            OSError: when the disk is full.
        """
        folder, push = Path(save_directory), options.pop("push_to_hub", False)
        written = {name: options.pop(name) for name in ("config", "model_card_kwargs") if name in options}
        with replacing_model(folder) as unfinished:
            super().save_pretrained(unfinished, **written)
        if not push:
            return None
        address: str = self.push_to_hub(options.pop("repo_id", folder.name), **written, **options)
        return address

    def _save_pretrained(self, save_directory: Path) -> None:
        save(self, save_directory)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> Any:
        """Return the card that `save_pretrained` writes; for arguments see `mnergraph.models.card.model_card`.

        `save_pretrained` and `push_to_hub` take them as ``model_card_kwargs={"license": "mit", "limits": [...]}``.
        """
        return model_card(self, *args, **kwargs)

    @classmethod
    def from_pretrained(  # type: ignore[override]  # the mixin takes arguments of the constructor, which are saved here
        cls,
        folder_or_name: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> Tagger:
        """Return the model of a folder that `save_pretrained` wrote, or of the hub, in evaluation mode.

        The folder names the class and its module, which is imported; on a subclass of `Tagger` it must be that one.

        Args:
            folder_or_name: a folder, or the name of a model on the hub.
            revision: revision on the hub; by default the newest.
            token: access token of the hub; True for the one that is stored.
            cache_dir: folder of downloads; by default the hub's own.
            local_files_only: whether nothing may be downloaded.

        Raises:
            FileNotFoundError: when there is no such folder, here or on the hub, or it has no model.
            ValueError: when its model is of another class.
        """
        download = {"revision": revision, "token": token, "cache_dir": cache_dir}
        folder = folder_of(folder_or_name, local_files_only=local_files_only, **download)
        return load_saved(folder, cls)


def _tokenizer_for(context: Context, encoder: Encoder, layers: Sequence[nn.Module]) -> Tokenizer:
    """Return the tokenizer of the encoder that reads context.

    Raises:
        ValueError: where no layer of the model reads it, or the budget leaves the sentence less than half of the
            encoder.
    """
    if not any(CONTEXT_TO_TOKENS in getattr(layer, "relations", ()) for layer in layers):
        raise ValueError(
            "no layer of this model reads context: a Hugging Face encoder does, in one sequence with the sentence, and "
            f"{encoder.name!r} is of another kind; take such an encoder, or the model without context"
        )
    most = encoder.max_length // 2 if isinstance(encoder, TextEncoderModel) else context.budget
    if context.budget > most:
        raise ValueError(
            f"a context of {context.budget} word pieces leaves the sentence too little of {encoder.name}, which takes "
            f"{2 * most}; give a budget of at most {most}"
        )
    return encoder.tokenizer


def _heads_of(context: Context, heads: Sequence[Head]) -> list[Head]:
    """Return the heads that the agreement of the context asks for.

    Raises:
        ValueError: when the model's entities come from another head than a `TaggingHead`.
    """
    if context.agreement is None:
        return []
    tags = next((head for head in heads if head.name == TAGS), None)
    if not isinstance(tags, TaggingHead):
        raise ValueError("the agreement with and without context is that of tags: the model has no TaggingHead")
    return agreement_heads(tags, context.agreement)


load = Tagger.from_pretrained
