"""Requests while peers come and go: every ten seconds one of the hosts is killed and started again.

A host is only killed while others have all of its blocks: the swarm has two replicas of each span. A
request is complete when all its tokens came and are those of the whole model.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.swarm.model import RandomModel, prompt
from seshu_swarm.bench.swarm.user import User
from seshu_swarm.bench.swarm.village import Village
from seshu_swarm.errors import PeerError
from seshu_swarm.program.reports import Result

logger = logging.getLogger(__name__)

NUM_USERS = 4
CHURN_SECONDS = 60.0
KILL_SECONDS = 10.0
PROMPT_TOKENS, REQUEST_TOKENS = 64, 256


def seconds_of(settings: BenchConfig) -> float:
    return CHURN_SECONDS if settings.churn_seconds is None else settings.churn_seconds


async def measure(
    settings: BenchConfig, village: Village, user: User, model: RandomModel
) -> dict[str, Result]:
    ids = [prompt(PROMPT_TOKENS, settings.seed + number) for number in range(NUM_USERS)]
    expected = [
        await asyncio.to_thread(model.continuation, each, 1 + REQUEST_TOKENS) for each in ids
    ]
    until = time.monotonic() + seconds_of(settings)
    async with _churning(village, Random(settings.seed)) as kills:
        asking = (
            _ask(user, given, wanted, until) for given, wanted in zip(ids, expected, strict=True)
        )
        outcomes = [found for each in await asyncio.gather(*asking) for found in each]
    return {
        "requests_completed_under_churn": sum(outcomes) / len(outcomes),
        "requests_under_churn": len(outcomes),
        "kills_under_churn": len(kills),
    }


async def _ask(user: User, ids: list[int], expected: list[int], until: float) -> list[bool]:
    """One request after another; whether each was complete."""
    outcomes = []
    while time.monotonic() < until:
        outcomes.append(await is_complete(user, ids, expected))
    return outcomes


async def is_complete(user: User, ids: list[int], expected: list[int]) -> bool:
    """Whether a fresh session answers `ids` with all the expected tokens; if not, why is logged."""
    talk = user.talk()
    try:
        await talk.read(ids)
        await talk.go_on(len(expected) - 1)
    except PeerError as error:
        logger.error("a request ended after %d tokens: %s", len(talk.ids), error)
    else:
        if talk.ids != expected:
            logger.error("a request was answered with wrong tokens")
    finally:
        await talk.close()
    return talk.ids == expected


@asynccontextmanager
async def _churning(village: Village, rng: Random) -> AsyncIterator[list[str]]:
    """Names of the hosts killed so far. Afterwards every host is up again."""
    kills: list[str] = []
    down: dict[str, asyncio.Task[float]] = {}
    churning = asyncio.create_task(_churn(village, rng, kills, down))
    try:
        yield kills
    finally:
        churning.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await churning
        await asyncio.gather(*down.values())


async def _churn(
    village: Village, rng: Random, kills: list[str], down: dict[str, asyncio.Task[float]]
) -> None:
    while True:
        await asyncio.sleep(KILL_SECONDS)
        for name in [name for name, task in down.items() if task.done()]:
            await down.pop(name)
        victim = rng.choice(village.spare_hosts(down))
        kills.append(victim.name)
        victim.child.kill()
        down[victim.name] = asyncio.create_task(victim.start())
