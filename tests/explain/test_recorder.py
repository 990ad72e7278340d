"""Recorded weights equal those computed by loops, dense or sparse, alone or batched; no hook is left."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from fakes import AROUND, LABELS, NEAR, OBJECTS, TO_OBJECTS, TO_TOKENS, TOKENS, awkward_posts, post, state
from recorded_stack import HEADS, OF, SHOWS, STACK_SCHEMA, WIDTH, build_stack
from torch import Tensor, nn

from mnergraph.explain import AttentionRecord, PairRecord, record_attention
from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.graph import Edges, collate
from mnergraph.models import BERTCRF, UMGF, Tagger
from mnergraph.nn import (
    FeatureModule,
    GatedMix,
    GatedSum,
    GraphState,
    HeteroLayer,
    RelationAttention,
    VisualGate,
)
from mnergraph.nn.conv.attention import AttentionWeights

Make = Callable[..., UMGF]


def with_edge_layout(graph: GraphState, edge_layout: str) -> GraphState:
    return replace(graph, edges={key: edges.with_layout(edge_layout) for key, edges in graph.edges.items()})


def recorded(stack: nn.Module, graph: GraphState) -> AttentionRecord:
    with record_attention(stack) as record:
        stack(graph)
    return record


def hooks(model: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


def rows(graph: GraphState, kind: str, number: int) -> Tensor:
    """The features of one post's nodes."""
    begin, end = graph.layouts[kind].ptr[number : number + 2].tolist()
    return graph.x[kind][begin:end]


