"""GEI against an implementation of its paper that shares only the weights, and which words depend on the image."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchcrf
from equations import attention, norm, scatter, transformer
from torch import Tensor, nn

from mnergraph.features.text.encoder import TextEncoderModel, tiny_encoder
from mnergraph.graph import Edges, collate
from mnergraph.labels import LabelSet, span_label, tags_to_spans
from mnergraph.models import GEI, Tagger
from mnergraph.models.gei.layers import GatedMessage
from mnergraph.models.gei.model import (
    FILLS,
    FROM_ENTITIES,
    FROM_TOKENS,
    POOLS,
    SCHEMA,
    TO_ENTITIES,
    TO_TOKENS,
    TOKENS,
    VISUALS,
)
from mnergraph.nn.conv.attention import RelationAttention
from mnergraph.nn.conv.pooling import SpanPooling
from mnergraph.nn.encoders.visual import ImageEncoder, ObjectEncoder
from mnergraph.nn.heads.scheduled_sampling import ScheduledSampling, ScheduledSamplingConfig
from mnergraph.nn.heads.tagging import TaggingScores
from mnergraph.nn.layers.entity_nodes import EntityNodes
from mnergraph.nn.layers.hetero import AddNorm, FeedForward, HeteroLayer, NodeTypeModule
from mnergraph.nn.layers.node_types import MergeNodeTypes
from mnergraph.nn.layers.transformer import TransformerLayer
from mnergraph.nn.state import GraphState
from mnergraph.pair import DetectedObject, Pair

LABELS = LabelSet.from_types(["PER", "LOC"])
WIDTH, HEADS, REGION_FEATURES, IMAGE = 16, 4, 6, 5
SMALL: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_heads": HEADS,
    "intermediate_size": 20,
    "num_layers": 2,
    "region_dim": REGION_FEATURES,
    "image_dim": IMAGE,
    "dropout": 0.0,
}
#: The rows of table 1 as arguments.
ROWS: dict[str, dict[str, Any]] = {
    "GEI": {},
    "- entity-level interaction": {"ablate": ["- Entity-level interaction"]},
    "- span detection": {"ablate": ["- Span Detection"]},
    "+ image region": {"ablate": ["+ Image Region"]},
}
every_row = pytest.mark.parametrize("row", ROWS)


def encoder() -> TextEncoderModel:
    """Without dropout, so that training differs from evaluation in its entities alone."""
    found = tiny_encoder(["bob", "saw", "paris"], hidden_size=12, num_layers=1, heads=2)
    for part in found.model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return found


def gei(seed: int = 0, *, row: str = "GEI", **options: Any) -> GEI:
    torch.manual_seed(seed)
    return GEI(encoder(), LABELS, **{**SMALL, **ROWS[row], **options})


def detection(label: str = "", *, region: bool = True) -> DetectedObject:
    return DetectedObject(label, (0, 0, 4, 4), region=torch.randn(REGION_FEATURES) if region else None)


@pytest.fixture
def posts() -> list[Pair]:
    """Edge cases of entities and images."""
    torch.manual_seed(3)
    words = ("Bob", "and", "Ann", "saw", "Paris", "today")
    both, whole = (
        (detection("a person"), detection("city"), detection(), detection("dog", region=False)),
        torch.randn(1, IMAGE),
    )

    def post(id: str, *tags: str, objects: tuple[DetectedObject, ...] = both, image: Tensor | None = whole) -> Pair:
        return Pair(words[: len(tags)], tags, id, objects=objects, image_features=image)

    return [
        post("two entities", "B-PER", "I-PER", "O", "O", "B-LOC", "O"),
        post("no entity", "O", "O", "O"),
        post("one word, an entity", "B-LOC"),
        post("one word, none", "O"),
        post("adjacent, and the last word", "O", "B-PER", "I-PER", "B-PER", "B-LOC"),
        post("orphan that must not join the post before", "I-PER", "I-PER", "O", "I-LOC"),
        post("all words", "B-LOC", "I-LOC", "I-LOC"),
        post("no image", "O", "B-PER", "I-PER", objects=(), image=None),
        post("no image, no entity", "O", "O", objects=(), image=None),
        post("image only", "B-PER", "O", "B-LOC", objects=()),
        post("objects alone", "B-PER", "O", "I-LOC", image=None),
        post("one object", "O", "B-LOC", objects=both[:1], image=None),
        post("a grid", "B-PER", "O", image=torch.randn(4, IMAGE)),
    ]


def run(model: Tagger, some: Sequence[Pair]) -> GraphState:
    return model(collate(model.builder.build_all(some)))


# --- the paper, equations 1 to 12 --------------------------------------------------------------------------


class Paper:
    """Emissions of one post, equation by equation, node by node, with a model's weights."""

    def __init__(self, model: GEI) -> None:
        self.model = model
        self.layers = list(model.layers)
        self.crf = torchcrf.CRF(3, batch_first=True)
        if "spans" in model.heads:
            self.crf.load_state_dict(model.heads["spans"].decoder.state_dict())

    def first(self, kind: type[nn.Module]) -> Any:
        return next(layer for layer in self.layers if isinstance(layer, kind))

    def __call__(self, post: Pair) -> dict[str, Tensor]:
        emissions = {}
        c = self.states(post)
        blocks = [layer for layer in self.layers if isinstance(layer, TransformerLayer)]
        found: list[tuple[int, int]] = []
        if len(blocks) == 2:
            # eqs. 2-4
            side = torch.stack(transformer(blocks[0], c, c))
            emissions["spans"] = (
                side @ self.first(TaggingScores).linear.weight.T + self.first(TaggingScores).linear.bias
            )
            found = self.spans(post, emissions["spans"])
        # eq. 1 and the linear map after it
        maps = self.first(NodeTypeModule).types
        t = [maps["token"](x) for x in transformer(blocks[-1], c, c)]
        v = self.visual(post)
        # section 2.1: max over the words
        e = [self.pool(t, span) for span in found]
        for layer in self.interactions():
            t, e, v = self.interaction(layer, t, e, v, found)
        emit = self.layers[-1].linear
        emissions["tags"] = torch.stack([emit.weight @ x + emit.bias for x in t])
        return emissions

    def states(self, post: Pair) -> list[Tensor]:
        tokenizer, text = self.model.encoder.tokenizer.tokenizer, self.model.encoder.model
        encoded = tokenizer([list(post.words)], is_split_into_words=True, return_tensors="pt")
        states, owner = text(**encoded).last_hidden_state[0], encoded.word_ids(0)
        return [states[owner.index(position)] for position in range(len(post.words))]

    def spans(self, post: Pair, emissions: Tensor) -> list[tuple[int, int]]:
        """Gold in training, else what an independent CRF decodes; read by the package's labels."""
        names = LABELS.span_labels.tags
        if self.model.training and post.labels is not None:
            tags = [span_label(tag) for tag in post.labels]
        else:
            whole = torch.ones(1, len(post.words), dtype=torch.bool)
            tags = [names[label] for label in self.crf.decode(emissions[None], whole)[0]]
        return [(span.start, span.end) for span in tags_to_spans(tags)]

    def visual(self, post: Pair) -> list[Tensor]:
        """Eqs. 5-6: the image, then its objects."""
        regions = not any(isinstance(layer, ObjectEncoder) for layer in self.layers)
        found = []
        if post.image_features is not None:
            rows = post.image_features if regions else [post.image_features.sum(0) / len(post.image_features)]
            found += [self.first(ImageEncoder).linear(row) for row in rows]
        if regions:
            return [torch.relu(row) for row in found]
        objects, table = self.first(ObjectEncoder), self.model.encoder.model.get_input_embeddings()
        for o in post.objects:
            x = torch.zeros(WIDTH)
            if o.region is not None:
                x = x + objects.region(o.region)
            if o.label:
                ids = self.model.encoder.tokenizer.tokenizer(o.label, add_special_tokens=False)["input_ids"]
                x = x + objects.label(objects.norm(torch.stack([table.weight[piece] for piece in ids]).mean(0)))
            found.append(x)
        return [torch.relu(row) for row in found]

    def interactions(self) -> Iterator[list[nn.Module]]:
        """The modules of each interacting layer; it begins where words attend words."""
        starts = [
            position
            for position, layer in enumerate(self.layers)
            if isinstance(layer, HeteroLayer) and TOKENS in layer.relations
        ]
        for start, end in zip(starts, [*starts[1:], len(self.layers) - 1], strict=True):
            yield self.layers[start:end]

    def interaction(
        self, layer: list[nn.Module], t: list[Tensor], e: list[Tensor], v: list[Tensor], found: list
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        inside, between, *rest = layer
        assert isinstance(inside, HeteroLayer)
        assert isinstance(between, HeteroLayer)
        alone = next(module for module in rest if isinstance(module, NodeTypeModule))
        a_t, a_v = (inside.operators[inside.relations.index(key)] for key in (TOKENS, VISUALS))
        # eq. 7
        d_t = [norm(inside.residual["token"].norm, x + attention(a_t, x, t)) for x in t]
        d_v = [norm(inside.residual["visual"].norm, x + attention(a_v, x, v)) for x in v]
        if FILLS in getattr(rest[0], "relations", ()):
            # eqs. 8-10
            m_e = [self.mix(between, TO_ENTITIES, h, d_v) for h in e]
            m_v = [self.mix(between, FROM_ENTITIES, h, e) for h in d_v]
            # eqs. 11-12
            m_t, highway = list(d_t), rest[0].operators[0].highway
            for m, (start, end) in zip(m_e, found, strict=True):
                for i in range(start, end):
                    m_t[i] = gate(highway, m, d_t[i])
        else:
            # table 1: no entity nodes, so the words themselves attend to the image
            words = [i for i in range(len(t)) if any(start <= i < end for start, end in found)]
            words = words if "spans" in self.model.heads else list(range(len(t)))
            m_t = [self.mix(between, TO_TOKENS, x, d_v) if i in words else x for i, x in enumerate(d_t)]
            m_v = [self.mix(between, FROM_TOKENS, x, [d_t[i] for i in words]) for x in d_v]
        t = [forward(alone.types["token"], x) for x in m_t]
        if "visual" in alone.types:
            v = [forward(alone.types["visual"], x) for x in m_v]
        return t, [self.pool(t, span) for span in found], v

    @staticmethod
    def mix(layer: HeteroLayer, key: Any, receiver: Tensor, senders: list[Tensor]) -> Tensor:
        if key not in layer.relations or not senders:
            return receiver
        gated = layer.operators[layer.relations.index(key)]
        return gate(gated.highway, attention(gated.operator, receiver, senders), receiver)

    @staticmethod
    def pool(t: list[Tensor], span: tuple[int, int]) -> Tensor:
        words = t[span[0] : span[1]]
        return torch.stack([max(x[feature] for x in words) for feature in range(len(words[0]))])


def gate(highway: nn.Module, message: Tensor, old: Tensor) -> Tensor:
    """Eqs. 9-10 and 11-12: no bias."""
    alpha = 1 / (1 + torch.exp(-(highway.a.weight @ message + highway.b.weight @ old)))
    return alpha * message + (1 - alpha) * old


def forward(module: FeedForward, x: Tensor) -> Tensor:
    return norm(module.residual.norm, x + module.outer(module.inner(x).clamp(min=0)))


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("training", [True, False], ids=["gold", "predicted"])
@every_row
@torch.no_grad()
def test_paper(posts: list[Pair], row: str, training: bool, layers: int) -> None:
    model = gei(row=row, num_layers=layers).train(training)
    for part in (model.layers[1:], model.heads):
        scatter(part, seed=8)
    graph, paper = run(model, posts), Paper(model)
    expected = [paper(post) for post in posts]
    assert graph.emissions.keys() == expected[0].keys()
    if POOLS in graph.edges:
        assert 0 < graph.edges[POOLS].index.shape[1] < graph.layouts["token"].num_nodes
    for task in expected[0]:
        whole = torch.cat([one[task] for one in expected])
        torch.testing.assert_close(graph.emissions[task], whole, rtol=1e-5, atol=1e-5)
    gates = [part.highway for part in model.modules() if isinstance(part, GatedMessage)]
    assert all(part.bias is None for gate in gates for part in (gate.a, gate.b)), "eqs. 9 and 11 have none"


def test_loss(posts: list[Pair]) -> None:
    """L = 0.5 L_span + 0.5 L_tag, each the negative log-likelihood of eqs. 3-4 and 13-14."""
    model = gei().train()
    graph, total = run(model, posts), torch.zeros(())
    for task, names in (("tags", LABELS), ("spans", LABELS.span_labels)):
        crf = torchcrf.CRF(len(names), batch_first=True)
        crf.load_state_dict(model.heads[task].decoder.state_dict())
        for scores, post in zip(graph.emissions[task].split([len(p.words) for p in posts]), posts, strict=True):
            gold_tags = post.labels or ()
            gold = torch.tensor([[names.index(tag if task == "tags" else span_label(tag)) for tag in gold_tags]])
            total = total - 0.5 * crf(scores[None], gold, gold >= 0) / len(posts)
    torch.testing.assert_close(model.loss(graph), total, rtol=1e-5, atol=1e-5)
    assert list(gei(row="- span detection").heads) == ["tags"]


# --- entities created in the forward pass ------------------------------------------------------------------


def test_entities_are_those_of_the_gold_labels_in_training(posts: list[Pair]) -> None:
    graph = run(gei().train(), posts)
    expected = [
        [(s.start, s.end) for s in tags_to_spans([span_label(tag) for tag in post.labels or ()])] for post in posts
    ]
    assert entity_spans(graph) == expected
    assert sum(map(len, expected)) == graph.x["entity"].shape[0] == 16
    assert (graph.edges[POOLS].index.flip(0) == graph.edges[FILLS].index).all()
    for key in (TO_ENTITIES, FROM_ENTITIES):
        assert graph.edges[key].complete
        assert (graph.edges[key].src, graph.edges[key].dst) == (
            graph.layouts[key[0]],
            graph.layouts[key[2]],
        )


def entity_spans(graph: GraphState) -> list[list[tuple[int, int]]]:
    """First and last word, half-open, of every post's entities, read off their edges."""
    words, entities = graph.layouts["token"], graph.layouts["entity"]
    found: list[list[tuple[int, int]]] = [[] for _ in range(graph.num_graphs)]
    for entity in range(entities.num_nodes):
        inside = [w for w, e in graph.edges[POOLS].index.t().tolist() if e == entity]
        post = int(entities.graph_index[entity])
        start = inside[0] - int(words.ptr[post])
        assert inside == list(range(inside[0], inside[-1] + 1))
        assert {int(words.graph_index[w]) for w in inside} == {post}
        found[post].append((start, start + len(inside)))
    return found


def test_without_labels_and_in_evaluation_they_are_predicted(posts: list[Pair]) -> None:
    model = gei(4)
    bare = [replace(post, labels=None) for post in posts]
    evaluated = run(model.eval(), posts)
    names = LABELS.span_labels.tags
    best = model.heads["spans"].decode_labels(evaluated).split([len(post.words) for post in posts])
    expected = [[(s.start, s.end) for s in tags_to_spans([names[label] for label in row])] for row in best]
    assert entity_spans(evaluated) == expected
    assert 0 < sum(map(len, expected)) < sum(len(post.words) for post in posts)
    assert entity_spans(run(model.train(), posts)) != expected
    for mode in (True, False):
        unlabelled = run(model.train(mode), bare)
        assert torch.equal(unlabelled.emissions["tags"], evaluated.emissions["tags"])
    # each post by itself
    assert entity_spans(run(model.train(), [posts[0], *bare[1:]])) == [[(0, 2), (4, 5)], *expected[1:]]


def test_given_entities_are_ignored(posts: list[Pair]) -> None:
    model = gei().train()
    with_entities = [replace(post, entities=((0, 1), (0, len(post.words)))) for post in posts]
    one, other = run(model, posts), run(model, with_entities)
    assert torch.equal(one.emissions["tags"], other.emissions["tags"])
    assert other.data["entity"].num_nodes == 2 * len(posts)


@every_row
@pytest.mark.parametrize("training", [True, False])
def test_half_precision(posts: list[Pair], row: str, training: bool) -> None:
    """Near full precision where entities are given; predicted ones may differ where two scores are nearly equal."""
    model = gei(2, row=row).train(training)
    whole = run(model, posts)
    with torch.autocast("cpu", torch.bfloat16):
        half = run(model, posts)
        loss = model.loss(half)
    loss.backward()
    assert all(w.grad is not None and w.grad.isfinite().all() for w in model.parameters())
    if training:
        found, expected = half.emissions["tags"].float(), whole.emissions["tags"]
        torch.testing.assert_close(found, expected, rtol=0.1, atol=0.15)


@every_row
@pytest.mark.parametrize("training", [True, False])
def test_alone_equals_batched(posts: list[Pair], row: str, training: bool) -> None:
    model = gei(2, row=row, num_layers=3).train(training)
    together = run(model, posts)
    whole = together.emissions["tags"].split([len(post.words) for post in posts])
    for scores, post in zip(whole, posts, strict=True):
        torch.testing.assert_close(run(model, [post]).emissions["tags"], scores, rtol=1e-5, atol=1e-5)
    alone = torch.stack([model.loss(run(model, [post])) for post in posts])
    torch.testing.assert_close(model.loss(together), alone.mean(), rtol=1e-5, atol=1e-5)


@every_row
@pytest.mark.parametrize("which", ["all of them", "no entity", "no image", "no image, no entity"])
def test_every_parameter_stays_in_the_computation(posts: list[Pair], row: str, which: str) -> None:
    some = posts if which == "all of them" else [post for post in posts if post.id == which] * 2
    model = gei(row=row, num_layers=2).train()
    model.loss(run(model, some)).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        if which == "all of them" and not name.endswith("key.bias"):  # softmax does not depend on it
            assert weight.grad.any(), name


def test_no_unused_parameters() -> None:
    model = gei(num_layers=3)
    relations = [layer.relations for layer in model.layers if isinstance(layer, HeteroLayer)]
    inside, last = [TOKENS, VISUALS], [[TOKENS, VISUALS], [TO_ENTITIES], [FILLS]]
    assert relations == 2 * [inside, [TO_ENTITIES, FROM_ENTITIES], [FILLS], [POOLS]] + last
    alone = [list(layer.types) for layer in model.layers if isinstance(layer, NodeTypeModule)][1:]
    assert alone == [["token", "visual"]] * 2 + [["token"]]


# --- words that depend on the image ------------------------------------------------------------------------


def reached(model: GEI, some: Sequence[Pair], *, isolate_words: bool = False) -> list[list[bool]]:
    """For every word of every post: whether its scores have a gradient with respect to the image nodes.

    ``isolate_words``: from the layer that adds image nodes on, each word attends to itself only.
    """
    graph = GraphState.from_batch(collate(model.builder.build_all(some)), model.schema)
    image_states = None
    for layer in model.layers:
        graph = layer(graph)
        if isinstance(layer, MergeNodeTypes):
            image_states = graph.x["visual"]
            if isolate_words:
                words = graph.layouts["token"]
                itself = torch.arange(words.num_nodes).repeat(2, 1)
                graph = graph.with_edges({TOKENS: Edges(words, words, itself)})
    assert image_states is not None
    scores = graph.emissions["tags"]
    weights = torch.randn(scores.shape, generator=torch.Generator().manual_seed(0))
    found = [
        bool(torch.autograd.grad(row, image_states, retain_graph=True)[0].any()) for row in (scores * weights).sum(1)
    ]
    rows = iter(found)
    return [[next(rows) for _ in post.words] for post in some]


def inside(post: Pair) -> list[bool]:
    """Which words lie in an entity of a post with an image or objects."""
    shown = bool(post.objects) or post.image_features is not None
    return [shown and tag != "O" for tag in post.labels or ()]


@pytest.mark.parametrize("row", ["GEI", "- entity-level interaction", "+ image region"])
def test_words_outside_entities_have_no_gradient_from_the_image(posts: list[Pair], row: str) -> None:
    if row == "+ image region":
        posts = [replace(post, objects=()) for post in posts]
    expected = [inside(post) for post in posts]
    # eqs. 8-12
    assert reached(gei(1, row=row, num_layers=1), posts) == expected
    # with more layers other words depend on the image only by attention to words of an entity
    assert reached(gei(1, row=row, num_layers=3), posts, isolate_words=True) == expected
    spread = [[any(words)] * len(words) for words in expected]
    assert reached(gei(1, row=row, num_layers=3), posts) == spread
    assert spread[1] == [False] * 3, "without an entity no word depends on the image"


def test_without_span_detection_every_word_depends_on_the_image(posts: list[Pair]) -> None:
    shown = [[bool(post.objects) or post.image_features is not None] * len(post.words) for post in posts]
    assert reached(gei(1, row="- span detection", num_layers=1), posts) == shown


def test_another_image_changes_only_words_in_entities(posts: list[Pair]) -> None:
    """The same by comparing scores, in evaluation, with predicted entities."""
    model = gei(4, num_layers=1).eval()
    other = [
        replace(post, image_features=torch.randn(1, IMAGE), objects=(detection("a hat"), detection("sea")))
        for post in posts
    ]
    one, two = run(model, posts), run(model, other)
    same = [torch.equal(a, b) for a, b in zip(one.emissions["tags"], two.emissions["tags"], strict=True)]
    words = set(one.edges[POOLS].index[0].tolist())
    assert same == [word not in words for word in range(len(same))]
    assert torch.equal(one.emissions["spans"], two.emissions["spans"]), "nor does it move the spans"


# --- scheduled sampling ------------------------------------------------------------------------------------


def sampling(model: Tagger) -> ScheduledSampling:
    return next(part for part in model.modules() if isinstance(part, ScheduledSampling))


def test_share_of_predicted_entities() -> None:
    layer = sampling(gei())
    shares = []
    for epoch in range(9):
        layer.on_epoch_start(epoch)
        shares.append(float(layer.share))
    assert shares == pytest.approx([0, 0, 0, 0.225, 0.45, 0.675, 0.9, 0.9, 0.9])


def test_the_share_is_saved_and_loaded(posts: list[Pair], tmp_path: Path) -> None:
    model = gei(scheduled_sampling=ScheduledSamplingConfig(0, 2, 0.6))
    sampling(model).on_epoch_start(1)
    model.save_pretrained(tmp_path)
    again = GEI.from_pretrained(tmp_path)
    assert float(sampling(again).share) == pytest.approx(0.3)
    sampling(again).on_epoch_start(5)
    assert float(sampling(again).share) == pytest.approx(0.6)
    assert torch.equal(run(again, posts).emissions["tags"], run(model.eval(), posts).emissions["tags"])


def test_between_gold_and_predicted(posts: list[Pair]) -> None:
    model = gei(4).train()
    gold, predicted = entity_spans(run(model, posts)), entity_spans(run(model.eval(), posts))
    differs = [a != b for a, b in zip(gold, predicted, strict=True)]
    assert sum(differs) > 5
    model.train()
    sampling(model).share.fill_(0.5)
    torch.manual_seed(0)
    drawn = [entity_spans(run(model, posts)) for _ in range(40)]
    assert all(one in (a, b) for draw in drawn for one, a, b in zip(draw, gold, predicted, strict=True))
    counts = [sum(draw[post] == predicted[post] for draw in drawn) for post in range(len(posts)) if differs[post]]
    assert all(5 < count < 35 for count in counts), "posts are sampled independently"
    # a copy uses its own span detection
    copied = copy.deepcopy(model).eval()
    with torch.no_grad():
        copied.heads["spans"].decoder.start_transitions.fill_(0.0)
        copied.heads["spans"].decoder.transitions[:, LABELS.span_labels.index("B")] = 50.0
    assert [len(found) for found in entity_spans(run(copied, posts))] != [len(found) for found in predicted]
    assert entity_spans(run(model.eval(), posts)) == predicted


# --- ablations ---------------------------------------------------------------------------------------------


def sizes(model: nn.Module) -> Counter[tuple[int, ...]]:
    return Counter(tuple(weight.shape) for weight in model.parameters())


def parts(model: GEI, *kinds: type[nn.Module]) -> list[nn.Module]:
    return [part for part in model.modules() if isinstance(part, kinds)]


def test_ablations_remove_only_the_named_parts() -> None:
    whole, no_entities, no_spans, regions = (gei(row=row, num_layers=3) for row in ROWS)
    fills = [part for part in parts(whole, GatedMessage) if isinstance(part.operator, SpanPooling)]
    assert len(fills) == 3
    assert sizes(whole) - sizes(no_entities) == sum((sizes(part) for part in fills), Counter())
    assert not sizes(no_entities) - sizes(whole)
    side = [no_entities.layers[1], no_entities.layers[2], no_entities.heads["spans"]]
    assert sizes(no_entities) - sizes(no_spans) == sum((sizes(part) for part in side), Counter())
    assert not sizes(no_spans) - sizes(no_entities)
    assert sizes(whole) - sizes(regions) == sizes(parts(whole, ObjectEncoder)[0])
    assert not sizes(regions) - sizes(whole)
    assert not parts(no_spans, ScheduledSampling, EntityNodes)
    assert no_spans.heads["tags"].weight == whole.heads["tags"].weight == 0.5


def test_schema_descriptions() -> None:
    whole, no_entities, no_spans, regions = (gei(row=row).schema for row in ROWS)
    assert whole == SCHEMA
    assert whole.nodes == ("token", "visual", "entity", "image", "object")
    assert regions.nodes == ("token", "visual", "entity", "image")
    assert regions.relations == whole.relations
    assert "entity" not in (*no_entities.nodes, *no_spans.nodes)
    assert "(visual, shows, token): visuals and tokens are joined where the word lies in an entity." in str(no_entities)
    assert "(visual, shows, token): every visual reaches every token." in str(no_spans)
    assert gei(image_dim=None).schema.nodes == ("token", "visual", "entity", "object")


def test_regions_take_the_place_of_objects(posts: list[Pair]) -> None:
    model = gei(row="+ image region").eval()
    grid = [replace(post, image_features=torch.randn(49, IMAGE)) for post in posts]
    bare = [replace(post, objects=()) for post in grid]
    graph = run(model, grid)
    assert graph.layouts["visual"].counts.tolist() == [49] * len(posts)
    assert torch.equal(graph.emissions["tags"], run(model, bare).emissions["tags"])


def test_contradictory_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="Image Region' needs image_dim"):
        gei(ablate=["+ Image Region"], image_dim=None)


def test_without_span_detection_there_is_no_interaction_either() -> None:
    both = gei(ablate=["- Span Detection", "- Entity-level interaction"])
    assert both.schema == gei(ablate=["- Span Detection"]).schema


def test_hyperparameters_of_the_paper() -> None:
    model = GEI(tiny_encoder(hidden_size=16, num_layers=1, heads=2), LABELS)
    blocks = [layer for layer in model.layers if isinstance(layer, HeteroLayer) and TOKENS in layer.relations]
    assert len(blocks) == 6
    assert {part.num_heads for part in parts(model, RelationAttention)} == {8}
    assert {part.dropout.p for part in parts(model, RelationAttention, AddNorm)} == {0.4}
    assert {name: task.weight for name, task in model.heads.items()} == {"tags": 0.5, "spans": 0.5}
    assert model.layers[-1].linear.in_features == 512
