"""A real browser for tests of pages: Debian's chromium under playwright, and axe's rules.

Import the fixture `browser` into a test module; `opened` gives a page at a width and a colour
scheme that remembers what went wrong on it. Playwright's plain interface keeps an event loop
running in the test's thread while the browser is open: servers run in threads or processes of
their own there, and `asyncio.run` belongs into those.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

WIDTHS = (360, 768, 1280)
SCHEMES = ("light", "dark")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
GRAVE = ("serious", "critical")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window, closed when the module's tests are over."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield chromium
        chromium.close()


@dataclass
class Opened:
    """A page, and what it did since it was opened."""

    page: Page
    faults: list[str] = field(default_factory=list)  # console errors and uncaught exceptions
    requested: list[str] = field(default_factory=list)  # every address it asked for

    @property
    def hosts(self) -> set[str]:
        """The hosts, with ports, of every request over the network."""
        return {urlsplit(url).netloc for url in self.requested if url.startswith(("http", "ws"))}


@contextmanager
def opened(browser: Browser, *, width: int = 1280, scheme: str = "light") -> Iterator[Opened]:
    """An empty page of a fresh browser profile, `width` CSS pixels wide."""
    emulated: Any = scheme
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=emulated, reduced_motion="reduce"
    )
    one = Opened(context.new_page())

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error":
            one.faults.append(message.text)

    one.page.on("console", hear)
    one.page.on("pageerror", lambda error: one.faults.append(str(error)))
    one.page.on("request", lambda request: one.requested.append(request.url))
    try:
        yield one
    finally:
        context.close()


def assert_accessible(page: Page) -> None:
    """No serious or critical violation of axe's rules in the page as it is now."""
    found = Axe().run(page).response["violations"]
    grave = [
        f"{violation['id']} ({violation['impact']}): {violation['help']}: "
        + "; ".join(str(node["target"]) for node in violation["nodes"][:3])
        for violation in found
        if violation["impact"] in GRAVE
    ]
    assert not grave, "\n".join(grave)


def assert_fits(page: Page) -> None:
    """The page itself does not scroll sideways."""
    wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wider <= 0, f"the page is {wider} px wider than the window"


def shoot(page: Page, folder: Path, name: str) -> Path:
    """A picture of the whole page, in a folder outside the repository."""
    path = folder / f"{name}.png"
    page.screenshot(path=path, full_page=True)
    return path
