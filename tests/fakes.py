"""Random posts, layouts and graphs for tests."""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from mnergraph.features.text.encoder import TextEncoderModel, tiny_encoder
from mnergraph.features.text.word_embeddings import WordVectors, random_vectors
from mnergraph.graph import (
    Complete,
    Edges,
    GraphBuilder,
    Grounded,
    Layout,
    Relation,
    Schema,
    Spatial,
    Windowed,
    collate,
)
from mnergraph.graph.node_types import (
    DEFAULT_NODE_TYPES,
    CreatedNodes,
    CropReader,
    Images,
    NearestWordLookup,
    NearestWordNodes,
    Objects,
    Tokenizer,
    Tokens,
)
from mnergraph.labels import LabelSet
from mnergraph.models import MODELS
from mnergraph.nn.state import GraphState
from mnergraph.pair import DetectedObject, Pair

LABELS = LabelSet.from_types(["PER", "LOC"])
WORDS = ("Paris", "in", "the", "rain", "@user", "http://t.co/x", "Hilton", "#now", "é", "🇫🇷")

TOKENS, OBJECTS = ("token", "attends", "token"), ("object", "attends", "object")
TO_TOKENS, TO_OBJECTS = ("object", "guides", "token"), ("token", "guides", "object")
NEAR, AROUND = ("token", "near", "token"), ("object", "around", "object")
SCHEMA = Schema(
    [
        Relation(*TOKENS, Complete()),
        Relation(*OBJECTS, Complete()),
        Relation(*TO_TOKENS, Grounded()),
        Relation(*TO_OBJECTS, Grounded()),
        Relation(*NEAR, Windowed(2)),
        Relation(*AROUND, Spatial()),
    ]
)


def post(
    words: int,
    objects: int = 0,
    *,
    seed: int = 0,
    image: bool = True,
    grounded: float = 0.6,
    boxes: float = 0.8,
    region_dim: int | None = 6,
) -> Pair:
    """Return a post with random spans, boxes, labels and regions, drawn from ``seed`` and the counts."""
    rng = random.Random(seed * 1009 + words * 31 + objects)
    size = (rng.randint(50, 400), rng.randint(50, 400)) if image else None

    def random_object() -> DetectedObject:
        start = rng.randrange(words)
        left, right = sorted(rng.sample(range(size[0] + 1), 2)) if size else (0, 1)
        top, bottom = sorted(rng.sample(range(size[1] + 1), 2)) if size else (0, 1)
        region = torch.randn(region_dim, generator=torch.Generator().manual_seed(seed)) if region_dim else None
        return DetectedObject(
            label=rng.choice(["person", "a soccer player", "", "the sign"]),
            box=(left, top, right, bottom) if size and rng.random() < boxes else None,
            span=(start, rng.randint(start + 1, words)) if rng.random() < grounded else None,
            region=region if rng.random() < 0.8 else None,
        )

    return Pair(
        words=tuple(rng.choice(WORDS) for _ in range(words)),
        labels=tuple(rng.choice(LABELS.tags) for _ in range(words)),
        id=f"post-{seed}",
        size=size,
        objects=tuple(random_object() for _ in range(objects)),
        image_features=torch.full((1, 5), float(seed)) if image else None,
    )


def awkward_posts() -> list[Pair]:
    """Return ordinary posts and edge cases: no object, no image, one word, 128 words."""
    return [
        post(7, 3, seed=1),
        post(5, 0, seed=2),
        post(4, 0, seed=3, image=False),
        post(1, 2, seed=4, grounded=1.0),
        post(1, 0, seed=5),
        post(128, 4, seed=6),
        post(3, 2, seed=7, grounded=0.0, boxes=0.0),
        post(9, 5, seed=8, grounded=1.0),
    ]


def without_objects() -> list[Pair]:
    """Return two posts without objects, one of them without an image."""
    return [post(4, 0, seed=2), post(1, 0, seed=3, image=False)]


def builder_of_all() -> GraphBuilder:
    """Return a builder of graphs with words, pieces, objects, an image, entities, and a node type that layers make."""
    return make_builder(
        SCHEMA | Schema(nodes=["image", "entity", "thought"]),
        tokenizer=tiny_encoder(hidden_size=8).tokenizer,
        labels=LABELS,
        region_dim=6,
        image_dim=5,
    )


def make_builder(
    schema: Schema,
    *,
    tokenizer: Tokenizer | None = None,
    characters: Tokenizer | None = None,
    labels: LabelSet | None = None,
    tokens: Any = "words",
    image_dim: int | None = None,
    pool_image: bool = False,
    nearest_words: NearestWordLookup | None = None,
    region_dim: int | None = None,
    object_classes: Sequence[str] | None = None,
    add_placeholder_object: bool = False,
    crop_reader: CropReader | None = None,
) -> GraphBuilder:
    """Return a builder of the package's node types with these options; layers create the schema's other types."""
    available = {
        "token": Tokens(tokenizer, labels, unit=tokens, characters=characters),
        "object": Objects(
            tokenizer,
            region_dim=region_dim,
            classes=object_classes,
            add_placeholder=add_placeholder_object,
            crop_reader=crop_reader,
        ),
        "image": Images(image_dim, pool=pool_image),
        "similar": NearestWordNodes(nearest_words),
    }
    subtypes = ("piece", "label_piece", "character")
    others = [CreatedNodes(name) for name in schema.nodes if name not in (*DEFAULT_NODE_TYPES, *subtypes)]
    return GraphBuilder(schema, [*(made for name, made in available.items() if name in schema.nodes), *others])


