"""Time and messages of the simulator: one random generator, one queue of events.

Between any two places messages are delayed, lost, doubled and overtaken. In a **reliable** world they
are only delayed, as on a TCP connection that holds. A link may be cut for good, one way.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAX_EVENTS = 40_000


class WrongError(Exception):
    """The protocol broke a promise."""


@dataclass(frozen=True)
class Weather:
    """How bad it is. Times have no unit; a usual delay is below 1."""

    is_reliable: bool
    drop: float
    double: float
    stall: float

    @classmethod
    def of(cls, rng: random.Random) -> Weather:
        if rng.random() < 0.3:
            return cls(True, 0.0, 0.0, rng.choice([0.0, 0.05]))
        drop, double = rng.choice([0.0, 0.03, 0.2]), rng.choice([0.0, 0.05, 0.3])
        return cls(False, drop, double, rng.choice([0.0, 0.05, 0.2]))


class World:
    """What happens when. `say` tells a reader what happens, if there is one."""

    def __init__(self, seed: int, say: Callable[[str], None] | None = None) -> None:
        self.rng = random.Random(seed)
        self.weather = Weather.of(self.rng)
        self.now = 0.0
        self.cuts: set[tuple[str, str]] = set()
        self.say = say
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self._last_arrival: dict[tuple[str, str], float] = {}

    def at(self, time: float, call: Callable[..., None], *args: object) -> None:
        self._count += 1
        heapq.heappush(self._events, (time, self._count, call, args))

    def after(self, seconds: float, call: Callable[..., None], *args: object) -> None:
        self.at(self.now + seconds, call, *args)

    def run(self) -> None:
        """Until nothing happens any more."""
        while self._events:
            self.now, _, call, args = heapq.heappop(self._events)
            call(*args)
            if self._count > MAX_EVENTS:
                raise WrongError(f"no end after {MAX_EVENTS} events: something waits for ever")

    def calm_down(self) -> None:
        """From now on nothing is lost or doubled any more."""
        self.weather = Weather(self.weather.is_reliable, 0.0, 0.0, 0.0)

    def send(self, source: str, target: str, call: Callable[..., None], *args: object) -> bool:
        """Have `call` happen at the target, perhaps. False if the link is cut."""
        if (source, target) in self.cuts:
            return False
        weather, luck = self.weather, self.rng.random()
        if luck < weather.drop:
            self.note(f"LOST {source or 'client'} -> {target or 'client'} {args}")
            return True
        self.at(self._arrival(source, target), call, *args)
        if luck > 1.0 - weather.double:
            self.at(self._arrival(source, target), call, *args)
        return True

    def note(self, text: str) -> None:
        if self.say is not None:
            self.say(f"{self.now:8.2f} {text}")

    def _arrival(self, source: str, target: str) -> float:
        random = self.rng.random
        time = self.now + random() * (20.0 if random() < self.weather.stall else 1.0)
        if self.weather.is_reliable:
            link = source, target
            time = self._last_arrival[link] = max(time, self._last_arrival.get(link, 0.0))
        return time
