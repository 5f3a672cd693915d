"""A hosting peer that trains: a stage of the plan that is open when it comes, and of those opened later.

It enlists before it chooses blocks to host, and hosts those of its stage; of a later plan it takes a stage
beside what it hosts by then. A peer that no stage can be given to hosts, and nothing more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any

from seshu_swarm.errors import PeerError, UsageError
from seshu_swarm.peer import memory
from seshu_swarm.peer.config import HostConfig
from seshu_swarm.peer.guest import Guest
from seshu_swarm.peer.host import HostingPeer
from seshu_swarm.peer.lending import lend
from seshu_swarm.peer.training.stage import Stage, spans_of
from seshu_swarm.pipeline.protocol.groups import AVERAGES, STATES
from seshu_swarm.pipeline.protocol.passes import PASSES
from seshu_swarm.program import log
from seshu_swarm.program.running import Stop
from seshu_swarm.records.kinds import TrainingRecord
from seshu_swarm.run.joining import Joined
from seshu_swarm.run.training_plan import find_training
from seshu_swarm.spans import Span
from seshu_swarm.streams.channel import Channel, refusal
from seshu_swarm.streams.protocol import Refusal

logger = logging.getLogger(__name__)

LOOK_SECONDS = 30.0
# How long the last weights of a plan can still be fetched here when it is over.
KEPT_SECONDS = 600.0


def run(settings: HostConfig) -> int:
    """`peer host`."""

    async def host(joined: Joined, guest: Guest, stop: Stop) -> bool:
        await hold(joined, settings, guest, stop, await find_training(joined))
        return True

    return lend(settings, host)


async def hold(
    joined: Joined, settings: HostConfig, guest: Guest, stop: Stop, record: TrainingRecord | None
) -> None:
    """Host blocks, and train a stage of each plan; `record` is the one that is open now.

    Raises UsageError for blocks that are no stage of it, and what `HostingPeer.live` raises.
    """
    hosting = HostingPeer(joined, settings, guest)
    stages = Stages(joined, settings.blocks, guest, hosting.computing)
    if record is not None:
        await stages.take(record, stop)
    hosting.facts = stages.facts
    await asyncio.gather(hosting.live(stop, span=stages.span), stages.live(stop))


def stage_asked(blocks: str | None, record: TrainingRecord) -> int | None:
    """The stage that `--blocks` are; None for the one that the conductor finds lacking."""
    if blocks is None:
        return None
    span, stages = Span.parse(blocks), spans_of(record)
    if span not in stages:
        raise UsageError(
            f"--blocks {span} in a run that pretrains",
            rule=f"its stages are {', '.join(map(str, stages))}",
            way_out="name one of them, or leave --blocks out: the stage that lacks peers most",
        )
    return stages.index(span)


class Stages:
    """One after another: at any time this peer has a stage of one plan, or none."""

    def __init__(
        self, joined: Joined, blocks: str | None, guest: Guest, computing: Executor
    ) -> None:
        self._joined, self._blocks = joined, blocks
        self._guest, self._computing = guest, computing
        self._stage: Stage | None = None
        self._known = set[str]()
        self._spent_bytes = 0

    @property
    def span(self) -> Span | None:
        return self._stage.span if self._stage is not None else None

    def facts(self) -> dict[str, Any]:
        """For the owner's status."""
        return self._stage.facts() if self._stage is not None else {}

    async def take(self, record: TrainingRecord, stop: Stop) -> bool:
        """Whether it has a stage of this plan now. Raises UsageError."""
        self._known.add(record.plan)
        asked = stage_asked(self._blocks, record)
        stage = Stage(self._joined, record, self._guest, self._computing)
        if await stage.enlist(asked, stop):
            self._stage = stage
        return self._stage is stage

    async def live(self, stop: Stop) -> None:
        """Train until `stop`, plan after plan."""
        for name, handler in (
            (PASSES, self._handler(Stage.serve_passes)),
            (AVERAGES, self._handler(Stage.serve_averages)),
            (STATES, self._handler(Stage.serve_states)),
        ):
            await self._joined.swarm.serve(name, handler)
        while not stop.is_set():
            if self._stage is not None:
                await self._stage.live(stop)
                self._note_spent(self._stage)
            await self._until_another(stop)

    async def _until_another(self, stop: Stop) -> None:
        loop = asyncio.get_running_loop()
        kept_until = loop.time() + KEPT_SECONDS
        while await stop.sleep(LOOK_SECONDS):
            record = await self._look()
            if record is not None or loop.time() > kept_until:
                self._let_go()
            if record is not None and await self._take_later(record, stop):
                return

    def _note_spent(self, stage: Stage) -> None:
        if stage.is_spent:
            self._spent_bytes = self._guest.uploaded_bytes
            self._known.discard(stage.plan)

    async def _look(self) -> TrainingRecord | None:
        """A plan that this peer does not know; no sooner than there is upload for it."""
        if 0 < self._spent_bytes <= self._guest.uploaded_bytes:
            return None
        self._spent_bytes = 0
        try:
            record = await find_training(self._joined)
        except PeerError as error:
            logger.warning("cannot look for a plan of training: %s", error)
            return None
        return record if record is not None and record.plan not in self._known else None

    async def _take_later(self, record: TrainingRecord, stop: Stop) -> bool:
        """Blocks that are no stage of a later plan are hosted on, whatever they are."""
        try:
            return await self.take(record, stop)
        except UsageError as error:
            log.event("stage", f"hosting only, without a stage: {error}", reason=str(error))
            return False

    def _let_go(self) -> None:
        if self._stage is not None:
            self._stage.let_go()
            self._stage = None
            memory.give_back()

    def _handler(
        self, serve: Callable[[Stage, Channel], Awaitable[None]]
    ) -> Callable[[Channel], Awaitable[None]]:
        async def handler(channel: Channel) -> None:
            if self._stage is None:
                raise refusal(Refusal.NOT_TRAINING, "this peer has no stage")
            await serve(self._stage, channel)

        return handler
