"""TIES (arXiv 2306.01708, section 3): trim, elect a sign, mean of the entries that agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from seshu_swarm.adapters.delta import Delta
from seshu_swarm.adapters.merge.checks import check_density, check_weights, weight_names
from seshu_swarm.adapters.merge.election import Ballot, elected_mean


def ties(
    deltas: Sequence[Delta], weights: Sequence[float], *, density: float = 0.2
) -> dict[str, torch.Tensor]:
    """Keep the `density` largest entries of every ΔW and matrix, elect a sign, average."""
    check_density(density)
    check_weights(deltas, weights)
    return {
        name: elected_mean(_ballots(deltas, weights, name, density), name)
        for name in weight_names(deltas)
    }


def _ballots(
    deltas: Sequence[Delta], weights: Sequence[float], name: str, density: float
) -> list[Ballot]:
    return [
        Ballot(delta, weight, _largest(delta[name], density))
        for delta, weight in zip(deltas, weights, strict=True)
        if name in delta
    ]


def _largest(matrix: torch.Tensor, density: float) -> torch.Tensor:
    """Which entries are among the `density` largest by size, at least one; bool."""
    flat = matrix.double().abs().flatten().numpy()
    num_dropped = flat.size - max(1, int(density * flat.size))
    kept = np.ones(flat.size, dtype=np.bool_)
    if num_dropped > 0:
        # Selection, not a sort: linear in the size of the matrix.
        kept[np.argpartition(flat, num_dropped)[:num_dropped]] = False
    return torch.from_numpy(kept).reshape(matrix.shape)
