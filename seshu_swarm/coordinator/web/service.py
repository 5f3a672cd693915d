"""What `run` does for people beside its work: watches the swarm, tells it the public ledger, and
serves the page if asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from contextlib import AbstractContextManager

from seshu_swarm.coordinator.web.books import Books
from seshu_swarm.coordinator.web.publishing import Publisher
from seshu_swarm.coordinator.web.watching import WATCH_SECONDS, Watch
from seshu_swarm.program import running
from seshu_swarm.program.running import Stop
from seshu_swarm.records.kinds import ANNOUNCE_SECONDS


def opened(web: str | None) -> AbstractContextManager[socket.socket | None]:
    """The socket of `--web`, or None. Raises PortTakenError or UsageError."""
    if web is None:
        return contextlib.nullcontext()
    # What serves pages is imported where pages are served.
    from seshu_swarm.dashboard.serving import listening

    return listening(web)


async def live(
    watch: Watch, publisher: Publisher, books: Books, listener: socket.socket | None, stop: Stop
) -> None:
    """Until stopped."""
    await asyncio.gather(
        running.repeat(stop, WATCH_SECONDS, watch.look),
        running.repeat(stop, ANNOUNCE_SECONDS, publisher.publish),
        _serve(books, listener, stop),
    )


async def _serve(books: Books, listener: socket.socket | None, stop: Stop) -> None:
    if listener is None:
        return
    from seshu_swarm.dashboard.board import Board
    from seshu_swarm.dashboard.serving import serve

    await serve(Board(books), listener, stop)
