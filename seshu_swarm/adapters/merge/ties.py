"""TIES (arXiv 2306.01708, section 3): trim, elect a sign, mean of the entries that agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from seshu_swarm.adapters.delta import Delta
from seshu_swarm.adapters.merge.stacking import check_density, column, stacked, weight_names


def ties(
    deltas: Sequence[Delta], weights: Sequence[float], *, density: float = 0.2
) -> dict[str, torch.Tensor]:
    """Keep the `density` largest entries of every ΔW and matrix, then `elect_and_mean`."""
    check_density(density)
    shares = column(deltas, weights)
    return {
        name: elect_and_mean(_trim(stacked(deltas, name), density), shares)
        for name in weight_names(deltas)
    }


def elect_and_mean(stack: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Weighted mean of the entries that agree with the elected sign; (n, out, in) → (out, in)."""
    agrees = agreement(shares * stack)
    total = (shares * agrees).sum(dim=0)
    return (shares * stack * agrees).sum(dim=0) / torch.where(total == 0, 1.0, total)


def agreement(weighted: torch.Tensor) -> torch.Tensor:
    """Which entries have the sign of their sum over axis 0, as a mask of the same shape.

    A sum of exactly zero elects plus; an entry of zero agrees with no sign.
    """
    elected = torch.where(weighted.sum(dim=0) >= 0, 1.0, -1.0).double()
    return weighted.sign() == elected


def _trim(stack: torch.Tensor, density: float) -> torch.Tensor:
    flat = stack.flatten(start_dim=1)
    size = flat.shape[1]
    num_dropped = size - max(1, int(density * size))
    if num_dropped == 0:
        return stack
    # Selection, not a sort: linear in the size of the matrix.
    order = np.argpartition(flat.abs().numpy(), num_dropped, axis=1)
    dropped = torch.from_numpy(order[:, :num_dropped])
    return flat.scatter(1, dropped, 0.0).reshape(stack.shape)
