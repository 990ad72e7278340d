"""The code in the documentation runs, its links lead somewhere, and CI runs the README's test command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mnergraph.data.registry import DATASETS
from mnergraph.features.vision.registry import EXTRACTORS
from mnergraph.models.registry import MODELS

PROJECT = Path(__file__).parents[1]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
TUTORIALS = sorted(set((PROJECT / "docs" / "tutorials").glob("*.md")) - {PROJECT / "docs" / "tutorials" / "index.md"})


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


# tutorials are notebooks, which the site's build runs
@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page) and page not in TUTORIALS], ids=lambda page: page.name
)
def test_code_blocks_run(page: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for registry in (DATASETS, EXTRACTORS, MODELS):  # what a page registers is removed after it
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        monkeypatch.setattr(registry, "_loaded", dict(registry._loaded))
    for block in blocks(page):
        exec(compile(block, str(page), "exec", dont_inherit=True), {"__name__": "docs"})


@pytest.mark.parametrize("page", sorted((PROJECT / "docs" / "own").glob("*.md")), ids=lambda page: page.stem)
def test_a_page_on_extending_has_one_short_program(page: Path) -> None:
    (program,) = blocks(page)
    assert sum(bool(line.strip()) for line in program.splitlines()) < 40


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_shows_a_picture_and_says_where_to_go_next(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "```python alt=" in text
    assert re.findall("^## (.*)$", text, re.MULTILINE)[-1] == "Where to go next"
    assert f"]({page.name})" in (page.parent / "index.md").read_text(encoding="utf-8")


def test_ci_runs_the_readmes_test_command() -> None:
    commands = (PROJECT / ".ci" / "run").read_text(encoding="utf-8").strip().split("\n")
    assert commands[-1] == "uv run pytest -n 2"
    assert commands[-1] in (PROJECT / "README.md").read_text(encoding="utf-8").split("\n")
    for check in ("ruff check .", "ruff format --check .", "mypy", "--group docs mkdocs build --strict"):
        assert any(f"uv run {check}" in command for command in commands[:-1]), check


def test_links_lead_to_files() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (PROJECT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"[\w/-]+\.md", navigation))
    pages = {path.relative_to(PROJECT / "docs").as_posix() for path in (PROJECT / "docs").rglob("*.md")}
    assert listed == pages
