"""`python -m seshu_swarm bench scoring`: what a mixture's score costs beside the base's own."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from seshu_swarm.bench.config import LOOPBACK, BenchConfig
from seshu_swarm.bench.merge.sizes import Sizes
from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.bench.scoring.child import Measured, Task, measure_in_child
from seshu_swarm.bench.scoring.work import write_checkpoint
from seshu_swarm.errors import UsageError
from seshu_swarm.program import log

MIB = 1 << 20
NUM_ADAPTERS, NUM_WINDOWS = 8, 16


def run_bench(settings: BenchConfig) -> Outcome:
    """Raises UsageError where links were asked for: a scorer has none."""
    if settings.links != LOOPBACK:
        raise UsageError(f"--links {settings.links} for scoring", rule="it talks to nobody")
    sizes = Sizes(
        d_model=settings.d_model or Sizes.d_model,
        num_blocks=settings.num_blocks or Sizes.num_blocks,
        num_adapters=NUM_ADAPTERS,
        seed=settings.seed,
    )
    return run(sizes, num_windows=NUM_WINDOWS)


def run(sizes: Sizes, *, num_windows: int, threads: int | None = None) -> Outcome:
    """Measure with all cores, or so many threads. Raises ResourceError where memory runs out."""
    with tempfile.TemporaryDirectory() as scratch:
        model_bytes = write_checkpoint(Path(scratch) / "model", sizes)
        task = Task(
            folder=f"{scratch}/model",
            sizes=sizes,
            threads=threads or len(os.sched_getaffinity(0)),
            num_windows=num_windows,
        )
        found = measure_in_child(task)
    results = results_of(found, model_bytes)
    if log.is_text():
        Console().print(table_of(found, model_bytes, task))
    row = {"threads": task.threads, "num_windows": num_windows, **asdict(sizes), **asdict(found)}
    return Outcome(results, [row])


def results_of(found: Measured, model_bytes: int) -> dict[str, float]:
    """Numbers by stable name; the peak's are left out where the system does not tell it. Pure."""
    results = {
        "scoring_base_seconds": found.base_seconds,
        "scoring_mixture_seconds": found.mixture_seconds,
        "mixture_time_vs_base": found.mixture_seconds / found.base_seconds,
        "scoring_model_bytes": float(model_bytes),
    }
    if found.peak_bytes is not None:
        results["scoring_peak_bytes"] = float(found.peak_bytes)
        results["scoring_peak_over_model"] = found.peak_bytes / model_bytes
    return results


def table_of(found: Measured, model_bytes: int, task: Task) -> Table:
    sizes = task.sizes
    table = Table(
        *("score", "seconds", "x base"),
        title=f"{sizes.num_adapters} adapters of rank {sizes.rank} on {sizes.d_model} x "
        f"{sizes.num_blocks}, {task.num_windows} windows of 640 tokens",
        caption=_memory(found, model_bytes),
    )
    table.add_row("base", f"{found.base_seconds:.2f}", "1.00")
    ratio = found.mixture_seconds / found.base_seconds
    table.add_row("mixture", f"{found.mixture_seconds:.2f}", f"{ratio:.2f}")
    return table


def _memory(found: Measured, model_bytes: int) -> str:
    if found.peak_bytes is None:
        return "this system does not tell a process's peak memory"
    return (
        f"peak {found.peak_bytes / MIB:.0f} MiB beside libraries, adapters included: "
        f"{found.peak_bytes / model_bytes:.2f} x the model"
    )
