"""Greedy soup (arXiv 2203.05482, section 2, recipe 1): the best first, then whoever does no harm.

ΔW's are sorted by what they score alone. Each enters the mean if the mean with it scores no worse
than without it, so that the soup is never worse than its best member on what `score` reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from seshu_swarm.adapters.delta import Delta
from seshu_swarm.adapters.merge.checks import check_weights
from seshu_swarm.adapters.merge.task_arithmetic import task_arithmetic
from seshu_swarm.errors import UsageError

Score = Callable[[Sequence[float]], float]
"""From a weight per ΔW, in their order, to a number; lower is better, NaN worse than all."""


def greedy_soup(
    deltas: Sequence[Delta], weights: Sequence[float], *, score: Score
) -> dict[str, torch.Tensor]:
    """The mean of the chosen ΔW's. `weights` are checked, as everywhere, and not used."""
    check_weights(deltas, weights)
    return task_arithmetic(deltas, greedy_weights(len(deltas), score))


def greedy_weights(num_deltas: int, score: Score) -> list[float]:
    """1 / (number of members) for each member, 0 for the rest; at most 2·num_deltas − 1 scores.

    Equal scores are taken in the order given. Raises UsageError where nobody has a finite score.
    """
    alone = [_finite(score(_mean_of([i], num_deltas))) for i in range(num_deltas)]
    order = sorted(range(num_deltas), key=lambda i: alone[i])
    if not order or alone[order[0]] == math.inf:
        raise UsageError(
            f"none of {num_deltas} adapters has a finite score",
            rule="a greedy soup begins with the best one",
        )
    members, best = order[:1], alone[order[0]]
    for i in order[1:]:
        with_it = _finite(score(_mean_of([*members, i], num_deltas)))
        if with_it <= best:
            members, best = [*members, i], with_it
    return _mean_of(members, num_deltas)


def _mean_of(members: Sequence[int], num_deltas: int) -> list[float]:
    return [1 / len(members) if i in members else 0.0 for i in range(num_deltas)]


def _finite(score: float) -> float:
    return score if math.isfinite(score) else math.inf
