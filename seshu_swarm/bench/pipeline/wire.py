"""The final loss with fewer bits on the wire, or in the products of matrices, against that with float32.
A model and microbatches that are small enough for a thousand steps in minutes."""

from __future__ import annotations

from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.bench.pipeline.heard import mean_loss
from seshu_swarm.bench.pipeline.sizes import Sizes
from seshu_swarm.bench.pipeline.town import town
from seshu_swarm.bench.swarm import tables
from seshu_swarm.bench.swarm.playing import Stage
from seshu_swarm.program.reports import Result

STEPS = 300
FULL = "float32"
# Name → on the wire, in the products.
TYPES = {
    FULL: (FULL, FULL),
    "int8": ("int8", FULL),
    "bfloat16": ("bfloat16", FULL),
    "computed_in_bfloat16": ("int8", "bfloat16"),
}


async def measure(stage: Stage) -> Outcome:
    settings = stage.settings
    steps, finals = settings.steps or STEPS, dict[str, float]()
    for name, (wire_type, compute_type) in TYPES.items():
        stage.step(f"{steps} steps: {wire_type} on the wire, {compute_type} in products")
        small = {"d_model": 128, "num_blocks": 4, "num_microbatches": 2, "length": 128}
        types = {"wire_type": wire_type, "compute_type": compute_type, "num_steps": steps + 1}
        async with town(stage, Sizes.of(settings, **types, **small)) as built:
            finals[name] = mean_loss(await built.until(steps), steps)
    results: dict[str, Result] = {"wire_steps": steps}
    rows = []
    for name, loss in finals.items():
        change = loss / finals[FULL] - 1
        rows.append({"types": name, "loss": loss, "change": change})
        results |= {f"wire_final_loss_{name}": loss, f"wire_loss_change_{name}": change}
    tables.show(f"the last ten of {steps} steps", rows)
    return Outcome(results, [{"section": "wire", **row} for row in rows])
