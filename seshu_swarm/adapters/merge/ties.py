"""TIES (arXiv 2306.01708, section 3): trim, elect a sign, mean of the entries that agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from seshu_swarm.adapters.delta import Delta
from seshu_swarm.adapters.merge.checks import check_density, check_weights, weight_names
from seshu_swarm.adapters.merge.election import Ballot, elected_mean, empty_masks


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
    owners = [(d, w) for d, w in zip(deltas, weights, strict=True) if name in d]
    masks = empty_masks(len(owners), owners[0][0][name].shape)
    for mask, (delta, _) in zip(masks, owners, strict=True):
        mask.copy_(_largest(delta[name], density))
    return [
        Ballot(delta, weight, mask) for mask, (delta, weight) in zip(masks, owners, strict=True)
    ]


def _largest(matrix: torch.Tensor, density: float) -> torch.Tensor:
    """Which entries are among the `density` largest by size, at least one; bool.

    Of equal entries the first in row-major order are kept, so that every machine keeps the same.
    """
    sizes = matrix.double().abs().flatten().numpy()
    num_kept = max(1, int(density * sizes.size))
    # Selection, not a sort: linear in the size of the matrix.
    least = np.partition(sizes, sizes.size - num_kept)[sizes.size - num_kept]
    kept = sizes > least
    equal = np.flatnonzero(sizes == least)
    kept[equal[: num_kept - np.count_nonzero(kept)]] = True
    return torch.from_numpy(kept).reshape(matrix.shape)
