"""A replica that comes in mid-run: how long until its first microbatch counts, and whether all replicas
of a stage hold the same weights."""

from __future__ import annotations

import time
from dataclasses import asdict

from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.bench.pipeline.sizes import Sizes
from seshu_swarm.bench.pipeline.town import STEP_SECONDS, Town, town
from seshu_swarm.bench.swarm import tables
from seshu_swarm.bench.swarm.playing import Stage
from seshu_swarm.program.children import Event

STEPS_BEFORE = 3
# Digests are told every tenth step.
STEPS_BETWEEN = 10


async def measure(stage: Stage) -> Outcome:
    sizes = Sizes.of(stage.settings, num_microbatches=4)
    stage.step("a replica comes in mid-run")
    async with town(stage, sizes) as built:
        await built.until(STEPS_BEFORE)
        began, joined_at = time.time(), max(built.heard.steps())
        newcomer = built.newcomer(sizes.spans[0])
        ready = await newcomer.start()
        counted = await newcomer.child.wait_for("counted", seconds=STEP_SECONDS, matching=_has_ids)
        stage.step("its weights are compared")
        await _until_compared(built, counted["version"][0])
    digests = built.heard.digests()
    results = {
        "join_seconds": counted["time"] - began,
        "join_ready_seconds": ready,
        "join_at_step": joined_at,
        "join_counted_in_step": counted["version"][0],
        "join_digests_compared": len(digests),
        "join_digests_equal": bool(digests) and all(len(one) == 1 for one in digests.values()),
    }
    tables.show("a replica that joins", [results])
    return Outcome(results, [{"section": "join", **asdict(sizes), **results}])


async def _until_compared(built: Town, step: int) -> None:
    """Until two replicas told a digest of the same step."""
    for last in range(step, step + 2 * STEPS_BETWEEN):
        await built.until(last)
        if built.heard.digests():
            return


def _has_ids(event: Event) -> bool:
    return any(event["claim"].values())
