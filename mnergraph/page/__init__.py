"""THE PAGE: what a model saw in posts, and where it erred, as one HTML file that needs no network."""

from mnergraph.page.content import page_content
from mnergraph.page.job import explain
from mnergraph.page.write import write_page

__all__ = ["explain", "page_content", "write_page"]
