from .data import (
    report_data as report_data,
)
from .html import (
    write_report as write_report,
)
from .summary import (
    Summary as Summary,
)
from .summary import (
    summarize as summarize,
)
