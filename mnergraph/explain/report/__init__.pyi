from .data import (
    page_content as page_content,
)
from .html import (
    write_page as write_page,
)
