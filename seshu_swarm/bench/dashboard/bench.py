"""`python -m seshu_swarm bench dashboard`: what a visitor waits for and loads, and what visitors cost.

A made-up run of 200 peers and 100 rounds is served by a process of its own, and opened in the
machine's chromium through playwright. First paint and bytes are the browser's own numbers, of pages
with an empty cache in a browser that runs; the server's processor time is what the system counts while so many pages are
open and follow the run.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.errors import UsageError
from seshu_swarm.program import running
from seshu_swarm.program.children import Children
from seshu_swarm.program.progress import Bar
from seshu_swarm.program.running import Stop

if TYPE_CHECKING:
    from playwright.async_api import Browser

NUM_PEERS, NUM_ROUNDS, NUM_OPEN, NUM_TIMES = 200, 100, 20, 7
WATCH_SECONDS, START_SECONDS = 60.0, 60.0
SETTLE_SECONDS = 10.0
SERVER = "seshu_swarm.bench.dashboard.server"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
# Of the page and all it loaded by then: sizes after and before decompression, headers included before.
_IS_PAINTED = "performance.getEntriesByName('first-contentful-paint').length"
_SIZES = """() => {
  const all = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  return [paint.startTime / 1000, all.reduce((sum, one) => sum + one.decodedBodySize, 0),
          all.reduce((sum, one) => sum + one.transferSize, 0)];
}"""


@dataclass(frozen=True)
class Opening:
    """One page opened with an empty cache."""

    first_paint_seconds: float
    page_bytes: int
    transferred_bytes: int


def run_bench(settings: BenchConfig) -> Outcome:
    """Raises UsageError without chromium or playwright."""
    found: list[Outcome] = []

    async def main(stop: Stop) -> int:
        async def measured() -> None:
            found.append(await _measure(settings))

        await running.first_to_end(measured(), stop.wait())
        return 0

    running.run(main)
    if not found:
        raise KeyboardInterrupt
    return found[0]


async def _measure(settings: BenchConfig) -> Outcome:
    async with _served(settings.seed) as (url, process), _browser() as browser:
        # The browser's own start is not the page's.
        await _open(browser, url)
        with Bar("opening pages") as bar:
            openings = []
            for number in range(NUM_TIMES):
                openings.append(await _open(browser, url))
                bar.update((number + 1) / NUM_TIMES)
        share = await _cost(browser, url, process)
    paints = [one.first_paint_seconds for one in openings]
    results = {
        "first_paint_seconds_median": statistics.median(paints),
        "first_paint_seconds_max": max(paints),
        "page_bytes": float(max(one.page_bytes for one in openings)),
        "transferred_bytes": float(max(one.transferred_bytes for one in openings)),
        "server_cpu_percent_20_open": 100 * share,
        "server_memory_bytes": float(process.memory),
    }
    return Outcome(results, [asdict(one) for one in openings])


@dataclass
class Server:
    """The serving process; `memory` is what it held at the end of its watch."""

    process: psutil.Process
    memory: int = 0

    def cpu_seconds(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)


@asynccontextmanager
async def _served(seed: int) -> AsyncIterator[tuple[str, Server]]:
    with tempfile.TemporaryDirectory() as logs:
        children = Children(Path(logs), lambda name, event: None)
        try:
            sizes = [str(NUM_PEERS), str(NUM_ROUNDS), str(seed)]
            child = await children.start("server", SERVER, sizes)
            event = await child.wait_for("web", seconds=START_SECONDS)
            yield str(event["url"]), Server(psutil.Process(child.process.pid))
        finally:
            await children.end()


@asynccontextmanager
async def _browser() -> AsyncIterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        raise UsageError("there is no chromium on this machine", way_out="apt-get install chromium")
    try:
        from playwright.async_api import async_playwright
    except ImportError:
        raise UsageError(
            "playwright is not installed", way_out="pip install 'seshu-swarm[dev]'"
        ) from None
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        await browser.close()


async def _open(browser: Browser, url: str) -> Opening:
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(url, wait_until="load")
    # The page's policy lets no script wait in it for playwright.
    while not await page.evaluate(_IS_PAINTED):
        await asyncio.sleep(0.05)
    found = await page.evaluate(_SIZES)
    await context.close()
    return Opening(float(found[0]), int(found[1]), int(found[2]))


async def _cost(browser: Browser, url: str, server: Server) -> float:
    """The share of one core that the server takes while so many pages are open."""
    async with AsyncExitStack() as stack:
        for _ in range(NUM_OPEN):
            context = await browser.new_context()
            stack.push_async_callback(context.close)
            await (await context.new_page()).goto(url)
        await asyncio.sleep(SETTLE_SECONDS)
        before = server.cpu_seconds()
        with Bar(f"{NUM_OPEN} pages open") as bar:
            for second in range(int(WATCH_SECONDS)):
                await asyncio.sleep(1.0)
                bar.update((second + 1) / WATCH_SECONDS)
        server.memory = server.process.memory_info().rss
        return (server.cpu_seconds() - before) / WATCH_SECONDS
