"""Task arithmetic: the weighted sum Σ wᵢΔWᵢ (arXiv 2212.04089); a negative weight takes away."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from seshu_swarm.adapters.delta import Delta
from seshu_swarm.adapters.merge.checks import check_weights, weight_names

ROWS_AT_ONCE = 256


def task_arithmetic(deltas: Sequence[Delta], weights: Sequence[float]) -> dict[str, torch.Tensor]:
    """Weighted sum of every weight."""
    check_weights(deltas, weights)
    return {name: _weighted_sum(deltas, weights, name) for name in weight_names(deltas)}


def _weighted_sum(deltas: Sequence[Delta], weights: Sequence[float], name: str) -> torch.Tensor:
    # One matrix at a time, in the order given: no stack of all of them, the same bits every time.
    owners = [(w, d) for w, d in zip(weights, deltas, strict=True) if name in d]
    total = owners[0][0] * owners[0][1][name].double()
    for weight, delta in owners[1:]:
        _add(total, weight, delta[name])
    return total


def _add(total: torch.Tensor, weight: float, matrix: torch.Tensor) -> None:
    """In pieces, so that no third matrix is made."""
    for rows, more in zip(total.split(ROWS_AT_ONCE), matrix.split(ROWS_AT_ONCE), strict=True):
        # Not add with alpha, which some machines round once and others twice.
        rows += weight * more.double()
