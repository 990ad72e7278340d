"""The agreement of the tags with and without context, against loops over all tag sequences."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.graph import collate
from mnergraph.graph.context import Agreement, Context
from mnergraph.labels import LabelSet
from mnergraph.models import BERT, BERTCRF, Tagger
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.independent import IndependentTags
from mnergraph.nn.heads.tagging import TAGS
from mnergraph.pair import ContextText, Pair

LABELS = LabelSet.from_types(["PER"])
POSTS = [
    Pair(("Bob", "sang"), ("B-PER", "O"), context=(ContextText("knowledge", "Bob is a man"),)),
    Pair(("rain",), ("O",)),
    Pair(("Bob", "saw", "Ann"), ("B-PER", "O", "B-PER"), context=(ContextText("knowledge", "Ann"),)),
]


def marginals(crf: CRF, emissions: Tensor) -> Tensor:
    """p(y_t), ``[steps, labels]``, by summing over every sequence."""
    steps, labels = emissions.shape
    scores, paths = [], list(itertools.product(range(labels), repeat=steps))
    for path in paths:
        score = crf.start_transitions[path[0]] + crf.end_transitions[path[-1]]
        score = score + sum(emissions[t, y] for t, y in enumerate(path))
        score = score + sum(crf.transitions[a, b] for a, b in itertools.pairwise(path))
        scores.append(score)
    weights = torch.stack(scores).softmax(0)
    rows = [
        [sum(w for w, path in zip(weights, paths, strict=True) if path[t] == y) for y in range(labels)]
        for t in range(steps)
    ]
    return torch.stack([torch.stack(row) for row in rows])  # type: ignore[arg-type]


@pytest.mark.parametrize("constrain", [False, True])
def test_log_marginals_of_a_crf(constrain: bool) -> None:
    """Against the marginals without gradient, and their gradient against the sum over all sequences."""
    torch.manual_seed(0)
    crf = CRF(LABELS.tags, constrain=constrain).double()
    emissions = torch.randn(3, 4, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True] * 4, [True, True, False, False], [False] * 4])
    found = crf.log_marginals(emissions, mask)
    expected = crf.marginals(emissions, mask).double()
    torch.testing.assert_close(found.exp()[mask], expected[mask], atol=1e-6, rtol=1e-6)
    assert not found[~mask].any()
    if not constrain:
        for row, length in ((0, 4), (1, 2)):
            plain = marginals(crf, emissions[row, :length])
            torch.testing.assert_close(found[row, :length].exp(), plain, atol=1e-12, rtol=1e-12)
            weights = torch.randn(length, 3, dtype=torch.float64)
            own, theirs = (
                torch.autograd.grad((weights * p.log()).sum(), [emissions, *crf.parameters()], retain_graph=True)
                for p in (found[row, :length].exp(), plain)
            )
            for one, other in zip(own, theirs, strict=True):
                torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)
    found[mask].sum().backward()
    assert emissions.grad is not None
    assert emissions.grad.isfinite().all()
    assert crf.log_marginals(emissions[:, :0], mask[:, :0]).shape == (3, 0, 3)


def test_log_marginals_of_independent_tags() -> None:
    emissions, mask = torch.randn(2, 3, 3), torch.tensor([[True] * 3, [True, False, False]])
    tags = IndependentTags(LABELS.tags)
    torch.testing.assert_close(tags.log_marginals(emissions, mask).exp()[mask], tags.marginals(emissions, mask)[mask])


def model_of(kind: type[Tagger], agreement: Agreement | None) -> Tagger:
    torch.manual_seed(0)
    encoder = tiny_encoder(["bob", "ann", "rain"], hidden_size=8, num_layers=1, heads=2)
    return kind(encoder, LABELS, dropout=0.0, context=Context(agreement=agreement)).eval()


@pytest.mark.parametrize("kind", [BERT, BERTCRF])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_loss_against_a_loop(kind: type[Tagger], temperature: float) -> None:
    model = model_of(kind, Agreement(weight=0.3, text_weight=0.7, temperature=temperature)).double()
    state = model(collate(model.builder.build_all(POSTS)))
    assert [head.name for head in model.heads.values()] == ["tags", "agreement", "tags_without_context"]
    bare = model(collate(model.builder.build_all([pair.without_context() for pair in POSTS])))
    decoder = model.tagging_head.decoder
    losses = []
    for index, pair in enumerate(POSTS):
        rows = slice(*state.layouts["token"].ptr[index : index + 2].tolist())
        emissions = [graph.emissions[TAGS][rows] for graph in (state, bare)]
        if isinstance(decoder, CRF):
            q, p = (marginals(decoder, scores) for scores in emissions)
        else:
            q, p = (scores.softmax(-1) for scores in emissions)
        q, p = (probability ** (1 / temperature) for probability in (q, p))
        q, p = q / q.sum(-1, keepdim=True), p / p.sum(-1, keepdim=True)
        divergence = (q * (q / p).log()).sum() if pair.context else torch.zeros(())
        nll = [head_loss[index] for head_loss in (model.tagging_head.loss(state), model.tagging_head.loss(bare))]
        losses.append(nll[0] + 0.3 * divergence + 0.7 * nll[1])
    torch.testing.assert_close(model.loss(state), torch.stack(losses).mean(), atol=1e-9, rtol=1e-9)


def test_the_view_with_context_gets_no_gradient_from_the_divergence() -> None:
    model = model_of(BERTCRF, Agreement(weight=1.0, text_weight=0.0))
    state = model(collate(model.builder.build_all(POSTS)))
    scores = state.emissions[TAGS]
    (grad,) = torch.autograd.grad(model.heads["agreement"].loss(state).sum(), scores, allow_unused=True)  # type: ignore[operator]
    assert grad is None
    assert list(model.heads) == ["tags", "agreement"]
    assert model.heads["agreement"].decode(state) == [None] * 3  # type: ignore[operator]


def test_decoding_computes_no_other_view() -> None:
    """Predictions are those of the same weights without the auxiliary heads, and call the encoder once."""
    model, calls = model_of(BERTCRF, Agreement()), []
    model.encoder.model.register_forward_hook(lambda *_: calls.append(1))
    plain = model_of(BERTCRF, None)
    plain.load_state_dict(model.state_dict())
    assert model.predict(POSTS) == plain.predict(POSTS)
    assert len(calls) == 1
    with pytest.raises(KeyError, match="no view 'other'; it has without context"):
        model.forward_examples(POSTS).view("other")


def test_training_computes_each_view_once() -> None:
    model, calls = model_of(BERTCRF, Agreement()).train(), []
    model.encoder.model.register_forward_hook(lambda *_: calls.append(1))
    model.loss(model(collate(model.builder.build_all(POSTS)))).backward()
    assert len(calls) == 2


def test_parameters_are_those_of_the_tags() -> None:
    names = [set(dict(model_of(BERTCRF, agreement).named_parameters())) for agreement in (None, Agreement())]
    assert names[0] == names[1]
