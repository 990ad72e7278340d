"""MGCMT against implementations of its paper and its authors' code that share only the weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchcrf
from equations import scatter, transformer
from released import check, prepare
from released_mgcmt import HEADS, HIDDEN, IMAGE, VECTOR, WIDTH, Released, parts
from torch import Tensor, nn
from torch.nn import functional as F

from mnergraph.features.text.encoder import TextEncoderModel, tiny_encoder
from mnergraph.features.text.nearest_words import NearestWords
from mnergraph.features.vision.detectors import COCO_CLASSES as COCO
from mnergraph.graph import collate
from mnergraph.labels import LabelSet
from mnergraph.models import MGCMT, Tagger
from mnergraph.models.mgcmt.layers import ObjectClasses
from mnergraph.models.mgcmt.model import AUGMENTS, SCHEMA, TOKENS
from mnergraph.nn.layers.transformer import TransformerLayer
from mnergraph.nn.state import GraphState
from mnergraph.pair import DetectedObject, Pair

LABELS = LabelSet.from_types(["MISC", "PER", "ORG", "LOC"])
WORDS = ("Bob", "and", "Annabel", "saw", "Paris", "!")
TABLE_WORDS = ("Bob", "Annabel", "Paris", "Rome", "Tom", "Ann", "Oslo", "and")
TABLE = dict(zip(TABLE_WORDS, np.random.default_rng(0).normal(size=(8, VECTOR)).astype("f4"), strict=True))
#: The paper's tables 4 to 6, by what is left out.
ABLATIONS: dict[str, dict[str, Any]] = {
    "SemAug": {"ablate": ["w/o SemAug"], "nearest_words": None},
    "TextObj": {"ablate": ["w/o TextObj"]},
    "TextImg": {"ablate": ["w/o TextImg"], "image_dim": None},
    "ESD": {"ablate": ["w/o ESD"]},
    "basic-level": {"ablate": ["w/o basic-level"]},
    "super-level": {"ablate": ["w/o super-level"]},
    "uni-text": {"ablate": ["w/o uni-text"]},
    "uni-img": {"ablate": ["w/o uni-img"]},
    "uni-obj": {"ablate": ["w/o uni-obj"]},
}
EVERY = {"nothing": {}, **ABLATIONS, "labels as features": {"label_features": True}}
each = pytest.mark.parametrize("options", EVERY.values(), ids=EVERY)
both_variants = pytest.mark.parametrize("variant", ["paper", "released"])


def encoder() -> TextEncoderModel:
    torch.manual_seed(2)
    return tiny_encoder(["bob", "saw", "paris"], hidden_size=WIDTH, num_layers=1, heads=2)


def similar(**options: Any) -> NearestWords:
    vectors = torch.tensor(np.stack(list(TABLE.values())))
    return NearestWords.from_table(TABLE_WORDS, vectors, WORDS, progress=False, **options)


def mgcmt(seed: int = 0, **options: Any) -> MGCMT:
    """A small MGCMT with random weights everywhere outside the encoder."""
    small = {"image_dim": IMAGE, "nearest_words": similar(), "num_heads": HEADS, "intermediate_size": HIDDEN}
    model = MGCMT(encoder(), LABELS, **(small | options)).eval()
    for part in model.layers[1:]:
        padding_row = part.table.weight[0].clone() if isinstance(part, ObjectClasses) else None
        scatter(part, seed)
        if padding_row is not None and part.table.padding_idx == 0:
            part.table.weight.data[0] = padding_row
    return model


def run(model: Tagger, posts: list[Pair]) -> GraphState:
    return model(collate(model.builder.build_all(posts)))


def post(start: int, stop: int, id: str, grid: int, *objects: str) -> Pair:
    tags = ("B-PER", "O", "B-PER", "O", "B-LOC", "O")
    image = torch.randn(grid, IMAGE) if grid else None
    return Pair(
        WORDS[start:stop], tags[start:stop], id, image_features=image, objects=tuple(map(DetectedObject, objects))
    )


@pytest.fixture
def posts() -> list[Pair]:
    torch.manual_seed(3)
    return [
        post(0, 6, "all", 9, "person", "dog", "a tall tower", "Person"),
        post(2, 5, "no object", 4),
        post(0, 1, "one of each", 1, "tv"),
        post(0, 4, "no image", 0, "hot dog", ""),
        post(3, 4, "one word without vector", 0),
    ]


# --- the paper, equations 1 to 15 --------------------------------------------------------------------------


def paper(model: Tagger, post: Pair) -> tuple[Tensor, Tensor]:
    """Emissions of one post's tags [words, labels] and spans [words, 3], equation by equation."""
    part = parts(model)
    e = list(_words(model, post))
    if "HeteroLayer" in part:
        # eq. 4
        linear = part["HeteroLayer"].residual["token"].module
        augmented = zip(e, map(_augmentation, post.words), strict=True)
        e = [linear.weight @ torch.cat([e_b, e_a]) + linear.bias for e_b, e_a in augmented]
    # eqs. 9-12
    h = transformer(part["TransformerLayer token"], e, e) if "TransformerLayer token" in part else e
    path_states = []
    if "ImageEncoder image" in part:
        # eq. 6
        linear = part["ImageEncoder image"].linear
        r = [linear.weight @ row + linear.bias for row in ([] if post.image_features is None else post.image_features)]
        path_states.append(_path(part, "image", "TextImg", h, r))
    if "ObjectClasses" in part or "ObjectEncoder" in part:
        path_states.append(_path(part, "object", "TextObj", h, list(_objects(model, post))))
    s = path_states[0]
    if len(path_states) == 2:
        # eq. 15
        linear = part["FeatureModule fused"].module.module[1]
        s = [linear.weight @ torch.cat([v, o]) + linear.bias for v, o in zip(*path_states, strict=True)]
    emit = part["TaggingScores tags"].linear
    tags = [emit.weight @ torch.cat([h_i, s_i]) + emit.bias for h_i, s_i in zip(h, s, strict=True)]
    if "TaggingScores spans" not in part:
        return torch.stack(tags), torch.zeros(0, 3)
    # eq. 18
    emit = part["TaggingScores spans"].linear
    spans = [emit.weight @ a + emit.bias for a in transformer(part["TransformerLayer span_states"], h, h)]
    return torch.stack(tags), torch.stack(spans)


