"""The command ``verify-data``: what is wrong with a folder of posts."""

from __future__ import annotations

from pathlib import Path


def verify_data(root: Path, images: Path | None = None, boxes: Path | None = None, progress: bool = True) -> None:
    """Print counts, checksums, faulty images, label faults and leaks between splits of a folder of posts.

    Args:
        root: the folder, with train.txt, valid.txt, test.txt or some of them.
        images: folder of the images, if it is elsewhere.
        boxes: gold boxes of entities, a file as boxes.jsonl or a folder as GMNER's xml, if they are elsewhere.
        progress: whether to show a progress bar.

    Raises:
        SystemExit: with status 1 where there are problems.
    """
    from mnergraph.data.verify import verify

    report = verify(root, images=images, boxes=boxes, progress=progress)
    print(report)
    if report.problems:
        raise SystemExit(1)
