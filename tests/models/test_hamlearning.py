"""HamLearning against an implementation of its paper that shares only the weights."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
import torchcrf
from torch import Tensor, nn

from mnergraph.features.text.encoder import TextEncoderModel, tiny_encoder
from mnergraph.graph import collate
from mnergraph.labels import LabelSet
from mnergraph.models import HamLearning
from mnergraph.models.hamlearning.layers import GatedResidual, Relevance
from mnergraph.models.hamlearning.model import GATES, NEAR, PICTURE_MEETS, SCHEMA, TO_OBJECTS, TO_TOKENS
from mnergraph.nn import FeatureModule, HeteroLayer, LinearMix, RelationalConvolution, TransformerLayer
from mnergraph.nn.state import GraphState
from mnergraph.pair import DetectedObject, Pair

LABELS = LabelSet.from_types(["MISC", "PER", "ORG", "LOC"])
WIDTH, HEADS, REGION_FEATURES, IMAGE = 12, 3, 6, 5
ABLATIONS: dict[str, dict[str, Any]] = {
    "paper": {},
    "w/o RGCN": {"ablate": ["w/o RGCN"]},
    "w/o ViT": {"ablate": ["w/o ViT"]},
    "w/o RM": {"ablate": ["w/o RM"]},
    "w/o RGCN and RM": {"ablate": ["w/o RGCN", "w/o RM"]},
}
every_ablation = pytest.mark.parametrize("ablation", ABLATIONS)


def ham(**options: Any) -> HamLearning:
    """A small model in which no tanh is saturated and no bias zero."""
    torch.manual_seed(4)
    encoder: TextEncoderModel = tiny_encoder(["bob", "saw", "paris"], hidden_size=WIDTH, num_layers=1, heads=2)
    given = {"num_heads": HEADS, "region_dim": REGION_FEATURES, "image_dim": IMAGE} | options
    model = HamLearning(encoder, LABELS, **given).eval()
    for part in model.modules():
        if isinstance(part, RelationalConvolution):
            nn.init.normal_(part.bias)
    return model


def detection(label: str = "", box: tuple[float, ...] | None = None, *, region: bool = True) -> DetectedObject:
    return DetectedObject(label, box, region=torch.randn(REGION_FEATURES) if region else None)  # type: ignore[arg-type]


@pytest.fixture
def posts() -> list[Pair]:
    torch.manual_seed(3)
    words = ("Bob", "and", "Ann", "saw", "Paris", "!")
    tags = ("B-PER", "O", "B-PER", "O", "B-LOC", "O")
    boxes = (
        (10, 10, 60, 60),
        (20, 20, 40, 50),
        (12, 8, 62, 58),
        (70, 10, 80, 30),
        (65, 70, 78, 78),
        (5, 62, 30, 79),
        (60, 35, 75, 44),
    )
    many = tuple(detection("a person" if i % 2 else "hat", box) for i, box in enumerate(boxes))
    some, bare = (*many[2:4], detection("dog")), (detection("tower"), detection(region=False))
    return [
        Pair(words, tags, "many", size=(100, 80), objects=many, image_features=torch.randn(1, IMAGE)),
        Pair(words[3:], tags[3:], "no boxes", objects=bare, image_features=torch.randn(1, IMAGE)),
        Pair(words, tags, "some boxes", size=(100, 80), objects=some, image_features=torch.randn(1, IMAGE)),
        Pair(words[:2], tags[:2], "a grid", size=(100, 80), objects=many[4:5], image_features=torch.randn(4, IMAGE)),
        Pair(words[:1], tags[:1], "no image", size=(100, 80), objects=many[:3]),
        Pair(words[2:], tags[2:], "no object", size=(100, 80), image_features=torch.randn(1, IMAGE)),
        Pair(words[1:], tags[1:], "nothing"),
    ]


def emissions(model: HamLearning, posts: list[Pair]) -> Tensor:
    return model(collate(model.builder.build_all(posts))).emissions["tags"]


# --- equations 1 to 15, node by node ----------------------------------------------------------------------


def paper(model: HamLearning, post: Pair, ablation: str, rounds: int) -> Tensor:
    """Emissions [words, labels] of one post; the model's layers in the order of the equations."""
    layers = list(model.layers)
    blocks = [part for part in layers if isinstance(part, TransformerLayer)]
    textual, *rest = blocks
    # eq. 1 and the textual Transformer
    sentence, *words = _transformer(textual, text := _text(model, post), text)
    # eqs. 2-3
    image, objects = _image(model, post)
    views = []
    if "ViT" not in ablation:
        # eq. 4
        nodes = image + objects
        for block in (block for block in rest if block.relation[0] == "semantic"):
            nodes = _transformer(block, nodes, nodes)
        views.append(nodes)
    if "RGCN" not in ablation:
        # eqs. 5-7
        node_boxes = ([(0.0, 0.0, *(post.size or ()))] if image else []) + [o.box for o in post.objects]
        nodes = [
            torch.cat([_box_features(box, post.size, whole=bool(image) and i == 0), v])
            for i, (box, v) in enumerate(zip(node_boxes, image + objects, strict=True))
        ]
        for layer in (layer for layer in layers if isinstance(layer, HeteroLayer)):
            (convolution,), (update,) = layer.operators, layer.residual.values()
            nodes = [
                _gcn(
                    convolution,
                    update,
                    node_boxes,
                    nodes,
                    i,
                    post.size,
                    first_is_whole=bool(image),
                    normalized=model.init_arguments["normalized_centers"],
                )
                for i in range(len(nodes))
            ]
        views.append(nodes)
    # eqs. 8-11
    relevance = [part for part in layers if isinstance(part, Relevance)]
    v = [_relevant(part, sentence, nodes, bool(image)) for part, nodes in zip(relevance, views, strict=True)]
    # eq. 12
    first, _, _, second = next(part for part in layers if type(part).__name__ == "NodeTypeModule").types["token"]
    h = [second(torch.relu(first(word))) for word in words]
    last = next(block for block in rest if block.relation == TO_TOKENS)
    updates = list(dict.fromkeys(block for block in rest if block.relation == TO_OBJECTS))
    for position in range(rounds):
        blended = v[0]
        if len(v) == 2:
            blend = next(part.module for part in layers if isinstance(part, FeatureModule))
            blended = [_blend(blend, a, b) for a, b in zip(*v, strict=True)]
        # eq. 15; the three parts read the same state
        new_h = _transformer(last, h, blended)
        if position < rounds - 1:
            v = [_transformer(block, nodes, h) for block, nodes in zip(updates, v, strict=True)]
        h = new_h
    return torch.stack([layers[-1].linear(word) for word in h])


