"""Layers of MGCMT: similar words, cross-modal paths on two levels, fused scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch_geometric.utils import softmax

from mnergraph.graph.collate import EdgeType
from mnergraph.graph.layout import Edges
from mnergraph.nn.heads.tagging import TaggingScores
from mnergraph.nn.layers.gates import GatedMix
from mnergraph.nn.layers.hetero import FeatureModule, HeteroLayer
from mnergraph.nn.layers.transformer import CoAttention, TransformerConfig
from mnergraph.nn.state import GraphState


class NearestWordVectors(nn.Module):
    """Similar words by their vectors, which are never trained (MGCMT, section 3.2.1): ``similar`` nodes.

    Args:
        vectors: of the words that the builder's look-up counts in, ``[words, width]``; they are saved with
            that look-up, not with the weights.
    """

    vectors: Tensor

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors, persistent=False)

    def forward(self, graph: GraphState) -> GraphState:
        return graph.update(similar=self.vectors[graph.data["similar"].row])


class CosineWeights(nn.Module):
    """The weights themselves, and nothing learned: what one hooks to look at them (MGCMT, eq. 2).

    alpha_ij = softmax over the senders j that receiver i hears of  cosine(v_i, v_ij)
    """

    def forward(self, edges: Edges) -> Tensor:
        """``[edges, 1]``; the relation's geometry is the cosine."""
        if edges.attr is None:
            raise ValueError("a sum by cosines needs a relation that carries them, as NearestWordOf does")
        return softmax(edges.attr, edges.index[1], num_nodes=edges.dst.num_nodes)


