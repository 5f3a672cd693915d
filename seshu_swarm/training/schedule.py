"""How a run is taken through its time: the learning rate, and a budget in steps and in seconds.

Pure: knows no model and no clock; seconds are passed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from seshu_swarm.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How a step is taken. Raises UsageError.

    The learning rate rises over `warmup_fraction` of the run to `learning_rate` and falls along a
    cosine to `final_fraction` of it; gradients are clipped to the norm `clip`; `accumulation`
    microbatches make one step.
    """

    learning_rate: float = 4e-3
    warmup_fraction: float = 0.05
    final_fraction: float = 0.1
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0
    accumulation: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < 1:
            raise UsageError(f"learning rate {self.learning_rate}", rule="between 0 and 1")
        if not (0 <= self.warmup_fraction < 1 and 0 <= self.final_fraction <= 1):
            raise UsageError(
                f"warm-up {self.warmup_fraction} and final fraction {self.final_fraction}",
                rule="fractions from 0 to 1",
            )
        if not (self.clip > 0 and self.weight_decay >= 0 and self.accumulation >= 1):
            raise UsageError(
                f"clip {self.clip}, weight decay {self.weight_decay}, "
                f"accumulation {self.accumulation}",
                rule="a positive clip and accumulation, a weight decay of at least 0",
            )

    def learning_rate_at(self, progress: float) -> float:
        """The learning rate when `progress` (0 to 1) of the run is done."""
        progress = min(max(progress, 0.0), 1.0)
        if progress < self.warmup_fraction:
            return self.learning_rate * progress / self.warmup_fraction
        through = (progress - self.warmup_fraction) / (1 - self.warmup_fraction)
        cosine = (1 + math.cos(math.pi * through)) / 2
        return self.learning_rate * (self.final_fraction + (1 - self.final_fraction) * cosine)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A run ends with its steps or with its seconds, whichever is first. Raises UsageError."""

    max_steps: int
    max_seconds: float = math.inf

    def __post_init__(self) -> None:
        if not (self.max_steps >= 1 and self.max_seconds > 0):
            raise UsageError(
                f"{self.max_steps} steps in {self.max_seconds} seconds",
                rule="at least one step and some time",
            )

    def progress(self, step: int, elapsed_seconds: float) -> float:
        """How much of the run is done: the larger of both fractions, at most 1."""
        return min(1.0, max(step / self.max_steps, elapsed_seconds / self.max_seconds))
