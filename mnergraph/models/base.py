"""What every model is: a schema, a stack, and tasks. Models assemble; nobody overrides forward."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import ModelHubMixin
from torch import Tensor, nn
from torch_geometric.data import Batch, HeteroData

from mnergraph.features.text.encoder import Encoder
from mnergraph.features.text.nearest_words import NearestWords
from mnergraph.graph.builder import CropReader, GraphBuilder
from mnergraph.graph.collate import collate
from mnergraph.graph.node_stores import NO_LABEL, Tokenizer
from mnergraph.graph.schema import Schema
from mnergraph.labels import LabelSet, Span, tags_to_spans
from mnergraph.models.decoding import Entity, decode_word_tags, span_marginal_product
from mnergraph.models.hub import folder_of, load_saved, model_card, save
from mnergraph.nn.encoders.crops import PixelEncoder
from mnergraph.nn.heads.tagging import Task
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair


class Tagger(nn.Module, ModelHubMixin, ABC):
    """Base of all models. A subclass's constructor hands over the parts and does nothing else.

    Args:
        schema: what is connected to what.
        layers: from raw stores to emissions, each GraphState -> GraphState.
        tasks: what is trained; the one named ``"tags"`` is the product.
        encoder: the text encoder that the first layers hold.
        labels: label set of the tags.
        characters: turns words into characters, where the layers read them.
        tokens: whether words or pieces are the graph's tokens.
        region_dim: width of the region vectors that the objects carry, if any.
        image_dim: width of the picture's features, if any.
        pool_image: whether a grid of them becomes one image node.
        nearest_words: the words' neighbours, if any; saved with the model.
        object_classes: names of the classes that objects' labels are counted in, if any.
        add_placeholder_object: whether a post without objects gets one that is nothing.
        crop_reader: cuts the objects' pixels, where a `PixelEncoder` is among the layers.
        reduction: whether the loss is the sentences' ``mean`` or ``sum``.

    Attributes:
        metadata: what is known of the weights (data, scores, evidence, versions), saved with them.
    """

    def __init__(
        self,
        *,
        schema: Schema,
        layers: Sequence[nn.Module],
        tasks: Sequence[Task],
        encoder: Encoder,
        labels: LabelSet,
        characters: Tokenizer | None = None,
        tokens: Literal["words", "pieces"] = "words",
        region_dim: int | None = None,
        image_dim: int | None = None,
        pool_image: bool = False,
        nearest_words: NearestWords | None = None,
        object_classes: Sequence[str] | None = None,
        add_placeholder_object: bool = False,
        crop_reader: CropReader | None = None,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        self.schema, self.encoder, self.labels, self.reduction = schema, encoder, labels, reduction
        self.layers = nn.Sequential(*layers)
        self.tasks = nn.ModuleDict({task.name: task for task in tasks})
        self.builder = GraphBuilder(
            schema,
            tokenizer=encoder.tokenizer,
            characters=characters,
            labels=labels,
            tokens=tokens,
            region_dim=region_dim,
            image_dim=image_dim,
            pool_image=pool_image,
            nearest_words=nearest_words,
            object_classes=object_classes,
            add_placeholder_object=add_placeholder_object,
            crop_reader=crop_reader,
        )
        self.nearest_words = nearest_words
        self.metadata: dict[str, Any] = {}

    # --- one forward, read twice -----------------------------------------------------------------------

    def forward(self, data: HeteroData | Batch) -> GraphState:
        """The last graph: every task's emissions are in it."""
        return self.layers(GraphState.from_batch(data, self.schema))

    def loss(self, graph: GraphState) -> Tensor:
        """The weighted loss of all tasks, reduced over the sentences.

        Raises:
            ValueError: when a post of the batch has no labels.
        """
        gold = graph.data["token"].y
        if gold.numel() and int(gold.min()) == NO_LABEL:
            nobody = [pair.id for pair in graph.data.pair if pair.labels is None]
            raise ValueError(f"posts without labels can't be trained on or scored: {', '.join(map(repr, nobody[:5]))}")
        total = torch.stack([task.weight * task.loss(graph, gold) for task in map(self._task, self.tasks)]).sum(0)
        return total.mean() if self.reduction == "mean" else total.sum()

    def decode_tags(self, graph: GraphState) -> list[list[str]]:
        """One tag for every word of every post; what stands for no word ([CLS], X) counts as outside."""
        return decode_word_tags(graph, self._task("tags"), self.labels)

    def decode_entities(self, graph: GraphState) -> list[list[Entity]]:
        """The entities of every post, each with its probability under the tag task's scorer.

        Where tokens are words this is the posterior mass of all label sequences that spell the entity. Where
        they are pieces it is the product of the marginal probabilities of its words' tags.
        """
        decode_tags = self.decode_tags(graph)
        found = [tags_to_spans(of_post) for of_post in decode_tags]
        scores = self.span_probabilities(graph, found, decode_tags)
        return [
            [Entity(*span, score) for span, score in zip(post, sure, strict=True)]
            for post, sure in zip(found, scores, strict=True)
        ]

    def span_probabilities(
        self, graph: GraphState, found: Sequence[Sequence[Span]], decode_tags: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """The probability of these spans, as `entities` tells it, be they the best ones of the graph or not.

        Args:
            graph: the last graph.
            found: the spans of every post.
            tags: one tag for every word of every post, which spell them.
        """
        task = self._task("tags")
        if self.builder.tokens == "words":
            return task.scorer.span_probability(*task.scores(graph), found)
        return span_marginal_product(graph, task, self.labels, found, decode_tags)

    @torch.inference_mode()
    def predict(self, pairs: Sequence[Pair]) -> list[list[Entity]]:
        """The entities of these posts, in one batch, in evaluation mode; labels they have are not read."""
        return self.decode_entities(self.forward_examples(pairs)) if pairs else []

    @torch.inference_mode()
    def forward_examples(self, pairs: Sequence[Pair]) -> GraphState:
        """The last graph of these posts, one at least, as `predict` computes it."""
        device = next(self.parameters()).device
        was_training = self.training
        self.eval()
        try:
            unread = [replace(pair, labels=None) for pair in pairs]
            graph: GraphState = self(collate(self.builder.build_all(unread)).to(device))
            return graph
        finally:
            self.train(was_training)

    def _task(self, name: str) -> Task:
        task = self.tasks[name]
        assert isinstance(task, Task)
        return task

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Those of the text encoder and of a picture backbone: they learn at a rate of their own."""
        backbones = (part.backbone for part in self.modules() if isinstance(part, PixelEncoder))
        return [weight for net in (self.encoder.model, *backbones) for weight in net.parameters()]

    # --- to disk and back ------------------------------------------------------------------------------

    def hparams(self) -> dict[str, Any]:
        """The constructor's plain arguments: with encoder and labels, what builds the model."""
        kept = self._hub_mixin_config
        assert kept is None or isinstance(kept, dict)
        parts = ("encoder", "labels", "nearest_words")
        return {name: value for name, value in (kept or {}).items() if name not in parts}

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

        On `Tagger` itself the saved class is looked up among the models known; on a model it must be that
        one.

        Raises:
            FileNotFoundError: when there is no such folder, here or on the hub, or it holds no model.
            ValueError: when it holds another model.
        """
        how = {"revision": revision, "token": token, "cache_dir": cache_dir}
        folder = folder_of(folder_or_name, local_files_only=local_files_only, **how)
        return load_saved(folder, cls, {model.__name__: model for model in _models(Tagger)})


def _models(base: type[Tagger]) -> list[type[Tagger]]:
    return [model for kind in base.__subclasses__() for model in (kind, *_models(kind))]


load = Tagger.from_pretrained
