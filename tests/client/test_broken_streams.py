"""Streams break while their peers live, or cannot be opened at all: the session goes on."""

from __future__ import annotations

import asyncio
import time

import pytest
import torch

from seshu_swarm.exchange.session_messages import PUSHES
from seshu_swarm.streams.protocol import SESSIONS
from tests.conftest import TinyCheckpoint
from tests.fleets import SNAPSHOT_TOKENS, TOLERANCE, Fleet, Member, go_through, pieces_of, worst
from tests.loopback import Loopback


@pytest.fixture(scope="module")
def fleet(loopback: Loopback, tiny: TinyCheckpoint) -> Fleet:
    return Fleet(loopback, tiny, 4)


@pytest.mark.parametrize("broken", [0, 1])
@pytest.mark.parametrize("spares", [[], ["0:4"]], ids=["alone", "spare"])
def test_a_control_stream_may_break_while_its_peer_lives(
    fleet: Fleet, broken: int, spares: list[str]
) -> None:
    """Without another peer its own one is asked again."""

    async def fault(members: list[Member]) -> None:
        assert members[broken].break_streams(SESSIONS) == 1

    spans = ["0:2", "2:4", *spares]
    session = fleet.loopback.run(go_through(fleet, spans, fault, first=2))
    assert 1 <= len(session.recoveries) <= 2


@pytest.mark.parametrize("broken", [[0], [1], [2], [0, 1, 2]], ids=str)
def test_push_streams_may_break_while_their_peers_live(fleet: Fleet, broken: list[int]) -> None:
    """They are opened again; nothing is lost or counted twice, and nobody is replaced."""

    async def fault(members: list[Member]) -> None:
        for number in broken:
            assert members[number].break_streams(PUSHES) > 0

    session = fleet.loopback.run(go_through(fleet, ["0:1", "1:3", "3:4"], fault))
    assert session.recoveries == []


def test_push_streams_may_break_under_a_long_prompt(fleet: Fleet) -> None:
    pieces = pieces_of(20, 2500, 1)

    async def steps() -> tuple[list[torch.Tensor], list[str]]:
        members = await fleet.host("0:1", "1:3", "3:4")
        session = fleet.session()
        found = [await session.step(pieces[0])]
        stepping = asyncio.create_task(session.step(pieces[1]))
        for number in (1, 2, 0, 2, 1):
            await asyncio.sleep(0.02)
            members[number].break_streams(PUSHES)
        assert not stepping.done()
        found += [await stepping, await session.step(pieces[2])]
        await session.close()
        return found, session.recoveries

    found, recoveries = fleet.loopback.run(steps())
    assert worst(found, fleet.expected(pieces)) < TOLERANCE
    assert recoveries == []


async def at_once(fleet: Fleet, walls: list[tuple[int, int]]) -> tuple[float, int]:
    """Steps over three peers some of which cannot reach others; seconds, and bytes the client sent."""
    members = await fleet.host("0:1", "1:3", "3:4")
    for one, other in walls:
        members[one].unreachable.add(members[other].peer_id)
    session = fleet.session()
    pieces = pieces_of(70, 1, 1, 100, 1)
    began = time.monotonic()
    found = [await session.step(piece) for piece in pieces]
    seconds = time.monotonic() - began
    assert worst(found, fleet.expected(pieces)) < TOLERANCE
    assert session.recoveries == []
    # The client keeps what it carries only until a snapshot makes it dispensable.
    feeds = [leg.feed for leg in session._conversation.legs if leg.feed is not None]
    async with asyncio.timeout(5.0):
        while any(feed.end - feed.start > 2 * SNAPSHOT_TOKENS + 100 for feed in feeds):
            await asyncio.sleep(0.01)
    sent = session.sent_bytes
    await session.close()
    return seconds, sent


@pytest.mark.parametrize(
    "walls",
    [[(0, 1)], [(1, 0)], [(1, 2)], [(2, 1)], [(0, 1), (1, 0)], [(0, 1), (1, 2), (2, 1), (1, 0)]],
    ids=str,
)
def test_the_client_carries_what_peers_cannot_push(
    fleet: Fleet, walls: list[tuple[int, int]]
) -> None:
    _, in_a_ring = fleet.loopback.run(at_once(fleet, []))
    seconds, sent = fleet.loopback.run(at_once(fleet, walls))
    edges_carried = len({frozenset(wall) for wall in walls})
    assert sent > in_a_ring + edges_carried * 173 * 32 * 4 * 0.9
    # Known at once from the peer that failed to dial, not from a deadline.
    assert seconds < 2.0


def test_a_peer_that_is_lost_is_replaced_where_the_client_carries(fleet: Fleet) -> None:
    pieces = pieces_of(90, 1, 1, 60, 1)

    async def steps() -> tuple[list[torch.Tensor], list[str]]:
        members = await fleet.host("0:1", "1:3", "3:4", "1:3")
        members[3].step_seconds = 1.0
        members[0].unreachable |= {members[1].peer_id, members[3].peer_id}
        session = fleet.session()
        found = [await session.step(piece) for piece in pieces[:2]]
        await members[1].kill()
        found += [await session.step(piece) for piece in pieces[2:]]
        await session.close()
        return found, session.recoveries

    found, recoveries = fleet.loopback.run(steps())
    assert worst(found, fleet.expected(pieces)) < TOLERANCE
    assert len(recoveries) == 1
