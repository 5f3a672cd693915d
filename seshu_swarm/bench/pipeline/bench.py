"""`python -m seshu_swarm bench pipeline`: the sections, each of which can be chosen alone (`--only`)."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.bench.pipeline import churn, equality, joining, links, throughput, wire
from seshu_swarm.bench.swarm.playing import Stage, play
from seshu_swarm.errors import UsageError
from seshu_swarm.program.reports import Result

SECTIONS: dict[str, Callable[[Stage], Awaitable[Outcome]]] = {
    "equality": equality.measure,
    "wire": wire.measure,
    "throughput": throughput.measure,
    "churn": churn.measure,
    "join": joining.measure,
    "bytes": throughput.measure_bytes,
    "links": links.measure,
}
# Of each, about: for the bar.
STEPS_OF_A_SECTION = 2


def run(settings: BenchConfig) -> Outcome:
    """Raises UsageError for a section that there is not, SeshuError, KeyboardInterrupt."""
    if unknown := sorted(set(settings.only) - SECTIONS.keys()):
        raise UsageError(f"--only {','.join(unknown)}", way_out=f"of: {', '.join(SECTIONS)}")
    chosen = [name for name in SECTIONS if not settings.only or name in settings.only]

    async def measure(stage: Stage) -> Outcome:
        return await measure_all(stage, chosen)

    return play(settings, measure, num_steps=STEPS_OF_A_SECTION * len(chosen))


async def measure_all(stage: Stage, chosen: list[str]) -> Outcome:
    """One section after another. How busy the machine was is said beside each."""
    results: dict[str, Result] = {}
    rows: list[Any] = []
    for name in chosen:
        load, began = os.getloadavg()[0], time.monotonic()
        found = await SECTIONS[name](stage)
        loads = {"load_before": load, "load_after": os.getloadavg()[0]}
        seconds = time.monotonic() - began
        results |= found.results
        rows += [*found.rows, {"section": name, "measured_in_seconds": seconds, **loads}]
    return Outcome(results, rows)
