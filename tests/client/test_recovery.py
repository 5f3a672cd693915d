"""Whatever is lost, and whenever: the session goes on, its results equal the whole model's."""

from __future__ import annotations

import asyncio
import time

import pytest
import torch

from seshu_swarm.client.chain import mending
from seshu_swarm.client.chain.session import RemoteSession
from seshu_swarm.errors import PeerLostError
from tests.conftest import TinyCheckpoint
from tests.fleets import (
    AFTER,
    BEFORE,
    TOLERANCE,
    Fault,
    Fleet,
    Member,
    go_through,
    pieces_of,
    worst,
)
from tests.loopback import Loopback


@pytest.fixture(scope="module")
def fleet(loopback: Loopback, tiny: TinyCheckpoint) -> Fleet:
    return Fleet(loopback, tiny, 6)


def kill(*numbers: int) -> Fault:
    async def fault(members: list[Member]) -> None:
        for number in numbers:
            await members[number].kill()

    return fault


@pytest.mark.parametrize(
    ("lost", "spares", "num_losses"),
    [
        ([0], ["0:1"], 1),
        ([1], ["1:3"], 1),
        ([2], ["3:4"], 1),
        ([0, 1], ["0:4"], 2),
        ([1, 2], ["0:4"], 2),
        ([0, 2], ["0:4"], 2),
        ([0, 1, 2], ["0:4"], 3),
        ([1], ["0:2", "2:4"], 1),
        ([1], ["0:2", "2:3"], 1),
        ([0, 1], ["0:2", "2:4"], 2),
    ],
    ids=lambda each: str(each).replace("'", ""),
)
def test_lost_peers_are_replaced(
    fleet: Fleet, lost: list[int], spares: list[str], num_losses: int
) -> None:
    """First, middle and last; neighbours; all; by peers with the same and with other boundaries."""
    chain = ["0:1", "1:3", "3:4"]
    session = fleet.loopback.run(go_through(fleet, [*chain, *spares], kill(*lost), first=3))
    assert len(session.recoveries) == num_losses
    for number in lost:
        assert any(f"blocks {chain[number]} lost at token 92" in r for r in session.recoveries)
    for one in session.replaced:
        assert one.span is not None and one.seconds is not None and 0 < one.seconds < 10
        assert not one.said_goodbye and one.lost not in [hop.peer_id for hop in one.by]
        taken = {block for hop in one.by for block in hop.span}
        assert set(one.span) <= taken, "the losses are named with who took each block over"
        assert set(one.by) <= set(session.chain)
    assert [block for hop in session.chain for block in hop.span] == [0, 1, 2, 3]


def test_a_part_that_stays_computes_nothing_twice(fleet: Fleet) -> None:
    """The replacement catches up from the last snapshot, not from the beginning."""
    computed: dict[int, int] = {}

    async def fault(members: list[Member]) -> None:
        computed[0] = members[0].service.engine.num_steps
        await members[1].kill()

    async def steps() -> tuple[int, int]:
        await go_through(fleet, ["0:2", "2:4", "2:4"], fault, first=2)
        stayed, spare = fleet.members[0], fleet.members[2]
        return stayed.service.engine.num_steps - computed[0], spare.service.engine.num_steps

    stayed, caught_up = fleet.loopback.run(steps())
    # 60 tokens pass the snapshot at 128, which cuts them into two chunks.
    assert stayed == len(AFTER) + 1
    assert len(AFTER) + 1 <= caught_up <= len(AFTER) + 1 + 4


@pytest.mark.parametrize("lost", [0, 1, 2])
@pytest.mark.parametrize("after_seconds", [0.01, 0.05, 0.12])
def test_lost_while_a_long_prompt_is_under_way(
    fleet: Fleet, lost: int, after_seconds: float
) -> None:
    pieces = pieces_of(20, 2500, 1)

    async def steps() -> tuple[list[torch.Tensor], list[str]]:
        members = await fleet.host("0:1", "1:3", "3:4", "0:4")
        members[-1].step_seconds = 1.0
        session = fleet.session()
        found = [await session.step(pieces[0])]
        stepping = asyncio.create_task(session.step(pieces[1]))
        await asyncio.sleep(after_seconds)
        assert not stepping.done()
        await members[lost].kill()
        found += [await stepping, await session.step(pieces[2])]
        await session.close()
        return found, session.recoveries

    found, recoveries = fleet.loopback.run(steps())
    assert worst(found, fleet.expected(pieces)) < TOLERANCE
    assert len(recoveries) == 1


