"""Links like home without any fault: what a token takes, and peers that were given up for nothing."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.swarm.model import prompt
from seshu_swarm.bench.swarm.summary import Times
from seshu_swarm.bench.swarm.user import User
from seshu_swarm.program.reports import Result

NUM_SESSIONS = 8
PROMPT_TOKENS = 64
HOUR_SECONDS = 3_600.0


@dataclass(frozen=True)
class Watched:
    """One session: seconds of each of its tokens, and of the whole watch; peers it gave up."""

    token_seconds: tuple[float, ...]
    seconds: float
    num_failovers: int


async def measure(settings: BenchConfig, user: User) -> dict[str, Result]:
    """Sessions side by side for `calm_seconds`."""
    numbers = range(NUM_SESSIONS)
    watching = (_watch(user, prompt(PROMPT_TOKENS, n), settings.calm_seconds) for n in numbers)
    return results_of(await asyncio.gather(*watching))


async def _watch(user: User, ids: list[int], seconds: float) -> Watched:
    talk = user.talk()
    await talk.read(ids)
    began = time.monotonic()
    waits: list[float] = []
    while time.monotonic() - began < seconds:
        waits.append((await talk.next()).seconds)
    watched = Watched(tuple(waits), time.monotonic() - began, talk.num_failovers)
    await talk.close()
    return watched


def results_of(watched: list[Watched]) -> dict[str, Result]:
    """Failovers in an hour of one session; of few hours they say little."""
    times = Times.of([seconds for one in watched for seconds in one.token_seconds])
    hours = sum(one.seconds for one in watched) / HOUR_SECONDS
    failovers = sum(one.num_failovers for one in watched)
    return {
        "token_ms_p50": times.p50_ms,
        "token_ms_p99": times.p99_ms,
        "session_hours_watched": hours,
        "false_failovers": failovers,
        "false_failovers_per_hour": failovers / hours,
    }
