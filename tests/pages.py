"""Posts as a page takes them, and text that a page must survive."""

from __future__ import annotations

import base64
from typing import Any

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


def a_post(*words: str, **values: Any) -> dict[str, Any]:
    """A post with two objects; the first word attends to the first object, all others to the second."""
    rows = [[255, 0]] + [[0, 255]] * (len(words) - 1)
    numbers = bytes(number for row in rows for number in row)
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
    post = {"id": "7", "words": list(words), "gold": None, "predicted": [], "errors": [], "image": None}
    post["image_fault"] = None
    return {**post, "caption": None, "objects": objects, "nodes": [], "tasks": [], "parts": parts, **values}


def content(*posts: dict[str, Any], **values: Any) -> dict[str, Any]:
    summary = {"posts": len(posts), "labelled": 0, "with_errors": 0, "without_image": 0, "scores": [], "errors": {}}
    summary["confidence"] = {kind: [0] * 10 for kind in ("right", "wrong", "unknown")}
    page = {"model": "UMGF", "facts": [["model", "UMGF"]], "summary": summary, "types": ["PER"], "layers": ["4", "7"]}
    return {**page, "heads": 2, "posts": list(posts), **values}
