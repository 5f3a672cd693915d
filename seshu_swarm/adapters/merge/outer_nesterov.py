"""Outer Nesterov over rounds (FedOpt, arXiv 2003.00295; DiLoCo, arXiv 2311.08105, algorithm 1).

A round's merge m is taken as minus the gradient of a step with momentum μ, as torch's SGD takes it:
v ← μ·v + m, and the base moves by η·(m + μ·v). Who calls keeps the velocity from round to round,
zero before the first; without momentum, and with η = 1, the base moves by m.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from seshu_swarm.adapters.delta import Delta
from seshu_swarm.adapters.merge.checks import weight_names
from seshu_swarm.adapters.merge.one_weight import OneWeight
from seshu_swarm.adapters.merge.task_arithmetic import task_arithmetic
from seshu_swarm.errors import UsageError

# What DiLoCo found best.
MOMENTUM, LEARNING_RATE = 0.9, 0.7


@dataclass(frozen=True)
class OuterStep:
    """By weight name: what to add to the base, and the velocity for the next round; float64."""

    delta: dict[str, torch.Tensor]
    velocity: dict[str, torch.Tensor]


def outer_nesterov(
    merged: Delta,
    velocity: Delta,
    *,
    momentum: float = MOMENTUM,
    learning_rate: float = LEARNING_RATE,
) -> OuterStep:
    """One round's step; a weight that `merged` or `velocity` lacks is zero there.

    Raises UsageError unless 0 <= momentum < 1 and the learning rate is positive.
    """
    if not 0 <= momentum < 1:
        raise UsageError(f"momentum {momentum}", rule="0 <= momentum < 1")
    if not (learning_rate > 0 and math.isfinite(learning_rate)):
        raise UsageError(f"learning_rate {learning_rate}", rule="positive and finite")
    step = OuterStep({}, {})
    for name in weight_names([merged, velocity]):
        # Once: a lazy delta computes it on every access.
        now = {name: merged[name]} if name in merged else {}
        after = task_arithmetic([OneWeight(velocity, name), now], [momentum, 1.0])
        step.velocity.update(after)
        step.delta.update(task_arithmetic([now, after], [learning_rate, learning_rate * momentum]))
    return step
