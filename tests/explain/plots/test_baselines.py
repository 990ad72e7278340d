"""Plots against stored baselines: their mean darkness in a grid so coarse that fonts do not matter.

After an intended change, look at the plots, then renew the baselines by running this file.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from mnergraph.explain import EdgeWeights, PairRecord
from mnergraph.explain.plots import (
    plot_attention_heads,
    plot_entity_object_attention,
    plot_graph,
    plot_type_confusion,
)
from mnergraph.labels import Entity
from mnergraph.pair import DetectedObject, Pair

STORED = Path(__file__).with_name("baselines.json")
ROWS, COLUMNS = 12, 16
GUIDES = ("object", "guides", "token")
WORDS = ("Kawhi", "Leonard", "wins", "in", "Oakland")
ENTITIES = [Entity(0, 2, "PER", 0.91), Entity(4, 5, "LOC", 0.62)]


def record() -> PairRecord:
    """Two layers of two heads; in the first, each word attends most to the object of its number."""
    index = torch.cartesian_prod(torch.arange(3), torch.arange(5)).t()
    weights = torch.softmax(-(index[0] - index[1] % 3).abs()[:, None] * torch.tensor([3.0, 0.5]), 0)
    layers = tuple(
        EdgeWeights(name, GUIDES, "attention", index, of, (3, 5), "")
        for name, of in (("4", weights), ("7", weights.flip(0)))
    )
    pair = Pair(WORDS, objects=(DetectedObject("player"), DetectedObject("ball"), DetectedObject("net")))
    nodes = {"token": 5, "object": 3}
    return PairRecord(pair, torch.arange(5), nodes, {}, layers, (), {})


def graph() -> nx.MultiDiGraph:
    drawn, post_record = nx.MultiDiGraph(), record()
    for number, word in enumerate(WORDS):
        drawn.add_node(f"token {number}", type="token", index=number, word=word)
        for result in ENTITIES:
            if result.start <= number < result.end:
                drawn.nodes[f"token {number}"].update(entity=result.type, entity_score=result.score)
    for number, item in enumerate(post_record.pair.objects):
        drawn.add_node(f"object {number}", type="object", index=number, label=item.label)
    (first, _) = post_record.weights
    for (sender, receiver), heads in zip(first.index.t().tolist(), first.weights.tolist(), strict=True):
        ends = f"object {sender}", f"token {receiver}", "guides"
        drawn.add_edge(*ends, relation="guides", attention={"4": heads})
    return drawn


PLOTS: dict[str, Callable[[], Figure]] = {
    "graph": lambda: plot_graph(graph(), top_k=5),
    "entity objects": lambda: plot_entity_object_attention(record(), ENTITIES),
    "heads": lambda: plot_attention_heads(record(), GUIDES),
    "confusion": lambda: plot_type_confusion([["B-PER", "B-LOC"]] * 3, [["B-PER", "B-PER"]] * 2 + [["O", "B-LOC"]]),
}


def ink(figure: Figure) -> np.ndarray:
    """How dark each part of the figure is, 0 to 1, ``[rows, columns]``."""
    file = io.BytesIO()
    figure.savefig(file, dpi=60)
    small = Image.open(file).convert("L").resize((COLUMNS, ROWS), Image.Resampling.BOX)
    return 1 - np.asarray(small) / 255


@pytest.mark.parametrize("name", PLOTS)
def test_figures_equal_the_baseline(name: str) -> None:
    stored = np.array(json.loads(STORED.read_text())[name]) / 100
    assert np.corrcoef(stored.ravel(), ink(PLOTS[name]()).ravel())[0, 1] > 0.9


def test_the_comparison_distinguishes_plots() -> None:
    grids = [np.array(grid).ravel() for grid in json.loads(STORED.read_text()).values()]
    between = np.corrcoef(grids) - np.eye(len(grids))
    assert between.max() < 0.9


if __name__ == "__main__":
    grids = {name: (100 * ink(draw())).round().astype(int).tolist() for name, draw in PLOTS.items()}
    lines = [f'"{name}": {json.dumps(grid, separators=(",", ":"))}' for name, grid in grids.items()]
    STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
