"""One HTML file of a page's content: nothing is fetched, and no post's text can become a program."""

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

#: The program's parts, in their order.
SCRIPTS = ("weights.js", "post.js", "light.js", "controls.js")


#: Characters that could end a script element or, in old engines, a line of a program.
_RISKY = {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def write_report(content: Mapping[str, Any], path: str | Path, *, title: str | None = None) -> int:
    """Writes the page; how many bytes it has.

    Style and program stand in the file and are allowed by their checksums alone (a content security policy),
    so nothing else that came in with a post could run or be fetched even if it were not escaped. The posts
    are JSON in an element that no browser runs; the program puts them into the page as text.

    Args:
        content: as `report_data` returns it.
        path: the file.
        title: the page's title; by default the model's name.
    """
    style, script = _part("page.css"), "".join(map(_part, SCRIPTS))
    policy = f"default-src 'none'; img-src data:; style-src '{_checksum(style)}'; script-src '{_checksum(script)}'"
    told = {
        "policy": html.escape(policy, quote=False).replace('"', "&quot;"),
        "title": html.escape(title or f"What {content['model']} saw"),
        "style": style,
        "script": script,
        "content": json_in_html(content),
    }
    # all at once, so that what is put in is never searched for further places
    text = re.sub(r"\{\{(\w+)\}\}", lambda place: told[place[1]], _part("page.html"))
    written = text.encode("utf-8", errors="replace")
    Path(path).write_bytes(written)
    return len(written)


def json_in_html(content: Any) -> str:
    """JSON that cannot end the element it stands in.

    >>> json_in_html("</script>")
    '"\\\\u003c/script\\\\u003e"'
    """
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return re.sub("[<>&\u2028\u2029]", lambda found: _RISKY[found[0]], text)


def _part(name: str) -> str:
    return (files("mnergraph.explain.report") / "assets" / name).read_text(encoding="utf-8")


def _checksum(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
