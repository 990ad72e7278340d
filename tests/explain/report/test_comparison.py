"""The page and the table of several systems side by side."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pages import HOSTILE
from PIL import Image

from benchmarks.browser import NoBrowser, chromium
from mnergraph.cli.main import main
from mnergraph.explain.report.comparison import case_table, write_comparison
from mnergraph.features.text.encoder import TextEncoderModel, tiny_encoder
from mnergraph.labels import LabelSet
from mnergraph.metrics.comparison import Comparison
from mnergraph.models import BERTCRF, UMGF, Tagger
from mnergraph.pair import Pair

LABELS = LabelSet.from_types(["LOC", "PER"])
GOLD = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "O"], ["B-ORG", "O", "O"], ["O"]]
TEXT = [["B-PER", "O", "O", "B-LOC"], ["B-LOC", "O"], ["B-ORG", "O", "O"], ["O"]]
BOTH = [["B-PER", "I-PER", "O", "O"], ["O", "B-PER"], ["B-ORG", "O", "O"], ["O"]]
COMPARISON = Comparison(GOLD, {"BERT-CRF": TEXT, "UM<b>GF": BOTH}, "BERT-CRF")


def pairs(folder: Path) -> list[Pair]:
    Image.new("RGB", (60, 40), "teal").save(folder / "1.jpg")
    return [
        Pair(("Bob", "Ann", "in", "Paris"), id="1", image_path=folder / "1.jpg", caption="two people"),
        Pair(("so", "what"), id="2"),
        Pair(("NASA", "is", "up"), id="3"),
        Pair(("x",), id="4"),
    ]


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_page(tmp_path: Path) -> None:
    size = write_comparison(COMPARISON, pairs(tmp_path), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert size == len(text.encode())
    elements = Elements(text).found
    articles = [attributes["data-kinds"] for tag, attributes in elements if tag == "article"]
    assert articles == ["corrected-0 harmed-0", ""], "only the posts that differ"
    assert text.count("<svg") == 1
    marks = re.findall(r'<mark class="(t\d(?: wrong)?)">([^<]*)<', text)
    assert ("t2", "Bob Ann") in marks
    assert ("t2 wrong", "Bob") in marks
    assert ("t0 wrong", "so") in marks
    assert len([tag for tag, _ in elements if tag == "img"]) == 1
    assert all(value.startswith("data:") for _, a in elements for key, value in a.items() if key == "src" and value)
    assert "2 of 4 posts" in text
    assert "UM&lt;b&gt;GF" in text
    assert "<b>" not in text


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    hostile = tuple(word.replace(" ", "_") for word in HOSTILE)
    posts = [Pair(hostile, id=HOSTILE[0], caption=HOSTILE[2])]
    gold, base = ["B-PER"] + ["O"] * (len(hostile) - 1), ["O"] * len(hostile)
    comparison = Comparison([gold], {HOSTILE[3]: [base], HOSTILE[5]: [gold]}, HOSTILE[3])
    write_comparison(comparison, posts, tmp_path / "page.html", title=HOSTILE[4])
    elements = Elements((tmp_path / "page.html").read_text(encoding="utf-8")).found
    assert [tag for tag, _ in elements].count("script") == 1
    assert not [tag for tag, _ in elements if tag in ("img", "b")]
    assert not [key for _, attributes in elements for key in attributes if key.startswith("on")]
    table = case_table(comparison, posts, [0])
    assert len(table.splitlines()) == 3
    assert "<script" not in table


def test_table_of_cases(tmp_path: Path) -> None:
    lines = case_table(COMPARISON, pairs(tmp_path), [0, 1]).splitlines()
    assert lines[0] == "| post | gold | BERT-CRF | UM&lt;b&gt;GF |"
    assert lines[2] == (
        "| 1: Bob Ann in Paris | Bob Ann (PER)<br>Paris (LOC) | Bob (PER) ✗<br>Paris (LOC) ✓ | Bob Ann (PER) ✓ |"
    )
    assert lines[3] == "| 2: so what | – | so (LOC) ✗ | what (PER) ✗ |"


def test_choice_of_posts_in_a_browser(tmp_path: Path) -> None:
    write_comparison(COMPARISON, pairs(tmp_path), tmp_path / "page.html")
    try:
        with chromium() as driver:
            driver.get((tmp_path / "page.html").as_uri())

            def shown() -> list[str]:
                articles = driver.find_elements("css selector", "article")
                return [item.find_element("css selector", "h2").text for item in articles if item.is_displayed()]

            assert shown() == ["1", "2"]
            driver.find_element("css selector", "#kind option[value='harmed-0']").click()
            assert shown() == ["1"]
            driver.find_element("css selector", "#kind option[value='']").click()
            driver.find_element("id", "find").send_keys("so what")
            assert shown() == ["2"]
            assert driver.find_element("id", "count").text == "1 posts"
            assert not [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    except NoBrowser as error:
        pytest.skip(str(error))


# --- the command -----------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "posts"
    folder.mkdir()
    for split in ("train", "valid", "test"):
        (folder / f"{split}.txt").write_text(
            "".join(f"IMGID:{i}\nBob\tB-PER\nis\tO\nin\tO\nParis\tB-LOC\n\n" for i in range(4)), encoding="utf-8"
        )
    return folder


def encoder() -> TextEncoderModel:
    return tiny_encoder(["bob", "is", "in", "paris"], hidden_size=16, num_layers=1, heads=2)


def saved(model: Tagger, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def test_command(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = saved(UMGF(encoder(), LABELS, hidden_size=16, num_heads=2), tmp_path / "umgf")
    text = saved(BERTCRF(encoder(), LABELS), tmp_path / "text")
    given = ["--data", "PostFolder", "--root", str(root), "--out", str(tmp_path / "page.html"), "--progress", "false"]
    allow = ["--allow_missing", "[detected objects, grounded objects, region features]"]
    main(["compare", str(graph), str(text), *given, *allow, "--table", str(tmp_path / "table.md")])
    out = capsys.readouterr().out
    assert out.index("| BERTCRF |") < out.index("| UMGF |"), "the model of the text alone is the baseline"
    assert (tmp_path / "page.html").stat().st_size > 2000
    assert (tmp_path / "table.md").read_text(encoding="utf-8").startswith("| system | P | R | F1 |")
    main(["compare", str(graph), str(text), *given, *allow, "--baseline", "b", "--names", "[b, c]"])
    out = capsys.readouterr().out
    assert out.index("| b |") < out.index("| c |")
    other = saved(BERTCRF(encoder(), LabelSet.from_types(["ORG"])), tmp_path / "other")
    for arguments, message in (
        ([str(graph), *given], "compare takes two models or more"),
        ([str(graph), str(text), *given], "the model reads region features"),
        ([str(text), str(text), *given], "two models are called the same"),
        ([str(text), str(graph), *given, "--names", "[a]"], "2 models need 2 different names"),
        ([str(text), str(graph), *given, "--baseline", "UMT"], "the baseline 'UMT' is none of BERTCRF, UMGF"),
        ([str(text), str(other), *given], "other has no type of the test posts, which have PER (4), LOC (4)"),
        ([str(text), str(tmp_path / "none"), *given], "no model at"),
    ):
        with pytest.raises(SystemExit):
            main(["compare", *arguments])
        assert message in capsys.readouterr().err
