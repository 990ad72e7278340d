"""UMGF against implementations of its paper and its authors' code that share only the weights."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchcrf
from equations import released_pieces
from released_umgf import HEADS, REGION_FEATURES, WIDTH, Released
from torch import Tensor, nn
from torch.nn import functional as F

from mnergraph.features.text.encoder import TextEncoderModel, tiny_encoder
from mnergraph.graph import collate
from mnergraph.labels import LabelSet
from mnergraph.models import UMGF
from mnergraph.models.umgf.model import OBJECTS, PAPER, RELEASED, TO_OBJECTS, TO_TOKENS, TOKENS, ResNetConfig
from mnergraph.nn.conv.attention import RelationAttention
from mnergraph.nn.conv.gated_sum import GatedSum
from mnergraph.nn.layers.hetero import FeedForward, HeteroLayer, NodeTypeModule
from mnergraph.pair import DetectedObject, Pair

LABELS = LabelSet.from_types(["MISC", "PER", "ORG", "LOC"])


def encoder() -> TextEncoderModel:
    return tiny_encoder(["bob", "saw", "paris"], hidden_size=12, num_layers=1, heads=2)


def detection(label: str = "", words: tuple[int, int] | None = None, *, region: bool = True) -> DetectedObject:
    return DetectedObject(label, (0, 0, 4, 4), span=words, region=torch.randn(REGION_FEATURES) if region else None)


@pytest.fixture
def posts() -> list[Pair]:
    torch.manual_seed(3)
    words = ("Bob", "and", "Ann", "saw", "Paris", "!")
    tags = ("B-PER", "O", "B-PER", "O", "B-LOC", "O")
    both = (
        detection("a person", (0, 1)),
        detection("city", (4, 6)),
        detection("hat"),
        detection("dog", (2, 3), region=False),
    )
    return [
        Pair(words, tags, "phrases and general", objects=both),
        Pair(words, tags, "phrases only", objects=both[:2]),
        Pair(words[3:], tags[3:], "general only", objects=(detection("tower"), detection())),
        Pair(words[:2], tags[:2], "one", objects=(detection("hat", (1, 2)),)),
        Pair(words[2:], tags[2:], "none"),
    ]


# --- the paper, equations 1 to 8 ---------------------------------------------------------------------------


def paper(model: UMGF, post: Pair) -> Tensor:
    """Emissions [words, labels] of one post, equation by equation, node by node."""
    words, objects = _initial(model, post)
    layers = list(model.layers)[4:-1]
    assert len(layers) % 3 == 0
    for inside, between, alone in zip(layers[::3], layers[1::3], layers[2::3], strict=True):
        # eqs. 1-2: multi-head attention within each modality, residual and norm
        c_x = _within(inside, TOKENS, "token", words)
        c_o = _within(inside, OBJECTS, "object", objects) if objects else []
        operators = dict(zip(between.relations, between.operators, strict=True))
        # eqs. 3-4
        r_x = [
            x + sum(_gate(operators[TO_TOKENS], x, c_o[j]) * c_o[j] for j in _neighbours(post, i))
            for i, x in enumerate(c_x)
        ]
        words = [_feed_forward(alone.types["token"], r) for r in r_x]
        if TO_OBJECTS in operators:
            # eqs. 5-6
            r_o = [
                o + sum(_gate(operators[TO_OBJECTS], o, x) * x for i, x in enumerate(c_x) if j in _neighbours(post, i))
                for j, o in enumerate(c_o)
            ]
            # eqs. 7-8
            objects = [_feed_forward(alone.types["object"], r) for r in r_o]
    return torch.stack([model.layers[-1].linear(x) for x in words])


def _initial(model: UMGF, post: Pair) -> tuple[list[Tensor], list[Tensor]]:
    """MLP(word embedding + position), MLP(region [+ label])."""
    tokenizer, text = model.encoder.tokenizer.tokenizer, model.encoder.model
    encoded = tokenizer([list(post.words)], is_split_into_words=True, return_tensors="pt")
    states, owner = text(**encoded).last_hidden_state[0], encoded.word_ids(0)
    dim, mlp, objects = states.shape[-1], model.layers[3].types["token"], model.layers[2]
    words = []
    for index in range(len(post.words)):
        position = torch.empty(dim)
        for i in range(dim // 2):
            position[2 * i] = math.sin(index / 10000 ** (2 * i / dim))
            position[2 * i + 1] = math.cos(index / 10000 ** (2 * i / dim))
        words.append(torch.relu(mlp[0](states[owner.index(index)] + position)))
    found = []
    for detection in post.objects:
        v = torch.zeros(WIDTH)
        if detection.region is not None:
            v = v + objects.region(detection.region)
        if detection.label:
            ids = tokenizer(detection.label, add_special_tokens=False)["input_ids"]
            table = text.get_input_embeddings()
            v = v + objects.label(objects.norm(torch.stack([table.weight[piece] for piece in ids]).mean(0)))
        found.append(torch.relu(v))
    return words, found


def _within(layer: HeteroLayer, relation: tuple[str, str, str], kind: str, nodes: list[Tensor]) -> list[Tensor]:
    a = layer.operators[layer.relations.index(relation)]
    size = WIDTH // HEADS
    out = []
    for receiver in nodes:
        heads = []
        for h in range(HEADS):
            part = slice(h * size, (h + 1) * size)
            q = a.query(receiver)[part]
            scores = torch.stack([q @ a.key(sender)[part] / math.sqrt(size) for sender in nodes]).softmax(0)
            heads.append(sum(w * a.value(sender)[part] for w, sender in zip(scores, nodes, strict=True)))
        message = a.output(torch.cat(heads))
        out.append(layer.residual[kind].norm(receiver + message))
    return out


def _neighbours(post: Pair, word: int) -> list[int]:
    """The objects that a word is joined to: those its phrase grounds, and general ones."""
    return [j for j, o in enumerate(post.objects) if o.span is None or o.span[0] <= word < o.span[1]]


def _gate(gates: GatedSum, receiver: Tensor, sender: Tensor) -> Tensor:
    return torch.sigmoid(gates.dst.weight @ receiver + gates.src.weight @ sender)


def _feed_forward(module: FeedForward, x: Tensor) -> Tensor:
    inner = torch.relu(module.inner.weight @ x + module.inner.bias)
    return module.residual.norm(x + module.outer.weight @ inner + module.outer.bias)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("labelled", [True, False], ids=["regions and labels", "regions"])
def test_paper(posts: list[Pair], layers: int, labelled: bool) -> None:
    torch.manual_seed(layers)
    options = {
        "variant": replace(PAPER, intermediate_size=20),
        "hidden_size": WIDTH,
        "num_heads": HEADS,
        "num_layers": layers,
        "region_dim": REGION_FEATURES,
    }
    model = UMGF(encoder(), LABELS, label_features=labelled, **options).eval()
    if not labelled:
        posts = [replace(post, objects=tuple(replace(o, label="") for o in post.objects)) for post in posts]
    graph = model(collate(model.builder.build_all(posts)))
    expected = [paper(model, post) for post in posts]
    torch.testing.assert_close(graph.emissions["tags"], torch.cat(expected), rtol=1e-5, atol=1e-5)
    assert not model.layers[5].operators[0].dst.bias, "eqs. 4 and 6 have no bias"
    # the CRF reads words only, its loss is the mean
    crf = torchcrf.CRF(len(LABELS), batch_first=True)
    crf.load_state_dict(model.heads["tags"].decoder.state_dict())
    gold = [torch.tensor([[LABELS.index(tag) for tag in post.labels or ()]]) for post in posts]
    losses = [-crf(scores[None], tags, tags >= 0) for scores, tags in zip(expected, gold, strict=True)]
    torch.testing.assert_close(model.loss(graph), torch.stack(losses).mean(), rtol=1e-5, atol=1e-5)


def test_without_objects_only_the_text_is_used(posts: list[Pair]) -> None:
    torch.manual_seed(0)
    model = UMGF(encoder(), LABELS, hidden_size=WIDTH, num_heads=HEADS, region_dim=REGION_FEATURES).eval()
    bare = [replace(post, objects=()) for post in posts]
    found = model(collate(model.builder.build_all(bare))).emissions["tags"]
    expected = []
    for post in bare:
        words, _ = _initial(model, post)
        x = torch.stack(words)
        for inside, _, alone in zip(*(list(model.layers)[4 + i : -1 : 3] for i in range(3)), strict=True):
            x = alone.types["token"](inside.residual["token"].norm(x + _torch_attention(inside.operators[0], x)))
        expected.append(model.layers[-1].linear(x))
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-5, atol=1e-5)
    # and a post without objects has the same scores in a batch with posts that have some
    mixed = model(collate(model.builder.build_all([posts[0], bare[1]]))).emissions["tags"]
    torch.testing.assert_close(mixed[len(posts[0].words) :], expected[1], rtol=1e-5, atol=1e-5)


def _torch_attention(a: RelationAttention, x: Tensor) -> Tensor:
    """torch's own multi-head attention with our weights."""
    found, _ = F.multi_head_attention_forward(
        x[:, None], x[:, None], x[:, None], WIDTH, HEADS,
        torch.cat([a.query.weight, a.key.weight, a.value.weight]),
        torch.cat([a.query.bias, a.key.bias, a.value.bias]),
        None, None, False, 0.0, a.output.weight, a.output.bias, need_weights=False,
    )  # fmt: skip
    return found[:, 0]


