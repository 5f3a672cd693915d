"""Sessions of one client, all at once: warm, then timed from a signal on.

Its event `done` brings moments of time.perf_counter, which all processes of a machine share, and how
long a token took.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from pathlib import Path

import torch

from seshu_swarm.bench.swarm.model import prompt
from seshu_swarm.bench.swarm.summary import Times
from seshu_swarm.bench.swarm.talk import Talk
from seshu_swarm.bench.swarm.user import User
from seshu_swarm.bench.users.config import UsersConfig
from seshu_swarm.network.daemon import Listen
from seshu_swarm.program import log, running
from seshu_swarm.program.running import Stop

PROMPT_TOKENS = 32
WARM_UP_TOKENS = 20


def run(settings: UsersConfig) -> int:
    """Raises SeshuError."""
    torch.set_num_threads(1)
    if not settings.verbose:
        logging.getLogger("seshu_swarm").setLevel(logging.ERROR)
    return running.run(lambda stop: talk(settings, stop))


async def talk(settings: UsersConfig, stop: Stop) -> int:
    listen = Listen(settings.host, settings.port, settings.announce or None)
    user = await User.join(settings.join, Path(settings.state_dir), listen)
    try:
        talks = [user.talk() for _ in range(settings.sessions)]
        warming = (_warm_up(each, settings.seed + n) for n, each in enumerate(talks))
        await asyncio.gather(*warming)
        if await _is_told(stop):
            await _generate(talks, settings.tokens)
        await asyncio.gather(*(each.close() for each in talks))
    finally:
        await user.leave()
    return 0


async def _warm_up(each: Talk, seed: int) -> None:
    await each.read(prompt(PROMPT_TOKENS, seed))
    await each.go_on(WARM_UP_TOKENS)


async def _is_told(stop: Stop) -> bool:
    """Until the word is given; False when there is nobody left to give it."""
    word = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, word.set)
    running.settle()
    log.event("ready", "ready")
    await running.first_to_end(_wait(word), stop.wait())
    return word.is_set()


async def _wait(word: asyncio.Event) -> None:
    await word.wait()


async def _generate(talks: list[Talk], num_tokens: int) -> None:
    began = time.perf_counter()
    told = await asyncio.gather(*(each.go_on(num_tokens) for each in talks))
    ended = time.perf_counter()
    times = Times.of([token.seconds for each in told for token in each])
    facts = {"p50_ms": times.p50_ms, "p99_ms": times.p99_ms}
    log.event("done", "done", began=began, ended=ended, **facts)
