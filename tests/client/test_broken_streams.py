"""A broken stream is not a lost peer: the session is taken up where it stands, and steps count once."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Any, cast

import pytest
import torch

from seshu_swarm import checkpoints
from seshu_swarm.channel import Channel
from seshu_swarm.client.session import RemoteSession
from seshu_swarm.dht import Swarm
from seshu_swarm.errors import PeerLostError
from seshu_swarm.protocol import Message, Step
from seshu_swarm.spans import Span
from tests.conftest import TinyCheckpoint
from tests.loopback import Loopback
from tests.spans import Host, start_host

STEPS = (5, 1, 1, 3, 1)
COMPUTE_SECONDS = 0.3  # long enough for the tiny span to compute the step whose answer is lost


class Break(Enum):
    """What of the exchange is lost with the stream."""

    REQUEST = "request"
    ANSWER = "answer"


class FragileChannel(Channel):
    """Breaks at the steps that its swarm says."""

    owner: Fragile

    async def send(self, message: Message) -> None:
        if not (isinstance(message, Step) and self.owner.is_due()):
            await super().send(message)
            return
        if self.owner.fault is Break.ANSWER:
            await super().send(message)
            await asyncio.sleep(COMPUTE_SECONDS)
        self.close()


class Fragile:
    """A peer's swarm whose streams break at the steps with these numbers, counted from 1."""

    def __init__(self, swarm: Swarm, fault: Break, at: set[int]) -> None:
        self.fault, self._swarm, self._at, self._count = fault, swarm, at, 0

    def is_due(self) -> bool:
        self._count += 1
        return self._count in self._at

    async def open(self, peer_id: str, name: str, *, seconds: float = 10.0) -> Channel:
        channel = await self._swarm.open(peer_id, name, seconds=seconds)
        channel.__class__ = FragileChannel
        cast(FragileChannel, channel).owner = self
        return channel


@pytest.fixture(scope="module")
def host(loopback: Loopback, tiny: TinyCheckpoint) -> Host:
    return start_host(loopback, tiny, "host", Span(0, 4))


@pytest.fixture(scope="module")
def client(loopback: Loopback) -> Swarm:
    return loopback.join("client")


def session_of(swarm: Any, host: Host, tiny: TinyCheckpoint) -> RemoteSession:
    async def find() -> list[Any]:
        return [host.offer]

    return RemoteSession(
        swarm, revision=tiny.revision, num_blocks=tiny.num_blocks, find=find, step_seconds=10.0
    )


async def say(session: RemoteSession, pieces: list[torch.Tensor]) -> list[torch.Tensor]:
    found = [await session.step(piece) for piece in pieces]
    await session.close()
    return found


@pytest.mark.parametrize("fault", Break)
def test_a_session_goes_on_at_the_same_peer(
    fault: Break, loopback: Loopback, tiny: TinyCheckpoint, host: Host, client: Swarm
) -> None:
    whole = checkpoints.load_whole(tiny.folder)
    ids = torch.arange(3, 3 + sum(STEPS))[None]
    with torch.inference_mode():
        pieces = list(whole.ends.embed(ids).split(list(STEPS), dim=1))
    unbroken = loopback.run(say(session_of(client, host, tiny), pieces))
    steps_before = host.service.num_steps
    session = session_of(Fragile(client, fault, {2, 5}), host, tiny)
    broken = loopback.run(say(session, pieces))
    assert all(torch.equal(a, b) for a, b in zip(broken, unbroken, strict=True))
    assert session.recoveries == []
    # Every step was computed once, however often it was sent.
    assert host.service.num_steps - steps_before == len(STEPS)


def test_a_peer_whose_streams_always_break_is_given_up(
    loopback: Loopback, tiny: TinyCheckpoint, host: Host, client: Swarm
) -> None:
    session = session_of(Fragile(client, Break.REQUEST, set(range(100))), host, tiny)
    with pytest.raises(PeerLostError, match="no reachable peer hosts block 0"):
        loopback.run(say(session, [torch.zeros(1, 2, tiny.d_model)]))
    assert len(session.recoveries) == 1
