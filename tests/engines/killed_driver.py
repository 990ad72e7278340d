"""A prediction by Ray whose driver `test_ray_data` kills: many parts, which take a while.

python -W ignore killed_driver.py ARGUMENTS OF THE COMMAND LINE
"""

from __future__ import annotations

import sys

import mnergraph.engines.files as files
from mnergraph.cli.main import main

if __name__ == "__main__":
    files.WINDOWS, files.MIN_PART = 0, 10
    main(sys.argv[1:])
