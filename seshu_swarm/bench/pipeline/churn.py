"""Two replicas of each stage, of which one is killed now and then and started again at once.

First for so many seconds with kills, then as many steps without: the same data in the same order, so that
the losses of the same steps can be compared, each and at the end. Replicas are forked from a process that
has imported them. One is killed only while the other one of its stage is up.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from random import Random

from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.bench.pipeline.heard import Audit, Heard, Step, mean_loss, seconds_between
from seshu_swarm.bench.pipeline.sizes import Sizes
from seshu_swarm.bench.pipeline.town import Town, town
from seshu_swarm.bench.swarm import tables
from seshu_swarm.bench.swarm.playing import Stage
from seshu_swarm.program.reports import Result

REPLICAS = 2
CHURN_SECONDS, KILL_SECONDS = 300.0, 20.0
WARM_STEPS = 2


@dataclass(frozen=True)
class Told:
    """A run's steps, and its books."""

    steps: dict[int, Step]
    audit: Audit
    kills: int = 0


async def measure(stage: Stage, kill_seconds: float = KILL_SECONDS) -> Outcome:
    settings = stage.settings
    seconds = CHURN_SECONDS if settings.churn_seconds is None else settings.churn_seconds
    sizes = Sizes.of(settings, num_microbatches=4)
    stage.step(f"a kill every {kill_seconds:g} s for {seconds:g} s")
    disturbed = await _disturbed(stage, sizes, seconds, kill_seconds)
    last = max(disturbed.steps)
    stage.step(f"{last} steps undisturbed")
    async with town(stage, sizes, replicas=REPLICAS, is_forked=True) as built:
        calm = _told(built.heard, sizes, await built.until(last), 0)
    results = results_of(disturbed, calm, last) | {"churn_step_tokens": sizes.step_tokens}
    tables.show("replicas that are killed and come back", [results])
    return Outcome(results, [{"section": "churn", **asdict(sizes), **results}])


def results_of(disturbed: Told, calm: Told, last: int) -> dict[str, Result]:
    """Over the steps from WARM_STEPS to `last`, which both made."""
    slow = seconds_between(disturbed.steps, WARM_STEPS, last)
    fast = seconds_between(calm.steps, WARM_STEPS, last)
    final, expected = mean_loss(disturbed.steps, last), mean_loss(calm.steps, last)
    both = disturbed.steps.keys() & calm.steps.keys()
    apart = (abs(disturbed.steps[n].loss - calm.steps[n].loss) for n in both)
    audit = disturbed.audit
    return {
        "churn_throughput_share": fast / slow,
        "churn_seconds": slow,
        "churn_calm_seconds": fast,
        "churn_kills": disturbed.kills,
        "churn_steps": last,
        "churn_lost": audit.lost,
        "churn_doubled": audit.doubled,
        "churn_unheard": audit.unheard,
        "churn_counted": audit.counted,
        "churn_final_loss": final,
        "churn_final_loss_calm": expected,
        "churn_final_loss_change": final / expected - 1,
        "churn_max_loss_difference": max(apart),
    }


async def _disturbed(stage: Stage, sizes: Sizes, seconds: float, kill_seconds: float) -> Told:
    async with town(stage, sizes, replicas=REPLICAS, is_forked=True) as built:
        await built.until(WARM_STEPS)
        until = time.monotonic() + seconds
        rng = Random(stage.settings.seed)
        async with _killing(built, rng, kill_seconds) as kills:
            while time.monotonic() < until:
                await built.until(max(built.heard.steps()) + 1)
        return _told(built.heard, sizes, built.heard.steps(), len(kills))


def _told(heard: Heard, sizes: Sizes, steps: dict[int, Step], kills: int) -> Told:
    # What was counted in the last step may not have been read yet.
    whole = [number for number in steps if number < max(steps)]
    return Told(steps, heard.audit(sizes.num_stages + 1, whole), kills)


@asynccontextmanager
async def _killing(built: Town, rng: Random, seconds: float) -> AsyncIterator[list[str]]:
    """Names of those killed so far."""
    kills: list[str] = []
    killing = asyncio.create_task(_kill(built, rng, seconds, kills))
    try:
        yield kills
    finally:
        killing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await killing


async def _kill(built: Town, rng: Random, seconds: float, kills: list[str]) -> None:
    """One after another, each started again at once. Raises SeshuError if one does not come back."""
    while True:
        began = time.monotonic()
        victim = rng.choice(built.hosts)
        kills.append(victim.name)
        victim.child.kill()
        await victim.start()
        await asyncio.sleep(max(0.0, seconds - (time.monotonic() - began)))
