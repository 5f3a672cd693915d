"""A pool of real peers that take on spans test by test, and ways to lose them.

Joining costs a second, so the peers of a module stay; each test gives them new services. What a test
breaks is broken at the sockets: handlers are withdrawn, streams end without their final frame, or
nothing is read and written any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import torch

from seshu_swarm import checkpoints
from seshu_swarm.client.chain.routing import Offer
from seshu_swarm.client.chain.session import RemoteSession
from seshu_swarm.client.chain.terms import Terms
from seshu_swarm.errors import PeerLostError
from seshu_swarm.exchange.session_messages import PUSHES
from seshu_swarm.mamba.state import RecurrentState
from seshu_swarm.network import round_trips
from seshu_swarm.network.dht import Swarm
from seshu_swarm.peer.hosted import Hosted
from seshu_swarm.peer.served import ServedSpan
from seshu_swarm.peer.serving import SpanService
from seshu_swarm.spans import Span
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.protocol import SESSIONS, Message
from tests.conftest import TinyCheckpoint
from tests.loopback import Loopback
from tests.spans import make_guest

SNAPSHOT_TOKENS = 64
TOLERANCE = 1e-5
# Tokens of each step: these pass a snapshot before a fault, and another one after it.
BEFORE = (90, 1, 1)
AFTER = (1, 1, 60, 1)


class Gated(Channel):
    """A stream of a peer that may sleep: then nothing that came is looked at, and nothing goes out."""

    awake: asyncio.Event

    @classmethod
    def over(cls, channel: Channel, awake: asyncio.Event) -> Channel:
        channel.__class__ = cls
        cast(Gated, channel).awake = awake
        return channel

    async def receive_one_of(self, *given: Any, **named: Any) -> Message | None:
        message = await super().receive_one_of(*given, **named)
        await self.awake.wait()
        return message

    async def write(self, data: bytes) -> None:
        await self.awake.wait()
        await super().write(data)


class Member:
    """One peer of the pool. It is dead until it takes a span."""

    def __init__(self, swarm: Swarm, loopback: Loopback) -> None:
        self.swarm, self._loopback = swarm, loopback
        self.peer_id = swarm.peer_id
        self.span = Span(0, 1)
        self.step_seconds = 0.001
        self.unreachable: set[str] = set()
        self.awake = asyncio.Event()
        self.opened: list[Channel] = []
        self._streams: dict[asyncio.Task[None], str] = {}
        self._service: SpanService | None = None

    @property
    def service(self) -> SpanService:
        assert self._service is not None
        return self._service

    @property
    def offer(self) -> Offer:
        return Offer(self.peer_id, self.span, self.step_seconds, 0)

    @property
    def parts(self) -> list[Hosted]:
        return self.service._parts.all()

    async def take(self, served: ServedSpan, *, max_sessions: int = 16) -> None:
        """Serve this span with nothing left of what was before."""
        await self.kill()
        self.span, self.step_seconds = served.span, 0.001
        self.unreachable.clear()
        self.awake.set()
        guest = make_guest(self._loopback.folder / self.peer_id)
        self._service = SpanService(cast(Swarm, self), guest, max_sessions)
        self._service.load(served)
        await self._register(SESSIONS, self._service.serve)
        await self._register(PUSHES, self._service.serve_pushes)

    async def _register(self, name: str, handler: Callable[[Channel], Awaitable[None]]) -> None:
        async def handle(channel: Channel) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._streams[task] = name
            try:
                await handler(Gated.over(channel, self.awake))
            finally:
                self._streams.pop(task)

        await self.swarm.serve(name, handle)

    async def open(self, peer_id: str, name: str, *, seconds: float = 10.0) -> Channel:
        """As `Swarm.open`, for the service."""
        if peer_id in self.unreachable:
            raise PeerLostError(f"cannot reach peer …{peer_id[-6:]}: a wall between us")
        channel = await self.swarm.open(peer_id, name, seconds=seconds)
        self.opened.append(channel)
        return Gated.over(channel, self.awake)

    def break_streams(self, name: str) -> int:
        """End all streams of this kind that others have opened here; how many there were."""
        tasks = [task for task, kind in self._streams.items() if kind == name]
        for task in tasks:
            task.cancel()
        return len(tasks)

    async def refuse(self, name: str) -> None:
        """Serve this kind of streams no more."""
        self.break_streams(name)
        if name in self.swarm._p2p._client.control.handlers:
            await self.swarm._p2p._client.remove_stream_handler(name)

    async def kill(self) -> None:
        """As a killed process: streams end in the middle, nobody answers any more."""
        if self._service is None:
            return
        await self.refuse(SESSIONS)
        await self.refuse(PUSHES)
        self.awake.set()
        for channel in self.opened:
            channel.close()
        self.opened.clear()
        await self._service.close()
        self._service = None


Fault = Callable[[list[Member]], Awaitable[None]]


class Fleet:
    """`num_peers` members and a client that knows them all."""

    def __init__(self, loopback: Loopback, tiny: TinyCheckpoint, num_peers: int) -> None:
        self.loopback, self.tiny = loopback, tiny
        self.whole = checkpoints.load_whole(tiny.folder).eval().requires_grad_(False)
        self.client = loopback.join("client")
        self.pool = [Member(swarm, loopback) for swarm in loopback.run(self._join(num_peers))]
        self.members: list[Member] = []
        self._sessions: list[RemoteSession] = []
        self._served: dict[Span, ServedSpan] = {}

    async def _join(self, num_peers: int) -> list[Swarm]:
        joining = [self.loopback.joining(f"member-{number}") for number in range(num_peers)]
        swarms = await asyncio.gather(*joining)
        for swarm in swarms:
            await swarm.serve(round_trips.PINGS, round_trips.answer)
        return swarms

    async def host(self, *spans: str, max_sessions: int = 16) -> list[Member]:
        """Members with these blocks, and no others; the first ones are cheaper than the last.

        Sessions that a test has left open are ended: they would go on looking after themselves.
        """
        while self._sessions:
            await self._sessions.pop().close()
        for member in self.pool:
            await member.kill()
        self.members = self.pool[: len(spans)]
        for number, (member, text) in enumerate(zip(self.members, spans, strict=True)):
            await member.take(self.served(Span.parse(text)), max_sessions=max_sessions)
            member.step_seconds = 0.001 * (number + 1)
        return self.members

    def served(self, span: Span) -> ServedSpan:
        if span not in self._served:
            self._served[span] = ServedSpan.load(self.tiny.folder, self.tiny.revision, span)
        return self._served[span]

    def of(self, peer_id: str) -> Member:
        return next(member for member in self.pool if member.peer_id == peer_id)

    def session(
        self,
        *,
        wire_type: str = "float32",
        snapshot_tokens: int = SNAPSHOT_TOKENS,
        step_seconds: float = 10.0,
        resumed: RecurrentState | None = None,
    ) -> RemoteSession:
        """Over the members of this test; those that died are still announced."""

        async def find() -> list[Offer]:
            return [member.offer for member in self.members]

        terms = Terms(self.tiny.revision, self.whole.shape, snapshot_tokens, wire_type)
        session = RemoteSession(
            self.client, terms, find=find, step_seconds=step_seconds, resumed=resumed
        )
        self._sessions.append(session)
        return session

    def expected(self, pieces: list[torch.Tensor]) -> list[torch.Tensor]:
        """The residual stream after the last block, by the whole model in this process."""
        state: RecurrentState | None = self.whole.zero_state()
        found = []
        with torch.inference_mode():
            for piece in pieces:
                output, state = self.whole.span(piece, state)
                found.append(output)
        return found


async def go_through(
    fleet: Fleet, spans: list[str], fault: Fault, *, first: int | None = None
) -> RemoteSession:
    """A session with a fault in its middle; its outputs are those of the whole model.

    `first`: how many members are cheap and so make up the first chain.
    """
    members = await fleet.host(*spans)
    for spare in members[first or len(members) :]:
        spare.step_seconds = 1.0
    session = fleet.session()
    pieces = pieces_of(*BEFORE, *AFTER)
    found = [await session.step(piece) for piece in pieces[: len(BEFORE)]]
    await fault(members)
    found += [await session.step(piece) for piece in pieces[len(BEFORE) :]]
    assert worst(found, fleet.expected(pieces)) < TOLERANCE
    await session.close()
    return session


def pieces_of(*sizes: int, seed: int = 3) -> list[torch.Tensor]:
    """Hidden states of so many tokens each, (1, tokens, 32)."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, size, 32, generator=generator) for size in sizes]


def worst(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """The largest difference; shapes must agree."""
    assert [tuple(a.shape) for a in found] == [tuple(b.shape) for b in expected]
    return max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True))
