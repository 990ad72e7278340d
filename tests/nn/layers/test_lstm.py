"""LSTMs against their equation, one node at a time, whatever other sentences are in the batch."""

from __future__ import annotations

import pytest
import torch
from fakes import awkward_posts, layout, state
from torch import Tensor, nn

from mnergraph.graph import Complete, Layout, Relation, Schema
from mnergraph.nn.layers.lstm import BroadcastToTokens, PackedLSTM, SentenceLSTM, WordLSTM

WIDTH, HIDDEN = 6, 4
ROWS = [layout(3, 1, 5), layout(1), layout(7, 128, 1, 4), layout(2, 2)]


def one_way(lstm: nn.LSTM, x: Tensor, suffix: str = "") -> list[Tensor]:
    """The states of one direction, node by node, by the equations of LSTM's docstring."""
    w, u, b, d = (getattr(lstm, f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    h, c, states = torch.zeros(HIDDEN), torch.zeros(HIDDEN), []
    for row in x:
        i, f, g, o = (w @ row + b + u @ h + d).chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        states.append(h)
    return states


def plain(module: PackedLSTM, x: Tensor) -> tuple[Tensor, Tensor]:
    """States and last ones of one sequence."""
    forward = one_way(module.lstm, x)
    if not module.lstm.bidirectional:
        return torch.stack(forward), forward[-1]
    backward = one_way(module.lstm, x.flip(0), "_reverse")
    states = [torch.cat(pair) for pair in zip(forward, backward[::-1], strict=True)]
    return torch.stack(states), torch.cat([forward[-1], backward[-1]])


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("rows", ROWS, ids=lambda rows: str(rows.counts.tolist()))
def test_against_the_equation(rows: Layout, both: bool) -> None:
    torch.manual_seed(0)
    module = PackedLSTM(WIDTH, HIDDEN, bidirectional=both)
    x = torch.randn(rows.num_nodes, WIDTH)
    states, last = module(x, rows)
    assert states.shape == (rows.num_nodes, module.output_size)
    assert last.shape == (rows.num_graphs, module.output_size)
    for index, sequence in enumerate(x.split(rows.counts.tolist())):
        expected, expected_last = plain(module, sequence)
        begin = int(rows.ptr[index])
        torch.testing.assert_close(states[begin : begin + len(sequence)], expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(last[index], expected_last, atol=1e-5, rtol=1e-5)


def test_empty_row_does_not_change_others() -> None:
    module, x = PackedLSTM(WIDTH, HIDDEN), torch.randn(5, WIDTH, requires_grad=True)
    with_gap, gap = module(x, layout(3, 0, 2))
    without, last = module(x, layout(3, 2))
    torch.testing.assert_close(with_gap, without)
    torch.testing.assert_close(gap[[0, 2]], last)
    torch.testing.assert_close(gap[1], module(torch.zeros(1, WIDTH), layout(1))[1][0])
    with_gap.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_forget_gate_bias_is_one_at_initialization() -> None:
    module = PackedLSTM(WIDTH, HIDDEN)
    for suffix in ("", "_reverse"):
        biases = [getattr(module.lstm, f"bias_{kind}_l0{suffix}") for kind in ("ih", "hh")]
        assert sum(biases).tolist() == [0.0] * HIDDEN + [1.0] * HIDDEN + [0.0] * 2 * HIDDEN


def test_words() -> None:
    torch.manual_seed(0)
    graph = state(awkward_posts(), width=WIDTH)
    graph = graph.update(characters=graph.x["token"][:, :2].sin())
    layer = WordLSTM(WIDTH + 2, HIDDEN, in_keys=("token", "characters"), dropout=0.5)
    expected, _ = layer.lstm(torch.cat([graph.x["token"], graph.x["characters"]], -1), graph.layouts["token"])
    assert torch.equal(layer.eval()(graph).x["token"], expected)
    zeros = (layer.train()(graph).x["token"] == 0).float().mean()
    assert 0.4 < float(zeros) < 0.6
    alone = WordLSTM(WIDTH, HIDDEN)
    assert alone(graph).x["token"].shape == (graph.layouts["token"].num_nodes, 2 * HIDDEN)


def test_sentence_state_and_broadcast() -> None:
    torch.manual_seed(0)
    schema = Schema([Relation("sentence", "updates", "token", Complete())])
    graph = state(awkward_posts(), width=WIDTH, schema=schema)
    query = SentenceLSTM(WIDTH, HIDDEN)
    with_sentence = query(graph)
    counts = graph.layouts["token"].counts.tolist()
    assert with_sentence.x["sentence"].shape == (len(counts), HIDDEN)
    broadcast = BroadcastToTokens(out_key="context")(with_sentence).x["context"].split(counts)
    for words, row, copies in zip(graph.x["token"].split(counts), with_sentence.x["sentence"], broadcast, strict=True):
        torch.testing.assert_close(row, plain(query.lstm, words)[1], atol=1e-5, rtol=1e-5)
        assert torch.equal(copies, row.expand(len(words), -1))
