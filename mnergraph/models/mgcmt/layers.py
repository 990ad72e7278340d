"""Layers of MGCMT: nearest words, cross-modal paths on two levels, fused scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch_geometric.utils import softmax

from mnergraph.graph.collate import EdgeType
from mnergraph.graph.layout import Edges
from mnergraph.nn.heads.tagging import TAGS, TaggingScores
from mnergraph.nn.layers.gates import GatedMix
from mnergraph.nn.layers.hetero import FeatureModule, HeteroLayer
from mnergraph.nn.layers.transformer import CoAttention, TransformerConfig
from mnergraph.nn.state import GraphState

Level = Literal["basic", "superior"]
LEVELS: tuple[Level, Level] = ("basic", "superior")

#: Names of features: the results of the two paths, S_v and S_o, and of eq. 15, S.
TEXT_IMG, TEXT_OBJ, FUSED = "TextImg", "TextObj", "fused"


def level_key(key: str, level: Level) -> str:
    """Return the name of a level's features where each level has its own."""
    return f"{key}, {level}"


class NearestWordVectors(nn.Module):
    """Vectors of the nearest words, which are never trained (MGCMT, section 3.2.1): ``similar`` nodes.

    Args:
        vectors: of the words in the lookup table, ``[words, dimension]``; saved with the table, not with
            the weights.
    """

    vectors: Tensor

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors, persistent=False)

    def forward(self, graph: GraphState) -> GraphState:
        return graph.update(similar=self.vectors[graph.data["similar"].row])


class CosineWeights(nn.Module):
    """Softmax of cosines; a module without parameters, so that hooks can record the weights (MGCMT, eq. 2).

    alpha_ij = softmax over the sources j of target i of  cosine(v_i, v_ij)
    """

    def forward(self, edges: Edges) -> Tensor:
        """Return ``[edges, 1]``; the edge attributes are the cosines."""
        if edges.attr is None:
            raise ValueError("a sum by cosines needs a relation with cosines as edge attributes: NearestWordOf")
        return softmax(edges.attr, edges.index[1], num_nodes=edges.dst.num_nodes)


class CosineSum(nn.Module):
    """Sum of a word's nearest words, weighted by the softmax of their cosines (MGCMT, eqs. 2-3).

    out_i = sum over j of alpha_ij * v_ij,  alpha_ij = softmax over j of cosine(v_i, v_ij)

    A target without incoming edges gets zeros. The result has the sources' dimension.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights = CosineWeights()

    def forward(self, x_src: Tensor, x_dst: Tensor, edges: Edges) -> Tensor:
        """``[src nodes, dimension]``, ``[dst nodes, any]`` -> ``[dst nodes, dimension]``."""
        senders, receivers = edges.index
        # [edges, dimension]
        message = self.weights(edges) * x_src[senders]
        return message.new_zeros(edges.dst.num_nodes, x_src.shape[-1]).index_add(0, receivers, message)


def semantic_augmentation(
    relation: EdgeType, vectors: Tensor, hidden_size: int, combine: Callable[[int, int], nn.Module]
) -> list[nn.Module]:
    """Return the layers that add nearest words to the words (MGCMT, eqs. 2-4): E = combine(E_B, E_A).

    E_A of a word without nearest words is zeros.

    Args:
        relation: edge type from nearest words to words.
        vectors: of the nearest words, as for `NearestWordVectors`.
        hidden_size: of the words.
        combine: makes the module that combines both, from their dimensions: `concat_linear` (eq. 4) or
            `ProjectAndAdd`.
    """
    module = combine(hidden_size, vectors.shape[1])
    return [NearestWordVectors(vectors), HeteroLayer({relation: CosineSum()}, residual=lambda: module)]


class ObjectClasses(nn.Module):
    """Embeddings of the objects' classes (MGCMT, eqs. 7-8): ``object`` nodes.

    H_i = H'_i W_o;  H'_i the class as a one-hot vector

    Row 0 is that of the placeholder for no object, the last row that of labels that are no class. The paper's
    81 classes are COCO's 80 and the background; ours are the 80 and those labels. The released code's table
    has 85 rows, of which ours has the first 81.

    Args:
        hidden_size: of the result.
        num_classes: number of classes; the object nodes' ``class_id`` counts in them.
        learn_placeholder: row 0 is learned; otherwise it is zeros.
    """

    def __init__(self, hidden_size: int, num_classes: int, *, learn_placeholder: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(num_classes + 2, hidden_size, padding_idx=None if learn_placeholder else 0)

    def forward(self, graph: GraphState) -> GraphState:
        return graph.update(object=self.table(graph.data["object"].class_id))


def path_relations(node_type: str) -> tuple[EdgeType, EdgeType, EdgeType]:
    """Return the edge types of a path: among its visual nodes, from these to tokens, from tokens to these."""
    return (node_type, "attends", node_type), (node_type, "guides", "token"), ("token", "guides", node_type)


def cross_modal_path(
    node_type: str,
    visual_keys: Mapping[Level, str],
    transformers: TransformerConfig,
    *,
    out_key: str,
    self_attention: bool = True,
    separate_levels: bool = False,
    gated_level: Level = "basic",
) -> Iterator[nn.Module]:
    """Yield the layers of TextImg or TextObj (MGCMT, sections 3.2.4 and 3.3), from visual nodes to S_v or S_o.

    V = self-attention of the visual nodes;  S_1 = tokens attend to V (basic level);  S_2 = tokens attend to
    what V is after attending to them (superior level), each a transformer layer (eqs. 9-12);
    out = mu * S_1 + (1 - mu) * S_2 (eq. 14),  mu = sigmoid(W_1 S_1 + W_2 S_2 + b) (eq. 13). A single level has
    no gate, as in the released code.

    Args:
        node_type: of the visual nodes.
        visual_keys: for each level that there is, the name of the visual nodes' features.
        transformers: settings of the layers.
        out_key: name of the result.
        self_attention: visual nodes have self-attention.
        separate_levels: they have one for each level, as in the authors' code.
        gated_level: the level that mu weights; the other one's weight is 1 - mu.
    """
    among, to_tokens, from_tokens = path_relations(node_type)
    inputs = dict(visual_keys)
    if self_attention:
        inputs = {level: level_key(node_type, level) if separate_levels else node_type for level in visual_keys}
        for before, after in dict.fromkeys((visual_keys[level], inputs[level]) for level in visual_keys):
            yield transformers.layer(among, dst_key=before, src_key=before, out_key=after)
    both = len(visual_keys) == 2
    outputs = {level: level_key(out_key, level) if both else out_key for level in visual_keys}
    if "basic" in visual_keys:
        yield transformers.layer(to_tokens, src_key=inputs["basic"], out_key=outputs["basic"])
    if "superior" in visual_keys:
        keys = {"other_key": inputs["superior"], "out_key": outputs["superior"]}
        yield CoAttention(from_tokens, to_tokens, transformers, **keys)
    if both:
        first_gated = sorted(outputs, key=lambda level: level != gated_level)
        gate = GatedMix(transformers.hidden_size, bias=True)
        yield FeatureModule(gate, in_keys=[outputs[level] for level in first_gated], out_key=out_key)


class ConcatModule(nn.Module):
    """A module of several features of the same nodes, concatenated (MGCMT, eqs. 4 and 15).

    out = f([x_1, x_2, ...])

    Args:
        module: f, of as many features as those together.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *features: Tensor) -> Tensor:
        joined: Tensor = self.module(torch.cat(features, -1))
        return joined


