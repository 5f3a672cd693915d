"""Links like home without any fault: what a token takes, and peers that were given up for nothing."""

from __future__ import annotations

import time

from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.swarm.model import prompt
from seshu_swarm.bench.swarm.summary import Times
from seshu_swarm.bench.swarm.talk import Token
from seshu_swarm.bench.swarm.user import User
from seshu_swarm.reports import Result

PROMPT_TOKENS = 64
HOUR_SECONDS = 3_600.0


async def measure(settings: BenchConfig, user: User) -> dict[str, Result]:
    """One session for `calm_seconds`; failovers counted up to an hour."""
    talk = user.talk()
    await talk.read(prompt(PROMPT_TOKENS, settings.seed))
    began = time.monotonic()
    tokens: list[Token] = []
    while time.monotonic() - began < settings.calm_seconds:
        tokens.append(await talk.next())
    seconds = time.monotonic() - began
    failovers = talk.num_failovers
    await talk.close()
    times = Times.of([token.seconds for token in tokens])
    return {
        "token_ms_p50": times.p50_ms,
        "token_ms_p99": times.p99_ms,
        "false_failovers_per_hour": failovers * HOUR_SECONDS / seconds,
    }
