"""The tutorials as pages with their outputs and as notebooks to download: a hook of mkdocs.

A tutorial is a notebook in jupytext's Markdown format, `docs/tutorials/*.md`: its ``python`` blocks are the cells. When
the site is built all tutorials run in one kernel, so that the package is imported once, each in a folder of its own and
with none of the names of the one before. Outputs are put below their cells. A cell that fails ends the build; one
that shows a picture without ``alt="..."`` beside ``python``, or writes to standard error without ``stderr="shown"``
there, fails a strict one.

``RUN_TUTORIALS=false mkdocs serve`` shows the pages without outputs, at once.
"""

from __future__ import annotations

import base64
import logging
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import join, normpath
from tempfile import TemporaryDirectory
from typing import Any

import jupytext
import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

PROJECT = Path(__file__).parents[1]
FOLDER = "tutorials/"
#: Seconds that a cell may take.
TIMEOUT = 300
log = logging.getLogger("mkdocs.hooks.tutorials")


@dataclass
class Rendered:
    """A tutorial as a page.

    Attributes:
        markdown: the page, with placeholders for outputs in HTML.
        images: contents of the page's pictures by address.
        html: the outputs in HTML by placeholder.
        warnings: what a strict build does not accept.
    """

    markdown: str = ""
    images: dict[str, bytes] = field(default_factory=dict)
    html: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


#: Pages by address and source: `mkdocs serve` runs again what was changed.
_DONE: dict[tuple[str, str], Rendered] = {}
#: Those of this build by address.
_PAGES: dict[str, Rendered] = {}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Run the tutorials; add their pictures, and the notebooks, to the files of the site."""
    sources = {
        file.src_uri: file.content_string
        for file in files.documentation_pages()
        if file.src_uri.startswith(FOLDER) and file.name != "index"
    }
    notebooks = {address: read_notebook(source) for address, source in sources.items()}
    if os.environ.get("RUN_TUTORIALS", "true").lower() == "false":
        log.info("tutorials are shown without outputs (RUN_TUTORIALS=false)")
    else:
        new = {address: notebooks[address] for address in notebooks if (address, sources[address]) not in _DONE}
        run_notebooks(new)
        for address, notebook in new.items():
            _DONE[address, sources[address]] = render(address, notebook)
        _PAGES.update({address: _DONE[address, source] for address, source in sources.items()})
    for address, notebook in notebooks.items():
        page = _PAGES.get(address, Rendered())
        for warning in page.warnings:
            log.warning(warning)
        plain = nbformat.writes(without_outputs(notebook, config.site_url or ""))
        for uri, content in {notebook_address(address): plain, **page.images}.items():
            files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str | None:
    """Return a tutorial's page with outputs, and with a link to its notebook below the title."""
    address = page.file.src_uri
    if not address.startswith(FOLDER) or page.file.name == "index":
        return None
    text = _PAGES[address].markdown if address in _PAGES else markdown
    name = notebook_address(address).removeprefix(FOLDER)
    link = f'[Download as a notebook]({name}){{ .md-button .notebook download="{name}" }}'
    return re.sub(r"\A\s*(# .*\n)", lambda title: f"{title[1]}\n{link}\n", text)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the page with the outputs that are HTML already."""
    for name, output in (_PAGES[page.file.src_uri].html if page.file.src_uri in _PAGES else {}).items():
        html = html.replace(name, output)
    return html


def read_notebook(source: str) -> NotebookNode:
    """Return a tutorial's cells, with the metadata by which any notebook program runs them."""
    notebook = jupytext.reads(source, fmt="md")
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def run_notebooks(notebooks: Mapping[str, NotebookNode]) -> None:
    """Run notebooks in one kernel, which puts the outputs into their cells.

    Raises:
        PluginError: at the first cell that fails, naming page and cell.
    """
    if not notebooks:
        return
    with TemporaryDirectory() as folder:
        cells: list[NotebookNode] = []
        places: list[str] = []
        for address, notebook in notebooks.items():
            own = Path(folder) / Path(address).stem
            own.mkdir()
            code = [cell for cell in notebook.cells if cell.cell_type == "code"]
            cells += [new_code_cell("%reset -f"), new_code_cell(f"import os; os.chdir({str(own)!r}); del os"), *code]
            places += [address, address, *(f"{address}, cell {number}" for number in range(1, len(code) + 1))]
        client = NotebookClient(new_notebook(cells=cells), timeout=TIMEOUT, record_timing=False)
        client.resources = {"metadata": {"path": folder}}
        path = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))
        seconds: dict[str, float] = {}
        with client.setup_kernel(env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}):
            for number, (cell, place) in enumerate(zip(cells, places, strict=True)):
                start = time.perf_counter()
                try:
                    client.execute_cell(cell, number)
                except CellExecutionError as error:
                    raise PluginError(f"{place} fails:\n{_plain(str(error))}") from None
                for output in cell.outputs:
                    if output.output_type == "error":  # of %run, which goes on
                        said = "".join(out.text for out in cell.outputs if out.output_type == "stream")
                        raise PluginError(f"{place} fails:\n{output.ename}: {output.evalue}\n{_plain(said)}")
                name = place.partition(",")[0]
                seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
        for name, taken in seconds.items():
            log.info(f"{name}: {taken:.1f} s")


