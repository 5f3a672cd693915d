"""Lines from standard input while the event loop goes on, and Ctrl-C as a person means it.

In a terminal a line can be edited and earlier ones come back (readline); otherwise standard input
is read line by line, for scripts. Notes stand beside an answer, never in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from typing import Any

from seshu_swarm.client.remote.token_session import Roll
from seshu_swarm.errors import DataError
from seshu_swarm.program import log

PROMPT = "› "


def is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def note(name: str, text: str, **facts: Any) -> None:
    """Beside an answer: a script's answers stay alone on standard output."""
    if log.is_text():
        print(f"[{text}]", file=sys.stderr, flush=True)
    else:
        log.event(name, text, **facts)


def note_roll(roll: Roll) -> None:
    """That an answer went on with another revision."""
    note("rolled", str(roll), **dataclasses.asdict(roll))


@contextlib.contextmanager
def as_before() -> Iterator[None]:
    """Leave the terminal as it was: the reading thread may end in the middle of a line."""
    if not sys.stdin.isatty():
        yield
        return
    attributes = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, attributes)


def _edit_lines() -> None:
    with contextlib.suppress(ImportError):  # a Python without it still reads lines
        import readline  # noqa: F401


async def read_line() -> str | None:
    """The next line, None at the end. Raises DataError for bytes that are no text.

    The thread is a daemon: nothing can end a read that waits for a person, and it holds nobody up.
    """
    loop = asyncio.get_running_loop()
    reading: asyncio.Future[str | None] = loop.create_future()
    threading.Thread(target=_read, args=(loop, reading), name="read-line", daemon=True).start()
    return await reading


def _read(loop: asyncio.AbstractEventLoop, reading: asyncio.Future[str | None]) -> None:
    prompt = ""
    if is_terminal():
        _edit_lines()
        prompt = PROMPT
    line: str | None = None
    error: Exception | None = None
    try:
        line = input(prompt)
    except EOFError:
        pass
    except UnicodeDecodeError as wrong:
        error = DataError(f"a line that is no text: {wrong.reason}", rule="standard input is UTF-8")
    with contextlib.suppress(RuntimeError):  # the loop may be closed by now
        loop.call_soon_threadsafe(_settle, reading, line, error)


def _settle(reading: asyncio.Future[str | None], line: str | None, error: Exception | None) -> None:
    if reading.done():
        return
    if error is not None:
        reading.set_exception(error)
    else:
        reading.set_result(line)


class Interrupts:
    """Ctrl-C: the first calls `soft`, a second one before `reset` calls `hard`."""

    def __init__(self, soft: Callable[[], None], hard: Callable[[], None]) -> None:
        self._soft, self._hard = soft, hard
        self._num = 0

    def reset(self) -> None:
        self._num = 0

    def __call__(self) -> None:
        self._num += 1
        (self._soft if self._num == 1 else self._hard)()
