import json
import re
import time
from pathlib import Path

import pytest
from torch_geometric.data import HeteroData

from mnergraph.data.datasets.base import PostDataset, PostFolder, split_name
from mnergraph.data.evidence import Evidence
from mnergraph.data.formats.conll import ConllError
from mnergraph.pair import Pair

TEXT = "IMGID:1\nKevin\tB-PER\n\nIMGID:2\nin\tO\nRome\tI-LOC\n\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    (root / "train.txt").write_text(TEXT)
    return root


def graph(pair: Pair) -> HeteroData:
    data = HeteroData()
    data["token"].num_nodes = len(pair.words)
    return data


def test_a_plain_folder(root: Path) -> None:
    posts = PostFolder(root, builder=graph)
    assert (len(posts), posts.tags) == (2, ("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))
    assert posts.pairs == [Pair(("Kevin",), ("B-PER",), "1"), Pair(("in", "Rome"), ("O", "I-LOC"), "2")]
    assert [data["token"].num_nodes for data in posts] == [1, 2]


def test_vocabulary_has_the_words_of_text_objects_and_captions(root: Path) -> None:
    posts = PostFolder(root)
    words = {word for pair in posts.pairs for word in pair.words}
    assert posts.vocabulary == tuple(sorted(words))
    ids = [pair.id for pair in posts.pairs]
    (root / "captions.jsonl").write_text(f'{{"id": "{ids[0]}", "caption": "a tall tower"}}\n')
    detected = '{"label": "red hat", "score": 0.9, "box": [0, 0, 5, 5]}'
    (root / "objects.jsonl").write_text(f'{{"id": "{ids[1]}", "width": 9, "height": 9, "objects": [{detected}]}}\n')
    assert PostFolder(root).vocabulary == tuple(sorted({*words, "a", "tall", "tower", "red", "hat"}))


def test_a_folder_laid_out_as_pyg_does(root: Path) -> None:
    for name in ("dev.txt", "images/1.png", "objects.jsonl", "captions.jsonl"):
        path = root / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (root / "raw" / "dev.txt").write_text(TEXT)
    (root / "raw" / "captions.jsonl").write_text('{"id": "2", "caption": "a city"}')
    first, second = PostFolder(root, "valid").pairs
    assert first.image_path == root / "raw" / "images" / "1.png"
    assert (second.image_path, second.caption) == (None, "a city")
    assert PostFolder(root).images is None


def test_a_selection_keeps_its_pairs(root: Path) -> None:
    posts = PostFolder(root)[1:]
    assert ([pair.id for pair in posts.pairs], posts.tags) == (["2"], ("O", "B-LOC", "I-LOC"))


def test_without_a_builder_there_are_pairs_but_no_graphs(root: Path) -> None:
    posts = PostFolder(root)
    with pytest.raises(ValueError, match=r"PostFolder has no builder .* read .pairs, or give builder=GraphBuilder"):
        posts[0]
    assert posts.with_builder(graph)[0]["token"].num_nodes == 1
    assert posts.builder is None


def test_graphs_are_transformed_as_pyg_does(root: Path) -> None:
    posts = PostFolder(root).with_builder(graph, transform=lambda data: data["token"].num_nodes)
    assert list(posts) == [1, 2]
    assert posts[1:][0] == 2
    assert posts.with_builder(graph)[0]["token"].num_nodes == 1


def test_settings_reach_the_reader_and_key_the_cache(root: Path) -> None:
    plain = PostFolder(root)
    repaired = PostFolder(root, fix_bio=True, mapping={"LOC": "GPE"})
    assert repaired.pairs[1].labels == ("O", "B-GPE")
    assert plain.pairs[1].labels == ("O", "I-LOC")
    assert len(list((root / "processed").iterdir())) == 2


def test_the_cache_is_read_until_the_text_changes(root: Path) -> None:
    PostFolder(root)
    (cache,) = (root / "processed").iterdir()
    manifest = json.loads(cache.read_text().splitlines()[0])
    assert (manifest["posts"], manifest["fix_bio"], len(manifest["sha256"])) == (2, False, 64)
    written = cache.stat().st_mtime_ns
    PostFolder(root)
    assert cache.stat().st_mtime_ns == written
    time.sleep(0.01)
    PostFolder(root, force_reload=True)
    assert cache.stat().st_mtime_ns > written
    (root / "train.txt").write_text(TEXT.replace("Kevin", "Carol"))
    assert PostFolder(root).pairs[0].words == ("Carol",)


def test_a_damaged_cache_is_an_error(root: Path) -> None:
    PostFolder(root)
    (cache,) = (root / "processed").iterdir()
    cache.write_text("\n".join(cache.read_text().splitlines()[:-1]))
    with pytest.raises(ValueError, match=r"damaged cache \(1 of 2 posts\); delete it, or give force_reload=True"):
        PostFolder(root)
    assert len(PostFolder(root, force_reload=True)) == 2


def test_a_read_only_root_is_cached_elsewhere(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNERGRAPH_CACHE", str(tmp_path / "cache"))
    root.chmod(0o555)
    try:
        assert len(PostFolder(root)) == 2
    finally:
        root.chmod(0o755)
    assert [path.name for path in root.iterdir()] == ["train.txt"]
    assert len(list((tmp_path / "cache").glob("data-*/train-*.jsonl"))) == 1


def test_split_names(root: Path) -> None:
    assert [split_name(name) for name in ("train", "dev", "val", "valid", "test")] == [
        "train",
        "valid",
        "valid",
        "valid",
        "test",
    ]
    with pytest.raises(ValueError, match="no split 'eval'; there is train, valid"):
        PostFolder(root, "eval")


def test_missing_files_are_an_error(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape(f"no test.txt in {root} or {root / 'raw'}; there is: train")):
        PostFolder(root, "test")
    with pytest.raises(FileNotFoundError, match="there is: nothing"):
        PostFolder(root / "nowhere")
    assert not (root / "nowhere").exists()
    with pytest.raises(FileNotFoundError, match="images='pics' is no folder"):
        PostFolder(root, images="pics")
    with pytest.raises(TypeError, match="PostDataset is abstract"):
        PostDataset(root)
    (root / "valid.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"valid.txt: no posts in it; right is IMGID"):
        PostFolder(root, "valid")
    (root / "valid.txt").write_text("x")
    with pytest.raises(ConllError, match=r"valid\.txt:1: "):
        PostFolder(root, "dev")


def test_an_id_that_leads_out_of_the_pictures_gets_none(root: Path) -> None:
    (root / "images").mkdir()
    (root / "1.jpg").write_bytes(b"not ours to read")
    (root / "train.txt").write_text(TEXT.replace("IMGID:1", "IMGID:../1"))
    with pytest.warns(UserWarning, match=re.escape("1 posts have no image: post id '../1' leads out")):
        posts = PostFolder(root)
    assert posts.pairs[0].id == "../1"
    assert posts.pairs[0].image_path is None


def test_given_evidence_is_used_alone(root: Path) -> None:
    (root / "captions.jsonl").write_text('{"id": "1", "caption": "a man"}')
    assert PostFolder(root).pairs[0].caption == "a man"
    assert PostFolder(root, evidence=Evidence()).pairs[0].caption is None


@pytest.mark.filterwarnings("ignore:.*lines of one id differ")
def test_real_posts(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNERGRAPH_CACHE", str(tmp_path))
    posts = PostFolder(shared / "posts", "dev")
    assert len(posts) == 10
    assert all(pair.image_path and pair.caption for pair in posts.pairs)
