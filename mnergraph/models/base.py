"""What every model is: a schema, a stack of layers, and heads. Models assemble; forward is never overridden."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from huggingface_hub import ModelHubMixin
from torch import Tensor, nn
from torch_geometric.data import Batch, HeteroData

from mnergraph.data.processor import ProcessorConfig
from mnergraph.features.text.encoder import Encoder
from mnergraph.features.text.nearest_words import NearestWords
from mnergraph.graph.builder import GraphBuilder
from mnergraph.graph.collate import collate
from mnergraph.graph.node_types import CreatedNodes, NodeType, Objects, Tokens
from mnergraph.graph.schema import Schema
from mnergraph.labels import Entity, LabelSet, Span
from mnergraph.models.hub import folder_of, load_saved, model_card, model_settings, save
from mnergraph.models.init_arguments import init_arguments
from mnergraph.nn.encoders.crops import PixelEncoder
from mnergraph.nn.heads.base import Head
from mnergraph.nn.heads.tagging import TAGS, TaggingHead
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair


class Tagger(nn.Module, ModelHubMixin, ABC):
    """Base of all models. A subclass's constructor passes the parts and does nothing else.

    Args:
        schema: the node types and relations.
        layers: from node stores to scores, each GraphState -> GraphState.
        heads: what is trained; the one named ``"tags"`` gives the entities.
        encoder: the text encoder that the first layers contain.
        labels: the label set of the tags.
        node_types: what makes the nodes of each type; by default `Tokens` of words and, where the schema has
            objects, `Objects` with their labels' pieces. Node types that a layer creates (its ``creates``) are
            added.
        nearest_words: the table that `NearestWordNodes` look words up in, if any; saved with the model.
        reduction: whether the loss is the posts' ``mean`` or ``sum``.

    Attributes:
        builder: makes the graphs that the model takes.
        metadata: what is recorded of the weights (data, scores, versions); saved with them.
        processor_config: how the training posts got the evidence of their images; saved beside the weights.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        model = super().__new__(cls, *args, **kwargs)
        #: What the constructor was called with, defaults included; saved with the model.
        model.init_arguments = init_arguments(cls, args, kwargs)
        return model

    init_arguments: dict[str, Any]

    def __init__(
        self,
        *,
        schema: Schema,
        layers: Sequence[nn.Module],
        heads: Sequence[Head],
        encoder: Encoder,
        labels: LabelSet,
        node_types: Iterable[NodeType] = (),
        nearest_words: NearestWords | None = None,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        self.schema, self.encoder, self.labels, self.reduction = schema, encoder, labels, reduction
        self.layers = nn.Sequential(*layers)
        self.heads = nn.ModuleDict({head.name: head for head in heads})
        if len(self.heads) != len(heads):
            raise ValueError(f"two heads have one name among {', '.join(head.name for head in heads)}")
        given = {node_type.name: node_type for node_type in self._default_node_types()}
        given |= {node_type.name: node_type for node_type in node_types}
        self.builder = GraphBuilder(schema, given.values())
        self.nearest_words = nearest_words
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
        return self.layers(GraphState.from_batch(data, self.schema))

    def loss(self, graph: GraphState) -> Tensor:
        """Return the weighted loss of all heads, reduced over the posts.

        Raises:
            ValueError: when a post of the batch has no gold value that a head needs.
        """
        losses = [head.weight * head.loss(graph) for head in self._heads()]
        total = torch.stack(losses).sum(0)
        return total.mean() if self.reduction == "mean" else total.sum()

    def decode_tags(self, graph: GraphState) -> list[list[str]]:
        """Return one tag for every word of every post; special tags ([CLS], X) count as outside."""
        return self.tagging_head.decode_tags(graph)

    def decode_entities(self, graph: GraphState) -> list[list[Entity]]:
        """Return the entities of every post, each with its probability; see `TaggingHead.decode`."""
        return self.tagging_head.decode(graph)

    def span_probabilities(
        self, graph: GraphState, spans: Sequence[Sequence[Span]], tags: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Return the probability of spans, be they the best ones or not; see `TaggingHead.span_probabilities`."""
        return self.tagging_head.span_probabilities(graph, spans, tags)

    @torch.inference_mode()
    def decode_heads(self, graph: GraphState) -> list[dict[str, Any]]:
        """Return for every post what the heads of post labels and of your own predict, by the head's name.

        Those of tags and of token labels that are trained beside them (span detection) are left out.
        """
        others = {head.name: head.decode(graph) for head in self._heads() if head.shown}
        return [{name: predicted[index] for name, predicted in others.items()} for index in range(graph.num_graphs)]

    def decode_with_gold(self, graph: GraphState) -> dict[str, list[tuple[Any, Any]]]:
        """Return (gold, predicted) of the posts that have a gold value, for the heads of `decode_heads`."""
        return {
            head.name: [
                (gold, predicted)
                for pair, predicted in zip(graph.data.pair, head.decode(graph), strict=True)
                if (gold := head.gold(pair)) is not None
            ]
            for head in self._heads()
            if head.shown
        }

    def head_metrics(self, decoded: Iterable[Mapping[str, Sequence[tuple[Any, Any]]]]) -> dict[str, dict[str, float]]:
        """Return the metrics by head, of what `decode_with_gold` returned for batches."""
        batches = list(decoded)
        metrics = {}
        for head in self._heads():
            both = [values for batch in batches for values in batch.get(head.name, ())]
            if both:
                metrics[head.name] = dict(head.metrics([gold for gold, _ in both], [found for _, found in both]))
        return metrics

    @torch.inference_mode()
    def predict(self, pairs: Sequence[Pair]) -> list[list[Entity]]:
        """Return the entities of these pairs, read as one batch in evaluation mode; labels are not read."""
        return self.decode_entities(self.forward_examples(pairs)) if pairs else []

    @torch.inference_mode()
    def predict_heads(self, pairs: Sequence[Pair]) -> list[tuple[list[Entity], dict[str, Any]]]:
        """Return of every pair its entities and what further heads predict, see `decode_heads`; as `predict` does."""
        if not pairs:
            return []
        graph = self.forward_examples(pairs)
        return list(zip(self.decode_entities(graph), self.decode_heads(graph), strict=True))

    @torch.inference_mode()
    def forward_examples(self, pairs: Sequence[Pair]) -> GraphState:
        """Return the last graph of these pairs, one at least, as `predict` computes it."""
        device = next(self.parameters()).device
        was_training = self.training
        self.eval()
        try:
            unlabelled = [replace(pair, labels=None) for pair in pairs]
            graph: GraphState = self(collate(self.builder.build_all(unlabelled)).to(device))
            return graph
        finally:
            self.train(was_training)

    @property
    def tagging_head(self) -> TaggingHead:
        """The head of entity tags.

        Raises:
            KeyError: when the model has none.
        """
        head = self.heads[TAGS]
        assert isinstance(head, TaggingHead)
        return head

    def _heads(self) -> list[Head]:
        return [head for head in self.heads.values() if isinstance(head, Head)]

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Those of the text encoder and of a picture backbone: they learn at a rate of their own."""
        backbones = (part.backbone for part in self.modules() if isinstance(part, PixelEncoder))
        return [weight for net in (self.encoder.model, *backbones) for weight in net.parameters()]

    # --- to disk and back ------------------------------------------------------------------------------

    def hparams(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain JSON values: with encoder and labels, what builds the model.

        Raises:
            ValueError: for an argument that cannot be saved.
        """
        return model_settings(self)

    def _save_pretrained(self, save_directory: Path) -> None:
        save(self, save_directory)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> Any:
        """The card that `save_pretrained` writes: schema, label set, data and scores."""
        return model_card(self)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        folder_or_name: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> Tagger:
        """The model of a folder that `save_pretrained` wrote, or of the hub, in evaluation mode.

        The folder names the class and its module, which is imported; on a subclass of `Tagger` it must be that one.

        Raises:
            FileNotFoundError: when there is no such folder, here or on the hub, or it holds no model.
            ValueError: when it holds another model.
        """
        how = {"revision": revision, "token": token, "cache_dir": cache_dir}
        folder = folder_of(folder_or_name, local_files_only=local_files_only, **how)
        return load_saved(folder, cls)


load = Tagger.from_pretrained
