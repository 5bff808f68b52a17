"""A headless Chromium for tests of pages, with all that it says and asks for kept."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def browser(*, width: int = 1100, dark: bool = False) -> Iterator[Any]:
    """Yield a driver of Debian's Chromium; skip where there is none.

    Args:
        width: of the window, px.
        dark: whether the reader's system prefers dark pages.
    """
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("needs a browser: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    # --no-sandbox: Chromium refuses to be root with it, and containers give no user namespaces.
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    try:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        yield chrome
    finally:
        chrome.quit()


def requests_of(chrome: Any) -> list[str]:
    """Return the addresses that the page asked for since this was last called."""
    events = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


def opened(chrome: Any, page: Path) -> None:
    """Open a file and wait until it is painted."""
    chrome.get(page.as_uri())
    chrome.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()));"
    )
