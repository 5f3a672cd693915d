"""Measured round trips to peers: what routing goes by, never what a peer says of itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from seshu_swarm.errors import PeerError
from seshu_swarm.network.dht import Swarm
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.protocol import Message

PINGS = "seshu/pings"

MEASURE_SECONDS = 1.0
# A peer that did not answer is out of reach until it is asked again after so long.
UNREACHABLE_SECONDS = 15.0
MEASURED_SECONDS = 120.0
IDLE_SECONDS = 30.0


class Echo(Message):
    """Answered by the same."""

    number: int


async def answer(channel: Channel) -> None:
    """Serves the stream PINGS."""
    while echo := await channel.receive_or_end(Echo, seconds=IDLE_SECONDS, what="a ping"):
        await channel.send(echo)


async def measure(swarm: Swarm, peer: str) -> float:
    """Seconds of one round trip on an open stream; the way there is warm afterwards. Raises PeerError."""
    stream = await swarm.open(peer, PINGS, seconds=MEASURE_SECONDS)
    try:
        best = float("inf")
        for number in range(2):  # the first one also waits for the stream to stand
            began = time.perf_counter()
            await stream.send(Echo(number=number))
            await stream.receive(Echo, seconds=MEASURE_SECONDS, what="a ping's answer")
            best = min(best, time.perf_counter() - began)
        await stream.finish()
        return best
    finally:
        stream.close()


class RoundTrips:
    """Seconds by peer; infinity for those that did not answer lately."""

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm
        self._measured: dict[str, tuple[float, float]] = {}

    def get(self, peer: str) -> float | None:
        """None before it was measured."""
        found = self._measured.get(peer)
        return found[1] if found else None

    async def refresh(self, peers: Iterable[str]) -> None:
        """Measure those that are unknown or long ago, all at once."""
        now = time.monotonic()
        due = [peer for peer in set(peers) if self._is_due(peer, now)]
        await asyncio.gather(*(self._measure(peer) for peer in due))

    def _is_due(self, peer: str, now: float) -> bool:
        measured_at, seconds = self._measured.get(peer, (float("-inf"), 0.0))
        lasts = UNREACHABLE_SECONDS if seconds == float("inf") else MEASURED_SECONDS
        return now - measured_at > lasts

    async def _measure(self, peer: str) -> None:
        try:
            seconds = await measure(self._swarm, peer)
        except PeerError:
            seconds = float("inf")
        self._measured[peer] = (time.monotonic(), seconds)
