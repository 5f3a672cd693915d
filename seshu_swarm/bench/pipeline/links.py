"""Training over links like home: what of the line's speed is made use of, and what would help.

The **floor** of a step is the time that the busiest line up needs for its bytes alone. Trainers send each
microbatch to every stage, forward and backward; a stage sends both answers.
"""

from __future__ import annotations

import math
from dataclasses import asdict

from seshu_swarm.bench.config import HOME
from seshu_swarm.bench.links.config import LinksConfig
from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.bench.pipeline.heard import Step, seconds_between
from seshu_swarm.bench.pipeline.sizes import Sizes
from seshu_swarm.bench.pipeline.town import town
from seshu_swarm.bench.swarm import tables
from seshu_swarm.bench.swarm.playing import Stage
from seshu_swarm.program.reports import Result

STEPS = 8
WARM_STEPS = 1
# A step of which less is filled by its line, or by its computing, has these one after the other.
OVERLAP = 0.7


async def measure(stage: Stage) -> Outcome:
    sizes = Sizes.of(stage.settings)
    stage.step("links like home")
    async with town(stage, sizes, links=HOME) as built:
        steps = await built.until(WARM_STEPS + STEPS)
    results = results_of(sizes, steps, WARM_STEPS, max(steps))
    shown = results | {"would_help_most": would_help_most(results)}
    tables.show("links like home", [shown])
    return Outcome(results, [{"section": "links", **asdict(sizes), **shown}])


def would_help_most(results: dict[str, Result]) -> str:
    """By what bounds a step: its bytes, its computing, or neither of the two."""
    floor = results["links_floor_seconds"]
    computing = results["links_compute_seconds_per_stage"]
    if max(floor, computing) < OVERLAP * results["links_step_seconds"]:
        return "more microbatches under way, so that lines and stages work at the same time"
    if computing >= floor:
        return "more replicas: a step is bounded by computing"
    return "stages that give each other what passes through the trainer now: half of its bytes"


def results_of(sizes: Sizes, steps: dict[int, Step], first: int, last: int) -> dict[str, Result]:
    """`_if_direct`: the floor if stages gave each other what passes through the trainer now."""
    rate = LinksConfig().up_bits_per_second / 8
    seconds, count = seconds_between(steps, first, last), last - first
    sums = steps[last].meter.since(steps[first].meter)
    sent, received = sums.sent_bytes / count, sums.received_bytes / count
    floor = max(sent, received / sizes.num_stages) / rate
    return {
        "links_tokens_per_second": sizes.step_tokens * count / seconds,
        "links_step_seconds": seconds / count,
        "links_sent_bytes_per_step": sent,
        "links_goodput_bits_per_second": 8 * sent * count / seconds,
        "links_floor_seconds": floor,
        "links_share_of_floor": floor * count / seconds if seconds else math.nan,
        "links_floor_seconds_if_direct": sent / sizes.num_stages / rate,
        "links_compute_seconds_per_stage": sums.compute_seconds / count / sizes.num_stages,
        "links_wait_seconds": sums.wait_seconds / count,
    }
