"""Linear: the weighted mean Σ wᵢΔWᵢ / Σ wᵢ, what federated averaging does (arXiv 1602.05629)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from seshu_swarm.adapters.delta import Delta
from seshu_swarm.adapters.merge.checks import shares_of
from seshu_swarm.adapters.merge.task_arithmetic import task_arithmetic


def linear(deltas: Sequence[Delta], weights: Sequence[float]) -> dict[str, torch.Tensor]:
    """Weighted mean of every weight. Raises UsageError where the weights sum to zero."""
    return task_arithmetic(deltas, shares_of(deltas, weights))
