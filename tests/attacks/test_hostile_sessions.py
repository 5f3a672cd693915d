"""Strangers and bad neighbours of a session: it goes on, other sessions too, and budgets hold."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import psutil
import pytest
import torch

from seshu_swarm.errors import PeerError, RefusalError
from seshu_swarm.exchange import pushing
from seshu_swarm.exchange.edges import CLIENT_PART, address, together
from seshu_swarm.exchange.session_messages import (
    FROM_CLIENT,
    PUSHES,
    AskSnapshot,
    EdgeAt,
    EdgeAttach,
    EdgePiece,
    Notice,
    OpenPart,
    PartOpened,
    Ping,
    Pong,
    ReroutePart,
    SnapshotChunk,
)
from seshu_swarm.network.dht import Swarm
from seshu_swarm.peer import admission, serving
from seshu_swarm.peer.hosted import MAX_KEPT_TOKENS
from seshu_swarm.streams import outbox, wire
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.frames import FrameKind
from seshu_swarm.streams.protocol import SESSIONS, Message
from tests.conftest import TinyCheckpoint
from tests.fleets import TOLERANCE, Fleet, Member, pieces_of, worst
from tests.loopback import Loopback
from tests.spans import PART_ID, ControlStream, Host, open_part

OTHER_ID = bytes(range(16, 32))
NAN = torch.full((1, 1, 32), float("nan"))


@pytest.fixture(scope="module")
def fleet(loopback: Loopback, tiny: TinyCheckpoint) -> Fleet:
    return Fleet(loopback, tiny, 2)


@pytest.fixture(scope="module")
def mallory(loopback: Loopback, fleet: Fleet) -> Swarm:
    return loopback.join("mallory")


async def victim(fleet: Fleet, *, max_sessions: int = 16) -> tuple[Host, Member]:
    """A peer with all blocks."""
    [member] = await fleet.host("0:4", max_sessions=max_sessions)
    return Host(member.swarm, member.service, member.span), member


async def answers(control: ControlStream, fleet: Fleet, position: int, *before: int) -> None:
    """The session computes what it should, after pieces of these sizes."""
    pieces = pieces_of(*before, 1)
    output = await control.step(position, pieces[-1])
    assert worst([output], fleet.expected(pieces)[-1:]) < TOLERANCE


def piece(position: int, hidden: torch.Tensor, to: bytes = PART_ID, epoch: int = 0) -> EdgePiece:
    return EdgePiece(
        to=to,
        sender=OTHER_ID,
        epoch=epoch,
        position=position,
        hidden=wire.pack_tensor(hidden),
        seconds=0.0,
    )


_PAIR = next(together([piece(0, NAN), piece(0, NAN)]))
UNEVEN = _PAIR.model_copy(update={"epoch": [0]}).model_dump()

FORGED: dict[str, list[Message]] = {
    "a true piece": [piece(3, pieces_of(5)[0])],
    "a piece of the client": [piece(3, pieces_of(5)[0]).model_copy(update={"sender": CLIENT_PART})],
    "another epoch": [piece(3, pieces_of(5)[0], epoch=9)],
    "no numbers": [piece(3, NAN)],
    "another width": [piece(3, torch.zeros(1, 1, 31))],
    "too long": [piece(3, torch.zeros(1, 513, 32))],
    "several at once": [*together([piece(3, NAN), piece(3, pieces_of(1)[0], to=OTHER_ID)])],
    "where it is": [
        EdgeAt(to=PART_ID, sender=OTHER_ID, epoch=epoch, position=position)
        for epoch in (0, 1, 99)
        for position in (0, 3, 1 << 50)
    ],
    "a question": [EdgeAttach(to=PART_ID, sender=OTHER_ID, epoch=epoch) for epoch in (0, 5)],
}


@pytest.mark.parametrize("said", FORGED.values(), ids=FORGED)
def test_who_is_not_a_neighbour_is_not_heard(
    fleet: Fleet, mallory: Swarm, said: list[Message]
) -> None:
    """Mallory knows the id of the part, as its neighbours do."""

    async def attack() -> None:
        host, _ = await victim(fleet)
        control = await open_part(fleet.client, host, fleet.tiny.revision)
        await control.step(0, pieces_of(3)[0])
        stream = await mallory.open(host.swarm.peer_id, PUSHES)
        for message in said:
            await stream.send(message)
        await asyncio.sleep(0.05)
        assert host.service.engine.num_steps == 1
        await answers(control, fleet, 3, 3)
        stream.close()
        await control.end()

    fleet.loopback.run(attack())


def test_one_bad_token_among_others_ends_its_own_session_alone(fleet: Fleet) -> None:
    async def attack() -> None:
        host, _ = await victim(fleet)
        controls = [
            await open_part(fleet.client, host, fleet.tiny.revision, part_id=part_id)
            for part_id in (PART_ID, OTHER_ID)
        ]
        bad, good = controls
        good_piece, *_ = pieces_of(1)
        said = [piece(0, NAN), piece(0, good_piece, to=OTHER_ID)]
        mine = [message.model_copy(update={"sender": CLIENT_PART}) for message in said]
        [message] = together(mine)
        stream = await fleet.client.open(host.swarm.peer_id, PUSHES)
        await stream.send(message)
        assert worst([await good.output()], fleet.expected([good_piece])) < TOLERANCE
        with pytest.raises(RefusalError, match=r"MALFORMED.*NaN"):
            await bad.output()
        stream.close()
        await good.end()

    fleet.loopback.run(attack())


def test_a_stranger_can_neither_take_over_nor_end_a_session(fleet: Fleet, mallory: Swarm) -> None:
    async def attack() -> list[str]:
        host, _ = await victim(fleet)
        control = await open_part(fleet.client, host, fleet.tiny.revision, epoch=2)
        await control.step(0, pieces_of(3)[0])
        names = []
        for epoch in (1, 2, 3, 1 << 40):
            with pytest.raises(RefusalError) as refused:
                await open_part(mallory, host, fleet.tiny.revision, epoch=epoch)
            names.append(refused.value.name)
        await answers(control, fleet, 3, 3)
        return names

    assert fleet.loopback.run(attack()) == ["EPOCH_FENCED"] * 4


def test_a_flood_of_unknown_parts_costs_nothing(fleet: Fleet, mallory: Swarm) -> None:
    async def attack() -> float:
        host, _ = await victim(fleet)
        control = await open_part(fleet.client, host, fleet.tiny.revision)
        await control.step(0, pieces_of(3)[0])
        stream = await mallory.open(host.swarm.peer_id, PUSHES)

        async def flood() -> None:
            for number in range(3_000):
                await stream.send(piece(0, NAN, to=number.to_bytes(16, "big")))
                await stream.send(
                    EdgeAttach(to=number.to_bytes(16, "big"), sender=OTHER_ID, epoch=0)
                )

        flooding = asyncio.create_task(flood())
        began = time.monotonic()
        await answers(control, fleet, 3, 3)
        seconds = time.monotonic() - began
        await flooding
        assert host.service.num_sessions == 1 and host.service.engine.num_steps == 2
        stream.close()
        return seconds

    before = psutil.Process().memory_info().rss
    assert fleet.loopback.run(attack()) < 1.0
    assert psutil.Process().memory_info().rss - before < 32 << 20


@pytest.mark.parametrize(
    "body",
    [
        {"type": "open"},
        {"type": "piece"},
        {"type": "pieces"},
        UNEVEN,
        {"type": "ping"},
        {"type": ["at"]},
        {},
        [],
        "text",
        None,
    ],
    ids=str,
)
def test_what_is_no_message_ends_its_stream_alone(fleet: Fleet, mallory: Swarm, body: Any) -> None:
    async def attack() -> None:
        host, _ = await victim(fleet)
        control = await open_part(fleet.client, host, fleet.tiny.revision)
        await control.step(0, pieces_of(3)[0])
        stream = await mallory.open(host.swarm.peer_id, PUSHES)
        await stream._write(FrameKind.MESSAGE, body)
        with pytest.raises(RefusalError, match="MALFORMED"):
            await stream.receive_one_of({}, seconds=5, what="a refusal")
        stream.close()
        await answers(control, fleet, 3, 3)

    fleet.loopback.run(attack())


@pytest.mark.parametrize("snapshot_tokens", [0, -1, 4_097, 65_536, 1 << 63])
def test_who_wants_a_snapshot_later_than_a_part_can_wait_is_refused(
    fleet: Fleet, mallory: Swarm, snapshot_tokens: int
) -> None:
    """A part ends sessions of which it keeps too many tokens; the most that may be asked for fits."""

    async def attack() -> int:
        host, _ = await victim(fleet)
        control = await open_part(fleet.client, host, fleet.tiny.revision, snapshot_tokens=4_096)
        await control.step(0, pieces_of(3)[0])
        opening = OpenPart(
            part_id=OTHER_ID,
            epoch=0,
            revision=fleet.tiny.revision,
            start=0,
            end=4,
            before="",
            next="",
            position=0,
            state_bytes=0,
            snapshot_tokens=64,
            wire_type="float32",
        )
        stream = await mallory.open(host.swarm.peer_id, SESSIONS)
        body = opening.model_dump() | {"snapshot_tokens": snapshot_tokens}
        await stream._write(FrameKind.MESSAGE, body)
        with pytest.raises(RefusalError, match=r"MALFORMED.*snapshot_tokens"):
            await stream.receive(PartOpened, seconds=5, what="a refusal")
        stream.close()
        await answers(control, fleet, 3, 3)
        return host.service.num_sessions

    assert 2 * 4_096 <= MAX_KEPT_TOKENS
    assert fleet.loopback.run(attack()) == 1


def test_who_opens_and_says_nothing_takes_no_room(
    fleet: Fleet, mallory: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silent streams, and streams that announce a state and never send it."""
    monkeypatch.setattr(serving, "OPEN_SECONDS", 0.5)
    monkeypatch.setattr(admission, "OPEN_SECONDS", 0.5)

    async def attack() -> list[str]:
        host, _ = await victim(fleet, max_sessions=2)
        streams = [await mallory.open(host.swarm.peer_id, SESSIONS) for _ in range(20)]
        for number, stream in enumerate(streams[10:]):
            await stream.send(
                OpenPart(
                    part_id=number.to_bytes(16, "big"),
                    epoch=0,
                    revision=fleet.tiny.revision,
                    start=0,
                    end=4,
                    before="",
                    next="",
                    position=7,
                    state_bytes=20_000,
                    snapshot_tokens=64,
                    wire_type="float32",
                )
            )
        for part_id in (PART_ID, OTHER_ID):
            control = await open_part(fleet.client, host, fleet.tiny.revision, part_id=part_id)
            await answers(control, fleet, 0)
        names = []
        for stream in streams:
            with pytest.raises(PeerError) as ended:
                await stream.receive(PartOpened, seconds=5, what="the end")
            names.append(type(ended.value).__name__)
            stream.close()
        return names

    assert "DeadlineError" not in fleet.loopback.run(attack())


