"""Work that blocks, in a thread that nobody has to wait for when the donor is stopped.

The threads of the event loop are joined before a process ends; a Hub that is silent would hold it
for minutes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from seshu_swarm.program.running import Stop

Result = TypeVar("Result")


async def in_background(stop: Stop, work: Callable[[], Result]) -> Result | None:
    """What `work` returns or raises; None if it was stopped before, and then it is left alone."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="background").start()
    done = asyncio.wrap_future(future)
    stopping = asyncio.create_task(stop.wait())
    first: list[asyncio.Future[Any]] = [done, stopping]
    try:
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        return None if stop.is_set() else done.result()
    finally:
        stopping.cancel()
        # Left alone, it may still end, and in an error that nobody would look at.
        done.add_done_callback(lambda left: left.cancelled() or left.exception())
