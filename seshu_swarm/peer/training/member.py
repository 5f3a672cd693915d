"""One member of a group in pipelined training: its ledger, its weights, what the conductor orders.

The ledger is touched in the event loop alone, the weights in `executor`, one thread, alone. What the
ledger decides is handed to the thread in the same tick, so that both agree: work handed over later is
done on what was decided before. Orders are wishes, so one that comes twice, or during another's
effect, changes nothing: the conductor says it again as long as it holds. Knows no passes and no data.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar

from torch import Tensor

from seshu_swarm.errors import DigestError, PeerError, ProtocolError
from seshu_swarm.network.dht import Swarm
from seshu_swarm.peer.training.averaging import Averaging
from seshu_swarm.peer.training.enlisting import Enlistment
from seshu_swarm.peer.training.states import States
from seshu_swarm.peer.training.weights import TrainedPart
from seshu_swarm.pipeline.ledger import StageLedger
from seshu_swarm.pipeline.messages import (
    FIRST,
    NOTHING,
    Call,
    Commit,
    Effect,
    Join,
    Order,
    Status,
)
from seshu_swarm.pipeline.protocol.converting import to_order
from seshu_swarm.pipeline.protocol.fields import of_ids, to_version
from seshu_swarm.pipeline.protocol.steps import (
    Complaint,
    Enlist,
    Enlisted,
    FedMessage,
    FeedMessage,
    OrderMessage,
)
from seshu_swarm.program import log, running
from seshu_swarm.program.running import Stop
from seshu_swarm.records.kinds import TrainingRecord
from seshu_swarm.streams.channel import Channel, refusal
from seshu_swarm.streams.protocol import Message, Refusal

logger = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
# Replicas show that they hold the same weights: hashing them takes a moment of computing.
DIGEST_STEPS = 10
T = TypeVar("T")


class Member:
    """`name` is new at each start, `conductor` is the coordinator's peer id. `part_of(group)` makes the
    group's part with the weights of the plan's base.

    `group`, `part` and `ledger` are there once it is enlisted. Trainers set `number`, the first
    microbatch that they were not asked for, and `on_feed`.
    """

    group: int
    part: TrainedPart
    ledger: StageLedger

    def __init__(
        self,
        swarm: Swarm,
        *,
        name: str,
        record: TrainingRecord,
        part_of: Callable[[int], Awaitable[TrainedPart]],
        conductor: str,
        executor: Executor,
    ) -> None:
        self.name, self.record, self.number = name, record, 0
        self.on_feed: Callable[[FeedMessage], None] = lambda feed: None
        self._swarm, self._part_of, self._executor = swarm, part_of, executor
        self._enlist = Enlist(plan=record.plan, name=name, is_trainer=False)
        self._enlistment = Enlistment(
            swarm, conductor, enlist=self._enlisting, status=self._status, heard=self._heard
        )
        self._averaging: Averaging | None = None
        self._states: States | None = None
        self._effect: asyncio.Task[None] | None = None
        self._saying = set[asyncio.Task[None]]()
        self._told: Status | None = None
        self._is_broken = asyncio.Event()
        self._error: BaseException | None = None

    async def enlist(self, *, is_trainer: bool, group: int | None) -> int:
        """Into `group`, or the one that the conductor names. Raises PeerError, and what `part_of` raises."""
        self._enlist = self._enlist.model_copy(update={"is_trainer": is_trainer, "group": group})
        enlisted = await self._enlistment.dial()
        try:
            self.part = await self._part_of(_group_of(enlisted, group))
        except BaseException:
            await self._enlistment.hang_up()
            raise
        self.group = enlisted.group
        if not is_trainer:
            # From now on no other group will do.
            self._enlist = self._enlist.model_copy(update={"group": self.group})
        plan, group = self.record.plan, self.group
        is_at_base = to_version(enlisted.version) == FIRST
        self.ledger = StageLedger(self.name, FIRST if is_at_base else NOTHING)
        self._averaging = Averaging(
            self._swarm, self.ledger, plan=plan, group=group, blame=self._blame
        )
        self._states = States(self.part, self.ledger, self._executor, plan=plan, group=group)
        return self.group

    async def live(self, stop: Stop) -> None:
        """Obey until the plan is over or `stop`. Raises what went wrong in the computing thread: what is
        counted and what is accumulated might differ then."""
        try:
            await running.first_to_end(self._enlistment.live(stop), self._until_broken())
        finally:
            tasks = [*self._saying, *([self._effect] if self._effect else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def sent_bytes(self) -> int:
        """To other members: averages and states."""
        parts = self._averaging, self._states
        return sum(part.sent_bytes for part in parts if part is not None)

    def let_go(self) -> None:
        """Of the weights, once it lives no more: this object is in cycles, and a process that has settled
        collects none."""
        self._averaging = self._states = None
        del self.part

    async def say(self, message: FedMessage | Complaint) -> None:
        """Best effort, on the current stream."""
        await self._enlistment.say(message)

    def count(self, call: Call, gradients: Sequence[Tensor]) -> None:
        """One microbatch's gradients, finite, one for each parameter; a repeat adds nothing. Raises
        RefusalError where the call is not admitted any more."""
        if self.ledger.count(call):
            self._compute(self.part.accumulate, list(gradients))

    async def serve_averages(self, channel: Channel) -> None:
        """Handler of AVERAGES."""
        if self._averaging is None:
            raise refusal(Refusal.NOT_TRAINING, "I am not enlisted yet")
        await self._averaging.serve(channel)

    async def serve_states(self, channel: Channel) -> None:
        """Handler of STATES."""
        if self._states is None:
            raise refusal(Refusal.NOT_TRAINING, "I am not enlisted yet")
        await self._states.serve(channel)

    def _enlisting(self) -> Enlist:
        return self._enlist.model_copy(update={"number": self.number})

    def _status(self) -> Status:
        """New weights are told of when they are there."""
        return self._told or self.ledger.status

    def _heard(self, message: Message) -> None:
        if isinstance(message, FeedMessage):
            self.on_feed(message)
        elif isinstance(message, OrderMessage):
            self._obey(to_order(message))

    def _obey(self, order: Order) -> None:
        before, effect = self.ledger.status, self.ledger.obey(order)
        if effect is Effect.CLEAR:
            self._compute(self.part.clear)
        elif effect is Effect.AVERAGE and isinstance(order, Commit):
            self._begin(self._average(order, self._compute(self.part.summed)))
        elif effect is Effect.DOWNLOAD and isinstance(order, Join) and not self._is_busy:
            self._begin(self._download(order))
        if self.ledger.status != before:
            self._enlistment.tell()

    @property
    def _is_busy(self) -> bool:
        return self._effect is not None and not self._effect.done()

    def _begin(self, effect: Coroutine[Any, Any, None]) -> None:
        """In place of another one: the round of that one is over."""
        if self._effect is not None:
            self._effect.cancel()
        self._effect = asyncio.create_task(effect)
        self._effect.add_done_callback(self._note)

    async def _average(self, commit: Commit, summing: Awaitable[Tensor]) -> None:
        assert self._averaging is not None
        before, summed = self.ledger.status, await summing
        is_empty = not any(weight for _, weight in commit.members)
        step: Callable[[], None] = self.part.clear
        try:
            if not is_empty:
                average = await self._averaging.average(commit, summed)
                step = partial(self.part.apply, average, commit.version)
        except PeerError as error:
            logger.warning("round %d of group %d failed: %s", commit.round, self.group, error)
            self.ledger.average_failed(commit.round, self._averaging.lacking)
        else:
            if self.ledger.averaged(commit.round):
                await self._change(before, step)
                self._tell_counted(before, commit)
        self._enlistment.tell()
        await self._tell_digest()

    def _tell_counted(self, before: Status, commit: Commit) -> None:
        """What went into the weights, for programs that watch."""
        log.fact(
            "counted",
            group=self.group,
            member=self.name,
            version=[commit.version.step + 1, commit.round],
            claim=of_ids(before.claim),
            members=dict(commit.members),
        )

    async def _tell_digest(self) -> None:
        version = self.ledger.version
        if version.step % DIGEST_STEPS or log.is_text():
            return
        digest = await self._compute(self.part.digest)
        log.fact("digest", group=self.group, member=self.name, version=version, digest=digest)

    async def _download(self, join: Join) -> None:
        assert self._states is not None
        try:
            tensors = await self._states.fetch(self._swarm, join)
        except (PeerError, DigestError) as error:
            logger.warning("no state of group %d from %s: %s", self.group, join.source, error)
            if isinstance(error, ProtocolError | DigestError):
                self._blame(join.source, str(error))
            # Until then the order is passed over.
            await asyncio.sleep(RETRY_SECONDS)
            return
        before = self.ledger.status
        if self.ledger.downloaded(join.version):
            await self._change(before, partial(self.part.load_state, tensors))
        self._enlistment.tell()

    async def _change(self, before: Status, change: Callable[[], None]) -> None:
        """The weights, in the tick in which the ledger has moved on: passes of the new version are
        computed after it. Until it is done the status is told as it was."""
        self._told = before
        try:
            # Whoever waits may be cancelled, as when the plan is over: the ledger has moved on already.
            await asyncio.shield(self._compute(change))
        finally:
            self._told = None

    def _blame(self, name: str, reason: str) -> None:
        saying = asyncio.create_task(self.say(Complaint(name=name, reason=reason[:300])))
        self._saying.add(saying)
        saying.add_done_callback(self._saying.discard)

    def _compute(self, work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """Handed to the computing thread at once."""
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._executor, work, *arguments)
        future.add_done_callback(self._note)
        return future

    def _note(self, done: asyncio.Future[Any]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None:
            self._error = self._error or error
            self._is_broken.set()

    async def _until_broken(self) -> None:
        await self._is_broken.wait()
        if self._error is not None:
            raise self._error


def _group_of(enlisted: Enlisted, asked: int | None) -> int:
    if asked is not None and enlisted.group != asked:
        raise ProtocolError(f"enlisted in group {enlisted.group}", rule=f"asked for {asked}")
    return enlisted.group