def render(address: str, notebook: NotebookNode) -> Rendered:
    """Return the page of a notebook that was run."""
    page, parts, code = Rendered(), [], 0
    for cell in notebook.cells:
        if cell.cell_type != "code":
            parts.append(cell.source)
            continue
        code += 1
        place = f"{address}, cell {code}"
        if "stderr" not in cell.metadata and (said := _stderr(cell)):
            page.warnings.append(f"{place} writes to standard error: {said}")
        parts.append(_fence(cell.source, "python"))
        parts += _outputs(cell, address, place, page)
    page.markdown = "\n\n".join(parts) + "\n"
    return page


def _outputs(cell: NotebookNode, address: str, place: str, page: Rendered) -> Iterable[str]:
    text = ""
    for output in cell.outputs:
        if output.output_type == "stream":
            text += output.text if output.name == "stdout" or "stderr" in cell.metadata else ""
            continue
        data = output.get("data", {})
        if "application/vnd.jupyter.widget-view+json" in data:  # a progress bar
            continue
        if not {"text/html", "image/png", "text/markdown"} & {*data}:
            text += data.get("text/plain", "") + "\n"
            continue
        if text:
            yield _fence(text, "{ .text .output }")
            text = ""
        if "text/markdown" in data:
            yield data["text/markdown"]
            continue
        if "text/html" in data:
            name = f"tutorial-output-{Path(address).stem}-{len(page.html)}-html"
            page.html[name] = data["text/html"]
            yield f'<div class="output">{name}</div>'
            continue
        if "alt" not in cell.metadata:
            page.warnings.append(f'{place} shows a picture: say what is on it, ```python alt="..."')
        name = f"{Path(address).stem}-{len(page.images) + 1}.png"
        page.images[f"{FOLDER}{name}"] = base64.b64decode(data["image/png"])
        yield f"![{cell.metadata.get('alt', '')}]({name}){{ .output }}"
    if text.strip():
        yield _fence(text, "{ .text .output }")


def _fence(text: str, language: str) -> str:
    plain = _plain(text).rstrip()
    marks = "`" * max(3, 1 + max(map(len, re.findall("`+", plain)), default=0))
    return f"{marks}{language}\n{plain}\n{marks}"


def _plain(text: str) -> str:
    """Return a text without the codes that color it in a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def _stderr(cell: NotebookNode) -> str:
    return "".join(out.text for out in cell.outputs if out.output_type == "stream" and out.name == "stderr").strip()


def notebook_address(address: str) -> str:
    """Return the address of the notebook to download."""
    return f"{address.removesuffix('.md')}.ipynb"


def without_outputs(notebook: NotebookNode, site: str) -> NotebookNode:
    """Return a notebook to download: without outputs, its links to other pages complete, or without address."""

    def complete(link: re.Match[str]) -> str:
        page = normpath(join(FOLDER, link[2])).removesuffix(".md")
        return f"[{link[1]}]({site.rstrip('/')}/{page}/)" if site else link[1]

    plain: Any = nbformat.from_dict(notebook)
    for number, cell in enumerate(plain.cells):
        cell.id, cell.metadata = f"cell-{number}", NotebookNode()
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        else:
            cell.source = re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?:)([^)#]+\.md)(?:#[^)]*)?\)", complete, cell.source)
    return plain
