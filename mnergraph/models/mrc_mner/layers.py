"""Multi-level interaction by query: weights of regions, attention of words to regions and to one another."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnergraph.graph.collate import EdgeType
from mnergraph.graph.layout import Edges
from mnergraph.models.mrc_mner.encoder import TOKEN_BY_QUERY
from mnergraph.models.mrc_mner.queries import QUERY
from mnergraph.nn.conv.attention import DENSE_ABOVE, AttentionWeights, RelationAttention, aggregate
from mnergraph.nn.heads.tagging import TaggingScores
from mnergraph.nn.layers.hetero import AddNorm, FeedForward
from mnergraph.nn.layers.transformer import TransformerConfig
from mnergraph.nn.state import GraphState

#: Name of the scores of the regions' weights, ``[objects, queries of a post]``.
REGION_WEIGHTS = "region_weights"
#: Names of the two sides of the prior, features of queries and of objects.
QUERY_PRIOR, REGION_PRIOR = "query prior", "region prior"


class RegionWeights(nn.Module):
    """The weights of the regions for every query, and the prior that they are for the words' attention.

    a_tj = softmax over the objects j of  (P g_t) . (K v_j) / sqrt(size)

    g_t the feature of query t, v_j that of object j.

    Args:
        relation: the edge type from objects to queries.
        hidden_size: features of queries and objects.
        size: features in which they are compared.
    """

    def __init__(self, relation: EdgeType, hidden_size: int, size: int) -> None:
        super().__init__()
        self.relation = relation
        self.query, self.key = nn.Linear(hidden_size, size), nn.Linear(hidden_size, size)
        self.weights = AttentionWeights()

    @property
    def relations(self) -> list[EdgeType]:
        """The edge types that the layer uses."""
        return [self.relation]

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with the weights ``[objects, queries of a post]`` as scores, and P g and K v as features.

        A query without edges has weights of 0 and a P g of zeros, which is a uniform prior.
        """
        edges = graph.edges[self.relation]
        query, key = self.query(graph.x[QUERY]), self.key(graph.x["object"])
        dense = edges.is_dense(DENSE_ABOVE)
        weights = self.weights(query[:, None], key[:, None], edges, dense)
        queries = edges.dst.max_nodes
        if dense:
            # [posts, 1, queries, max objects] -> [objects, queries]
            by_object = edges.src.to_flat((weights[:, 0] * edges.mask).transpose(1, 2))
        else:
            obj, asked = edges.index
            by_object = weights.new_zeros(edges.src.num_nodes, queries)
            by_object = by_object.index_put((obj, edges.dst.position[asked]), weights[:, 0])
        has_prior = edges.dst.to_flat(edges.has_incoming)[:, None]
        graph = graph.with_features(QUERY_PRIOR, query * has_prior, nodes_of=QUERY)
        return graph.with_features(REGION_PRIOR, key, nodes_of="object").with_scores(REGION_WEIGHTS, by_object)


