"""Raw stores to node features: words by a pretrained encoder, objects by their region and their label."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from mnergraph.features.backbone import Backbone
from mnergraph.features.text import best_windows, windows
from mnergraph.graph import Layout
from mnergraph.graph.builder import LABEL_PIECES, PIECES
from mnergraph.nn.state import Graph

#: Name of the region vectors that a backbone in the model makes.
REGION = "region"
Pooling = Literal["first", "mean", "sum"]


class TextEncoder(nn.Module):
    """Words by a Hugging Face encoder: its pieces' states, pooled by word.

    A sentence longer than the encoder reads is split into overlapping windows, and each piece takes its state
    from the window that shows it most context; no word goes without. Where the batch holds objects' labels in
    pieces, they get the encoder's input embeddings.

    Args:
        backbone: the encoder and its tokenizer.
        pooling: which of a word's pieces speak for it: the ``first``, their ``mean`` or their ``sum``.
        dropout: on the words' states.
        sentence: whether the state of the first special piece ([CLS]) is kept, for ``sentence`` nodes; a
            sentence in several windows has it from the first.

    Raises:
        ValueError: for word vectors, which `WordEncoder` reads.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        pooling: Pooling = "first",
        dropout: float = 0.0,
        sentence: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(backbone, Backbone):
            raise ValueError(
                f"this model reads a Hugging Face encoder, and {backbone.name!r} are word vectors; right is "
                "an encoder by name or folder (pretrained, tiny)"
            )
        if pooling not in ("first", "mean", "sum"):
            raise ValueError(f"pooling is first, mean or sum, not {pooling!r}")
        if sentence and not backbone.pieces.start:
            raise ValueError(f"{backbone.name} has no special piece before the words to stand for a sentence")
        self.sentence = sentence
        self.model, self.pooling, self.dropout = backbone.model, pooling, nn.Dropout(dropout)
        self.padding, self.max_length = backbone.pieces.padding, backbone.max_length
        self.rims = len(backbone.pieces.start), len(backbone.pieces.end)

    def forward(self, graph: Graph) -> Graph:
        ids, layout = graph.data["piece"].input_ids, graph.layouts["piece"]
        labels = graph.data["label_piece"].input_ids if "label_piece" in graph.layouts else None
        # [pieces, width], [label pieces, width]
        pieces, named = self._states(ids, layout, labels)
        source, word = graph.data[PIECES].edge_index
        words = graph.layouts["token"].nodes
        if self.pooling == "first":
            first = torch.ones_like(word, dtype=torch.bool)
            first[1:] = word[1:] != word[:-1]
            pooled = pieces[source[first]]
        else:
            pooled = sum_to(pieces[source], word, words, mean=self.pooling == "mean")
        graph = graph.update(token=self.dropout(pooled))
        if self.sentence:
            graph = graph.update(sentence=self.dropout(pieces[layout.ptr[:-1]]))
        return graph if named is None else graph.update(label_piece=named)

    def _states(self, ids: Tensor, layout: Layout, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What `_encode` says, of sentences of any length."""
        if layout.slots <= self.max_length:
            return self._encode(ids, layout, labels)
        rows, split, read = self._windows(layout)
        states, named = self._encode(ids[rows], split, labels)
        return states[read], named

    def _encode(self, ids: Tensor, layout: Layout, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """States of the pieces and input embeddings of the labels' pieces."""
        padded, mask = layout.pad(ids, self.padding), layout.mask.long()
        if labels is None:
            return layout.unpad(self.model(input_ids=padded, attention_mask=mask).last_hidden_state), None
        # one look-up for both, for each has a gradient as large as the whole table
        both = self.model.get_input_embeddings()(torch.cat([padded.flatten(), labels]))
        embedded, named = both.split([padded.numel(), labels.numel()])
        states = self.model(inputs_embeds=embedded.view(*padded.shape, -1), attention_mask=mask)
        return layout.unpad(states.last_hidden_state), named

    def _windows(self, layout: Layout) -> tuple[Tensor, Layout, Tensor]:
        """Every window as a sentence of its own, between the special pieces of its sentence.

        Returns:
            which piece stands in every place of the windows, their layout, and where each piece is read off.
        """
        before, after = self.rims
        rows: list[list[int]] = []
        read: list[tuple[int, int]] = []
        for begin, end in zip(layout.ptr[:-1].tolist(), layout.ptr[1:].tolist(), strict=True):
            if begin == end:
                rows.append([])
                continue
            head, tail = range(begin, begin + before), range(end - after, end)
            body = range(begin + before, end - after)
            spans = windows(len(body), self.max_length - before - after)
            first, last = len(rows), len(rows) + len(spans) - 1
            rows.extend([*head, *body[span.start : span.stop], *tail] for span in spans)
            read.extend((first, place) for place in range(before))
            for piece, w in enumerate(best_windows(len(body), spans)):
                read.append((first + w, before + piece - spans[w].start))
            read.extend((last, before + len(spans[-1]) + place) for place in range(after))
        device = layout.ptr.device
        split = Layout(torch.tensor([0, *map(len, rows)], device=device).cumsum(0))
        row, place = torch.tensor(read, device=device).t()
        return torch.tensor([i for row in rows for i in row], device=device), split, split.ptr[row] + place


class Positions(nn.Module):
    """Adds the sinusoidal position encoding to nodes of one type (Vaswani et al., 2017, section 3.5).

    PE(p, 2i) = sin(p / 10000^(2i / width)),  PE(p, 2i + 1) = cos of the same.
    """

    def __init__(self, kind: str = "token") -> None:
        super().__init__()
        self.kind = kind

    def forward(self, graph: Graph) -> Graph:
        x = graph.x[self.kind]
        even = torch.arange(0, x.shape[-1], 2, device=x.device)
        rate = torch.exp(even * (-math.log(10000.0) / x.shape[-1]))
        # [nodes, width / 2]
        angle = graph.layouts[self.kind].position[:, None] * rate
        both = torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, : x.shape[-1]]
        return graph.update(**{self.kind: x + both.to(x.dtype)})