def test_a_replacement_may_be_lost_too(fleet: Fleet) -> None:
    pieces = pieces_of(70, 1, 1, 1, 1, 1)

    async def steps() -> tuple[list[torch.Tensor], list[str]]:
        members = await fleet.host("0:2", "2:4", "2:4", "2:4", "2:4")
        session = fleet.session()
        found = [await session.step(pieces[0])]
        for piece, doomed in zip(pieces[1:4], members[1:4], strict=True):
            await doomed.kill()
            found.append(await session.step(piece))
            assert session.peers[1] != doomed.peer_id
        found += [await session.step(piece) for piece in pieces[4:]]
        await session.close()
        return found, session.recoveries

    found, recoveries = fleet.loopback.run(steps())
    assert worst(found, fleet.expected(pieces)) < TOLERANCE
    assert len(recoveries) == 3


def test_announced_replacements_that_are_dead_themselves_are_passed_over(fleet: Fleet) -> None:
    session = fleet.loopback.run(
        go_through(fleet, ["0:2", "2:4", "2:4", "2:4", "0:4"], kill(1, 2, 3), first=4)
    )
    assert len(session.recoveries) == 3


def test_one_peer_may_take_over_both_halves(fleet: Fleet) -> None:
    """First the second half is lost, then the first: the same peer serves two parts of a chain."""
    pieces = pieces_of(70, 1, 1, 1, 80, 1)

    async def steps() -> tuple[list[torch.Tensor], list[str], list[str]]:
        members = await fleet.host("0:2", "2:4", "0:4")
        members[2].step_seconds = 1.0
        session = fleet.session()
        found = [await session.step(pieces[0])]
        for doomed, piece in zip((members[1], members[0]), pieces[1:3], strict=True):
            await doomed.kill()
            found.append(await session.step(piece))
        found += [await session.step(piece) for piece in pieces[3:]]
        peers, recoveries = session.peers, session.recoveries
        await session.close()
        return found, peers, recoveries

    found, peers, recoveries = fleet.loopback.run(steps())
    assert worst(found, fleet.expected(pieces)) < TOLERANCE
    assert peers == [fleet.members[2].peer_id] * 2
    assert len(recoveries) == 2