def test_grounded_object_affects_only_its_phrase(posts: list[Pair]) -> None:
    torch.manual_seed(0)
    model = UMGF(encoder(), LABELS, hidden_size=WIDTH, num_heads=HEADS, region_dim=REGION_FEATURES, num_layers=1).eval()
    post = replace(posts[0], objects=(detection("city", (4, 6)),))
    with_it = model(model.builder(post)).emissions["tags"]
    without = model(model.builder(replace(post, objects=()))).emissions["tags"]
    same = [torch.equal(a, b) or torch.allclose(a, b, atol=1e-6) for a, b in zip(with_it, without, strict=True)]
    assert same == [True, True, True, True, False, False]


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_no_unused_parameters(variant: str) -> None:
    model = UMGF(
        encoder(), LABELS, variant=variant, hidden_size=WIDTH, num_heads=HEADS, num_layers=3, region_dim=REGION_FEATURES
    )  # type: ignore[arg-type]
    gates = [part for part in model.layers if isinstance(part, HeteroLayer) and TO_TOKENS in part.relations]
    assert [part.relations for part in gates] == [[TO_TOKENS, TO_OBJECTS]] * 2 + [[TO_TOKENS]]
    alone = [part for part in model.layers if isinstance(part, NodeTypeModule)][1:]
    assert [list(part.types) for part in alone] == [["token", "object"]] * 2 + [["token"]]
    assert [relation.key for relation in model.schema.unreachable_relations()] == [OBJECTS, TO_OBJECTS]


