"""The CRF against every path, against pytorch-crf, and against bad input."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torchcrf
from torch import Tensor

from mnergraph.labels import tags_to_spans
from mnergraph.nn.heads.crf import CRF, forbidden_transitions
from mnergraph.nn.heads.crf_loss import scaled_messages
from mnergraph.nn.heads.forward_backward import Chain, messages

TAGS = ("O", "B-A", "I-A", "B-B", "I-B")


def ragged(lengths: list[int], slots: int | None = None) -> Tensor:
    return torch.arange(slots or max(lengths))[None] < torch.tensor(lengths)[:, None]


def make(constrain: bool = False, scale: float = 1.0) -> CRF:
    torch.manual_seed(0)
    crf = CRF(TAGS, constrain=constrain).double()
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter, std=scale)
    return crf


def every_path(crf: CRF, emissions: Tensor) -> dict[tuple[int, ...], float]:
    """Log score of each allowed path over emissions [slots, labels]."""
    off_start, off_pairs = (part.tolist() for part in forbidden_transitions(TAGS))
    parameters = (crf.start_transitions, crf.end_transitions, crf.transitions)
    start, end, move = (parameter.tolist() for parameter in parameters)
    words, found = emissions.tolist(), {}
    for path in itertools.product(range(len(TAGS)), repeat=len(words)):
        steps = list(itertools.pairwise(path))
        if crf.constrain and (off_start[path[0]] or any(off_pairs[a][b] for a, b in steps)):
            continue
        score = start[path[0]] + end[path[-1]] + sum(word[tag] for word, tag in zip(words, path, strict=True))
        found[path] = score + sum(move[a][b] for a, b in steps)
    return found


@pytest.mark.parametrize("constrain", [False, True])
@pytest.mark.parametrize("size", [1.0, 200.0])
def test_every_path(constrain: bool, size: float) -> None:
    crf = make(constrain)
    lengths = [4, 1, 3, 0]
    mask, emissions = ragged(lengths), torch.randn(4, 4, 5, dtype=torch.float64) * size
    tags, decoded = torch.full((4, 4), -100), crf.decode(emissions, mask)
    marginals = crf.marginals(emissions, mask)
    spans = [[(0, 2, "A"), (1, 4, "B"), (2, 3, "B")], [(0, 1, "A")], [(1, 2, "B"), (0, 3, "A")], []]
    chances = crf.span_probability(emissions, mask, spans)
    for row, length in enumerate(lengths[:3]):
        paths = every_path(crf, emissions[row, :length])
        log_z = float(torch.logsumexp(torch.tensor(list(paths.values()), dtype=torch.float64), 0))
        best = max(paths, key=paths.__getitem__)
        assert decoded[row].tolist() == [*best, *[0] * (4 - length)]
        tags[row, :length] = torch.tensor(best)
        expected = torch.zeros(4, 5)
        for path, score in paths.items():
            for step, tag in enumerate(path):
                expected[step, tag] += math.exp(score - log_z)
        torch.testing.assert_close(marginals[row], expected, atol=1e-6, rtol=1e-5)
        for (start, end, kind), chance in zip(spans[row], chances[row], strict=True):
            mass = sum(
                math.exp(score - log_z)
                for path, score in paths.items()
                if (start, end, kind) in tags_to_spans([TAGS[tag] for tag in path])
            )
            assert chance == pytest.approx(mass, abs=1e-12)
        alone = crf(emissions[row : row + 1], tags[row : row + 1], mask[row : row + 1])
        assert alone.item() == pytest.approx(paths[best] - log_z, abs=1e-9)
    assert crf(emissions, tags, mask)[3] == 0
    assert not decoded[3].any()
    assert not marginals[3].any()
    assert chances[3] == []


@pytest.mark.parametrize("tags", [TAGS, ("O", "B-A", "I-A", "I-B", "X"), ("I-A", "B-B"), ("O", "B-A")], ids="-".join)
def test_every_span_of_any_label_set(tags: tuple[str, ...]) -> None:
    torch.manual_seed(2)
    crf = CRF(tags).double()
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    lengths = [4, 2]
    emissions, mask = torch.randn(2, 4, len(tags), dtype=torch.float64) * 2, ragged(lengths)
    spans = [
        [
            (start, end, kind)
            for start in range(length)
            for end in range(start + 1, length + 1)
            for kind in ("A", "B")
            if f"I-{kind}" in tags or (f"B-{kind}" in tags and end - start == 1)
        ]
        for length in lengths
    ]
    found = crf.span_probability(emissions, mask, spans)
    expected: list[dict[tuple[int, int, str], float]] = [{}, {}]
    for row, length in enumerate(lengths):
        scores = {
            path: log_score(crf, emissions[row], path) for path in itertools.product(range(len(tags)), repeat=length)
        }
        log_z = torch.tensor([*scores.values()], dtype=torch.float64).logsumexp(0).item()
        for path, score in scores.items():
            for span in tags_to_spans([tags[tag] for tag in path]):
                if span.type:
                    expected[row][span] = expected[row].get(span, 0.0) + math.exp(score - log_z)
    for post, chances, masses in zip(spans, found, expected, strict=True):
        assert set(masses) == set(post)
        assert chances == pytest.approx([masses[span] for span in post], abs=1e-12)


def test_an_entity_that_is_decoded_with_an_inside_tag_is_probable() -> None:
    crf = CRF(TAGS)
    for parameter in crf.parameters():
        torch.nn.init.zeros_(parameter)
    emissions = torch.tensor([[[9.0, 0, 0, 0, 0], [0, 0, 9, 0, 0], [0, 0, 9, 0, 0], [0, 0, 0, 0, 9]]])
    mask = torch.ones(1, 4, dtype=torch.bool)
    assert crf.decode(emissions, mask).tolist() == [[0, 2, 2, 4]]
    ((first, second),) = crf.span_probability(emissions, mask, [[(1, 3, "A"), (3, 4, "B")]])
    assert first > 0.99
    assert second > 0.99


@pytest.mark.parametrize("scale", [0.1, 20.0])
def test_agrees_with_pytorch_crf(scale: float) -> None:
    ours = make(scale=scale).float()
    theirs = torchcrf.CRF(5, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    mask = ragged([128, 1, 77, 30])
    tags = torch.randint(5, mask.shape)
    ours_in, theirs_in = (torch.randn(4, 128, 5).requires_grad_() for _ in range(2))
    theirs_in.data.copy_(ours_in.data)
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0])
    found, reference = ours(ours_in, tags, mask), theirs(theirs_in, tags, mask, reduction="none")
    torch.testing.assert_close(found, reference, rtol=1e-5, atol=1e-3)
    (found * weights).sum().backward()
    (reference * weights).sum().backward()
    torch.testing.assert_close(ours_in.grad, theirs_in.grad, rtol=1e-3, atol=2e-3)
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs.get_parameter(name).grad, rtol=1e-3, atol=1e-2)
    decoded = ours.decode(ours_in, mask)
    assert [row[on].tolist() for row, on in zip(decoded, mask, strict=True)] == theirs.decode(ours_in, mask)


@pytest.mark.parametrize("constrain", [False, True])
@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_gradients(constrain: bool, scale: float) -> None:
    crf = make(constrain, scale)
    mask = ragged([5, 2, 0, 1])
    emissions = torch.randn(4, 5, 5, dtype=torch.float64, requires_grad=True)
    tags = torch.tensor([[0, 1, 2, 2, 3], [3, 4, 9, 9, 9], [-1] * 5, [1, 0, 0, 0, 0]])
    names, values = zip(*crf.named_parameters(), strict=True)

    def loss(scores: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(crf, dict(zip(names, parameters, strict=True)), (scores, tags, mask))

    assert torch.autograd.gradcheck(loss, (emissions, *values))
    loss(emissions, *values).sum().backward()
    assert not emissions.grad[~mask].any()
    if constrain:
        start, pairs = forbidden_transitions(TAGS)
        assert not crf.start_transitions.grad[start].any()
        assert not crf.transitions.grad[pairs].any()


@pytest.mark.parametrize("constrain", [False, True])
def test_both_recursions_agree(constrain: bool) -> None:
    crf = make(constrain, 4.0)
    mask = ragged([40, 3, 17])
    chain = Chain.from_scores(torch.randn(3, 40, 5) * 4, *(scores.detach() for scores in crf.transition_scores()), mask)
    logs, scaled = messages(chain), scaled_messages(chain)
    weights = mask.T * torch.tensor([1.0, -1.0, 0.3], dtype=torch.float64)
    torch.testing.assert_close(logs.log_z, scaled.log_z)
    torch.testing.assert_close(logs.pairwise_marginals(weights), scaled.pairwise_marginals(weights))
    on = mask.T[:, None].expand(-1, 5, -1)
    torch.testing.assert_close(logs.marginals()[on], scaled.marginals()[on])


@pytest.mark.parametrize("constrain", [False, True])
@pytest.mark.parametrize("size", [1e3, 1e4])
def test_huge_scores_stay_finite(constrain: bool, size: float) -> None:
    crf = make(constrain)
    mask = ragged([128, 60])
    emissions = (torch.randn(2, 128, 5) * size).requires_grad_()
    best = crf.decode(emissions, mask)
    found = crf(emissions, best, mask)
    assert (found > -1.5 * 128).all()
    assert (found <= 0).all()
    found.sum().backward()
    assert all(scores.grad.isfinite().all() for scores in (emissions, *crf.parameters()))
    torch.testing.assert_close(crf.marginals(emissions, mask).sum(-1), mask.float())


def test_allowed_path_whose_probability_underflows() -> None:
    crf = CRF(("O", "B-A", "I-A"), constrain=True)
    # O is better by 2000 at the first word, but only B-A allows the I-A of the second and third word
    emissions = torch.tensor([[[0.0, -2000.0, 0.0], [-5000.0, -5000.0, 0.0], [-5000.0, -5000.0, 0.0]]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    assert crf.decode(emissions, mask).tolist() == [[1, 2, 2]]
    assert crf(emissions, torch.tensor([[1, 2, 2]]), mask).item() == pytest.approx(0.0, abs=1e-6)
    assert crf.span_probability(emissions, mask, [[(0, 3, "A")]]) == [[pytest.approx(1.0)]]


@pytest.mark.parametrize("penalty", [-1e4, -math.inf])
def test_penalties_in_parameters(penalty: float) -> None:
    crf, allowed = make(), make(constrain=True)
    start, pairs = forbidden_transitions(TAGS)
    crf.start_transitions.data[start] = penalty
    crf.transitions.data[pairs] = penalty
    mask, emissions = ragged([9, 4]), torch.randn(2, 9, 5, requires_grad=True)
    tags = torch.tensor([[0, 1, 2, 2, 0, 3, 4, 3, 1], [1, 1, 0, 3, 0, 0, 0, 0, 0]])
    found = crf(emissions, tags, mask)
    torch.testing.assert_close(found, allowed(emissions, tags, mask))
    torch.testing.assert_close(crf.marginals(emissions, mask), allowed.marginals(emissions, mask))
    found.sum().backward()
    assert all(scores.grad.isfinite().all() for scores in (emissions, *crf.parameters()))
    forbidden = crf(emissions, torch.full_like(tags, 2), mask)
    assert (forbidden <= penalty / 2).all()


def test_constraints_do_not_change_parameters() -> None:
    crf = make(constrain=True)
    before = {name: value.clone() for name, value in crf.state_dict().items()}
    emissions, mask = torch.randn(8, 20, 5) * 3, torch.ones(8, 20, dtype=torch.bool)
    start, pairs = forbidden_transitions(TAGS)
    decoded = crf.decode(emissions, mask)
    assert not start[decoded[:, 0]].any()
    assert not pairs[decoded[:, :-1], decoded[:, 1:]].any()
    crf(emissions, decoded, mask).sum()
    assert all(torch.equal(before[name], value) for name, value in crf.state_dict().items())


def test_forbidden_transitions() -> None:
    tags = ("PAD", "O", "B-A", "I-A", "I-B", "X")
    start, pairs = forbidden_transitions(tags)
    assert [tag for tag, off in zip(tags, start, strict=True) if off] == ["I-A", "I-B"]
    found = [(tags[a], tags[b]) for a, b in pairs.nonzero().tolist()]
    assert found == [("O", "I-A"), ("O", "I-B"), ("B-A", "I-B"), ("I-A", "I-B"), ("I-B", "I-A")]
    _, plain = forbidden_transitions(("B", "I", "O"))
    assert plain.nonzero().tolist() == [[2, 1]]
    with pytest.raises(ValueError, match="needs a B for every I; there is none for I-B"):
        CRF(tags, constrain=True)


def test_checkpoints_load_in_pytorch_crf_and_back() -> None:
    ours, theirs = CRF(TAGS, constrain=True), torchcrf.CRF(5, batch_first=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(CRF(TAGS).state_dict())
    assert all(bool((value.abs() <= 0.1).all()) for value in ours.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("autocast", [False, True])
def test_narrow_emissions(dtype: torch.dtype, autocast: bool) -> None:
    crf, mask = make().float(), ragged([12, 7])
    tags = torch.randint(5, mask.shape)
    narrow = torch.randn(2, 12, 5).to(dtype).requires_grad_()
    exact = narrow.detach().double().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = crf(narrow, tags, mask)
        assert crf.marginals(narrow, mask).dtype == torch.float32
    assert found.dtype == torch.float32
    wide = crf(exact, tags, mask)
    assert wide.dtype == torch.float64
    torch.testing.assert_close(found, wide.float())
    found.sum().backward()
    wide.sum().backward()
    assert narrow.grad.dtype == dtype
    torch.testing.assert_close(narrow.grad, exact.grad.to(dtype))


def test_deterministic_and_independent_of_masked_values() -> None:
    crf, mask = make(), ragged([6, 2])
    tags, emissions = torch.randint(5, mask.shape), torch.randn(2, 6, 5)
    spoiled = emissions.masked_fill(~mask[..., None], math.nan)
    runs = []
    for scores in (emissions, emissions, spoiled):
        scores = scores.clone().requires_grad_()
        found = crf(scores, tags.masked_fill(~mask, -100), mask)
        runs.append((found, *torch.autograd.grad(found.sum(), [scores, *crf.parameters()])))
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))
    assert torch.equal(crf.decode(emissions, mask), crf.decode(spoiled, mask))


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (2, 3)])
def test_empty_input(shape: tuple[int, int]) -> None:
    crf = make()
    mask, emissions = torch.zeros(shape, dtype=torch.bool), torch.randn(*shape, 5, requires_grad=True)
    found = crf(emissions, torch.full(shape, -100), mask)
    assert found.tolist() == [0.0] * shape[0]
    found.sum().backward()
    assert not emissions.grad.any()
    assert crf.decode(emissions, mask).tolist() == torch.zeros(shape).tolist()
    assert crf.marginals(emissions, mask).shape == (*shape, 5)
    assert crf.span_probability(emissions, mask, [[]] * shape[0]) == [[]] * shape[0]


def test_invalid_values_are_named() -> None:
    crf, allowed = make(), make(constrain=True)
    mask, emissions, tags = ragged([4, 2]), torch.zeros(2, 4, 5), torch.zeros(2, 4, dtype=torch.int64)
    for row, late in ((1, False), (0, True)):
        gaps = mask.clone()
        gaps[row, 0 if not late else 2] = False
        with pytest.raises(ValueError, match=rf"mask of row {row} has a gap before step {3 if late else 1}"):
            crf(emissions, tags, gaps)
    for value in (-100, 5):
        wrong = tags.clone()
        wrong[1, 1] = value
        with pytest.raises(ValueError, match=rf"tag {value} at row 1, step 1 is none of the 5 labels \(0 to 4\)"):
            crf(emissions, wrong, mask)
    for value in (math.nan, math.inf):
        scores = emissions.clone()
        scores[1, 0, 3] = value
        for call in (lambda e: crf(e, tags, mask), lambda e: crf.decode(e, mask)):
            with pytest.raises(FloatingPointError, match=r"emissions of row 1, step 0 hold NaN or \+inf"):
                call(scores)
    with pytest.raises(ValueError, match="row 0, step 0: I-A at the start is not valid BIO2"):
        allowed(emissions, tags + 2, mask)
    with pytest.raises(ValueError, match=r"row 1, step 1: I-B after B-A is not valid BIO2.*repair the tags"):
        allowed(emissions, torch.tensor([[0] * 4, [1, 4, 0, 0]]), mask)
    crf.transitions.data[1, 1] = math.nan
    with pytest.raises(FloatingPointError, match="a parameter of the decoder is NaN"):
        crf.marginals(emissions, mask)


def test_invalid_shapes_and_dtypes_are_named() -> None:
    crf = make()
    mask, emissions, tags = ragged([4, 2]), torch.zeros(2, 4, 5), torch.zeros(2, 4, dtype=torch.int64)
    with pytest.raises(TypeError, match=r"mask must be torch\.bool, not torch\.uint8"):
        crf(emissions, tags, mask.byte())
    with pytest.raises(TypeError, match=r"tags must be torch\.int64, not torch\.int32"):
        crf(emissions, tags.int(), mask)
    with pytest.raises(TypeError, match=r"emissions must be floating point, not torch\.int64"):
        crf.decode(emissions.long(), mask)
    with pytest.raises(ValueError, match=r"emissions must be \[posts, max tokens, 5 labels\], not \[2, 4, 4\]"):
        crf(emissions[..., 1:], tags, mask)
    with pytest.raises(ValueError, match=r"mask must be \[posts, max tokens\] = \[2, 4\].*not \[2, 3\]"):
        crf(emissions, tags, mask[:, 1:])
    with pytest.raises(ValueError, match=r"tags must be \[posts, max tokens\] = \[2, 4\].*not \[4, 2\]"):
        crf(emissions, tags.T, mask)
    with pytest.raises(ValueError, match="1 lists of spans for 2 posts"):
        crf.span_probability(emissions, mask, [[]])
    with pytest.raises(ValueError, match=r"span 1:3 \(A\) does not fit a post of 2 tokens"):
        crf.span_probability(emissions, mask, [[], [(1, 3, "A")]])
    with pytest.raises(ValueError, match=r"span 0:1 \(A\) does not fit a post of 0 tokens"):
        crf.span_probability(emissions[:, :0], mask[:, :0], [[], [(0, 1, "A")]])
    with pytest.raises(ValueError, match="no label B-C for span 0:1; the labels are O, B-A"):
        crf.span_probability(emissions, mask, [[(0, 1, "C")], []])


@pytest.mark.parametrize("constrain", [False, True])
@pytest.mark.parametrize("size", [1.0, 60.0])
def test_spans_of_any_type_are_the_sum_of_their_paths(constrain: bool, size: float) -> None:
    crf = make(constrain)
    mask = ragged([5, 1, 4, 0])
    emissions = (torch.randn(4, 5, 5, dtype=torch.float64) * size).requires_grad_()
    rows = [["O", "B-B", "I-B", "B-A", "B-B"], ["B-B"], ["B-B", "I-B", "I-B", "O"], []]
    tags = torch.full((4, 5), -100)
    for row, names in enumerate(rows):
        tags[row, : len(names)] = torch.tensor([TAGS.index(name) for name in names])
    found = crf.span_log_likelihood(emissions, tags, mask)
    expected = []
    for row, names in enumerate(rows[:3]):
        scores = log_scores(crf, emissions[row, : len(names)])
        marking = [
            score
            for path, score in scores.items()
            if [TAGS[tag][0] for tag in path] == [name[0] for name in names] and not changes_type(path)
        ]
        expected.append(torch.stack(marking).logsumexp(0) - torch.stack([*scores.values()]).logsumexp(0))
    torch.testing.assert_close(found[:3], torch.stack(expected))
    assert found[3] == 0
    inputs = [emissions, *crf.parameters()]
    for one, other in zip(
        torch.autograd.grad(found.sum(), inputs), torch.autograd.grad(sum(expected), inputs), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-7)
    other_types = torch.where(tags > 0, (tags + 1) % 4 + 1, tags)
    assert torch.equal(crf.span_log_likelihood(emissions, other_types, mask), found)


def test_spans_of_plain_labels_are_their_tags() -> None:
    crf = CRF(("O", "B", "I")).double()
    emissions, mask, tags = torch.randn(2, 3, 3).double(), ragged([3, 2]), torch.tensor([[1, 2, 0], [0, 1, 0]])
    torch.testing.assert_close(crf.span_log_likelihood(emissions, tags, mask), crf(emissions, tags, mask))


def log_scores(crf: CRF, emissions: Tensor) -> dict[tuple[int, ...], Tensor]:
    """Log score of each allowed path, with gradients."""
    found = {}
    for path in every_path(crf, emissions):
        score = crf.start_transitions[path[0]] + crf.end_transitions[path[-1]]
        score = score + sum(word[tag] for word, tag in zip(emissions, path, strict=True))
        found[path] = score + sum(crf.transitions[a, b] for a, b in itertools.pairwise(path))
    return found


def log_score(crf: CRF, emissions: Tensor, path: tuple[int, ...]) -> float:
    score = crf.start_transitions[path[0]] + crf.end_transitions[path[-1]]
    score = score + sum(crf.transitions[a, b] for a, b in itertools.pairwise(path))
    return (score + sum(word[tag] for word, tag in zip(emissions, path, strict=False))).item()


def changes_type(path: tuple[int, ...]) -> bool:
    """Whether an entity begins as one type and goes on as another."""
    names = [TAGS[tag] for tag in path]
    return any(b[0] == "I" and a != "O" and a[1:] != b[1:] for a, b in itertools.pairwise(names))
