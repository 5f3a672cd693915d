"""Which replica of a stage is next: interleaved weighted round-robin (SWARM, arXiv 2301.11913, §3.2). Pure.

Every replica has a **virtual time**; the one with the least is next, and its time moves on by the
work × its measured seconds per unit of work. So in the long run a replica gets work in proportion to
its speed, and each is tried now and then. Who is new, or comes back, enters at the least time of the
others: it is neither flooded nor forgotten. Who failed is banned until the record by which it was
known expires; who only missed a deadline counts as twice as slow, and proves the contrary by answers.
Knows no stages, no sockets and no clock: seconds and DHT times are handed in.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from seshu_swarm.errors import PeerLostError

# Work of a pass in units. Backward computes the blocks again, then two gradients.
FORWARD, BACKWARD = 1.0, 2.5
SMOOTHING = 0.1
# Of a unit, as long as no replica was measured: any number shares alike.
UNKNOWN_SECONDS = 1.0
# Missed deadlines alone make nobody slower than this.
MOST_SECONDS = 60.0


@dataclass
class Speed:
    """Seconds per unit of work: an exponential average, corrected for its beginning at 0."""

    average: float = 0.0
    weight: float = 0.0

    @property
    def seconds(self) -> float | None:
        return self.average / self.weight if self.weight else None

    def measured(self, seconds: float) -> None:
        self.average += SMOOTHING * (seconds - self.average)
        self.weight += SMOOTHING * (1.0 - self.weight)

    def double(self) -> None:
        """Up to a bound: a replica that is paused refuses for hours, and deadlines grow with this."""
        self.average = max(self.average, min(2.0 * self.average, MOST_SECONDS * self.weight))


class Router:
    """The replicas of one stage. `rng` orders those that are alike, so that not all trainers begin at
    the same one."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._expirations: dict[str, float] = {}
        self._banned: dict[str, float] = {}
        self._times: dict[str, float] = {}
        self._ranks: dict[str, float] = {}
        self._speeds: dict[str, Speed] = {}

    def update(self, expirations: Mapping[str, float], *, now: float) -> None:
        """The live records: peer ids and until when each is valid, in DHT time."""
        self._expirations = {p: until for p, until in expirations.items() if until > now}
        self._banned = {p: until for p, until in self._banned.items() if until > now}
        usable = self._expirations.keys() - self._banned.keys()
        self._times = {p: time for p, time in self._times.items() if p in usable}
        least = min(self._times.values(), default=0.0)
        for peer in sorted(usable - self._times.keys()):
            self._times[peer], self._ranks[peer] = least, self._rng.random()
            self._speeds.setdefault(peer, Speed())
        self._ranks = {p: rank for p, rank in self._ranks.items() if p in usable}
        self._speeds = {p: s for p, s in self._speeds.items() if p in self._expirations}

    def choose(self, work: float) -> str:
        """Who does this much work next. Raises PeerLostError if there is nobody."""
        if not self._times:
            raise PeerLostError(
                f"no replica of the stage is left, {len(self._banned)} failed a moment ago",
                rule="a stage needs at least one peer that answers",
                way_out="wait for one to come back, or host the stage yourself",
            )
        peer = min(self._times, key=lambda p: (self._times[p], self._ranks[p]))
        self._times[peer] += work * self.seconds(peer)
        return peer

    def seconds(self, peer: str) -> float:
        """Expected, of a unit of work: measured, or the mean of the others."""
        measured = self._speeds[peer].seconds if peer in self._speeds else None
        if measured is not None:
            return measured
        known = [s.seconds for s in self._speeds.values() if s.seconds is not None]
        return sum(known) / len(known) if known else UNKNOWN_SECONDS

    def answered(self, peer: str, work: float, seconds: float) -> None:
        """How long it took. The first real measurement after a guess weighs alone."""
        if peer in self._speeds:
            self._speeds[peer].measured(seconds / work)

    def missed_deadline(self, peer: str) -> None:
        """It may be busy. An unmeasured one counts as measured at twice the guess."""
        if peer in self._speeds:
            if self._speeds[peer].seconds is None:
                self._speeds[peer].measured(self.seconds(peer))
            self._speeds[peer].double()

    def failed(self, peer: str) -> None:
        """Broken connection, NaN, wrong shape: banned until the record that named it expires."""
        if peer in self._expirations:
            self._banned[peer] = self._expirations[peer]
        self._times.pop(peer, None)
