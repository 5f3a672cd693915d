"""A hostile source's state is refused by name, and the member stays as it is."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import safetensors.torch
import torch

from seshu_swarm.errors import DigestError, PeerError, ProtocolError, RefusalError
from seshu_swarm.exchange.group_states import fetch_state, give_state
from seshu_swarm.peer.training import member
from seshu_swarm.pipeline.messages import FIRST, NOTHING, Version
from seshu_swarm.pipeline.protocol.fields import of_version
from seshu_swarm.pipeline.protocol.groups import STATES, AskGroupState, GroupState
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.chunks import send_bytes
from tests.loopback import Loopback
from tests.peer.training.groups import RECORD, Group, base_part, count

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def pool(loopback: Loopback) -> Group:
    return Group(loopback, 3)


@pytest.fixture
def group(pool: Group, loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> Iterator[Group]:
    monkeypatch.setattr(member, "RETRY_SECONDS", 0.2)
    yield pool
    loopback.run(pool.end())


def asked(**fields: Any) -> AskGroupState:
    facts: dict[str, Any] = {"plan": RECORD.plan, "group": 0, "version": of_version(FIRST)}
    return AskGroupState(**(facts | fields))


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"plan": "f" * 16}, "NOT_TRAINING"),
        ({"group": 1}, "NOT_TRAINING"),
        ({"version": [1, 1]}, "WRONG_VERSION"),
    ],
)
def test_another_state_than_the_one_here_is_refused(
    loopback: Loopback, group: Group, fields: dict[str, Any], name: str
) -> None:
    async def work() -> None:
        await group.start(1)
        asking, peer_id = group.peers[1].swarm, group.peers[0].peer_id
        with pytest.raises(RefusalError, match=name):
            await fetch_state(asking, peer_id, asked(**fields), most_bytes=1 << 20)

    loopback.run(work())


def test_a_state_is_that_of_the_moment_in_which_it_was_asked_for(
    loopback: Loopback, group: Group
) -> None:
    async def work() -> dict[str, torch.Tensor]:
        (one,) = await group.start(1)
        await group.conducting.begin(0)
        count(one, 0)
        asking, peer_id = group.peers[1].swarm, group.peers[0].peer_id
        fetching = asyncio.create_task(fetch_state(asking, peer_id, asked(), most_bytes=1 << 20))
        tensors = await fetching
        await group.conducting.commit()
        assert one.ledger.version == Version(1, 1)
        return tensors

    tensors, expected = loopback.run(work()), base_part().state()
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


def test_one_peer_takes_one_copy_at_a_time(loopback: Loopback, group: Group) -> None:
    async def work() -> list[Any]:
        await group.start(1)
        asking, peer_id = group.peers[1].swarm, group.peers[0].peer_id
        fetching = [fetch_state(asking, peer_id, asked(), most_bytes=1 << 20) for _ in range(2)]
        return list(await asyncio.gather(*fetching, return_exceptions=True))

    answers = loopback.run(work())
    names = [a.name for a in answers if isinstance(a, RefusalError)]
    assert names == ["RATE_LIMITED"] and len(answers) == 2


def test_several_peers_take_one_copy(
    loopback: Loopback, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times the weights, and as much again while it is made, is much of an owner's memory."""
    copies = list[dict[str, torch.Tensor]]()

    async def work() -> list[dict[str, torch.Tensor]]:
        (one,) = await group.start(1)
        state, going_on = one.part.state, threading.Event()

        def counted() -> dict[str, torch.Tensor]:
            copies.append(state())
            return copies[-1]

        monkeypatch.setattr(one.part, "state", counted)
        group.living[0].executor.submit(going_on.wait, 10.0)
        peer_id = group.peers[0].peer_id
        askers = [group.peers[1].swarm, group.peers[2].swarm]
        fetching = [fetch_state(s, peer_id, asked(), most_bytes=1 << 20) for s in askers]
        taking = asyncio.gather(*fetching)
        takers = one._states._takers  # type: ignore[union-attr]
        await group.conducting.until(lambda: len(takers) == 2)
        going_on.set()
        found = await taking
        await group.conducting.until(lambda: not takers)
        # Nothing of it stays.
        await fetch_state(askers[0], peer_id, asked(), most_bytes=1 << 20)
        return list(found)

    first, second = loopback.run(work())
    expected = base_part().state()
    for tensors in (first, second):
        assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    assert len(copies) == 2


