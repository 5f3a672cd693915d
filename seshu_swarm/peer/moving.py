"""When a hosting peer moves to other blocks: by itself where the swarm is weak, or when it is told to."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
from collections.abc import Awaitable, Callable

from seshu_swarm.errors import SeshuError
from seshu_swarm.peer.rebalancing import WORTH_MOVING, Load, better_span
from seshu_swarm.program import log
from seshu_swarm.program.running import Stop
from seshu_swarm.run.joining import Joined
from seshu_swarm.spans import Span

logger = logging.getLogger(__name__)

ANYWHERE = float("inf")


class Mover:
    """Calls `move` with better blocks every `seconds` or so (0: never), and with any others that may be
    left when the process gets SIGUSR1."""

    def __init__(
        self, joined: Joined, *, seconds: float, move: Callable[[Span], Awaitable[None]]
    ) -> None:
        self._joined, self._seconds, self._move = joined, seconds, move
        self._rng = random.Random(joined.swarm.peer_id)
        self._told = asyncio.Event()
        # From here on: until it has a handler, the signal ends the process.
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._told.set)

    async def live(self, stop: Stop) -> None:
        while not stop.is_set():
            # Not all peers at once, lest they all see the same gap and fill it.
            seconds = self._seconds * self._rng.uniform(0.5, 1.5)
            was_told = await _either(stop, self._told, seconds)
            self._told.clear()
            if stop.is_set():
                return
            try:
                await self._move_if_better(ANYWHERE if was_told else WORTH_MOVING)
            except SeshuError as error:
                logger.warning("not moving: %s", error)

    async def _move_if_better(self, worth_moving: float) -> None:
        run, me = self._joined.run, self._joined.swarm.peer_id
        found = await self._joined.swarm.spans(run.num_blocks)
        hosts = {f.owner: f.record for f in found if not f.record.is_draining}
        loads = [Load(p, Span(r.start, r.end), r.step_seconds) for p, r in hosts.items()]
        span = better_span(loads, me, run.num_blocks, self._rng, worth_moving=worth_moving)
        if span is not None:
            await self._move(span)
        elif worth_moving == ANYWHERE:
            log.event("stayed", "staying: nobody else hosts these blocks")


async def _either(stop: Stop, told: asyncio.Event, seconds: float) -> bool:
    """Whether it was told, within these seconds or until the stop; 0 seconds: wait for either."""
    waiting = [asyncio.create_task(stop.wait()), asyncio.create_task(told.wait())]
    try:
        await asyncio.wait(waiting, timeout=seconds or None, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
    return told.is_set()
