"""Every edge rule against a brute-force computation of its definition, in both directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from fakes import awkward_posts, make_builder
from torch_geometric.data import HeteroData

from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.graph import (
    Complete,
    EdgeRule,
    EdgeSet,
    Grounded,
    InEntity,
    Member,
    NearestWordOf,
    Relation,
    Schema,
    Spatial,
    Windowed,
    collate,
    edge_index_from,
)
from mnergraph.graph.box_geometry import SPATIAL_LABELS
from mnergraph.pair import DetectedObject, Pair


def edges_of(pair: Pair, *relations: Relation, **settings: Any) -> HeteroData:
    schema = Schema(relations, nodes=("object", "image", "entity"))
    return make_builder(schema, **settings)(pair)


def joined(pair: Pair, relation: Relation, **settings: Any) -> set[tuple[int, int]]:
    """The relation's pairs; none twice."""
    index = edges_of(pair, relation, **settings)[relation.key].edge_index
    assert index.dtype == torch.long
    assert index.is_contiguous() or index.numel() == 0
    found = [tuple(edge) for edge in index.t().tolist()]
    assert len(set(found)) == len(found)
    return set(found)


@pytest.mark.parametrize("pair", awkward_posts(), ids=lambda pair: pair.id)
@pytest.mark.parametrize("tokens", ["words", "pieces"])
def test_grounded(pair: Pair, tokens: str) -> None:
    pieces = tiny_encoder(["paris", "rain"], hidden_size=8).tokenizer
    relations = Relation("token", "to", "object", Grounded()), Relation("object", "to", "token", Grounded())
    settings = {"tokenizer": pieces, "tokens": tokens}
    word = edges_of(pair, **settings)["token"].word.tolist()
    if tokens == "pieces":
        assert word[0] == word[-1] == -1
    expected = {
        (t, o)
        for t, w in enumerate(word)
        for o, obj in enumerate(pair.objects)
        if obj.span is None or obj.span[0] <= w < obj.span[1]
    }
    assert joined(pair, relations[0], **settings) == expected
    assert joined(pair, relations[1], **settings) == {(o, t) for t, o in expected}