def _text(model: HamLearning, post: Pair) -> list[Tensor]:
    """[CLS], then every word as the sum of its pieces."""
    encoded = model.encoder.tokenizer.tokenizer([list(post.words)], is_split_into_words=True, return_tensors="pt")
    states, owner = model.encoder.model(**encoded).last_hidden_state[0], encoded.word_ids(0)
    words = [sum(s for s, o in zip(states, owner, strict=True) if o == word) for word in range(len(post.words))]
    return [states[0], *words]


def _image(model: HamLearning, post: Pair) -> tuple[list[Tensor], list[Tensor]]:
    encode_image, encode_object = model.layers[4], model.layers[5]
    image = (
        []
        if post.image_features is None
        else [encode_image.linear(sum(post.image_features) / len(post.image_features))]
    )
    objects = []
    for detection in post.objects:
        v = torch.zeros(WIDTH)
        if detection.region is not None:
            v = v + encode_object.region(detection.region)
        if detection.label:
            ids = model.encoder.tokenizer.tokenizer(detection.label, add_special_tokens=False)["input_ids"]
            table = model.encoder.model.get_input_embeddings().weight
            v = v + encode_object.label(encode_object.norm(sum(table[piece] for piece in ids) / len(ids)))
        objects.append(v)
    return image, objects


