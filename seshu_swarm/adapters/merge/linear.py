"""Linear: the weighted mean Σ wᵢΔWᵢ / Σ wᵢ (model soups, arXiv 2203.05482, uniform soup)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from seshu_swarm.adapters.delta import Delta
from seshu_swarm.adapters.merge.stacking import check_weights
from seshu_swarm.adapters.merge.task_arithmetic import task_arithmetic
from seshu_swarm.errors import UsageError


def linear(deltas: Sequence[Delta], weights: Sequence[float]) -> dict[str, torch.Tensor]:
    """Weighted mean of every weight. Raises UsageError where the weights sum to zero."""
    check_weights(deltas, weights)
    total = math.fsum(weights)
    if total == 0:
        raise UsageError(f"weights {list(weights)} sum to zero", rule="a mean needs a positive sum")
    return task_arithmetic(deltas, [weight / total for weight in weights])
