"""The graph of a post: every store and its values."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import LABELS, SCHEMA, awkward_posts, make_builder, post
from torch_geometric.data import HeteroData

from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.features.text.word_embeddings import Alphabet
from mnergraph.graph import Complete, CreatedNodes, EdgeRule, GraphBuilder, Member, NodeType, Relation, Schema, Windowed
from mnergraph.graph.node_types import CHARACTERS, LABEL_PIECES, PIECES
from mnergraph.labels import LabelSet
from mnergraph.pair import DetectedObject, Pair

PIECES_OF = tiny_encoder(["paris", "in", "rain"], hidden_size=8).tokenizer
EVERYTHING = SCHEMA | Schema([Relation("entity", "of", "token", Member())], nodes=["image", "thought"])
WITH_SPECIALS = LabelSet((*LABELS.tags, "X", "[CLS]", "[SEP]"))


def full(tokens: str = "words") -> GraphBuilder:
    labels = LABELS if tokens == "words" else WITH_SPECIALS
    return make_builder(EVERYTHING, tokenizer=PIECES_OF, labels=labels, tokens=tokens, region_dim=6, image_dim=5)


@pytest.mark.filterwarnings("ignore:The node types")
@pytest.mark.parametrize("pair", awkward_posts(), ids=lambda pair: pair.id)
@pytest.mark.parametrize("tokens", ["words", "pieces"])
def test_every_store_of_every_post(pair: Pair, tokens: str) -> None:
    data = full(tokens)(pair)
    assert data.pair is pair
    assert set(data.node_types) == {*EVERYTHING.nodes, "piece", "label_piece"}
    stored = {relation.key for relation in EVERYTHING if not relation.rule.fully_connected}
    assert set(data.edge_types) == stored | {PIECES, LABEL_PIECES}
    assert data.validate()
    for kind in data.node_types:
        for name, values in data[kind].items():
            assert name == "num_nodes" or len(values) == data[kind].num_nodes, (kind, name)
    objects, image = len(pair.objects), 0 if pair.image_features is None else 1
    assert (data["object"].num_nodes, data["image"].num_nodes) == (objects, image)
    assert (data["entity"].num_nodes, data["thought"].num_nodes) == (0, 0)
    assert data["object"].x.shape == (objects, 6)
    assert data["image"].x.shape == (image, 5)
    if tokens == "words":
        assert data["token"].word.tolist() == list(range(len(pair.words)))
        assert data["token"].starts_word.all()
        assert [LABELS.tags[y] for y in data["token"].y.tolist()] == list(pair.labels)


def test_pieces_point_at_their_words() -> None:
    pair = Pair(("Paris", "zz", "\u200b", "in"))
    data = make_builder(Schema(), tokenizer=PIECES_OF)(pair)
    ids = PIECES_OF(pair.words)
    assert [len(word) for word in ids] == [1, 2, 1, 1]
    assert data["piece"].input_ids.tolist() == [
        *PIECES_OF.start,
        *(piece for word in ids for piece in word),
        *PIECES_OF.end,
    ]
    assert data[PIECES].edge_index.tolist() == [[1, 2, 3, 4, 5], [0, 1, 1, 2, 3]]
    assert ids[2] == (PIECES_OF.unknown,), "an erased word keeps its place"


def test_pieces_as_tokens() -> None:
    pair = Pair(("Paris", "zz", "\u200b"), ("B-LOC", "I-LOC", "O"))
    data = full("pieces")(pair)
    token = data["token"]
    assert token.word.tolist() == [-1, 0, 1, 1, 2, -1]
    assert token.starts_word.tolist() == [False, True, True, False, True, False]
    assert [WITH_SPECIALS.tags[y] for y in token.y.tolist()] == ["[CLS]", "B-LOC", "I-LOC", "X", "O", "[SEP]"]
    assert data[PIECES].edge_index.tolist() == [[*range(6)]] * 2
    unlabelled = full("pieces")(dataclasses.replace(pair, labels=None))
    assert unlabelled["token"].y.tolist() == [-1] * 6


def test_starts_word_of_repeated_words() -> None:
    token = full("pieces")(Pair(("zz", "zz")))["token"]
    assert token.starts_word.tolist() == [False, True, False, True, False, False]


def test_without_tokenizer_labels_or_widths() -> None:
    data = make_builder(EVERYTHING)(post(3, 2))
    assert set(data.node_types) == set(EVERYTHING.nodes)
    assert set(data["token"].keys()) == {"word", "starts_word", "num_nodes"}
    assert set(data["object"].keys()) == {"box", "num_nodes"}
    assert set(data["image"].keys()) == {"num_nodes"}


def test_text_alone() -> None:
    data = make_builder(Schema([Relation("token", "attends", "token", Complete())]), tokenizer=PIECES_OF)(post(3, 2))
    assert set(data.node_types) == {"token", "piece"}
    assert data.edge_types == [PIECES]


def test_objects() -> None:
    region = torch.arange(6)
    pair = Pair(
        ("a",),
        size=(10, 10),
        objects=(
            DetectedObject("a red zz", box=(1, 2, 3, 4), region=region),
            DetectedObject(),
            DetectedObject("in"),
        ),
    )
    data = full()(pair)
    store = data["object"]
    assert store.box[0].tolist() == [1, 2, 3, 4]
    assert store.box[1:].isnan().all()
    assert store.has_x.tolist() == [True, False, False]
    assert store.x.tolist() == [[0, 1, 2, 3, 4, 5], [0] * 6, [0] * 6]
    assert store.x.dtype == torch.float32
    spelled = [[piece for word in PIECES_OF(label.split()) for piece in word] for label in ("a red zz", "", "in")]
    assert data["label_piece"].input_ids.tolist() == [piece for ids in spelled for piece in ids]
    owners = [position for position, ids in enumerate(spelled) for _ in ids]
    assert data[LABEL_PIECES].edge_index.tolist() == [list(range(len(owners))), owners]


def test_classes_of_labels() -> None:
    pair = Pair(("a",), objects=tuple(map(DetectedObject, ("hat", "Dog", "a dog", "DOG", ""))))
    builder = make_builder(EVERYTHING, tokenizer=PIECES_OF, object_classes=("dog", "Hat"))
    assert builder(pair)["object"].class_id.tolist() == [2, 1, 3, 1, 3]
    assert builder(Pair(("a",)))["object"].class_id.shape == (0,)
    assert "class_id" not in full()(pair)["object"]


@pytest.mark.parametrize("tokens", ["words", "pieces"])
def test_placeholder_object(tokens: str) -> None:
    options = {"tokenizer": PIECES_OF, "tokens": tokens, "region_dim": 6, "object_classes": ("dog",)}
    builder = make_builder(EVERYTHING, add_placeholder_object=True, **options)
    for bare in (pair for pair in awkward_posts() if not pair.objects):
        data = builder(bare)
        store = data["object"]
        assert (store.num_nodes, store.class_id.tolist(), store.has_x.tolist()) == (1, [0], [False])
        assert store.box.isnan().all()
        assert (data["label_piece"].num_nodes, data[LABEL_PIECES].edge_index.shape) == (0, (2, 0))
        assert data.pair.objects == ()
        assert make_builder(EVERYTHING, **options)(bare)["object"].num_nodes == 0
    with_one = builder(Pair(("a",), objects=(DetectedObject("dog"),)))["object"]
    assert with_one.class_id.tolist() == [1]


def test_entities_and_grids() -> None:
    pair = Pair(("a", "b"), entities=((0, 1), (0, 2)), image_features=torch.ones(49, 5))
    data = full()(pair)
    assert data["entity"].num_nodes == 2
    assert data["entity", "of", "token"].edge_index.tolist() == [[0, 1, 1], [0, 0, 1]]
    assert data["image"].num_nodes == 49


def test_characters_point_at_their_words() -> None:
    data = make_builder(Schema(), characters=Alphabet("abz"))(Pair(("ab", "", "zAa")))
    assert set(data.node_types) == {"token", "character"}
    assert data["character"].input_ids.tolist() == [1, 2, 0, 3, 0, 1]
    assert data[CHARACTERS].edge_index.tolist() == [[0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 2, 2]]
    assert "character" not in make_builder(Schema())(Pair(("ab",))).node_types, "only if requested"
    with pytest.raises(ValueError, match="characters are those of words, so they can't go with unit='pie"):
        make_builder(Schema(), tokenizer=PIECES_OF, characters=Alphabet("a"), tokens="pieces")


@pytest.mark.parametrize("pair", awkward_posts(), ids=lambda pair: pair.id)
def test_a_sentence_is_one_node(pair: Pair) -> None:
    assert make_builder(Schema(nodes=["sentence"]))(pair)["sentence"].num_nodes == 1


def test_a_schema_may_join_pieces() -> None:
    schema = Schema([Relation("piece", "near", "piece", Windowed(1))])
    data = make_builder(schema, tokenizer=PIECES_OF)(Pair(("in",)))
    assert data["piece"].num_nodes == 3
    assert data["piece", "near", "piece"].edge_index.shape == (2, 7)
    with pytest.raises(ValueError, match="nothing makes the nodes of 'piece': give node_types"):
        GraphBuilder(schema)


def test_graphs_share_no_memory() -> None:
    builder, pair = full(), post(4, 2)
    first = builder(pair)
    expected = {(kind, name): v.clone() for kind, name, v in tensors(builder(pair))}
    for _, _, values in tensors(first):
        values.zero_()
    assert all(torch.equal(v, expected[kind, name]) or v.isnan().any() for kind, name, v in tensors(builder(pair)))


def tensors(data):
    for store in data.stores:
        for name, values in store.items():
            if isinstance(values, torch.Tensor):
                yield store._key, name, values


def test_very_long_post() -> None:
    data = make_builder(Schema())(Pair(("a",) * 5000))
    assert data["token"].word[-1] == 4999


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"labels": ("B-ORG", "O")}, "post '9': label 'B-ORG' is not among the labels O, B-PER"),
        (
            {"objects": (DetectedObject(), DetectedObject(region=torch.ones(4)))},
            r"post '9': the features of object 1 are \[4\], the builder expects \[6\]",
        ),
        (
            {"image_features": torch.ones(49, 4)},
            r"post '9': the features of the image are \[49, 4\], the builder expects \[49, 5\]",
        ),
        (
            {"image_features": torch.ones(5)},
            r"post '9': the features of the image are \[5\], the builder expects \[5, 5\]",
        ),
    ],
)
def test_errors_name_the_post(changes: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        full()(dataclasses.replace(Pair(("a", "b"), id="9"), **changes))


def test_pieces_need_a_tokenizer_and_special_labels() -> None:
    with pytest.raises(ValueError, match="unit='pieces' needs a tokenizer"):
        make_builder(Schema(), tokens="pieces")
    builder = make_builder(Schema(), tokenizer=PIECES_OF, labels=LABELS, tokens="pieces")
    with pytest.raises(ValueError, match=r"post '9': label '\[CLS\]' is not among the labels"):
        builder(Pair(("a",), ("O",), id="9"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"words": ()}, "post '9' has no words"),
        ({"words": ("a", "b"), "labels": ("O",)}, "post '9' has 2 words but 1 labels"),
        (
            {"words": ("a",), "objects": (DetectedObject(span=(0, 2)),)},
            "post '9': span 0:2 leaves its 1 words",
        ),
        ({"words": ("a",), "entities": ((1, 1),)}, "post '9': span 1:1 leaves its 1 words"),
    ],
)
def test_inconsistent_pairs_are_refused(arguments: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Pair(id="9", **arguments)


def test_sentence() -> None:
    builder = make_builder(Schema(nodes=["sentence"]))
    with_size, without_size = (builder(Pair(("a", "b"), size=size))["sentence"] for size in ((40, 30), None))
    assert with_size.image_size.tolist() == [[40, 30]]
    assert without_size.image_size.isnan().all()
    assert without_size.image_size.shape == (1, 2)
    assert with_size.num_nodes == without_size.num_nodes == 1


def test_pooled_image() -> None:
    grid = torch.randn(4, 5)
    for rows, expected in (
        (grid, grid.mean(0, keepdim=True)),
        (grid[:1], grid[:1]),
        (grid[:0], grid[:0]),
        (None, grid[:0]),
    ):
        pair = Pair(("a",), id="9", image_features=rows)
        store = make_builder(Schema(nodes=["image"]), image_dim=5, pool_image=True)(pair)["image"]
        assert torch.equal(store.x, expected)
        assert store.num_nodes == len(expected)
    with pytest.raises(ValueError, match=r"post '9': the features of the image are \[4, 5\], .* \[4, 6\]"):
        make_builder(Schema(nodes=["image"]), image_dim=6, pool_image=True)(Pair(("a",), id="9", image_features=grid))


# --- custom node types


class Hashtags(NodeType):
    """Words that begin with #, with weights from an evidence file."""

    name, evidence_file = "hashtag", "hashtags.jsonl"

    def store(self, pair: Pair) -> dict[str, Any]:
        index = [position for position, word in enumerate(pair.words) if word.startswith("#")]
        scores = pair.extra.get("hashtag", {})
        weight = torch.tensor([scores.get(pair.words[position], 0.0) for position in index])
        return {"word": torch.tensor(index, dtype=torch.long), "x": weight[:, None], "num_nodes": len(index)}

    def describe(self, data: HeteroData) -> list[dict[str, Any]]:
        return [{"label": data.pair.words[position]} for position in data["hashtag"].word.tolist()]

    def parse(self, nodes: Any) -> dict[str, float]:
        return {str(name): float(weight) for name, weight in nodes.items()}

    def missing(self, pair: Pair) -> tuple[str, ...]:
        return () if "hashtag" in pair.extra else ("hashtags",)


