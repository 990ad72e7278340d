"""PyG's explainers on a model of ours: masks on edges are masks on messages."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from fakes import LABELS, OBJECTS, TO_OBJECTS, TO_TOKENS, TOKENS, post
from torch_geometric.explain import Explainer, GNNExplainer, ModelConfig
from torch_geometric.explain.algorithm.utils import clear_masks, set_hetero_masks
from torch_geometric.nn import SAGEConv

from mnergraph.explain import PyGExplainerModel, without_relations
from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.graph import Complete, Relation, Schema, collate
from mnergraph.models import BERTCRF, UMGF, Tagger
from mnergraph.nn import CRF, HeteroLayer, ObjectEncoder, RelationAttention, TaggingHead, TaggingScores, TextEncoder
from mnergraph.pair import Pair

Make = Callable[..., UMGF]
PAIR = post(6, 3, seed=2, grounded=0.5)


class WithPyG(Tagger):
    """Objects reach words along a convolution of PyG."""

    def __init__(self, encoder, labels):  # type: ignore[no-untyped-def]
        operators = {TOKENS: RelationAttention(16, 4), TO_TOKENS: SAGEConv((16, 16), 16)}
        super().__init__(
            schema=Schema([Relation(*TOKENS, Complete()), Relation(*TO_TOKENS, Complete())]),
            layers=[
                TextEncoder(encoder),
                ObjectEncoder(16, label_dim=encoder.hidden_size),
                HeteroLayer(operators),
                TaggingScores("tags", 16, len(labels)),
            ],
            heads=[TaggingHead(CRF(labels.tags), labels)],
            encoder=encoder,
            labels=labels,
        )


def explain(adapter: PyGExplainerModel, epochs: int = 5, **options):  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    explainer = Explainer(
        adapter,
        GNNExplainer(epochs=epochs),
        explanation_type="model",
        edge_mask_type="object",
        model_config=ModelConfig("multiclass_classification", "node", "raw"),
        **options,
    )
    return explainer(adapter.x_dict, adapter.edge_index_dict, index=2)


def emissions(model: Tagger, pair: Pair) -> torch.Tensor:
    with torch.no_grad():
        return model(collate([model.builder(pair)])).emissions["tags"]


@pytest.mark.parametrize("form", ["paper", "released"])
def test_scores_are_the_models(form: str, umgf: Make) -> None:
    model = umgf(form)
    adapter = PyGExplainerModel(model, PAIR)
    assert set(adapter.edge_index_dict) == {TOKENS, OBJECTS, TO_TOKENS, TO_OBJECTS}
    assert set(adapter.x_dict) == {"token", "object"}
    result = adapter(adapter.x_dict, adapter.edge_index_dict)
    torch.testing.assert_close(result, emissions(model, PAIR), rtol=1e-5, atol=1e-5)


def test_zero_mask_equals_removed_relation(umgf: Make) -> None:
    for model in (umgf(), umgf("released")):
        adapter = PyGExplainerModel(model, PAIR)
        for relation, index in adapter.edge_index_dict.items():
            masks = {key: torch.ones(of.shape[1]) for key, of in adapter.edge_index_dict.items()}
            masks[relation] = torch.zeros(index.shape[1])
            set_hetero_masks(adapter, masks, adapter.edge_index_dict, apply_sigmoid=False)
            result = adapter(adapter.x_dict, adapter.edge_index_dict)
            clear_masks(adapter)
            with without_relations(model, relation):
                expected = emissions(model, PAIR)
            torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
            assert not torch.allclose(result, emissions(model, PAIR), atol=1e-6)


def test_one_edge_masked_is_one_message_less() -> None:
    torch.manual_seed(0)
    model = WithPyG(tiny_encoder(hidden_size=16, num_layers=1, heads=2), LABELS).eval()
    adapter = PyGExplainerModel(model, PAIR)
    masks = {key: torch.ones(index.shape[1]) for key, index in adapter.edge_index_dict.items()}
    masks[TOKENS][0] = 0.0
    set_hetero_masks(adapter, masks, adapter.edge_index_dict, apply_sigmoid=False)
    result = adapter(adapter.x_dict, adapter.edge_index_dict)
    clear_masks(adapter)
    changed = (result - emissions(model, PAIR)).abs().amax(-1) > 1e-6
    assert changed.nonzero()[:, 0].tolist() == [int(adapter.edge_index_dict[TOKENS][1, 0])]


def test_gnn_explainer(umgf: Make) -> None:
    model = umgf().train()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    adapter = PyGExplainerModel(model, PAIR)
    result = explain(adapter, node_mask_type="attributes")
    assert set(result.available_explanations) == {"node_mask", "edge_mask"}
    for relation, index in adapter.edge_index_dict.items():
        mask = result[relation].edge_mask
        assert mask.shape == (index.shape[1],)
        assert ((mask >= 0) & (mask <= 1)).all()
        assert mask.std() > 0
    assert result["object"].node_mask.shape == (3, 16)
    # the model is as it was, weights, mode, hooks
    assert model.training
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(weight.grad is None or not weight.grad.any() for weight in model.encoder.model.parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def test_gnn_explainer_of_one_word(umgf: Make) -> None:
    """From the last gates on, only edges into the explained word matter; the others' masks are 0."""
    adapter = PyGExplainerModel(umgf(), PAIR, begin=8)
    assert set(adapter.edge_index_dict) == {TO_TOKENS}
    mask = explain(adapter)[TO_TOKENS].edge_mask
    own = adapter.edge_index_dict[TO_TOKENS][1] == 2
    assert 0 < int(own.sum()) < len(own)
    assert (mask[own] > 0).all()
    assert not mask[~own].any()


