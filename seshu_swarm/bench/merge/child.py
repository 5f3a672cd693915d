"""One method measured in a fresh process."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.bench import fresh
from seshu_swarm.bench.merge.sizes import Sizes


@dataclass(frozen=True, kw_only=True)
class Task:
    """Merge by `method`; by mergekit's method of that name where `is_theirs`."""

    method: str
    sizes: Sizes
    threads: int
    is_theirs: bool = False


@dataclass(frozen=True, kw_only=True)
class Measured:
    """`floor_seconds`: making every ΔW once, merging none. `peak_bytes`: what the merge added to
    the process; None where the system does not tell."""

    seconds: float
    floor_seconds: float
    peak_bytes: int | None


def measure_in_child(task: Task) -> Measured:
    """Raises ResourceError when the child ends early."""
    return fresh.ask(__name__, task, Measured, f"the merge by {task.method}")


if __name__ == "__main__":
    asked = fresh.asked(Task)
    from seshu_swarm.bench.merge.alone import measure

    fresh.answer(measure(asked))
