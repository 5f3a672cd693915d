"""Peers that leave politely under live sessions: each is asked to end, and comes back.

A peer that ends hands its sessions over to its twin; no session may fail and no token may change.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from random import Random

from seshu_swarm import frames
from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.swarm.churn import is_complete
from seshu_swarm.bench.swarm.model import RandomModel, prompt
from seshu_swarm.bench.swarm.summary import Times
from seshu_swarm.bench.swarm.user import User
from seshu_swarm.bench.swarm.village import Village
from seshu_swarm.reports import Result

NUM_SESSIONS = 20
PROMPT_TOKENS, SESSION_TOKENS = 32, 128
END_SECONDS = 30.0


async def measure(
    settings: BenchConfig, village: Village, user: User, model: RandomModel
) -> dict[str, Result]:
    """`settings.drains` times, one after another; sessions go on and on meanwhile."""
    ids = prompt(PROMPT_TOKENS, settings.seed)
    expected = await asyncio.to_thread(model.continuation, ids, 1 + SESSION_TOKENS)
    draining = asyncio.create_task(_drain_all(village, user, settings.drains, settings.seed))
    try:
        asking = (_ask_while(draining, user, ids, expected) for _ in range(NUM_SESSIONS))
        outcomes = [found for each in await asyncio.gather(*asking) for found in each]
        ends = await draining
    finally:
        draining.cancel()
    times = Times.of([end.seconds for end in ends])
    return {
        "drains": len(ends),
        "drains_cut_short": sum(end.exit_code != 0 for end in ends),
        "drain_ms_p50": times.p50_ms,
        "drain_ms_p99": times.p99_ms,
        "sessions_under_drains": len(outcomes),
        "sessions_failed_under_drains": outcomes.count(False),
    }


async def _ask_while(
    draining: asyncio.Task[list[End]], user: User, ids: list[int], expected: list[int]
) -> list[bool]:
    outcomes = []
    while not draining.done():
        outcomes.append(await is_complete(user, ids, expected))
    return outcomes


@dataclass(frozen=True)
class End:
    """Of a peer that was asked to leave: seconds until it had, and 0 if it left in order."""

    seconds: float
    exit_code: int


async def _drain_all(village: Village, user: User, number: int, seed: int) -> list[End]:
    rng = Random(seed)
    return [await _drain(village, user, rng) for _ in range(number)]


async def _drain(village: Village, user: User, rng: Random) -> End:
    host = rng.choice(village.hosts)
    began = time.perf_counter()
    host.child.terminate()
    code = await frames.within(END_SECONDS, host.child.process.wait(), f"{host.name} to leave")
    end = End(time.perf_counter() - began, code)
    await host.start()
    await user.reach(host.peer_id)
    return end
