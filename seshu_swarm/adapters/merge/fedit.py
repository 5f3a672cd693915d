"""FedIT (arXiv 2305.05644): A and B averaged apart, ΔW = (Σ wᵢsᵢBᵢ)(Σ wᵢAᵢ) / (Σ wᵢ)².

A baseline only. Cross terms BᵢAⱼ enter, so that the result is not the mean of the ΔW's, and depends
on which factors a donor chose for the same ΔW. The scale sᵢ = alpha / rank goes with B; with one
scale for all, as in the paper, where it goes makes no difference.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from seshu_swarm.adapters.delta import Delta, LowRankDelta
from seshu_swarm.adapters.merge.checks import shares_of, weight_names
from seshu_swarm.adapters.merge.one_weight import OneWeight
from seshu_swarm.adapters.reader import Pair
from seshu_swarm.errors import UsageError


def fedit(deltas: Sequence[Delta], weights: Sequence[float]) -> dict[str, torch.Tensor]:
    """The product of the weighted means of the factors; one that lacks a weight counts as zero.

    Raises UsageError where a ΔW is no LowRankDelta, and where ranks differ.
    """
    shares = shares_of(deltas, weights)
    return {name: _one(deltas, shares, name) for name in weight_names(deltas)}


def _one(deltas: Sequence[Delta], shares: Sequence[float], name: str) -> torch.Tensor:
    owners = [(s, _factors(d, name)) for s, d in zip(shares, deltas, strict=True) if name in d]
    ranks = {len(A) for _, (A, _) in owners}
    if len(ranks) > 1:
        raise UsageError(f"ranks {sorted(ranks)} of {name}", rule="fedit needs one rank for all")
    mean_A, mean_B = (
        torch.stack([share * pair[i] for share, pair in owners]).sum(dim=0) for i in (0, 1)
    )
    return mean_B @ mean_A


def _factors(delta: Delta, name: str) -> Pair:
    whole = delta.whole if isinstance(delta, OneWeight) else delta
    if not isinstance(whole, LowRankDelta):
        raise UsageError(
            f"a ΔW of {name} without its factors",
            rule="fedit averages A and B",
            way_out="make it with LowRankDelta(adapter)",
        )
    return whole.factors(name)
