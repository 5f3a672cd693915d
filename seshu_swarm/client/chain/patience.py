"""How long to wait before asking whether anybody is still there. Pure.

A deadline follows what was measured: three times the slowest of the last waits, and never less than what
a busy machine or a stalled link takes. A peer that answers a ping is alive, however long it computes.
"""

from __future__ import annotations

from collections import deque

FACTOR = 3.0
LEAST_SECONDS = 0.25
FIRST_SECONDS = 2.0
REMEMBERED = 64


class Patience:
    """Waits of one kind: `add` what was measured, `seconds` is the deadline for the next."""

    def __init__(self, *, least_seconds: float = LEAST_SECONDS) -> None:
        self._least = least_seconds
        self._waits: deque[float] = deque(maxlen=REMEMBERED)

    def add(self, seconds: float) -> None:
        self._waits.append(seconds)

    @property
    def seconds(self) -> float:
        """Before anything was measured, generous."""
        return max(self._least, FACTOR * max(self._waits)) if self._waits else FIRST_SECONDS
