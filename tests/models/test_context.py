"""Every model over a pretrained encoder with context: its schema and stack as they are without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import uses_word_vectors

from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.graph import collate
from mnergraph.graph.context import CONTEXT, CONTEXT_TO_TOKENS, Agreement, Context
from mnergraph.labels import LabelSet
from mnergraph.models import BERTCRF, MODELS, UMGF, Tagger
from mnergraph.models.registry import MODELS as REGISTRY
from mnergraph.nn.heads.tagging import TaggingHead
from mnergraph.pair import ContextText, Pair

Build = Callable[..., Tagger]
KINDS = [kind for kind in [*MODELS, "UMT released", "UMGF released", "MGCMT released"] if not uses_word_vectors(kind)]
#: The systems that have context of their own.
OWN = ("Captions", "ITA", "PGIM", "ATTR-MMKG-MNER")
every_model = pytest.mark.parametrize("kind", KINDS)
pytestmark = pytest.mark.filterwarnings("ignore:post .* is cut at 128 pieces")
TEXTS = (
    ContextText("caption", "a man saw rain"),
    ContextText("knowledge", "Bob is a man who lives in Paris, and " * 4),
)


def with_context(posts: list[Pair]) -> list[Pair]:
    """Two of three posts with one or two texts about them."""
    return [replace(post, caption=None, context=TEXTS[: index % 3]) for index, post in enumerate(posts)]


@pytest.fixture
def posts(awkward: dict[str, list[Pair]], everything: list[Pair]) -> list[Pair]:
    return with_context([post for batch in awkward.values() for post in batch] + everything)


@every_model
@pytest.mark.parametrize("max_length", [512, 24])
def test_alone_equals_batched(kind: str, max_length: int, build: Build, posts: list[Pair]) -> None:
    encoder = tiny_encoder(["bob", "saw"], hidden_size=16, num_layers=1, heads=2, max_length=max_length)
    agreement = Agreement() if _has_tags(kind, build) else None
    model = build(kind, encoder=encoder, context=Context(budget=12, agreement=agreement)).eval()
    together = model(collate(model.builder.build_all(posts)))
    tags, losses = model.decode_tags(together), []
    for index, post in enumerate(posts):
        alone = model(collate([model.builder(post)]))
        assert model.decode_tags(alone) == [tags[index]]
        losses.append(model.loss(alone))
    whole = torch.stack(losses).mean() if model.reduction == "mean" else torch.stack(losses).sum()
    torch.testing.assert_close(model.loss(together), whole, rtol=1e-5, atol=1e-4)
    assert [len(row) for row in tags] == [len(post.words) for post in posts]


@every_model
def test_every_parameter_learns_and_context_changes_scores(kind: str, build: Build, everything: list[Pair]) -> None:
    model = build(kind, context=Context())
    posts = [replace(post, context=TEXTS) for post in everything]
    graph = model(collate(model.builder.build_all(posts)))
    model.loss(graph).backward()
    assert model.encoder.model.get_input_embeddings().weight.grad.any()  # type: ignore[operator]
    still = [name for name, weight in model.named_parameters() if weight.grad is None and not name.endswith("key.bias")]
    assert not still
    bare = model(collate(model.builder.build_all([post.without_context() for post in posts])))
    scores = [model.loss(it).item() for it in (graph, bare)]
    assert scores[0] != scores[1]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in OWN])
def test_without_context_it_is_the_model_without(kind: str, build: Build, everything: list[Pair]) -> None:
    model, plain = build(kind, context=Context()).eval(), build(kind).eval()
    assert {name for name, _ in model.named_parameters()} == {name for name, _ in plain.named_parameters()}
    plain.load_state_dict(model.state_dict())
    bare = [post.without_context() for post in everything]
    assert model.predict(bare) == plain.predict(bare)
    assert model.schema.without(CONTEXT_TO_TOKENS).relations == plain.schema.relations
    assert {*model.schema.nodes} == {*plain.schema.nodes, CONTEXT}


@every_model
def test_saved_and_loaded(kind: str, build: Build, everything: list[Pair], tmp_path: Path) -> None:
    context = Context(sources=("knowledge", "caption"), budget=9)
    model = build(kind, context=context).eval()
    model.save_pretrained(tmp_path)
    loaded = Tagger.from_pretrained(tmp_path)
    assert loaded.init_arguments["context"] == context
    posts = [replace(post, context=TEXTS) for post in everything]
    assert loaded.predict(posts) == model.predict(posts)


def test_every_model_over_a_pretrained_encoder_takes_context() -> None:
    assert {kind.partition(" ")[0] for kind in KINDS} == {name for name in REGISTRY if not uses_word_vectors(name)}


@pytest.mark.parametrize("kind", ["GVATT words", "AdaCAN words"])
def test_word_vectors_are_refused(kind: str, build: Build) -> None:
    with pytest.raises(ValueError, match="no layer of this model reads context: a Hugging Face encoder does"):
        build(kind, context=Context())


def test_a_budget_that_leaves_no_room_is_refused() -> None:
    encoder = tiny_encoder(hidden_size=16, num_layers=1, heads=2, max_length=40)
    with pytest.raises(ValueError, match=r"a context of 21 word pieces .* give a budget of at most 20"):
        BERTCRF(encoder, LabelSet.from_types(["PER"]), context=Context(budget=21))


def test_agreement_is_saved(tmp_path: Path) -> None:
    context = Context(agreement=Agreement(0.25, 0.0, 4.0))
    UMGF(
        tiny_encoder(hidden_size=16, num_layers=1, heads=2), LabelSet.from_types(["PER"]), context=context
    ).save_pretrained(tmp_path)
    loaded = Tagger.from_pretrained(tmp_path)
    assert loaded.init_arguments["context"] == context
    assert list(loaded.heads) == ["tags", "agreement"]


def _has_tags(kind: str, build: Build) -> bool:
    return isinstance(build(kind).heads["tags"], TaggingHead)
