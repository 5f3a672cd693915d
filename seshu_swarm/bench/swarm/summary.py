"""Quantiles of measured times. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed (nearest rank).

    Of few values p99 is the largest. NaN of none.
    """
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


@dataclass(frozen=True)
class Times:
    """Milliseconds of something that was measured `count` times."""

    p50_ms: float
    p99_ms: float
    count: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Times:
        return cls(1e3 * quantile(seconds, 0.5), 1e3 * quantile(seconds, 0.99), len(seconds))