def _words(model: Tagger, post: Pair) -> Iterator[Tensor]:
    """Eq. 1: E_B, the sum of a word's pieces."""
    encoded = model.encoder.tokenizer.tokenizer([list(post.words)], is_split_into_words=True, return_tensors="pt")
    states, owner = model.encoder.model(**encoded).last_hidden_state[0], encoded.word_ids(0)
    for word in range(len(post.words)):
        yield sum((state for state, own in zip(states, owner, strict=True) if own == word), torch.zeros(WIDTH))


def _augmentation(word: str) -> Tensor:
    """Eqs. 2-3: E_A, from the table itself."""
    if word not in TABLE:
        return torch.zeros(VECTOR)
    own = TABLE[word]
    cosines = {
        other: float(own @ vector / np.linalg.norm(own) / np.linalg.norm(vector))
        for other, vector in TABLE.items()
        if other != word
    }
    nearest = sorted(cosines, key=lambda other: -cosines[other])[:4]
    weights = np.exp([cosines[other] for other in nearest])
    found = sum(w / weights.sum() * TABLE[other] for w, other in zip(weights, nearest, strict=True))
    return torch.tensor(found, dtype=torch.float32)


def _objects(model: Tagger, post: Pair) -> Iterator[Tensor]:
    """Eqs. 7-8, or the embedding of the label; one of zeros where there is none (footnote 2)."""
    part = parts(model)
    if not post.objects:
        yield torch.zeros(WIDTH)
    for obj in post.objects:
        if "ObjectClasses" in part:
            one_hot = torch.zeros(81)
            one_hot[COCO.index(obj.label.lower()) if obj.label.lower() in COCO else 80] = 1.0
            yield one_hot @ part["ObjectClasses"].table.weight[1:]
        elif obj.label:
            ids = model.encoder.tokenizer.tokenizer(obj.label, add_special_tokens=False)["input_ids"]
            mean = model.encoder.model.get_input_embeddings().weight[ids].mean(0)
            objects = part["ObjectEncoder"]
            yield objects.label(objects.norm(mean))
        else:
            yield torch.zeros(WIDTH)