def test_special_tokens_are_joined_to_general_objects_only() -> None:
    pair = Pair(("a", "b"), objects=(DetectedObject(span=(0, 2)), DetectedObject()))
    found = joined(
        pair,
        Relation("object", "to", "token", Grounded()),
        tokenizer=tiny_encoder(hidden_size=8).tokenizer,
        tokens="pieces",
    )
    assert found == {(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (1, 3)}


@pytest.mark.parametrize("reach", [0, 1, 3, 200])
@pytest.mark.parametrize("words", [1, 2, 9])
def test_windowed(reach: int, words: int) -> None:
    pair = Pair(("w",) * words, objects=(DetectedObject(),) * 3)
    for dst, count in (("token", words), ("object", 3)):
        expected = {(i, j) for i in range(words) for j in range(count) if abs(i - j) <= reach}
        assert joined(pair, Relation("token", "near", dst, Windowed(reach))) == expected


def test_windowed_needs_a_reach() -> None:
    with pytest.raises(ValueError, match="reach is a number of positions, 0 or more, not -1"):
        Windowed(-1)


@pytest.mark.parametrize("objects", [0, 3])
def test_complete(objects: int) -> None:
    pair = Pair(("a", "b"), objects=(DetectedObject(),) * objects)
    relation = Relation("object", "to", "token", Complete())
    schema = Schema([relation])
    data = make_builder(schema)(pair)
    assert relation.key not in data.edge_types
    index = schema.materialize(data)[relation.key].edge_index
    assert {tuple(edge) for edge in index.t().tolist()} == {(o, t) for o in range(objects) for t in range(2)}
    index += 1  # the cached index does not change with it
    assert int(schema.materialize(data)[relation.key].edge_index.sum()) == sum(range(objects)) * 2 + objects


@pytest.mark.parametrize("entities", [(), ((0, 2),), ((0, 1), (0, 3), (2, 3))])
@pytest.mark.parametrize("tokens", ["words", "pieces"])
def test_member(entities: tuple[tuple[int, int], ...], tokens: str) -> None:
    pair = Pair(("Rio", "de", "Janeiro"), entities=entities)
    settings = {"tokenizer": tiny_encoder(hidden_size=8).tokenizer, "tokens": tokens}
    word = edges_of(pair, **settings)["token"].word.tolist()
    expected = {(e, t) for e, (a, b) in enumerate(entities) for t, w in enumerate(word) if a <= w < b}
    assert joined(pair, Relation("entity", "of", "token", Member()), **settings) == expected
    assert joined(pair, Relation("token", "in", "entity", Member()), **settings) == {(t, e) for e, t in expected}


@pytest.mark.parametrize("entities", [(), ((0, 2),), ((0, 1), (0, 2), (2, 3))])
@pytest.mark.parametrize("objects", [0, 1, 3])
@pytest.mark.parametrize("tokens", ["words", "pieces"])
def test_entity_words(entities: tuple[tuple[int, int], ...], objects: int, tokens: str) -> None:
    pair = Pair(("Rio", "de", "Janeiro", "!"), entities=entities, objects=(DetectedObject(),) * objects)
    settings = {"tokenizer": tiny_encoder(hidden_size=8).tokenizer, "tokens": tokens}
    word = edges_of(pair, **settings)["token"].word.tolist()
    inside = [t for t, w in enumerate(word) if any(a <= w < b for a, b in entities)]
    expected = {(o, t) for o in range(objects) for t in inside}
    assert joined(pair, Relation("object", "to", "token", InEntity()), **settings) == expected
    back = joined(pair, Relation("token", "to", "object", InEntity()), **settings)
    assert back == {(t, o) for o, t in expected}


def spatial(pair: Pair, src: str, dst: str) -> dict[tuple[int, int], str]:
    store = edges_of(pair, Relation(src, "around", dst, Spatial()), image_dim=2)[src, "around", dst]
    assert store.edge_attr.shape == (store.edge_index.shape[1], 2)
    names = [SPATIAL_LABELS[label] for label in store.edge_type.tolist()]
    return {(i, j): name for (i, j), name in zip(store.edge_index.t().tolist(), names, strict=True)}


def test_the_image_contains_every_box() -> None:
    objects = (
        DetectedObject(box=(0, 0, 10, 10)),
        DetectedObject(),
        DetectedObject(box=(-3, 50, 104, 60)),  # detectors exceed the image by a pixel or two
        DetectedObject(box=(0, 0, 100, 60)),
        DetectedObject(box=(99, 59, 140, 99)),
    )
    pair = Pair(("a",), size=(100, 60), objects=objects, image_features=torch.zeros(1, 2))
    assert spatial(pair, "image", "object") == {(0, o): "inside" for o in (0, 2, 3, 4)}
    back = spatial(pair, "object", "image")
    # "By default, we think the I includes all the objects", also one as large as the image
    assert back == {(o, 0): "cover" for o in (0, 2, 3, 4)}
    assert spatial(pair, "image", "image") == {}


@pytest.mark.parametrize("size", [None, (100, 60)])
@pytest.mark.parametrize("rows", [0, 1])
def test_no_image_no_edge(size: tuple[int, int] | None, rows: int) -> None:
    pair = Pair(("a",), size=size, objects=(DetectedObject(box=(1, 1, 9, 9)),), image_features=torch.zeros(rows, 2))
    assert len(spatial(pair, "image", "object")) == int(size is not None and rows == 1)
    assert spatial(pair, "object", "object") == {}


def test_rules_refuse_other_node_types() -> None:
    pair = Pair(("a",), id="7", objects=(DetectedObject(),), image_features=torch.zeros(49, 2))
    for kind, text in (
        (Grounded(), "Grounded joins token and object, not token and token"),
        (InEntity(), "InEntity joins token and another node type, not token and token"),
        (Member(), "Member joins entity and token, not token and token"),
        (Spatial(), "Spatial joins object and image, not token and token"),
        (NearestWordOf(), "NearestWordOf joins similar to token, not token to token"),
    ):
        with pytest.raises(ValueError, match=text):
            joined(pair, Relation("token", "x", "token", kind))
    with pytest.raises(ValueError, match="Spatial takes one image node, post '7' has a grid of 49"):
        spatial(pair, "image", "object")


@dataclass(frozen=True)
class SameLabel(EdgeRule):
    """A user's own rule, in one method."""

    def connect(self, data: HeteroData, src: str, dst: str) -> torch.Tensor:
        labels = [obj.label for obj in data.pair.objects]
        return edge_index_from((i, j) for i, a in enumerate(labels) for j, b in enumerate(labels) if a == b)


@dataclass(frozen=True)
class Faulty(EdgeRule):
    """Returns whatever `what` returns."""

    what: Callable[[], Any]
    description = "faulty"

    def connect(self, data: HeteroData, src: str, dst: str) -> Any:
        return self.what()


def near(words: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two similar words for every word with an r in it."""
    word = np.repeat([position for position, text in enumerate(words) if "r" in text], 2).astype(np.int64)
    return np.arange(len(word)) + 7, word, np.linspace(-1, 1, len(word), dtype=np.float32)


@pytest.mark.parametrize("pair", awkward_posts(), ids=lambda pair: pair.id)
@pytest.mark.parametrize("tokens", ["words", "pieces"])
def test_nearest_word_of(pair: Pair, tokens: str) -> None:
    relation = Relation("similar", "augments", "token", NearestWordOf())
    settings = {"tokenizer": tiny_encoder(["in"], hidden_size=8).tokenizer, "tokens": tokens, "nearest_words": near}
    data = edges_of(pair, relation, **settings)
    rows, word, cosines = near(pair.words)
    of_token = data["token"].word.tolist()
    expected = {(sender, of_token.index(position)) for sender, position in enumerate(word)}
    assert joined(pair, relation, **settings) == expected
    assert data["similar"].row.tolist() == rows.tolist()
    assert data["similar"].word.tolist() == word.tolist()
    assert data[relation.key].edge_attr.tolist() == data["similar"].cosine[:, None].tolist()
    assert data["similar"].cosine.tolist() == cosines.tolist()
    bare = edges_of(pair, relation)
    assert (bare["similar"].num_nodes, bare[relation.key].edge_attr.shape) == (0, (0, 1))


def test_nearest_word_of_batched() -> None:
    relation = Relation("similar", "augments", "token", NearestWordOf())
    builder = make_builder(Schema([relation]), nearest_words=near)
    batch = collate(builder.build_all([Pair(("rain", "a", "or")), Pair(("b",)), Pair(("c", "tree"))]))
    assert batch[relation.key].edge_index.tolist() == [[0, 1, 2, 3, 4, 5], [0, 0, 2, 2, 5, 5]]
    assert str(Schema([relation])).endswith("every similar word reaches the token that it resembles.")


def test_custom_rule() -> None:
    pair = Pair(("a",), objects=tuple(DetectedObject(label) for label in "aba"))
    relation = Relation("object", "same_label", "object", SameLabel())
    assert joined(pair, relation) == {(0, 0), (0, 2), (1, 1), (2, 0), (2, 2)}
    assert joined(Pair(("a",)), relation) == set()
    assert str(Schema([relation])).endswith(
        "(object, same_label, object): objects and objects are joined by a custom rule. It cannot reach the tags."
    )


def test_rule_with_types_and_features() -> None:
    made = EdgeSet(edge_index_from([(0, 1), (1, 0)]), torch.tensor([4, 2]), torch.ones(2, 3))
    store = edges_of(Pair(("a", "b")), Relation("token", "x", "token", Faulty(lambda: made)))["token", "x", "token"]
    assert store.edge_type.tolist() == [4, 2]
    assert store.edge_attr.shape == (2, 3)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        ([(0, 1)], r"expected int64 \[2, edges\], as edge_index_from returns, got a list"),
        (None, r"expected int64 \[2, edges\], as edge_index_from returns, got a NoneType"),
        (
            torch.zeros(3, 2, dtype=torch.long),
            r"expected int64 .* as edge_index_from returns, got torch.int64 \[3, 2\]",
        ),
        (
            torch.zeros(2, dtype=torch.long),
            r"expected int64 .* as edge_index_from returns, got torch.int64 \[2\]",
        ),
        (torch.zeros(2, 1), r"expected int64 .* as edge_index_from returns, got torch.float32 \[2, 1\]"),
        (torch.tensor([[0, 2], [0, 0]]), "rows 0 to 2, but 2 token nodes"),
        (torch.tensor([[-1, 0], [0, 0]]), "rows -1 to 0, but 2 token nodes"),
        (torch.tensor([[0, 1], [0, 1]]), "rows 0 to 1, but 1 object nodes"),
        (torch.tensor([[0, 1, 0], [0, 0, 0]]), "an edge occurs twice"),
        (EdgeSet(edge_index_from([(0, 0)]), torch.tensor([1, 2])), "2 rows of edge_type for 1 edges"),
        (EdgeSet(edge_index_from([]), edge_attr=torch.ones(1, 2)), "1 rows of edge_attr for 0 edges"),
    ],
)
def test_invalid_edges(made: Any, text: str) -> None:
    pair = Pair(("a", "b"), id="77", objects=(DetectedObject(),))
    relation = Relation("token", "x", "object", Faulty(lambda: made))
    where = r"Faulty.connect for \(token, x, object\), post '77': "
    with pytest.raises(ValueError, match=where + text):
        edges_of(pair, relation)


def test_a_relation_needs_an_instance_of_a_dataclass() -> None:
    class Bare(EdgeRule):
        def connect(self, data: HeteroData, src: str, dst: str) -> torch.Tensor:
            return edge_index_from([])

    for wrong in (Complete, Bare(), "complete"):
        with pytest.raises(TypeError, match=r"the rule of \(a, x, b\) must be an instance of a frozen dataclass"):
            Relation("a", "x", "b", wrong)


def test_edge_index_from() -> None:
    assert edge_index_from([(1, 2), (3, 4)]).tolist() == [[1, 3], [2, 4]]
    assert edge_index_from([]).shape == (2, 0)
    assert edge_index_from([]).dtype == torch.long
