"""A custom module with a node type, an edge rule and a head: train, evaluate, predict, explain."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mnergraph.cli.main import main
from mnergraph.data import write_conll
from mnergraph.pair import Pair

MODULE = '''
from dataclasses import dataclass

import torch
from torch import nn

from mnergraph import LabelSet, Relation, Schema, Tagger
from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.graph import EdgeRule, NodeType
from mnergraph.nn import CRF, HeteroLayer, PostLabelHead, RelationAttention, TaggingHead, TaggingScores, TextEncoder


class Lines(NodeType):
    """Lines of text found in the image: their lengths, from lines.jsonl."""

    name, evidence_file = "line", "lines.jsonl"

    def store(self, pair):
        lines = pair.extra.get("line", [])
        return {"x": torch.tensor([[float(len(line))] for line in lines]).reshape(-1, 1), "num_nodes": len(lines)}

    def describe(self, data):
        return [{"label": line} for line in data.pair.extra.get("line", [])]

    def parse(self, nodes):
        return [str(line) for line in nodes]

    def missing(self, pair):
        return () if "line" in pair.extra else ("lines of text",)


@dataclass(frozen=True)
class AllToAll(EdgeRule):
    description = "every {src} and every {dst}"

    def connect(self, data, src, dst):
        return torch.cartesian_prod(torch.arange(data[src].num_nodes), torch.arange(data[dst].num_nodes)).t()


class Embed(nn.Module):
    def __init__(self, hidden_size):
        super().__init__()
        self.linear = nn.Linear(1, hidden_size)

    def forward(self, graph):
        return graph.update(line=self.linear(graph.data["line"].x))


class Reads(Tagger):
    """Tokens attend to lines of text in the image."""

    def __init__(self, encoder: TextEncoderModel, labels: LabelSet, *, num_heads: int = 2):
        key, size = ("line", "informs", "token"), encoder.hidden_size
        super().__init__(
            schema=Schema([Relation(*key, AllToAll())]),
            layers=[
                TextEncoder(encoder),
                Embed(size),
                HeteroLayer({key: RelationAttention(size, num_heads)}),
                TaggingScores("tags", size, len(labels)),
            ],
            heads=[TaggingHead(CRF(labels.tags), labels), PostLabelHead("kind", ("a", "b"), size)],
            encoder=encoder,
            labels=labels,
            node_types=[Lines()],
        )
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the module, and posts with lines.jsonl."""
    (tmp_path / "mine_lines.py").write_text(MODULE, encoding="utf-8")
    pairs = [Pair(("Ann", "saw", "Rome"), ("B-PER", "O", "B-LOC"), str(index)) for index in range(6)]
    for split in ("train", "valid", "test"):
        write_conll(pairs, tmp_path / f"{split}.txt")
    lines = [json.dumps({"id": str(index), "nodes": ["SALE", "50% off"][: index % 3]}) for index in range(6)]
    (tmp_path / "lines.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("mine_lines", None)


def run(*arguments: object) -> None:
    main([*map(str, arguments)])


TRAIN = ["train", "--import", "mine_lines", "--data", "PostFolder", "--root", ".", "--model", "mine_lines.Reads"]
QUIET = ["--trainer.epochs", 1, "--trainer.accelerator", "cpu", "--trainer.progress", "false"]


@pytest.mark.filterwarnings("ignore:.*has nothing on", "default:.*has no lines of text")
def test_from_evidence_file_to_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(*TRAIN, *QUIET, "--out", "run")
    run("evaluate", "--model", "run/model", "--data", "PostFolder", "--root", ".", "--progress", "false")
    posts = folder / "posts.jsonl"
    entry = {"words": ["Ann", "left"], "extra": {"line": ["EXIT"]}}
    posts.write_text(json.dumps(entry) + "\n" + json.dumps({"words": ["Bob"]}) + "\n", encoding="utf-8")
    capsys.readouterr()
    run("predict", "--model", "run/model", "--posts", posts)
    printed = capsys.readouterr()
    assert "warning: 1 of 2 posts has no lines of text, which the model reads" in printed.err
    first = json.loads(printed.out.splitlines()[0])
    assert first["kind"]["label"] in ("a", "b")
    run(
        "explain",
        "--model",
        "run/model",
        "--data",
        "PostFolder",
        "--root",
        ".",
        "--errors_only",
        "false",
        "--out",
        "page.html",
        "--progress",
        "false",
    )
    assert "50% off" in (folder / "page.html").read_text(encoding="utf-8")


def test_an_absent_file_is_refused_before_training(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "lines.jsonl").unlink()
    with pytest.raises(SystemExit) as stop:
        run(*TRAIN, *QUIET, "--out", "run")
    assert stop.value.code == 2
    assert "'line' nodes are read from lines.jsonl, which is not in" in capsys.readouterr().err
    assert not (folder / "run" / "checkpoints").exists()