@dataclasses.dataclass(frozen=True)
class SameWord(EdgeRule):
    """A hashtag and the token that it is."""

    description = "every {src} and the {dst} that it is"

    def connect(self, data: HeteroData, src: str, dst: str) -> torch.Tensor:
        return torch.stack([torch.arange(data["hashtag"].num_nodes), data["hashtag"].word])


TAGGED = Schema([Relation("hashtag", "is", "token", SameWord())])


def test_custom_node_type() -> None:
    builder = GraphBuilder(TAGGED, [Hashtags()])
    pair = Pair(("a", "#b", "#c"), extra={"hashtag": {"#c": 0.5}})
    data = builder(pair)
    assert data["hashtag"].word.tolist() == [1, 2]
    assert data["hashtag"].x.tolist() == [[0.0], [0.5]]
    assert data["hashtag", "is", "token"].edge_index.tolist() == [[0, 1], [1, 2]]
    assert builder(Pair(("a",)))["hashtag"].x.shape == (0, 1)
    assert (builder.missing(pair), builder.missing(Pair(("a",)))) == ((), ("hashtags",))


def test_evidence_of_a_node_type(tmp_path: Path) -> None:
    file = tmp_path / "hashtags.jsonl"
    file.write_text('{"id": "7", "nodes": {"#c": 0.5}}\n\n{"id": "8", "nodes": {}}\n', encoding="utf-8")
    assert Hashtags().read_evidence(file) == {"7": {"#c": 0.5}, "8": {}}
    for bad in ('{"id": "7"}', '{"id": "7", "nodes": {"#c": "x"}}', "{", '{"id": "7", "nodes": 3}'):
        file.write_text(f'{{"id": "6", "nodes": {{}}}}\n{bad}\n', encoding="utf-8")
        with pytest.raises(ValueError, match=r"hashtags.jsonl:2: .* a line of hashtags.jsonl is .*Hashtags.parse"):
            Hashtags().read_evidence(file)


def test_node_types_without_a_definition_are_refused() -> None:
    with pytest.raises(ValueError, match=r"nothing makes the nodes of 'hashtag': give node_types=.* or CreatedNodes"):
        GraphBuilder(TAGGED)
    with pytest.raises(ValueError, match="the schema has no 'hashtag' nodes; it has token"):
        GraphBuilder(Schema(), [Hashtags()])
    with pytest.raises(ValueError, match="two node types make 'hashtag' nodes"):
        GraphBuilder(TAGGED, [Hashtags(), Hashtags()])
    assert (
        GraphBuilder(Schema(nodes=["hashtag"]), [CreatedNodes("hashtag")]).build(Pair(("a",)))["hashtag"].num_nodes == 0
    )
