"""Life of a stage's replica, beside the hosting peer.

What is served are the blocks of the published revision, what is trained are the newest; both take
their turns in one computing thread. A peer that cannot hold a stage says so before it loads anything.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from concurrent.futures import Executor
from typing import Any, cast

from seshu_swarm import checkpoints
from seshu_swarm.errors import (
    DeadlineError,
    MemoryLimitError,
    PeerError,
    PeerLostError,
    ProtocolError,
)
from seshu_swarm.mamba.span_module import SpanModule
from seshu_swarm.peer.guest import Guest
from seshu_swarm.peer.served import bytes_to_host
from seshu_swarm.peer.training.member import Member
from seshu_swarm.peer.training.stage_service import StageService, bytes_of_pass
from seshu_swarm.peer.training.weights import TrainedPart
from seshu_swarm.program import log, running
from seshu_swarm.program.running import Stop
from seshu_swarm.records.kinds import TrainingRecord
from seshu_swarm.run.joining import Joined
from seshu_swarm.spans import Span
from seshu_swarm.stores.references import Reference
from seshu_swarm.streams.channel import Channel, refusal
from seshu_swarm.streams.protocol import Refusal

logger = logging.getLogger(__name__)

ENLIST_SECONDS = 30.0
AGAIN_SECONDS = 1.0
REPORT_SECONDS = 5.0
# Weights, the gradients of a step and AdamW's two moments; two more while they are averaged; and the
# blocks that are hosted beside, which are loaded next.
COPIES = 7


def spans_of(record: TrainingRecord) -> list[Span]:
    """The blocks of each stage."""
    return [Span(*pair) for pair in zip(record.boundaries, record.boundaries[1:], strict=False)]


class Stage:
    """A member of a stage, and its streams. `span` is there once it is enlisted. `is_spent`: it left because
    today's upload was used up."""

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
        self.is_spent = False

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
        """Until `stop`, or until the plan is over; its last weights are there until `let_go`."""
        member, service = self._member, self._service
        assert member is not None and service is not None
        reporting = running.repeat(stop, REPORT_SECONDS, self._report)
        try:
            await running.first_to_end(member.live(stop), reporting, self._until_spent(member))
        except Exception as error:
            # As for want of memory. Those who use what is hosted here are not to lose it.
            logger.exception("training stage %d", member.group)
            self.let_go()
            log.event("stage", f"hosting only, training failed: {error}", reason=str(error)[:300])
            return
        if stop.is_set():
            service.is_draining = True
            return
        if self.is_spent:
            self.let_go()
            reason = f"{Refusal.UPLOAD_LIMIT.name}: {self._guest.limits}"
            log.event("stage", f"hosting only until tomorrow: {reason}", reason=reason)
            return
        self._service = None
        await self._say_over(member)

    async def _until_spent(self, member: Member) -> None:
        """What other members take counts against the day's upload, as passes and sessions do."""
        paid_bytes = 0
        while not self.is_spent:
            await asyncio.sleep(REPORT_SECONDS)
            self.is_spent = not self._guest.allow_upload(member.sent_bytes - paid_bytes)
            paid_bytes = member.sent_bytes

    def let_go(self) -> None:
        """Of the weights: nobody will ask for them any more."""
        if self._member is not None:
            self._member.let_go()
        self._service = self._member = None

    async def serve_passes(self, channel: Channel) -> None:
        """Handler of PASSES."""
        if self._service is None:
            raise refusal(Refusal.NOT_TRAINING, "the plan is over")
        await self._service.serve(channel)

    async def serve_averages(self, channel: Channel) -> None:
        """Handler of AVERAGES."""
        await self._member_now().serve_averages(channel)

    async def serve_states(self, channel: Channel) -> None:
        """Handler of STATES."""
        await self._member_now().serve_states(channel)

    def _member_now(self) -> Member:
        if self._member is None:
            raise refusal(Refusal.NOT_TRAINING, "the plan is over")
        return self._member

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

    @property
    def plan(self) -> str:
        return self._record.plan

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

    async def _report(self) -> None:
        facts = self.facts()
        if facts and facts["step"] != self._reported_step:
            self._reported_step = facts["step"]
            text = "stage {stage}: step {step}, {microbatches} microbatches counted"
            log.event("step", text.format(**facts), **facts)


def _takes_none(error: Exception) -> bool:
    log.event("stage", f"hosting only, without a stage: {error}", reason=str(error))
    return False
