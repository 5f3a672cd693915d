"""A span behind a real peer: every token counts once, refusals have names, limits are the owner's."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from seshu_swarm import checkpoints
from seshu_swarm.errors import PeerError, PeerLostError, RefusalError
from seshu_swarm.exchange.session_messages import (
    EdgeAt,
    EdgePiece,
    Notice,
    OpenPart,
    PartOpened,
    Ping,
    Pong,
    SnapshotChunk,
    TrimPart,
)
from seshu_swarm.mamba.state import RecurrentState
from seshu_swarm.network.dht import Swarm
from seshu_swarm.peer import hosted, serving
from seshu_swarm.peer.guest import Limits
from seshu_swarm.sessions.log import MAX_PIECE_TOKENS
from seshu_swarm.spans import Span
from seshu_swarm.streams import wire
from seshu_swarm.streams.protocol import SESSIONS, Chunk
from tests.conftest import TinyCheckpoint
from tests.fleets import pieces_of
from tests.loopback import Loopback
from tests.spans import ControlStream, Host, make_guest, open_part, start_host

SPAN = Span(1, 3)
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def host(loopback: Loopback, tiny: TinyCheckpoint) -> Host:
    return start_host(loopback, tiny, "host", SPAN, max_sessions=3)


@pytest.fixture(scope="module")
def client(loopback: Loopback, host: Host) -> Swarm:
    return loopback.join("client")


@pytest.fixture(autouse=True)
def nothing_is_left(host: Host) -> None:
    """Each test begins with no part."""
    for each in host.service._parts.all():
        host.service._close(each)


def hidden(num_tokens: int, seed: int = 0) -> torch.Tensor:
    return pieces_of(num_tokens, seed=seed)[0]


def part(number: int) -> dict[str, Any]:
    return {"part_id": number.to_bytes(16)}


def expected(
    tiny: TinyCheckpoint, pieces: list[torch.Tensor]
) -> tuple[list[torch.Tensor], RecurrentState]:
    """The same blocks in this process, state carried from piece to piece."""
    module = checkpoints.load_span(tiny.folder, SPAN)
    state: RecurrentState | None = RecurrentState.zeros(module.shape, SPAN)
    outputs = []
    with torch.inference_mode():
        for piece in pieces:
            output, state = module(piece, state)
            outputs.append(output)
    assert state is not None
    return outputs, state


def close(found: list[torch.Tensor], reference: list[torch.Tensor]) -> bool:
    pairs = zip(found, reference, strict=True)
    return all(torch.allclose(a, b, atol=TOLERANCE) for a, b in pairs)


def test_steps_equal_the_same_blocks_run_here(
    loopback: Loopback, tiny: TinyCheckpoint, host: Host, client: Swarm
) -> None:
    pieces = pieces_of(7, 1, 1, 3)

    async def steps() -> list[EdgePiece]:
        control = await open_part(client, host, tiny.revision)
        replies, position = [], 0
        for piece in pieces:
            await control.send(position, piece)
            replies.append(await control.hear(EdgePiece))
            assert replies[-1].position == position
            position += piece.shape[1]
        await control.end()
        return replies

    replies = loopback.run(steps())
    assert all(reply.seconds > 0 for reply in replies)
    tensors = [wire.unpack_tensor(reply.hidden, (1, None, 32)) for reply in replies]
    assert close(tensors, expected(tiny, pieces)[0])
    assert host.service.num_sessions == 0


def test_a_token_counts_once_however_often_it_is_sent(
    loopback: Loopback, tiny: TinyCheckpoint, host: Host, client: Swarm
) -> None:
    pieces = pieces_of(5, 2, 1)

    async def steps() -> tuple[list[torch.Tensor], int]:
        control = await open_part(client, host, tiny.revision)
        found = [await control.step(0, pieces[0])]
        before = host.service.engine.num_steps
        await control.send(0, pieces[0])
        await control.send(0, hidden(4, seed=9))  # even with other content
        # Three known tokens and two new ones: only these are absorbed.
        overlapping = torch.cat([hidden(3, seed=8), pieces[1]], dim=1)
        found.append(await control.step(2, overlapping, num_new=2))
        found.append(await control.step(7, pieces[2]))
        return found, host.service.engine.num_steps - before

    found, computed = loopback.run(steps())
    assert computed == 2
    assert close(found, expected(tiny, pieces)[0])


def test_a_gap_is_answered_with_the_position_to_go_on_from(
    loopback: Loopback, tiny: TinyCheckpoint, host: Host, client: Swarm
) -> None:
    async def steps() -> tuple[int, torch.Tensor]:
        control = await open_part(client, host, tiny.revision)
        await control.step(0, hidden(2))
        await control.send(5, hidden(1))
        at = await control.hear(EdgeAt)
        return at.position, await control.step(at.position, hidden(1, seed=1))

    position, output = loopback.run(steps())
    assert position == 2
    assert close([output], expected(tiny, [hidden(2), hidden(1, seed=1)])[0][1:])


def test_outputs_are_sent_again_to_a_client_that_lacks_them(
    loopback: Loopback, tiny: TinyCheckpoint, host: Host, client: Swarm
) -> None:
    pieces = pieces_of(3, 1, 1)

    async def steps() -> tuple[torch.Tensor, torch.Tensor]:
        control = await open_part(client, host, tiny.revision)
        await control.step(0, pieces[0])
        await control.step(3, pieces[1])
        await control.step(4, pieces[2])
        await control.greet(3)
        from_three = await control.output()
        await control.greet(0)
        return from_three, await control.output()

    from_three, whole = loopback.run(steps())
    outputs, _ = expected(tiny, pieces)
    assert close([from_three], [torch.cat(outputs[1:], dim=1)])
    assert close([whole], [torch.cat(outputs, dim=1)])


def test_a_session_goes_on_over_another_stream_where_it_stood(
    loopback: Loopback, tiny: TinyCheckpoint, host: Host, client: Swarm
) -> None:
    async def steps() -> torch.Tensor:
        control = await open_part(client, host, tiny.revision)
        await control.step(0, hidden(4))
        control.stream.close()
        again = await open_part(client, host, tiny.revision)
        assert again.position == 4
        return await again.step(4, hidden(1, seed=1))

    reference, _ = expected(tiny, [hidden(4), hidden(1, seed=1)])
    assert close([loopback.run(steps())], reference[1:])


def test_a_higher_epoch_fences_the_older_stream(
    loopback: Loopback, tiny: TinyCheckpoint, host: Host, client: Swarm
) -> None:
    async def steps() -> list[str]:
        old = await open_part(client, host, tiny.revision, epoch=1)
        await old.step(0, hidden(2))
        new = await open_part(client, host, tiny.revision, epoch=2)
        assert new.position == 0
        names = []
        with pytest.raises(RefusalError) as fenced:
            await old.hear(EdgePiece)
        names.append(fenced.value.name)
        with pytest.raises(RefusalError) as late:
            await open_part(client, host, tiny.revision, epoch=1)
        names.append(late.value.name)
        # A piece of another epoch is passed over, older or newer; the stream stands.
        await new.send(0, hidden(3, seed=5), epoch=1)
        await new.send(0, hidden(3, seed=5), epoch=3)
        assert (await new.step(0, hidden(2))).shape[1] == 2
        return names

    assert loopback.run(steps()) == ["EPOCH_FENCED", "EPOCH_FENCED"]


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({"revision": "0" * 64}, "REVISION_MISMATCH"),
        ({"start": 0}, "SPAN_MOVED"),
        ({"end": 4}, "SPAN_MOVED"),
        ({"start": 2, "end": 2}, "SPAN_MOVED"),
        ({"start": 1 << 50, "end": 1 << 51}, "SPAN_MOVED"),
        ({"position": 5}, "MALFORMED.*iff the position"),
        ({"state_bytes": 100}, "MALFORMED.*iff the position"),
        ({"state_bytes": 1 << 40, "position": 5}, "TOO_LARGE.*a state has"),
    ],
)
def test_what_is_not_served_is_refused_by_name(
    loopback: Loopback,
    tiny: TinyCheckpoint,
    host: Host,
    client: Swarm,
    other: dict[str, Any],
    name: str,
) -> None:
    with pytest.raises(RefusalError, match=name):
        loopback.run(open_part(client, host, tiny.revision, **other))
    assert host.service.num_sessions == 0


@pytest.mark.parametrize("change", [{"snapshot_tokens": 0}, {"wire_type": "int8"}], ids=str)
def test_terms_out_of_range_are_refused(
    loopback: Loopback, tiny: TinyCheckpoint, host: Host, client: Swarm, change: dict[str, Any]
) -> None:
    with pytest.raises(RefusalError, match="MALFORMED"):
        loopback.run(ask(client, host, asked_of(tiny) | change))


def asked_of(tiny: TinyCheckpoint, **other: Any) -> dict[str, Any]:
    asked = {"part_id": bytes(16), "epoch": 0, "revision": tiny.revision, "start": 1, "end": 3}
    asked |= {"before": "", "next": "", "position": 0, "state_bytes": 0}
    return asked | {"snapshot_tokens": 64, "wire_type": "float32"} | other


async def ask(client: Swarm, host: Host, asked: dict[str, Any], *then: Chunk) -> None:
    """Send what a client that keeps the rules would never send, and wait for the answer."""
    stream = await client.open(host.swarm.peer_id, SESSIONS)
    try:
        await stream.send(OpenPart.model_construct(**asked))
        for chunk in then:
            await stream.send(chunk)
        await stream.receive(PartOpened, seconds=5, what="a refusal")
    finally:
        stream.close()


def state_after(tiny: TinyCheckpoint, pieces: list[torch.Tensor]) -> RecurrentState:
    return expected(tiny, pieces)[1]


def test_a_part_goes_on_from_a_state(
    loopback: Loopback, tiny: TinyCheckpoint, host: Host, client: Swarm
) -> None:
    pieces = pieces_of(9, 1, 2)
    state = state_after(tiny, pieces[:1]).to_bytes(revision=tiny.revision)

    async def steps() -> tuple[list[torch.Tensor], int, bytes]:
        control = await open_part(client, host, tiny.revision, state=state, position=9)
        assert control.position == 9
        found = [await control.step(9, pieces[1]), await control.step(10, pieces[2])]
        return (found, *await control.state())

    found, position, after = loopback.run(steps())
    outputs, reference = expected(tiny, pieces)
    assert close(found, outputs[1:])
    shape = checkpoints.load_span(tiny.folder, SPAN).shape
    read = RecurrentState.from_bytes(after, shape=shape, span=SPAN, revision=tiny.revision)
    assert position == 12 and read.positions == (12,)
    assert close([read.conv, read.ssm], [reference.conv, reference.ssm])


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("position", "POSITION_MISMATCH"),
        ("revision", "MALFORMED.*state of revision"),
        ("span", "MALFORMED.*span"),
        ("batch", "POSITION_MISMATCH"),
        ("infinite", "MALFORMED.*infinite"),
        ("truncated", "MALFORMED"),
        ("garbage", "MALFORMED"),
        ("longer", "MALFORMED.*bytes was announced"),
        ("empty chunk", "MALFORMED.*bytes was announced"),
    ],
)
def test_a_state_that_is_not_what_it_says_is_refused(
    loopback: Loopback, tiny: TinyCheckpoint, host: Host, client: Swarm, what: str, name: str
) -> None:
    state = state_after(tiny, [hidden(9)])
    revision, announced = tiny.revision, 0
    match what:
        case "revision":
            revision = "e" * 64
        case "span":
            state = dataclasses.replace(state, span=Span(0, 2))
        case "batch":
            state = RecurrentState.gather([state, state])
        case "infinite":
            state = state.clone()
            state.ssm[0, 0, 0, 0] = float("inf")
    data = state.to_bytes(revision=revision)
    match what:
        case "truncated":
            data = data[:-4]
        case "garbage":
            data = b"\xff" * len(data)
        case "longer":
            announced = len(data) - 1

    async def opens() -> None:
        position = 8 if what == "position" else 9
        given: dict[str, Any] = {"state": data, "position": position}
        if announced:
            given["state_bytes"] = announced
        if what == "empty chunk":
            asked = asked_of(tiny, position=9, state_bytes=len(data))
            await ask(client, host, asked, Chunk(data=b""))
        await open_part(client, host, tiny.revision, **given)

    with pytest.raises(RefusalError, match=name):
        loopback.run(opens())
    assert host.service.num_sessions == 0


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1, 2, 31),
        torch.zeros(2, 1, 32),
        torch.full((1, 1, 32), float("nan")),
        torch.full((1, 1, 32), float("-inf")),
        torch.zeros(1, MAX_PIECE_TOKENS + 1, 32),
    ],
    ids=["width", "batch", "nan", "infinite", "length"],
)
def test_a_tensor_that_does_not_fit_ends_its_session_alone(
    loopback: Loopback, tiny: TinyCheckpoint, host: Host, client: Swarm, tensor: torch.Tensor
) -> None:
    async def steps() -> list[torch.Tensor]:
        other = await open_part(client, host, tiny.revision, **part(2))
        found = [await other.step(0, hidden(3))]
        control = await open_part(client, host, tiny.revision, **part(1))
        await control.step(0, hidden(2))
        with pytest.raises(RefusalError, match="MALFORMED"):
            await control.step(2, tensor)
        assert host.service.num_sessions == 1
        return [*found, await other.step(3, hidden(1, seed=1))]

    found = loopback.run(steps())
    assert close(found, expected(tiny, [hidden(3), hidden(1, seed=1)])[0])


def test_sessions_are_bounded_and_an_ended_one_makes_room(
    loopback: Loopback, tiny: TinyCheckpoint, host: Host, client: Swarm
) -> None:
    async def opens() -> int:
        controls = [await open_part(client, host, tiny.revision, **part(n)) for n in range(3)]
        with pytest.raises(RefusalError, match=r"MEMORY_FULL.*3 sessions are open"):
            await open_part(client, host, tiny.revision, **part(4))
        # The limit is of parts: one that is opened again takes no more room.
        controls[1].stream.close()
        await open_part(client, host, tiny.revision, **part(1))
        await controls[0].end()
        return (await open_part(client, host, tiny.revision, **part(4))).position

    assert loopback.run(opens()) == 0
    assert host.service.num_sessions == 3


def test_a_draining_peer_goes_on_with_its_sessions_and_takes_no_new_one(
    loopback: Loopback, tiny: TinyCheckpoint, host: Host, client: Swarm
) -> None:
    async def drains() -> str:
        control = await open_part(client, host, tiny.revision, **part(1))
        host.service.is_draining = True
        try:
            with pytest.raises(RefusalError, match="DRAINING"):
                await open_part(client, host, tiny.revision, **part(2))
            assert (await control.step(0, hidden(1))).shape[1] == 1
            assert host.service.notify("DRAINING", revision="f" * 64) == 0
            assert host.service.notify("DRAINING") == 1
            return (await control.hear(Notice)).name
        finally:
            host.service.is_draining = False

    assert loopback.run(drains()) == "DRAINING"


def test_snapshots_come_at_multiples_and_trimming_frees_what_they_cover(
    loopback: Loopback, tiny: TinyCheckpoint, host: Host, client: Swarm
) -> None:
    async def steps() -> list[int]:
        control = await open_part(client, host, tiny.revision, snapshot_tokens=50)
        [own] = host.service._parts.all()
        await control.send(0, hidden(120))
        positions = [(await control.hear(SnapshotChunk)).position for _ in range(2)]
        while (await control.hear(EdgePiece)).position < 100:
            continue
        await control.step(120, hidden(1))
        kept = [own.part.num_kept]
        for position in (100, 50, 1000):
            await control.stream.send(TrimPart(position=position))
            await control.stream.send(Ping())
            await control.hear(Pong)
            kept.append(own.part.num_kept)
        assert positions == [50, 100]
        return kept

    # 50 + 50 + 20 + 1 tokens are kept in pieces; an older trim changes nothing, a later one all.
    assert loopback.run(steps()) == [121, 21, 21, 0]


def test_a_ping_is_answered_while_the_part_computes(
    loopback: Loopback, tiny: TinyCheckpoint, host: Host, client: Swarm
) -> None:
    async def steps() -> tuple[Pong, Pong]:
        control = await open_part(client, host, tiny.revision)
        for number in range(4):
            await control.send(512 * number, hidden(512))
        await control.stream.send(Ping())
        during = await control.hear(Pong)
        while (await control.hear(EdgePiece)).position < 2048 - 64:
            continue
        await control.stream.send(Ping())
        return during, await control.hear(Pong)

    during, after = loopback.run(steps())
    assert during.position < during.received == 2048
    assert not after.is_computing and after.position == after.received == 2048


def test_a_client_that_lets_tokens_pile_up_is_refused(
    loopback: Loopback,
    tiny: TinyCheckpoint,
    host: Host,
    client: Swarm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "MAX_KEPT_TOKENS", 600)

    async def steps(trims: bool) -> None:
        control = await open_part(client, host, tiny.revision)
        for number in range(5):
            await control.step(200 * number, hidden(200))
            if trims:
                await control.stream.send(TrimPart(position=200 * number))
        await control.end()

    loopback.run(steps(trims=True))
    with pytest.raises(RefusalError, match=r"TOO_LARGE.*tokens wait"):
        loopback.run(steps(trims=False))


def test_a_client_that_vanishes_is_forgotten(
    loopback: Loopback,
    tiny: TinyCheckpoint,
    host: Host,
    client: Swarm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def vanishes() -> ControlStream:
        lost = await open_part(client, host, tiny.revision, **part(1))
        await lost.step(0, hidden(2))
        lost.stream.close()
        stays = await open_part(client, host, tiny.revision, **part(2))
        return stays

    async def goes_on(stays: ControlStream) -> None:
        assert (await stays.step(0, hidden(1))).shape[1] == 1

    stays = loopback.run(vanishes())
    assert host.service.num_sessions == 2
    monkeypatch.setattr(hosted, "SESSION_SECONDS", 0.0)
    assert host.service.num_sessions == 1
    loopback.run(goes_on(stays))


def refusal_of(
    loopback: Loopback, tiny: TinyCheckpoint, client: Swarm, limits: Limits, name: str
) -> str:
    """The name by which a host with these limits refuses a session or its third step."""
    guest = make_guest(Path(loopback.folder / name), limits, hour=12)
    limited = start_host(loopback, tiny, name, SPAN, guest=guest)

    async def steps() -> None:
        control = await open_part(client, limited, tiny.revision)
        for position in range(3):
            await control.step(position, hidden(1))

    try:
        with pytest.raises(PeerError) as caught:
            loopback.run(steps())
    finally:
        loopback.run(loopback.leave(limited.swarm))
    assert isinstance(caught.value, RefusalError)
    return str(caught.value)


def test_outside_the_owners_hours_the_peer_says_paused(
    loopback: Loopback, tiny: TinyCheckpoint, client: Swarm
) -> None:
    said = refusal_of(loopback, tiny, client, Limits(hours=(22, 6)), "sleeper")
    assert "PAUSED" in said and "outside --only-hours 22-6" in said


def test_a_used_up_upload_is_said(loopback: Loopback, tiny: TinyCheckpoint, client: Swarm) -> None:
    # Two steps of one token are 2 * 32 * 4 bytes.
    said = refusal_of(loopback, tiny, client, Limits(max_upload_bytes=300), "frugal")
    assert "UPLOAD_LIMIT" in said and "upload <= 0 MB a day" in said


def test_without_memory_no_session_begins(
    loopback: Loopback, tiny: TinyCheckpoint, client: Swarm
) -> None:
    assert "MEMORY_FULL" in refusal_of(loopback, tiny, client, Limits(max_memory_bytes=1), "full")


def test_a_pause_in_mid_session_is_said(
    loopback: Loopback,
    tiny: TinyCheckpoint,
    host: Host,
    client: Swarm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def steps() -> None:
        control = await open_part(client, host, tiny.revision)
        await control.step(0, hidden(1))
        monkeypatch.setattr(host.service._guest, "pause_reason", lambda: "its owner plays a game")
        await control.step(1, hidden(1))

    with pytest.raises(RefusalError, match=r"PAUSED.*plays a game"):
        loopback.run(steps())


def test_an_old_revision_is_kept_while_a_session_needs_it(
    loopback: Loopback, tiny: TinyCheckpoint, host: Host, client: Swarm
) -> None:
    async def begin() -> None:
        control = await open_part(client, host, tiny.revision)
        assert host.service.retire("f" * 64) == []
        await control.end()

    loopback.run(begin())
    served = host.service.served(tiny.revision)
    assert served is not None
    assert host.service.retire("f" * 64) == [tiny.revision]
    assert host.service.revisions == ()
    with pytest.raises((RefusalError, PeerLostError), match="REVISION_MISMATCH"):
        loopback.run(open_part(client, host, tiny.revision))
    host.service.load(served)
