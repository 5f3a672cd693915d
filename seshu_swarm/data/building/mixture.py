"""How often the text of each language is taken. Pure.

A language with n bytes, each source counted with its epochs, should have a share of n^(1/T) of the
output (temperature T; Conneau et al. 2020, section 3.1, with α = 1/T). The largest language keeps
its size and smaller ones are taken more often, up to `max_epochs` times; at T = 1 nothing changes.
`total_bytes` then scales all alike, so that text may also be left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from seshu_swarm.data.building.recipe import Mixture


def factors_of(bytes_of: Mapping[str, float], mixture: Mixture) -> dict[str, float]:
    """How often each language's text is taken: its output over its input in bytes."""
    largest = max(bytes_of.values(), default=0.0)
    wanted = {
        language: (size / largest) ** (1 / mixture.temperature - 1)
        for language, size in bytes_of.items()
        if size > 0
    }
    factors = {language: min(mixture.max_epochs, factor) for language, factor in wanted.items()}
    if mixture.total_bytes is None:
        return factors
    return _scaled(factors, bytes_of, mixture.max_epochs, total=mixture.total_bytes)


def _scaled(
    factors: Mapping[str, float], bytes_of: Mapping[str, float], most: float, *, total: float
) -> dict[str, float]:
    """Factors times one number, each at most `most`, with `total` bytes in all where possible."""

    def size_at(scale: float) -> float:
        return math.fsum(bytes_of[x] * min(most, factors[x] * scale) for x in factors)

    low, high = 0.0, most / min(factors.values(), default=1.0)
    for _ in range(100):  # halving: more than a double's 53 bits
        middle = (low + high) / 2
        low, high = (middle, high) if size_at(middle) < total else (low, middle)
    return {language: min(most, factor * high) for language, factor in factors.items()}
