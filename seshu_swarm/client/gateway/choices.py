"""The choices of one request: each in a session of its own, as many at once as there is room.

The request came with one slot; its further choices take free slots, and wait their turn otherwise.
A choice's session is closed when the choice ends, however it ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from seshu_swarm.client.gateway.generation import Generation
from seshu_swarm.client.gateway.journey import Journey, Json
from seshu_swarm.client.gateway.limits import Slots
from seshu_swarm.client.gateway.metrics import Metrics
from seshu_swarm.client.gateway.text import Piece, Writer
from seshu_swarm.client.gateway.wanted import Wanted
from seshu_swarm.client.remote.model import RemoteModel
from seshu_swarm.client.remote.token_session import Roll, TokenSession

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 2.0


@dataclass(frozen=True)
class Ending:
    """How a choice ended: at its own end or a stop sequence (`stop`), or at `length`; who carried it."""

    finish_reason: str
    journey: Json


@dataclass(frozen=True)
class OnTheWay:
    """Who carries a choice now, and what happened since this was said last."""

    news: Json


Emit = Callable[[int, Piece | OnTheWay | Ending], Awaitable[None]]


@dataclass
class Use:
    """What a request used up, while it runs; and the revision that answers it now."""

    began: float  # time.perf_counter()
    revision: str
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Runner:
    """Where choices run."""

    model: RemoteModel
    slots: Slots
    metrics: Metrics
    step_seconds: float

    async def run(self, choices: Sequence[Wanted], use: Use, emit: Emit) -> None:
        """Run all choices in the caller's slot and in free ones. Raises the first failure."""
        waiting = iter(enumerate(choices))
        extra = [self._in_extra_slot(waiting, use, emit) for _ in choices[1:]]
        try:
            async with asyncio.TaskGroup() as group:
                for worker in (self._work(waiting, use, emit), *extra):
                    group.create_task(worker)
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _in_extra_slot(
        self, waiting: Iterator[tuple[int, Wanted]], use: Use, emit: Emit
    ) -> None:
        if not self.slots.try_take():
            return
        try:
            await self._work(waiting, use, emit)
        finally:
            self.slots.give_back()

    async def _work(self, waiting: Iterator[tuple[int, Wanted]], use: Use, emit: Emit) -> None:
        for index, wanted in waiting:
            await self._choice(index, wanted, use, emit)

    async def _choice(self, index: int, wanted: Wanted, use: Use, emit: Emit) -> None:
        def on_roll(roll: Roll) -> None:
            use.revision = roll.revision
            self.metrics.rolls.inc()
            logger.info("choice %d: %s", index, roll)

        session = TokenSession(self.model, self.step_seconds, on_roll=on_roll)
        self.metrics.sessions.inc()
        try:
            ending = await self._generate(index, session, wanted, use, emit)
        finally:
            self.metrics.sessions.dec()
            self.metrics.recoveries.inc(len(session.recoveries))
            await _close(session)
        await emit(index, ending)

    async def _generate(
        self, index: int, session: TokenSession, wanted: Wanted, use: Use, emit: Emit
    ) -> Ending:
        generation, journey = Generation(session, wanted), Journey(session)
        writer = Writer(wanted.stop)
        # Counted before the work: a prompt costs the same when its client leaves on the way.
        use.prompt_tokens += len(wanted.prompt_ids)
        self.metrics.prompt_tokens.inc(len(wanted.prompt_ids))
        async for echoed in generation.prompt():
            await emit(index, writer.echo(echoed))
        logger.debug("choice %d runs over %s", index, " → ".join(generation.peers))
        async for token in generation.new():
            if not use.completion_tokens:
                self.metrics.first_token_seconds.observe(time.perf_counter() - use.began)
            use.completion_tokens += 1
            self.metrics.completion_tokens.inc()
            if (news := journey.news()) is not None:
                await emit(index, OnTheWay(news))
            await _emit_some(index, writer.push(token), emit)
            if writer.is_stopped:
                break
        await _emit_some(index, writer.finish(), emit)
        is_whole = generation.is_ended or writer.is_stopped
        return Ending("stop" if is_whole else "length", journey.whole())


async def _emit_some(index: int, piece: Piece, emit: Emit) -> None:
    if piece.text or piece.tokens:
        await emit(index, piece)


async def _close(session: TokenSession) -> None:
    """Its peers are told at once; one that does not hear it forgets the session later."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await session.close()
    except Exception as error:  # the answer is finished or lost already
        logger.debug("closing a session: %r", error)
