"""The file: hostile text stays text, nothing is fetched, and a browser runs it without an error."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mnergraph.page import write_page
from mnergraph.page.write import json_in_html

HOSTILE = (
    "</script><script>throw 1</script>",
    "<!--<script>",
    "<img src=http://x.invalid/ onerror='throw 2'>",
    '"><svg onload=alert(3)>',
    "{{script}} {{content}} \\1",
    "&lt;b&gt;",
    "\u2028\u2029\u0000",
    "javascript:alert(4)",
    "\ud800",
)


def a_post(*words: str, **told: Any) -> dict[str, Any]:
    """A post with two objects, heard by the first word alone and by all others alone."""
    heard = [[255, 0]] + [[0, 255]] * (len(words) - 1)
    numbers = bytes(number for row in heard for number in row)
    turned = bytes(255 - number for number in numbers)
    parts = [
        {
            "layer": layer,
            "relation": "guides",
            "what": "attention",
            "sender": "object",
            "heads": 2,
            "count": 2,
            "most": 1.0,
            "data": base64.b64encode(data).decode(),
        }
        # in the second layer the heads disagree
        for layer, data in (("4", numbers + numbers), ("7", numbers + turned))
    ]
    objects = [
        {"label": "hat", "score": 0.9, "box": [0, 0, 0.5, 0.5]},
        {"label": "", "score": 1, "box": None},
    ]
    post = {"id": "7", "words": list(words), "gold": None, "said": [], "errors": [], "picture": None}
    return {**post, "caption": None, "objects": objects, "parts": parts, **told}


def content(*posts: dict[str, Any]) -> dict[str, Any]:
    return {"model": "UMGF", "types": ["PER"], "layers": ["4", "7"], "heads": 2, "posts": list(posts)}


class Elements(HTMLParser):
    """The elements of a page, and what the scripts hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts[-1] += data


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    things = [{"label": text, "score": 1.0, "box": None} for text in HOSTILE]
    hostile = a_post(*HOSTILE, id=HOSTILE[0], caption=HOSTILE[2], objects=things, parts=[])
    told = {**content(hostile), "model": HOSTILE[0]}
    size = write_page(told, tmp_path / "page.html")
    raw = (tmp_path / "page.html").read_bytes()
    assert len(raw) == size
    page, plain = Elements(raw.decode()), Elements(page_of(tmp_path, content(a_post("hi"))))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags], "posts add no element"
    assert len(page.scripts) == 2
    assert page.scripts[1] == plain.scripts[1]
    surrogate = {"\ud800": "?"}  # what UTF-8 can't hold
    expected = [surrogate.get(text, text) for text in HOSTILE]
    assert json.loads(page.scripts[0])["posts"][0]["words"] == expected
    assert "</script" not in json_in_html(list(HOSTILE))
    assert json.loads(json_in_html(list(HOSTILE))) == list(HOSTILE)


def test_nothing_else_may_run_or_be_fetched(tmp_path: Path) -> None:
    text = page_of(tmp_path, content(a_post("hi")))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in html.unescape(policy[1]).split("; "))
    assert (rules["default-src"], rules["img-src"]) == ("'none'", "data:")
    for name, tag in (("style-src", "style"), ("script-src", "script")):
        inside = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert len(inside) == 1
        digest = base64.b64encode(hashlib.sha256(inside[0].encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"
    assert not re.search(r"https?://", text)
    program = Elements(text).scripts[1]
    assert "innerHTML" not in program
    assert "eval" not in program


def test_numbers_that_json_has_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        write_page({"model": float("nan")}, tmp_path / "page.html")


def page_of(folder: Path, told: dict[str, Any]) -> str:
    write_page(told, folder / "other.html")
    return (folder / "other.html").read_text(encoding="utf-8")


# --- in a browser ----------------------------------------------------------------------------------------

#: Points, slides and filters, and writes down what is seen.
DRIVER = """
const seen = {errors: []};
window.addEventListener("error", (event) => seen.errors.push(event.message));
window.addEventListener("DOMContentLoaded", () => setTimeout(() => {
  const all = (name) => [...document.querySelectorAll(name)];
  const heat = () =>
    all("article:first-child .heat").map((element) => Number(element.style.opacity || 0) > 0);
  const point = (element) => element.dispatchEvent(new MouseEvent("mouseenter"));
  const set = (id, value, event) => {
    document.getElementById(id).value = value;
    document.getElementById(id).dispatchEvent(new Event(event));
  };
  try {
    point(all(".word")[0]);
    seen.first = heat();
    point(all(".word")[1]);
    seen.second = heat();
    set("layer", "2", "input");
    set("head", "1", "change");
    seen.turned = heat();
    set("layer", "0", "input");
    set("head", "-1", "change");
    point(all(".object")[0]);
    seen.words = all("article:first-child .predicted .word").map((word) => word.style.background);
    document.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape"}));
    seen.cleared = heat();
    const box = document.querySelector("#kinds input[value=missed]");
    box.click();
    seen.filtered = all("article").map((article) => !article.hidden);
    seen.confidence = all("mark .type").map((type) => type.textContent);
    seen.injected = all("article script, article img, article svg, article b + b").length;
    seen.texts = all("article:last-child .predicted .word").map((word) => word.textContent);
  } catch (error) { seen.errors.push(String(error)); }
  document.body.dataset.seen = JSON.stringify(seen);
}, 0));
"""


def test_in_a_browser(tmp_path: Path) -> None:
    """Hover, slide, filter, and no script error."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium (Debian's package chromium), which is not installed")
    hostile = [text for text in HOSTILE if text not in ("\ud800", "\u2028\u2029\u0000")]
    text = page_of(
        tmp_path,
        content(
            a_post("Ann", "wins", "here", gold=[[0, 1, "PER", "right"]], said=[[0, 1, "PER", "right", 0.91]]),
            a_post("Bob", "runs", gold=[[0, 1, "PER", "missed"]], errors=["missed"], id=hostile[0]),
            a_post(*hostile, id="8"),
        ),
    )
    # the test's own program would be refused by the page's policy, as it should be
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    text = text.replace("<style>", f"<script>{DRIVER}</script><style>", 1)
    path = tmp_path / "page.html"
    path.write_text(text, encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000"]
    found = subprocess.run(
        [*command, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    told = re.search(r'data-seen="([^"]*)"', found.stdout)
    assert told is not None, found.stderr
    seen = json.loads(html.unescape(told[1]))
    assert seen["errors"] == []
    assert (seen["first"], seen["second"]) == ([True, False], [False, True])
    assert seen["turned"] == [True, False], "the last layer's second head hears the other object"
    assert ["0.6" in word for word in seen["words"]] == [True, False, False]
    assert seen["cleared"] == [False, False]
    assert seen["filtered"] == [False, True, False]
    assert "PER 0.91" in seen["confidence"]
    assert seen["injected"] == 0
    assert seen["texts"] == hostile
