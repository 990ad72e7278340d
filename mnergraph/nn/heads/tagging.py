"""Tagging heads: labels of tokens, decoded from scores in the last graph by a CRF or independently."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor, nn

from mnergraph.graph.collate import EdgeType
from mnergraph.graph.node_types import Unit
from mnergraph.labels import OUTSIDE, SPECIAL_TAGS, Entity, LabelSet, Span, span_label, tags_to_spans
from mnergraph.nn.heads.base import Head
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.entities import TAGS as TAGS
from mnergraph.nn.heads.entities import EntityHead, gold_labels, pairs_of, word_layout
from mnergraph.nn.heads.entities import SpecialTags as SpecialTags
from mnergraph.nn.heads.independent import IndependentTags
from mnergraph.nn.layers.transformer import TransformerConfig
from mnergraph.nn.state import GraphState

#: Name of the head, and of the scores, of span detection.
SPANS = "spans"
#: Name of the tokens' features from which the scores of span detection are computed.
SPAN_STATES = "span_states"


class TaggingScores(nn.Module):
    """Linear scores of a head's labels from the tokens' features, concatenated if there are several.

    Args:
        task: the head's name, under which the graph keeps the scores.
        hidden_size: features of a token, summed over ``in_keys``.
        num_labels: number of labels.
        in_keys: names of the features.
    """

    def __init__(self, task: str, hidden_size: int, num_labels: int, *, in_keys: Sequence[str] = ("token",)) -> None:
        super().__init__()
        self.task, self.in_keys = task, tuple(in_keys)
        self.linear = nn.Linear(hidden_size, num_labels)

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with scores ``[tokens, num_labels]``."""
        features = torch.cat([graph.x[key] for key in self.in_keys], -1)
        return graph.with_scores(self.task, self.linear(features))


