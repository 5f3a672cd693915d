"""DARE (arXiv 2311.03099): drop entries at random and rescale the rest, then sum or TIES.

Kept entries are divided by `density`, as in the paper, so that the expectation over seeds is the
undropped merge. (mergekit restores the L1 norm instead; the two agree for large matrices.) Works
only for small ΔW: the tuning split decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from seshu_swarm.adapters.delta import Delta
from seshu_swarm.adapters.merge.stacking import check_density, column, stacked, weight_names
from seshu_swarm.adapters.merge.ties import agreement


def dare_linear(
    deltas: Sequence[Delta], weights: Sequence[float], *, density: float = 0.5, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Weighted sum of the dropped and rescaled ΔW's."""
    check_density(density)
    shares = column(deltas, weights)
    return {
        name: (shares * _drop(stacked(deltas, name), name, density, seed)).sum(dim=0)
        for name in weight_names(deltas)
    }


def dare_ties(
    deltas: Sequence[Delta], weights: Sequence[float], *, density: float = 0.5, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Drop, rescale, elect a sign as TIES does, and sum (not average) the entries that agree."""
    check_density(density)
    shares = column(deltas, weights)
    merged: dict[str, torch.Tensor] = {}
    for name in weight_names(deltas):
        weighted = shares * _drop(stacked(deltas, name), name, density, seed)
        merged[name] = (weighted * agreement(weighted)).sum(dim=0)
    return merged


def _drop(stack: torch.Tensor, name: str, density: float, seed: int) -> torch.Tensor:
    # The seed depends on the weight's name, so that one matrix alone gives the same numbers.
    text = hashlib.sha256(f"{seed} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(text[:8], "big") >> 1)
    kept = torch.rand(stack.shape, generator=generator, dtype=torch.float64) < density
    return stack * kept / density
