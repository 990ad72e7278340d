"""UMT against implementations of its paper and its authors' code that share only the weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torchcrf
from equations import scatter, transformer
from released import check, prepare
from released_umt import HEADS, HIDDEN, IMAGE, WIDTH, Released, parts
from torch import Tensor, nn
from torch.nn import functional as F

from mnergraph.features.text.encoder import TextEncoderModel, tiny_encoder
from mnergraph.graph import collate
from mnergraph.labels import LabelSet
from mnergraph.models import MTBERTCRF, UMT, Tagger
from mnergraph.models.umt import RELEASED, SCHEMA, TO_IMAGE, TO_TOKENS, TOKENS, UMTVariant
from mnergraph.nn.heads.tagging import LabelTransfer
from mnergraph.nn.layers.transformer import TransformerLayer
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair

LABELS = LabelSet.from_types(["MISC", "PER", "ORG", "LOC"])
SPANS = ["O", "B", "I"]
#: The paper's table 3, its first line apart, which is MT-BERT-CRF.
ABLATIONS: list[dict[str, Any]] = [
    {},
    {"variant": UMTVariant(conversion_matrix="fixed")},
    {"ablate": ["w/o Conversion Matrix"]},
    {"ablate": ["w/o Image-Aware WR"]},
    {"ablate": ["w/o Visual Gate"]},
    {"ablate": ["w/o Conversion Matrix", "w/o Image-Aware WR", "w/o Visual Gate"]},
]


def encoder() -> TextEncoderModel:
    torch.manual_seed(2)
    return tiny_encoder(["bob", "saw", "paris"], hidden_size=WIDTH, num_layers=1, heads=2)


def umt(seed: int = 0, **options: Any) -> UMT:
    """A small UMT with random weights everywhere outside the encoder, the conversion matrix apart."""
    model = UMT(encoder(), LABELS, image_dim=IMAGE, num_heads=HEADS, intermediate_size=HIDDEN, **options).eval()
    scatter(nn.ModuleList(part for part in model.layers[1:] if not isinstance(part, LabelTransfer)), seed)
    return model


def run(model: Tagger, posts: list[Pair]) -> GraphState:
    return model(collate(model.builder.build_all(posts)))


@pytest.fixture
def posts() -> list[Pair]:
    torch.manual_seed(3)
    words = ("Bob", "and", "Ann", "saw", "New", "York")
    tags = ("B-PER", "O", "B-PER", "O", "B-LOC", "I-LOC")
    return [
        Pair(words, tags, "grid", image_features=torch.randn(9, IMAGE)),
        Pair(words[3:], tags[3:], "one vector", image_features=torch.randn(1, IMAGE)),
        Pair(words[:1], tags[:1], "one word", image_features=torch.randn(4, IMAGE)),
        Pair(words[2:], tags[2:], "no image"),
    ]


# --- the paper, equations 1 to 7 ---------------------------------------------------------------------------


def paper(model: Tagger, post: Pair) -> tuple[Tensor, Tensor | None]:
    """Emissions of one post's tags [words, labels] and spans [words, 3], equation by equation."""
    part = parts(model)
    tokenizer = model.encoder.tokenizer.tokenizer
    encoded = tokenizer([list(post.words)], is_split_into_words=True, return_tensors="pt")
    states, owner = model.encoder.model(**encoded).last_hidden_state[0], encoded.word_ids(0)
    c = [states[owner.index(word)] for word in range(len(post.words))]
    linear = part["ImageEncoder image"].linear
    u = [] if post.image_features is None else list(post.image_features)
    v = [linear.weight @ row + linear.bias for row in u]

    r = transformer(part["TransformerLayer token"], c, c)
    if "CoAttention" in part:
        to_image, to_words = part["CoAttention"]
        # eqs. 1-2
        p = transformer(to_image, v, r)
        a = transformer(to_words, r, p)
    else:
        a = r
    q = transformer(part["TransformerLayer word-aware image"], r, v)
    b = q
    if "FeatureModule word-aware image" in part:
        # eq. 3, with the bias that footnote 1 leaves unwritten
        gate = part["FeatureModule word-aware image"].module
        g = [gate.a.weight @ a_i + gate.b.weight @ q_i + gate.a.bias for a_i, q_i in zip(a, q, strict=True)]
        b = [q_i / (1 + torch.exp(-g_i)) for g_i, q_i in zip(g, q, strict=True)]
    # eq. 6
    emit = part["TaggingScores tags"].linear
    tags = [
        [
            float(emit.weight[y] @ torch.cat([a_i, b_i]) + emit.bias[y])
            for y in range(len(model.labels))
        ]
        for a_i, b_i in zip(a, b, strict=True)
    ]  # fmt: skip
    if "TaggingScores spans" not in part:
        return torch.tensor(tags), None
    # section 2.4
    t = transformer(part["TransformerLayer span_states"], c, c)
    emit = part["TaggingScores spans"].linear
    spans = [[float(emit.weight[z] @ t_i + emit.bias[z]) for z in range(len(SPANS))] for t_i in t]
    if "LabelTransfer" in part:
        # eq. 7: every span label adds to the tags that it can become
        matrix = part["LabelTransfer"].matrix
        for word, scores in enumerate(spans):
            for z, score in enumerate(scores):
                for y in range(len(model.labels)):
                    tags[word][y] += score * float(matrix[z, y])
    return torch.tensor(tags), torch.tensor(spans)


