"""Averages over real streams: equal at all members to the bit, or failed at all of them and at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seshu_swarm.errors import DeadlineError, PeerError, RefusalError
from seshu_swarm.network.dht import Swarm
from seshu_swarm.peer.training import averaging
from seshu_swarm.peer.training.averaging import Averaging
from seshu_swarm.peer.training.shards import Shards
from seshu_swarm.pipeline.ledger import StageLedger
from seshu_swarm.pipeline.messages import FIRST, Commit, Effect, Open, Seal
from seshu_swarm.pipeline.protocol.groups import AVERAGES, GiveShard, ShardAveraged
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.chunks import send_bytes
from tests.loopback import Loopback

PLAN, GROUP, ROUND = "ab" * 8, 1, 3
NUM_VALUES = 1_003


class Replica:
    """A member's books and its averaging, behind a peer that stays over the tests."""

    def __init__(self, swarm: Swarm, index: int) -> None:
        self.swarm, self.name = swarm, f"{swarm.peer_id}#{index:08x}"
        self.renew()

    def renew(self) -> None:
        self.blamed: list[tuple[str, str]] = []
        self.ledger = StageLedger(self.name)
        self.averaging = Averaging(
            self.swarm,
            self.ledger,
            plan=PLAN,
            group=GROUP,
            blame=lambda name, reason: self.blamed.append((name, reason)),
        )
        self.seal(ROUND)

    def seal(self, round_: int) -> None:
        self.ledger.obey(Open(FIRST, round_, frozenset(), keeps=False))
        self.ledger.obey(Seal(FIRST, round_))

    async def serve(self, channel: Channel) -> None:
        await self.averaging.serve(channel)

    async def average(self, commit: Commit, summed: Tensor) -> Tensor:
        assert self.ledger.obey(commit) is Effect.AVERAGE
        return await self.averaging.average(commit, summed)


@pytest.fixture(scope="module")
def pool(loopback: Loopback) -> list[Replica]:
    replicas = [Replica(loopback.join(f"replica-{index}"), index) for index in range(4)]
    for replica in replicas:
        loopback.run(replica.swarm.serve(AVERAGES, replica.serve))
    return replicas


@pytest.fixture
def replicas(pool: list[Replica], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Replica]]:
    monkeypatch.setattr(averaging, "AVERAGE_SECONDS", 2.0)
    for replica in pool:
        replica.renew()
    yield pool


def commit_of(members: list[Replica], weights: list[int]) -> Commit:
    pairs = sorted((member.name, w) for member, w in zip(members, weights, strict=True))
    return Commit(FIRST, ROUND, tuple(pairs))


def sums_of(members: list[Replica], num_values: int = NUM_VALUES) -> dict[str, Tensor]:
    noise = torch.Generator().manual_seed(len(members))
    return {member.name: torch.randn(num_values, generator=noise) for member in members}


async def all_average(
    members: list[Replica], commit: Commit, sums: dict[str, Tensor]
) -> list[Tensor | BaseException]:
    working = (member.average(commit, sums[member.name]) for member in members)
    return list(await asyncio.gather(*working, return_exceptions=True))


def expected_bytes(sums: dict[str, Tensor], num_ids: int) -> bytes:
    wide = np.sum([sums[name].double().numpy() for name in sorted(sums)], axis=0)
    data: bytes = (wide / num_ids).astype(np.float32).tobytes()
    return data


@pytest.mark.parametrize("weights", [[3], [2, 3], [4, 0, 1], [1, 1, 1, 1]])
def test_all_members_have_the_same_bytes(
    loopback: Loopback, replicas: list[Replica], weights: list[int]
) -> None:
    members = replicas[: len(weights)]
    sums = sums_of(members)
    for member, weight in zip(members, weights, strict=True):
        sums[member.name] *= weight > 0  # who counted nothing has a sum of zeros
    averages = loopback.run(all_average(members, commit_of(members, weights), sums))
    expected = expected_bytes(sums, sum(weights))
    assert [a.numpy().tobytes() for a in averages if isinstance(a, Tensor)] == [expected] * len(
        members
    )


def test_a_vector_may_be_shorter_than_the_members(
    loopback: Loopback, replicas: list[Replica]
) -> None:
    sums = sums_of(replicas, num_values=2)
    averages = loopback.run(all_average(replicas, commit_of(replicas, [1] * 4), sums))
    expected = expected_bytes(sums, 4)
    assert [a.numpy().tobytes() for a in averages if isinstance(a, Tensor)] == [expected] * 4


