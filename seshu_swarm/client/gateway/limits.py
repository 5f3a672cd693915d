"""What a key may use, and how many sessions the gateway runs at once. Pure but for `Days`: time is
passed in.

Tokens are reserved before a request runs (its prompt and the most it may generate) and what it
did not use is given back, so that requests side by side cannot use more than the day's.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

from seshu_swarm.client.gateway.keys import Key
from seshu_swarm.client.gateway.refusals import No, RefusedError

MINUTE_SECONDS = 60.0
DAY_SECONDS = 86_400.0
RETRY_SECONDS = 1


class Days(Protocol):
    """Tokens used of one day, the latest one, by the names of keys."""

    def try_add(self, name: str, day: int, num_tokens: int, most: int) -> bool:
        """Count them unless the day would have more than `most`; whether they were counted."""
        ...

    def give_back(self, name: str, day: int, num_tokens: int) -> None:
        """A day that is over has nothing to get back."""
        ...

    def used(self, name: str, day: int) -> int: ...


class DaysInMemory:
    """Forgotten with the process."""

    def __init__(self) -> None:
        self._used: dict[str, tuple[int, int]] = {}

    def try_add(self, name: str, day: int, num_tokens: int, most: int) -> bool:
        used = self.used(name, day) + num_tokens
        if used > most:
            return False
        self._used[name] = day, used
        return True

    def give_back(self, name: str, day: int, num_tokens: int) -> None:
        if self._used.get(name, (None, 0))[0] == day:
            self._used[name] = day, self.used(name, day) - num_tokens

    def used(self, name: str, day: int) -> int:
        last, used = self._used.get(name, (day, 0))
        return used if last == day else 0


class Allowance:
    """What one key used. `now` is seconds since 1970, UTC: days begin at midnight there."""

    def __init__(self, key: Key, days: Days | None = None) -> None:
        self._key = key
        self._asked: deque[float] = deque()
        self._days: Days = days or DaysInMemory()

    def used_tokens(self, day: int) -> int:
        """Of a limited day, reserved ones included."""
        return self._days.used(self._key.name, day)

    def count_request(self, now: float) -> None:
        """One request more within 60 seconds. Raises RefusedError, which counts nothing."""
        most = self._key.requests_per_minute
        if most is None:
            return
        while self._asked and self._asked[0] <= now - MINUTE_SECONDS:
            self._asked.popleft()
        if len(self._asked) >= most:
            wait = math.ceil(self._asked[0] + MINUTE_SECONDS - now)
            raise RefusedError(
                No.REQUESTS_PER_MINUTE, f"{most} a minute", retry_after_seconds=max(1, wait)
            )
        self._asked.append(now)

    def reserve(self, num_tokens: int, now: float) -> int:
        """Set tokens aside; the day they are counted on. Raises RefusedError, which reserves nothing."""
        day, most = int(now // DAY_SECONDS), self._key.tokens_per_day
        if most is not None and not self._days.try_add(self._key.name, day, num_tokens, most):
            wait = math.ceil((day + 1) * DAY_SECONDS - now)
            raise RefusedError(
                No.TOKENS_PER_DAY,
                f"{num_tokens} tokens asked for, {most - self.used_tokens(day)} of {most} left",
                retry_after_seconds=max(1, wait),
            )
        return day

    def give_back(self, num_tokens: int, day: int) -> None:
        """Reserved on `day` and not used; a day that is over has nothing to get back."""
        if self._key.tokens_per_day is not None:
            self._days.give_back(self._key.name, day, num_tokens)


class Allowances:
    """One allowance a key, made when the key is first used."""

    def __init__(self, days: Days | None = None) -> None:
        self._days: Days = days or DaysInMemory()
        self._of: dict[str, Allowance] = {}

    def of(self, key: Key) -> Allowance:
        return self._of.setdefault(key.name, Allowance(key, self._days))


class Slots:
    """Room for `most` sessions at once."""

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, 0

    def try_take(self) -> bool:
        if self.taken >= self.most:
            return False
        self.taken += 1
        return True

    def take(self) -> None:
        """Raises RefusedError when all are taken."""
        if not self.try_take():
            raise RefusedError(
                No.SESSIONS_FULL, f"{self.most} at once", retry_after_seconds=RETRY_SECONDS
            )

    def give_back(self) -> None:
        self.taken -= 1
