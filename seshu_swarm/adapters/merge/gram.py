"""Inner products of whole ΔW's, over all their weights: norms and distances for the robust means.

Every sum keeps its order whatever the number of threads, because what is merged by these numbers
must come out with the same bits on another machine: products run within a row, rows are added up
by one thread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from seshu_swarm.adapters.delta import Delta
from seshu_swarm.adapters.merge.checks import weight_names

ROWS_AT_ONCE = 64


def norms_of(deltas: Sequence[Delta]) -> list[float]:
    """Frobenius norm of each, holding one matrix at a time."""
    return [
        math.sqrt(math.fsum(_squared(delta[name]) for name in sorted(delta))) for delta in deltas
    ]


def gram_of(deltas: Sequence[Delta]) -> NDArray[np.float64]:
    """⟨ΔWᵢ, ΔWⱼ⟩, shape (num_deltas, num_deltas), holding all ΔW's of one weight at a time."""
    total = np.zeros((len(deltas), len(deltas)))
    for name in weight_names(deltas):
        owners = [i for i, delta in enumerate(deltas) if name in delta]
        matrices = [deltas[i][name].double() for i in owners]
        total[np.ix_(owners, owners)] += _products(matrices)
    return total


def _squared(matrix: torch.Tensor) -> float:
    return float(matrix.double().square().sum(dim=1).numpy().sum())


def _products(matrices: Sequence[torch.Tensor]) -> NDArray[np.float64]:
    total = np.zeros((len(matrices), len(matrices)))
    for start in range(0, matrices[0].shape[0], ROWS_AT_ONCE):
        rows = torch.stack([matrix[start : start + ROWS_AT_ONCE] for matrix in matrices], dim=1)
        # (rows, num_matrices, in) times its transpose; a product for each row.
        total += torch.bmm(rows, rows.transpose(1, 2)).numpy().sum(axis=0)
    return total
