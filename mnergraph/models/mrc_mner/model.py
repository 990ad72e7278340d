"""MRC-MNER: "Query Prior Matters: A MRC Framework for Multimodal Named Entity Recognition".

Jia, Shen, Shen, Pang, Liao, Song, Chen and He, ACM MM 2022. No code was found, and the paper's text was not available:
this is the system of its abstract and of summaries.

From these: one question (query) per entity type is put to the post, query and post in one sequence through BERT; the
image is given as regions, candidates that a visual grounding model found beforehand, with ResNet features; words
interact with regions and with one another; three tasks, entity span prediction, existence detection (whether the type
occurs in the post) and region weights estimation (how much each region matters), are trained together.

Graph: tokens (words), objects (regions), and a query for every type. Every query is joined with every token, within the
text encoder; every object with every query and every token; every token with every token. Of a token there is a
feature for each query, and attention never goes from one query's features to another's: this is a graph per post and
type, kept as one.

    c_t, g_t, h_t1 .. h_tn = Encoder([CLS] query_t [SEP] words [SEP])   [CLS], mean of the query's words, every word
    v_j of the objects, from region vector and label
    a_tj = softmax over objects j of  (P g_t) . (K v_j) / sqrt(s)       region weights
    u_t  = transformer layer of words to objects, whose attention is    text-image interaction
           a_tj exp(q_ti . k_j / sqrt(d_k)), divided by its sum over j
    z_t  = transformer layer of words to words over u_t                 inner-text interaction
    p(i is first in an entity of type t) = sigmoid(w . z_ti + b + (M z_ti) . g_t / sqrt(d)),  p(i is last) likewise
    p(type t occurs) = sigmoid(w' . c_t + b')

    loss = spans + existence_weight * existence + region_weight * regions

The equations are ours, as none was available. In them the parameters are shared by all types, which differ by their
query alone; region weights are a prior of the words' attention to regions, so that they act on words also where their
own task has no target; words are matched with the query in the scores of spans; a word is represented by its first
piece; text-image comes before inner-text interaction, with one layer each; objects do not interact with one another.
Spans are read from independent first and last words with cross entropy, as in Li et al., "A Unified MRC Framework for
Named Entity Recognition" (ACL 2020), without its matching of the two; decoding, probabilities and overlaps of types are
those of `SpanHead`. Existence is a task of training alone and does not filter spans. The targets of the region weights
are those of `RegionWeightsHead`: regions of grounded phrases that have a word of an entity; a type without any adds
nothing to the loss. The weights of the losses and the queries (`mnergraph.models.mrc_mner.queries`) are ours, too.
Without objects a post is read by its text alone.
"""

from __future__ import annotations

from torch import nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.graph.context import Context
from mnergraph.graph.edge_rules import Complete
from mnergraph.graph.evidence_kinds import REGION_FEATURES
from mnergraph.graph.node_types import Objects
from mnergraph.graph.schema import Relation, Schema
from mnergraph.labels import LabelSet
from mnergraph.models.base import Tagger
from mnergraph.models.mrc_mner.encoder import CLS_STATE, TOKEN_BY_QUERY, QueryEncoder
from mnergraph.models.mrc_mner.heads import EXISTENCE, ExistenceHead, RegionWeightsHead
from mnergraph.models.mrc_mner.layers import QueryMatchScores, QueryTransformerLayer, RegionWeights
from mnergraph.models.mrc_mner.queries import QUERY, QUERY_TO_TOKENS, Queries, query_texts
from mnergraph.nn.encoders.visual import ObjectEncoder
from mnergraph.nn.heads.base import Head
from mnergraph.nn.heads.entities import TAGS
from mnergraph.nn.heads.spans import SpanHead
from mnergraph.nn.heads.tagging import TaggingScores
from mnergraph.nn.layers.transformer import TransformerConfig

TOKENS = ("token", "attends", "token")
TO_TOKENS, TO_QUERIES = ("object", "shows", "token"), ("object", "shows", QUERY)
SCHEMA = Schema(Relation(*key, Complete()) for key in (QUERY_TO_TOKENS, TO_QUERIES, TO_TOKENS, TOKENS))


class MRCMNER(Tagger):
    """Machine reading comprehension: a question per entity type (Jia et al., ACM MM 2022).

    Args:
        encoder: text encoder; all nodes have its hidden size.
        labels: label set.
        queries: the question by entity type; for types without one, `mnergraph.models.mrc_mner.queries` has one for
            PER, LOC, ORG, MISC and OTHER, and of other types it asks by their names.
        region_dim: dimension of the objects' region vectors (2048 for a ResNet); None without any.
        label_features: the labels' embeddings are features of the objects, too.
        num_heads: attention heads of every layer.
        intermediate_size: of the feed-forward layers; by default 4 times the hidden size.
        dropout: on the encoder's states, attention weights and residuals.
        threshold: the least probability of an entity's first word, and of its last.
        existence_weight: weight of the loss of existence detection; 0 leaves the task out.
        region_weight: weight of the loss of region weights estimation; 0 leaves the task out, not the weights.
        context: which texts about a post the encoder reads beside the sentence; None for none.

    Raises:
        ValueError: for a label set without entity types, a query of another type or of too many word pieces, an encoder
            without [CLS], objects without region vectors and labels.
    """

    def __init__(
        self,
        encoder: TextEncoderModel,
        labels: LabelSet,
        *,
        queries: dict[str, str] | None = None,
        region_dim: int | None = None,
        label_features: bool = True,
        num_heads: int = 12,
        intermediate_size: int | None = None,
        dropout: float = 0.1,
        threshold: float = 0.5,
        existence_weight: float = 0.5,
        region_weight: float = 0.5,
        context: Context | None = None,
    ) -> None:
        if not labels.types:
            raise ValueError(f"a question is put for every entity type, and {', '.join(labels)} has none")
        size = encoder.hidden_size
        transformers = TransformerConfig(size, num_heads, intermediate_size, dropout)
        layers: list[nn.Module] = [
            QueryEncoder(encoder, dropout=dropout),
            ObjectEncoder(size, region_dim=region_dim, label_dim=size if label_features else None),
            RegionWeights(TO_QUERIES, size, size // num_heads),
            QueryTransformerLayer(TO_TOKENS, transformers, src_key="object", use_prior=True),
            QueryTransformerLayer(TOKENS, transformers, src_key=TOKEN_BY_QUERY),
            QueryMatchScores(TAGS, size, 2),
        ]
        heads: list[Head] = [SpanHead(labels, threshold=threshold)]
        if existence_weight:
            layers.append(TaggingScores(EXISTENCE, size, 1, in_keys=(CLS_STATE,)))
            heads.append(ExistenceHead(labels, weight=existence_weight))
        if region_weight:
            heads.append(RegionWeightsHead(labels, weight=region_weight))
        super().__init__(
            schema=SCHEMA,
            layers=layers,
            heads=heads,
            encoder=encoder,
            context=context,
            labels=labels,
            node_types=[
                Queries(encoder.tokenizer, query_texts(labels.types, queries), encoder.max_length // 3),
                Objects(encoder.tokenizer if label_features else None, region_dim=region_dim),
            ],
            evidence=[REGION_FEATURES],
        )
