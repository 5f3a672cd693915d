"""Losses of the pipeline's steps against those of one process: one peer a stage, float32 on the wire."""

from __future__ import annotations

from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.bench.pipeline.singles import train_steps
from seshu_swarm.bench.pipeline.sizes import Sizes
from seshu_swarm.bench.pipeline.town import town
from seshu_swarm.bench.swarm import tables
from seshu_swarm.bench.swarm.playing import Stage

STEPS = 50
# One row in so many is shown.
SHOWN = 10


async def measure(stage: Stage) -> Outcome:
    settings = stage.settings
    sizes = Sizes.of(settings, wire_type="float32", num_microbatches=2)
    steps = settings.steps or STEPS
    stage.step(f"{steps} steps through the stages")
    async with town(stage, sizes) as built:
        through = {number: step.loss for number, step in (await built.until(steps)).items()}
    stage.step(f"{steps} steps in one process")
    alone = (await train_steps(stage, sizes, steps)).losses
    rows = [
        {"step": n, "loss": through[n], "alone": alone[n], "difference": abs(through[n] - alone[n])}
        for n in range(1, steps + 1)
    ]
    tables.show("one process and two stages", rows[:: max(1, steps // SHOWN)])
    results = {
        "equality_max_loss_difference": max(row["difference"] for row in rows),
        "equality_steps": steps,
        "equality_loss_first": through[1],
        "equality_loss_last": through[steps],
    }
    return Outcome(results, [{"section": "equality", **row} for row in rows])
