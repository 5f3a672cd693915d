"""Roles as child processes: started as a person would, heard by their events, ended by their ids.

Each child is a session of its own, so that ending it, or pausing it, meets its p2p daemon too. What
it says on standard error lies in a folder of logs, one a child.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from seshu_swarm.errors import SeshuError

END_SECONDS = 1.2
Event = dict[str, Any]
OnEvent = Callable[[str, Event], None]


class Process(Protocol):
    """A process that leads a session of its own."""

    @property
    def pid(self) -> int: ...
    @property
    def stdout(self) -> asyncio.StreamReader | None: ...
    @property
    def returncode(self) -> int | None: ...
    async def wait(self) -> int: ...
    def terminate(self) -> None: ...
    def send_signal(self, signal: int, /) -> None: ...


class Child:
    """A process that prints one JSON event per line."""

    def __init__(self, name: str, process: Process, log: Path) -> None:
        self.name, self.process, self.log = name, process, log
        self.events: list[Event] = []
        self._news = asyncio.Condition()
        self._is_over = False

    async def listen(self, on_event: OnEvent) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                on_event(self.name, event)
                await self._tell(event)
        await self.process.wait()
        await self._tell(None)

    async def _tell(self, event: Event | None) -> None:
        async with self._news:
            if event is None:
                self._is_over = True
            elif event["event"] != "progress":
                self.events.append(event)
            self._news.notify_all()

    async def wait_for(
        self, name: str, *, seconds: float, matching: Callable[[Event], bool] = lambda event: True
    ) -> Event:
        """The first event of that name. Raises SeshuError when the child ends without it."""

        def found() -> Event | None:
            return next((e for e in self.events if e["event"] == name and matching(e)), None)

        try:
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: found() is not None or self._is_over)
        except TimeoutError:
            raise self._failure(f"said no {name!r} in {seconds:g} s") from None
        event = found()
        if event is None:
            raise self._failure(f"ended with {self.process.returncode} before it said {name!r}")
        return event

    async def wait_for_end(self, *, seconds: float) -> None:
        """Raises SeshuError unless the child ends with 0 in time."""
        try:
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: self._is_over)
        except TimeoutError:
            raise self._failure(f"did not end in {seconds:g} s") from None
        if self.process.returncode != 0:
            raise self._failure(f"ended with exit code {self.process.returncode}")

    def _failure(self, what: str) -> SeshuError:
        """What the child said last, with its own exit code."""
        lines = [x for x in self.log.read_text(errors="replace").splitlines() if x.strip()]
        last = lines[-1][:500].removeprefix("error: ") if lines else "it wrote nothing"
        error = SeshuError(f"{self.name} {what}: {last}", way_out=f"its log: {self.log}")
        error.exit_code = self.process.returncode or error.exit_code
        return error

    def kill(self) -> None:
        """End the child and everything it started, at once."""
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask the role alone to end, as its owner would: it still needs its daemon to say goodbye."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()

    def pause(self) -> None:
        """It falls silent with everything it started, and its connections stay open."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


class Children:
    """All processes of one story; whoever starts them calls `end`."""

    def __init__(self, logs: Path, on_event: OnEvent) -> None:
        self._logs, self._on_event = logs, on_event
        self._all: list[Child] = []
        self._listeners: set[asyncio.Task[None]] = set()

    async def start(self, name: str, module: str, arguments: Sequence[str]) -> Child:
        """Start `python -m module arguments --log-format json`."""
        self._logs.mkdir(parents=True, exist_ok=True)
        path = self._logs / f"{name}.log"
        with path.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", module, *arguments, "--log-format", "json"),
                "--end-with-parent",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        return self._hear(Child(name, process, path))

    def _hear(self, child: Child) -> Child:
        self._all.append(child)
        listener = asyncio.create_task(child.listen(self._on_event))
        self._listeners.add(listener)
        return child

    async def end(self) -> None:
        """Ask every child to end, then end it. Takes at most about END_SECONDS."""
        running = [child for child in self._all if child.process.returncode is None]
        for child in running:
            child.terminate()
            child.resume()  # a paused one cannot end
        try:
            async with asyncio.timeout(END_SECONDS):
                await asyncio.gather(*(child.process.wait() for child in running))
        except TimeoutError:
            pass
        finally:
            # Also when this very wait is cancelled: a second Ctrl-C leaves nothing behind.
            for child in self._all:
                child.kill()
        # A loop that closes before it has heard of a child's end fails.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await asyncio.gather(*(child.process.wait() for child in running))