def _transformer(block: TransformerLayer, receivers: list[Tensor], senders: list[Tensor]) -> list[Tensor]:
    a, size, out = block.attention, WIDTH // HEADS, []
    for q in receivers:
        mixed = torch.zeros(WIDTH)
        for part in (slice(h * size, (h + 1) * size) for h in range(HEADS)):
            if senders:
                scores = [a.query(q)[part] @ a.key(s)[part] / math.sqrt(size) for s in senders]
                weights = torch.stack(scores).softmax(0)
                mixed[part] = sum(w * a.value(s)[part] for w, s in zip(weights, senders, strict=True))
        p = block.residual.norm(q + a.output(mixed))
        forward = block.feed_forward
        out.append(forward.residual.norm(p + forward.outer(torch.relu(forward.inner(p)))))
    return out


def _box_features(box: Any, size: tuple[int, int] | None, *, whole: bool) -> Tensor:
    """x_c, y_c, h, w."""
    if whole:
        return torch.tensor([0.5, 0.5, 1.0, 1.0])
    if box is None or size is None:
        return torch.zeros(4)
    (left, top, right, bottom), (w, h) = box, size
    return torch.tensor([(left + right) / 2 / w, (top + bottom) / 2 / h, (bottom - top) / h, (right - left) / w])


