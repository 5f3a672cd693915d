"""A small conductor for tests of members: the pure one behind a real stream STEPS.

It holds a step open until it is told to seal, so that a test can look at what was counted. And real
replicas of stages on peers of their own, with the service that a hosting peer has.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from seshu_swarm import checkpoints
from seshu_swarm.errors import PeerError
from seshu_swarm.mamba.span_module import SpanModule
from seshu_swarm.network.dht import Swarm
from seshu_swarm.peer.training.member import Member
from seshu_swarm.peer.training.stage_service import StageService
from seshu_swarm.peer.training.weights import TrainedPart
from seshu_swarm.pipeline.conductor import Conductor
from seshu_swarm.pipeline.messages import FIRST, MicrobatchId, Order, Seal
from seshu_swarm.pipeline.protocol.converting import of_feed, of_order, to_status
from seshu_swarm.pipeline.protocol.fields import of_version
from seshu_swarm.pipeline.protocol.groups import AVERAGES, STATES
from seshu_swarm.pipeline.protocol.passes import PASSES
from seshu_swarm.pipeline.protocol.steps import (
    FROM_MEMBER,
    Complaint,
    Enlist,
    Enlisted,
    FedMessage,
    FeedMessage,
    StatusMessage,
)
from seshu_swarm.program.running import Stop
from seshu_swarm.records.kinds import TrainingRecord
from seshu_swarm.spans import Span
from seshu_swarm.streams.channel import Channel, Handler
from seshu_swarm.streams.protocol import Message
from tests.spans import make_guest

SECONDS = 30.0


class Peer:
    """A peer that one test after another uses: handlers may be replaced."""

    def __init__(self, swarm: Swarm) -> None:
        self.swarm, self.peer_id = swarm, swarm.peer_id
        self._handlers: dict[str, Handler] = {}
        self._lives = itertools.count(1)

    async def serve(self, name: str, handler: Handler) -> None:
        is_new = name not in self._handlers
        self._handlers[name] = handler
        if is_new:
            await self.swarm.serve(name, lambda channel: self._handlers[name](channel))

    def new_name(self) -> str:
        """Of a member."""
        return f"{self.peer_id}#{next(self._lives):08x}"


class Conducting:
    """Steps of `per_trainer` microbatches each, once all groups have as many members as `sizes` says."""

    def __init__(
        self, record: TrainingRecord, *, sizes: list[int], per_trainer: int, num_steps: int
    ) -> None:
        self.conductor = Conductor(record.num_stages + 1)
        self.sizes, self.per_trainer, self.num_steps = sizes, per_trainer, num_steps
        self.is_holding = False
        self.complaints: list[Complaint] = []
        self.fed: dict[str, FedMessage] = {}
        self.news = asyncio.Event()
        self._members: dict[str, tuple[int, Channel]] = {}
        self._told: dict[str, Order | None] = {}
        self._numbers: dict[str, int] = {}
        self._feed: FeedMessage | None = None

    async def serve(self, channel: Channel) -> None:
        """Handler of STEPS."""
        asked = await channel.receive(Enlist, seconds=SECONDS, what="enlisting")
        name, ends = asked.name, len(self.sizes) - 1
        group = ends if asked.is_trainer else asked.group or 0
        await channel.send(Enlisted(group=group, version=of_version(FIRST)))
        if asked.is_trainer:
            self._numbers[name] = asked.number
        self._members[name], self._feed = (group, channel), None
        try:
            while message := await channel.receive_one_of(FROM_MEMBER, seconds=SECONDS, what=name):
                self._heard(group, name, message)
                await self._go_on()
        finally:
            await self.lose(name)

    async def lose(self, name: str) -> None:
        """A member is gone."""
        if (known := self._members.pop(name, None)) is not None:
            self.conductor.lost(known[0], name)
            if self._numbers.pop(name, None) is not None:
                self.conductor.trainer_lost(name)
            await self._go_on()

    async def seal(self) -> None:
        self.is_holding = False
        await self._go_on()

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self.news.clear()
            await self.news.wait()

    @property
    def is_fed(self) -> bool:
        """Whether all trainers know that all was counted."""
        current = [told for told in self.fed.values() if told.step == self.conductor.step]
        rounds = [group.round for group in self.conductor.groups]
        return bool(self._numbers) and [t.rounds for t in current] == [rounds] * len(self._numbers)

    def _heard(self, group: int, name: str, message: Message) -> None:
        if isinstance(message, StatusMessage):
            self.conductor.heard(group, name, to_status(message))
        elif isinstance(message, FedMessage):
            self.fed[name] = message
            self.conductor.fed(name, message.step, message.rounds)
        elif isinstance(message, Complaint):
            self.complaints.append(message)

    async def _go_on(self) -> None:
        self._begin()
        replicas = [group.in_step for group in self.conductor.groups]
        feed = of_feed(self.conductor.feed, replicas, is_over=self._is_over)
        is_new, self._feed = feed != self._feed, feed
        for name, (group, channel) in list(self._members.items()):
            with suppress(PeerError):
                await self._order(name, group, channel)
                if is_new and name in self._numbers:
                    await channel.send(feed)
        self.news.set()

    async def _order(self, name: str, group: int, channel: Channel) -> None:
        order = self.conductor.groups[group].order_for(name)
        is_held = self.is_holding and isinstance(order, Seal)
        if order is not None and not is_held and order != self._told.get(name):
            self._told[name] = order
            await channel.send(of_order(order))

    @property
    def _is_over(self) -> bool:
        return self.conductor.is_done and self.conductor.step + 1 == self.num_steps

    def _begin(self) -> None:
        have = [len(group.in_step) for group in self.conductor.groups]
        is_complete = all(a >= b for a, b in zip(have, self.sizes, strict=True))
        if self._is_over or not self.conductor.is_done or not is_complete:
            return
        offers = {}
        for name, number in self._numbers.items():
            numbers = range(number, number + self.per_trainer)
            offers[name] = [MicrobatchId(name, n) for n in numbers]
            self._numbers[name] = number + self.per_trainer
        self.conductor.begin(offers)
        self.sizes = [1] * len(self.sizes)


class Replica:
    """A stage's member on a peer of its own. `passes` handles PASSES in place of the real service."""

    def __init__(self, peer: Peer, record: TrainingRecord, folder: Path, *, stage: int) -> None:
        self._peer, self._record, self._folder, self._stage = peer, record, folder, stage
        self.executor, self.stop, self.name = ThreadPoolExecutor(1), Stop(), peer.new_name()
        self.service: StageService | None = None
        self._living: asyncio.Task[None] | None = None

    async def join(self, conductor: str, *, passes: Handler | None = None) -> None:
        self.member = Member(
            self._peer.swarm,
            name=self.name,
            record=self._record,
            part_of=self._part_of,
            conductor=conductor,
            executor=self.executor,
        )
        await self.member.enlist(is_trainer=False, group=self._stage)
        module = self.member.part.module
        assert isinstance(module, SpanModule)
        self.service = StageService(
            self.member,
            self._record,
            module=module,
            parameters=self.member.part.parameters,
            guest=make_guest(self._folder),
            computing=self.executor,
        )
        await self._peer.serve(PASSES, passes or self.service.serve)
        await self._peer.serve(AVERAGES, self.member.serve_averages)
        await self._peer.serve(STATES, self.member.serve_states)
        self._living = asyncio.create_task(self.member.live(self.stop))

    async def _part_of(self, group: int) -> TrainedPart:
        span = Span(*self._record.boundaries[group : group + 2])
        return TrainedPart(checkpoints.load_span(self._folder, span), self._record)

    async def leave(self) -> None:
        """It obeys no more."""
        if self._living is not None:
            self._living.cancel()
            await asyncio.gather(self._living, return_exceptions=True)
        self.executor.shutdown()
