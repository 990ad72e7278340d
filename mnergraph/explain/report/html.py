"""Write a report as one HTML file that fetches nothing and runs no text of a post."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from mnergraph.files import write_atomically

#: The scripts, in order.
SCRIPTS = ("weights.js", "post.js", "light.js", "summary.js", "controls.js")


#: Characters that could end a script element or, in old engines, a line of JavaScript.
_RISKY = {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def write_report(content: Mapping[str, Any], path: str | Path, *, title: str | None = None) -> int:
    """Write a report and return its size in bytes.

    Style and script are part of the file and allowed by their checksums alone (a content security policy), so
    nothing else in a post could run or be fetched even if it were not escaped. The posts are JSON in an element that
    no browser runs; the script puts them into the page as text.

    Args:
        content: as `report_data` returns it.
        path: the file.
        title: the page's title; by default it has the model's name.
    """
    style, script = asset("page.css"), "".join(map(asset, SCRIPTS))
    values = {
        "policy": content_policy(style, script),
        "title": html.escape(title or f"Predictions and attention of {content['model']}"),
        "style": style,
        "script": script,
        "content": json_in_html(content),
    }
    # in one pass, so that inserted text is never searched for placeholders
    text = re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], asset("page.html"))
    encoded = text.encode("utf-8", errors="replace")
    write_atomically(Path(path), encoded)
    return len(encoded)


def content_policy(style: str, script: str) -> str:
    """Return a content security policy, for an attribute, that allows this style and script and data URIs alone."""
    policy = f"default-src 'none'; img-src data:; style-src '{_checksum(style)}'; script-src '{_checksum(script)}'"
    return html.escape(policy, quote=False).replace('"', "&quot;")


def json_in_html(content: Any) -> str:
    """Return JSON text that cannot end the HTML element that contains it.

    >>> json_in_html("</script>")
    '"\\\\u003c/script\\\\u003e"'
    """
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return re.sub("[<>&\u2028\u2029]", lambda match: _RISKY[match[0]], text)


def asset(name: str) -> str:
    """Return the text of one of the page's files."""
    return (files("mnergraph.explain.report") / "assets" / name).read_text(encoding="utf-8")


def _checksum(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
