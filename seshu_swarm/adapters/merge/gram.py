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
        total[np.ix_(owners, owners)] += _products(_stacked([deltas[i] for i in owners], name))
    return total


def _squared(matrix: torch.Tensor) -> float:
    return float(matrix.double().square().sum(dim=1).numpy().sum())


def _stacked(deltas: Sequence[Delta], name: str) -> torch.Tensor:
    """(num_deltas, out, in), float64; one block of memory, filled matrix by matrix."""
    stack = torch.empty(len(deltas), *deltas[0][name].shape, dtype=torch.float64)
    for place, delta in zip(stack, deltas, strict=True):
        place.copy_(delta[name])
    return stack


def _products(stack: torch.Tensor) -> NDArray[np.float64]:
    total = np.zeros((len(stack), len(stack)))
    for rows in stack.split(ROWS_AT_ONCE, dim=1):
        by_row = rows.transpose(0, 1)
        # (rows, num_matrices, in) times its transpose; a product for each row.
        total += torch.bmm(by_row, by_row.transpose(1, 2)).numpy().sum(axis=0)
    return total
