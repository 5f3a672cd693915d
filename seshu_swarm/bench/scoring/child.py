"""Scoring measured in a fresh process."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.bench import fresh
from seshu_swarm.bench.merge.sizes import Sizes


@dataclass(frozen=True, kw_only=True)
class Task:
    """Score the checkpoint in `folder` and a mixture of all adapters by `method`."""

    folder: str
    sizes: Sizes
    threads: int
    num_windows: int
    method: str = "task_arithmetic"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """`peak_bytes`: what base, adapters and scoring added to the process; None where the system
    does not tell. `mixture_seconds` are those of merging, scoring and restoring."""

    base_seconds: float
    mixture_seconds: float
    peak_bytes: int | None


def measure_in_child(task: Task) -> Measured:
    """Raises ResourceError when the child ends early."""
    return fresh.ask(__name__, task, Measured, f"scoring by {task.method}")


if __name__ == "__main__":
    asked = fresh.asked(Task)
    from seshu_swarm.bench.scoring.alone import measure

    fresh.answer(measure(asked))
