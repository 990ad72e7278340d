import hashlib
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mnergraph.data.datasets import download, twitter
from mnergraph.data.datasets.twitter import (
    Twitter2015,
    Twitter2017,
    Twitter2017C,
    TwitterBenchmark,
    published_split,
)

TEXT = "".join(f"IMGID:17_{number}\nKevin\tB-PER\n\n" for number in range(6))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """A server on this machine with twitter2017/train.txt."""
    served = tmp_path / "served"
    (served / "twitter2017").mkdir(parents=True)
    (served / "twitter2017" / "train.txt").write_text(TEXT)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """TEXT is the published training split, for these tests."""
    sums = {**Twitter2017.sha256, "train": hashlib.sha256(TEXT.encode()).hexdigest()}
    monkeypatch.setattr(Twitter2017, "sha256", sums)
    monkeypatch.setattr(Twitter2017C, "sha256", sums)


@pytest.fixture
def root(tmp_path: Path, known: None) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.txt").write_text(TEXT)
    return tmp_path / "data"


def test_download(tmp_path: Path, mirror: str, known: None) -> None:
    posts = Twitter2017(tmp_path / "new", text_url=mirror)
    assert len(posts) == 6
    assert [path.name for path in (tmp_path / "new" / "raw").iterdir()] == ["train.txt"]
    # What is there is not fetched again.
    assert len(Twitter2017(tmp_path / "new", text_url="http://127.0.0.1:9")) == 6


def test_another_file_is_not_kept(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(ConnectionError, match=r"is incomplete or another file: its sha256 is \w{64}, right is 801e149"):
        Twitter2017(tmp_path / "new", text_url=mirror)
    assert not list((tmp_path / "new" / "raw").iterdir())


@pytest.mark.parametrize("reachable", [True, False])
def test_offline_says_what_to_fetch_and_where_to_put_it(tmp_path: Path, mirror: str, reachable: bool) -> None:
    url = mirror if reachable else "http://127.0.0.1:9"
    target = tmp_path / "new" / "raw" / "test.txt"
    with pytest.raises(ConnectionError) as caught:
        Twitter2015(tmp_path / "new", "test", text_url=url)
    assert f"fetch {url}/twitter2015/test.txt yourself and put it at {target}" in str(caught.value)
    assert not list(target.parent.iterdir())


def test_a_changed_text_is_an_error(root: Path) -> None:
    assert len(Twitter2017(root)) == 6
    with (root / "train.txt").open("a") as file:
        file.write("\n")
    with pytest.warns(UserWarning, match=r"not the train split of Twitter2017 as published: its sha256 is \w+, the"):
        Twitter2017(root)
    with pytest.raises(
        TypeError, match="TwitterBenchmark is abstract; there is Twitter2015, Twitter2017, Twitter2017C"
    ):
        TwitterBenchmark(root)


def archive(members: dict[str, bytes]) -> object:
    """Stands in for PyG's download_google_url: writes an archive with these members."""

    def fetch(id: str, folder: str, filename: str) -> str:
        path = Path(folder) / filename
        with zipfile.ZipFile(path, "w") as file:
            for name, content in members.items():
                file.writestr(name, content)
        return str(path)

    return fetch


def test_pictures_are_downloaded_when_asked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {
        "d/twitter2015_images/1.jpg": b"a",
        "d/twitter2017_images/17_0.jpg": b"b",
        "d/2017/read.me": b"c",
    }
    monkeypatch.setattr(download, "download_google_url", archive(members))
    pairs = Twitter2017(root, download_images=True).pairs
    assert pairs[0].image_path == root / "raw" / "images" / "17_0.jpg"
    assert [path.name for path in (root / "raw").rglob("*")] == ["images", "17_0.jpg"]
    monkeypatch.setattr(download, "download_google_url", None)  # not asked again
    assert Twitter2017(root, download_images=True).pairs == pairs


@pytest.mark.parametrize("name", ["../evil.jpg", "/evil.jpg", "a\\..\\..\\evil.jpg", "C:/evil.jpg"])
def test_an_archive_that_leads_out_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(download, "download_google_url", archive({name: b"x"}))
    with pytest.raises(ConnectionError, match="which leads out of its folder"):
        Twitter2017(root, download_images=True)
    assert not [path for path in root.parent.rglob("*") if "evil" in path.name]


def test_unavailable_images_are_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def page(id: str, folder: str, filename: str) -> str:
        (Path(folder) / filename).write_text("<html>quota exceeded")
        return f"{folder}/{filename}"

    def offline(id: str, folder: str, filename: str) -> str:
        raise OSError("no network")

    by_hand = r"fetch https://drive.google.com/file/d/\w+/view yourself and put its images of 2017 into "
    for answer, message in (
        (page, "web page"),
        (offline, "no network"),
        (archive({"2015/1.jpg": b""}), "no images of"),
    ):
        monkeypatch.setattr(download, "download_google_url", answer)
        with pytest.raises(ConnectionError, match=f"{message}.*{by_hand}"):
            Twitter2017(root, download_images=True)
    assert not (root / "raw" / "images").exists()


def test_2017c_from_the_pictures(root: Path) -> None:
    (root / "images").mkdir()
    for number, content in enumerate([b"own", b"same", b"same", b"same", b"gone"]):  # and none for 17_5
        (root / "images" / f"17_{number}.jpg").write_bytes(content)
    assert [pair.id for pair in Twitter2017C(root, copies=3).pairs] == ["17_0", "17_4"]
    sums = {hashlib.sha256(b"gone").hexdigest()}
    assert [pair.id for pair in Twitter2017C(root, copies=3, placeholder_sha256=sums).pairs] == ["17_0"]
    assert len(Twitter2017C(root)) == 5


def test_2017c_from_ids(root: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("17_3\r\n\n17_1\nelsewhere")
    assert [pair.id for pair in Twitter2017C(root, ids=tmp_path / "ids.txt").pairs] == ["17_1", "17_3"]
    assert [pair.id for pair in Twitter2017C(root, ids=["17_2"]).pairs] == ["17_2"]
    with pytest.raises(ValueError, match="no post of train is left; ids= fits none"):
        Twitter2017C(root, ids=["x"])


def test_2017c_needs_one_of_the_two(root: Path) -> None:
    with pytest.raises(ValueError, match=r"3075, 659 and 661 posts cannot be derived from it\). Give images= .* ids="):
        Twitter2017C(root)


def test_real_benchmarks(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNERGRAPH_CACHE", str(tmp_path))
    counts = {Twitter2015: (4000, 1000, 3257), Twitter2017: (3373, 723, 723)}
    for kind, expected in counts.items():
        folder = shared / kind.folder_name
        assert tuple(len(kind(folder, split)) for split in ("train", "dev", "test")) == expected
        assert published_split(kind.sha256["test"]) == f"{kind.__name__} test"
    assert published_split("0") is None
    assert twitter.Twitter2017(shared / "twitter2017").tags[1::2] == ("B-LOC", "B-MISC", "B-ORG", "B-PER")
