"""Files of posts in parts, and folders of results, without any engine."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

# before the imports below, which need it
pa = pytest.importorskip("pyarrow", reason="needs pyarrow, of the extra ray")

import pyarrow.parquet as pq  # noqa: E402

from mnergraph.cli.many_machines import address_of  # noqa: E402
from mnergraph.engines.files import MIN_PART, Part, PostFiles, ResultFolder, read_part  # noqa: E402


class Echo:
    """A job that returns ids and fails on one."""

    COLUMNS = ("id", "n")

    def __init__(self, fails: str = "none of them") -> None:
        self.fails = fails

    def __call__(self, columns: Mapping[str, Any]) -> dict[str, list[Any]]:
        if self.fails in columns["id"]:
            raise ValueError("no more")
        return {"id": list(columns["id"]), "n": [len(columns["id"])] * len(columns["id"])}


SCHEMA = pa.schema([("id", pa.string()), ("n", pa.int64())])


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    """Two Parquet files with row groups of odd sizes, and one of JSON lines with blank ones and a byte-order mark."""
    folder = tmp_path / "posts"
    (folder / "more").mkdir(parents=True)
    chance = random.Random(0)
    for name, count in (("a", 230), ("more/b", 71)):
        table = pa.table({"id": [f"{name}{n}" for n in range(count)], "text": ["é" * chance.randint(1, 9)] * count})
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=37)
    lines = [json.dumps({"id": f"c{n}", "text": "ü" * chance.randint(1, 9)}, ensure_ascii=False) for n in range(90)]
    lines[40:40] = ["", "no JSON", "  "]
    (folder / "c.jsonl").write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())
    (folder / "_more").mkdir()
    (folder / "_more" / "x.parquet").write_text("no Parquet")
    (folder / "notes.txt").write_text("")
    return folder


@pytest.mark.parametrize("part_rows", [1, 37, 64, 1000])
@pytest.mark.parametrize("window", [10, 2048])
def test_parts_hold_every_post_once_in_order(posts: Path, part_rows: int, window: int) -> None:
    files = PostFiles(str(posts))
    assert files.rows == 230 + 71 + 91
    assert files.id_type == pa.string()
    found: dict[str, list[str]] = {}
    parts = list(files.parts(part_rows))
    assert len({part.name for part in parts}) == len(parts)
    for part in parts:
        again = Part.from_json(part.to_json())
        batches = list(read_part(files.system, again, window))
        assert all(len(batch["id"]) <= window for batch in batches)
        ids = [id for batch in batches for id in batch["id"]]
        assert len(ids) == part.rows <= part_rows
        found.setdefault(Path(part.file).name, []).extend(ids)
    assert found["a.parquet"] == [f"a{n}" for n in range(230)]
    assert found["b.parquet"] == [f"more/b{n}" for n in range(71)]
    assert found["c.jsonl"] == [f"c{n}" for n in range(40)] + [""] + [f"c{n}" for n in range(40, 90)]


def test_every_worker_gets_several_parts(posts: Path) -> None:
    files = PostFiles(str(posts))
    assert files.part_rows(1) == 98
    assert files.part_rows(50) == MIN_PART
    files.rows = 10**8
    assert files.part_rows(8) == 8 * 2048


def test_files_that_hold_no_posts(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file or folder of posts"):
        PostFiles(str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match=r"has none: these are \.parquet and \.jsonl"):
        PostFiles(str(tmp_path))
    with pytest.raises(ValueError, match="is no address that pyarrow knows"):
        PostFiles("nothing://bucket/posts")
    file = tmp_path / "a.parquet"
    file.write_text("no Parquet")
    with pytest.raises(ValueError, match=r"a\.parquet can't be read as Parquet"):
        PostFiles(str(file))
    for wrong, message in (
        ({"text": ["Ann"]}, r"a\.parquet has no column id, but 'text'"),
        ({"id": ["1"], "text": [7]}, "column text is int64; right is text"),
        ({"id": ["1"], "words": ["Ann"]}, "column words is string; right is a list of text"),
        ({"id": ["1"], "image": [1.5]}, r"column image is double; right is text \(a path\), bytes"),
        ({"id": ["1"], "objects": ["a man"]}, "column objects is string; right is a list of structs"),
    ):
        pq.write_table(pa.table(wrong), file)
        with pytest.raises(ValueError, match=message):
            PostFiles(str(file))
    pq.write_table(pa.table({"id": ["1"], "text": pa.nulls(1), "image": [b""]}), file)
    pq.write_table(pa.table({"id": [1]}), tmp_path / "b.parquet")
    assert PostFiles(str(file)).window == 256
    with pytest.raises(ValueError, match=r"b\.parquet: id is int64, and string in the files before it"):
        PostFiles(str(tmp_path))


def write_all(files: PostFiles, out: ResultFolder, job: Echo) -> None:
    for part in files.parts(50):
        out.write(files.system, part, job, SCHEMA, 20)


def ids(out: ResultFolder) -> Iterator[str]:
    for columns in out.read(["id"]):
        yield from columns["id"]


def test_a_file_of_results_is_whole_or_not_there(posts: Path, tmp_path: Path) -> None:
    files, out = PostFiles(str(posts)), ResultFolder(str(tmp_path / "out"))
    assert out.open({"weights": "1", "part_rows": 50}) == {"weights": "1", "part_rows": 50}
    assert list(ids(out)) == []
    with pytest.raises(ValueError, match="no more"):
        write_all(files, out, Echo(fails="a130"))  # amid a part, of which a window is written
    assert len(list(ids(out))) == 100
    assert len(out.names()) == 2
    assert sorted(path.name[0] for path in (tmp_path / "out").iterdir()) == ["_", "a", "a"]
    (tmp_path / "out" / ".a.parquet.1.unfinished").write_text("of a killed process")
    write_all(files, out, Echo())
    out.remove_unfinished()
    assert sorted(path.name[0] for path in (tmp_path / "out").iterdir()) == ["_", *"aaaaabbcc"]
    found = list(ids(out))
    assert len(found) == len(set(found)) == files.rows
    # by other tools, too
    assert pq.read_table(tmp_path / "out").num_rows == files.rows


def test_results_of_other_settings_are_refused(tmp_path: Path) -> None:
    out = ResultFolder(str(tmp_path / "out"))
    out.open({"weights": "1", "part_rows": 50})
    assert out.open({"weights": "1", "part_rows": 80})["part_rows"] == 50
    with pytest.raises(ValueError, match=r"results of other settings \(weights: '1', now '2'\)"):
        out.open({"weights": "2", "part_rows": 50})
    pq.write_table(pa.table({"id": ["1"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"has Parquet files and no _run\.json"):
        ResultFolder(str(tmp_path)).open({})


def test_a_file_that_was_changed_meanwhile(posts: Path, tmp_path: Path) -> None:
    files, out = PostFiles(str(posts / "c.jsonl")), ResultFolder(str(tmp_path / "out"))
    out.open({})
    (part,) = files.parts(1000)
    (posts / "c.jsonl").write_text('{"id": "1", "text": "Ann"}\n')
    with pytest.raises(ValueError, match="1 posts in the place of 91; it was changed meanwhile"):
        out.write(files.system, part, Echo(), SCHEMA, 20)
    assert out.names() == set()


def test_addresses_stay_what_they_are(posts: Path, tmp_path: Path) -> None:
    assert address_of(Path("s3://bucket/a/b")) == "s3://bucket/a/b"
    assert address_of(Path("file:///a/b")) == "file:///a/b"
    assert address_of(Path("a/b")) == "a/b"
    assert address_of(Path("/a:/b")) == "/a:/b"
    files = PostFiles(posts.as_uri())
    assert files.rows == PostFiles(str(posts)).rows
    assert [part.name for part in files.parts(9)] == [part.name for part in PostFiles(str(posts)).parts(9)]
    out = ResultFolder((tmp_path / "out").as_uri())
    out.open({})
    write_all(files, out, Echo())
    assert len(list(ids(out))) == files.rows
