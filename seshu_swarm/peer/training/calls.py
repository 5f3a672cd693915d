"""Passes through the replicas of the stages: who is asked, for how long, and who is avoided then.

Each pass has a stream of its own. A replica that misses its deadline counts as slow; one that breaks
the stream is avoided for a while, and one that answers with NaN or another shape too: of that the
conductor hears, by name. That a stage is in another round is nobody's fault. What comes back stays
packed: it goes to the next replica as it is, once it was read and found right.

Shapes: B rows, K positions, M d_model.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from seshu_swarm.errors import (
    DeadlineError,
    PeerError,
    PeerLostError,
    ProtocolError,
    RefusalError,
    UsageError,
)
from seshu_swarm.network.dht import Swarm
from seshu_swarm.peer.training.meter import Meter
from seshu_swarm.pipeline.messages import Call, Version, Withdrawal
from seshu_swarm.pipeline.protocol.fields import of_version, peer_of
from seshu_swarm.pipeline.protocol.passes import (
    PASSES,
    AskStagePass,
    PassRequest,
    StagePassed,
    WithdrawPass,
)
from seshu_swarm.pipeline.protocol.steps import FeedMessage
from seshu_swarm.pipeline.routing import BACKWARD, FORWARD, Router
from seshu_swarm.pipeline.step import Kind, Task
from seshu_swarm.pipeline.tensors import Packed, bytes_of, pack, unpack
from seshu_swarm.records.kinds import TrainingRecord
from seshu_swarm.streams import frames

logger = logging.getLogger(__name__)
T = TypeVar("T")

KNOWN_SECONDS = 30.0  # how long a replica counts as there without being named again
LEAST_SECONDS = 10.0
PATIENCE = 4.0
WITHDRAW_SECONDS = 5.0
HEADER_BYTES = 65_536
MAX_REASON = 300
# From so many on a tensor is packed in another thread: about a millisecond.
MANY_NUMBERS = 1 << 17
# The stage is elsewhere in its step: nobody's fault.
NO_FAULT = frozenset({"WRONG_VERSION", "WRONG_ROUND", "SEALED", "NOT_IN_STEP", "WITHDRAWN"})
# The replica cannot take it now: others are asked more often.
BUSY = frozenset(
    {"MEMORY_FULL", "RATE_LIMITED", "UPLOAD_LIMIT", "PAUSED", "DRAINING", "NOT_TRAINING"}
)
WORK = {Kind.FORWARD: FORWARD, Kind.BACKWARD: BACKWARD}


@dataclass(frozen=True, eq=False)
class Pass:
    """A task on its way to a replica. `call` heads backward; `gradient` is by the output."""

    task: Task
    replica: str
    version: Version
    call: Call | None
    hidden: Packed
    gradient: Packed | None


class Calls:
    """`complain`, which the owner sets, takes a replica's name and the reason to avoid it. Raises
    UsageError for a plan whose microbatches do not fit into a message."""

    def __init__(
        self,
        swarm: Swarm,
        record: TrainingRecord,
        *,
        d_model: int,
        meter: Meter | None = None,
    ) -> None:
        self.complain: Callable[[str, str], None] = lambda name, reason: None
        self.shape = (record.batch_size, record.length - 1, d_model)
        self._swarm, self._record = swarm, record
        rng = random.Random()
        self._routers = [Router(rng) for _ in range(record.num_stages)]
        self._complained: dict[str, float] = {}
        self.meter = meter or Meter()
        _check_size(record, d_model)

    @property
    def num_stages(self) -> int:
        return self._record.num_stages

    def update(self, feed: FeedMessage) -> None:
        """Who is there now, at every stage."""
        now = time.time()
        for router, told in zip(self._routers, feed.groups, strict=False):
            router.update(dict.fromkeys(told.replicas, now + KNOWN_SECONDS), now=now)

    def choose(self, task: Task) -> str:
        """Who is asked next. Raises PeerLostError if nobody is there."""
        return self._routers[task.stage].choose(WORK[task.kind])

    def seconds(self, task: Task, replica: str) -> float:
        """Expected, by what was measured."""
        return WORK[task.kind] * self._routers[task.stage].seconds(replica)

    async def ask(self, asked: Pass) -> Packed:
        """The output, or the gradient by the input: read and found right, (B, K, M). Raises PeerError,
        and then the router knows whose fault it was."""
        router, work = self._routers[asked.task.stage], WORK[asked.task.kind]
        limit = max(LEAST_SECONDS, PATIENCE * self.seconds(asked.task, asked.replica))
        began = time.monotonic()
        try:
            passed = await frames.within(
                limit, self._exchange(asked, limit), f"stage {asked.task.stage}"
            )
            seconds = time.monotonic() - began
            await self.unpack(passed.values)
        except PeerError as error:
            self.meter.wait_seconds += time.monotonic() - began
            self._failed(asked, error)
            raise
        router.answered(asked.replica, work, seconds)
        self.meter.passed(seconds, passed)
        return dict(passed.values)

    async def withdraw(self, stage: int, replica: str, withdrawal: Withdrawal) -> None:
        """Best effort: nothing depends on its arrival."""
        message = WithdrawPass(
            plan=self._record.plan,
            stage=stage,
            trainer=withdrawal.id.trainer,
            number=withdrawal.id.number,
            round=withdrawal.round,
            attempt=withdrawal.attempt,
        )
        try:
            await frames.within(WITHDRAW_SECONDS, self._tell(replica, message), "a withdrawal")
        except PeerError as error:
            logger.debug("not withdrawn: %s", error)

    async def pack(self, tensor: Tensor) -> Packed:
        """For the wire. Raises ProtocolError for what is not finite."""
        return await self._timed(pack, tensor, self._record.wire_type)

    async def unpack(self, packed: object) -> Tensor:
        """(B, K, M) as float32. Raises ProtocolError for anything else."""
        return await self._timed(unpack, packed, self.shape, self._record.wire_type)

    async def _timed(self, work: Callable[..., T], *arguments: object) -> T:
        """Of a small tensor here: another thread takes longer to wake than this takes."""
        began = time.monotonic()
        try:
            if math.prod(self.shape) < MANY_NUMBERS:
                return work(*arguments)
            return await asyncio.to_thread(work, *arguments)
        finally:
            self.meter.serialise_seconds += time.monotonic() - began

    async def _exchange(self, asked: Pass, limit: float) -> StagePassed:
        stream = await self._swarm.open(peer_of(asked.replica), PASSES)
        try:
            # Backward the replica may have kept its input; without it half of the bytes are saved.
            hidden = asked.hidden if asked.gradient is None else None
            await stream.send(PassRequest(request=self._message(asked, hidden)))
            passed = await stream.receive(StagePassed, seconds=limit, what="a pass")
            if passed.is_wanting and hidden is None:
                await stream.send(self._message(asked, asked.hidden))
                passed = await stream.receive(StagePassed, seconds=limit, what="a pass")
            if passed.values is None:
                raise ProtocolError(f"{stream} answered a pass without values")
            return passed
        finally:
            self.meter.sent_bytes += stream.sent_bytes
            self.meter.received_bytes += stream.received_bytes
            stream.close()

    def _message(self, asked: Pass, hidden: Packed | None) -> AskStagePass:
        call, id_ = asked.call, asked.task.id
        return AskStagePass(
            plan=self._record.plan,
            stage=asked.task.stage,
            trainer=id_.trainer,
            number=id_.number,
            version=of_version(asked.version if call is None else call.version),
            round=-1 if call is None else call.round,
            attempt=0 if call is None else call.attempt,
            hidden=hidden,
            gradient=asked.gradient,
        )

    async def _tell(self, replica: str, message: WithdrawPass) -> None:
        stream = await self._swarm.open(peer_of(replica), PASSES)
        try:
            await stream.send(PassRequest(request=message))
            # A stream that is closed too soon may lose what was sent last.
            await stream.receive_or_end(StagePassed, seconds=WITHDRAW_SECONDS, what="its end")
        finally:
            stream.close()

    def _failed(self, asked: Pass, error: PeerError) -> None:
        router, replica = self._routers[asked.task.stage], asked.replica
        name = error.name if isinstance(error, RefusalError) else ""
        if name in NO_FAULT:
            return
        logger.info("stage %d at %s: %s", asked.task.stage, replica[-16:], error)
        if isinstance(error, DeadlineError) or name in BUSY:
            router.missed_deadline(replica)
            return
        router.failed(replica)
        # Whoever is gone is no liar; several passes that fail at once are one reason.
        now = time.monotonic()
        is_known = self._complained.get(replica, -math.inf) > now - KNOWN_SECONDS
        if not (is_known or isinstance(error, PeerLostError)):
            self._complained[replica] = now
            self.complain(replica, str(error)[:MAX_REASON])


def _check_size(record: TrainingRecord, d_model: int) -> None:
    num_numbers = record.batch_size * (record.length - 1) * d_model
    num_bytes = 2 * bytes_of(num_numbers, record.wire_type) + HEADER_BYTES
    if num_bytes > frames.MAX_FRAME_BYTES:
        raise UsageError(
            f"the plan's backward passes are messages of {num_bytes} bytes",
            rule=f"at most {frames.MAX_FRAME_BYTES}",
            way_out="ask the maintainer for a plan with smaller microbatches or 8 bits on the wire",
        )
