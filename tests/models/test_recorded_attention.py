"""Recording, networkx graphs and occlusion for every model of the package."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import networkx as nx
import pytest
import torch

from mnergraph.explain import AttentionRecord, PairRecord, attention_graph, graphml_safe, occlusion, record_attention
from mnergraph.explain.recorder import RECORDED_MODULES
from mnergraph.graph import Edges, collate
from mnergraph.models import MODELS, Tagger
from mnergraph.nn.conv.attention import AttentionShare
from mnergraph.nn.conv.bilinear_attention import BilinearWeights
from mnergraph.pair import Pair

Build = Callable[..., Tagger]


def kinds() -> Iterator[str]:
    """Every model, and its released form where it has one."""
    for name, model in MODELS.items():
        yield name
        if "variant" in inspect.signature(model).parameters:
            yield f"{name} released"


# the released codes cut posts; theirs are cut here, too
pytestmark = pytest.mark.filterwarnings("ignore:post .* is cut at 128 pieces")
every_model = pytest.mark.parametrize("kind", list(kinds()))


@pytest.fixture
def posts(awkward: dict[str, list[Pair]], everything: list[Pair]) -> list[Pair]:
    return [post for batch in awkward.values() for post in batch] + everything


def recorded(model: Tagger, posts: list[Pair]) -> AttentionRecord:
    with record_attention(model) as record:
        model.forward_examples(posts)
    return record


def check_same_weights(one: PairRecord, other: PairRecord) -> None:
    """The same weights along the same edges, in whatever order these lie."""
    assert one.nodes == other.nodes
    for mine, yours in zip(one.weights, other.weights, strict=True):
        assert (mine.layer, mine.relation, mine.what) == (yours.layer, yours.relation, yours.what)
        torch.testing.assert_close(mine.matrix(), yours.matrix(), atol=1e-5, rtol=1e-4)
    for mine, yours in zip(one.gates, other.gates, strict=True):
        assert (mine.layer, mine.node_type) == (yours.layer, yours.node_type)
        torch.testing.assert_close(mine.values, yours.values, atol=1e-5, rtol=1e-4, equal_nan=True)


@every_model
def test_weights_are_a_distribution_over_the_senders(kind: str, build: Build, posts: list[Pair]) -> None:
    model = build(kind)
    record = recorded(model, posts)
    assert len(record.posts) == len(posts)
    parts = {path: part for path, part in model.named_modules() if isinstance(part, tuple(RECORDED_MODULES))}
    # a text encoder records its attention to context where there is some
    recorded_modules = [part for path, part in parts.items() if not path.endswith(".context_share")]
    result = {w.module for w in record.posts[0].weights} | {g.module for g in record.posts[0].gates}
    result = {path for path in result if not path.endswith(".context_share")}
    assert {id(model.get_submodule(path)) for path in result} == {id(part) for part in recorded_modules}
    for post_record in record.posts:
        for w in post_record.weights:
            # [heads, receivers]
            total = w.matrix().sum(-1)
            if isinstance(model.get_submodule(w.module), BilinearWeights):
                # one distribution over all edges of the post
                torch.testing.assert_close(total.sum(), torch.tensor(float(w.index.shape[1] > 0)))
            elif w.what == "attention":
                attention = torch.zeros(w.nodes[1], dtype=torch.bool).index_fill(0, w.index[1], True)
                if isinstance(model.get_submodule(w.module), AttentionShare):  # the rest is on the text's own keys
                    assert torch.equal(total > 0, attention.expand_as(total))
                    assert (total < 1).all()
                else:
                    torch.testing.assert_close(total, attention.float().expand_as(total))
            assert (w.weights >= 0).all()
            assert (w.weights <= 1).all()


@every_model
def test_alone_is_batched(kind: str, build: Build, posts: list[Pair]) -> None:
    model = build(kind)
    for together, post in zip(recorded(model, posts).posts, posts, strict=True):
        (alone,) = recorded(model, [post]).posts
        check_same_weights(alone, together)


@every_model
def test_dense_is_sparse(kind: str, build: Build, posts: list[Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    model, result = build(kind), []
    for dense in (True, False):
        monkeypatch.setattr(Edges, "is_dense", lambda self, above, dense=dense: dense)
        result.append(recorded(model, posts).posts)
    for one, other in zip(*result, strict=True):
        check_same_weights(one, other)


@every_model
def test_recording_does_not_change_scores_and_removes_its_hooks(
    kind: str, build: Build, everything: list[Pair]
) -> None:
    model = build(kind, dropout=0.3).train()
    batch = collate(model.builder.build_all(everything))

    def step() -> list[torch.Tensor]:
        torch.manual_seed(4)
        model.zero_grad()
        graph = model(batch)
        model.loss(graph).backward()
        return [*graph.emissions.values(), *(weight.grad for weight in model.parameters())]

    reference = step()
    with record_attention(model):
        result = step()
    assert all(torch.equal(one, other) for one, other in zip(result, reference, strict=True))
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


@every_model
def test_saved_and_loaded(kind: str, build: Build, posts: list[Pair], tmp_path: Path) -> None:
    record = recorded(build(kind), posts)
    record.save(tmp_path / "record")
    for one, other in zip(record.posts, AttentionRecord.load(tmp_path / "record").posts, strict=True):
        assert one.pair == other.pair
        check_same_weights(one, other)


@every_model
def test_graphs_and_occlusion(kind: str, build: Build, everything: list[Pair], tmp_path: Path) -> None:
    model = build(kind)
    for post in everything:
        graph = attention_graph(model, post)
        json.dumps(nx.node_link_data(graph), allow_nan=False)
        nx.write_graphml(graphml_safe(graph), tmp_path / "graph.graphml")
        weighted = [expected for _, _, expected in graph.edges(data=True) if "weight" in expected]
        assert bool(weighted) == any(entry.weights.numel() for entry in recorded(model, [post]).posts[0].weights)
        result = occlusion(model, post)
        texts = () if model.context is None else model.context.texts(post)
        assert len(result.effects) == len(model.forward_examples([post]).edges) + len(post.objects) + len(texts) + 1
