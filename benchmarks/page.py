"""How long a page of many posts takes to open in Chromium, and how large it is. Needs a quiet machine.

    uv run mnergraph quickstart --folder QUICKSTART
    uv run python -m benchmarks.page --quickstart QUICKSTART --photographs DIR \\
        --out benchmarks/results/page.json

Each opening is in a browser of its own with an empty profile, timed by the browser itself from the start of
the navigation; medians. Photographs are repeated until there are enough posts, each picture with bytes of
its own, so that the browser can't take two for one.
"""

from __future__ import annotations

import base64
import json
import statistics
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jsonargparse import auto_cli

from benchmarks.browser import chromium
from benchmarks.common import commit, machine
from mnergraph.data import Evidence, Lookalikes
from mnergraph.data.formats.jsonl import read_posts
from mnergraph.explain.report import report_data, write_report
from mnergraph.inference.predictor import Predictor
from mnergraph.models import Tagger
from mnergraph.pair import Pair

#: Milliseconds since the start of the navigation, by what has happened then; null until the page has loaded.
TIMES = """
const [opened] = performance.getEntriesByType("navigation");
const painted = performance.getEntriesByName("first-contentful-paint")[0];
return opened.loadEventEnd && painted
  ? {"posts in the page": opened.domContentLoadedEventEnd, "loaded": opened.loadEventEnd,
     "first painted": painted.startTime}
  : null;
"""


def opening(page: Path) -> tuple[str, dict[str, float]]:
    """The browser's version, and seconds of one opening."""
    from selenium.webdriver.support.wait import WebDriverWait

    with chromium() as driver:
        driver.get(page.as_uri())
        times = WebDriverWait(driver, 60, 0.1).until(lambda driver: driver.execute_script(TIMES))
        return driver.capabilities["browserVersion"], {name: value / 1e3 for name, value in times.items()}


def photographed(folder: Path, count: int) -> list[Pair]:
    """So many posts of a folder of real ones: CoNLL files, images/, objects.jsonl and captions.jsonl."""
    evidence = Evidence(folder / "captions.jsonl", folder / "objects.jsonl", None, caption_phrases=False)
    files = sorted(folder.glob("*.txt"))
    found = [
        pair
        for file in files
        for pair in read_posts(file, images=folder / "images", evidence=evidence)
        if pair.image_path is not None
    ]
    return [replace(pair, id=f"{pair.id} {place}") for place, pair in enumerate(islice(cycle(found), count))]


def apart(content: dict[str, Any]) -> dict[str, Any]:
    """The content with the post's number behind every JPEG's end, where nobody reads it."""
    for place, post in enumerate(content["posts"]):
        if post["picture"] is not None:
            head, _, data = post["picture"].partition(",")
            picture = base64.b64decode(data) + place.to_bytes(4, "big")
            post["picture"] = f"{head},{base64.b64encode(picture).decode()}"
    return content


def main(
    quickstart: Path,
    photographs: Path | None = None,
    out: Path | None = None,
    posts: int = 200,
    repeats: int = 7,
) -> None:
    """Writes the pages, measures, prints the figures, and writes them if asked.

    Args:
        quickstart: what `mnergraph quickstart --folder` left.
        photographs: folder of real posts with their pictures.
        out: the result file.
        posts: on a page.
        repeats: openings of each page.
    """
    pipeline = Predictor(Tagger.from_pretrained(quickstart / "UMGF" / "model"))
    sets = {"Lookalikes": Lookalikes(quickstart / "lookalikes", "test").pairs[:posts]}
    if photographs is not None:
        sets["photographs"] = photographed(photographs, posts)
    found: dict[str, Any] = {}
    times: dict[str, list[dict[str, float]]] = {name: [] for name in sets}
    with TemporaryDirectory() as folder:
        for name, pairs in sets.items():
            content = apart(report_data(pipeline.model, pipeline.prepared(pairs)))
            found[name] = {
                "posts": len(content["posts"]),
                "pictures": sum(post["picture"] is not None for post in content["posts"]),
                "objects": sum(len(post["objects"]) for post in content["posts"]),
                "MB": write_report(content, Path(folder) / f"{name}.html") / 1e6,
            }
        for _ in range(repeats):
            for name in sets:  # in turns
                found["chromium"], seconds = opening(Path(folder) / f"{name}.html")
                times[name].append(seconds)
    for name, openings in times.items():
        found[name]["seconds"] = {
            what: statistics.median(seconds[what] for seconds in openings) for what in openings[0]
        }
        found[name]["slowest loaded"] = max(seconds["loaded"] for seconds in openings)
    found |= {"repeats": repeats, "commit": commit(), "machine": machine()}
    text = json.dumps(found, indent=1)
    print(text)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
