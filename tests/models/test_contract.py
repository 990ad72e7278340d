"""Properties of every model."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from fakes import check_same
from torch_geometric.loader import DataLoader

import mnergraph.models
from mnergraph import BatchConfig, Predictor
from mnergraph.data import GraphDataset
from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.graph import collate, with_pair
from mnergraph.labels import LabelSet
from mnergraph.models import MODELS, UMGF, Tagger
from mnergraph.models.registry import GROUNDERS
from mnergraph.nn.state import GraphState
from mnergraph.pair import DetectedObject, Pair

Build = Callable[..., Tagger]
#: Every model, every form of it, and those with BERT or LSTM with each.
# the released codes cut posts; theirs are cut here, too
pytestmark = pytest.mark.filterwarnings("ignore:post .* is cut at 128 pieces")
KINDS = [
    *MODELS,
    *("UMT released", "UMGF released", "MGCMT released", "HVPNeT released"),
    *("GVATT words", "AdaCAN words", "OCSGA words", "Object-AGBAN words", "ATTR-MMKG-MNER words"),
]
EDGE_CASES = [
    "no object",
    "no image",
    "no objects in two posts",
    "an image for one of two",
    "one region",
    "one word",
    "128 words",
    "erased words",
    "only erased words",
    "a word too long",
    "objects without features",
    "object without a label",
    "thirty objects",
    "one object on a phrase",
    "I- without B-",
]
#: Models whose batch norms read the whole batch in training mode.
WITH_BATCH_NORM = {"OCSGA", "Object-AGBAN"}
#: Models with losses that compare the posts of a batch in training mode; their features are each post's own.
WITH_BATCH_LOSSES = {"MAF"}
every_model = pytest.mark.parametrize("kind", KINDS)


def run(model: Tagger, posts: Sequence[Pair]) -> GraphState:
    return model(collate(model.builder.build_all(posts)))


def test_every_registered_model_is_tested() -> None:
    modules = [
        import_module(found.name) for found in pkgutil.walk_packages(mnergraph.models.__path__, "mnergraph.models.")
    ]
    defined = {
        kind
        for module in modules
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Tagger) and kind is not Tagger
    }
    # those that ground the entities of another model predict no tags; test_evg.py has them
    assert defined == {*MODELS.values(), *GROUNDERS.values()}
    variants = {f"{name} released" for name in MODELS if "variant" in inspect.signature(MODELS[name]).parameters}
    readers = {name: str(inspect.signature(MODELS[name]).parameters["encoder"].annotation) for name in MODELS}
    words = {f"{name} words" for name, read in readers.items() if "|" in read}
    assert {*MODELS, *variants, *words} == set(KINDS), "a model, a variant or an encoder is not under contract"


def test_models_do_not_override_forward_and_loss() -> None:
    for model in MODELS.values():
        assert model.forward is Tagger.forward
        assert model.loss is Tagger.loss


@pytest.mark.parametrize("max_length", [512, 16])
@pytest.mark.parametrize("case", EDGE_CASES)
@every_model
def test_awkward_posts(kind: str, case: str, max_length: int, build: Build, awkward: dict[str, list[Pair]]) -> None:
    assert list(awkward) == EDGE_CASES
    model = build(kind, encoder=tiny_encoder(hidden_size=16, num_layers=1, heads=2, max_length=max_length)).train()
    posts = awkward[case]
    graph = run(model, posts)
    loss = model.loss(graph)
    loss.backward()
    assert loss.isfinite()
    missing = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert not missing, f"{missing} stand outside the computation, which several devices do not bear"
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)
    tags = model.decode_tags(graph)
    assert [len(row) for row in tags] == [len(post.words) for post in posts]
    assert {tag for row in tags for tag in row} <= {"O", "B-PER", "I-PER", "B-LOC", "I-LOC"}
    for found in model.decode_entities(graph):
        assert all(0.0 <= entity.score <= 1.0 for entity in found)


@every_model
def test_graphs_from_disk_in_batches_of_pyg(
    kind: str, build: Build, awkward: dict[str, list[Pair]], everything: list[Pair], tmp_path: Path
) -> None:
    """Saved, loaded under torch's safe default and batched by PyG's own loader: the same loss, the same entities."""
    posts = [post for batch in awkward.values() for post in batch] + everything
    dataset = GraphDataset(tmp_path, posts, build(kind).builder)
    (whole,) = DataLoader(dataset, batch_size=len(posts))
    ours = collate(build(kind).builder.build_all(posts))
    assert "pair" not in whole
    check_same(with_pair(whole), ours)
    for begin, batch in zip(range(0, len(posts), 5), DataLoader(dataset, batch_size=5), strict=True):
        check_same(with_pair(batch), collate(build(kind).builder.build_all(posts[begin : begin + 5])))
    losses, found = [], []
    for batch in (ours, whole):
        model = build(kind).train()
        torch.manual_seed(0)
        losses.append(model.loss(model(batch)))
        found.append(model.eval().decode_entities(model(batch)))
    assert torch.equal(*losses)
    assert found[0] == found[1]
    assert any(found[0])


@every_model
def test_every_parameter_has_a_gradient(kind: str, build: Build, everything: list[Pair]) -> None:
    model = build(kind)
    model.loss(run(model, everything)).backward()
    still = [
        name
        for name, weight in model.named_parameters()
        if (weight.grad is None or not weight.grad.any())
        and not name.endswith("key.bias")  # softmax does not depend on it
    ]
    assert not still


@every_model
@pytest.mark.parametrize(("mode", "max_length"), [("train", 512), ("eval", 16)])
def test_alone_equals_batched(
    kind: str,
    mode: str,
    max_length: int,
    build: Build,
    awkward: dict[str, list[Pair]],
    everything: list[Pair],
) -> None:
    # in evaluation mode every model's posts are independent
    training = mode == "train" and kind.split()[0] not in WITH_BATCH_NORM
    encoder = tiny_encoder(hidden_size=16, num_layers=1, heads=2, max_length=max_length)
    model = build(kind, encoder=encoder).train(training)
    posts = [post for batch in awkward.values() for post in batch] + everything
    together = run(model, posts)
    tags, losses = model.decode_tags(together), []
    emissions = together.layouts["token"].to_dense(together.emissions["tags"])
    for index, post in enumerate(posts):
        alone = run(model, [post])
        scores = alone.emissions["tags"]
        torch.testing.assert_close(emissions[index, : len(scores)], scores, rtol=1e-5, atol=1e-5)
        assert model.decode_tags(alone)[0] == tags[index]
        losses.append(model.loss(alone))
    if training and kind in WITH_BATCH_LOSSES:
        return
    whole = torch.stack(losses).mean() if model.reduction == "mean" else torch.stack(losses).sum()
    torch.testing.assert_close(model.loss(together), whole, rtol=1e-5, atol=1e-4)


@every_model
def test_training_without_dropout_equals_evaluation(kind: str, build: Build, everything: list[Pair]) -> None:
    model = build(kind)
    # without labels, for GEI reads them in training
    posts = [replace(post, labels=None) for post in everything]
    trained, evaluated = run(model.train(), posts), run(model.eval(), posts)
    if kind.split()[0] not in WITH_BATCH_NORM:
        torch.testing.assert_close(trained.emissions["tags"], evaluated.emissions["tags"], rtol=0, atol=0)
    with_dropout = build(kind, dropout=0.5)
    with_dropout.load_state_dict(model.state_dict())  # batch norms have read the posts
    torch.testing.assert_close(run(with_dropout.eval(), posts).emissions["tags"], evaluated.emissions["tags"])
    assert not torch.equal(run(with_dropout.train(), posts).emissions["tags"], evaluated.emissions["tags"])


@every_model
def test_overfits_ten_posts(kind: str, build: Build) -> None:
    torch.manual_seed(0)
    names = ["bob", "ann", "lee", "paris", "rome", "oslo"]
    words = [*names, "saw", "in", "a", "the"]
    tag_of = dict.fromkeys(words, "O") | dict.fromkeys(names[:3], "B-PER") | dict.fromkeys(names[3:], "B-LOC")
    # a batch norm amplifies the rounding of features that are all alike
    labels = ("saw", "in", "the") if kind.split()[0] in WITH_BATCH_NORM else ("hat",) * 3
    order = [torch.randperm(len(words))[:5].tolist() for _ in range(10)]
    sentences = [tuple(words[word] for word in sentence) for sentence in order]
    posts = [
        Pair(
            sentence,
            tuple(tag_of[word] for word in sentence),
            str(index),
            objects=tuple(map(DetectedObject, labels[index % 2 :][: index % 3])),
        )
        for index, sentence in enumerate(sentences)
    ]
    model = build(kind, encoder=tiny_encoder(words, hidden_size=16, num_layers=1, heads=2)).train()
    batch = collate(model.builder.build_all(posts))
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-2)
    for _ in range(60 if kind.split()[0] in WITH_BATCH_NORM else 30):
        optimiser.zero_grad()
        model.loss(model(batch)).backward()
        optimiser.step()
    for _ in range(60 if kind.split()[0] in WITH_BATCH_NORM else 0):
        model(batch)  # running statistics lag behind weights that change fast
    assert [tuple(tags) for tags in model.eval().decode_tags(model(batch))] == [post.labels for post in posts]


@every_model
def test_posts_without_labels(kind: str, build: Build, everything: list[Pair]) -> None:
    model = build(kind)
    bare = [replace(post, labels=None) for post in everything]
    graph = run(model, [everything[0], replace(bare[1], id="unlabelled")])
    assert [len(row) for row in model.decode_tags(graph)] == [9, 9]
    with pytest.raises(ValueError, match=r"posts without labels can't be trained on or scored: 'unlabelled'$"):
        model.loss(graph)


@every_model
def test_prediction(kind: str, build: Build, everything: list[Pair]) -> None:
    model = build(kind, dropout=0.5).train()
    bare = [replace(post, labels=None) for post in everything]
    found = model.predict(bare)
    assert model.training, "predicting leaves the mode as it was"
    assert found == model.predict(everything) == model.eval().predict(bare)
    for tags, entities in zip(model.decode_tags(run(model, bare)), found, strict=True):
        covered = {index for entity in entities for index in range(entity.start, entity.end)}
        assert covered == {index for index, tag in enumerate(tags) if tag != "O"}
    assert model.predict([]) == []
    # what was computed in inference mode is not in the way of training
    model.loss(run(model.train(), everything)).backward()


@pytest.mark.filterwarnings("ignore:1 of 2 posts has no:UserWarning")
@every_model
def test_prediction_in_bf16(kind: str, build: Build, everything: list[Pair]) -> None:
    model = build(kind).eval()
    full, half = (
        [line["entities"] for line in Predictor(model, batching=BatchConfig(precision=precision))(everything)]
        for precision in ("fp32", "bf16")
    )
    assert len(half) == len(everything)
    scores = {
        name: {(n, e["start"], e["type"]): e["score"] for n, found in enumerate(lines) for e in found}
        for name, lines in (("fp32", full), ("bf16", half))
    }
    common = scores["fp32"].keys() & scores["bf16"].keys()
    # random weights: scores are close to one another, and a few change places
    assert 2 * len(common) >= len(scores["fp32"])
    assert all(abs(scores["fp32"][key] - scores["bf16"][key]) < 0.1 for key in common)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


@every_model
def test_a_single_graph_is_a_batch_of_one(kind: str, build: Build, everything: list[Pair]) -> None:
    model = build(kind)
    alone, batch = model(model.builder(everything[0])), run(model, everything[:1])
    assert torch.equal(alone.emissions["tags"], batch.emissions["tags"])


@every_model
def test_text_encoder_has_parameters_of_its_own(kind: str, build: Build) -> None:
    model = build(kind)
    own, all_of_them = set(model.encoder_parameters()), set(model.parameters())
    assert own == set(model.encoder.model.parameters())
    assert own < all_of_them


def test_labels_that_are_not_in_the_set(build: Build) -> None:
    model = build("BERT")
    with pytest.raises(ValueError, match="post 'x': label 'B-MISC' is not among the labels O, B-PER"):
        model.builder(Pair(("a",), ("B-MISC",), "x"))


def test_unknown_variant(labels: LabelSet) -> None:
    with pytest.raises(ValueError, match="variant is paper or released, not 'both'"):
        UMGF(tiny_encoder(), labels, variant="both")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MODELS)
def test_no_constructor_takes_more_than_a_dozen_arguments(name: str) -> None:
    """Besides context and grounding, which many models take in the same way."""
    assert len(inspect.signature(MODELS[name]).parameters.keys() - {"context", "grounding"}) <= 12


@pytest.mark.parametrize("name", [name for name in MODELS if "ablate" in inspect.signature(MODELS[name]).parameters])
def test_ablations_are_checked(name: str, labels: LabelSet) -> None:
    with pytest.raises(ValueError, match="there is no ablation 'w/o all'; there is '"):
        MODELS[name](tiny_encoder(), labels, ablate=["w/o all"])
    with pytest.raises(TypeError, match="ablate is a collection of names, not a string"):
        MODELS[name](tiny_encoder(), labels, ablate="w/o all")