class CosineSum(nn.Module):
    """Every word sums its similar words, each by the softmax of its cosine (MGCMT, eqs. 2-3).

    out_i = sum over j of alpha_ij * v_ij,  alpha_ij = softmax over j of cosine(v_i, v_ij)

    A receiver that hears nobody gets zeros. The result is as wide as the senders.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights = CosineWeights()

    def forward(self, x_src: Tensor, x_dst: Tensor, edges: Edges) -> Tensor:
        """``[src nodes, width]``, ``[dst nodes, any]`` -> ``[dst nodes, width]``."""
        senders, receivers = edges.index
        # [edges, width]
        message = self.weights(edges) * x_src[senders]
        return message.new_zeros(edges.dst.num_nodes, x_src.shape[-1]).index_add(0, receivers, message)


def semantic_augmentation(
    relation: EdgeType, vectors: Tensor, width: int, join: Callable[[int, int], nn.Module]
) -> list[nn.Module]:
    """Layers by which similar words join the words (MGCMT, eqs. 2-4): E = join(E_B, E_A).

    A word without similar words has an E_A of zeros.

    Args:
        relation: from similar words to words.
        vectors: of the similar words, as for `NearestWordVectors`.
        width: of the words.
        join: by both widths, makes what joins words and the similar: `concat_linear` (eq. 4), or `ProjectAndAdd`.
    """
    joined = join(width, vectors.shape[1])
    return [NearestWordVectors(vectors), HeteroLayer({relation: CosineSum()}, residual=lambda: joined)]


class ObjectClasses(nn.Module):
    """Objects by their class, a row of a learned table (MGCMT, eqs. 7-8): ``object`` nodes.

    H_i = H'_i W_o;  H'_i the class as a one-hot vector

    Row 0 is that of the object which stands for none, the last one that of labels that are no class. The
    paper's 81 classes are COCO's 80 and the background; ours are the 80 and those labels. The released code's
    table has 85 rows, of which ours has the first 81.

    Args:
        width: of the result.
        classes: how many; the builder counts labels in them.
        learn_nothing: whether row 0 is learned too; else it is zeros.
    """

    def __init__(self, width: int, classes: int, *, learn_nothing: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(classes + 2, width, padding_idx=None if learn_nothing else 0)

    def forward(self, graph: GraphState) -> GraphState:
        return graph.update(object=self.table(graph.data["object"].class_id))


Level = Literal["basic", "superior"]


LEVELS: tuple[Level, Level] = ("basic", "superior")


def path_relations(kind: str) -> tuple[EdgeType, EdgeType, EdgeType]:
    """The relations of a path: among the nodes of its visual side, from them to words, from words to them."""
    return (kind, "attends", kind), (kind, "guides", "token"), ("token", "guides", kind)


def cross_modal_path(
    kind: str,
    sides: Mapping[Level, str],
    transformers: TransformerConfig,
    *,
    out: str,
    unimodal: bool = True,
    separate: bool = False,
    weighed: Level = "basic",
) -> Iterator[nn.Module]:
    """MGCMT's TextImg or TextObj (sections 3.2.4 and 3.3), from a visual side to S_v or S_o.

    V = self-attention of the visual side;  S_1 = words query V (basic level);  S_2 = words query what V heard
    of them (superior level), each a transformer layer (eqs. 9-12);  out = mu * S_1 + (1 - mu) * S_2 (eq. 14),
    mu = sigmoid(W_1 S_1 + W_2 S_2 + b) (eq. 13). One level alone has no gate, as in the released code.

    Args:
        kind: node type of the visual side.
        sides: the levels there are, one or both, and for each by which name its visual side is kept.
        transformers: makes the layers.
        out: under which name the result is kept.
        unimodal: whether the visual side has self-attention.
        separate: whether it has one for each level, as in the authors' code.
        weighed: the level whose weight mu is; the other has the rest.
    """
    within, to_words, from_words = path_relations(kind)
    heard = dict(sides)
    if unimodal:
        heard = {level: f"{kind}, {level}" if separate else kind for level in sides}
        for before, after in dict.fromkeys((sides[level], heard[level]) for level in sides):
            yield transformers.layer(within, dst_key=before, src_key=before, out_key=after)
    found = {level: f"{out}, {level}" if len(sides) == 2 else out for level in sides}
    if "basic" in sides:
        yield transformers.layer(to_words, src_key=heard["basic"], out_key=found["basic"])
    if "superior" in sides:
        names = {"other_key": heard["superior"], "out_key": found["superior"]}
        yield CoAttention(from_words, to_words, transformers, **names)
    if len(sides) == 2:
        read = sorted(found, key=lambda level: level != weighed)
        yield FeatureModule(
            GatedMix(transformers.hidden_size, bias=True), in_keys=[found[level] for level in read], out_key=out
        )


class ConcatModule(nn.Module):
    """Several features of the same nodes, side by side, through one module (MGCMT, eqs. 4 and 15).

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
    """x + W message + b, for a message of another width (MGCMT's released code, instead of eq. 4).

    Args:
        width: of x and of the result.
        message: width of the message.
    """

    def __init__(self, width: int, message: int) -> None:
        super().__init__()
        self.linear = nn.Linear(message, width)

    def forward(self, x: Tensor, message: Tensor) -> Tensor:
        return x + self.linear(message)


def concat_linear(width: int, message: int) -> ConcatModule:
    """W [x, message] + b, as wide as x (MGCMT, eq. 4)."""
    return ConcatModule(nn.Linear(width + message, width))


def fused_tagging_scores(
    seen: Sequence[str], width: int, labels: int, *, dropout: float, after: Sequence[nn.Module], extra: bool
) -> Iterator[nn.Module]:
    """Layers from words and what they have seen to the tags' scores (MGCMT, eq. 15 and section 3.4).

    S = after(W dropout([S_v, S_o]) + b) (eq. 15);  P = [h, S];  scores = W P + b. Where words
    have seen one thing only, that is S, as in the released code.

    Args:
        seen: by which names that is kept, one or two.
        width: of each.
        labels: how many tags there are.
        dropout: on both together.
        after: what follows eq. 15: nothing, or a ReLU in the authors' code.
        extra: whether one more linear map, to the words' width, follows P, as in the authors' code.
    """
    fused = seen[0]
    if len(seen) == 2:
        fused = "S"
        fusion = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * width, width), *after)
        yield FeatureModule(ConcatModule(fusion), in_keys=seen, out_key=fused)
    if not extra:
        yield TaggingScores("tags", 2 * width, labels, in_keys=("token", fused))
        return
    yield FeatureModule(ConcatModule(nn.Linear(2 * width, width)), in_keys=("token", fused), out_key="token")
    yield TaggingScores("tags", width, labels)