def _label(a: Any, b: Any, size: tuple[int, int], normalized: bool) -> int | None:
    """The label of the edge from box a to box b; None where there is no edge."""
    if a[0] <= b[0] and a[1] <= b[1] and a[2] >= b[2] and a[3] >= b[3]:
        return 0
    if b[0] <= a[0] and b[1] <= a[1] and b[2] >= a[2] and b[3] >= a[3]:
        return 1
    both = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    either = sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - both
    if both / either > 0.5:
        return 2
    x, y = (b[0] + b[2] - a[0] - a[2]) / 2, (b[1] + b[3] - a[1] - a[3]) / 2
    if normalized:
        x, y, size = x / size[0], y / size[1], (1, 1)
    if math.hypot(x, y) / math.hypot(*size) > 0.5:
        return None
    return 3 + int(math.degrees(math.atan2(y, x)) % 360 // 45)


def _gcn(
    convolution: RelationalConvolution,
    update: GatedResidual,
    node_boxes: list[Any],
    nodes: list[Tensor],
    i: int,
    size: tuple[int, int] | None,
    *,
    first_is_whole: bool,
    normalized: bool,
) -> Tensor:
    total = convolution.bias
    for j, v in enumerate(nodes):
        if i == j or size is None or node_boxes[i] is None or node_boxes[j] is None:
            continue
        if first_is_whole and 0 in (i, j):
            label: int | None = 0 if j == 0 else 1  # "By default, we think the I includes all the objects"
        else:
            label = _label(node_boxes[j], node_boxes[i], size, normalized)
        if label is not None:
            total = total + v @ convolution.weight[label]
    m = torch.relu(total)
    gate = torch.sigmoid(torch.cat([update.gate.a.weight, update.gate.b.weight], 1) @ torch.cat([m, nodes[i]]))
    return nodes[i] + gate * m


def _relevant(part: Relevance, h: Tensor, nodes: list[Tensor], image: bool) -> list[Tensor]:
    """The objects of a view, each with as much of the image as is relevant."""
    width = part.join.in_features // 2
    v = nodes[0] if image else torch.zeros(width)
    m = torch.ones(width)
    if part.measured:
        c = torch.tanh(h @ part.match.weight @ v)
        m = torch.tanh(part.sentence.weight @ h + part.image.weight @ v * c)
    return [part.join(torch.cat([m * v, node])) for node in nodes[int(image) :]]


def _blend(blend: LinearMix, a: Tensor, b: Tensor) -> Tensor:
    alpha = blend.outer.weight @ torch.sigmoid(blend.gate.a.weight @ a + blend.gate.b.weight @ b)
    return alpha * a + (1 - alpha) * b


@every_ablation
@pytest.mark.parametrize(("rounds", "normalized"), [(1, True), (2, True), (3, True), (5, True), (2, False)])
def test_paper(posts: list[Pair], ablation: str, rounds: int, normalized: bool) -> None:
    model = ham(num_iterations=rounds, normalized_centers=normalized, **ABLATIONS[ablation])
    graph = model(collate(model.builder.build_all(posts)))
    expected = [paper(model, post, ablation, rounds) for post in posts]
    torch.testing.assert_close(graph.emissions["tags"], torch.cat(expected), rtol=1e-5, atol=1e-5)
    crf = torchcrf.CRF(len(LABELS), batch_first=True)
    crf.load_state_dict(model.heads["tags"].decoder.state_dict())
    gold = [torch.tensor([[LABELS.index(tag) for tag in post.labels or ()]]) for post in posts]
    losses = [-crf(scores[None], tags, tags >= 0) for scores, tags in zip(expected, gold, strict=True)]
    torch.testing.assert_close(model.loss(graph), torch.stack(losses).mean(), rtol=1e-5, atol=1e-5)


def test_posts_cover_every_spatial_label(posts: list[Pair]) -> None:
    """The posts of the test above use all eleven matrices, and have pairs without an edge."""
    batch = collate(ham().builder.build_all(posts))
    assert set(torch.cat([batch[key].edge_type for key in NEAR]).tolist()) == set(range(11))
    objects = len(posts[0].objects)
    assert batch["object", "near", "object"].edge_index.lt(objects).all(0).sum() < objects * (objects - 1)


# --- gradients and parameters -----------------------------------------------------------------------------


@every_ablation
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_every_parameter_has_a_gradient(posts: list[Pair], ablation: str, rounds: int) -> None:
    model = ham(num_iterations=rounds, **ABLATIONS[ablation])
    model.loss(model(collate(model.builder.build_all(posts)))).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        # softmax does not depend on a bias shared by all keys
        assert weight.grad.any() or name.endswith("key.bias"), name
    for part in model.modules():
        if isinstance(part, RelationalConvolution):
            assert part.weight.grad.flatten(1).any(1).all(), "a label's matrix does not learn"


def sizes(model: HamLearning) -> Counter[str]:
    """Number of parameters by kind of part."""
    found: Counter[str] = Counter()
    for part in dict.fromkeys(model.layers):
        view = (
            part.relation[0]
            if isinstance(part, TransformerLayer)
            else getattr(part, "object_key", "").removesuffix(" object")
        )
        found[f"{type(part).__name__} {view}".strip()] += sum(p.numel() for p in part.parameters())
    return +found


def test_ablation_removes_only_the_named_parts() -> None:
    whole = sizes(ham())
    block, update = whole["TransformerLayer text"], whole["TransformerLayer token"] // 2
    left_out = {
        "w/o RGCN": ["HeteroLayer", "Relevance spatial", "FeatureModule"],
        "w/o ViT": ["TransformerLayer semantic", "Relevance semantic", "FeatureModule"],
    }
    for name, parts in left_out.items():
        model = ham(**ABLATIONS[name])
        # and with it the transformer that updates the view's objects
        expected = {part: n for part, n in whole.items() if part not in parts} | {"TransformerLayer token": update}
        assert sizes(model) == expected
    assert whole["TransformerLayer semantic"] == 4 * block == 4 * update
    found = sizes(ham(ablate=["w/o RM"]))
    matrices = {"semantic": 3 * WIDTH**2, "spatial": 2 * WIDTH * (WIDTH + 4) + (WIDTH + 4) ** 2}
    assert whole - found == Counter({f"Relevance {view}": n for view, n in matrices.items()})
    # the schema has no such relations either
    assert ham().schema == SCHEMA
    assert ham(ablate=["w/o RGCN"]).schema == SCHEMA.without(*NEAR)
    assert ham(ablate=["w/o ViT"]).schema == SCHEMA.without(*PICTURE_MEETS)
    assert ham(ablate=["w/o RM"]).schema == SCHEMA.without(GATES)


def test_rounds_are_iterations() -> None:
    """L changes no parameter, except for the updates of the views, which a single round does not need."""
    one, *others = (sizes(ham(num_iterations=rounds)) for rounds in (1, 2, 3, 4, 5))
    assert all(other == others[0] for other in others)
    assert others[0] - one == Counter({"TransformerLayer token": others[0]["TransformerLayer token"]})


def test_hyperparameters_of_the_paper() -> None:
    model = ham()
    blocks = [part for part in dict.fromkeys(model.layers) if isinstance(part, TransformerLayer)]
    assert Counter(block.relation[0] for block in blocks) == {
        "text": 1,
        "semantic": 4,
        "object": 1,
        "token": 2,
    }
    assert {block.residual.dropout.p for block in blocks} == {0.1}
    assert sum(isinstance(part, HeteroLayer) for part in model.layers) == 2
    assert sum(isinstance(part, FeatureModule) for part in model.layers) == 3


# --- dependencies ------------------------------------------------------------------------------------------


def test_image_affects_scores_only_through_objects(posts: list[Pair]) -> None:
    model = ham()
    other = [
        replace(post, image_features=None if post.image_features is None else -post.image_features) for post in posts
    ]
    changed = {
        post.id: not torch.allclose(emissions(model, [post]), emissions(model, [other_post]), atol=1e-6)
        for post, other_post in zip(posts, other, strict=True)
    }
    assert [name for name, is_so in changed.items() if is_so] == ["many", "no boxes", "some boxes", "a grid"]


def test_grid_is_mean_pooled(posts: list[Pair]) -> None:
    model, grid = ham(), posts[3]
    assert grid.image_features is not None
    mean = replace(grid, image_features=grid.image_features.mean(0, keepdim=True))
    assert model.builder(grid)["image"].num_nodes == 1
    torch.testing.assert_close(emissions(model, [grid]), emissions(model, [mean]), rtol=1e-5, atol=1e-6)


def test_order_of_objects_does_not_matter(posts: list[Pair]) -> None:
    model = ham()
    turned = [replace(post, objects=post.objects[::-1]) for post in posts]
    torch.testing.assert_close(emissions(model, posts), emissions(model, turned), rtol=1e-5, atol=1e-5)


def test_boxes_affect_only_the_spatial_view(posts: list[Pair]) -> None:
    flat = [replace(post, objects=tuple(replace(o, box=None) for o in post.objects)) for post in posts[:1]]
    for ablation, same in (("w/o RGCN", True), ("w/o ViT", False)):
        model = ham(**ABLATIONS[ablation])
        found, expected = emissions(model, flat), emissions(model, posts[:1])
        assert torch.allclose(found, expected, atol=1e-6) == same


def test_without_relevance_objects_do_not_depend_on_words(posts: list[Pair]) -> None:
    """With M = 1 the objects do not depend on the words before the first round."""
    for measured in (True, False):
        model = ham(ablate=[] if measured else ["w/o RM"])
        graphs = [model.builder(replace(posts[0], words=words, labels=None)) for words in (("a",), ("Paris", "b"))]
        upto = list(model.layers).index(next(p for p in model.layers if isinstance(p, FeatureModule)))
        found = [_upto(model, graph, upto) for graph in graphs]
        for view in ("semantic object", "spatial object"):
            assert torch.allclose(found[0][view], found[1][view], atol=1e-6) != measured


def _upto(model: HamLearning, data: Any, layers: int) -> dict[str, Tensor]:
    return dict(model.layers[:layers](GraphState.from_batch(data, model.schema)).x)


def test_half_precision(posts: list[Pair]) -> None:
    model = ham().train()
    with torch.autocast("cpu", torch.bfloat16):
        graph = model(collate(model.builder.build_all(posts)))
        loss = model.loss(graph)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_errors() -> None:
    with pytest.raises(ValueError, match="num_iterations is at least 1, not 0"):
        ham(num_iterations=0)
    with pytest.raises(ValueError, match="without R-GCN and without ViT no view of the image is left"):
        ham(ablate=["w/o RGCN", "w/o ViT"])
