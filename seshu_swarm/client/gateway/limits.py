"""What a key may use, and how many sessions the gateway runs at once. Pure: time is passed in.

Tokens are reserved before a request runs (its prompt and the most it may generate) and what it
did not use is given back, so that requests side by side cannot use more than the day's.
"""

from __future__ import annotations

import math
from collections import deque

from seshu_swarm.client.gateway.keys import Key
from seshu_swarm.client.gateway.refusals import No, RefusedError

MINUTE_SECONDS = 60.0
DAY_SECONDS = 86_400.0
RETRY_SECONDS = 1


class Allowance:
    """What one key used. `now` is seconds since 1970, UTC: days begin at midnight there."""

    def __init__(self, key: Key) -> None:
        self._key = key
        self._asked: deque[float] = deque()
        self._day, self._used_tokens = 0, 0

    @property
    def used_tokens(self) -> int:
        """Of the day of the last request, reserved ones included."""
        return self._used_tokens

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
        day = int(now // DAY_SECONDS)
        if day != self._day:
            self._day, self._used_tokens = day, 0
        most = self._key.tokens_per_day
        if most is not None and self._used_tokens + num_tokens > most:
            wait = math.ceil((day + 1) * DAY_SECONDS - now)
            raise RefusedError(
                No.TOKENS_PER_DAY,
                f"{num_tokens} tokens asked for, {most - self._used_tokens} of {most} left",
                retry_after_seconds=max(1, wait),
            )
        self._used_tokens += num_tokens
        return day

    def give_back(self, num_tokens: int, day: int) -> None:
        """Reserved on `day` and not used; a day that is over has nothing to get back."""
        if day == self._day:
            self._used_tokens -= num_tokens


class Allowances:
    """One allowance a key, made when the key is first used."""

    def __init__(self) -> None:
        self._of: dict[str, Allowance] = {}

    def of(self, key: Key) -> Allowance:
        return self._of.setdefault(key.name, Allowance(key))


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