# --- the authors' code ------------------------------------------------------------------------------------


@pytest.fixture
def crops() -> list[Pair]:
    """Posts as the released code needs them: exactly four crops, words of several pieces."""
    torch.manual_seed(5)
    words = ("Bob", "and", "Ann", "saw", "Paris", "!")
    tags = ("B-PER", "O", "B-PER", "O", "B-LOC", "O")
    return [
        Pair(words[start:], tags[start:], str(start), objects=tuple(detection() for _ in range(4)))
        for start in range(4)
    ]


def released(layers: int = 2, dropout: float | None = None) -> UMGF:
    torch.manual_seed(6)
    options = {
        "variant": replace(RELEASED, intermediate_size=20),
        "hidden_size": WIDTH,
        "num_heads": HEADS,
        "num_layers": layers,
        "region_dim": REGION_FEATURES,
    }
    return UMGF(encoder(), LABELS, label_features=False, dropout=dropout, **options).eval()


@pytest.mark.parametrize("layers", [1, 2, 6])
def test_released(crops: list[Pair], layers: int) -> None:
    model = released(layers)
    assert len(model.labels) == 13
    theirs = Released(model.encoder.model, 12, layers, 20, 13).eval()
    for weight in theirs.stack.parameters():
        nn.init.normal_(weight, std=0.3)
    theirs.copy_weights_to(model)

    ids, mask, owners, gold_tags = released_pieces(model.encoder.tokenizer.tokenizer, crops)
    gold = torch.tensor([[model.labels.index(tag) for tag in row] for row in gold_tags])
    regions = torch.stack([torch.stack([o.region for o in post.objects if o.region is not None]) for post in crops])

    emissions = theirs(ids, mask, regions)
    graph = model(collate(model.builder.build_all(crops)))
    torch.testing.assert_close(graph.emissions["tags"], emissions[mask], rtol=1e-4, atol=1e-4)
    assert graph.data["token"].y.tolist() == gold[mask].tolist()
    expected = -theirs.crf(emissions, gold, mask, reduction="sum")
    torch.testing.assert_close(model.loss(graph), expected, rtol=1e-5, atol=1e-3)

    # and the tags of the words' first pieces are theirs
    names = model.labels.tags
    paths = theirs.crf.decode(emissions, mask)
    for post, owner, path, found in zip(crops, owners, paths, model.decode_tags(graph), strict=True):
        first = [names[path[owner.index(word)]] for word in range(len(post.words))]
        assert found == [tag if tag[:2] in ("B-", "I-") else "O" for tag in first]


