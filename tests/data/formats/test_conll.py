import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnergraph.data.formats.conll import ConllError, read_conll, write_conll
from mnergraph.labels import invalid_inside_tags
from mnergraph.pair import Pair

# Any character but those that part words: also U+2028, U+0085, no-break spaces, zero-width ones and NUL.
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t \n\r"), min_size=1, max_size=8)
TAGS = st.sampled_from(["O", "B-PER", "I-PER", "B-OTHER", "I-OTHER", "I-LOC-x"])
IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r"), min_size=1, max_size=8).filter(
    lambda text: text == text.strip(" ")
)


@st.composite
def posts(draw: st.DrawFn, labelled: bool = True) -> Pair:
    words = tuple(draw(st.lists(WORDS, min_size=1, max_size=5)))
    if not labelled:
        return Pair(tuple(f"w{word}" for word in words), id=draw(IDS))
    return Pair(words, tuple(draw(TAGS) for _ in words), id=draw(IDS))


def file(folder: Path, content: str | bytes) -> Path:
    path = folder / "posts.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(posts(), max_size=4))
def test_written_posts_read_the_same(tmp_path: Path, pairs: list[Pair]) -> None:
    path = tmp_path / "posts.txt"
    write_conll(pairs, path)
    assert read_conll(path) == pairs
    written = path.read_bytes()
    write_conll(read_conll(path), path)
    assert path.read_bytes() == written


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(posts(labelled=False), max_size=4))
def test_written_posts_without_labels_read_the_same(tmp_path: Path, pairs: list[Pair]) -> None:
    path = tmp_path / "posts.txt"
    write_conll(pairs, path)
    assert read_conll(path, labelled=False) == pairs


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(posts(), min_size=1, max_size=3), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.data())
def test_every_layout_reads_the_same(
    tmp_path: Path, pairs: list[Pair], newline: str, mark: bool, data: st.DataObject
) -> None:
    lines = [""] * data.draw(st.integers(0, 2))
    for pair in pairs:
        lines.append(f"IMGID:{pair.id}")
        for word, tag in zip(pair.words, pair.labels or (), strict=True):
            # A first word that looks like a header needs its tab; see test_a_word_may_look_like_a_header.
            gap = "\t" if word.startswith("IMGID:") else data.draw(st.sampled_from(["\t", " ", "  ", " \t"]))
            lines.append(word + gap + tag + data.draw(st.sampled_from(["", " "])))
        lines += [data.draw(st.sampled_from(["", " "]))] * data.draw(st.integers(1, 3))
    content = newline.join(lines).encode()
    content = content.rstrip(b"\r\n ") if data.draw(st.booleans()) else content
    assert read_conll(file(tmp_path, b"\xef\xbb\xbf" * mark + content)) == pairs


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_posts_or_a_located_fault(tmp_path: Path, content: bytes) -> None:
    path = file(tmp_path, content)
    fault = None
    try:
        read_conll(path)
    except ConllError as error:
        fault = str(error)
    assert fault is None or re.match(rf"{re.escape(str(path))}:\d+: .*; ", fault, re.DOTALL)


def test_a_word_may_look_like_a_header(tmp_path: Path) -> None:
    pairs = [Pair(("IMGID:7", "x"), ("O", "O"), id="1")]
    write_conll(pairs, tmp_path / "posts.txt")
    assert read_conll(tmp_path / "posts.txt") == pairs


def test_ids_may_repeat_and_blank_lines_may_lack(tmp_path: Path) -> None:
    pairs = read_conll(file(tmp_path, "IMGID:1\na\tO\nIMGID:1\nb\tO"))
    assert [(pair.id, pair.words) for pair in pairs] == [("1", ("a",)), ("1", ("b",))]


