"""Sessions over real spans on real peers: bit-equal to the whole model, whatever is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from seshu_swarm import checkpoints
from seshu_swarm.client.remote import RemoteModel
from seshu_swarm.client.routing import Offer
from seshu_swarm.client.sampling import Sampler
from seshu_swarm.client.session import RemoteSession
from seshu_swarm.dht import Found, Swarm
from seshu_swarm.errors import PeerLostError
from seshu_swarm.joining import Joined
from seshu_swarm.link import Link
from seshu_swarm.mamba.state import RecurrentState
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.spans import Span
from tests.conftest import TinyCheckpoint
from tests.loopback import RUN_ID, Loopback
from tests.samples import run_record, span_record
from tests.spans import Host, start_host

PIECES = (9, 1, 1, 1, 4)  # tokens of each step: a prompt, single tokens, a second message


@pytest.fixture(scope="module")
def client(loopback: Loopback) -> Swarm:
    return loopback.join("client")


@pytest.fixture(scope="module")
def whole(tiny: TinyCheckpoint) -> WholeModel:
    return checkpoints.load_whole(tiny.folder).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def fleet(loopback: Loopback, tiny: TinyCheckpoint, client: Swarm) -> dict[str, Host]:
    """Peers that stay; each is named after its blocks."""
    spans = (Span(0, 4), Span(0, 2), Span(2, 4), Span(1, 3), Span(0, 3), Span(1, 4), Span(3, 4))
    hosts = [start_host(loopback, tiny, str(span), span) for span in spans]
    return {str(host.span): host for host in hosts}


def inputs(whole: WholeModel, sizes: Sequence[int] = PIECES) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(0, whole.shape.vocab_size, (1, sum(sizes)), generator=generator)
    with torch.inference_mode():
        return list(whole.ends.embed(ids).split(list(sizes), dim=1))


def outputs(whole: WholeModel, pieces: list[torch.Tensor]) -> list[torch.Tensor]:
    """The residual stream after the last block, computed by the whole model in this process."""
    state: RecurrentState | None = whole.zero_state()
    found = []
    with torch.inference_mode():
        for piece in pieces:
            output, state = whole.span(piece, state)
            found.append(output)
    return found


def session_over(
    client: Swarm, tiny: TinyCheckpoint, offers: list[Offer], *, seconds: float = 10.0
) -> RemoteSession:
    async def find() -> list[Offer]:
        return offers

    return RemoteSession(
        client,
        revision=tiny.revision,
        num_blocks=tiny.num_blocks,
        find=find,
        step_seconds=seconds,
    )


async def forgotten(hosts: list[Host]) -> None:
    """Closed as agreed, a session leaves nothing behind; its last frame is still on its way."""
    async with asyncio.timeout(5.0):
        while any(host.service.num_sessions for host in hosts):
            await asyncio.sleep(0.01)


def all_equal(found: list[torch.Tensor], expected: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("names", "hops"),
    [
        (["0:4"], ["0:4"]),
        (["0:2", "2:4"], ["0:2", "2:4"]),
        (["0:2", "1:3", "3:4"], ["0:2", "2:3", "3:4"]),
        (["0:3", "1:4"], ["0:3", "3:4"]),
        (["0:2", "1:4"], ["0:2", "2:4"]),
    ],
    ids=lambda names: ",".join(names),
)
def test_any_chain_equals_the_whole_model_bit_for_bit(
    loopback: Loopback,
    tiny: TinyCheckpoint,
    client: Swarm,
    whole: WholeModel,
    fleet: dict[str, Host],
    names: list[str],
    hops: list[str],
) -> None:
    async def steps() -> tuple[list[torch.Tensor], list[str]]:
        session = session_over(client, tiny, [fleet[name].offer for name in names])
        found = [await session.step(piece) for piece in inputs(whole)]
        spans = [str(leg.hop.span) for leg in session._legs]
        await session.close()
        return found, spans

    found, spans = loopback.run(steps())
    assert spans == hops
    assert all_equal(found, outputs(whole, inputs(whole)))
    loopback.run(forgotten([fleet[name] for name in names]))


def test_sessions_side_by_side_do_not_mix(
    loopback: Loopback,
    tiny: TinyCheckpoint,
    client: Swarm,
    whole: WholeModel,
    fleet: dict[str, Host],
) -> None:
    offers = [fleet["0:2"].offer, fleet["2:4"].offer]
    pieces = [inputs(whole, sizes) for sizes in (PIECES, (1, 1, 1, 1, 1), (5, 4, 3, 2, 1))]

    async def steps() -> list[list[torch.Tensor]]:
        sessions = [session_over(client, tiny, offers) for _ in pieces]
        found: list[list[torch.Tensor]] = [[] for _ in pieces]
        for number in range(len(PIECES)):
            for which, session in enumerate(sessions):
                found[which].append(await session.step(pieces[which][number]))
        for session in sessions:
            await session.close()
        return found

    for found, given in zip(loopback.run(steps()), pieces, strict=True):
        assert all_equal(found, outputs(whole, given))


def caught_up(whole: WholeModel, pieces: list[torch.Tensor], lost_at: int) -> list[torch.Tensor]:
    """As `outputs`, for a span that saw everything before `lost_at` in one piece."""
    with torch.inference_mode():
        _, state = whole.span(torch.cat(pieces[:lost_at], dim=1), whole.zero_state())
    found = []
    with torch.inference_mode():
        for piece in pieces[lost_at:]:
            output, state = whole.span(piece, state)
            found.append(output)
    return found


@pytest.mark.parametrize("lost_at", [1, 3])
@pytest.mark.parametrize("how", ["leaves", "hangs"])
def test_a_peer_that_is_lost_in_mid_session_is_replaced(
    loopback: Loopback,
    tiny: TinyCheckpoint,
    client: Swarm,
    whole: WholeModel,
    fleet: dict[str, Host],
    lost_at: int,
    how: str,
) -> None:
    """The replacement is caught up in one piece: bit-equal to the whole model doing the same."""
    doomed = start_host(loopback, tiny, f"doomed-{how}-{lost_at}", Span(0, 4))
    hanging = threading.Event()
    # Cheaper than the one that stays, so it is chosen first.
    first = Offer(doomed.swarm.peer_id, doomed.span, 0.0001, 0)
    pieces = inputs(whole)

    async def steps() -> tuple[list[torch.Tensor], RemoteSession]:
        seconds = 10.0 if how == "leaves" else 0.3
        session = session_over(client, tiny, [first, fleet["0:4"].offer], seconds=seconds)
        found = [await session.step(piece) for piece in pieces[:lost_at]]
        assert session.peers == [doomed.swarm.peer_id]
        if how == "leaves":
            await loopback.leave(doomed.swarm)
        else:
            doomed.service._computing.submit(hanging.wait)
        found += [await session.step(piece) for piece in pieces[lost_at:]]
        await session.close()
        return found, session

    try:
        found, session = loopback.run(steps())
    finally:
        hanging.set()
    assert session.recoveries and "blocks 0:4 lost at token" in session.recoveries[0]
    assert all_equal(found[:lost_at], outputs(whole, pieces)[:lost_at])
    assert all_equal(found[lost_at:], caught_up(whole, pieces, lost_at))
    for output, straight in zip(found, outputs(whole, pieces), strict=True):
        assert torch.allclose(output, straight, atol=1e-5)


def test_one_lost_span_of_several_is_replaced_by_two_others(
    loopback: Loopback,
    tiny: TinyCheckpoint,
    client: Swarm,
    whole: WholeModel,
    fleet: dict[str, Host],
) -> None:
    doomed = start_host(loopback, tiny, "doomed-middle", Span(1, 4))
    offers = [
        fleet["0:2"].offer,
        Offer(doomed.swarm.peer_id, doomed.span, 0.0001, 0),
        fleet["1:3"].offer,
        fleet["3:4"].offer,
    ]

    async def steps() -> tuple[list[torch.Tensor], list[str], list[str]]:
        session = session_over(client, tiny, offers)
        found = [await session.step(piece) for piece in inputs(whole)[:2]]
        before = [str(leg.hop.span) for leg in session._legs]
        await loopback.leave(doomed.swarm)
        found += [await session.step(piece) for piece in inputs(whole)[2:]]
        after = [str(leg.hop.span) for leg in session._legs]
        await session.close()
        return found, before, after

    found, before, after = loopback.run(steps())
    assert (before, after) == (["0:2", "2:4"], ["0:2", "2:3", "3:4"])
    for output, straight in zip(found, outputs(whole, inputs(whole)), strict=True):
        assert torch.allclose(output, straight, atol=1e-5)


def test_one_peer_may_take_over_both_halves(
    loopback: Loopback,
    tiny: TinyCheckpoint,
    client: Swarm,
    whole: WholeModel,
    fleet: dict[str, Host],
) -> None:
    """First the second half is lost, then the first: the same peer serves two parts of a chain."""
    halves = [
        start_host(loopback, tiny, f"half-{start}", Span(start, start + 2)) for start in (0, 2)
    ]
    cheap = [Offer(half.swarm.peer_id, half.span, 0.0001, 0) for half in halves]
    last = Offer(fleet["0:4"].swarm.peer_id, Span(0, 4), 5.0, 0)

    async def steps() -> tuple[list[torch.Tensor], RemoteSession, list[str]]:
        session = session_over(client, tiny, [*cheap, last])
        pieces = inputs(whole)
        found = [await session.step(pieces[0])]
        for half, piece in zip(reversed(halves), pieces[1:3], strict=True):
            await loopback.leave(half.swarm)
            found.append(await session.step(piece))
        found += [await session.step(piece) for piece in pieces[3:]]
        peers = session.peers
        await session.close()
        return found, session, peers

    found, session, peers = loopback.run(steps())
    assert peers == [fleet["0:4"].swarm.peer_id] * 2
    assert len(session.recoveries) == 2
    for output, straight in zip(found, outputs(whole, inputs(whole)), strict=True):
        assert torch.allclose(output, straight, atol=1e-5)


def test_a_peer_that_refuses_at_the_door_is_passed_over(
    loopback: Loopback,
    tiny: TinyCheckpoint,
    client: Swarm,
    whole: WholeModel,
    fleet: dict[str, Host],
) -> None:
    full = start_host(loopback, tiny, "full", Span(0, 4), max_sessions=0)
    draining = start_host(loopback, tiny, "draining", Span(0, 4))
    draining.service.is_draining = True
    offers = [Offer(h.swarm.peer_id, h.span, 0.0001, 0) for h in (full, draining)]

    async def steps() -> tuple[torch.Tensor, list[str]]:
        session = session_over(client, tiny, [*offers, fleet["0:4"].offer])
        output = await session.step(inputs(whole)[0])
        peers = session.peers
        await session.close()
        return output, peers

    output, peers = loopback.run(steps())
    assert peers == [fleet["0:4"].swarm.peer_id]
    assert torch.equal(output, outputs(whole, inputs(whole))[0])


def test_when_nobody_is_left_the_block_is_named(
    loopback: Loopback, tiny: TinyCheckpoint, client: Swarm, whole: WholeModel
) -> None:
    gone = start_host(loopback, tiny, "last-one", Span(0, 4))

    async def steps() -> None:
        session = session_over(client, tiny, [gone.offer])
        await session.step(inputs(whole)[0])
        await loopback.leave(gone.swarm)
        await session.step(inputs(whole)[1])

    with pytest.raises(PeerLostError, match=r"no reachable peer hosts block 0.*peer host"):
        loopback.run(steps(), seconds=30)


def test_text_over_announced_spans_equals_the_whole_model(
    loopback: Loopback,
    tiny: TinyCheckpoint,
    client: Swarm,
    whole: WholeModel,
    fleet: dict[str, Host],
) -> None:
    """The whole way of a user: records, ends fetched, chain found, tokens chosen."""
    run = run_record(loopback.identity("client"), revision=tiny.revision)
    link = Link(RUN_ID, loopback.identity("client").fingerprint, ())
    joined = Joined(client, link, Found(run, client.peer_id, 0.0), loopback.folder / "client")
    model = RemoteModel(joined, whole.ends, tiny.revision)
    announced: dict[str, dict[str, Any]] = {
        "0:2": {},
        "2:4": {},
        "0:4": {"is_draining": True},
        "1:4": {"paused": "night"},
    }
    for name, fields in announced.items():
        host = fleet[name]
        record = span_record(host.span.start, host.span.end, tiny.revision, **fields)
        assert loopback.run(host.swarm.announce(record))
    other = span_record(0, 3, "e" * 64)  # serves another revision
    assert loopback.run(fleet["0:3"].swarm.announce(other))

    async def text() -> tuple[list[int], list[str]]:
        session = model.session(10.0)
        tokens = [
            token
            async for token in model.generate(
                session, [65, 66, 67], choose=Sampler(0.0, 0), max_new_tokens=12
            )
        ]
        peers = session.peers
        await session.close()
        return tokens, peers

    tokens, peers = loopback.run(text())
    assert tokens == whole.generate_greedy([65, 66, 67], max_new_tokens=12)
    assert peers == [fleet["0:2"].swarm.peer_id, fleet["2:4"].swarm.peer_id]
    # A stop id ends the text and is not part of it.
    stopped = loopback.run(_until(model, stop=tokens[4]))
    assert stopped == tokens[: tokens.index(tokens[4])]


async def _until(model: RemoteModel, *, stop: int) -> list[int]:
    session = model.session(10.0)
    tokens = [
        token
        async for token in model.generate(
            session, [65, 66, 67], choose=Sampler(0.0, 0), max_new_tokens=12, stop_ids={stop}
        )
    ]
    await session.close()
    return tokens
