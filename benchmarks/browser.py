"""Chromium without a window, for what measures, tests and photographs the page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

#: No window, nothing shared with other runs, and no conversation of the browser's own with the network.
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
)


class NoBrowser(RuntimeError):
    """What a browser needs is not installed."""


@contextmanager
def chromium(width: int = 1300, height: int = 900) -> Iterator[Chrome]:
    """The installed Chromium with an empty profile, writing down its console and what it fetches.

    Args:
        width: of the window, in pixels.
        height: of the window, in pixels.

    Raises:
        NoBrowser: when chromium, chromedriver or selenium is not installed, naming what to install.
    """
    programs = [shutil.which("chromium"), shutil.which("chromedriver")]
    if not all(programs):
        raise NoBrowser("needs chromium and chromedriver (Debian's packages chromium and chromium-driver)")
    try:
        from selenium.webdriver import Chrome, ChromeOptions
        from selenium.webdriver.chrome.service import Service
    except ImportError as error:
        raise NoBrowser("needs selenium, of the development group: uv sync") from error
    options = ChromeOptions()
    options.binary_location = str(programs[0])
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with TemporaryDirectory() as profile:
        for option in (*OPTIONS, f"--window-size={width},{height}", f"--user-data-dir={Path(profile)}"):
            options.add_argument(option)
        # a driver that is named is never looked for on the network
        driver = Chrome(options, Service(str(programs[1])))
        try:
            yield driver
        finally:
            driver.quit()
