"""The file: hostile text stays text, and nothing else may run or be fetched."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from pages import HOSTILE, a_post, content

from mnergraph.explain.report import write_report
from mnergraph.explain.report.html import json_in_html


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
    items = [{"label": text, "score": 1.0, "box": None} for text in HOSTILE]
    hostile = a_post(*HOSTILE, id=HOSTILE[0], caption=HOSTILE[2], objects=items, parts=[])
    values = {**content(hostile), "model": HOSTILE[0]}
    size = write_report(values, tmp_path / "page.html")
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


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        write_report({"model": float("nan")}, tmp_path / "page.html")


def page_of(folder: Path, values: dict[str, Any]) -> str:
    write_report(values, folder / "other.html")
    return (folder / "other.html").read_text(encoding="utf-8")