def test_states_that_arrive_together_do_not_exceed_the_limit(fleet: Fleet, mallory: Swarm) -> None:
    async def attack() -> tuple[int, int]:
        host, _ = await victim(fleet, max_sessions=3)
        first = await open_part(mallory, host, fleet.tiny.revision)
        await first.step(0, pieces_of(7)[0])
        _, state = await first.state()
        opening = [
            open_part(
                mallory,
                host,
                fleet.tiny.revision,
                part_id=number.to_bytes(16, "big"),
                state=state,
                position=7,
            )
            for number in range(8)
        ]
        opened = await asyncio.gather(*opening, return_exceptions=True)
        refused = [each for each in opened if isinstance(each, RefusalError)]
        assert all(each.name == "MEMORY_FULL" for each in refused)
        return host.service.num_sessions, len(refused)

    assert fleet.loopback.run(attack()) == (3, 6)


def test_a_client_that_does_not_read_is_ended(
    fleet: Fleet, mallory: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks for snapshots, trims what it is sent, and listens to nothing."""
    monkeypatch.setattr(outbox, "MAX_WAITING_BYTES", 1 << 20)

    async def attack() -> None:
        host, _ = await victim(fleet)
        control = await open_part(fleet.client, host, fleet.tiny.revision, part_id=OTHER_ID)
        deaf = await open_part(mallory, host, fleet.tiny.revision, wire_type="float32")
        await deaf.step(0, pieces_of(5)[0])
        asking = asyncio.create_task(ask_forever(deaf))
        part = host.service._parts.get(PART_ID)
        assert part is not None and part.outbox is not None
        async with asyncio.timeout(10):
            while part.outbox is not None:
                assert part.outbox._waiting_bytes <= outbox.MAX_WAITING_BYTES + 65_536
                await asyncio.sleep(0.001)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        deaf.stream.close()
        await answers(control, fleet, 0)

    fleet.loopback.run(attack())


async def ask_forever(control: ControlStream) -> None:
    while True:
        await control.stream.send(AskSnapshot())
        await asyncio.sleep(0)


@pytest.mark.parametrize("following", ["0OIl#" + "0" * 32, "QmNobody#" + "0" * 32])
def test_a_next_part_that_is_nowhere_is_reported(
    fleet: Fleet, mallory: Swarm, following: str
) -> None:
    async def attack() -> str:
        host, _ = await victim(fleet)
        control = await open_part(mallory, host, fleet.tiny.revision, next=following)
        notice = await control.hear(Notice)
        await control.stream.send(ReroutePart(epoch=1, before="", next=""))
        control.epoch = 1
        await control.greet(0)
        await answers(control, fleet, 0)
        return notice.name

    assert fleet.loopback.run(attack()) == "NEXT_UNREACHABLE"


def test_a_peer_that_ends_every_stream_is_not_called_for_ever(fleet: Fleet, mallory: Swarm) -> None:
    async def attack() -> tuple[str, int]:
        host, _ = await victim(fleet)
        calls = 0

        async def hang_up(channel: Channel) -> None:
            nonlocal calls
            calls += 1

        await mallory.serve(PUSHES, hang_up)
        control = await open_part(
            fleet.client, host, fleet.tiny.revision, next=address(mallory.peer_id, OTHER_ID)
        )
        notice = await control.hear(Notice)
        await asyncio.sleep(0.1)
        return notice.name, calls

    assert fleet.loopback.run(attack()) == ("NEXT_UNREACHABLE", pushing.MAX_AT_ONCE)


async def in_earnest(channel: Channel, *said: Message) -> None:
    """Open, ask for the tokens from the beginning, answer every ping; then say this."""
    await channel.send(PartOpened(position=0))
    asked_at = EdgeAt(to=CLIENT_PART, sender=OTHER_ID, epoch=0, position=0)
    await channel.send(asked_at)
    for message in said:
        await channel.send(message)
    while asked := await channel.receive_one_of(FROM_CLIENT, seconds=20, what="anything"):
        if isinstance(asked, Ping):
            await channel.send(Pong(position=0, received=0, is_computing=True))


def reply(position: int, hidden: torch.Tensor) -> EdgePiece:
    return piece(position, hidden, to=CLIENT_PART)


def chunk(offset: int, total: int, data: bytes) -> SnapshotChunk:
    return SnapshotChunk(position=64, offset=offset, total=total, data=data)


BAD_ANSWERS: dict[str, list[Message]] = {
    "no numbers": [reply(0, NAN)],
    "another width": [reply(0, torch.zeros(1, 5, 31))],
    "too long": [reply(0, torch.zeros(1, 513, 32))],
    "a snapshot that is none": [chunk(0, 9, b"no state!")],
    "a snapshot that is too large": [chunk(0, 1 << 40, bytes(1 << 20))],
    "a snapshot that does not end": [chunk(n << 20, 1 << 40, bytes(1 << 20)) for n in range(20)],
    "a snapshot longer than it says": [chunk(0, 100, bytes(101))],
}


@pytest.mark.parametrize("said", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_a_peer_that_answers_badly_is_replaced(
    fleet: Fleet, mallory: Swarm, said: list[Message]
) -> None:
    pieces = pieces_of(5, 1)

    async def attack() -> tuple[list[torch.Tensor], list[str]]:
        bad, honest = await fleet.host("0:4", "0:4")
        honest.step_seconds = 1.0

        async def answer(channel: Channel) -> None:
            await channel.receive(OpenPart, seconds=5, what="a session")
            await in_earnest(channel, *said)

        await bad.refuse(SESSIONS)
        await bad.swarm.serve(SESSIONS, answer)
        session = fleet.session()
        found = [await session.step(given) for given in pieces]
        await session.close()
        await bad.refuse(SESSIONS)
        return found, session.recoveries

    began = time.monotonic()
    found, recoveries = fleet.loopback.run(attack())
    assert worst(found, fleet.expected(pieces)) < TOLERANCE
    assert len(recoveries) == 1
    assert time.monotonic() - began < 2.0, "known at once, not from a deadline"
