"""What a model's sessions are made with reaches them: a star feeds every part, a hub carries the pieces."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
import torch

from seshu_swarm.client.chain.hub import Hub
from seshu_swarm.client.chain.routing import Offer
from seshu_swarm.client.remote.model import RemoteModel
from seshu_swarm.exchange import edges
from seshu_swarm.exchange.session_messages import PUSHES
from seshu_swarm.network.dht import Found, Swarm
from seshu_swarm.network.link import Link
from seshu_swarm.run.joining import Joined
from seshu_swarm.sessions.messages import CLIENT
from tests.conftest import TinyCheckpoint
from tests.fleets import TOLERANCE, Fleet, pieces_of, worst
from tests.loopback import RUN_ID, Loopback
from tests.samples import run_record

SPANS = ("0:1", "1:3", "3:4")
NUM_TOKENS = 20
TOKEN_BYTES = 32 * 4
PROMPT, *TOKENS = pieces_of(9, *[1] * NUM_TOKENS)


@pytest.fixture(scope="module")
def fleet(loopback: Loopback, tiny: TinyCheckpoint) -> Fleet:
    return Fleet(loopback, tiny, len(SPANS))


class Known(RemoteModel):
    """Knows its peers without asking the DHT."""

    fleet: Fleet

    async def offers(self, *, most_seconds: float = 0.0) -> list[Offer]:
        return [member.offer for member in self.fleet.members]


def model_over(fleet: Fleet, hub: Hub | None) -> Known:
    me = fleet.loopback.identity("client")
    found = Found(run_record(me, revision=fleet.tiny.revision), me.peer_id, 0.0)
    link = Link(RUN_ID, me.fingerprint, ())
    joined = Joined(fleet.client, link, found, fleet.loopback.folder / "client")
    model = Known(joined, fleet.whole.ends, fleet.tiny.revision, hub)
    model.fleet = fleet
    return model


async def fresh_hub(swarm: Swarm) -> Hub:
    """One that has not yet met members which a test before has killed."""
    if PUSHES in swarm._p2p._client.control.handlers:
        await swarm._p2p._client.remove_stream_handler(PUSHES)
    hub = Hub(swarm)
    await swarm.serve(PUSHES, hub.serve)
    return hub


@dataclass(frozen=True)
class Told:
    """Of one session: who each part says is before and after it, by peer id (the client has none);
    bytes of `NUM_TOKENS` tokens on the control streams; who was sent pieces by the hub."""

    before: list[str]
    following: list[str]
    control_bytes: int
    pushed_to: set[str]
    outputs: list[torch.Tensor]


def tell(fleet: Fleet, *, is_star: bool, has_hub: bool) -> Told:
    async def steps() -> Told:
        members = await fleet.host(*SPANS)
        hub = await fresh_hub(fleet.client) if has_hub else None
        session = model_over(fleet, hub).session(is_star=is_star)
        outputs = [await session.step(PROMPT)]
        sent = session.sent_bytes
        outputs += [await session.step(token) for token in TOKENS]
        sent = session.sent_bytes - sent
        parts = [hosted.part for member in members for hosted in member.parts]
        told = Told(
            [edges.split(part.before)[0] for part in parts],
            [edges.split(part.next)[0] for part in parts],
            sent,
            set(hub._pushes._outboxes) if hub else set(),
            outputs,
        )
        await session.close()
        if hub is not None:
            await hub._pushes.close()
        async with asyncio.timeout(5.0):
            while any(member.service.num_sessions for member in members):
                await asyncio.sleep(0.01)
        return told

    return fleet.loopback.run(steps())


@pytest.mark.parametrize("has_hub", [False, True])
def test_in_a_star_the_client_feeds_every_part(fleet: Fleet, has_hub: bool) -> None:
    told = tell(fleet, is_star=True, has_hub=has_hub)
    client = edges.split(CLIENT)[0]
    assert told.before == told.following == [client] * len(SPANS)
    assert worst(told.outputs, fleet.expected([PROMPT, *TOKENS])) < TOLERANCE


@pytest.mark.parametrize("has_hub", [False, True])
def test_in_a_ring_it_feeds_the_first_and_hears_the_last(fleet: Fleet, has_hub: bool) -> None:
    told = tell(fleet, is_star=False, has_hub=has_hub)
    client, peers = edges.split(CLIENT)[0], [member.peer_id for member in fleet.members]
    assert told.before == [client, *peers[:-1]]
    assert told.following == [*peers[1:], client]


def test_a_star_costs_the_client_the_bytes_of_every_hop(fleet: Fleet) -> None:
    ring, star = (tell(fleet, is_star=is_star, has_hub=False) for is_star in (False, True))
    assert ring.control_bytes > NUM_TOKENS * TOKEN_BYTES
    # A machine that stalls for a moment adds a ping or two.
    assert star.control_bytes == pytest.approx(len(SPANS) * ring.control_bytes, rel=0.1)


@pytest.mark.parametrize("is_star", [False, True])
def test_new_sessions_use_the_hub_of_their_model(fleet: Fleet, is_star: bool) -> None:
    """Control streams carry no piece then: the hub has a stream to whoever the client feeds."""
    told = tell(fleet, is_star=is_star, has_hub=True)
    fed = fleet.members if is_star else fleet.members[:1]
    assert told.pushed_to >= {member.peer_id for member in fed}
    assert told.control_bytes < NUM_TOKENS * TOKEN_BYTES / 2
