"""How many texts are there more than once, in memory that does not grow.

Exact up to `limit` different texts; beyond that only texts whose hash ends in enough zero bits are
counted (adaptive sampling, Flajolet 1990), all copies of such a text among them, so that the share
of repeats stays an unbiased estimate.
"""

from __future__ import annotations

import hashlib

LIMIT = 1 << 16


class Repeats:
    """Texts by hash of their content without case and white space, which hide copies."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit, self._mask = limit, 0
        self._times: dict[int, int] = {}

    def add(self, text: str) -> None:
        whole = " ".join(text.casefold().split()).encode("utf-8")
        number = int.from_bytes(hashlib.blake2b(whole, digest_size=8).digest(), "big")
        if number & self._mask:
            return
        self._times[number] = self._times.get(number, 0) + 1
        while len(self._times) > self._limit:
            self._mask = self._mask << 1 | 1
            self._times = {n: times for n, times in self._times.items() if not n & self._mask}

    @property
    def is_exact(self) -> bool:
        return self._mask == 0

    @property
    def share(self) -> float:
        """Copies beyond the first, as a share of all texts; 0 of none."""
        total = sum(self._times.values())
        return (total - len(self._times)) / total if total else 0.0

    @property
    def most(self) -> int:
        """How often the most frequent text that was counted is there."""
        return max(self._times.values(), default=0)
