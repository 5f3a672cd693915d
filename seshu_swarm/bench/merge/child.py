"""One method measured in a fresh process."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass

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
    return Measured(**fresh.ask(__name__, asdict(task), f"the merge by {task.method}"))


def task_of(fields: fresh.Fields) -> Task:
    """The task that `measure_in_child` wrote."""
    return Task(**{**fields, "sizes": Sizes(**fields["sizes"])})


def main(arguments: list[str]) -> int:
    """`python -m seshu_swarm.bench.merge.child TASK`: prints one line of JSON."""
    task = task_of(fresh.asked(arguments))
    from seshu_swarm.bench.merge.alone import measure

    fresh.answer(asdict(measure(task)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