def test_special_tags_count_as_outside(crops: list[Pair]) -> None:
    model = released()
    for tag in ("X", "[CLS]", "[SEP]", "PAD"):
        with torch.no_grad():
            model.layers[-1].linear.weight.zero_()
            model.layers[-1].linear.bias.zero_()[model.labels.index(tag)] = 50.0
        graph = model(collate(model.builder.build_all(crops)))
        assert model.decode_tags(graph) == [["O"] * len(post.words) for post in crops]
        assert model.decode_entities(graph) == [[], [], [], []]


def test_entity_score_uses_the_first_pieces_of_its_words(crops: list[Pair]) -> None:
    model = released()
    with torch.no_grad():
        model.layers[-1].linear.weight.mul_(5)
    graph = model(collate(model.builder.build_all(crops)))
    task, layout = model.heads["tags"], graph.layouts["token"]
    chances = graph.layouts["token"].to_flat(
        task.decoder.marginals(layout.to_dense(graph.emissions["tags"]), layout.mask)
    )
    first = chances[graph.data["token"].starts_word].split([len(post.words) for post in crops])
    assert any(model.decode_entities(graph))
    for tags, entities, chance in zip(model.decode_tags(graph), model.decode_entities(graph), first, strict=True):
        for entity in entities:
            product = math.prod(
                float(chance[index, model.labels.index(tags[index])]) for index in range(entity.start, entity.end)
            )
            assert entity.score == pytest.approx(product, rel=1e-5)


def test_order_of_the_crops_does_not_matter(crops: list[Pair]) -> None:
    model = released()
    turned = [replace(post, objects=(*post.objects[2:], *post.objects[1::-1])) for post in crops]
    one, other = (model(collate(model.builder.build_all(some))).emissions["tags"] for some in (crops, turned))
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    fewer = [replace(post, objects=post.objects[1:]) for post in crops]
    assert not torch.allclose(model(collate(model.builder.build_all(fewer))).emissions["tags"], one, atol=1e-3)


