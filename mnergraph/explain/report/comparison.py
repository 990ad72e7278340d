"""A page and a table of several systems on the same posts, side by side."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path

from tqdm.auto import tqdm

from mnergraph.explain.report.data import embedded_image
from mnergraph.explain.report.html import asset, content_policy
from mnergraph.files import write_atomically
from mnergraph.labels import Span, tags_to_spans
from mnergraph.metrics.comparison import Comparison, SystemRow
from mnergraph.pair import Pair

#: Width of the longest bar of the picture of corrected and harmed entities, in pixels, and height of a row.
BAR, ROW = 220, 26


def write_comparison(
    comparison: Comparison,
    pairs: Sequence[Pair],
    path: str | Path,
    *,
    posts: Sequence[int] | None = None,
    title: str = "Systems side by side",
    progress: bool = False,
) -> int:
    """Write the page, one HTML file that fetches nothing, and return its size in bytes.

    Args:
        comparison: the systems' entities.
        pairs: the posts, in its order.
        path: the file.
        posts: indices of the posts to show; by default those in which a system differs from the baseline.
        title: the page's title.
        progress: whether to show a progress bar.
    """
    shown = comparison.differing() if posts is None else list(posts)
    rows = comparison.rows()
    others = [row.name for row in rows[1:]]
    types = sorted({span.type for tags in (comparison.gold, *comparison.predicted.values()) for post in tags
                    for span in tags_to_spans(post)})  # fmt: skip
    articles = [
        _article(comparison, pairs[post], post, others, types)
        for post in tqdm(shown, desc="writing", unit="post", disable=not progress)
    ]
    style, script = asset("comparison.css"), asset("comparison.js")
    values = {
        "policy": content_policy(style, script),
        "title": html.escape(title),
        "style": style,
        "script": script,
        "summary": _summary(rows),
        "chart": _chart(rows),
        "filters": _filters(others),
        "total": f"{len(shown)} of {len(comparison.gold)} posts",
        "baseline": html.escape(comparison.baseline),
        "posts": "\n".join(articles),
    }
    text = re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], asset("comparison.html"))
    encoded = text.encode("utf-8", errors="replace")
    write_atomically(Path(path), encoded)
    return len(encoded)


def case_table(comparison: Comparison, pairs: Sequence[Pair], posts: Sequence[int]) -> str:
    """Return posts as a Markdown table, a row per post and a column per system, as in the papers' case studies.

    Wrong entities have a cross and right ones a check mark; a gold entity that a system does not have is not in its
    cell.
    """
    names = [row.name for row in comparison.rows()]
    lines = [f"| post | gold | {' | '.join(map(_cell, names))} |", "|---|---|" + "---|" * len(names)]
    for post in posts:
        gold = tags_to_spans(comparison.gold[post])
        cells = [_entities(pairs[post], gold, None)]
        cells += [_entities(pairs[post], tags_to_spans(comparison.predicted[name][post]), gold) for name in names]
        text = f"{_cell(pairs[post].id)}: {_cell(' '.join(pairs[post].words))}"
        lines.append(f"| {text} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _entities(pair: Pair, spans: Sequence[Span], gold: Sequence[Span] | None) -> str:
    marks = ["" if gold is None else " ✓" if span in gold else " ✗" for span in spans]
    words = (" ".join(pair.words[span.start : span.end]) for span in spans)
    return (
        "<br>".join(f"{_cell(text)} ({span.type}){mark}" for text, span, mark in zip(words, spans, marks, strict=True))
        or "–"
    )


def _cell(text: str) -> str:
    """Return a text that stays within a cell of a Markdown table."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")


def _summary(rows: Sequence[SystemRow]) -> str:
    """Return the table of scores and changes."""
    lines = []
    for row in rows:
        cells = [
            html.escape(row.name),
            *(f"{100 * v:.2f}" for v in (row.score.precision, row.score.recall, row.score.f1)),
        ]
        if (d := row.difference) is None:
            cells += ["", "", "", "", "", "", ""]
        else:
            cells += [f"{100 * d.f1:+.2f} [{100 * d.low:+.2f}, {100 * d.high:+.2f}]", f"{d.p:.4f}"]
            cells += [str(row.corrected), str(row.harmed), f"{row.net:+d}", str(row.removed), str(row.added)]
        lines.append("<tr><th scope=row>" + "</th><td>".join(cells[:2]) + "".join(f"<td>{cell}" for cell in cells[2:]))
    return "\n".join(lines)


