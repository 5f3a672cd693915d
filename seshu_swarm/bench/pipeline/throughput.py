"""Tokens per second of two stages on two cores, against two processes that train alone side by side.

These are measured before the pipeline and after it, each time for half as long, so that a machine whose
speed drifts is fair to both. `bytes`: what went through each boundary, from the trainer's counters.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.bench.pipeline.heard import Step, seconds_between
from seshu_swarm.bench.pipeline.singles import Single, train_for
from seshu_swarm.bench.pipeline.sizes import Sizes
from seshu_swarm.bench.pipeline.town import town
from seshu_swarm.bench.swarm import tables
from seshu_swarm.bench.swarm.playing import Stage
from seshu_swarm.program.reports import Result

CORES = 2
WARM_STEPS = 2
SECONDS = (
    "compute_seconds",
    "own_seconds",
    "serialise_seconds",
    "network_seconds",
    "wait_seconds",
)


async def measure(stage: Stage) -> Outcome:
    settings = stage.settings
    # With fewer in a step, its beginning and end weigh more, when a stage waits for the other.
    sizes = Sizes.of(settings, num_stages=CORES, num_microbatches=16)
    singles = await _alone(stage, sizes)
    stage.step("two stages and a trainer")
    async with town(stage, sizes) as built:
        began, cpu = max(await built.until(WARM_STEPS)), built.cpu_seconds()
        await asyncio.sleep(settings.measure_seconds)
        steps = await built.until(max(built.heard.steps()) + 1)
        ended, cpu = max(steps), built.cpu_seconds() - cpu
    singles += await _alone(stage, sizes)
    found = results_of(sizes, steps, began, ended)
    found |= _against(found, singles, cpu / (sizes.step_tokens * (ended - began)))
    tables.show("tokens per second, and where a microbatch's time goes", [found])
    return Outcome(found, [{"section": "throughput", **asdict(sizes), **found}])


async def measure_bytes(stage: Stage) -> Outcome:
    sizes = Sizes.of(stage.settings, num_microbatches=2)
    stage.step("bytes through the boundaries")
    async with town(stage, sizes) as built:
        steps = await built.until(WARM_STEPS + 3)
    found = bytes_of(sizes, steps, WARM_STEPS, max(steps))
    tables.show("bytes", [found])
    return Outcome(found, [{"section": "bytes", **asdict(sizes), **found}])


async def _alone(stage: Stage, sizes: Sizes) -> list[Single]:
    stage.step("two processes alone")
    return await train_for(stage, sizes, stage.settings.measure_seconds / 2, count=CORES)


def _against(
    found: dict[str, Result], singles: list[Single], cpu_seconds: float
) -> dict[str, Result]:
    """`singles`: of two measurements; `cpu_seconds`: of a token, in the pipeline. `cpu_share` is what
    would be left of the speed if no core ever stood still: a busy machine does not change it."""
    alone = sum(single.rate for single in singles) / 2
    cpu_alone = sum(single.cpu_seconds for single in singles) / len(singles)
    return {
        "throughput_alone": alone,
        "throughput_share": found["throughput_pipeline"] / alone,
        "throughput_cpu_ms_per_token": 1e3 * cpu_seconds,
        "throughput_cpu_ms_per_token_alone": 1e3 * cpu_alone,
        "throughput_cpu_share": cpu_alone / cpu_seconds,
    }


def results_of(sizes: Sizes, steps: dict[int, Step], first: int, last: int) -> dict[str, Result]:
    """Speed, and the seconds of one microbatch, of which several are under way at once; `busy`:
    processors that computed, on average."""
    seconds = seconds_between(steps, first, last)
    sums = steps[last].meter.since(steps[first].meter)
    count = (last - first) * sizes.num_microbatches
    found: dict[str, Result] = {
        "throughput_pipeline": sizes.step_tokens * (last - first) / seconds,
        "throughput_steps": last - first,
        "throughput_step_seconds": seconds / (last - first),
        "throughput_busy": (sums.compute_seconds + sums.own_seconds) / seconds,
    }
    found |= {f"throughput_{name}": getattr(sums, name) / count for name in SECONDS}
    return found | bytes_of(sizes, steps, first, last)


def bytes_of(sizes: Sizes, steps: dict[int, Step], first: int, last: int) -> dict[str, Result]:
    """Whole frames, both ways. A stage has two boundaries, through each of which goes one tensor forward
    and one backward; what one stage gives and the next takes passes through the trainer, and counts
    twice."""
    sums = steps[last].meter.since(steps[first].meter)
    tokens = (last - first) * sizes.step_tokens
    each = (sums.sent_bytes + sums.received_bytes) / tokens / (2 * sizes.num_stages)
    return {
        "bytes_per_token_per_boundary": each,
        "bytes_per_token_per_boundary_by_d_model": each / sizes.d_model,
        "bytes_of_trainer_per_token": (sums.sent_bytes + sums.received_bytes) / tokens,
    }