class QueryAttention(RelationAttention):
    """Multi-head attention of nodes that have a feature for every query, each query on its own, by shared parameters.

    alpha_tij = softmax over the source nodes j of target node i of  q_ti . k_tj / sqrt(head_size) + log prior_tj

    Weights have the heads of the first query, then those of the second, and so on. The arguments are those of
    `RelationAttention`.
    """

    def forward(self, x_src: Tensor, x_dst: Tensor, edges: Edges, prior: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """``[src nodes, queries, hidden_size]``, ``[dst nodes, queries, hidden_size]`` -> the shape of the latter.

        Args:
            x_src: features of the source nodes; without the axis of queries they are the same for all.
            x_dst: features of the target nodes.
            edges: the relation's edges.
            prior: logarithms of the prior as products, up to a constant per target node: ``[dst nodes, queries, size]``
                and ``[src nodes, size]``, divided by sqrt(size).
        """
        queries, heads = x_dst.shape[1], (self.num_heads, x_dst.shape[-1] // self.num_heads)
        # [nodes, queries, heads, head_size]
        query = self.query(x_dst).unflatten(-1, heads)
        key, value = (part(x_src).unflatten(-1, heads) for part in (self.key, self.value))
        if x_src.dim() == 2:
            key, value = (x[:, None].expand(-1, queries, -1, -1) for x in (key, value))
        if prior is not None:
            # one product of both parts, each divided by the root of its own size
            query_prior, key_prior = prior[0][:, :, None], prior[1][:, None, None]
            size, more = heads[1], prior[1].shape[-1]
            query = torch.cat(
                [query * (1 + more / size) ** 0.5, _over(query, query_prior) * (1 + size / more) ** 0.5], -1
            )
            key = torch.cat([key, _over(key, key_prior)], -1)
        dense = edges.is_dense(DENSE_ABOVE)
        weights = self.weights(query.flatten(1, 2), key.flatten(1, 2), edges, dense)
        value = value.flatten(1, 2).to(query.dtype)
        messages = aggregate(self.dropout(weights).to(value.dtype), value, edges, dense)
        return self.output(messages.unflatten(1, (queries, heads[0])).flatten(2))


def _over(x: Tensor, prior: Tensor) -> Tensor:
    """Return the prior's part for every query and head of x."""
    return prior.expand(*x.shape[:-1], -1)


class QueryTransformerLayer(nn.Module):
    """A transformer layer of tokens that have a feature for every query, as `TransformerLayer` for each of them.

    P = LN(H + MHA(H, S, S)),  out = LN(P + FFN(P)),  H the tokens' features, S those of the source nodes

    Args:
        relation: the edge type, to tokens.
        transformers: the layer's settings.
        src_key: name of the source nodes' features.
        use_prior: whether the regions' weights (`RegionWeights`) are a prior of the attention.
    """

    def __init__(
        self, relation: EdgeType, transformers: TransformerConfig, *, src_key: str, use_prior: bool = False
    ) -> None:
        super().__init__()
        size, dropout, eps = transformers.hidden_size, transformers.dropout, transformers.eps
        self.relation, self.src_key, self.use_prior = relation, src_key, use_prior
        self.attention = QueryAttention(size, transformers.num_heads, dropout=dropout)
        self.residual = AddNorm(size, dropout, eps)
        inner = transformers.intermediate_size or 4 * size
        self.feed_forward = FeedForward(size, inner, dropout, transformers.activation, eps)

    @property
    def relations(self) -> list[EdgeType]:
        """The edge types that the layer uses."""
        return [self.relation]

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with the tokens' new features, ``[tokens, queries of a post, hidden_size]``."""
        tokens, prior = graph.x[TOKEN_BY_QUERY], None
        if self.use_prior:
            prior = by_token(graph, graph.x[QUERY_PRIOR]), graph.x[REGION_PRIOR]
        attended = self.attention(graph.x[self.src_key], tokens, graph.edges[self.relation], prior)
        tokens = self.feed_forward(self.residual(tokens, attended))
        return graph.with_features(TOKEN_BY_QUERY, tokens, nodes_of="token")


class QueryMatchScores(TaggingScores):
    """Scores of tokens for every query: linear in the token's feature, and by its match with the query.

    s_ti = W z_ti + b + (M z_ti) . g_t / sqrt(hidden_size)

    z_ti the feature of token i for query t, g_t that of the query, W and M the same for all queries, M for each score.

    Args:
        task: the head's name, under which the graph keeps the scores.
        hidden_size: features of tokens and queries.
        num_scores: scores of a token for a query.
    """

    def __init__(self, task: str, hidden_size: int, num_scores: int) -> None:
        super().__init__(task, hidden_size, num_scores, in_keys=(TOKEN_BY_QUERY,))
        self.match = nn.Linear(hidden_size, num_scores * hidden_size, bias=False)

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with scores ``[tokens, queries of a post * num_scores]``."""
        tokens = graph.x[TOKEN_BY_QUERY]
        query = by_token(graph, graph.x[QUERY])
        # [tokens, queries, num_scores, hidden_size]
        asked = self.match(tokens).unflatten(-1, (-1, tokens.shape[-1]))
        matches = (asked * query[:, :, None]).sum(-1) / tokens.shape[-1] ** 0.5
        return graph.with_scores(self.task, (self.linear(tokens) + matches).flatten(1))


def by_token(graph: GraphState, queries: Tensor) -> Tensor:
    """``[queries, features]`` -> those of every token's post, ``[tokens, queries of a post, features]``."""
    num_queries = graph.layouts[QUERY].max_nodes
    return queries.unflatten(0, (graph.num_graphs, num_queries))[graph.layouts["token"].graph_index]