@pytest.mark.parametrize("lost", [0, 1])
def test_the_only_peer_that_says_it_has_the_blocks_is_tried_until_it_answers(
    fleet: Fleet, lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed, and comes back later than one would look for others; its record still stands."""
    monkeypatch.setattr(mending, "FIND_SECONDS", 0.2)
    monkeypatch.setattr(mending, "FORGIVE_SECONDS", 0.2)
    pieces = pieces_of(70, 1, 1, 1)

    async def steps() -> tuple[list[torch.Tensor], list[str]]:
        members = await fleet.host("0:2", "2:4")
        session = fleet.session()
        found = [await session.step(piece) for piece in pieces[:2]]
        span = members[lost].span
        await members[lost].kill()
        going_on = asyncio.create_task(session.step(pieces[2]))
        await asyncio.sleep(1.0)
        assert not going_on.done()
        await members[lost].take(fleet.served(span))
        found += [await going_on, await session.step(pieces[3])]
        peers = session.peers
        await session.close()
        return found, peers

    found, peers = fleet.loopback.run(steps())
    assert worst(found, fleet.expected(pieces)) < TOLERANCE
    assert peers == [member.peer_id for member in fleet.members]


@pytest.mark.parametrize("lost", [0, 1])
def test_when_nobody_is_left_the_block_is_named_in_time(
    fleet: Fleet, lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mending, "REACH_SECONDS", 1.0)
    monkeypatch.setattr(mending, "FORGIVE_SECONDS", 0.2)
    began = time.monotonic()
    with pytest.raises(
        PeerLostError, match=rf"no reachable peer hosts block {2 * lost}.*peer host"
    ):
        fleet.loopback.run(go_through(fleet, ["0:2", "2:4"], kill(lost)))
    assert time.monotonic() - began < 4.0


def test_a_peer_that_always_refuses_is_not_asked_for_ever(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that it has the blocks, and has no room: each refusal comes at once."""
    monkeypatch.setattr(mending, "REACH_SECONDS", 1.5)
    monkeypatch.setattr(mending, "FORGIVE_SECONDS", 0.2)

    async def steps() -> float:
        members = await fleet.host("0:2", "2:4")
        session = fleet.session()
        pieces = pieces_of(70, 1)
        await session.step(pieces[0])
        await members[1].kill()
        await members[1].take(fleet.served(members[1].span), max_sessions=0)
        began = time.monotonic()
        with pytest.raises(PeerLostError, match="no reachable peer hosts block 2"):
            await session.step(pieces[1])
        await session.close()
        return time.monotonic() - began

    assert fleet.loopback.run(steps()) < 10.0


@pytest.mark.parametrize("silent", [0, 1])
def test_a_silent_peer_is_replaced_within_about_a_second(fleet: Fleet, silent: int) -> None:
    """Its streams stand and nothing comes: as a process that was stopped."""

    async def steps() -> tuple[float, RemoteSession]:
        members = await fleet.host("0:2", "2:4", "0:4")
        members[2].step_seconds = 1.0
        session = fleet.session()
        pieces = pieces_of(20, *[1] * 9)
        found = [await session.step(piece) for piece in pieces[:8]]
        members[silent].awake.clear()
        began = time.monotonic()
        found.append(await session.step(pieces[8]))
        seconds = time.monotonic() - began
        # It wakes up and says what it had to say: too late, nobody listens.
        members[silent].awake.set()
        await asyncio.sleep(0.05)
        found.append(await session.step(pieces[9]))
        assert worst(found, fleet.expected(pieces)) < TOLERANCE
        await session.close()
        return seconds, session

    seconds, session = fleet.loopback.run(steps())
    assert seconds < 1.5
    assert len(session.recoveries) == 1 and "silent" in session.recoveries[0]
    [told] = session.replaced
    assert told.seconds is not None and 0.8 * seconds < told.seconds <= seconds
    assert not told.said_goodbye


@pytest.mark.parametrize("leaving", [0, 1, 2])
def test_a_peer_that_leaves_hands_its_state_over(fleet: Fleet, leaving: int) -> None:
    """The replacement begins exactly where the session is: nothing is computed again."""
    pieces = pieces_of(*BEFORE, *AFTER)

    async def steps() -> tuple[list[torch.Tensor], RemoteSession, list[int], int]:
        members = await fleet.host("0:1", "1:3", "3:4", "0:4")
        members[3].step_seconds = 1.0
        session = fleet.session()
        found = [await session.step(piece) for piece in pieces[: len(BEFORE)]]
        before = [member.service.engine.num_steps for member in members]
        service = members[leaving].service
        service.is_draining = True
        assert service.notify("DRAINING") == 1
        # Between two steps already: a user may take his time.
        async with asyncio.timeout(2.0):
            while service.num_sessions or not members[3].parts:
                await asyncio.sleep(0.01)
        [hosted] = members[3].parts
        position = hosted.part.position
        await members[leaving].kill()
        found += [await session.step(piece) for piece in pieces[len(BEFORE) :]]
        after = [m.service.engine.num_steps for m in members if m is not members[leaving]]
        before.pop(leaving)
        await session.close()
        computed = [b - a for a, b in zip(before, after, strict=True)]
        return found, session, computed, position

    found, session, computed, position = fleet.loopback.run(steps())
    assert worst(found, fleet.expected(pieces)) < TOLERANCE
    assert position == sum(BEFORE)
    assert computed == [len(AFTER) + 1] * 3
    assert len(session.recoveries) == 1 and "it leaves" in session.recoveries[0]
    [told] = session.replaced
    assert told.said_goodbye and told.position == sum(BEFORE)
    assert told.seconds is not None and 0 < told.seconds < 2.0, "no user's pause is counted"


def test_a_peer_that_leaves_under_a_long_prompt_fails_no_step(fleet: Fleet) -> None:
    pieces = pieces_of(20, 2500, 1)

    async def steps() -> list[torch.Tensor]:
        members = await fleet.host("0:2", "2:4", "0:4")
        members[2].step_seconds = 1.0
        session = fleet.session()
        found = [await session.step(pieces[0])]
        stepping = asyncio.create_task(session.step(pieces[1]))
        await asyncio.sleep(0.03)
        members[1].service.is_draining = True
        members[1].service.notify("DRAINING")
        async with asyncio.timeout(5.0):
            while members[1].service.num_sessions:
                await asyncio.sleep(0.005)
        found += [await stepping, await session.step(pieces[2])]
        await session.close()
        return found

    assert worst(fleet.loopback.run(steps()), fleet.expected(pieces)) < TOLERANCE


def test_a_stall_does_not_grow_with_the_length_of_the_session(fleet: Fleet) -> None:
    """What a replacement computes is bounded by the distance of snapshots."""

    async def caught_up(num_tokens: int) -> int:
        members = await fleet.host("0:2", "2:4", "2:4")
        session = fleet.session()
        await session.step(pieces_of(num_tokens)[0])
        await asyncio.sleep(0.1)
        await members[1].kill()
        await session.step(pieces_of(1)[0])
        [hosted] = members[2].parts
        assert hosted.part.position == num_tokens + 1
        await session.close()
        return members[2].service.engine.num_steps

    few, many = (fleet.loopback.run(caught_up(n)) for n in (100, 3300))
    assert few <= 3 and many <= 3
