"""A span behind a real peer: exactly-once steps over streams, and the owner's limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from seshu_swarm import checkpoints, wire
from seshu_swarm.dht import Swarm
from seshu_swarm.errors import PeerError, RefusalError
from seshu_swarm.mamba.state import RecurrentState
from seshu_swarm.peer.guest import Limits
from seshu_swarm.protocol import MAX_STEP_TOKENS, StepReply
from seshu_swarm.spans import Span
from tests.conftest import TinyCheckpoint
from tests.loopback import Loopback
from tests.spans import Host, make_guest, open_session, start_host, step

SPAN = Span(1, 3)


@pytest.fixture(scope="module")
def host(loopback: Loopback, tiny: TinyCheckpoint) -> Host:
    return start_host(loopback, tiny, "host", SPAN, max_sessions=8)


@pytest.fixture(scope="module")
def client(loopback: Loopback, host: Host) -> Swarm:
    return loopback.join("client")


def hidden(num_tokens: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, num_tokens, 32, generator=generator)


def unpacked(reply: StepReply) -> torch.Tensor:
    return wire.unpack_tensor(reply.hidden, (1, None, 32))


def new_id(number: int) -> dict[str, Any]:
    return {"session_id": f"{number:032x}"}


def expected(tiny: TinyCheckpoint, pieces: list[torch.Tensor]) -> list[torch.Tensor]:
    """The same blocks in this process, state carried from piece to piece."""
    module = checkpoints.load_span(tiny.folder, SPAN)
    state: RecurrentState | None = RecurrentState.zeros(module.shape, SPAN)
    outputs = []
    with torch.inference_mode():
        for piece in pieces:
            output, state = module(piece, state)
            outputs.append(output)
    return outputs


def test_steps_equal_the_same_blocks_run_here(
    loopback: Loopback, tiny: TinyCheckpoint, host: Host, client: Swarm
) -> None:
    pieces = [hidden(n, seed=n) for n in (7, 1, 1, 3)]

    async def steps() -> list[StepReply]:
        stream, position = await open_session(client, host, tiny.revision, **new_id(1))
        assert position == 0
        replies = []
        for piece in pieces:
            replies.append(await step(stream, position, piece))
            position = replies[-1].position
        await stream.finish()
        stream.close()
        return replies

    replies = loopback.run(steps())
    assert [reply.position for reply in replies] == [7, 8, 9, 12]
    assert all(reply.compute_seconds > 0 for reply in replies)
    for reply, output in zip(replies, expected(tiny, pieces), strict=True):
        assert torch.equal(unpacked(reply), output)


def test_a_repeated_step_gets_the_same_answer_and_does_not_advance(
    loopback: Loopback, tiny: TinyCheckpoint, host: Host, client: Swarm
) -> None:
    async def steps() -> tuple[list[StepReply], int]:
        stream, _ = await open_session(client, host, tiny.revision, **new_id(2))
        first = await step(stream, 0, hidden(5))
        before = host.service.num_steps
        again = await step(stream, 0, hidden(5))
        # Even with other content: the position names the step.
        other = await step(stream, 0, hidden(5, seed=9))
        then = await step(stream, 5, hidden(1, seed=1))
        stream.close()
        return [first, again, other, then], host.service.num_steps - before

    [first, again, other, then], computed = loopback.run(steps())
    assert first == again == other and computed == 1
    reference = expected(tiny, [hidden(5), hidden(1, seed=1)])
    assert torch.equal(unpacked(then), reference[1])


def test_a_session_goes_on_over_another_stream_where_it_stood(
    loopback: Loopback, tiny: TinyCheckpoint, host: Host, client: Swarm
) -> None:
    async def steps() -> StepReply:
        stream, _ = await open_session(client, host, tiny.revision, **new_id(3))
        await step(stream, 0, hidden(4))
        stream.close()
        stream, position = await open_session(client, host, tiny.revision, **new_id(3))
        assert position == 4
        reply = await step(stream, 4, hidden(1, seed=1))
        stream.close()
        return reply

    reference = expected(tiny, [hidden(4), hidden(1, seed=1)])
    assert torch.equal(unpacked(loopback.run(steps())), reference[1])


@pytest.mark.parametrize("position", [1, 3, 99])
def test_a_skipped_or_older_position_is_refused(
    loopback: Loopback, tiny: TinyCheckpoint, host: Host, client: Swarm, position: int
) -> None:
    async def steps() -> None:
        stream, _ = await open_session(client, host, tiny.revision, **new_id(4 + position))
        await step(stream, 0, hidden(1))
        await step(stream, 1, hidden(1))
        await step(stream, position if position != 1 else 0, hidden(1))

    with pytest.raises(RefusalError, match=r"POSITION_MISMATCH.*session at 2"):
        loopback.run(steps())


def test_a_higher_epoch_fences_the_older_stream(
    loopback: Loopback, tiny: TinyCheckpoint, host: Host, client: Swarm
) -> None:
    async def steps() -> list[str]:
        old, _ = await open_session(client, host, tiny.revision, epoch=1, **new_id(200))
        await step(old, 0, hidden(2))
        new, position = await open_session(client, host, tiny.revision, epoch=2, **new_id(200))
        assert position == 0
        names = []
        with pytest.raises(RefusalError) as fenced:
            await step(old, 2, hidden(1))
        names.append(fenced.value.name)
        with pytest.raises(RefusalError) as late:
            await open_session(client, host, tiny.revision, epoch=1, **new_id(200))
        names.append(late.value.name)
        assert (await step(new, 0, hidden(2))).position == 2
        await new.finish()
        new.close()
        return names

    assert loopback.run(steps()) == ["EPOCH_FENCED", "EPOCH_FENCED"]


def test_a_strangers_session_of_the_same_name_is_another_one(
    loopback: Loopback, tiny: TinyCheckpoint, host: Host, client: Swarm
) -> None:
    async def steps() -> int:
        mine, _ = await open_session(client, host, tiny.revision, **new_id(300))
        await step(mine, 0, hidden(3))
        stranger = await loopback.joining("stranger")
        theirs, position = await open_session(stranger, host, tiny.revision, epoch=9, **new_id(300))
        theirs.close()
        assert (await step(mine, 3, hidden(1))).position == 4
        mine.close()
        await loopback.leave(stranger)
        return position

    assert loopback.run(steps()) == 0


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({"revision": "0" * 64}, "REVISION_MISMATCH"),
        ({"start": 0}, "SPAN_MOVED"),
        ({"end": 4}, "SPAN_MOVED"),
        ({"start": 2, "end": 2}, "SPAN_MOVED"),
        ({"start": 1 << 50, "end": 1 << 51}, "SPAN_MOVED"),
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
        loopback.run(open_session(client, host, tiny.revision, **(new_id(400) | other)))


@pytest.mark.parametrize(
    ("tensor", "name"),
    [
        (torch.zeros(1, 2, 31), "MALFORMED"),
        (torch.zeros(2, 1, 32), "MALFORMED"),
        (torch.full((1, 1, 32), float("nan")), "MALFORMED"),
        (torch.zeros(1, MAX_STEP_TOKENS + 1, 32), "TOO_LARGE"),
    ],
    ids=["width", "batch", "nan", "length"],
)
def test_a_tensor_that_does_not_fit_is_refused_and_changes_nothing(
    loopback: Loopback,
    tiny: TinyCheckpoint,
    host: Host,
    client: Swarm,
    tensor: torch.Tensor,
    name: str,
) -> None:
    session = new_id(500 + tensor.numel())

    async def steps() -> None:
        stream, _ = await open_session(client, host, tiny.revision, **session)
        await step(stream, 0, hidden(2))
        with pytest.raises(RefusalError, match=name):
            await step(stream, 2, tensor)
        stream, position = await open_session(client, host, tiny.revision, **session)
        assert position == 2
        await stream.finish()
        stream.close()

    loopback.run(steps())


@pytest.fixture(scope="module")
def small(loopback: Loopback, tiny: TinyCheckpoint, client: Swarm) -> Host:
    return start_host(loopback, tiny, "small", SPAN, max_sessions=2)


def test_sessions_are_bounded_and_an_ended_one_makes_room(
    loopback: Loopback, tiny: TinyCheckpoint, small: Host, client: Swarm
) -> None:
    async def opens() -> int:
        first, _ = await open_session(client, small, tiny.revision, **new_id(1))
        second, _ = await open_session(client, small, tiny.revision, **new_id(2))
        with pytest.raises(RefusalError, match=r"MEMORY_FULL.*2 sessions are open"):
            await open_session(client, small, tiny.revision, **new_id(3))
        await first.finish()
        assert await first.receive_or_end(StepReply, seconds=5, what="the end") is None
        third, position = await open_session(client, small, tiny.revision, **new_id(3))
        for stream in (first, second, third):
            stream.close()
        return position

    assert loopback.run(opens()) == 0


def test_a_draining_peer_goes_on_with_its_sessions_and_takes_no_new_one(
    loopback: Loopback, tiny: TinyCheckpoint, small: Host, client: Swarm
) -> None:
    async def drains() -> None:
        stream, position = await open_session(client, small, tiny.revision, **new_id(2))
        small.service.is_draining = True
        try:
            with pytest.raises(RefusalError, match="DRAINING"):
                await open_session(client, small, tiny.revision, **new_id(9))
            reply = await step(stream, position, hidden(1))
            assert reply.position == position + 1
        finally:
            small.service.is_draining = False
        stream.close()

    loopback.run(drains())


def refusal_of(
    loopback: Loopback, tiny: TinyCheckpoint, client: Swarm, limits: Limits, name: str, hour: int
) -> str:
    """The name by which a host with these limits refuses a session or its third step."""
    guest = make_guest(Path(loopback.folder / name), limits, hour=hour)
    limited = start_host(loopback, tiny, name, SPAN, guest=guest)

    async def steps() -> None:
        stream, position = await open_session(client, limited, tiny.revision, **new_id(1))
        for _ in range(3):
            position = (await step(stream, position, hidden(1))).position

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
    said = refusal_of(loopback, tiny, client, Limits(hours=(22, 6)), "sleeper", hour=12)
    assert "PAUSED" in said and "outside --only-hours 22-6" in said


def test_a_used_up_upload_is_said(loopback: Loopback, tiny: TinyCheckpoint, client: Swarm) -> None:
    # Two steps of one token are 2 * 32 * 4 bytes.
    said = refusal_of(loopback, tiny, client, Limits(max_upload_bytes=300), "frugal", hour=12)
    assert "UPLOAD_LIMIT" in said and "upload <= 0 MB a day" in said


def test_without_memory_no_session_begins(
    loopback: Loopback, tiny: TinyCheckpoint, client: Swarm
) -> None:
    said = refusal_of(loopback, tiny, client, Limits(max_memory_bytes=1), "full", hour=12)
    assert "MEMORY_FULL" in said


def test_an_old_revision_is_kept_while_a_session_needs_it(
    loopback: Loopback, tiny: TinyCheckpoint, small: Host, client: Swarm
) -> None:
    async def begin() -> None:
        stream, _ = await open_session(client, small, tiny.revision, epoch=5, **new_id(2))
        assert small.service.retire("f" * 64) == []
        await stream.finish()
        await stream.receive_or_end(StepReply, seconds=5, what="the end")
        stream.close()
        stream, _ = await open_session(client, small, tiny.revision, epoch=5, **new_id(3))
        await stream.finish()
        await stream.receive_or_end(StepReply, seconds=5, what="the end")
        stream.close()

    loopback.run(begin())
    assert small.service.num_sessions == 0
    assert small.service.retire("f" * 64) == [tiny.revision]
    assert small.service.revisions == ()
