"""Data sets of graphs: saved once, loaded under torch's safe default, the graphs of the builder to the bit."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from fakes import LABELS, SCHEMA, awkward_posts, check_same, make_builder, post
from odd_images import noise
from torch_geometric import transforms as T
from torch_geometric.data import HeteroData, InMemoryDataset
from torch_geometric.loader import DataLoader

from mnergraph.data import GraphDataset, Lookalikes
from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.features.vision.crops import CropPixels
from mnergraph.graph import GraphBuilder, Schema, collate, pair_of, with_pair, with_plain_pair
from mnergraph.pair import DetectedObject, Pair

TOKENIZER = tiny_encoder(hidden_size=8).tokenizer


def builder(**options: Any) -> GraphBuilder:
    settings = {"tokenizer": TOKENIZER, "labels": LABELS, "region_dim": 6, "image_dim": 5, **options}
    return make_builder(SCHEMA | Schema(nodes=["image", "entity"]), **settings)


def files(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if path.is_file())


class Counting:
    """A builder that counts its graphs."""

    def __init__(self) -> None:
        self.builder, self.built = builder(), 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.builder, name)

    def build(self, pair: Pair) -> HeteroData:
        self.built += 1
        return self.builder.build(pair)


@pytest.mark.parametrize("posts", [awkward_posts(), awkward_posts()[:1], awkward_posts()[1:3]], ids=["all", "1", "2"])
def test_the_graphs_of_the_builder(posts: list[Pair], tmp_path: Path) -> None:
    for _ in range(2):  # built, then loaded
        dataset = GraphDataset(tmp_path, posts, builder())
        assert len(dataset) == len(posts)
        for found, expected in zip(dataset, builder().build_all(posts), strict=True):
            check_same(found, with_plain_pair(expected))
            assert pair_of(found) == expected.pair
    assert len(files(tmp_path)) == 1


def test_they_are_built_once(tmp_path: Path) -> None:
    many = [post(3, 1, seed=seed) for seed in range(20)]
    counts = []
    for force_reload in (False, False, True):
        counting = Counting()
        GraphDataset(tmp_path, many, cast(GraphBuilder, counting), force_reload=force_reload)
        counts.append(counting.built)
    samples = counts[1]
    assert counts == [20 + samples, samples, 20 + samples]
    assert samples < 10


def test_other_posts_features_and_builders_have_other_files(tmp_path: Path) -> None:
    posts = awkward_posts()
    first = posts[0]
    features = torch.full((1, 5), 9.0)
    variants: Sequence[tuple[list[Pair], dict[str, Any], dict[str, Any]]] = [
        (posts, {}, {}),
        (posts[:-1], {}, {}),
        ([replace(first, labels=("O",) * 7), *posts[1:]], {}, {}),
        ([replace(first, image_features=features), *posts[1:]], {}, {}),
        (posts, {"labels": None}, {}),
        (posts, {"tokens": "pieces", "labels": None}, {}),
        (posts, {}, {"complete_edges": True}),
        (posts, {}, {"pre_transform": T.ToUndirected()}),
        (posts, {}, {"pre_filter": len}),
    ]
    for number, (pairs, settings, options) in enumerate(variants, 1):
        dataset = GraphDataset(tmp_path, pairs, builder(**settings), **options)
        assert len(files(tmp_path)) == number
        assert pair_of(dataset[1]).id == "post-2"


def test_transforms(tmp_path: Path) -> None:
    calls: list[str] = []

    def keep(data: HeteroData) -> bool:
        calls.append("filter")
        return len(data.words) > 1

    def before(data: HeteroData) -> HeteroData:
        calls.append("before")
        data["token"].length = torch.tensor([len(word) for word in data.words])
        return data

    def always(data: HeteroData) -> HeteroData:
        calls.append("always")
        data.num_words = len(data.words)
        return data

    posts = [pair for pair in awkward_posts() if len(pair.words) > 1]
    dataset = GraphDataset(
        tmp_path, awkward_posts(), builder(), transform=always, pre_transform=before, pre_filter=keep
    )
    assert (calls.count("filter"), calls.count("before")) == (8, len(posts))
    assert "always" not in calls
    assert [data.id for data in dataset] == [pair.id for pair in posts]
    assert dataset[0]["token"].length.tolist() == [len(word) for word in posts[0].words]
    assert dataset[0].num_words == 7
    batch = next(iter(DataLoader(dataset, batch_size=3)))
    assert batch.num_words.tolist() == [7, 5, 4]
    assert with_pair(batch).pair == posts[:3]
    again = GraphDataset(tmp_path, awkward_posts(), builder(), pre_transform=before, pre_filter=keep)
    assert "num_words" not in again[0]
    assert calls.count("before") == len(posts), "not built again"
    with pytest.raises(ValueError, match="pre_filter keeps none of the 8 posts"):
        GraphDataset(tmp_path, awkward_posts(), builder(), pre_filter=lambda data: False)
    with pytest.raises(ValueError, match="no posts to make graphs of"):
        GraphDataset(tmp_path, [], builder())


def test_transforms_of_pyg(tmp_path: Path) -> None:
    transform = T.Compose([T.ToUndirected(), T.AddSelfLoops()])
    dataset = GraphDataset(tmp_path, awkward_posts(), builder(), pre_transform=transform)
    for found, graph in zip(dataset, builder().build_all(awkward_posts()), strict=True):
        check_same(found, transform(with_plain_pair(graph)))


def test_a_transform_that_changes_the_stores_of_some(tmp_path: Path) -> None:
    def drop(data: HeteroData) -> HeteroData:
        if data.id == "post-4":
            del data["object", "around", "object"]
        return data

    with pytest.raises(ValueError, match=r"post 'post-4' holds nothing for .*around"):
        GraphDataset(tmp_path, awkward_posts(), builder(), pre_transform=drop)


def test_complete_edges(tmp_path: Path) -> None:
    dataset = GraphDataset(tmp_path, awkward_posts(), builder(), complete_edges=True)
    for found, graph in zip(dataset, builder().build_all(awkward_posts()), strict=True):
        check_same(found, with_plain_pair(builder().schema.materialize(graph)))


def test_subsets_copies_and_classes(tmp_path: Path) -> None:
    dataset = GraphDataset(tmp_path, awkward_posts(), builder())
    assert dataset.num_classes == len(LABELS)
    assert [data.id for data in dataset[2:4]] == ["post-3", "post-4"]
    assert [data.id for data in dataset[torch.tensor([5, 0])]] == ["post-6", "post-1"]
    copied = dataset.copy([3, 6])
    assert [data.id for data in copied] == ["post-4", "post-7"]
    check_same(copied[1], dataset[6])
    with pytest.raises(ValueError, match="no label set"):
        _ = GraphDataset(tmp_path, awkward_posts(), builder(labels=None)).num_classes


def test_workers(tmp_path: Path) -> None:
    dataset = GraphDataset(tmp_path, awkward_posts(), builder())
    batches = list(DataLoader(dataset, batch_size=3, num_workers=2))
    assert [name for batch in batches for name in batch.id] == [pair.id for pair in awkward_posts()]
    check_same(with_pair(batches[0]), collate(builder().build_all(awkward_posts()[:3])))


def test_a_data_set_of_posts(tmp_path: Path) -> None:
    posts = Lookalikes(tmp_path / "posts", sizes=(8, 2, 2), progress=False)
    dataset = GraphDataset(tmp_path / "graphs", posts[2:6], builder(labels=None, region_dim=None, image_dim=None))
    assert [data.id for data in dataset] == [pair.id for pair in posts.pairs[2:6]]


def test_pixels_are_read_when_a_graph_is_taken(tmp_path: Path) -> None:
    noise().save(tmp_path / "0.png")
    boxed = (DetectedObject("man", box=(3, 5, 17, 21)), DetectedObject("a hat"))
    posts = [Pair(("Ann",), None, "0", tmp_path / "0.png", (40, 30), boxed), Pair(("Bob",), None, "1")]
    reader = builder(region_dim=None, crop_reader=CropPixels(16))
    dataset = GraphDataset(tmp_path / "graphs", posts, reader)
    for found, expected in zip(dataset, reader.build_all(posts), strict=True):
        assert found["object"].pixels.shape[1:] == (3, 16, 16)
        check_same(found, with_plain_pair(expected))
    assert dataset[0]["object"].has_x.tolist() == [True, False]
    assert Path(dataset.processed_paths[0]).stat().st_size < 2 * 3 * 16 * 16 * 100


def test_features_are_kept_as_they_are_stored(tmp_path: Path) -> None:
    half = [replace(pair, image_features=torch.rand(49, 5).half()) for pair in awkward_posts()]
    dataset = GraphDataset(tmp_path, half, builder())
    assert dataset._data["image"].x.dtype == torch.half
    for found, graph in zip(dataset, builder().build_all(half), strict=True):
        assert found["image"].x.dtype == torch.float
        check_same(found, with_plain_pair(graph))


def test_one_post_does_not_take_the_file_of_all_features_along(tmp_path: Path) -> None:
    rows = torch.rand(100_000, 5)
    dataset = GraphDataset(tmp_path, [replace(awkward_posts()[0], image_features=rows[7:8])], builder())
    assert torch.equal(dataset[0]["image"].x, rows[7:8])
    assert Path(dataset.processed_paths[0]).stat().st_size < 100_000


def test_pyg_reads_the_file(tmp_path: Path) -> None:
    dataset = GraphDataset(tmp_path, awkward_posts(), builder())
    theirs = InMemoryDataset()
    theirs.load(dataset.processed_paths[0])
    for index, graph in enumerate(builder().build_all(awkward_posts())):
        check_same(theirs[index], with_plain_pair(graph))


class Attack:
    def __reduce__(self) -> Any:
        return (print, ("executed",))


@pytest.mark.parametrize("content", [b"", b"no zip", "attack", "other"])
def test_damaged_and_hostile_files(content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = GraphDataset(tmp_path, awkward_posts(), builder())
    path = Path(dataset.processed_paths[0])
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "attack":
        torch.save(({"token": Attack()}, {}, HeteroData), path)
    else:
        torch.save({"weights": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"graphs-.*\.pt: no graphs that GraphDataset saved, or damaged; delete it"):
        GraphDataset(tmp_path, awkward_posts(), builder())
    assert "executed" not in capsys.readouterr().out
    assert len(GraphDataset(tmp_path, awkward_posts(), builder(), force_reload=True)) == 8


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = GraphDataset(tmp_path, awkward_posts(), builder())
    before = Path(dataset.processed_paths[0]).read_bytes()

    def fails(*args: Any) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file")

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(OSError, match=r"graphs-.*can't be written, perhaps as the disk is full"):
        GraphDataset(tmp_path, awkward_posts(), builder(), force_reload=True)
    path = Path(dataset.processed_paths[0])
    assert (files(tmp_path), path.read_bytes()) == ([path.name], before)


def test_a_data_set_is_pickled(tmp_path: Path) -> None:
    dataset = GraphDataset(tmp_path, awkward_posts(), builder())
    dataset[0]
    check_same(pickle.loads(pickle.dumps(dataset))[3], dataset[3])