def test_convolutions_of_pyg() -> None:
    torch.manual_seed(0)
    model = WithPyG(tiny_encoder(hidden_size=16, num_layers=1, heads=2), LABELS).eval()
    adapter = PyGExplainerModel(model, PAIR)
    assert set(adapter.edge_index_dict) == {TOKENS, TO_TOKENS}
    masks = {TOKENS: torch.ones(36), TO_TOKENS: torch.zeros(18)}
    set_hetero_masks(adapter, masks, adapter.edge_index_dict, apply_sigmoid=False)
    result = adapter(adapter.x_dict, adapter.edge_index_dict)
    clear_masks(adapter)
    with without_relations(model, TO_TOKENS):
        torch.testing.assert_close(result, emissions(model, PAIR), rtol=1e-5, atol=1e-5)
    assert explain(adapter)[TO_TOKENS].edge_mask.shape == (18,)


def test_only_relations_that_affect_the_output(umgf: Make) -> None:
    adapter = PyGExplainerModel(umgf(), post(4, 0, seed=1))
    assert set(adapter.edge_index_dict) == {TOKENS}
    explain(adapter)
    # messages from words to objects matter only in layers before the last
    torch.manual_seed(0)
    encoder = tiny_encoder(hidden_size=16, num_layers=1, heads=2)
    shallow = UMGF(encoder, LABELS, hidden_size=16, num_heads=4, num_layers=1, region_dim=6).eval()
    assert set(PyGExplainerModel(shallow, PAIR).edge_index_dict) == {TOKENS, OBJECTS, TO_TOKENS}


def test_from_a_later_layer_on(umgf: Make) -> None:
    model = umgf()
    adapter = PyGExplainerModel(model, PAIR, begin=7)
    result = adapter(adapter.x_dict, adapter.edge_index_dict)
    torch.testing.assert_close(result, emissions(model, PAIR), rtol=1e-5, atol=1e-5)
    assert set(adapter.edge_index_dict) == {TOKENS, OBJECTS, TO_TOKENS}


def test_a_model_without_relations() -> None:
    model = BERTCRF(tiny_encoder(hidden_size=16, num_layers=1, heads=2), LABELS)
    with pytest.raises(ValueError, match="BERTCRF has no layer along a relation, so no edge to explain"):
        PyGExplainerModel(model, PAIR)