def test_hyperparameters_of_every_variant() -> None:
    small = {"hidden_size": WIDTH, "num_heads": HEADS, "region_dim": REGION_FEATURES}
    paper_form, code = UMGF(encoder(), LABELS, **small), UMGF(encoder(), LABELS, variant="released", **small)
    for model, layers, hidden, dropout in ((paper_form, 2, 4 * WIDTH, 0.5), (code, 6, 256, 0.4)):
        forwards = [part for part in model.modules() if isinstance(part, FeedForward)]
        assert sum(isinstance(part, HeteroLayer) for part in model.layers) == 2 * layers
        assert {part.inner.out_features for part in forwards} == {hidden}
        assert {part.residual.dropout.p for part in forwards} == {dropout}
    assert paper_form.labels == LABELS
    assert code.labels.tags == (*LABELS.tags, "PAD", "X", "[CLS]", "[SEP]")


# --- ablations


def ablated(**settings: Any) -> UMGF:
    torch.manual_seed(5)
    return UMGF(encoder(), LABELS, hidden_size=WIDTH, num_heads=HEADS, region_dim=REGION_FEATURES, **settings).eval()


def emissions(model: UMGF, posts: list[Pair]) -> Tensor:
    return model(collate(model.builder.build_all(posts))).emissions["tags"]


def test_without_visual_correlation(posts: list[Pair]) -> None:
    whole, model = ablated(), ablated(ablate=["w/o VCorr."])
    removed = whole.state_dict().keys() - model.state_dict().keys()
    assert removed
    assert all("operators.1." in name or name.endswith(("object.norm.weight", "object.norm.bias")) for name in removed)
    assert OBJECTS not in model.schema.relations
    model.load_state_dict(whole.state_dict(), strict=False)
    bare = [replace(post, objects=()) for post in posts]
    torch.testing.assert_close(emissions(model, bare), emissions(whole, bare), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(emissions(model, posts), emissions(whole, posts), atol=1e-3)


def test_without_independent_parameters(posts: list[Pair], tmp_path: Path) -> None:
    model = ablated(ablate=["w/o Ind."])
    for layer in model.layers:
        if isinstance(layer, HeteroLayer):
            assert len({id(part) for part in layer.operators}) == 1
    untied = ablated()
    for layer, other in zip(model.layers, untied.layers, strict=True):
        if isinstance(layer, (HeteroLayer, NodeTypeModule)):
            other.load_state_dict(layer.state_dict())
    untied.load_state_dict({**untied.state_dict(), **model.state_dict()})
    torch.testing.assert_close(emissions(model, posts), emissions(untied, posts), atol=1e-5, rtol=1e-5)
    model.eval().save_pretrained(tmp_path)
    again = UMGF.from_pretrained(tmp_path)
    assert torch.equal(emissions(again, posts), emissions(model, posts))
    assert sum(p.numel() for p in again.parameters()) < sum(p.numel() for p in untied.parameters())


def test_without_targeted_objects(posts: list[Pair]) -> None:
    model = ablated(ablate=["w/o Tar."], image_dim=3)
    assert "object" not in model.schema.nodes
    grids = [replace(post, image_features=torch.randn(4, 3)) for post in posts]
    found = emissions(model, grids)
    bare = [replace(post, objects=()) for post in grids]
    torch.testing.assert_close(emissions(model, bare), found)
    assert not torch.allclose(emissions(model, posts), found, atol=1e-3)
    model.loss(model(collate(model.builder.build_all(grids)))).backward()
    own = {id(weight) for weight in model.encoder_parameters()}
    assert all(p.grad is not None and p.grad.any() for p in model.parameters() if id(p) not in own)


def test_incompatible_ablations_are_refused() -> None:
    with pytest.raises(ValueError, match="the ablations are those of the paper: take variant='paper'"):
        ablated(variant="released", ablate=["w/o Ind."])
    with pytest.raises(ValueError, match="needs image_dim, the dimension of the image regions"):
        ablated(ablate=["w/o Tar."])
    with pytest.raises(ValueError, match="leaves no objects"):
        ablated(ablate=["w/o Tar."], image_dim=5, resnet=ResNetConfig("resnet18"))