def _path(part: dict[str, nn.Module], kind: str, out: str, h: list[Tensor], side: list[Tensor]) -> list[Tensor]:
    """TextImg or TextObj: S_v or S_o."""
    if f"TransformerLayer {kind}" in part:
        # eqs. 9-12
        side = transformer(part[f"TransformerLayer {kind}"], side, side)
    levels = []
    if f"TransformerLayer {out}" in part:
        levels.append(transformer(part[f"TransformerLayer {out}"], h, side))
    if f"CoAttention {out}" in part:
        to_other, to_words = part[f"CoAttention {out}"]
        levels.append(transformer(to_words, h, transformer(to_other, side, h)))
    if len(levels) == 1:
        return levels[0]
    # eqs. 13-14
    gate, found = part[f"FeatureModule {out}"].module, []
    for s_1, s_2 in zip(*levels, strict=True):
        mu = 1 / (1 + torch.exp(-(gate.a.weight @ s_1 + gate.b.weight @ s_2 + gate.a.bias)))
        found.append(mu * s_1 + (1 - mu) * s_2)
    return found


def nll(crf: nn.Module, names: list[str], scores: Tensor, gold: list[str]) -> Tensor:
    """-log P of one post's labels (eqs. 16-18), by pytorch-crf."""
    theirs = torchcrf.CRF(len(names), batch_first=True)
    theirs.load_state_dict(crf.state_dict())
    whole = torch.ones(1, len(gold), dtype=torch.bool)
    return -theirs(scores[None], torch.tensor([[names.index(tag) for tag in gold]]), whole)


@torch.no_grad()
@each
def test_paper(posts: list[Pair], options: dict[str, Any]) -> None:
    model = mgcmt(span_weight=0.7, **options)
    graph = run(model, posts)
    expected = [paper(model, post) for post in posts]
    found = graph.emissions
    torch.testing.assert_close(found["tags"], torch.cat([tags for tags, _ in expected]), rtol=1e-5, atol=1e-5)
    losses = [
        nll(model.heads["tags"].decoder, list(LABELS), tags, list(post.labels or ()))
        for post, (tags, _) in zip(posts, expected, strict=True)
    ]
    if "w/o ESD" not in options.get("ablate", ()):
        spans = [spans for _, spans in expected]
        torch.testing.assert_close(found["spans"], torch.cat(spans), rtol=1e-5, atol=1e-5)
        scorer = model.heads["spans"].decoder
        # eq. 19
        losses = [
            loss + 0.7 * nll(scorer, ["O", "B", "I"], scores, [tag[0] for tag in post.labels or ()])
            for loss, scores, post in zip(losses, spans, posts, strict=True)
        ]
    torch.testing.assert_close(model.loss(graph), torch.stack(losses).mean(), rtol=1e-5, atol=1e-4)


# --- similar words and object labels --------------------------------------------------------------------


@both_variants
def test_similar_words_are_joined_to_the_first_piece_of_their_word(posts: list[Pair], variant: str) -> None:
    model = mgcmt(variant=variant)
    data = model.builder(posts[0])
    token, near = data["token"], data["similar"]
    joined: dict[str, list[tuple[str, float]]] = {}
    for sender, receiver in data[AUGMENTS].edge_index.t().tolist():
        assert token.starts_word[receiver]
        name, cosine = model.nearest_words.names[int(near.row[sender])], float(data[AUGMENTS].edge_attr[sender])
        joined.setdefault(WORDS[int(token.word[receiver])], []).append((name, cosine))
    assert joined == {word: model.nearest_words.neighbors(word) for word in WORDS if word in TABLE}


