"""Scoring measured in a fresh process."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass

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
    return Measured(**fresh.ask(__name__, asdict(task), f"scoring by {task.method}"))


def task_of(fields: fresh.Fields) -> Task:
    """The task that `measure_in_child` wrote."""
    return Task(**{**fields, "sizes": Sizes(**fields["sizes"])})


def main(arguments: list[str]) -> int:
    """`python -m seshu_swarm.bench.scoring.child TASK`: prints one line of JSON."""
    task = task_of(fresh.asked(arguments))
    from seshu_swarm.bench.scoring.alone import measure

    fresh.answer(asdict(measure(task)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
