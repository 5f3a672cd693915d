"""What this process waits for now, and for how long at most; a wait that lasts is said in the log."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

logger = logging.getLogger(__name__)

SAY_SECONDS = 3.0  # shorter waits are nobody's business


@dataclass(frozen=True)
class Wait:
    """For `what`, since a moment of the monotonic clock, at most so long (None: as long as it takes)."""

    what: str
    since: float
    most_seconds: float | None = None


_waits: dict[int, Wait] = {}
_numbers = itertools.count()


@contextlib.contextmanager
def waiting(what: str, most_seconds: float | None = None) -> Iterator[None]:
    """While the block waits for `what`, in an event loop."""
    number = next(_numbers)
    _waits[number] = Wait(what, time.monotonic(), most_seconds)
    most = "" if most_seconds is None else f", at most {lasting(most_seconds)}"
    loop = asyncio.get_running_loop()
    saying = loop.call_later(SAY_SECONDS, logger.info, "waiting for %s%s", what, most)
    try:
        yield
    finally:
        saying.cancel()
        del _waits[number]


def current() -> list[Wait]:
    """Oldest first; also for other threads."""
    return list(_waits.values())


def lasting(seconds: float) -> str:
    """`34 s`, `0:02:10`."""
    return f"{seconds:.0f} s" if seconds < 120 else str(timedelta(seconds=round(seconds)))
