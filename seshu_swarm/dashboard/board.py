"""The newest snapshot of a source as pages, fetched when somebody looks, and not more often.

Nobody looks, nothing is done; however many look, a source is asked once in a few seconds. Where it
fails, the pages before stay, which say of when they are.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from seshu_swarm.dashboard.pages import Pages
from seshu_swarm.dashboard.snapshot import Snapshot
from seshu_swarm.errors import SeshuError

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 5.0
# How long a source may take.
SOURCE_SECONDS = 30.0


class Source(Protocol):
    """Where snapshots come from. It fails with a SeshuError."""

    async def snapshot(self) -> Snapshot: ...

    def file(self, revision: str, name: str) -> Path | None:
        """A file of a checkpoint that is given out; `name` is one that the snapshot lists."""


class Board:
    """Pages of one source."""

    def __init__(
        self,
        source: Source,
        *,
        refresh_seconds: float = REFRESH_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self._refresh_seconds, self._clock = refresh_seconds, clock
        self._pages: Pages | None = None
        self._asked_at = -float("inf")
        self._asking = asyncio.Lock()

    async def pages(self) -> Pages:
        """At most a few seconds old where the source answers. Raises SeshuError for the first ones."""
        async with self._asking:
            if self._pages is None or self._clock() - self._asked_at >= self._refresh_seconds:
                await self._refresh()
            if self._pages is None:
                raise SeshuError("nothing is known of the run yet", way_out="try again in a moment")
            return self._pages

    async def _refresh(self) -> None:
        try:
            snapshot = await _within(self.source.snapshot())
            self._pages = await asyncio.to_thread(Pages.of, snapshot, self._pages)
        except (SeshuError, TimeoutError) as error:
            logger.warning("the dashboard shows what it had: %s", error)
        finally:
            self._asked_at = self._clock()


async def _within(asking: Awaitable[Snapshot]) -> Snapshot:
    async with asyncio.timeout(SOURCE_SECONDS):
        return await asking
