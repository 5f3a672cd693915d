"""LoraHub (arXiv 2307.13269, section 2.3): weights found by a search without gradients.

Minimises loss + 0.05·mean|wᵢ| over w in [-1.5, 1.5]ⁿ within a budget of scores, by nevergrad's NGOpt.
The paper sums A and B apart, so that cross terms BᵢAⱼ enter; here w weighs whole ΔW's, and what was
found is a weighted sum that needs no score to be made again.
"""

from __future__ import annotations

import gc
import math
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch

from seshu_swarm.adapters.delta import Delta
from seshu_swarm.adapters.merge.checks import check_weights
from seshu_swarm.adapters.merge.greedy_soup import Score
from seshu_swarm.adapters.merge.task_arithmetic import task_arithmetic
from seshu_swarm.errors import UsageError

BUDGET = 40
# With more, NGOpt follows models of the loss, which in nevergrad 1.0.12 fail beside numpy 2.
MAX_BUDGET_PER_DELTA = 40
MAX_WEIGHT = 1.5
PENALTY = 0.05
# What the search is told of a score that is not finite; its models of the loss need a number.
NOT_FINITE = 1e6


def lorahub(
    deltas: Sequence[Delta],
    weights: Sequence[float],
    *,
    score: Score,
    budget: int = BUDGET,
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """The weighted sum of the ΔW's that was found. `weights` are checked and not used."""
    check_weights(deltas, weights)
    return task_arithmetic(deltas, lorahub_weights(len(deltas), score, budget=budget, seed=seed))


def lorahub_weights(
    num_deltas: int, score: Score, *, budget: int = BUDGET, seed: int = 0
) -> list[float]:
    """The best weights of `budget` that were scored, at most 40 per ΔW; the first are the mean's.

    Raises UsageError without nevergrad, for no ΔW's, a budget below 1, and no finite score.
    """
    if num_deltas < 1 or budget < 1:
        raise UsageError(f"{num_deltas} adapters and a budget of {budget}", rule="1 or more")
    budget = min(budget, MAX_BUDGET_PER_DELTA * num_deltas)
    optimiser = _optimiser(num_deltas, budget, seed)
    best, least = [0.0] * num_deltas, math.inf
    try:
        for _ in range(budget):
            asked = _ask(optimiser)
            weights = [float(weight) for weight in asked.value]
            loss = score(weights) + PENALTY * math.fsum(map(abs, weights)) / num_deltas
            if loss < least:
                best, least = weights, loss
            optimiser.tell(asked, loss if math.isfinite(loss) else NOT_FINITE)
    finally:
        # Its thread waits for the next number, and this process for its thread, until it is freed.
        del optimiser
        gc.collect()
    if not math.isfinite(least):
        raise UsageError(
            f"none of {budget} mixtures of {num_deltas} adapters has a finite score",
            rule="LoraHub follows a loss",
        )
    return best


def _optimiser(num_deltas: int, budget: int, seed: int) -> Any:
    ng = _nevergrad()
    space = ng.p.Array(init=[0.0] * num_deltas).set_bounds(-MAX_WEIGHT, MAX_WEIGHT)
    space.random_state.seed(seed)
    optimiser = ng.optimizers.NGOpt(parametrization=space, budget=budget)
    optimiser.suggest([1 / num_deltas] * num_deltas)
    return optimiser


def _ask(optimiser: Any) -> Any:
    with warnings.catch_warnings(action="ignore"):
        # They are of settings that nevergrad hands to scipy.
        return optimiser.ask()


def _nevergrad() -> ModuleType:
    try:
        import nevergrad
    except ImportError:
        raise UsageError(
            "LoraHub searches with nevergrad, which is not installed",
            way_out="pip install 'seshu-swarm[research]'",
        ) from None
    module: ModuleType = nevergrad
    return module
