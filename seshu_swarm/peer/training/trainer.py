"""A trainer: its microbatches of each step through the stages and back, several at once.

The conductor's newest word says what is to be done; `TrainerStep` says what can be done now, and here
it is done. Nothing is lost by a word that comes late: every turn looks at all again. Knows the data
as a function of the microbatch's number, and neither files nor the run.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, TypeVar

import torch

from seshu_swarm.errors import PeerError, PeerLostError, RefusalError
from seshu_swarm.peer.training.calls import Calls, Pass
from seshu_swarm.peer.training.ends import EndsPasses
from seshu_swarm.peer.training.member import Member
from seshu_swarm.peer.training.own_step import OwnStep, StepTold
from seshu_swarm.pipeline.messages import Feed, MicrobatchId, Withdrawal
from seshu_swarm.pipeline.protocol.converting import to_feed
from seshu_swarm.pipeline.protocol.steps import Complaint, FedMessage, FeedMessage
from seshu_swarm.pipeline.step import Kind, Task
from seshu_swarm.pipeline.tensors import Packed
from seshu_swarm.program.running import Stop
from seshu_swarm.training.loop import Batches

# How long a turn waits for news; also how long a refused task waits for the next word.
TURN_SECONDS = 0.2
# The same word is said again: it may have been lost with a stream.
AGAIN_SECONDS = 1.0
HERE = ""

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Trainer:
    """One life of a trainer: an enlisted `member` of the ends, the `data`, and the way to the stages.

    `on_step` is told of every step that is over.
    """

    def __init__(
        self,
        member: Member,
        calls: Calls,
        passes: EndsPasses,
        data: Batches,
        *,
        executor: Executor,
        max_in_flight: int,
        on_step: Callable[[StepTold], None] = lambda told: None,
    ) -> None:
        self._member, self._calls, self._passes, self._data = member, calls, passes, data
        self._executor, self._max_in_flight, self._on_step = executor, max_in_flight, on_step
        self._told: FeedMessage | None = None
        self._news, self._fresh = asyncio.Event(), asyncio.Event()
        self._step: OwnStep | None = None
        self._running: dict[asyncio.Task[None], Task | None] = {}
        self._said: tuple[FedMessage | None, float] = None, 0.0
        member.on_feed, calls.complain = self._hear, self._complain

    async def live(self, stop: Stop) -> None:
        """Until the plan is over or it is stopped. Raises TrainingError for a loss that is not finite,
        DataError for a microbatch of another shape than the plan's, and what `data` raises."""
        try:
            async with asyncio.TaskGroup() as self._group:
                try:
                    while not stop.is_set() and not self._is_over:
                        await self._turn()
                        await self._wait()
                finally:
                    self._cancel(self._running)
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        if self._is_over and self._step is not None:
            self._finish(self._step)

    @property
    def _is_over(self) -> bool:
        return self._told is not None and self._told.is_over

    def _hear(self, told: FeedMessage) -> None:
        if len(told.groups) != self._calls.num_stages + 1:
            logger.warning("a step of %d groups is passed over", len(told.groups))
            return
        self._told = told
        self._fresh.set()
        self._fresh = asyncio.Event()
        self._news.set()

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(TURN_SECONDS):
                await self._news.wait()
        self._news.clear()

    async def _turn(self) -> None:
        """Everything that can be done now."""
        told = self._told
        if told is None or told.step < 0:
            return
        feed = to_feed(told)
        mine = sorted(id_ for id_ in feed.ids if id_.trainer == self._member.name)
        self._member.number = max([self._member.number, *(id_.number + 1 for id_ in mine)])
        step = self._step
        if step is None or feed.step != step.number or not step.batches.keys() >= set(mine):
            if mine and self._member.ledger.version != feed.stages[-1].version:
                return  # its ends are those of another step yet
            step = await self._begin(feed, mine)
        self._calls.update(told)
        self._follow(step, feed)
        for task in step.stages.ready():
            self._start(step, task)
        step.ends.count_all(step.ids)
        await self._say(step)

    async def _begin(self, feed: Feed, mine: Sequence[MicrobatchId]) -> OwnStep:
        if self._step is not None:
            self._finish(self._step)
        self._cancel(running for running, task in self._running.items() if task is not None)
        batches = {id_: await self._compute(self._data, id_.number) for id_ in mine}
        inputs = {}
        for id_, (ids_BL, _) in batches.items():
            hidden = await self._compute(self._passes.embed, torch.from_numpy(ids_BL))
            inputs[id_] = await self._calls.pack(hidden)
        self._step = OwnStep.begin(
            feed, batches, inputs, count=self._member.count, max_in_flight=self._max_in_flight
        )
        return self._step

    def _finish(self, step: OwnStep) -> None:
        nats, tokens = step.loss
        loss = nats / tokens if tokens else float("nan")
        made = self._member.ledger.version.step
        numbers = tuple(sorted(id_.number for id_ in step.ids))
        self._on_step(StepTold(step.number, loss, len(step.feed.ids), made, numbers))
        self._step = None

    def _follow(self, step: OwnStep, feed: Feed) -> None:
        """Passes of an older round are broken off: their answers would be asked for again."""
        reopened = step.follow(feed)
        self._cancel(
            running
            for running, task in self._running.items()
            if task is not None and task.kind is Kind.BACKWARD and task.stage in reopened
        )

    def _start(self, step: OwnStep, task: Task) -> None:
        """On its way, if somebody is there to take it."""
        if task.kind is Kind.HEAD:
            step.stages.sent(task, HERE)
            self._run(self._head(step, task), task)
            return
        try:
            replica = self._calls.choose(task)
        except PeerLostError:
            return
        version, (hidden, gradient) = step.stages.version(task.stage), step.stages.inputs(task)
        call = step.stages.sent(task, replica)
        if call is None:
            gradient = None
        else:
            step.asked[task.stage].setdefault(replica, set()).add(task.id.number)
        self._run(self._pass(step, Pass(task, replica, version, call, hidden, gradient)), task)

    async def _pass(self, step: OwnStep, asked: Pass) -> None:
        task, call = asked.task, asked.call
        try:
            value = await self._calls.ask(asked)
        except RefusalError:
            await self._pause()
            step.stages.failed(task, asked.replica)
            return
        except PeerError:
            self._withdraw(task.stage, step.stages.failed(task, asked.replica))
            return
        round_ = -1 if call is None else call.round
        others = step.stages.answered(task, asked.replica, value, round_=round_)
        self._withdraw(task.stage, others)
        if task.kind is Kind.BACKWARD and task.stage == 0 and not step.ends.is_whole(task.id):
            self._run(self._embed_backward(step, task.id, value), None)

    async def _pause(self) -> None:
        """Until the next word of the conductor, or a moment."""
        began = time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(TURN_SECONDS):
                await self._fresh.wait()
        self._calls.meter.wait_seconds += time.monotonic() - began

    async def _head(self, step: OwnStep, task: Task) -> None:
        hidden = await self._calls.unpack(step.stages.inputs(task)[0])
        _, labels_BL = step.batches[task.id]
        head = await self._compute(self._passes.head, hidden, torch.from_numpy(labels_BL))
        gradient = await self._calls.pack(head.gradient)
        step.losses[task.id] = head.nats, head.tokens
        step.ends.add_head(task.id, head.by_parameters)
        step.stages.answered(task, HERE, gradient)

    async def _embed_backward(self, step: OwnStep, id_: MicrobatchId, value: Packed) -> None:
        gradient = await self._calls.unpack(value)
        ids_BL, _ = step.batches[id_]
        work = self._passes.embed_backward, torch.from_numpy(ids_BL), gradient
        step.ends.add_embedding(id_, await self._compute(*work))

    async def _compute(self, work: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        timed = loop.run_in_executor(self._executor, _timed, work, *arguments)
        value, seconds = await timed
        self._calls.meter.own_seconds += seconds
        return value

    def _withdraw(self, stage: int, withdrawals: Sequence[tuple[str, Withdrawal]]) -> None:
        for replica, withdrawal in withdrawals:
            self._run(self._calls.withdraw(stage, replica, withdrawal), None)

    def _complain(self, name: str, reason: str) -> None:
        self._run(self._member.say(Complaint(name=name, reason=reason)), None)

    def _run(self, work: Coroutine[Any, Any, None], task: Task | None) -> None:
        running = self._group.create_task(work)
        self._running[running] = task
        running.add_done_callback(self._ended)

    def _ended(self, running: asyncio.Task[None]) -> None:
        self._running.pop(running, None)
        self._news.set()

    def _cancel(self, those: Iterable[asyncio.Task[None]]) -> None:
        for running in list(those):
            running.cancel()

    async def _say(self, step: OwnStep) -> None:
        """What is counted, when that changes, and again now and then."""
        message = step.message()
        said, at = self._said
        is_new = said is None or (said.step, said.rounds) != (message.step, message.rounds)
        if is_new or time.monotonic() - at > AGAIN_SECONDS:
            self._said = message, time.monotonic()
            await self._member.say(message)


def _timed(work: Callable[..., T], *arguments: Any) -> tuple[T, float]:
    began = time.monotonic()
    return work(*arguments), time.monotonic() - began
