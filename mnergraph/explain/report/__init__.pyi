from .data import (
    report_data as report_data,
)
from .html import (
    write_report as write_report,
)
