"""Processes that train the whole model, each for itself (`alone`)."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

from seshu_swarm.bench.pipeline.forks import PIPELINE
from seshu_swarm.bench.pipeline.sizes import Sizes, fresh_base, write_text
from seshu_swarm.bench.swarm.playing import Stage
from seshu_swarm.children import Child, Children, Event

STEP_SECONDS = 120.0
# The first one is not measured.
LEAST_STEPS = 3


@dataclass(frozen=True)
class Single:
    """`losses` by step, from 1; `rate` in tokens per second, `cpu_seconds` of a token, without step 1."""

    losses: dict[int, float]
    rate: float
    cpu_seconds: float

    @classmethod
    def of(cls, events: list[Event], step_tokens: int) -> Single:
        first, last = events[0], events[-1]
        losses = {event["step"]: event["loss"] for event in events}
        tokens = step_tokens * (len(events) - 1)
        if not tokens:
            return cls(losses, math.nan, math.nan)
        rate = tokens / (last["time"] - first["time"])
        return cls(losses, rate, (last["cpu_seconds"] - first["cpu_seconds"]) / tokens)


async def train_steps(stage: Stage, sizes: Sizes, steps: int) -> Single:
    """One process, for so many steps. Raises SeshuError."""
    (single,) = await _train(stage, sizes, count=1, steps=steps, seconds=0.0)
    return single


async def train_for(stage: Stage, sizes: Sizes, seconds: float, *, count: int) -> list[Single]:
    """Side by side, for so long and a few steps at least. Raises SeshuError."""
    return await _train(stage, sizes, count=count, steps=LEAST_STEPS, seconds=seconds)


async def _train(
    stage: Stage, sizes: Sizes, *, count: int, steps: int, seconds: float
) -> list[Single]:
    folder, seed = stage.new_folder(), stage.settings.seed
    base = fresh_base(folder / "base", sizes, seed)
    text = write_text(folder / "text.jsonl", seed)
    arguments = ["alone", "--base", str(base.folder), "--data", str(text), "--seed", str(seed)]
    arguments += sizes.alone_flags()
    children = Children(folder / "logs", lambda name, event: None)
    try:
        names = [f"alone {number}" for number in range(count)]
        alone = [await children.start(name, PIPELINE, arguments) for name in names]
        for child in alone:
            await _until(child, 1)
        await asyncio.sleep(seconds)
        for child in alone:
            await _until(child, steps)
        return [Single.of(_steps(child), sizes.step_tokens) for child in alone]
    finally:
        await children.end()


async def _until(child: Child, step: int) -> None:
    while (done := len(_steps(child))) < step:
        await child.wait_for("step", seconds=STEP_SECONDS, matching=lambda e: e["step"] > done)


def _steps(child: Child) -> list[Event]:
    return [event for event in child.events if event["event"] == "step"]