@both_variants
def test_similar_words_are_saved_with_the_model(posts: list[Pair], variant: str, tmp_path: Path) -> None:
    model = mgcmt(variant=variant)
    assert not [name for name in model.state_dict() if "vectors" in name]
    assert not parts(model)["NearestWordVectors"].vectors.requires_grad
    model.save_pretrained(tmp_path)
    again = MGCMT.from_pretrained(tmp_path)
    # bob: in the table in lower case only; Oslo: in the table, not in the vocabulary
    new = [*posts, Pair(("bob", "Oslo", "Zzz", "Annabel"), id="new", image_features=torch.randn(2, IMAGE))]
    assert torch.equal(run(again, new).emissions["tags"], run(model, new).emissions["tags"])
    assert run(model, new[-1:]).layouts["similar"].num_nodes == 4
    # saving over another model leaves no file of it
    mgcmt(ablate=["w/o SemAug"]).save_pretrained(tmp_path)
    assert AUGMENTS not in Tagger.from_pretrained(tmp_path).schema.relations


def test_classes(posts: list[Pair]) -> None:
    model = mgcmt()
    ids = [model.builder(post)["object"].class_id.tolist() for post in posts]
    assert ids == [[1, 17, 81, 1], [0], [63], [53, 81], [0]]
    assert COCO[:2] == ("person", "bicycle")
    assert len(COCO) == 80


@both_variants
def test_placeholder_object(posts: list[Pair], variant: str) -> None:
    model = mgcmt(variant=variant).train()
    table = parts(model)["ObjectClasses"].table
    model.loss(run(model, [posts[1], posts[4]])).backward()
    has_gradient = table.weight.grad.any(1).tolist()
    assert has_gradient == [variant == "released"] + [False] * 81
    assert bool(table.weight[0].any()) == (variant == "released")


@both_variants
def test_labels_in_free_text(posts: list[Pair], variant: str) -> None:
    model = mgcmt(variant=variant, label_features=True)
    assert "class_id" not in model.builder(posts[0])["object"]
    named = [replace(posts[0], objects=(DetectedObject(label),)) for label in ("a tall tower", "a small tower", "dog")]
    tags = [run(model, [post]).emissions["tags"] for post in named]
    assert not torch.allclose(tags[0], tags[1], atol=1e-4)
    by_class = mgcmt(variant=variant)
    tags = [run(by_class, [post]).emissions["tags"] for post in named]
    assert torch.equal(tags[0], tags[1])
    assert not torch.allclose(tags[0], tags[2], atol=1e-4)


# --- ablations ---------------------------------------------------------------------------------------------


def ends(kind: str) -> set[tuple[str, str, str]]:
    return {(kind, "attends", kind), (kind, "guides", "token"), ("token", "guides", kind)}


def path(kind: str, out: str) -> set[str]:
    return {f"TransformerLayer {kind}", f"TransformerLayer {out}", f"CoAttention {out}", f"FeatureModule {out}"}