def test_types_keep_their_names_and_orphans_stay(tmp_path: Path) -> None:
    path = file(tmp_path, "IMGID:1\na\tI-OTHER\nb\tB-MISC\nc\tI-OTHER\n")
    (plain,), (mapped,) = read_conll(path), read_conll(path, mapping={"OTHER": "MISC"})
    assert plain.labels == ("I-OTHER", "B-MISC", "I-OTHER")
    assert mapped.labels == ("I-MISC", "B-MISC", "I-MISC")
    assert read_conll(path, fix_bio=True)[0].labels == ("B-OTHER", "B-MISC", "B-OTHER")
    # The mapping comes first: c then continues b.
    assert read_conll(path, fix_bio=True, mapping={"OTHER": "MISC"})[0].labels == (
        "B-MISC",
        "B-MISC",
        "I-MISC",
    )


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("a\tO\n", ":1: 'a\\tO' belongs to no post; a post begins with a line IMGID:<id>"),
        ("IMGID:1\na\tO\n\nb\tO\n", ":4: 'b\\tO' belongs to no post"),
        ("IMGID:1\n\nIMGID:2\na\tO\n", ":1: post '1' has no words"),
        ("IMGID:1\na\tO\n\nIMGID:2", ":4: post '2' has no words"),
        ("IMGID: \na\tO\n", ":1: the post has no id"),
        ("IMGID:1\na\n", ":2: 'a' has 1 columns, not 2; right is word<TAB>tag (a file without tags is read"),
        ("IMGID:1\na b O\n", ":2: 'a b O' has 3 columns"),
        ("IMGID:1\na\t\n", ":2: 'a\\t' has 1 columns"),
        ("IMGID:1\n\tO\n", ":2: '\\tO' has no word before its blank"),
        ("IMGID:1\na\tB-\n", ":2: unknown tag 'B-'; right is O, B-TYPE or I-TYPE"),
        ("IMGID:1\na\tQ-PER\n", ":2: unknown tag 'Q-PER'"),
        ("IMGID:1\na\to\n", ":2: unknown tag 'o'"),
        ("IMGID:1\na\rb\tO\n", ":2: a carriage return inside the line"),
        (b"IMGID:1\na\tO\ncaf\xe9\tO\n", ":3: byte 4 of the line (0xe9) is not UTF-8"),
    ],
)
def test_faults_name_file_and_line(tmp_path: Path, content: str | bytes, fault: str) -> None:
    path = file(tmp_path, content)
    with pytest.raises(ConllError, match=re.escape(f"{path}{fault}")):
        read_conll(path)


def test_tags_in_a_file_without_labels_are_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConllError, match=r":2: .* has 2 columns, not 1; right is word$"):
        read_conll(file(tmp_path, "IMGID:1\na\tO\n"), labelled=False)


@pytest.mark.parametrize(
    "pair",
    [
        Pair(("a b",), ("O",), id="1"),
        Pair(("",), ("O",), id="1"),
        Pair(("a",), ("X",), id="1"),
        Pair(("a",), ("O",), id=""),
        Pair(("a",), ("O",), id="1\t2"),
        Pair(("IMGID:2",), id="1"),
        Pair(("\ud800",), ("O",), id="1"),
    ],
)
def test_what_would_not_read_back_is_not_written(tmp_path: Path, pair: Pair) -> None:
    with pytest.raises(ConllError, match=r"; (right is|no UTF-8)"):
        write_conll([pair], tmp_path / "posts.txt")
    assert not (tmp_path / "posts.txt").exists()


def test_labelled_and_unlabelled_posts_do_not_mix(tmp_path: Path) -> None:
    with pytest.raises(ConllError, match="post '2' has no labels but others have"):
        write_conll([Pair(("a",), ("O",), id="1"), Pair(("a",), id="2")], tmp_path / "posts.txt")


@pytest.mark.parametrize("name", ["twitter2015", "twitter2017", "posts", "grounded"])
def test_real_files_are_written_as_they_were(shared: Path, tmp_path: Path, name: str) -> None:
    for source in sorted((shared / name).glob("*.txt")):
        write_conll(read_conll(source), tmp_path / "posts.txt")
        # The files of 2015 end without the last post's blank line; all else is canonical.
        assert (tmp_path / "posts.txt").read_bytes() == source.read_bytes() + b"\n" * (name == "twitter2015")


def test_orphans_of_2015(shared: Path) -> None:
    for split, count in {"train": 186, "valid": 53, "test": 135}.items():
        path = shared / "twitter2015" / f"{split}.txt"
        assert sum(len(invalid_inside_tags(pair.labels or ())) for pair in read_conll(path)) == count
        assert not any(invalid_inside_tags(pair.labels or ()) for pair in read_conll(path, fix_bio=True))
