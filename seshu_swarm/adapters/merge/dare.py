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
from seshu_swarm.adapters.merge.checks import check_density, check_weights, weight_names
from seshu_swarm.adapters.merge.election import Ballot, elected_sum, empty_masks, weighted_sum


def dare_linear(
    deltas: Sequence[Delta], weights: Sequence[float], *, density: float = 0.5, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Weighted sum of the dropped and rescaled ΔW's."""
    check_density(density)
    check_weights(deltas, weights)
    return {
        name: weighted_sum(_ballots(deltas, weights, name, density, seed), name)
        for name in weight_names(deltas)
    }


def dare_ties(
    deltas: Sequence[Delta], weights: Sequence[float], *, density: float = 0.5, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Drop, rescale, elect a sign as TIES does, and sum (not average) the entries that agree."""
    check_density(density)
    check_weights(deltas, weights)
    return {
        name: elected_sum(_ballots(deltas, weights, name, density, seed), name)
        for name in weight_names(deltas)
    }


def _ballots(
    deltas: Sequence[Delta], weights: Sequence[float], name: str, density: float, seed: int
) -> list[Ballot]:
    # The seed depends on the weight's name, so that one matrix alone gives the same numbers.
    text = hashlib.sha256(f"{seed} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(text[:8], "big") >> 1)
    shape = next(delta[name].shape for delta in deltas if name in delta)
    ballots: list[Ballot] = []
    masks = empty_masks(len(deltas), shape)
    for mask, delta, weight in zip(masks, deltas, weights, strict=True):
        # Drawn also for a ΔW that lacks the weight: others' numbers do not depend on that.
        draws = torch.rand(shape, generator=generator, dtype=torch.float64)
        if name in delta:
            mask.copy_(draws < density)
            ballots.append(Ballot(delta, weight, mask, density))
    return ballots
