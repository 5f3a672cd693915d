"""Sessions over real spans on real peers equal the whole model, however they are cut."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch

from seshu_swarm.client.chain.routing import Offer
from seshu_swarm.client.chain.session import WINDOW_TOKENS, RemoteSession
from seshu_swarm.client.chain.terms import Terms
from seshu_swarm.client.remote.model import RemoteModel
from seshu_swarm.client.remote.sampling import Sampler
from seshu_swarm.client.remote.token_session import TokenSession
from seshu_swarm.errors import PackageError, UsageError
from seshu_swarm.network.dht import Found
from seshu_swarm.network.link import Link
from seshu_swarm.run.joining import Joined
from seshu_swarm.sessions.log import MAX_PIECE_TOKENS
from tests.conftest import TinyCheckpoint
from tests.fleets import SNAPSHOT_TOKENS, TOLERANCE, Fleet, Member, pieces_of, worst
from tests.loopback import RUN_ID, Loopback
from tests.samples import run_record, span_record

PIECES = (9, 1, 1, 130, 1, 4)  # a prompt, single tokens, a message that passes two snapshots


@pytest.fixture(scope="module")
def fleet(loopback: Loopback, tiny: TinyCheckpoint) -> Fleet:
    return Fleet(loopback, tiny, 5)


async def say(session: RemoteSession, pieces: list[torch.Tensor]) -> list[torch.Tensor]:
    found = [await session.step(piece) for piece in pieces]
    await session.close()
    return found


async def forgotten(members: list[Member]) -> None:
    """Closed as agreed, a session leaves nothing behind; its last frame is still on its way."""
    async with asyncio.timeout(5.0):
        while any(member.service.num_sessions for member in members):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("spans", "hops"),
    [
        (["0:4"], ["0:4"]),
        (["0:2", "2:4"], ["0:2", "2:4"]),
        (["0:2", "1:3", "3:4"], ["0:2", "2:3", "3:4"]),
        (["0:1", "1:2", "2:3", "3:4"], ["0:1", "1:2", "2:3", "3:4"]),
        (["0:3", "1:4"], ["0:3", "3:4"]),
    ],
    ids=lambda names: ",".join(names),
)
def test_any_chain_equals_the_whole_model(fleet: Fleet, spans: list[str], hops: list[str]) -> None:
    pieces = pieces_of(*PIECES)

    async def steps() -> tuple[list[torch.Tensor], RemoteSession, list[int]]:
        members = await fleet.host(*spans)
        session = fleet.session()
        found = [await session.step(piece) for piece in pieces]
        # Nothing but single tokens and chunks up to the next snapshot was computed, and all of it once.
        positions = [hosted.part.position for member in members for hosted in member.parts]
        opened = [str(h.span) for member in members for h in member.parts]
        assert opened == hops
        await session.close()
        await forgotten(members)
        return found, session, positions

    found, session, positions = fleet.loopback.run(steps())
    assert worst(found, fleet.expected(pieces)) < TOLERANCE
    assert positions == [sum(PIECES)] * len(hops)
    assert session.recoveries == [] and session.position == sum(PIECES)
    assert session.compute_seconds[0] > 0


def test_tokens_travel_from_peer_to_peer_and_not_by_the_client(fleet: Fleet) -> None:
    async def sent_by_client(*spans: str) -> int:
        await fleet.host(*spans)
        session = fleet.session()
        pieces = pieces_of(5, *[1] * 20)
        await session.step(pieces[0])
        before = session.sent_bytes
        for piece in pieces[1:]:
            await session.step(piece)
        sent = session.sent_bytes - before
        await session.close()
        return sent

    one = fleet.loopback.run(sent_by_client("0:4"))
    three = fleet.loopback.run(sent_by_client("0:1", "1:2", "2:4"))
    assert one == three > 20 * 32 * 4


@pytest.mark.parametrize("num_tokens", [MAX_PIECE_TOKENS + 1, WINDOW_TOKENS + 700])
def test_a_prompt_longer_than_a_piece_and_than_the_window(fleet: Fleet, num_tokens: int) -> None:
    pieces = pieces_of(num_tokens, 1, 1)

    async def steps() -> list[torch.Tensor]:
        await fleet.host("0:2", "2:4")
        return await say(fleet.session(), pieces)

    assert worst(fleet.loopback.run(steps()), fleet.expected(pieces)) < TOLERANCE


def test_memory_stays_the_same_over_thousands_of_tokens(fleet: Fleet) -> None:
    """Everybody lets go of what a snapshot has made dispensable."""
    num_rounds, size = 10, 400

    async def steps() -> tuple[list[int], list[int]]:
        members = await fleet.host("0:2", "2:4")
        session = fleet.session()
        kept_there, kept_here = [], []
        for piece in pieces_of(*[size] * num_rounds):
            await session.step(piece)
            await settled(session)
            kept_there.append(max(h.part.num_kept for member in members for h in member.parts))
            safe, _ = session._conversation.newest(session._conversation.span)
            kept_here.append(session.position - safe)
        await session.close()
        return kept_there, kept_here

    kept_there, kept_here = fleet.loopback.run(steps())
    # One piece is forgotten as a whole.
    assert max(kept_there) <= size + SNAPSHOT_TOKENS
    assert max(kept_here) < SNAPSHOT_TOKENS


async def settled(session: RemoteSession) -> None:
    """The snapshots of the last multiple are here, and the parts have heard of it."""
    async with asyncio.timeout(5.0):
        while session.position - _safe(session) >= SNAPSHOT_TOKENS:
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)


def _safe(session: RemoteSession) -> int:
    return session._conversation.newest(session._conversation.span)[0]


def test_sessions_side_by_side_do_not_mix(fleet: Fleet) -> None:
    sizes = [PIECES, (1, 1, 1, 1, 1, 1), (5, 4, 3, 2, 1, 70)]
    given = [pieces_of(*each, seed=number) for number, each in enumerate(sizes)]

    async def steps() -> list[list[torch.Tensor]]:
        await fleet.host("0:2", "2:4")
        return await asyncio.gather(*(say(fleet.session(), pieces) for pieces in given))

    for found, pieces in zip(fleet.loopback.run(steps()), given, strict=True):
        assert worst(found, fleet.expected(pieces)) < TOLERANCE


def test_bfloat16_halves_the_bytes_and_stays_close(fleet: Fleet) -> None:
    pieces = pieces_of(40, 200, *[1] * 5)

    async def steps(wire_type: str) -> tuple[list[torch.Tensor], int, int]:
        members = await fleet.host("0:2", "2:4")
        session = fleet.session(wire_type=wire_type)
        found = [await session.step(pieces[0])]
        # Where everybody is was said more than once at the beginning, so it is not counted.
        sent = -session.sent_bytes
        between = -sum(channel.sent_bytes for channel in members[0].opened)
        found += [await session.step(piece) for piece in pieces[1:]]
        sent += session.sent_bytes
        between += sum(channel.sent_bytes for channel in members[0].opened)
        await session.close()
        return found, sent, between

    _, by_client, between_peers = fleet.loopback.run(steps("float32"))
    found, less_by_client, less_between_peers = fleet.loopback.run(steps("bfloat16"))
    tokens = sum(piece.shape[1] for piece in pieces[1:])
    # What is saved is half of the numbers; the frames around them stay.
    assert by_client - less_by_client == pytest.approx(tokens * 32 * 2, rel=0.02)
    assert between_peers - less_between_peers == pytest.approx(tokens * 32 * 2, rel=0.02)
    expected = fleet.expected(pieces)
    scale = max(float(output.abs().max()) for output in expected)
    # Rounded three times, by 2^-9 each, and then amplified by four blocks.
    assert TOLERANCE < worst(found, expected) < 0.03 * scale


def test_a_saved_session_goes_on_elsewhere_without_recomputation(
    fleet: Fleet, tmp_path: Path
) -> None:
    before, after = pieces_of(150, 1), pieces_of(1, 30, 1, seed=4)
    path = tmp_path / "session.safetensors"

    async def begin() -> list[torch.Tensor]:
        await fleet.host("0:2", "2:4")
        session = fleet.session()
        found = [await session.step(piece) for piece in before]
        await session.save(path)
        await session.close()
        return found

    async def go_on() -> tuple[list[torch.Tensor], int, list[int]]:
        members = await fleet.host("0:1", "1:4")
        session = await model_over(fleet).load_session(path)
        assert session.position == 151
        found = [await session.step(after[0])]
        num_steps = [member.service.engine.num_steps for member in members]
        found += [await session.step(piece) for piece in after[1:]]
        position = session.position
        await session.close()
        return found, position, num_steps

    found = fleet.loopback.run(begin())
    more, position, num_steps = fleet.loopback.run(go_on())
    assert worst([*found, *more], fleet.expected([*before, *after])) < TOLERANCE
    # The first token after loading was the only one that was computed.
    assert num_steps == [1, 1] and position == 183
    conv_and_ssm = 4 * 64 * (3 + 16) * 4
    assert conv_and_ssm < path.stat().st_size < conv_and_ssm + 1024


def test_a_damaged_or_foreign_session_is_not_loaded(fleet: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "session.safetensors"

    async def begin() -> None:
        await fleet.host("0:4")
        session = fleet.session()
        with pytest.raises(UsageError, match="nothing to save"):
            await session.save(path)
        await session.step(pieces_of(5)[0])
        await session.save(path)
        await session.close()

    fleet.loopback.run(begin())
    whole = path.read_bytes()
    mine, other = model_over(fleet), model_over(fleet, revision="e" * 64)
    with pytest.raises(PackageError, match="state of revision"):
        fleet.loopback.run(other.load_session(path))
    for damaged in (whole[:-1], whole[:100], b"", whole + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(PackageError):
            fleet.loopback.run(mine.load_session(path))
    with pytest.raises(UsageError, match="cannot read"):
        fleet.loopback.run(mine.load_session(tmp_path / "another"))


def test_a_peer_that_refuses_at_the_door_is_passed_over(fleet: Fleet) -> None:
    pieces = pieces_of(9)

    async def steps() -> tuple[list[torch.Tensor], list[str], list[str]]:
        full, draining, willing = await fleet.host("0:4", "0:4", "0:4")
        full.service._parts.max_sessions = 0
        draining.service.is_draining = True
        session = fleet.session()
        found = [await session.step(pieces[0])]
        peers = session.peers
        await session.close()
        return found, peers, [willing.peer_id]

    found, peers, willing = fleet.loopback.run(steps())
    assert peers == willing
    assert worst(found, fleet.expected(pieces)) < TOLERANCE


def test_after_a_step_was_broken_off_nothing_is_answered_wrongly(fleet: Fleet) -> None:
    """Its tokens are absorbed, or not: nobody knows, so the session takes no more."""

    async def steps() -> None:
        await fleet.host("0:2", "2:4")
        session = fleet.session()
        [first, long, then] = pieces_of(3, 3000, 1)
        await session.step(first)
        stepping = asyncio.create_task(session.step(long))
        await asyncio.sleep(0.02)
        stepping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stepping
        with pytest.raises(UsageError, match="broken off"):
            await session.step(then)
        await session.close()
        await forgotten(fleet.members)

    fleet.loopback.run(steps())


@pytest.mark.parametrize("shape", [(1, 0, 32), (2, 1, 32), (1, 1, 31), (32,)])
def test_a_step_is_over_some_tokens_of_one_text(fleet: Fleet, shape: tuple[int, ...]) -> None:
    async def steps() -> None:
        await fleet.host("0:4")
        session = fleet.session()
        with pytest.raises(UsageError, match="at least one token"):
            await session.step(torch.zeros(shape))
        with pytest.raises(UsageError, match="finite"):
            await session.step(torch.full((1, 1, 32), float("nan")))
        pieces = pieces_of(2)
        assert worst([await session.step(pieces[0])], fleet.expected(pieces)) < TOLERANCE
        await session.close()

    fleet.loopback.run(steps())


@pytest.mark.parametrize(("field", "value"), [("wire_type", "int8"), ("snapshot_tokens", 0)])
def test_terms_that_no_peer_would_take_are_refused_here(
    fleet: Fleet, field: str, value: object
) -> None:
    terms = {"snapshot_tokens": 64, "wire_type": "float32"} | {field: value}
    with pytest.raises(UsageError):
        Terms(fleet.tiny.revision, fleet.whole.shape, **terms)  # type: ignore[arg-type]


def model_over(fleet: Fleet, **fields: Any) -> RemoteModel:
    """The ends of the whole model, and the fleet as the swarm announces it."""
    loopback, revision = fleet.loopback, fields.get("revision", fleet.tiny.revision)
    run = run_record(loopback.identity("client"), revision=revision)
    link = Link(RUN_ID, loopback.identity("client").fingerprint, ())
    found = Found(run, fleet.client.peer_id, 0.0)
    joined = Joined(fleet.client, link, found, loopback.folder / "client")
    model = Known(joined, fleet.whole.ends, revision)
    model.fleet = fleet
    return model


class Known(RemoteModel):
    """Knows its peers without asking the DHT."""

    fleet: Fleet

    async def offers(self, *, most_seconds: float = 0.0) -> list[Offer]:
        return [member.offer for member in self.fleet.members]


def test_text_over_announced_spans_equals_the_whole_model(fleet: Fleet) -> None:
    """The whole way of a user: records, chain found, tokens chosen."""
    loopback, tiny = fleet.loopback, fleet.tiny
    run = run_record(loopback.identity("client"), revision=tiny.revision)
    link = Link(RUN_ID, loopback.identity("client").fingerprint, ())
    joined = Joined(
        fleet.client, link, Found(run, fleet.client.peer_id, 0.0), loopback.folder / "client"
    )
    model = RemoteModel(joined, fleet.whole.ends, tiny.revision)
    announced: list[dict[str, Any]] = [{}, {}, {"is_draining": True}, {"paused": "night"}, {}]
    members = loopback.run(fleet.host("0:2", "2:4", "0:4", "1:4", "0:3"))
    for member, fields in zip(members, announced, strict=True):
        # The last one serves another revision.
        revision = "e" * 64 if member is members[-1] else tiny.revision
        record = span_record(member.span.start, member.span.end, revision, **fields)
        assert loopback.run(member.swarm.announce(record))

    async def text(**stop: Any) -> tuple[list[int], list[str]]:
        session = TokenSession(model)
        asking = session.generate([65, 66, 67], choose=Sampler(0.0, 0), max_new_tokens=12, **stop)
        tokens = [token async for token in asking]
        peers = session.peers
        await session.close()
        return tokens, peers

    tokens, peers = loopback.run(text())
    assert tokens == fleet.whole.generate_greedy([65, 66, 67], max_new_tokens=12)
    assert peers == [member.peer_id for member in members[:2]]
    # A stop id ends the text and is not part of it.
    stopped, _ = loopback.run(text(stop_ids={tokens[4]}))
    assert stopped == tokens[: tokens.index(tokens[4])]