#: The parts and the relations that each ablation removes, from the paper form.
REMOVED: dict[str, tuple[set[str], set[tuple[str, str, str]]]] = {
    "SemAug": ({"NearestWordVectors", "HeteroLayer"}, {AUGMENTS}),
    "TextObj": ({"ObjectClasses", "FeatureModule fused", *path("object", "TextObj")}, ends("object")),
    "TextImg": ({"ImageEncoder image", "FeatureModule fused", *path("image", "TextImg")}, ends("image")),
    "ESD": ({"TransformerLayer span_states", "TaggingScores spans"}, set()),
    "basic-level": (
        {f"{kind} {out}" for kind in ("TransformerLayer", "FeatureModule") for out in ("TextImg", "TextObj")},
        set(),
    ),
    "super-level": (
        {f"{kind} {out}" for kind in ("CoAttention", "FeatureModule") for out in ("TextImg", "TextObj")},
        {("token", "guides", "image"), ("token", "guides", "object")},
    ),
    "uni-text": ({"TransformerLayer token"}, set()),
    "uni-img": ({"TransformerLayer image"}, {("image", "attends", "image")}),
    "uni-obj": ({"TransformerLayer object"}, {("object", "attends", "object")}),
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablation_removes_only_the_named_parts(name: str) -> None:
    full, without = mgcmt(), mgcmt(**ABLATIONS[name])
    assert full.schema == SCHEMA
    assert parts(without).keys() <= parts(full).keys()
    relations = set(full.schema.relations) - set(without.schema.relations)
    assert (parts(full).keys() - parts(without).keys(), relations) == REMOVED[name]
    assert set(without.heads) == ({"tags"} if name == "ESD" else {"tags", "spans"})


def neutral(name: str, full: MGCMT) -> None:
    """Sets the parts that the ablation removes so that they have no effect."""
    part, one, none = parts(full), torch.eye(WIDTH), torch.zeros(WIDTH, WIDTH)
    if name == "SemAug":
        linear = part["HeteroLayer"].residual["token"].module
        linear.weight.copy_(torch.cat([one, torch.zeros(WIDTH, VECTOR)], 1))
        linear.bias.zero_()
    if name in ("TextObj", "TextImg"):
        linear = part["FeatureModule fused"].module.module[1]
        linear.weight.copy_(torch.cat([one, none] if name == "TextObj" else [none, one], 1))
        linear.bias.zero_()
    if name in ("basic-level", "super-level"):
        for out in ("TextImg", "TextObj"):
            gate = part[f"FeatureModule {out}"].module
            gate.a.weight.zero_()
            gate.b.weight.zero_()
            gate.a.bias.fill_(-50.0 if name == "basic-level" else 50.0)


@torch.no_grad()
@pytest.mark.parametrize("name", ["SemAug", "TextObj", "TextImg", "ESD", "basic-level", "super-level"])
def test_ablation_equals_the_full_model_with_neutral_parts(posts: list[Pair], name: str) -> None:
    """With equal weights it is the full model in which what it names has no effect."""
    full, without = mgcmt(), mgcmt(1, **ABLATIONS[name])
    for key, part in parts(without).items():
        part.load_state_dict(parts(full)[key].state_dict())
    found = run(without, posts).emissions
    whole = run(full, posts).emissions
    assert torch.equal(whole["tags"], found["tags"]) == (name == "ESD")
    neutral(name, full)
    for task, scores in found.items():
        torch.testing.assert_close(run(full, posts).emissions[task], scores, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_ablated_path_does_not_use_its_features(posts: list[Pair]) -> None:
    assert "image" not in mgcmt(ablate=["w/o TextImg"]).builder.node_types
    without_images = [replace(post, image_features=None) for post in posts]
    bare = [replace(post, objects=()) for post in posts]
    for options, changed in (({"ablate": ["w/o TextImg"]}, without_images), ({"ablate": ["w/o TextObj"]}, bare)):
        model, full = mgcmt(**options), mgcmt()
        assert torch.equal(run(model, posts).emissions["tags"], run(model, changed).emissions["tags"])
        assert not torch.equal(run(full, posts).emissions["tags"], run(full, changed).emissions["tags"])


def test_removing_all_image_input_is_refused() -> None:
    with pytest.raises(ValueError, match="TextImg reads image features: give image_dim"):
        mgcmt(image_dim=None)
    with pytest.raises(ValueError, match="SemAug reads nearest words: give nearest_words"):
        mgcmt(nearest_words=None)
    for ablate in (["w/o TextImg", "w/o TextObj"], ["w/o basic-level", "w/o super-level"]):
        with pytest.raises(ValueError, match="nothing of the image is left: take BERT-CRF"):
            mgcmt(ablate=ablate)


@both_variants
@each
def test_every_parameter_of_an_ablation_has_a_gradient(
    posts: list[Pair], options: dict[str, Any], variant: str
) -> None:
    model = mgcmt(variant=variant, fusion_dropout=0.0, dropout=0.0, **options).train()
    model.loss(run(model, posts)).backward()
    still = [
        name
        for name, weight in model.named_parameters()
        if not name.endswith("key.bias") and (weight.grad is None or not weight.grad.any())
    ]
    assert not still


# --- the authors' code -------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("seed", [None, 4], ids=["unknown words have none", "unknown words at random"])
def test_released(seed: int | None) -> None:
    torch.manual_seed(5)
    object_labels = (("person", "dog"), (), ("toothbrush",) * 5, ("cat", "person", "tv"))
    posts = [post(start, 6, str(start), 49, *labels) for start, labels in enumerate(object_labels)]
    found = similar(seed=seed)
    model = mgcmt(variant="released", nearest_words=found, fusion_dropout=None)
    theirs = Released(model.encoder.model).eval()
    for name, part in theirs.named_children():
        if name != "text":
            scatter(part)
    for weight in (weight for name, weight in theirs.named_parameters(recurse=False) if name):
        nn.init.normal_(weight, std=0.3)
    theirs.copy_weights_to(model)

    ready = prepare(model, posts)
    augmentation = torch.zeros(*ready.ids.shape, VECTOR)
    objects = torch.zeros(len(posts), 5, dtype=torch.long)
    for row, pair in enumerate(posts):
        for word, text in enumerate(pair.words):
            vector = _augmentation(text)
            if text not in TABLE and seed is not None:
                vector = found.vectors[found.names.index(text)]
                assert vector.abs().max() <= (3 / VECTOR) ** 0.5
            augmentation[row, ready.words[row].index(word)] = vector
        for index, obj in enumerate(pair.objects):
            objects[row, index] = 1 + COCO.index(obj.label)
    grid = torch.stack([pair.image_features for pair in posts if pair.image_features is not None])

    main, aux = theirs(ready.ids, ready.mask, augmentation, grid, objects)
    check(model, posts, ready, theirs, main, aux)


def test_released_variant_has_layers_of_bert() -> None:
    text = encoder()
    before = {name: weight.clone() for name, weight in text.model.named_parameters()}
    model = MGCMT(text, LABELS, image_dim=300, nearest_words=similar(), num_heads=HEADS, variant="released")
    assert all(torch.equal(weight, before[name]) for name, weight in text.model.named_parameters())
    blocks = [part for part in model.modules() if isinstance(part, TransformerLayer)]
    assert len(blocks) == 2 + 4 + 6
    assert {part.feed_forward.activation for part in blocks} == {F.gelu}
    norms = [part for part in model.layers[1:].modules() if isinstance(part, nn.LayerNorm)]
    assert {part.eps for part in norms} == {1e-12}


def test_hyperparameters_of_every_variant() -> None:
    for variant, inside in (("paper", {0.0, 0.1}), ("released", {0.0, 0.1, 0.5})):
        model = MGCMT(encoder(), LABELS, image_dim=IMAGE, nearest_words=similar(), num_heads=HEADS, variant=variant)  # type: ignore[arg-type]
        blocks = [part for part in model.modules() if isinstance(part, TransformerLayer)]
        assert len(blocks) == (10 if variant == "paper" else 12)
        assert {part.feed_forward.inner.out_features for part in blocks} == {4 * WIDTH}
        assert {part.p for part in model.layers.modules() if isinstance(part, nn.Dropout)} == inside
        assert model.heads["spans"].weight == 0.5
        assert (model.builder.node_types["token"].unit, model.layers[0].pooling) == (
            ("words", "sum") if variant == "paper" else ("pieces", "first")
        )
        assert [relation.key for relation in model.schema][:2] == [TOKENS, AUGMENTS]
