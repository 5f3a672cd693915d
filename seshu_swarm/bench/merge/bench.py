"""`python -m seshu_swarm bench merge`: every method in a process of its own, one after another.

A greedy soup is not among them: it is a linear merge, and its time is that of the scores it asks.
"""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console
from rich.table import Table

from seshu_swarm.adapters.merge.registry import MERGE_METHODS, OUTER_METHODS
from seshu_swarm.bench.config import LOOPBACK, BenchConfig
from seshu_swarm.bench.merge import mergekit
from seshu_swarm.bench.merge.child import Measured, Task, measure_in_child
from seshu_swarm.bench.merge.sizes import Sizes
from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.errors import UsageError
from seshu_swarm.program import log
from seshu_swarm.program.progress import Bar

MIB = 1 << 20
METHODS = (
    *(method.name for method in MERGE_METHODS if not method.needs_score),
    *(method.name for method in OUTER_METHODS),
)


def run_bench(settings: BenchConfig) -> Outcome:
    """Raises UsageError where links were asked for: a merge has none."""
    if settings.links != LOOPBACK:
        raise UsageError(f"--links {settings.links} for merges", rule="they talk to nobody")
    return run(Sizes(seed=settings.seed))


def run(sizes: Sizes, *, threads: int | None = None) -> Outcome:
    """Measure with all cores, or so many threads. Raises ResourceError where memory runs out."""
    threads = threads or len(os.sched_getaffinity(0))
    tasks = [Task(method=name, sizes=sizes, threads=threads) for name in METHODS]
    if mergekit.is_there():
        tasks += [
            Task(method=name, sizes=sizes, threads=threads, is_theirs=True)
            for name in mergekit.METHODS
        ]
    measured: dict[Task, Measured] = {}
    with Bar("bench merge") as bar:
        for number, task in enumerate(tasks):
            bar.update(number / len(tasks), now=_label(task))
            measured[task] = measure_in_child(task)
        bar.update(1.0)
    rows = [_row(task, found, sizes) for task, found in measured.items()]
    if log.is_text():
        Console().print(table_of(rows, sizes, mergekit_is_there=mergekit.is_there()))
    return Outcome(results_of(measured), rows)


def results_of(measured: dict[Task, Measured]) -> dict[str, float]:
    """Numbers by stable name; `vs` is ours over theirs, below 1 ours is better. Pure."""
    results: dict[str, float] = {}
    for task, found in measured.items():
        if task.is_theirs:
            continue
        results[f"{task.method}_seconds"] = found.seconds
        results[f"{task.method}_time_vs_floor"] = found.seconds / found.floor_seconds
        if found.peak_bytes is not None:
            results[f"{task.method}_peak_bytes"] = float(found.peak_bytes)
    for task, theirs in measured.items():
        ours = next(m for t, m in measured.items() if t.method == task.method and not t.is_theirs)
        if task.is_theirs:
            results[f"{task.method}_time_vs_mergekit"] = ours.seconds / theirs.seconds
            if ours.peak_bytes is not None and theirs.peak_bytes:
                results[f"{task.method}_memory_vs_mergekit"] = ours.peak_bytes / theirs.peak_bytes
    return results


def table_of(rows: list[dict[str, Any]], sizes: Sizes, *, mergekit_is_there: bool) -> Table:
    compared = "" if mergekit_is_there else "; mergekit cannot be imported here, so is not compared"
    table = Table(
        *("method", "seconds", "x floor", "peak MiB", "x weights"),
        title=f"{sizes.num_adapters} adapters of rank {sizes.rank} on three projections of "
        f"{sizes.d_model} x {sizes.num_blocks}",
        caption=f"floor: making every ΔW once; weights: those touched, once, in float32{compared}",
    )
    for row in rows:
        peak = row["peak_bytes"]
        memory = (
            ("not told here", "")
            if peak is None
            else (f"{peak / MIB:.0f}", f"{row['peak_vs_weights']:.2f}")
        )
        table.add_row(
            row["method"], f"{row['seconds']:.2f}", f"{row['time_vs_floor']:.2f}", *memory
        )
    return table


def _label(task: Task) -> str:
    return f"{task.method} (mergekit)" if task.is_theirs else task.method


def _row(task: Task, found: Measured, sizes: Sizes) -> dict[str, Any]:
    peak = found.peak_bytes
    return {
        "method": _label(task),
        "threads": task.threads,
        "seconds": found.seconds,
        "floor_seconds": found.floor_seconds,
        "time_vs_floor": found.seconds / found.floor_seconds,
        "peak_bytes": peak,
        "peak_vs_weights": None if peak is None else peak / sizes.weight_bytes,
    }
