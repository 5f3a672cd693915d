"""When bytes leave and when they arrive, on a line like those at home. Pure: moments are passed in.

A `Sender` is one peer's line up, shared by all its connections; a `Way` is one direction of one
connection, in which nothing overtakes. A chunk is what one read brings, at most CHUNK_BYTES.
"""

from __future__ import annotations

from random import Random

from seshu_swarm.bench.links.config import LinksConfig

CHUNK_BYTES = 16 << 10
BURST_BYTES = 16 << 10


class Sender:
    """A token bucket that holds BURST_BYTES."""

    def __init__(self, bits_per_second: float) -> None:
        self._bytes_per_second = bits_per_second / 8
        self._empty_at = float("-inf")

    def send(self, num_bytes: int, now: float) -> float:
        """The moment at which the last of these bytes has left."""
        full_since = now - BURST_BYTES / self._bytes_per_second
        self._empty_at = max(self._empty_at, full_since) + num_bytes / self._bytes_per_second
        return max(now, self._empty_at)


class Way:
    """One direction of a connection. Its jitter and stalls come from `rng`."""

    def __init__(self, settings: LinksConfig, rng: Random) -> None:
        self._settings, self._rng = settings, rng
        self._last_arrival = float("-inf")

    def arrival(self, left_at: float) -> float:
        """When a chunk that left at `left_at` arrives: late, jittered, sometimes held up, in order."""
        settings = self._settings
        jitter = self._rng.uniform(-settings.jitter_seconds, settings.jitter_seconds)
        stall = settings.stall_seconds if self._rng.random() < settings.stall_share else 0.0
        arrival = left_at + settings.delay_seconds + jitter + stall
        self._last_arrival = max(self._last_arrival, arrival)
        return self._last_arrival
