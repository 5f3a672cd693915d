"""The swarm for code that waits: one event loop in a thread of its own, joined once.

`run` carries a coroutine out there and waits for it, so that errors of the swarm are raised where it
was called; an interruption of the waiting thread cancels the coroutine first. What is not closed is
closed at the interpreter's exit: the thread and the p2p daemon end with it. Knows no model's class.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, TypeVar

from seshu_swarm.client.remote.model import RemoteModel
from seshu_swarm.client.remote.token_session import Roll, TokenSession
from seshu_swarm.errors import PeerError, UsageError
from seshu_swarm.program.config import JoinConfig
from seshu_swarm.run import joining
from seshu_swarm.run.joining import Joined

logger = logging.getLogger(__name__)

CANCEL_SECONDS = 5.0
LEAVE_SECONDS = 5.0
CLOSE_SECONDS = 1.0
T = TypeVar("T")


class SwarmThread:
    """A client of the swarm behind a thread. Made by `join`; ended by `close`, from any thread."""

    joined: Joined
    remote: RemoteModel

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._executor = ThreadPoolExecutor(2, thread_name_prefix="seshu-client-work")
        self._loop.set_default_executor(self._executor)
        # A daemon thread: the interpreter waits for others before it calls what atexit knows.
        self._thread = threading.Thread(target=self._turn, name="seshu-client", daemon=True)
        self._closing = threading.Lock()
        self._is_closed = False
        self._working: set[asyncio.Task[Any] | None] = set()
        self._sessions: set[TokenSession] = set()
        self._thread.start()

    @classmethod
    def join(cls, settings: JoinConfig, revision: str | None = None) -> SwarmThread:
        """Join the run and fetch the model's ends. Raises JoinError, PeerError, PackageError."""
        thread = cls()
        atexit.register(thread.close)
        try:
            thread.run(thread._enter(settings, revision))
        except BaseException:
            thread.close()
            raise
        return thread

    async def _enter(self, settings: JoinConfig, revision: str | None) -> None:
        self.joined = await joining.join(settings)
        self.remote = await RemoteModel.connect(self.joined, revision)

    def _turn(self) -> None:
        # What this thread starts inherits its mask: Ctrl-C in a terminal reaches the whole group,
        # and the p2p daemon must outlive the call that it interrupts.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work` in the loop. Raises what it raises, and UsageError when closed."""
        if self._is_closed or threading.current_thread() is self._thread:
            work.close()
            raise UsageError(
                "the connection to the swarm is closed"
                if self._is_closed
                else "a call from within",
                rule="one connection serves until it is closed, and other threads than its own",
                way_out="from_pretrained(LINK) makes a new one",
            )
        ended = threading.Event()
        future = asyncio.run_coroutine_threadsafe(self._until(work, ended), self._loop)
        try:
            return future.result()
        except CancelledError:
            raise UsageError("the connection to the swarm was closed during the call") from None
        except BaseException:
            _cancel(future, ended)
            raise

    def close(self) -> None:
        """Leave the swarm and end the thread; at most a few seconds, and harmless when repeated."""
        if threading.current_thread() is self._thread:
            # The garbage collector may find the last reference inside the loop.
            threading.Thread(target=self.close, name="seshu-client-close").start()
            return
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
            leaving = asyncio.run_coroutine_threadsafe(self._leave(), self._loop)
            with contextlib.suppress(TimeoutError):
                leaving.result(CANCEL_SECONDS + CLOSE_SECONDS + LEAVE_SECONDS)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(LEAVE_SECONDS)
            self._executor.shutdown(wait=False, cancel_futures=True)
            if not self._thread.is_alive():
                self._loop.close()
        atexit.unregister(self.close)

    async def _until(self, work: Coroutine[Any, Any, T], ended: threading.Event) -> T:
        task = asyncio.current_task()
        self._working.add(task)
        try:
            return await work
        finally:
            self._working.discard(task)
            ended.set()

    def open_session(self, step_seconds: float, on_roll: Callable[[Roll], None]) -> TokenSession:
        """A session that is closed with the connection, at the latest. In the loop only."""
        session = TokenSession(self.remote, step_seconds, on_roll=on_roll)
        self._sessions.add(session)
        return session

    async def close_session(self, session: TokenSession) -> None:
        self._sessions.discard(session)
        try:
            await asyncio.wait_for(session.close(), CLOSE_SECONDS)
        except (PeerError, TimeoutError) as error:
            logger.debug("a session ended without a goodbye: %r", error)

    async def _leave(self) -> None:
        await _cancelled(self._working)
        await asyncio.gather(*map(self.close_session, list(self._sessions)))
        if hasattr(self, "joined"):
            try:
                await asyncio.wait_for(self.joined.swarm.leave(), LEAVE_SECONDS)
            except Exception as error:
                # The daemon may be gone already, and leaving must end either way.
                logger.info("left the swarm without a goodbye: %r", error)
        await _cancelled(asyncio.all_tasks() - {asyncio.current_task()})


async def _cancelled(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    """End these tasks and wait for them, but not for those that do not heed it."""
    alive = [task for task in tasks if task is not None]
    for task in alive:
        task.cancel()
    if alive:
        await asyncio.wait(alive, timeout=CANCEL_SECONDS)


def _cancel(future: Future[Any], ended: threading.Event) -> None:
    """Ask the loop to cancel, and wait until the coroutine has ended."""
    if future.cancel():
        ended.wait(CANCEL_SECONDS)
