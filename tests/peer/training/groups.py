"""A real group of members in one process, and the smallest conductor that they can obey.

The conductor decides with the `StageGroup` of the package and says its orders at every status, to
all: so most of them come twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from seshu_swarm.errors import PeerError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.span_module import SpanModule
from seshu_swarm.peer.training.member import Member
from seshu_swarm.peer.training.weights import TrainedPart
from seshu_swarm.pipeline.group import StageGroup, StagePhase
from seshu_swarm.pipeline.messages import Call, MicrobatchId, Version
from seshu_swarm.pipeline.protocol.converting import of_order, to_status
from seshu_swarm.pipeline.protocol.fields import of_version
from seshu_swarm.pipeline.protocol.groups import AVERAGES, STATES
from seshu_swarm.pipeline.protocol.steps import (
    FROM_MEMBER,
    STEPS,
    Complaint,
    Enlist,
    Enlisted,
    StatusMessage,
)
from seshu_swarm.program.running import Stop
from seshu_swarm.spans import Span
from seshu_swarm.streams.channel import Channel, refusal
from seshu_swarm.streams.protocol import Message, Refusal
from tests.loopback import Loopback
from tests.peer.training.conducting import Peer
from tests.peer.training.plans import plan_of

SHAPE = MambaShape(d_model=16, num_blocks=2)
RECORD = plan_of(num_blocks=2, num_microbatches=4)
TRAINER = "trainer#00000000"


def base_part() -> TrainedPart:
    torch.manual_seed(11)
    return TrainedPart(SpanModule(SHAPE, Span(0, 2)), RECORD)


def gradients_of(number: int) -> list[Tensor]:
    """Those of microbatch `number`, whoever computes it."""
    noise = torch.Generator().manual_seed(number)
    return [torch.randn(p.shape, generator=noise) / 100 for p in base_part().parameters]


def ids_of(*numbers: int) -> frozenset[MicrobatchId]:
    return frozenset(MicrobatchId(TRAINER, number) for number in numbers)


class Conducting:
    """Serves STEPS for one group. `heard`: all that members said, with their names."""

    def __init__(self) -> None:
        self.group = StageGroup()
        self.is_over = False
        self.enlisted: list[Enlist] = []
        self.heard: list[tuple[str, Message]] = []
        self.channels: dict[str, Channel] = {}

    async def serve(self, channel: Channel) -> None:
        enlist = await channel.receive(Enlist, seconds=5.0, what="a name")
        if self.is_over:
            raise refusal(Refusal.NOT_TRAINING, "the plan is over")
        self.enlisted.append(enlist)
        await channel.send(Enlisted(group=0, version=of_version(self.group.version)))
        self.channels[enlist.name] = channel
        while message := await channel.receive_one_of(FROM_MEMBER, seconds=30.0, what="news"):
            self.heard.append((enlist.name, message))
            if isinstance(message, StatusMessage):
                self.group.heard(enlist.name, to_status(message))
                await self.order()

    async def order(self) -> None:
        for name, channel in list(self.channels.items()):
            order = self.group.order_for(name)
            if order is not None:
                try:
                    await channel.send(of_order(order))
                except PeerError:
                    self.channels.pop(name, None)

    async def lost(self, name: str) -> None:
        self.channels.pop(name, None)
        self.group.lost(name)
        await self.order()

    async def begin(self, *numbers: int) -> None:
        """A step, once all members that have the weights know of its round."""
        self.group.begin(ids_of(*numbers))
        await self.order()
        group, statuses = self.group, self.group.statuses
        await self.until(lambda: {statuses[n].round for n in group.in_step} == {group.round})

    async def commit(self) -> None:
        """Until the step is done, or its round has failed."""
        round_ = self.group.round
        self.group.all_fed()
        await self.order()
        await self.until(lambda: self.group.phase is StagePhase.READY or self.group.round > round_)
        self.group.commit()
        await self.order()
        done = StagePhase.DONE
        await self.until(lambda: self.group.phase is done or self.group.round > round_)

    @property
    def complaints(self) -> set[tuple[str, str]]:
        """Who complained of whom."""
        return {(name, m.name) for name, m in self.heard if isinstance(m, Complaint)}

    async def until(self, is_so: Callable[[], bool], seconds: float = 15.0) -> None:
        ends_at = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < ends_at, (self.group.phase, self.group.statuses)
            await asyncio.sleep(0.01)


class Living:
    """A member that lives on one of the peers."""

    def __init__(self, peer: Peer, conductor: str) -> None:
        self.executor, self.stop = ThreadPoolExecutor(1), Stop()
        self.member = Member(
            peer.swarm,
            name=peer.new_name(),
            record=RECORD,
            part_of=_part_of,
            conductor=conductor,
            executor=self.executor,
        )
        self._peer = peer

    async def begin(self) -> None:
        await self._peer.serve(AVERAGES, self.member.serve_averages)
        await self._peer.serve(STATES, self.member.serve_states)
        await self.member.enlist(is_trainer=False, group=None)
        self.task = asyncio.create_task(self.member.live(self.stop))

    async def end(self) -> None:
        self.stop.set()
        await asyncio.gather(self.task, return_exceptions=True)
        await asyncio.to_thread(self.executor.shutdown)


async def _part_of(group: int) -> TrainedPart:
    assert group == 0
    return base_part()


class Group:
    """Peers that stay over the tests, and one conductor and some members at a time."""

    def __init__(self, loopback: Loopback, num_peers: int) -> None:
        self._home = Peer(loopback.join("conductor"))
        self.peers = [Peer(loopback.join(f"replica-{index}")) for index in range(num_peers)]
        self.conducting = Conducting()
        self.living: list[Living] = []

    async def start(self, num_members: int) -> list[Member]:
        """With a new conductor and the base's weights."""
        self.conducting = Conducting()
        await self._home.serve(STEPS, lambda channel: self.conducting.serve(channel))
        return [await self.join(index) for index in range(num_members)]

    async def join(self, index: int) -> Member:
        """Another member, whose status the conductor knows."""
        living = Living(self.peers[index], self._home.peer_id)
        await living.begin()
        self.living.append(living)
        statuses = self.conducting.group.statuses
        await self.conducting.until(lambda: living.member.name in statuses)
        return living.member

    async def end(self) -> None:
        while self.living:
            await self.living.pop().end()


def count(member: Member, *numbers: int) -> None:
    """These microbatches, in the round that it is in."""
    for number in numbers:
        version, round_ = member.ledger.version, member.ledger.round
        call = Call(MicrobatchId(TRAINER, number), version, round_, 0)
        member.count(call, gradients_of(number))


def expected_digest(*steps: list[tuple[int, ...]]) -> str:
    """Of a part that takes these steps alone: of each, the numbers that each member counted, in the
    order of their names. Members add up in float32, the average in float64."""
    part = base_part()
    for step, claims in enumerate(steps):
        wide = torch.zeros(part.num_bytes // 4, dtype=torch.float64)
        for numbers in claims:
            total = torch.zeros(part.num_bytes // 4)
            for number in numbers:
                total += torch.cat([g.flatten() for g in gradients_of(number)])
            wide += total.double()
        part.apply((wide / sum(map(len, claims))).float(), Version(step, 0))
    return part.digest()
