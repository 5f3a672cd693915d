"""What all merge methods share: the names of the weights, and arguments that are checked."""

from __future__ import annotations

import math
from collections.abc import Sequence

from seshu_swarm.adapters.delta import Delta
from seshu_swarm.errors import UsageError


def weight_names(deltas: Sequence[Delta]) -> list[str]:
    """Every weight that any ΔW touches, sorted."""
    return sorted({name for delta in deltas for name in delta})


def check_weights(deltas: Sequence[Delta], weights: Sequence[float]) -> None:
    """Raises UsageError unless there is one finite weight per ΔW."""
    if len(weights) != len(deltas) or not all(math.isfinite(weight) for weight in weights):
        raise UsageError(
            f"{len(weights)} weights {list(weights)} for {len(deltas)} adapters",
            rule="one finite weight per adapter",
        )


def shares_of(deltas: Sequence[Delta], weights: Sequence[float]) -> list[float]:
    """Weights divided by their sum. Raises UsageError, also where they sum to zero."""
    check_weights(deltas, weights)
    total = math.fsum(weights)
    if total == 0:
        raise UsageError(f"weights {list(weights)} sum to zero", rule="a mean needs a positive sum")
    return [weight / total for weight in weights]


def check_density(density: float) -> None:
    """Raises UsageError unless 0 < density <= 1."""
    if not 0 < density <= 1:
        raise UsageError(f"density {density}", rule="the share of kept entries, 0 < density <= 1")


def check_length(name: str, length: float | None) -> None:
    """Raises UsageError unless a given norm or radius is positive and finite."""
    if length is not None and not (length > 0 and math.isfinite(length)):
        raise UsageError(f"{name} {length}", rule="positive and finite, or not given")