def _chart(rows: Sequence[SystemRow]) -> str:
    """Return bars of corrected and harmed entities as SVG."""
    others = [row for row in rows if row.difference is not None]
    most = max([max(row.corrected, row.harmed) for row in others] + [1])
    name_width = 12 + 8 * max(len(row.name) for row in others)
    middle = name_width + BAR + 40
    parts = []
    for index, row in enumerate(others):
        top = 24 + index * ROW
        harmed, corrected = (BAR * value / most for value in (row.harmed, row.corrected))
        parts += [
            f'<text x="0" y="{top + 14}">{html.escape(row.name)}</text>',
            f'<rect class="harmed" x="{middle - harmed:.1f}" y="{top}" width="{harmed:.1f}" height="18"/>',
            f'<rect class="corrected" x="{middle}" y="{top}" width="{corrected:.1f}" height="18"/>',
            f'<text x="{middle - harmed - 6:.1f}" y="{top + 14}" text-anchor="end">{row.harmed}</text>',
            f'<text x="{middle + corrected + 6:.1f}" y="{top + 14}">{row.corrected}</text>',
        ]
    width, height = middle + BAR + 50, 30 + len(others) * ROW
    parts += [
        f'<text x="{middle - 6}" y="14" text-anchor="end">harmed</text><text x="{middle + 6}" y="14">corrected</text>',
        f'<line x1="{middle}" x2="{middle}" y1="0" y2="{height}"/>',
    ]
    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="gold entities corrected and harmed by each system">{"".join(parts)}</svg>'
    )


def _filters(names: Sequence[str]) -> str:
    """Return the options of the choice of posts."""
    options = ['<option value="">all that differ</option>']
    for index, name in enumerate(names):
        for kind in ("corrected", "harmed"):
            options.append(f'<option value="{kind}-{index}">{kind} by {html.escape(name)}</option>')
    return "".join(options)


def _article(comparison: Comparison, pair: Pair, post: int, others: Sequence[str], types: Sequence[str]) -> str:
    """Return one post: its image, and its words with the entities of gold, baseline and systems."""
    gold, base, _ = comparison.spans(comparison.baseline, post)
    kinds, lines = [], [("gold", gold, ""), (comparison.baseline, base, "")]
    for index, name in enumerate(others):
        corrected, harmed, removed, added = comparison.changes(name, post)
        numbers = {"corrected": corrected, "harmed": harmed, "removed": removed, "added": added}
        kinds += [f"{kind}-{index}" for kind in ("corrected", "harmed") if numbers[kind]]
        badges = "".join(f'<span class="badge {kind}">{kind} {n}</span>' for kind, n in numbers.items() if n)
        lines.append((name, comparison.spans(name, post)[2], badges))
    image, _, _ = embedded_image(pair)
    picture = f'<img src="{image}" alt="image of post {html.escape(pair.id)}" loading="lazy">' if image else ""
    caption = f'<p class="caption">{html.escape(pair.caption)}</p>' if pair.caption else ""
    body = "".join(
        f"<tr><th scope=row>{html.escape(name)}{badges}</th><td>{_sentence(pair, spans, gold, types)}</td></tr>"
        for name, spans, badges in lines
    )
    heading = f'<article data-kinds="{" ".join(kinds)}"><h2>{html.escape(pair.id)}</h2>'
    return f'{heading}<div class="post"><table>{body}</table><div>{picture}{caption}</div></div></article>'


def _sentence(pair: Pair, spans: Sequence[Span], gold: Sequence[Span], types: Sequence[str]) -> str:
    """Return the words with their entities marked, wrong ones with a dashed border."""
    parts, done = [], 0
    for span in spans:
        parts += [html.escape(word) for word in pair.words[done : span.start]]
        words, wrong = html.escape(" ".join(pair.words[span.start : span.end])), "" if span in gold else " wrong"
        kind = f"t{types.index(span.type) % 8}{wrong}"
        parts.append(f'<mark class="{kind}">{words}<span>{html.escape(span.type)}{" ✗" * bool(wrong)}</span></mark>')
        done = span.end
    return " ".join([*parts, *(html.escape(word) for word in pair.words[done:])])