class ObjectEncoder(nn.Module):
    """Objects by region vector, by the embedding of their label, or by both (HamLearning, eq. 3).

    v_i = L(f_i) + W_e e_i;  f_i the region vector, nothing where an object has none; e_i the normalised mean
    of the label's pieces in the text encoder's own embedding table, nothing where it has no label.

    The vectors of a frozen backbone are nearly parallel, and a linear map learns slowly from them: `observe`
    lets f_i be standardised, feature by feature, by the mean and deviation of the training posts' vectors,
    which are saved with the weights. Until then they enter as they are. Where `PixelEncoder` stands before,
    the vectors are those of its backbone.

    Args:
        width: of the result.
        region_width: of the region vectors; None when only labels speak.
        label_width: of the text encoder; None when only regions speak.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, width: int, *, region_width: int | None = None, label_width: int | None = None
    ) -> None:
        super().__init__()
        if region_width is None and label_width is None:
            raise ValueError(
                "an object needs a region vector, a label, or both: give region_width, label_width"
            )
        self.region = nn.Linear(region_width, width) if region_width else None
        self.register_buffer("mean", torch.zeros(region_width or 0))
        self.register_buffer("deviation", torch.ones(region_width or 0))
        self.norm = nn.LayerNorm(label_width) if label_width else None
        self.label = nn.Linear(label_width, width) if label_width else None

    def forward(self, graph: Graph) -> Graph:
        store, objects = graph.data["object"], graph.layouts["object"].nodes
        parts = []
        if self.region is not None:
            made = graph.x.get(REGION)
            vectors = store.x if made is None else made
            standard = (vectors - self.mean) / self.deviation
            parts.append(self.region(standard) * store.has_x[:, None])
        if self.label is not None and self.norm is not None:
            piece, owner = graph.data[LABEL_PIECES].edge_index
            mean = sum_to(graph.x["label_piece"][piece], owner, objects, mean=True)
            named = torch.zeros(objects, 1, device=mean.device, dtype=mean.dtype).index_fill(0, owner, 1.0)
            parts.append(self.label(self.norm(mean)) * named)
        return graph.update(object=parts[0] if len(parts) == 1 else parts[0] + parts[1])

    def observe(self, regions: Tensor) -> None:
        """Standardise by these vectors, ``[objects, region width]``; constant features are only centred."""
        if self.region is None or len(regions) < 2:
            return
        deviation, mean = torch.std_mean(regions, dim=0)
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.where(deviation > 1e-6, torch.ones_like(deviation)))


class ImageEncoder(nn.Module):
    """The picture's vectors, one or a grid of them, by a linear map: ``image`` nodes (UMT, section 2.2).

    Args:
        width: of the result.
        image_width: of the vectors that the posts carry.
        out: under which name the result is kept; a second map of the same vectors needs another.
    """

    def __init__(self, width: int, image_width: int, *, out: str = "image") -> None:
        super().__init__()
        self.linear, self.out = nn.Linear(image_width, width), out

    def forward(self, graph: Graph) -> Graph:
        return graph.keep(self.out, self.linear(graph.data["image"].x), like="image")


class Remember(nn.Module):
    """Keeps the features of a node type under another name, for a later layer."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__()
        self.kind, self.name = kind, name

    def forward(self, graph: Graph) -> Graph:
        return graph.keep(self.name, graph.x[self.kind], like=self.kind)


def sum_to(x: Tensor, owner: Tensor, owners: int, *, mean: bool = False) -> Tensor:
    """Rows summed, or averaged, by owner: ``[rows, width] -> [owners, width]``, zeros for owners of none."""
    total = x.new_zeros(owners, x.shape[-1]).index_add(0, owner, x)
    if not mean:
        return total
    return total / owner.bincount(minlength=owners).clamp(min=1)[:, None].to(x.dtype)
