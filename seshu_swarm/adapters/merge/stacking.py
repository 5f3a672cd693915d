"""What all merge methods share: checked weights and ΔW's of one weight, stacked."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from seshu_swarm.adapters.delta import Delta
from seshu_swarm.errors import UsageError


def weight_names(deltas: Sequence[Delta]) -> list[str]:
    """Every weight that any ΔW touches, sorted."""
    return sorted({name for delta in deltas for name in delta})


def stacked(deltas: Sequence[Delta], name: str) -> torch.Tensor:
    """ΔW's of one weight, shape (num_deltas, out, in), float64; zero where one lacks it."""
    found = [delta[name].double() if name in delta else None for delta in deltas]
    like = next(matrix for matrix in found if matrix is not None)
    return torch.stack([torch.zeros_like(like) if m is None else m for m in found])


def check_weights(deltas: Sequence[Delta], weights: Sequence[float]) -> None:
    """Raises UsageError unless there is one finite weight per ΔW."""
    if len(weights) != len(deltas) or not all(math.isfinite(weight) for weight in weights):
        raise UsageError(
            f"{len(weights)} weights {list(weights)} for {len(deltas)} adapters",
            rule="one finite weight per adapter",
        )


def column(deltas: Sequence[Delta], weights: Sequence[float]) -> torch.Tensor:
    """Weights of shape (num_deltas, 1, 1), float64. Raises UsageError."""
    check_weights(deltas, weights)
    return torch.tensor(weights, dtype=torch.float64).reshape(-1, 1, 1)


def check_density(density: float) -> None:
    """Raises UsageError unless 0 < density <= 1."""
    if not 0 < density <= 1:
        raise UsageError(f"density {density}", rule="the share of kept entries, 0 < density <= 1")
