"""Quantiles of lengths by a histogram of fixed size: memory does not grow with what is counted.

A bin is 2 % wide, so a quantile is within 1 % of the true one; lengths up to 50 are exact.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

EXACT = 50
GROWTH = 1.02


class Lengths:
    """Counts of positive whole numbers."""

    def __init__(self) -> None:
        self._bins: Counter[int] = Counter()
        self.count, self.largest = 0, 0

    def add(self, length: int) -> None:
        self._bins[_bin_of(length)] += 1
        self.count += 1
        self.largest = max(self.largest, length)

    def quantile(self, share: float) -> int:
        """The smallest length that at least `share` of all are not above; 0 of none."""
        wanted, seen = share * self.count, 0
        for number in sorted(self._bins):
            seen += self._bins[number]
            if seen >= wanted:
                return min(_middle_of(number), self.largest)
        return 0

    def in_bins(self, edges: Sequence[float]) -> list[int]:
        """How many lie in each half-open interval between two edges."""
        counts = [0] * (len(edges) - 1)
        for number, count in self._bins.items():
            middle = _middle_of(number)
            for k in range(len(counts)):
                if edges[k] <= middle < edges[k + 1]:
                    counts[k] += count
        return counts


def _bin_of(length: int) -> int:
    if length <= EXACT:
        return length
    return EXACT + 1 + int(math.log(length / EXACT) / math.log(GROWTH))


def _middle_of(number: int) -> int:
    if number <= EXACT:
        return number
    return round(EXACT * math.exp((number - EXACT - 0.5) * math.log(GROWTH)))