def altered(**tensors: torch.Tensor | None) -> bytes:
    state = {**base_part().state(), **{k: v for k, v in tensors.items() if v is not None}}
    left = {name: t for name, t in state.items() if tensors.get(name, t) is not None}
    data: bytes = safetensors.torch.save(left)
    return data


NAME = "backbone.layers.0.mixer.D"
GOOD = altered()
HOSTILE = {
    "more than there are weights": (64 << 20, GOOD, hashlib.sha256(GOOD).hexdigest()),
    "shorter than announced": (len(GOOD), GOOD[:-5], hashlib.sha256(GOOD[:-5]).hexdigest()),
    "longer than announced": (len(GOOD), GOOD + b"x", hashlib.sha256(GOOD).hexdigest()),
    "other bytes": (len(GOOD), GOOD[:-1] + b"\1", hashlib.sha256(GOOD).hexdigest()),
    "no safetensors": (9, b"not a one", hashlib.sha256(b"not a one").hexdigest()),
}
FALSE_TENSORS = {
    "nan": altered(**{NAME: torch.full((32,), torch.nan)}),
    "missing": altered(**{f"exp_avg/{NAME}": None}),
    "shape": altered(**{NAME: torch.zeros(31)}),
    "extra": altered(extra=torch.zeros(2)),
}
HOSTILE |= {
    name: (len(data), data, hashlib.sha256(data).hexdigest())
    for name, data in FALSE_TENSORS.items()
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_state_is_refused_and_its_source_is_named(
    loopback: Loopback, group: Group, name: str
) -> None:
    num_bytes, data, sha256 = HOSTILE[name]

    async def false(channel: Channel) -> None:
        await channel.receive(AskGroupState, seconds=5.0, what="a request")
        await channel.send(GroupState(num_bytes=num_bytes, sha256=sha256))
        await send_bytes(channel, data)

    async def work() -> None:
        (one,) = await group.start(1)
        await group.conducting.begin(0)
        count(one, 0)
        await group.conducting.commit()
        honest = group.peers[0]._handlers[STATES]
        await group.peers[0].serve(STATES, false)
        late = await group.join(1)
        is_seen_as_broken = name == "shorter than announced"  # nobody's lie: a stream may break
        if is_seen_as_broken:
            await asyncio.sleep(0.5)
            assert not group.conducting.complaints
        else:
            await group.conducting.until(lambda: bool(group.conducting.complaints))
            assert group.conducting.complaints == {(late.name, one.name)}
        assert late.ledger.version == NOTHING and late.part.digest() == base_part().digest()
        # Once the source is honest, it comes in.
        await group.peers[0].serve(STATES, honest)
        await group.conducting.until(lambda: late.ledger.version == one.ledger.version)

    loopback.run(work())


def test_errors_of_a_fetch_have_their_kinds(loopback: Loopback, group: Group) -> None:
    """What `fetch_state` promises, for those who check no tensors, as the coordinator."""

    async def kind_of(name: str) -> type[BaseException] | None:
        num_bytes, data, sha256 = HOSTILE[name]

        async def false(channel: Channel) -> None:
            await channel.receive(AskGroupState, seconds=5.0, what="a request")
            await channel.send(GroupState(num_bytes=num_bytes, sha256=sha256))
            await send_bytes(channel, data)

        await group.peers[0].serve(STATES, false)
        asking, peer_id = group.peers[1].swarm, group.peers[0].peer_id
        try:
            await fetch_state(asking, peer_id, asked(), most_bytes=len(GOOD) + 1_000)
        except (PeerError, DigestError) as error:
            return type(error)
        return None

    async def work() -> list[type[BaseException] | None]:
        await group.start(1)
        names = ["more than there are weights", "longer than announced", "other bytes"]
        return [await kind_of(name) for name in [*names, "no safetensors", "nan"]]

    kinds = loopback.run(work())
    assert kinds == [ProtocolError, ProtocolError, DigestError, ProtocolError, None]


def test_who_does_not_read_is_not_waited_for(
    loopback: Loopback, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seshu_swarm.exchange import group_states

    monkeypatch.setattr(group_states, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(group_states, "BYTES_PER_SECOND", 1e12)
    ended: list[bool] = []

    async def give(channel: Channel) -> None:
        try:
            await give_state(channel, bytes(64 << 20))
        finally:
            ended.append(True)

    async def work() -> None:
        await group.start(1)
        await group.peers[0].serve(STATES, give)
        stream = await group.peers[1].swarm.open(group.peers[0].peer_id, STATES)
        await stream.send(asked())
        await group.conducting.until(lambda: bool(ended), seconds=5.0)
        stream.close()

    loopback.run(work())
