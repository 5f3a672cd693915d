"""Norm-clipped mean: Σ wᵢ·min(1, c/‖ΔWᵢ‖)·ΔWᵢ / Σ wᵢ (arXiv 1911.07963).

Stops a donor who multiplies an adapter to outvote the others; directions stay as they are. The norm
is of the whole ΔW, not of one weight's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from seshu_swarm.adapters.delta import Delta
from seshu_swarm.adapters.merge.checks import check_length, shares_of
from seshu_swarm.adapters.merge.clip import median_norm_clip
from seshu_swarm.adapters.merge.gram import norms_of
from seshu_swarm.adapters.merge.task_arithmetic import task_arithmetic


def norm_clipped_mean(
    deltas: Sequence[Delta], weights: Sequence[float], *, max_norm: float | None = None
) -> dict[str, torch.Tensor]:
    """Weighted mean of ΔW's shortened to `max_norm`; without one, to the median norm."""
    return task_arithmetic(deltas, norm_clipped_shares(deltas, weights, max_norm=max_norm))


def norm_clipped_shares(
    deltas: Sequence[Delta], weights: Sequence[float], *, max_norm: float | None = None
) -> list[float]:
    """The weight of each ΔW in the sum that the mean is."""
    check_length("max_norm", max_norm)
    shares, norms = shares_of(deltas, weights), norms_of(deltas)
    if max_norm is None:
        factors = list(median_norm_clip({str(i): norm for i, norm in enumerate(norms)}).values())
    else:
        factors = [min(1.0, max_norm / norm) if norm > 0 else 1.0 for norm in norms]
    return [share * factor for share, factor in zip(shares, factors, strict=True)]
