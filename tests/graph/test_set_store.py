"""A store filled at once is the store that PyG's own attribute access makes."""

from __future__ import annotations

import copy

import torch
from torch_geometric.data import HeteroData

from mnergraph.graph.collate import set_store


def by_attribute_access() -> HeteroData:
    data = HeteroData()
    data["token"].word = torch.arange(3)
    data["token"].num_nodes = 3
    data["object"].num_nodes = 2
    data["object", "guides", "token"].edge_index = torch.tensor([[0, 1], [2, 2]])
    return data


def by_set_store() -> HeteroData:
    data = HeteroData()
    set_store(data, "token", {"word": torch.arange(3), "num_nodes": 3})
    set_store(data, "object", {"num_nodes": 2})
    set_store(data, ("object", "guides", "token"), {"edge_index": torch.tensor([[0, 1], [2, 2]])})
    return data


def test_equals_attribute_access() -> None:
    ours, theirs = by_set_store(), by_attribute_access()
    assert str(ours) == str(theirs)
    assert ours.metadata() == theirs.metadata()
    assert ours.validate()
    for mine, yours in zip(ours.stores, theirs.stores, strict=True):
        assert mine._key == yours._key
        assert set(mine.__dict__) == set(yours.__dict__)
        assert list(mine.keys()) == list(yours.keys())
    assert ours["object", "guides", "token"].size() == (2, 3)


def test_copies_and_setters_work_as_in_pyg() -> None:
    data = by_set_store()
    assert str(copy.deepcopy(data)) == str(data.clone()) == str(data)
    data["token"].word = torch.zeros(3)
    data["image"].x = torch.zeros(1, 4)
    assert data["token"].word.sum() == 0
    assert data.to("cpu").node_types == ["token", "object", "image"]
    assert data["token"]._parent() is data
