"""Nodes that are rows of a table, similar words and object classes, and how similar words speak."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch_geometric.utils import softmax

from mnergraph.graph import Edges, EdgeType
from mnergraph.nn.fusion import RelationalLayer
from mnergraph.nn.state import Graph


class SimilarVectors(nn.Module):
    """Similar words by their vectors, which are never trained (MGCMT, section 3.2.1): ``similar`` nodes.

    Args:
        vectors: of the words that the builder's look-up counts in, ``[words, width]``; they are saved with
            that look-up, not with the weights.
    """

    vectors: Tensor

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors, persistent=False)

    def forward(self, graph: Graph) -> Graph:
        return graph.update(similar=self.vectors[graph.data["similar"].row])


class CosineWeights(nn.Module):
    """The weights themselves, and nothing learned: what one hooks to look at them (MGCMT, eq. 2).

    alpha_ij = softmax over the senders j that receiver i hears of  cosine(v_i, v_ij)
    """

    def forward(self, edges: Edges) -> Tensor:
        """``[edges, 1]``; the relation's geometry is the cosine."""
        if edges.attr is None:
            raise ValueError("a sum by cosines needs a relation that carries them, as Resembles does")
        return softmax(edges.attr, edges.index[1], num_nodes=edges.dst.nodes)


class CosineSum(nn.Module):
    """Every word sums its similar words, each by the softmax of its cosine (MGCMT, eqs. 2-3).

    out_i = sum over j of alpha_ij * v_ij,  alpha_ij = softmax over j of cosine(v_i, v_ij)

    A receiver that hears nobody gets zeros. The result is as wide as the senders.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights = CosineWeights()

    def forward(self, dst: Tensor, src: Tensor, edges: Edges) -> Tensor:
        """``[dst nodes, any]``, ``[src nodes, width]`` -> ``[dst nodes, width]``."""
        senders, receivers = edges.index
        # [edges, width]
        message = self.weights(edges) * src[senders]
        return message.new_zeros(edges.dst.nodes, src.shape[-1]).index_add(0, receivers, message)


def augmented(
    relation: EdgeType, vectors: Tensor, width: int, join: Callable[[int, int], nn.Module]
) -> list[nn.Module]:
    """Layers by which similar words join the words (MGCMT, eqs. 2-4): E = join(E_B, E_A).

    A word without similar words has an E_A of zeros.

    Args:
        relation: from similar words to words.
        vectors: of the similar words, as for `SimilarVectors`.
        width: of the words.
        join: by both widths, makes what joins words and the similar: `joined_linear` (eq. 4), or `AddLinear`.
    """
    joined = join(width, vectors.shape[1])
    return [SimilarVectors(vectors), RelationalLayer({relation: CosineSum()}, combine=lambda: joined)]


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

    def forward(self, graph: Graph) -> Graph:
        return graph.update(object=self.table(graph.data["object"].class_id))