def equal(one: Any, other: Any) -> bool:
    """Equal to the type and the bit, NaN with NaN."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one.nan_to_num(-7), other.nan_to_num(-7))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and one == other


def check_same(ours: HeteroData, theirs: HeteroData) -> None:
    """Check that two graphs or batches have the same stores with equal attributes."""
    assert type(ours) is type(theirs)
    assert ours.node_types == theirs.node_types
    assert ours.edge_types == theirs.edge_types
    for mine, other in zip(ours.stores, theirs.stores, strict=True):
        assert set(mine.keys()) == set(other.keys()), mine._key
        for name in mine.keys():  # noqa: SIM118
            assert equal(mine[name], other[name]), (mine._key, name)


def state(posts: Sequence[Pair], *, width: int = 8, schema: Schema = SCHEMA, seed: int = 0) -> GraphState:
    """Return the input state of the first layer, with random features of one size at every node."""
    graph = GraphState.from_batch(collate(make_builder(schema).build_all(posts)), schema)
    generator = torch.Generator().manual_seed(seed)
    x = {name: torch.randn(layout.num_nodes, width, generator=generator) for name, layout in graph.layouts.items()}
    return graph.update(**x)


def with_edge_layout(graph: GraphState, edge_layout: str) -> GraphState:
    """Return the state with every relation in the layout ``"dense"`` or ``"sparse"``."""
    edges = {key: edges.with_layout(edge_layout) for key, edges in graph.edges.items()}
    return GraphState(graph.data, graph.x, edges, graph.layouts)


def layout(*counts: int) -> Layout:
    """Return the layout of graphs with these numbers of nodes."""
    return Layout(torch.tensor([0, *counts]).cumsum(0))


def neighbors(edges: Edges) -> list[list[int]]:
    """Return, for every target node, the indices of its source nodes, from ``edges.index``."""
    sources: list[list[int]] = [[] for _ in range(edges.dst.num_nodes)]
    for src, dst in edges.index.t().tolist():
        sources[dst].append(src)
    return sources


def random_edges(src: Layout, dst: Layout, share: float, seed: int = 0) -> Edges:
    """Return random edges within graphs; each pair of nodes is connected with probability ``share``."""
    generator = torch.Generator().manual_seed(seed)
    connected = (src.graph_index[:, None] == dst.graph_index) & (
        torch.rand(src.num_nodes, dst.num_nodes, generator=generator) < share
    )
    return Edges(src, dst, connected.nonzero().t().contiguous())


def awkward_edges() -> Iterator[tuple[str, Edges]]:
    """Yield edges of edge cases, each with a name."""
    words, objects = layout(7, 5, 1, 128, 0, 3), layout(3, 0, 2, 4, 2, 1)
    yield "complete", Edges(words, words)
    yield "complete between", Edges(objects, words)
    yield "complete back", Edges(words, objects)
    yield "thin", random_edges(objects, words, 0.3)
    yield "thick", random_edges(words, words, 0.9)
    yield "no edge", random_edges(objects, words, 0.0)
    empty = layout(0, 0, 0, 0, 0, 0)
    yield "no sender", Edges(empty, words)
    yield "no receiver", Edges(words, empty)
    yield "one post", random_edges(layout(4), layout(6), 0.5)


def gradients(call: Callable[[Tensor, Tensor], Tensor], module: nn.Module, dst: Tensor, src: Tensor) -> list[Tensor]:
    """Return the gradients of a fixed random projection of the output: of ``dst``, ``src``, then the parameters."""
    dst, src = dst.clone().requires_grad_(), src.clone().requires_grad_()
    out = call(dst, src)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(7))
    inputs = [dst, src, *module.parameters()]
    grads = torch.autograd.grad((out * weights).sum(), inputs, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, grads, strict=True)]


def same(module: nn.Module) -> nn.Module:
    """Return a copy with the same weights."""
    return copy.deepcopy(module)


def uses_word_vectors(kind: str) -> bool:
    """Return whether a model takes word vectors: ``GVATT words``, and ``BiLSTM-CRF``, which takes nothing else."""
    name, _, form = kind.partition(" ")
    encoder_types = str(inspect.signature(MODELS[name]).parameters["encoder"].annotation)
    return form == "words" or "TextEncoderModel" not in encoder_types


def word_vectors_for(encoder: TextEncoderModel, width: int = 16) -> WordVectors:
    """Return random vectors of a tiny encoder's words, with an alphabet of their characters."""
    known = [piece for piece in encoder.tokenizer.tokenizer.get_vocab() if not piece.startswith("##")]
    return random_vectors(sorted(known), width, min_count=1)