def test_shards_wait_for_a_member_that_is_told_later(
    loopback: Loopback, replicas: list[Replica]
) -> None:
    members, commit = replicas[:3], commit_of(replicas[:3], [1, 1, 1])
    sums = sums_of(members)

    async def late(member: Replica, seconds: float) -> Tensor:
        await asyncio.sleep(seconds)
        return await member.average(commit, sums[member.name])

    async def work() -> list[Tensor]:
        return list(await asyncio.gather(*(late(m, 0.4 * k) for k, m in enumerate(members))))

    averages = loopback.run(work())
    assert {a.numpy().tobytes() for a in averages} == {expected_bytes(sums, 3)}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_fail_it_at_all_and_name_the_sender(
    loopback: Loopback, replicas: list[Replica], bad: float
) -> None:
    members, sums = replicas[:3], sums_of(replicas[:3])
    hostile = members[1]
    sums[hostile.name][:] = bad
    began = time.monotonic()
    failures = loopback.run(all_average(members, commit_of(members, [1, 1, 1]), sums))
    assert time.monotonic() - began < 2.0  # nobody waits for the deadline
    assert all(isinstance(failure, PeerError) for failure in failures)
    blamed = {name for member in members for name, _ in member.blamed}
    assert blamed == {hostile.name}
    assert not any(name == hostile.name for name, _ in hostile.blamed)


def test_a_member_that_never_begins_fails_it_in_time(
    loopback: Loopback, replicas: list[Replica]
) -> None:
    members, sums = replicas[:3], sums_of(replicas[:3])
    began = time.monotonic()
    commit = commit_of(members, [1, 1, 1])
    failures = loopback.run(all_average(members[:2], commit, sums))
    assert all(isinstance(failure, PeerError) for failure in failures)
    assert time.monotonic() - began < 4.0
    assert not members[0].blamed and not members[1].blamed  # slow is not wrong
    lacking = [member.averaging.lacking for member in members[:2]]
    assert set().union(*lacking) == {members[2].name}


def test_patience_grows_until_it_has_got_through_once(
    loopback: Loopback, replicas: list[Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(averaging, "AVERAGE_SECONDS", 0.5)
    for replica in replicas:
        replica.renew()
    sums, members, waited = sums_of(replicas[:2]), replicas[:2], []
    # The absent one is asked, and does not refuse before these deadlines.
    monkeypatch.setattr(averaging, "AVERAGE_SECONDS", 20.0)
    for round_ in (ROUND, ROUND + 1):
        members[0].seal(round_)
        members[1].seal(round_)
        commit, began = Commit(FIRST, round_, commit_of(members, [1, 1]).members), time.monotonic()
        with pytest.raises(DeadlineError):
            loopback.run(members[0].average(commit, sums[members[0].name]))
        waited.append(time.monotonic() - began)
    # The sums lack, which have 0.7 of the time.
    assert 0.35 <= waited[0] < 0.65 and 0.7 <= waited[1] < 1.3


def test_a_member_that_dies_in_the_middle_fails_it_at_once(
    loopback: Loopback, replicas: list[Replica]
) -> None:
    members, sums = replicas[:3], sums_of(replicas[:3])
    commit = commit_of(members, [1, 1, 1])

    async def work() -> list[Any]:
        surviving = [asyncio.create_task(m.average(commit, sums[m.name])) for m in members[:2]]
        # The third sends half of its shard to the first, and its stream breaks.
        channel = await members[2].swarm.open(members[0].swarm.peer_id, AVERAGES)
        await channel.send(shard_of(members[2], num_bytes=len(of_first)))
        await send_bytes(channel, of_first[:100])
        await asyncio.sleep(0.2)
        channel.abort()
        return list(await asyncio.gather(*surviving, return_exceptions=True))

    place = Shards(commit.members, NUM_VALUES).of(members[0].name)
    of_first = sums[members[2].name][place].numpy().tobytes()
    began = time.monotonic()
    failures = loopback.run(work())
    assert all(isinstance(failure, PeerError) for failure in failures)
    assert time.monotonic() - began < 1.8


def shard_of(sender: Replica, *, num_bytes: int, **fields: Any) -> GiveShard:
    facts: dict[str, Any] = {
        "plan": PLAN,
        "group": GROUP,
        "version": list(FIRST),
        "round": ROUND,
        "sender": sender.name,
        "weight": 1,
        "num_bytes": num_bytes,
    }
    return GiveShard(**(facts | fields))


async def refused(sender: Replica, receiver: Replica, shard: GiveShard) -> str:
    """The name of the refusal that a shard meets before any of its numbers are sent."""
    channel = await sender.swarm.open(receiver.swarm.peer_id, AVERAGES)
    try:
        await channel.send(shard)
        await channel.receive(ShardAveraged, seconds=5.0, what="a refusal")
    except RefusalError as error:
        return error.name
    finally:
        channel.close()
    return "none"


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"plan": "f" * 16}, "NOT_TRAINING"),
        ({"group": GROUP + 1}, "NOT_TRAINING"),
        ({"version": [1, 3]}, "WRONG_VERSION"),
        ({"round": ROUND + 1}, "WRONG_ROUND"),
        ({"round": ROUND - 1}, "WRONG_ROUND"),
        ({"sender": "Qm" + "a" * 44 + "#00000001"}, "MALFORMED"),
        ({"sender": "nobody"}, "MALFORMED"),
        ({}, "MALFORMED"),  # of the commit's members it is none
    ],
)
def test_shards_of_strangers_are_refused_and_change_nothing(
    loopback: Loopback, replicas: list[Replica], fields: dict[str, Any], name: str
) -> None:
    members, stranger = replicas[:2], replicas[3]
    sums = sums_of(members)

    async def work() -> tuple[str, list[Any]]:
        # Not checked by our own types: a stranger's program has others.
        shard = shard_of(stranger, num_bytes=8).model_copy(update=fields)
        attack = asyncio.create_task(refused(stranger, members[0], shard))
        await asyncio.sleep(0.1)
        averages = await all_average(members, commit_of(members, [1, 1]), sums)
        return await attack, averages

    refusal, averages = loopback.run(work())
    assert refusal == name
    assert {a.numpy().tobytes() for a in averages} == {expected_bytes(sums, 2)}
    assert not members[0].blamed


