"""Life of a stage's replica: it holds the blocks that it hosts in training too, beside the hosting peer.

What is served are the blocks of the published revision, what is trained are the newest; both take
their turns in one computing thread. A peer that no stage can be given to, and one whose plan is over,
hosts and nothing more. So does one that cannot hold a stage, and says so before it loads anything.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any, cast

from seshu_swarm import checkpoints, log, running
from seshu_swarm.channel import Channel, refusal
from seshu_swarm.errors import (
    DeadlineError,
    MemoryLimitError,
    PeerError,
    PeerLostError,
    ProtocolError,
    UsageError,
)
from seshu_swarm.joining import Joined
from seshu_swarm.mamba.span_module import SpanModule
from seshu_swarm.peer import memory
from seshu_swarm.peer.config import HostConfig
from seshu_swarm.peer.guest import Guest
from seshu_swarm.peer.host import HostingPeer
from seshu_swarm.peer.lending import lend
from seshu_swarm.peer.served import bytes_to_host
from seshu_swarm.peer.training.member import Member
from seshu_swarm.peer.training.stage_service import StageService, bytes_of_pass
from seshu_swarm.peer.training.weights import TrainedPart
from seshu_swarm.pipeline.protocol import AVERAGES, PASSES, STATES
from seshu_swarm.protocol import Refusal
from seshu_swarm.records import TrainingRecord
from seshu_swarm.references import Reference
from seshu_swarm.running import Stop
from seshu_swarm.spans import Span
from seshu_swarm.training_plan import find_training

logger = logging.getLogger(__name__)

ENLIST_SECONDS = 30.0
AGAIN_SECONDS = 1.0
REPORT_SECONDS = 5.0
# How long the last weights of a plan can still be fetched here when it is over.
KEPT_SECONDS = 600.0
# Weights, the gradients of a step and AdamW's two moments; two more while they are averaged; and the
# blocks that are hosted beside, which are loaded next.
COPIES = 7


def run(settings: HostConfig) -> int:
    """`peer host`."""

    async def host(joined: Joined, guest: Guest, stop: Stop) -> bool:
        await hold(joined, settings, guest, stop, await find_training(joined))
        return True

    return lend(settings, host)


async def hold(
    joined: Joined, settings: HostConfig, guest: Guest, stop: Stop, record: TrainingRecord | None
) -> None:
    """Host blocks, and in a run that pretrains take the stage that they are.

    Raises UsageError for blocks that are no stage, and what `HostingPeer.live` raises.
    """
    hosting = HostingPeer(joined, settings, guest)
    if record is None:
        await hosting.live(stop)
        return
    asked = stage_asked(settings.blocks, record)
    stage = Stage(joined, record, guest, hosting.computing)
    if not await stage.enlist(asked, stop):
        await hosting.live(stop)
        return
    hosting.facts = stage.facts
    await asyncio.gather(hosting.live(stop, span=stage.span), stage.live(stop))


def spans_of(record: TrainingRecord) -> list[Span]:
    """The blocks of each stage."""
    return [Span(*pair) for pair in zip(record.boundaries, record.boundaries[1:], strict=False)]


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


class Stage:
    """A member of a stage, and its streams. `span` is there once it is enlisted."""

    span: Span

    def __init__(
        self, joined: Joined, record: TrainingRecord, guest: Guest, computing: Executor
    ) -> None:
        self._joined, self._record, self._guest = joined, record, guest
        self._computing = computing
        self._spans = spans_of(record)
        self._member: Member | None = None
        self._service: StageService | None = None
        self._reported_step = 0

    async def enlist(self, asked: int | None, stop: Stop) -> bool:
        """Whether the conductor took this peer; if not, the owner is told why."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ENLIST_SECONDS
        while not stop.is_set():
            try:
                await self._enlist(asked)
            except (PeerLostError, DeadlineError) as error:
                if loop.time() > deadline:
                    return _takes_none(error)
                logger.info("the conductor is away: %s", error)
                await stop.sleep(AGAIN_SECONDS)
            except (PeerError, MemoryLimitError) as error:
                return _takes_none(error)
            else:
                return True
        return False

    async def live(self, stop: Stop) -> None:
        """Until `stop`, or until the plan is over and its last weights were there for a while."""
        member, service = self._member, self._service
        assert member is not None and service is not None
        for name, handler in (
            (PASSES, self._serve_passes),
            (AVERAGES, self._with_member(Member.serve_averages)),
            (STATES, self._with_member(Member.serve_states)),
        ):
            await self._joined.swarm.serve(name, handler)
        reporting = running.repeat(stop, REPORT_SECONDS, self._report)
        try:
            await running.first_to_end(member.live(stop), reporting)
        except Exception as error:
            # As for want of memory. Those who use what is hosted here are not to lose it.
            logger.exception("training stage %d", member.group)
            self._service = self._member = None
            member.let_go()
            log.event("stage", f"hosting only, training failed: {error}", reason=str(error)[:300])
            return
        if stop.is_set():
            service.is_draining = True
            return
        self._service = None
        await self._say_over(member)
        del service
        await stop.sleep(KEPT_SECONDS)
        self._member = None
        member.let_go()
        memory.give_back()

    async def _say_over(self, member: Member) -> None:
        """With what the owners of one stage can compare."""
        loop = asyncio.get_running_loop()
        digest = await loop.run_in_executor(self._computing, member.part.digest)
        log.event(
            "stage",
            f"the training is over: hosting on (weights {digest[:12]})",
            stage=member.group,
            is_over=True,
            step=member.ledger.version.step,
            digest=digest,
        )

    def facts(self) -> dict[str, Any]:
        """For the owner's status."""
        if self._member is None or self._service is None:
            return {}
        return {
            "role": "stage",
            "stage": self._member.group,
            "step": max(0, self._member.ledger.version.step),
            "microbatches": self._service.num_counted,
        }

    async def _enlist(self, asked: int | None) -> None:
        swarm = self._joined.swarm
        member = Member(
            swarm,
            name=f"{swarm.peer_id}#{secrets.token_hex(4)}",
            record=self._record,
            part_of=self._load,
            conductor=self._joined.coordinator,
            executor=self._computing,
        )
        await member.enlist(is_trainer=False, group=asked)
        self._service = StageService(
            member,
            self._record,
            module=cast(SpanModule, member.part.module),
            parameters=member.part.parameters,
            guest=self._guest,
            computing=self._computing,
        )
        self._member, self.span = member, self._spans[member.group]
        text = f"stage {member.group}: training blocks {self.span} as {member.name}"
        blocks = str(self.span)
        log.event("stage", text, stage=member.group, blocks=blocks, member=member.name)

    async def _load(self, group: int) -> TrainedPart:
        """The stage's blocks of the plan's base. Raises MemoryLimitError before it loads them."""
        if group >= len(self._spans):
            raise ProtocolError(f"stage {group}", rule=f"the plan has {len(self._spans)} stages")
        record, span = self._record, self._spans[group]
        folder = self._joined.package_folder(record.base)
        names = checkpoints.files_for_span(span)
        await self._joined.store.fetch(Reference.of_swarm(record.base), folder, names)
        shape = checkpoints.read_shape(folder)
        num_bytes = COPIES * bytes_to_host(folder, span) + bytes_of_pass(shape, span, record)
        self._guest.need_memory(num_bytes, f"training blocks {span}")
        module = await asyncio.to_thread(checkpoints.load_span, folder, span)
        return TrainedPart(module, record)

    async def _serve_passes(self, channel: Channel) -> None:
        if self._service is None:
            raise refusal(Refusal.NOT_TRAINING, "the plan is over")
        await self._service.serve(channel)

    def _with_member(
        self, serve: Callable[[Member, Channel], Awaitable[None]]
    ) -> Callable[[Channel], Awaitable[None]]:
        async def handler(channel: Channel) -> None:
            if self._member is None:
                raise refusal(Refusal.NOT_TRAINING, "the plan is over")
            await serve(self._member, channel)

        return handler

    async def _report(self) -> None:
        facts = self.facts()
        if facts and facts["step"] != self._reported_step:
            self._reported_step = facts["step"]
            text = "stage {stage}: step {step}, {microbatches} microbatches counted"
            log.event("step", text.format(**facts), **facts)


def _takes_none(error: Exception) -> bool:
    log.event("stage", f"hosting only, without a stage: {error}", reason=str(error))
    return False