class ProjectAndAdd(nn.Module):
    """x + W message + b, for a message of another dimension (MGCMT's released code, instead of eq. 4).

    Args:
        hidden_size: dimension of x and of the result.
        message_dim: dimension of the message.
    """

    def __init__(self, hidden_size: int, message_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(message_dim, hidden_size)

    def forward(self, x: Tensor, message: Tensor) -> Tensor:
        return x + self.linear(message)


def concat_linear(hidden_size: int, message_dim: int) -> ConcatModule:
    """Return W [x, message] + b, of the dimension of x (MGCMT, eq. 4)."""
    return ConcatModule(nn.Linear(hidden_size + message_dim, hidden_size))


def fused_tagging_scores(
    in_keys: Sequence[str],
    hidden_size: int,
    num_labels: int,
    *,
    dropout: float,
    activation: Sequence[nn.Module],
    output_projection: bool,
) -> Iterator[nn.Module]:
    """Yield the layers from tokens and the results of the paths to the tags' scores (MGCMT, eq. 15, section 3.4).

    S = activation(W dropout([S_v, S_o]) + b) (eq. 15);  P = [h, S];  scores = W P + b. With one path alone S is
    its result, as in the released code.

    Args:
        in_keys: names of the paths' results, one or two.
        hidden_size: of each.
        num_labels: number of tags.
        dropout: on both results together.
        activation: after eq. 15: nothing, or a ReLU in the authors' code.
        output_projection: one more linear map of P, to the hidden size, as in the authors' code.
    """
    fused = in_keys[0]
    if len(in_keys) == 2:
        fused = FUSED
        fusion = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * hidden_size, hidden_size), *activation)
        yield FeatureModule(ConcatModule(fusion), in_keys=in_keys, out_key=fused)
    if not output_projection:
        yield TaggingScores(TAGS, 2 * hidden_size, num_labels, in_keys=("token", fused))
        return
    projection = ConcatModule(nn.Linear(2 * hidden_size, hidden_size))
    yield FeatureModule(projection, in_keys=("token", fused), out_key="token")
    yield TaggingScores(TAGS, hidden_size, num_labels)
