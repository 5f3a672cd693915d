"""Processes that train the whole model, each for itself (`alone`)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from seshu_swarm.bench.pipeline.forks import PIPELINE
from seshu_swarm.bench.pipeline.sizes import Sizes, fresh_base, write_text
from seshu_swarm.bench.swarm.playing import Stage
from seshu_swarm.program.children import Child, Children, Event

STEP_SECONDS = 120.0
# Of microbatches, after the first, which is not measured.
LEAST = 4


@dataclass(frozen=True)
class Single:
    """`losses` by step, from 1; `rate` in tokens per second, `cpu_seconds` of a token."""

    losses: dict[int, float]
    rate: float
    cpu_seconds: float

    @classmethod
    def of(cls, events: list[Event], tokens: int) -> Single:
        """`tokens`: of a microbatch."""
        losses = {event["step"]: event["loss"] for event in events if event["event"] == "step"}
        told = [event for event in events if event["event"] == "microbatch"]
        tokens *= len(told) - 1
        if tokens <= 0:
            return cls(losses, math.nan, math.nan)
        first, last = told[0], told[-1]
        rate = tokens / (last["time"] - first["time"])
        return cls(losses, rate, (last["cpu_seconds"] - first["cpu_seconds"]) / tokens)


async def train_steps(stage: Stage, sizes: Sizes, steps: int) -> Single:
    """One process, for so many steps. Raises SeshuError."""
    async with _training(stage, sizes, 1) as (alone,):
        await _until(alone, "step", steps)
        return Single.of(alone.events, sizes.microbatch_tokens)


async def train_for(stage: Stage, sizes: Sizes, seconds: float, *, count: int) -> list[Single]:
    """Side by side, for so long and a few microbatches at least. Raises SeshuError."""
    async with _training(stage, sizes, count) as alone:
        for child in alone:
            await _until(child, "microbatch", 1)
        await asyncio.sleep(seconds)
        for child in alone:
            await _until(child, "microbatch", LEAST)
        return [Single.of(child.events, sizes.microbatch_tokens) for child in alone]


@asynccontextmanager
async def _training(stage: Stage, sizes: Sizes, count: int) -> AsyncIterator[list[Child]]:
    folder, seed = stage.new_folder(), stage.settings.seed
    base = fresh_base(folder / "base", sizes, seed)
    text = write_text(folder / "text.jsonl", seed)
    arguments = ["alone", "--base", str(base.folder), "--data", str(text), "--seed", str(seed)]
    arguments += sizes.alone_flags()
    children = Children(folder / "logs", lambda name, event: None)
    try:
        names = [f"alone {number}" for number in range(count)]
        yield [await children.start(name, PIPELINE, arguments) for name in names]
    finally:
        await children.end()


async def _until(child: Child, name: str, count: int) -> None:
    """Until there are so many events of that name."""

    def known() -> list[Event]:
        return [event for event in child.events if event["event"] == name]

    while (found := known())[count - 1 :] == []:
        await child.wait_for(name, seconds=STEP_SECONDS, matching=lambda e: e not in found)