def nll(crf: nn.Module, tags: tuple[str, ...], scores: Tensor, gold: list[str]) -> Tensor:
    """-log P of one post's labels (eqs. 4-5), by pytorch-crf."""
    theirs = torchcrf.CRF(len(tags), batch_first=True)
    theirs.load_state_dict(crf.state_dict())
    whole = torch.ones(1, len(gold), dtype=torch.bool)
    return -theirs(scores[None], torch.tensor([[tags.index(tag) for tag in gold]]), whole)


@torch.no_grad()
@pytest.mark.parametrize("options", ABLATIONS, ids=str)
def test_paper(posts: list[Pair], options: dict[str, Any]) -> None:
    model = umt(span_weight=0.7, **options)
    if "LabelTransfer" in parts(model):
        # as it might be after training
        parts(model)["LabelTransfer"].matrix.add_(torch.randn(3, 9) * 0.3)
    graph = run(model, posts)
    expected = [paper(model, post) for post in posts]
    tags, spans = (torch.cat([scores[which] for scores in expected]) for which in (0, 1))
    torch.testing.assert_close(graph.emissions["tags"], tags, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(graph.emissions["spans"], spans, rtol=1e-5, atol=1e-5)
    losses = [
        nll(model.heads["tags"].decoder, LABELS.tags, tags, list(post.labels))
        + 0.7 * nll(model.heads["spans"].decoder, tuple(SPANS), spans, [tag[0] for tag in post.labels])
        for post, (tags, spans) in zip(posts, expected, strict=True)
    ]
    torch.testing.assert_close(model.loss(graph), torch.stack(losses).mean(), rtol=1e-5, atol=1e-4)


@torch.no_grad()
def test_mt_bert_crf(posts: list[Pair]) -> None:
    model = MTBERTCRF(encoder(), LABELS, image_dim=IMAGE, num_heads=HEADS, intermediate_size=HIDDEN).eval()
    scatter(model.layers[1:])
    graph = run(model, posts)
    expected = [paper(model, post)[0] for post in posts]
    torch.testing.assert_close(graph.emissions["tags"], torch.cat(expected), rtol=1e-5, atol=1e-5)
    losses = [
        nll(model.heads["tags"].decoder, LABELS.tags, scores, list(post.labels))
        for post, scores in zip(posts, expected, strict=True)
    ]
    torch.testing.assert_close(model.loss(graph), torch.stack(losses).mean(), rtol=1e-5, atol=1e-4)


# --- ablations ---------------------------------------------------------------------------------------------


def removed_parts(model: Tagger) -> set[str]:
    """The parts of UMT that a model does not have; it must have no others."""
    assert parts(model).keys() <= parts(umt()).keys()
    return parts(umt()).keys() - parts(model).keys()


def copy_weights_to(full: Tagger, to: Tagger) -> None:
    """Gives a model the weights of all parts that it has."""
    for name, part in parts(to).items():
        part.load_state_dict(parts(full)[name].state_dict())


@torch.no_grad()
def test_without_conversion_matrix_spans_do_not_affect_tags(posts: list[Pair]) -> None:
    full, without = umt(), umt(1, ablate=["w/o Conversion Matrix"])
    assert removed_parts(without) == {"LabelTransfer"}
    copy_weights_to(full, without)
    assert not torch.allclose(run(full, posts).emissions["tags"], run(without, posts).emissions["tags"])
    parts(full)["LabelTransfer"].matrix.zero_()
    for task in ("tags", "spans"):
        torch.testing.assert_close(run(full, posts).emissions[task], run(without, posts).emissions[task])
    assert without.schema == SCHEMA


@torch.no_grad()
def test_without_visual_gate_equals_an_open_gate(posts: list[Pair]) -> None:
    full, without = umt(), umt(1, ablate=["w/o Visual Gate"])
    assert removed_parts(without) == {"FeatureModule word-aware image"}
    copy_weights_to(full, without)
    assert not torch.allclose(run(full, posts).emissions["tags"], run(without, posts).emissions["tags"])
    gate = parts(full)["FeatureModule word-aware image"].module
    for weight in gate.parameters():
        weight.zero_()
    gate.a.bias.fill_(50.0)
    for task in ("tags", "spans"):
        torch.testing.assert_close(run(full, posts).emissions[task], run(without, posts).emissions[task])
    assert without.schema == SCHEMA


@torch.no_grad()
def test_without_image_aware_words_uses_text_states(posts: list[Pair]) -> None:
    full, without = umt(), umt(1, ablate=["w/o Image-Aware WR"])
    assert removed_parts(without) == {"CoAttention"}
    copy_weights_to(full, without)
    torch.testing.assert_close(run(full, posts).emissions["spans"], run(without, posts).emissions["spans"])
    assert not torch.allclose(run(full, posts).emissions["tags"], run(without, posts).emissions["tags"])
    # words still attend to the image, the image no longer attends to the words
    assert list(without.schema.relations) == [TOKENS, TO_TOKENS]
    assert list(full.schema.relations) == [TOKENS, TO_TOKENS, TO_IMAGE]
    other = [
        replace(post, image_features=None if post.image_features is None else post.image_features + 1) for post in posts
    ]
    changed = run(without, other).emissions["tags"] != run(without, posts).emissions["tags"]
    assert changed.any(1).tolist() == [post.image_features is not None for post in posts for _ in post.words]


@torch.no_grad()
def test_without_span_detection_it_is_mt_bert_crf(posts: list[Pair]) -> None:
    full = umt(ablate=["w/o Conversion Matrix"])
    without = MTBERTCRF(encoder(), LABELS, image_dim=IMAGE, num_heads=HEADS, intermediate_size=HIDDEN).eval()
    assert removed_parts(without) == {"LabelTransfer", "TaggingScores spans", "TransformerLayer span_states"}
    assert set(without.heads) == {"tags"}
    copy_weights_to(full, without)
    found = run(without, posts).emissions
    assert found.keys() == {"tags"}
    torch.testing.assert_close(found["tags"], run(full, posts).emissions["tags"], rtol=0, atol=0)
    assert without.schema == full.schema


@torch.no_grad()
@pytest.mark.parametrize("further", [[], ["w/o Conversion Matrix"]])
def test_ablation_of_span_detection_is_mt_bert_crf(posts: list[Pair], further: list[str]) -> None:
    torch.manual_seed(1)
    ablated = UMT(encoder(), LABELS, image_dim=IMAGE, num_heads=HEADS, ablate=["w/o ESD Module", *further]).eval()
    torch.manual_seed(1)
    plain = MTBERTCRF(encoder(), LABELS, image_dim=IMAGE, num_heads=HEADS).eval()
    plain.load_state_dict(ablated.state_dict())
    assert plain.schema == ablated.schema
    assert plain.heads.keys() == ablated.heads.keys() == {"tags"}
    graph, expected = run(ablated, posts), run(plain, posts)
    assert torch.equal(graph.emissions["tags"], expected.emissions["tags"])
    assert torch.equal(ablated.loss(graph), plain.loss(expected))


def test_conversion_matrix() -> None:
    """Every B-T gets a quarter of B, every I-T a quarter of I, O all of O, and nothing else anything."""
    for options, learned, released in (
        ({}, True, False),
        ({"variant": UMTVariant(conversion_matrix="fixed")}, False, False),
        ({"variant": "released"}, False, True),
        ({"variant": replace(RELEASED, conversion_matrix="learned")}, True, True),
    ):
        model = umt(**options)
        hint = parts(model)["LabelTransfer"]
        assert isinstance(hint.matrix, nn.Parameter) == learned
        assert (hint.target_weight, hint.source_weight) == ((0.5, 0.5) if released else (1.0, 1.0))
        spans, matrix = model.heads["spans"].decoder.tags, hint.matrix.tolist()
        assert list(spans) == SPANS + (["PAD", "X", "[CLS]", "[SEP]"] if released else [])
        for z, span in enumerate(spans):
            for y, tag in enumerate(model.labels):
                expected = 0.25 if span in "BI" and tag[:2] == f"{span}-" else float(tag == span)
                assert matrix[z][y] == expected, (span, tag)


def test_conversion_matrix_has_a_gradient_and_is_saved(posts: list[Pair]) -> None:
    model = umt().train()
    model.loss(run(model, posts)).backward()
    name = f"layers.{len(model.layers) - 1}.matrix"
    assert dict(model.named_parameters())[name].grad.any()
    assert name in umt(variant=UMTVariant(conversion_matrix="fixed")).state_dict(), "fixed it is saved as well"


def test_unknown_conversion_matrix() -> None:
    with pytest.raises(ValueError, match="conversion_matrix is learned or fixed, not 'free'"):
        UMTVariant(conversion_matrix="free")  # type: ignore[arg-type]


# --- the authors' code -------------------------------------------------------------------------------------


@torch.no_grad()
def test_released() -> None:
    torch.manual_seed(5)
    words = ("Bob", "and", "Annabel", "saw", "Paris", "!")
    tags = ("B-PER", "O", "B-PER", "O", "B-LOC", "O")
    posts = [Pair(words[start:], tags[start:], str(start), image_features=torch.randn(49, IMAGE)) for start in range(4)]
    model = UMT(
        encoder(), LABELS, image_dim=IMAGE, variant="released", num_heads=HEADS, intermediate_size=HIDDEN
    ).eval()
    theirs = Released(model.encoder.model).eval()
    scatter(nn.ModuleList(part for name, part in theirs.named_children() if name != "text"))
    theirs.copy_weights_to(model)

    ready = prepare(model, posts)
    grid = torch.stack([post.image_features for post in posts if post.image_features is not None])
    check(model, posts, ready, theirs, *theirs(ready.ids, ready.mask, grid))


@torch.no_grad()
def test_released_variant_is_initialized_as_bert() -> None:
    options = {"image_dim": 300, "num_heads": HEADS, "intermediate_size": 400, "variant": "released"}
    text = encoder()
    before = {name: weight.clone() for name, weight in text.model.named_parameters()}
    model = UMT(text, LABELS, **options)
    assert all(torch.equal(weight, before[name]) for name, weight in text.model.named_parameters())
    maps = [part for part in model.layers[1:].modules() if isinstance(part, nn.Linear)]
    assert len(maps) == 2 + 2 + 2 + 5 * 6
    assert all(not part.bias.any() for part in maps if part.bias is not None)
    assert float(torch.cat([part.weight.flatten() for part in maps]).std()) == pytest.approx(0.02, rel=0.05)
    blocks = [part for part in model.modules() if isinstance(part, TransformerLayer)]
    assert {part.feed_forward.activation for part in blocks} == {F.gelu}
    norms = [part for part in model.layers[1:].modules() if isinstance(part, nn.LayerNorm)]
    assert {part.eps for part in norms} == {1e-12}
    assert model.labels.tags == (*LABELS.tags, "PAD", "X", "[CLS]", "[SEP]")


def test_hyperparameters_of_every_variant() -> None:
    for variant in ("paper", "released"):
        model = UMT(encoder(), LABELS, image_dim=IMAGE, variant=variant, num_heads=HEADS)  # type: ignore[arg-type]
        blocks = [part for part in model.modules() if isinstance(part, TransformerLayer)]
        assert len(blocks) == 5
        assert {part.feed_forward.inner.out_features for part in blocks} == {4 * WIDTH}
        assert {part.p for part in model.layers.modules() if isinstance(part, nn.Dropout)} == {0.1}
        assert model.heads["spans"].weight == 0.5
    with pytest.raises(ValueError, match=f"12 heads do not divide a hidden size of {WIDTH + 1}"):
        UMT(tiny_encoder(hidden_size=WIDTH + 1, num_layers=1, heads=1), LABELS, image_dim=IMAGE)
