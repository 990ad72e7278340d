"""Cache of parsed posts on disk: one line of settings, then one JSON line per post."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnergraph.files import replacing
from mnergraph.pair import Pair

#: Environment variable with the folder of caches of data sets in read-only folders.
CACHE_VARIABLE = "MNERGRAPH_CACHE"


def cache_folder(root: Path) -> Path:
    """Return ``root/processed``, or, if root is read-only, a folder for root in the user's cache.

    A folder without any write bit counts as read-only for the superuser too.
    """
    if _writable(root / "processed" if (root / "processed").exists() else root):
        folder = root / "processed"
    else:
        base = Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/mnergraph").expanduser()
        absolute = root.resolve()
        folder = base / f"{absolute.name}-{hashlib.sha256(str(absolute).encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def save_posts(pairs: Sequence[Pair], manifest: Mapping[str, Any], path: Path) -> None:
    """Write words, labels and ids of posts atomically."""
    lines: list[Any] = [{**manifest, "posts": len(pairs)}]
    lines += [[pair.id, pair.words, pair.labels] for pair in pairs]
    with replacing(path, own=True) as unfinished, unfinished.open("w", encoding="utf-8", newline="\n") as file:
        for line in lines:
            file.write(json.dumps(line) + "\n")


def load_posts(path: Path) -> list[Pair]:
    """Return the posts written by ``save_posts``.

    Raises:
        ValueError: when the file is damaged.
    """
    try:
        manifest, *rows = map(json.loads, path.read_bytes().splitlines())
        pairs = [Pair(tuple(words), None if tags is None else tuple(tags), id=id) for id, words, tags in rows]
        if len(pairs) != manifest["posts"]:
            raise ValueError(f"{len(pairs)} of {manifest['posts']} posts")
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: a damaged cache ({error}); delete it, or give force_reload=True") from None
    return pairs


def _writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK) and bool(folder.stat().st_mode & 0o222)
