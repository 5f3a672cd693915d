"""Uniform soup (arXiv 2203.05482, section 2): the plain mean, whatever the weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from seshu_swarm.adapters.delta import Delta
from seshu_swarm.adapters.merge.checks import check_weights, shares_of
from seshu_swarm.adapters.merge.task_arithmetic import task_arithmetic


def uniform_soup(deltas: Sequence[Delta], weights: Sequence[float]) -> dict[str, torch.Tensor]:
    """Every ΔW counts the same. `weights` are checked, as everywhere, and not used."""
    check_weights(deltas, weights)
    return task_arithmetic(deltas, shares_of(deltas, [1.0] * len(deltas)))
