"""`python -m seshu_swarm bench NAME`: one measurement, as a table and as numbers by name."""

from __future__ import annotations

import importlib
from pathlib import Path

from seshu_swarm.bench import BENCHES
from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.errors import UsageError
from seshu_swarm.program import log
from seshu_swarm.program.reports import check_place, write_report


def run(settings: BenchConfig) -> int:
    if settings.name == "list":
        lines = [f"{name}: {sentence}" for name, (_, sentence) in BENCHES.items()]
        log.event("benches", "\n".join(lines), names=list(BENCHES))
        return 0
    if settings.name not in BENCHES:
        raise UsageError(
            f"there is no bench {settings.name!r}",
            way_out=f"one of: {', '.join(BENCHES)}",
        )
    if settings.report:
        check_place(Path(settings.report))
    module, _, function = BENCHES[settings.name][0].partition(":")
    outcome: Outcome = getattr(importlib.import_module(module), function)(settings)
    lines = [f"{name}: {value:.4g}" for name, value in outcome.results.items()]
    log.event("bench", "\n".join(lines), **outcome.results)
    if settings.report:
        write_report(
            Path(settings.report),
            command="bench",
            settings=settings,
            rows=outcome.rows,
            results=outcome.results,
        )
    return 0
