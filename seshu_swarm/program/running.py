"""The life of a process: one event loop, one stop signal, no child left behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import psutil
import uvloop

from seshu_swarm.errors import EXIT_INTERRUPTED

logger = logging.getLogger(__name__)

STOP_SECONDS = 1.0
T = TypeVar("T")


class Stop:
    """Set once, by Ctrl-C, a termination signal or the work's own end.

    `grace_seconds`: how long the work may take to end in order; a second signal ends it at once.
    """

    def __init__(self) -> None:
        self.grace_seconds = STOP_SECONDS
        self._event = asyncio.Event()
        self._flag = threading.Event()

    def set(self) -> None:
        self._flag.set()
        self._event.set()

    def is_set(self) -> bool:
        """For threads too."""
        return self._flag.is_set()

    async def wait(self) -> None:
        await self._event.wait()

    async def sleep(self, seconds: float) -> bool:
        """Sleep unless stopped; True while the work should go on."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return True
        return False


def run(main: Callable[[Stop], Coroutine[Any, Any, int]]) -> int:
    """Run `main` until it returns or is stopped; the exit code. Every child process is ended."""
    try:
        code: int = uvloop.run(_supervise(main))
        return code
    except asyncio.CancelledError:
        return EXIT_INTERRUPTED
    finally:
        end_children()


async def _supervise(main: Callable[[Stop], Coroutine[Any, Any, int]]) -> int:
    stop = Stop()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(partial(_on_lost_task, stop))
    loop.set_default_executor(ThreadPoolExecutor(initializer=_apply_thread_limit))
    work = asyncio.create_task(main(stop))

    def on_signal() -> None:
        if stop.is_set():
            work.cancel()
        stop.set()
        # Work that does not heed the stop in time is cancelled where it waits.
        loop.call_later(stop.grace_seconds, work.cancel)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    return await work


def _on_lost_task(stop: Stop, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A terminal's Ctrl-C meets the p2p daemon too: that its connection breaks then is no news."""
    is_link = isinstance(context.get("exception"), ConnectionError | asyncio.IncompleteReadError)
    if not (stop.is_set() and is_link):
        loop.default_exception_handler(context)


def settle() -> None:
    """What a process holds when it is ready it holds for long: the collector need not go through it
    again and again, which took a tenth of the time of short steps, tens of milliseconds at once.

    Cycles among it are never collected; what is let go of otherwise, as a revision's weights, is.
    """
    gc.collect()
    gc.freeze()


def _apply_thread_limit() -> None:
    """MKL counts threads for each calling thread; asking torch there applies --max-threads to it."""
    # Commands that compute nothing must not pay for torch.
    if torch := sys.modules.get("torch"):
        torch.get_num_threads()


def end_children() -> None:
    """End what this process started (the p2p daemon, above all), by process id."""
    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue


async def repeat(stop: Stop, seconds: float, act: Callable[[], Awaitable[object]]) -> None:
    """Call `act` every so many seconds until stopped; a failure is logged and tried again."""
    while True:
        try:
            await act()
        except Exception as error:
            # The swarm may be away for a while; a peer outlives that.
            logger.warning("%s failed: %s", getattr(act, "__name__", "task"), error)
        if not await stop.sleep(seconds):
            return


async def first_to_end(*working: Coroutine[Any, Any, None]) -> None:
    """Until one of them ends; the others are cancelled. Raises what it raised."""
    tasks = [asyncio.create_task(work) for work in working]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