class LabelTransfer(nn.Module):
    """Add the scores of one task to another's, mapped by a conversion matrix (UMT, eq. 7).

    scores of target = target_weight * scores of target + source_weight * scores of source @ W

    Args:
        source: name of the task whose scores are added.
        target: name of the task whose scores are changed.
        matrix: initial W, ``[source labels, target labels]``.
        learned: whether W is trained.
        target_weight: weight of the target's own scores; 1 in the papers, 0.5 in UMT's released code.
        source_weight: weight of the source's scores; the same.
    """

    matrix: Tensor

    def __init__(
        self,
        source: str,
        target: str,
        matrix: Tensor,
        *,
        learned: bool = True,
        target_weight: float = 1.0,
        source_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.source, self.target, self.target_weight, self.source_weight = source, target, target_weight, source_weight
        if learned:
            self.matrix = nn.Parameter(matrix.clone())
        else:
            self.register_buffer("matrix", matrix.clone())

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with new scores of the target, ``[tokens, target labels]``."""
        transferred = graph.emissions[self.source] @ self.matrix
        return graph.with_scores(
            self.target, self.target_weight * graph.emissions[self.target] + self.source_weight * transferred
        )


def conversion_matrix(labels: LabelSet) -> Tensor:
    """Return the initial conversion matrix of span labels to tags, uniform over a label's tags (UMT, section 2.4).

    Args:
        labels: the label set of the tags.

    Returns:
        ``[span labels, labels]``; row ``B`` is 1 / number of types at every ``B-T`` and 0 elsewhere.
    """
    has_label = torch.zeros(len(labels.span_labels), len(labels))
    has_label[span_label_ids(labels), torch.arange(len(labels))] = 1.0
    return has_label / has_label.sum(1, keepdim=True)


def span_label_ids(labels: LabelSet) -> Tensor:
    """Return the index into ``labels.span_labels`` of every tag's span label, ``[labels]``."""
    return torch.tensor([labels.span_labels.index(span_label(tag)) for tag in labels])


class TaggingHead(EntityHead):
    """Entity tags of words, and the entities that they mark.

    Args:
        decoder: a CRF, or independent tags, over ``labels``.
        labels: the label set.
        weight: weight of the loss in the model's loss.
        unit: whether tokens are words, or pieces, of which the first of a word has the word's tag.
    """

    def __init__(
        self,
        decoder: CRF | IndependentTags,
        labels: LabelSet,
        *,
        weight: float = 1.0,
        unit: Unit = "words",
    ) -> None:
        super().__init__(labels, weight=weight)
        self.decoder, self.unit = decoder, unit

    def loss(self, graph: GraphState) -> Tensor:
        """Return the negative log-likelihood of every post's tags, ``[posts]``.

        Where another head gives the types (`EntityHead.gives_types`), it is that of the spans, see
        `CRF.span_log_likelihood`.

        Raises:
            ValueError: for a post without labels.
        """
        if self.gives_types or not isinstance(self.decoder, CRF):
            return _negative_log_likelihood(graph, self.name, self.decoder, gold_labels(graph))
        scores, mask = _padded_scores(graph, self.name)
        return -self.decoder.span_log_likelihood(scores, graph.layouts["token"].to_dense(gold_labels(graph)), mask)

    def log_marginals(self, graph: GraphState) -> Tensor:
        """Return the logarithm of the marginal probability of every label of every token, ``[tokens, labels]``."""
        return graph.layouts["token"].to_flat(self.decoder.log_marginals(*_padded_scores(graph, self.name)))

    def decode(self, graph: GraphState) -> list[list[Entity]]:
        """Return the entities of every post, each with its probability; see `span_probabilities`."""
        tags = self.decode_tags(graph)
        spans = [tags_to_spans(post_tags) for post_tags in tags]
        scores = self.span_probabilities(graph, spans, tags)
        return [
            [Entity(*span, score) for span, score in zip(post_spans, post_scores, strict=True)]
            for post_spans, post_scores in zip(spans, scores, strict=True)
        ]

    def decode_tags(self, graph: GraphState, *, special_tags: SpecialTags = "outside") -> list[list[str]]:
        """Return one tag for every word of every post, its first token's; O for words that are cut off.

        Args:
            graph: the last graph.
            special_tags: what a special tag (X, [CLS]) on a word counts as: ``"outside"``, or ``"entities"``, where
                it is ``I-X``, an entity of a type that no gold entity has, as UMT's and MGCMT's released code counts.
        """
        token, layout = graph.data["token"], graph.layouts["token"]
        best = layout.to_flat(self.decoder.decode(*_padded_scores(graph, self.name)))[token.starts_word].tolist()
        special = {tag: OUTSIDE if special_tags == "outside" else f"I-{tag}" for tag in SPECIAL_TAGS}
        tags = (self.labels.tags[label] for label in best)
        names = iter([special.get(tag, tag) for tag in tags])
        counts = word_layout(graph).counts.tolist()
        return [
            [*islice(names, count), *[OUTSIDE] * (len(pair.words) - count)]
            for pair, count in zip(pairs_of(graph), counts, strict=True)
        ]

    def tag_probabilities(self, graph: GraphState, tags: Sequence[Sequence[str]]) -> list[list[float | None]]:
        """Return the probability of a tag of every word, 0 to 1; None for words that are cut off.

        p(y_t = tag | x), t the word's first token: the posterior mass of all label sequences with the tag there. That
        of O includes the special tags (X, [CLS]), which count as outside.

        Args:
            graph: the last graph.
            tags: one tag for every word of every post, as `decode_tags` returns them.
        """
        marginals = graph.layouts["token"].to_flat(self.decoder.marginals(*_padded_scores(graph, self.name)))
        outside = [index for index, tag in enumerate(self.labels) if tag == OUTSIDE or tag in SPECIAL_TAGS]
        # [words, labels + 1], the last one for O
        words = marginals[graph.data["token"].starts_word]
        words = torch.cat([words, words[:, outside].sum(1, keepdim=True)], 1)
        counts = word_layout(graph).counts.tolist()
        ids = [
            len(self.labels) if tag == OUTSIDE else self.labels.index(tag)
            for row, count in zip(tags, counts, strict=True)
            for tag in row[:count]
        ]
        chances = words.gather(-1, torch.tensor(ids, dtype=torch.int64, device=words.device)[:, None])[:, 0]
        values = iter(chances.clamp(max=1.0).tolist())
        return [[*islice(values, count), *[None] * (len(row) - count)] for row, count in zip(tags, counts, strict=True)]

    def span_probabilities(
        self, graph: GraphState, spans: Sequence[Sequence[Span]], tags: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Return the probability of any spans, 0 to 1.

        Where tokens are words this is the posterior mass of all label sequences that mark the span. Where they are
        pieces it is the product of the marginal probabilities of its words' tags.

        Args:
            graph: the last graph.
            spans: the spans of every post.
            tags: one tag for every word of every post, which mark the spans.
        """
        if self.unit == "words":
            return self.decoder.span_probability(*_padded_scores(graph, self.name), spans)
        return self._span_marginal_products(graph, spans, tags)

    def _span_marginal_products(
        self, graph: GraphState, spans: Sequence[Sequence[Span]], tags: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        marginals = graph.layouts["token"].to_flat(self.decoder.marginals(*_padded_scores(graph, self.name)))
        # words that are cut off have no token, and no entity either
        counts = word_layout(graph).counts.tolist()
        ids = [self.labels.index(tag) for row, count in zip(tags, counts, strict=True) for tag in row[:count]]
        # [words]
        word_marginals = marginals[graph.data["token"].starts_word].gather(
            -1, torch.tensor(ids, device=marginals.device)[:, None]
        )[:, 0]
        return [
            [words[span.start : span.end].prod().item() for span in post]
            for words, post in zip(word_marginals.split(counts), spans, strict=True)
        ]


class SpanDetectionHead(Head):
    """Entity span detection: the extents of entities of any type (UMT, section 2.4).

    A CRF over B, I and O, trained jointly with the tags.

    Args:
        labels: the label set of the tags.
        weight: weight of the loss in the model's loss.
    """

    shown = False
    label_map: Tensor

    def __init__(self, labels: LabelSet, *, weight: float = 1.0) -> None:
        super().__init__(SPANS, weight=weight)
        self.labels = labels.span_labels
        self.decoder = CRF(self.labels.tags)
        self.register_buffer("label_map", span_label_ids(labels), persistent=False)

    def loss(self, graph: GraphState) -> Tensor:
        """Return the negative log-likelihood of every post's span labels, ``[posts]``.

        Raises:
            ValueError: for a post without labels.
        """
        return _negative_log_likelihood(graph, self.name, self.decoder, self.label_map[gold_labels(graph)])

    def decode(self, graph: GraphState) -> list[list[str]]:
        """Return one of B, I and O for every token of every post."""
        names = [self.labels.tags[label] for label in self.decode_labels(graph).tolist()]
        counts = graph.layouts["token"].counts.tolist()
        ends = [sum(counts[: index + 1]) for index in range(len(counts))]
        return [names[end - count : end] for count, end in zip(counts, ends, strict=True)]

    def decode_labels(self, graph: GraphState) -> Tensor:
        """Return the best label of every token, ``[tokens]``."""
        return graph.layouts["token"].to_flat(self.decoder.decode(*_padded_scores(graph, self.name)))


def span_detection_scores(relation: EdgeType, labels: LabelSet, transformers: TransformerConfig) -> list[nn.Module]:
    """Return layers to the scores of `SpanDetectionHead` (UMT, section 2.4; GEI, eqs. 2-3; MGCMT, section 3.4).

    A transformer layer over the tokens' features, whose result is kept as `SPAN_STATES`, and a linear map.

    Args:
        relation: the edge type of the layer, among tokens.
        labels: the label set of the tags.
        transformers: the layer's settings.
    """
    layer = transformers.layer(relation, out_key=SPAN_STATES)
    return [layer, TaggingScores(SPANS, transformers.hidden_size, len(labels.span_labels), in_keys=(SPAN_STATES,))]


def _negative_log_likelihood(graph: GraphState, name: str, decoder: CRF | IndependentTags, gold: Tensor) -> Tensor:
    scores, mask = _padded_scores(graph, name)
    return -decoder(scores, graph.layouts["token"].to_dense(gold), mask)


def _padded_scores(graph: GraphState, name: str) -> tuple[Tensor, Tensor]:
    """Return scores ``[posts, max tokens, labels]`` and their mask ``[posts, max tokens]``."""
    layout = graph.layouts["token"]
    return layout.to_dense(graph.emissions[name]), layout.mask