@pytest.mark.parametrize("fields", [{"num_bytes": 8}, {"weight": 2}, {"num_bytes": 1 << 50}])
def test_a_member_s_shard_of_a_wrong_size_or_weight_fails_it_by_name(
    loopback: Loopback, replicas: list[Replica], fields: dict[str, int]
) -> None:
    members = replicas[:2]
    commit, sums = commit_of(members, [1, 1]), sums_of(members)

    async def work() -> tuple[str, Any]:
        averaged = asyncio.create_task(members[0].average(commit, sums[members[0].name]))
        facts = {"num_bytes": 2_006} | fields
        refusal = await refused(members[1], members[0], shard_of(members[1], **facts))
        return refusal, (await asyncio.gather(averaged, return_exceptions=True))[0]

    refusal, failure = loopback.run(work())
    assert refusal == "MALFORMED" and isinstance(failure, PeerError)
    assert [name for name, _ in members[0].blamed] == [members[1].name]


def test_a_shard_that_is_never_called_for_waits_a_bounded_time(
    loopback: Loopback, replicas: list[Replica]
) -> None:
    sender, receiver = replicas[:2]
    shard = shard_of(sender, num_bytes=8)

    async def work() -> list[str]:
        asking = (refused(sender, receiver, shard) for _ in range(4))
        return list(await asyncio.gather(*asking))

    began = time.monotonic()
    names = loopback.run(work())
    assert sorted(names) == ["RATE_LIMITED"] * 2 + ["WRONG_ROUND"] * 2
    assert 1.9 < time.monotonic() - began < 4.0
    assert not receiver.averaging._waiting


def test_a_member_that_is_just_in_time_does_not_stretch_the_next_average_without_end() -> None:
    num_bytes, seconds = 1 << 20, averaging.AVERAGE_SECONDS
    for _ in range(20):
        rate = num_bytes / (0.99 * seconds)
        seconds = averaging.patience_seconds(num_bytes, rate, least=averaging.AVERAGE_SECONDS)
    assert seconds == averaging.MAX_AVERAGE_SECONDS
    fast = averaging.patience_seconds(num_bytes, 1e9, least=averaging.AVERAGE_SECONDS)
    assert fast == averaging.AVERAGE_SECONDS


def test_a_member_that_cannot_be_reached_is_lacking(
    loopback: Loopback, replicas: list[Replica]
) -> None:
    """Nobody else sees it: the conductor hears it each half second."""
    member, nowhere = replicas[0], f"{loopback.identity('nowhere').peer_id}#00000001"
    commit = Commit(FIRST, ROUND, tuple(sorted([(member.name, 1), (nowhere, 1)])))
    with pytest.raises(PeerError):
        loopback.run(member.average(commit, torch.ones(NUM_VALUES)))
    assert member.averaging.lacking == {nowhere}
    assert not member.blamed  # it may be the line's fault