def plain_attention(attention: RelationAttention, dst: Tensor, src: Tensor, senders: list[int], h: int) -> Tensor:
    """The weights of one receiver's senders in one head."""
    part, size = slice(h * WIDTH // HEADS, (h + 1) * WIDTH // HEADS), WIDTH // HEADS
    query = attention.query(dst)[part]
    scores = torch.stack([query @ attention.key(src[j])[part] / math.sqrt(size) for j in senders])
    return scores.exp() / scores.exp().sum()


@pytest.mark.parametrize("edge_layout", ["dense", "sparse"])
def test_attention_by_loops(edge_layout: str) -> None:
    torch.manual_seed(0)
    operators = {key: RelationAttention(WIDTH, HEADS) for key in (TOKENS, OBJECTS, TO_TOKENS, TO_OBJECTS, NEAR, AROUND)}
    graph = state(awkward_posts())
    record = recorded(HeteroLayer(operators), with_edge_layout(graph, edge_layout))
    checked = 0
    for number, post_record in enumerate(record.posts):
        assert [w.relation for w in post_record.weights] == list(operators)
        for w in post_record.weights:
            src, dst = rows(graph, w.relation[0], number), rows(graph, w.relation[2], number)
            assert w.nodes == (len(src), len(dst))
            assert w.what == "attention"
            matrix = w.matrix()
            for receiver in w.index[1].unique().tolist()[:6]:
                senders = w.index[0][w.index[1] == receiver].tolist()
                for h in range(HEADS):
                    expected = plain_attention(operators[w.relation], dst[receiver], src, senders, h)
                    torch.testing.assert_close(matrix[h, receiver, senders], expected, atol=1e-5, rtol=1e-5)
                    checked += 1
            # and there are no others than the relation's edges
            own = graph.edges[w.relation].index
            assert w.index.shape[1] == int((graph.layouts[w.relation[2]].graph_index[own[1]] == number).sum())
    assert checked > 200


@pytest.mark.parametrize("edge_layout", ["dense", "sparse"])
def test_gates_by_loops(edge_layout: str) -> None:
    torch.manual_seed(0)
    gates = {TO_TOKENS: GatedSum(WIDTH, bias=True), TOKENS: GatedSum(WIDTH)}
    graph = state([post(6, 3, seed=1), post(2, 0, seed=2), post(3, 1, seed=3)])
    record = recorded(HeteroLayer(gates), with_edge_layout(graph, edge_layout))
    for number, post_record in enumerate(record.posts):
        for w in post_record.weights:
            assert w.what == "mean gate"
            assert w.weights.shape[1] == 1
            src, dst = rows(graph, w.relation[0], number), rows(graph, w.relation[2], number)
            for (j, i), result in zip(w.index.t().tolist(), w.weights[:, 0], strict=True):
                gate = torch.sigmoid(gates[w.relation].dst(dst[i]) + gates[w.relation].src(src[j]))
                torch.testing.assert_close(result, gate.mean(), atol=1e-6, rtol=1e-5)


def test_gates_of_nodes() -> None:
    torch.manual_seed(0)
    graph = state([post(5, 2, seed=1), post(2, 3, seed=2)])
    graph = graph.update(other=graph.x["object"].flip(0))
    gate = VisualGate(WIDTH)
    record = recorded(FeatureModule(gate, in_keys=("object", "other"), out_key="object"), graph)
    expected = torch.sigmoid(gate.a(graph.x["object"]) + gate.b(graph.x["other"])).mean(-1)
    for post_record, values in zip(record.posts, expected.split([2, 3]), strict=True):
        (result,) = post_record.gates
        assert (result.node_type, result.layer) == ("object", "0")
        torch.testing.assert_close(result.values, values)


def check_same_weights(one: PairRecord, other: PairRecord) -> None:
    """The same weights, whatever the order of the edges."""
    assert (one.nodes, one.merged_from) == (other.nodes, other.merged_from)
    for mine, yours in zip(one.weights, other.weights, strict=True):
        named = [(w.layer, w.relation, w.what, w.nodes, w.module) for w in (mine, yours)]
        assert named[0] == named[1]
        torch.testing.assert_close(mine.matrix(), yours.matrix(), atol=1e-5, rtol=1e-4)
    for mine, yours in zip(one.gates, other.gates, strict=True):
        assert (mine.layer, mine.node_type, mine.module) == (yours.layer, yours.node_type, yours.module)
        torch.testing.assert_close(mine.values, yours.values, atol=1e-5, rtol=1e-4, equal_nan=True)
    assert one.dynamic_edges.keys() == other.dynamic_edges.keys()
    for relation, index in one.dynamic_edges.items():
        assert set(map(tuple, index.t().tolist())) == set(map(tuple, other.dynamic_edges[relation].t().tolist()))


@pytest.mark.parametrize("training", [True, False])
def test_dense_is_sparse_and_alone_is_batched(training: bool) -> None:
    stack, posts = build_stack().train(training), awkward_posts()
    graph = state(posts, schema=STACK_SCHEMA)
    dense, sparse = (recorded(stack, with_edge_layout(graph, edge_layout)).posts for edge_layout in ("dense", "sparse"))
    for number, (one, other) in enumerate(zip(dense, sparse, strict=True)):
        if not training:  # dropout changes what later layers are given
            check_same_weights(one, other)
        mine = state([posts[number]], schema=STACK_SCHEMA)
        mine = mine.update(**{kind: rows(graph, kind, number) for kind in graph.x})
        first = [w for w in recorded(stack, mine).posts[0].weights if w.layer in ("0", "1")]
        for w, alone in zip(one.weights, first, strict=False):
            torch.testing.assert_close(w.matrix(), alone.matrix(), atol=1e-5, rtol=1e-4)
        if not training:
            check_same_weights(recorded(stack, mine).posts[0], one)


def test_attention_sums_to_one_and_in_training_too() -> None:
    for edge_layout in ("dense", "sparse"):
        record = recorded(
            build_stack().train(), with_edge_layout(state(awkward_posts(), schema=STACK_SCHEMA), edge_layout)
        )
        for post_record in record.posts:
            for w in post_record.weights:
                assert w.weights.isfinite().all()
                if w.what == "attention":
                    total = torch.zeros(w.nodes[1], HEADS).index_add(0, w.index[1], w.weights)
                    weights_to = torch.zeros(w.nodes[1], dtype=torch.bool).index_fill(0, w.index[1], True)
                    torch.testing.assert_close(total[weights_to], torch.ones(int(weights_to.sum()), HEADS))
                else:
                    assert ((w.weights > 0) & (w.weights < 1)).all()


def test_layers_by_index() -> None:
    record = recorded(build_stack().eval(), state([post(6, 3, seed=1), post(1, 0, seed=2)], schema=STACK_SCHEMA))
    post_record = record.posts[0]
    assert [(w.layer, w.relation) for w in post_record.weights] == [
        ("0", OBJECTS),
        ("0", TO_TOKENS),
        ("0", TO_OBJECTS),
        ("1", TOKENS),
        ("2.0", TO_TOKENS),
        ("5", SHOWS),
        ("6", TOKENS),
    ]
    # one layer twice in the stack
    assert [w.module for w in post_record.weights if w.relation == TOKENS] == [
        "1.operators.0.weights",
        "6.operators.0.weights",
    ]
    assert [(gates.layer, gates.node_type) for gates in post_record.gates] == [
        ("0", "object"),
        ("0", "token"),
        ("1", "token"),
        ("3", "token"),
        ("5", "entity"),
        ("6", "token"),
    ]
    for w in post_record.weights:
        assert isinstance(build_stack().get_submodule(w.module), nn.Module)


def test_nodes_created_in_the_forward_pass() -> None:
    posts = [post(7, 3, seed=1), post(2, 2, seed=2), post(5, 0, seed=3, image=False)]
    record = recorded(build_stack().eval(), state(posts, schema=STACK_SCHEMA))
    one, few, bare = record.posts
    assert [post_record.nodes["entity"] for post_record in record.posts] == [3, 0, 2]
    assert one.spans() == [(0, 2), (2, 4), (4, 6)]
    assert (few.spans(), bare.spans()) == ([], [(0, 2), (2, 4)])
    assert set(one.dynamic_edges) == {OF, SHOWS}
    (shows,) = one.select(SHOWS)
    assert shows.nodes == (one.nodes["image"] + 3, 3)
    # the last word lies in no entity; entities without incoming edges have no gate
    assert one.node_rows("entity", (6, 7)).tolist() == []
    assert one.node_rows("entity", (1, 3)).tolist() == [0, 1]
    gates = {gates.layer: gates.values for gates in bare.gates}
    assert gates["5"].isnan().all()
    assert gates["5"].shape == (2,)


def test_an_operator_shared_by_two_relations() -> None:
    shared = RelationAttention(WIDTH, HEADS)
    stack = nn.Sequential(HeteroLayer({TOKENS: shared, OBJECTS: shared}))
    (post_record,) = recorded(stack, state([post(4, 3)])).posts
    assert [(w.relation, w.module) for w in post_record.weights] == [
        (TOKENS, "0.operators.0.weights"),
        (OBJECTS, "0.operators.1.weights"),
    ]


def test_a_layer_with_two_weights_of_one_relation() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = RelationAttention(WIDTH, HEADS)

        def forward(self, graph: GraphState) -> GraphState:
            for _ in range(2):
                x = graph.x["token"]
                graph = graph.update(token=self.attention(x_dst=x, x_src=x, edges=graph.edges[TOKENS]))
            return graph

    # the edges are those that the layer was given, for it makes no other
    (post_record,) = recorded(nn.Sequential(Twice()), state([post(4, 3)])).posts
    assert [w.layer for w in post_record.weights] == ["0", "0#2"]
    assert not torch.allclose(post_record.weights[0].weights, post_record.weights[1].weights)


def test_calls_are_recorded_separately(umgf: Make) -> None:
    model, posts = umgf(), awkward_posts()
    with record_attention(model) as record:
        model.predict(posts[:3])
        model.predict(posts[3:5])
        model(collate(model.builder.build_all(posts[5:6])))
        model(model.builder(posts[6]))
    assert [len(call.pairs) for call in record.calls] == [3, 2, 1, 1]
    assert [post_record.pair.id for post_record in record.posts] == [pair.id for pair in posts[:7]]
    assert [post_record.word.tolist() for post_record in record.posts] == [list(range(len(p.words))) for p in posts[:7]]
    alone = recorded(model, collate(model.builder.build_all(posts[:3])))
    for one, other in zip(record.posts[:3], alone.posts, strict=True):
        check_same_weights(one, other)
    before = len(record.calls)
    model.predict(posts[:1])
    assert len(record.calls) == before, "over is over"


def test_layers_of_a_model(umgf: Make) -> None:
    model = umgf()
    with record_attention(model) as whole:
        model.predict([post(4, 2)])
    layers = sorted({w.layer for w in whole.posts[0].weights})
    assert layers == [str(number) for number, part in enumerate(model.layers) if isinstance(part, HeteroLayer)]
    # its stack alone, without the model's own call
    graph = GraphState.from_batch(model.builder(post(4, 2)), model.schema)
    with record_attention(model) as record, torch.no_grad():
        model.layers(graph)
    check_same_weights(record.posts[0], whole.posts[0])


def test_a_model_without_relations() -> None:
    model = BERTCRF(tiny_encoder(hidden_size=16, num_layers=1, heads=2), LABELS)
    with record_attention(model) as record:
        model.predict([post(3), post(1)])
    assert [(post_record.weights, post_record.gates) for post_record in record.posts] == [((), ()), ((), ())]
    assert record.posts[0].nodes["token"] == 3


@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize("training", [True, False])
def test_recording_changes_nothing(form: str, training: bool, umgf: Make) -> None:
    model: Tagger = umgf(form).train(training)
    batch = collate(model.builder.build_all(awkward_posts()))

    def step() -> list[Tensor]:
        torch.manual_seed(5)
        model.zero_grad()
        graph = model(batch)
        model.loss(graph).backward()
        return [graph.emissions["tags"], *(weight.grad for weight in model.parameters())]

    expected = step()
    with record_attention(model) as record:
        result = step()
    assert all(torch.equal(one, other) for one, other in zip(result, expected, strict=True))
    assert not any(w.weights.requires_grad for post_record in record.posts for w in post_record.weights)


def test_no_hook_is_left(umgf: Make) -> None:
    model = umgf()
    size = {name: len(vars(part)) for name, part in model.named_modules()}
    with record_attention(model):
        assert hooks(model) > 0
    assert hooks(model) == 0
    with pytest.raises(ZeroDivisionError), record_attention(model):
        _ = 1 / 0
    assert hooks(model) == 0
    assert size == {name: len(vars(part)) for name, part in model.named_modules()}


def test_a_call_that_raises_leaves_nothing_in_the_record(umgf: Make) -> None:
    model = umgf()
    graphs = model.builder.build_all([post(3, 1, seed=1)])
    broken = collate(graphs)
    broken["object"].x = broken["object"].x[:, :2]
    with record_attention(model) as record:
        model.predict([post(4, 2, seed=2)])
        with pytest.raises(RuntimeError):
            model(broken)
        # an exception between two layers with recorded modules
        handle = model.layers[6].register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model.predict([post(4, 2, seed=2)])
        handle.remove()
        model.predict([post(5, 2, seed=3)])
    assert [post_record.pair.id for post_record in record.posts] == ["post-2", "post-3"]
    for post_record in record.posts:
        assert len({(w.layer, w.relation) for w in post_record.weights}) == len(post_record.weights) == 7
    assert hooks(model) == 0


def test_two_records_at_once(umgf: Make) -> None:
    model = umgf()
    with record_attention(model) as outer:
        with record_attention(model) as inner:
            model.predict([post(3, 1)])
        assert hooks(model) > 0
        model.predict([post(2, 1)])
    assert (len(inner.calls), len(outer.calls)) == (1, 2)
    check_same_weights(inner.posts[0], outer.posts[0])


def test_weights_of_inference_mode_are_ordinary_tensors(umgf: Make) -> None:
    model = umgf()
    with record_attention(model) as record:
        model.predict([post(3, 1)])
    for w in record.posts[0].weights:
        scale = torch.ones(w.weights.shape[1], requires_grad=True)
        (w.weights * scale).sum().backward()
        w.weights.mul_(2)


def test_half_precision(umgf: Make) -> None:
    model = umgf()
    with record_attention(model) as record, torch.autocast("cpu", torch.bfloat16):
        model.predict([post(3, 1)])
    assert {w.weights.dtype for w in record.posts[0].weights} == {torch.float32}


def test_weights_outside_of_a_layer() -> None:
    attention, graph = RelationAttention(WIDTH, HEADS), state([post(3)])
    x = graph.x["token"]
    with record_attention(attention), pytest.raises(ValueError, match="weights computed weights outside of any layer"):
        attention(x, x, graph.edges[TOKENS])
    stack = nn.Sequential(HeteroLayer({TOKENS: attention}))
    with record_attention(stack) as record:
        with pytest.raises(ValueError, match="computed outside of the model"):
            attention.weights(x[:, None], x[:, None], graph.edges[TOKENS], True)
        stack(graph)
    assert len(record.calls) == 1


def test_unknown_edges() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = RelationAttention(WIDTH, HEADS)

        def forward(self, graph: GraphState) -> GraphState:
            x = graph.x["token"]
            return graph.update(token=self.attention(x, x, graph.edges[TOKENS].with_layout("dense")))

    stack = nn.Sequential(Own())
    with record_attention(stack), pytest.raises(ValueError, match=r"0.attention.weights computed weights of edges"):
        stack(state([post(3)]))
    assert hooks(stack) == 0


def test_gates_of_ambiguous_node_type() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = GatedMix(WIDTH)

        def forward(self, graph: GraphState) -> GraphState:
            return graph.update(unnamed=self.gate(graph.x["token"], graph.x["token"]))

    stack = nn.Sequential(Both())
    (post_record,) = recorded(stack, state([post(3, 2)])).posts
    assert post_record.gates[0].node_type == "token", "no other type has three nodes"
    with (
        record_attention(stack),
        pytest.raises(ValueError, match=r"computed 3 gates; its layer may write .*GraphState.with_features"),
    ):
        stack(state([post(3, 3)]))
    kept = state([post(3, 3)]).with_features("unnamed", torch.zeros(3, WIDTH), nodes_of="token")
    assert recorded(stack, kept).posts[0].gates[0].node_type == "token"
    # a layer that treats several types has their modules under the types' names
    (post_record,) = recorded(
        HeteroLayer(
            {TOKENS: RelationAttention(WIDTH, 1), OBJECTS: RelationAttention(WIDTH, 1)},
            residual=lambda: GatedMix(WIDTH),
        ),
        state([post(3, 3)]),
    ).posts
    assert [gates.node_type for gates in post_record.gates] == ["token", "object"]


def test_nodes_merged_from_too_few() -> None:
    class Wrong(nn.Module):
        def forward(self, graph: GraphState) -> GraphState:
            return graph.with_parts("token", ["object"])

    stack = nn.Sequential(Wrong())
    with (
        record_attention(stack),
        pytest.raises(ValueError, match="token nodes are merged from object, which are not as"),
    ):
        stack(state([post(3, 2)]))


def test_custom_attention_weights() -> None:
    """A subclass of AttentionWeights is recorded without being registered."""

    class Uniform(AttentionWeights):
        def forward(self, query: Tensor, key: Tensor, edges: Edges, dense: bool) -> Tensor:
            return super().forward(query * 0, key, edges, dense)

    attention = RelationAttention(WIDTH, HEADS)
    attention.weights = Uniform()
    (post_record,) = recorded(HeteroLayer({TOKENS: attention}), state([post(4)])).posts
    torch.testing.assert_close(post_record.weights[0].weights, torch.full((16, HEADS), 0.25))
