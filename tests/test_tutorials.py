"""Tutorials become pages with outputs and notebooks to download; faults end the site's build."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

pytest.importorskip("jupytext", reason="needs the group of packages for the documentation: uv sync --group docs")
pytest.importorskip("nbclient", reason="needs the group of packages for the documentation: uv sync --group docs")
pytest.importorskip("ipykernel", reason="needs the group of packages for the documentation: uv sync --group docs")

import nbformat
from mkdocs.exceptions import PluginError

from tools.tutorials import Rendered, read_notebook, render, run_notebooks, without_outputs

FIRST = """# First

See [schema](../schema.md#graphs) and [a site](https://example.org/a.md).

```python
word = "heard"
print(word)
open("left.txt", "w").close()
```

A shell command is no cell:

```
mnergraph ls
```

```python alt="A red square"
from PIL import Image

print("```")
Image.new("RGB", (4, 4), "red")
```

```python stderr="shown"
import sys
from IPython.display import HTML, Markdown, display

print("to the reader", file=sys.stderr)
display(Markdown("| a |\\n|---|"))
HTML("<b>bold</b>")
```
"""
SECOND = """# Second

```python
from pathlib import Path

print("word" in globals(), Path("left.txt").exists())
```

```python
import sys

print("beware", file=sys.stderr)
Image = __import__("PIL.Image").Image.new("RGB", (4, 4), "red")
Image
```
"""


def pages(sources: Mapping[str, str]) -> dict[str, Rendered]:
    notebooks = {address: read_notebook(source) for address, source in sources.items()}
    run_notebooks(notebooks)
    return {address: render(address, notebook) for address, notebook in notebooks.items()}


@pytest.fixture(scope="module")
def rendered() -> dict[str, Rendered]:
    return pages({"tutorials/first.md": FIRST, "tutorials/second.md": SECOND})


def test_outputs_are_below_their_cells(rendered: dict[str, Rendered]) -> None:
    page = rendered["tutorials/first.md"]
    expected = """print(word)
open("left.txt", "w").close()
```

```{ .text .output }
heard
```

A shell command is no cell:

```
mnergraph ls
```
"""
    assert expected in page.markdown
    assert "````{ .text .output }\n```\n````\n\n![A red square](first-1.png){ .output }" in page.markdown
    assert list(page.images) == ["tutorials/first-1.png"]
    assert page.images["tutorials/first-1.png"].startswith(b"\x89PNG")
    ((name, html),) = page.html.items()
    assert html == "<b>bold</b>"
    assert page.markdown.endswith(f'to the reader\n```\n\n| a |\n|---|\n\n<div class="output">{name}</div>\n')
    assert page.warnings == []


def test_a_tutorial_begins_with_nothing_of_the_one_before(rendered: dict[str, Rendered]) -> None:
    assert "False False" in rendered["tutorials/second.md"].markdown


def test_what_a_strict_build_refuses(rendered: dict[str, Rendered]) -> None:
    said, alt = rendered["tutorials/second.md"].warnings
    assert said == "tutorials/second.md, cell 2 writes to standard error: beware"
    assert alt.startswith("tutorials/second.md, cell 2 shows a picture")


@pytest.mark.parametrize("source", ["1 / 0", "%run -c '1'", "%run -m json.tool no.json"])
def test_a_cell_that_fails_ends_the_build(source: str) -> None:
    notebook = read_notebook(f"# A\n\n```python\n1\n```\n\n```python\n{source}\n```\n")
    with pytest.raises(PluginError, match=r"tutorials/a.md, cell 2 fails"):
        run_notebooks({"tutorials/a.md": notebook})


def test_notebook_to_download() -> None:
    notebook = read_notebook(FIRST)
    for site, link in (("", "See schema and"), ("https://x.example/", "See [schema](https://x.example/schema/) and")):
        plain = without_outputs(notebook, site)
        nbformat.validate(plain)
        assert link in plain.cells[0].source
        assert "[a site](https://example.org/a.md)" in plain.cells[0].source
    assert [cell.cell_type for cell in plain.cells] == ["markdown", "code", "markdown", "code", "code"]
    assert plain.metadata.kernelspec.name == "python3"
    assert not any(cell.metadata or cell.get("outputs") for cell in plain.cells)
