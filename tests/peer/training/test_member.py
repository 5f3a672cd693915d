"""Members of a group on real sockets: equal weights after a commit, nothing applied after a failure."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch

from seshu_swarm.errors import RefusalError
from seshu_swarm.peer.training import averaging, enlisting, gathering, member
from seshu_swarm.pipeline.messages import FIRST, NOTHING, Call, Phase, Version
from seshu_swarm.pipeline.protocol.converting import to_status
from seshu_swarm.pipeline.protocol.fields import of_version
from seshu_swarm.pipeline.protocol.groups import AVERAGES, STATES, AskGroupState, GiveShard
from seshu_swarm.pipeline.protocol.steps import Enlist, Enlisted, FeedMessage, StatusMessage
from seshu_swarm.streams.channel import Channel
from tests.loopback import Loopback
from tests.peer.training.groups import (
    RECORD,
    Group,
    base_part,
    count,
    expected_digest,
)

torch.set_num_threads(1)

# Of each member, by name: the numbers that it counts.
Claims = Mapping[str, tuple[int, ...]]


@pytest.fixture(scope="module")
def pool(loopback: Loopback) -> Group:
    return Group(loopback, 3)


@pytest.fixture
def group(pool: Group, loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> Iterator[Group]:
    monkeypatch.setattr(averaging, "AVERAGE_SECONDS", 1.5)
    monkeypatch.setattr(member, "RETRY_SECONDS", 0.2)
    yield pool
    loopback.run(pool.end())


async def digests(group: Group) -> set[str]:
    loop = asyncio.get_running_loop()
    return {
        await loop.run_in_executor(living.executor, living.member.part.digest)
        for living in group.living
    }


def by_name(claims: Claims) -> list[tuple[int, ...]]:
    return [claims[name] for name in sorted(claims)]


async def step(group: Group, claims: Claims) -> None:
    """One that nothing disturbs."""
    await group.conducting.begin(*(n for numbers in claims.values() for n in numbers))
    for living in group.living:
        count(living.member, *claims[living.member.name])
    await group.conducting.commit()


def test_members_have_equal_weights_after_each_commit(loopback: Loopback, group: Group) -> None:
    async def work() -> None:
        one, two = await group.start(2)
        first, second = {one.name: (0, 1, 2), two.name: (3,)}, {one.name: (4,), two.name: (5, 6)}
        await step(group, first)
        assert await digests(group) == {expected_digest(by_name(first))}
        await step(group, second)
        assert await digests(group) == {expected_digest(by_name(first), by_name(second))}
        assert one.ledger.version == two.ledger.version == Version(2, 2)

    loopback.run(work())


def test_a_member_alone_and_one_that_counted_nothing_step_too(
    loopback: Loopback, group: Group
) -> None:
    async def work() -> None:
        (one,) = await group.start(1)
        await step(group, {one.name: (0, 1)})
        two = await group.join(1)
        await group.conducting.until(lambda: two.ledger.version == Version(1, 1))
        claims = {one.name: (2,), two.name: ()}
        await step(group, claims)
        assert await digests(group) == {expected_digest([(0, 1)], by_name(claims))}

    loopback.run(work())


def test_a_step_without_ids_changes_no_numbers(loopback: Loopback, group: Group) -> None:
    async def work() -> None:
        one, two = await group.start(2)
        await group.conducting.begin(0)
        group.conducting.group.give_up(group.conducting.group.ids)
        await group.conducting.commit()
        assert one.ledger.version == two.ledger.version == Version(1, 1)
        assert await digests(group) == {base_part().digest()}

    loopback.run(work())


def test_a_repeat_adds_nothing_and_what_is_not_asked_for_is_refused(
    loopback: Loopback, group: Group
) -> None:
    async def work() -> None:
        (one,) = await group.start(1)
        await group.conducting.begin(0, 1)
        count(one, 0, 0, 1, 0)
        with pytest.raises(RefusalError, match="NOT_IN_STEP"):
            count(one, 7)
        await group.conducting.commit()
        assert await digests(group) == {expected_digest([(0, 1)])}

    loopback.run(work())


def test_a_new_round_begins_with_nothing_unless_it_is_kept(
    loopback: Loopback, group: Group
) -> None:
    async def work() -> None:
        one, two = await group.start(2)
        await group.conducting.begin(0, 1)
        # Both count 0: the smaller claim is dropped, and its member counts from none.
        count(one, 0, 1)
        count(two, 0)
        await group.conducting.commit()
        assert group.conducting.group.round == 2
        await group.conducting.until(lambda: {one.ledger.round, two.ledger.round} == {2})
        await group.conducting.commit()
        claims = {one.name: (0, 1), two.name: ()}
        assert await digests(group) == {expected_digest(by_name(claims))}

    loopback.run(work())


def test_nan_fails_the_average_at_all_and_the_others_go_on_without_it(
    loopback: Loopback, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        one, two, hostile = await group.start(3)
        nan = torch.full((base_part().num_bytes // 4,), torch.nan)
        monkeypatch.setattr(hostile.part, "summed", lambda: nan)
        await group.conducting.begin(0, 1, 2)
        for number, each in enumerate((one, two, hostile)):
            count(each, number)
        began = time.monotonic()
        await group.conducting.commit()
        assert time.monotonic() - began < 1.5
        assert {one.ledger.version, two.ledger.version, hostile.ledger.version} == {FIRST}
        assert await digests(group) == {base_part().digest()}
        await group.conducting.until(lambda: len(group.conducting.complaints) >= 1)
        assert {of for _, of in group.conducting.complaints} == {hostile.name}
        await group.living.pop().end()
        await group.conducting.lost(hostile.name)
        await group.conducting.until(lambda: one.ledger.round == two.ledger.round > 1)
        count(one, 2)
        await group.conducting.commit()
        claims = {one.name: (0, 2), two.name: (1,)}
        assert await digests(group) == {expected_digest(by_name(claims))}

    loopback.run(work())


def test_a_member_that_dies_while_averaging_fails_it_and_nothing_is_applied(
    loopback: Loopback, group: Group
) -> None:
    async def work() -> None:
        one, two, dying = await group.start(3)
        await group.conducting.begin(0, 1, 2)
        for number, each in enumerate((one, two, dying)):
            count(each, number)
        dead = group.living.pop()
        group.peers[2]._handlers[AVERAGES] = never
        # Told to commit it would average: its process is gone just before.
        commit = asyncio.create_task(group.conducting.commit())
        await group.conducting.until(lambda: dying.ledger.phase is Phase.SEALED)
        group.conducting.channels.pop(dying.name)
        dead.task.cancel()
        began = time.monotonic()
        await group.conducting.until(lambda: two.ledger.phase is Phase.AVERAGING)
        await group.conducting.until(lambda: two.ledger.phase is not Phase.AVERAGING)
        assert time.monotonic() - began < 3.0
        await group.conducting.lost(dying.name)
        await commit
        assert await digests(group) == {base_part().digest()}
        await group.conducting.until(lambda: one.ledger.round == two.ledger.round > 1)
        count(two, 2)
        await group.conducting.commit()
        claims = {one.name: (0,), two.name: (1, 2)}
        assert await digests(group) == {expected_digest(by_name(claims))}
        await dead.end()

    loopback.run(work())


async def never(channel: Channel) -> None:
    """Of a peer that hangs."""
    await channel.receive(GiveShard, seconds=5.0, what="a shard")
    await asyncio.sleep(30.0)


def test_who_comes_later_downloads_and_takes_part_from_then_on(
    loopback: Loopback, group: Group
) -> None:
    async def work() -> None:
        one, two = await group.start(2)
        first = {one.name: (0,), two.name: (1,)}
        await step(group, first)
        late = await group.join(2)
        assert late.ledger.version in (NOTHING, Version(1, 1))
        await group.conducting.until(lambda: late.ledger.version == Version(1, 1))
        assert await digests(group) == {expected_digest(by_name(first))}
        second = {one.name: (2,), two.name: (3,), late.name: (4, 5)}
        await step(group, second)
        # Its moments came along, too, or the second step would differ.
        assert await digests(group) == {expected_digest(by_name(first), by_name(second))}

    loopback.run(work())


def test_who_has_no_weights_yet_takes_no_part(loopback: Loopback, group: Group) -> None:
    async def work() -> None:
        (one,) = await group.start(1)
        await step(group, {one.name: (0,)})
        group.peers[0]._handlers[STATES] = hang
        late = await group.join(1)
        await group.conducting.begin(1)
        (id_,) = group.conducting.group.ids
        with pytest.raises(RefusalError, match="WRONG_VERSION"):
            late.count(Call(id_, Version(1, 1), 2, 0), base_part().parameters)
        stream = await group.peers[0].swarm.open(group.peers[1].peer_id, STATES)
        await stream.send(AskGroupState(plan=RECORD.plan, group=0, version=of_version(FIRST)))
        with pytest.raises(RefusalError, match="WRONG_VERSION"):
            await stream.receive(Enlisted, seconds=5.0, what="a refusal")
        stream.close()
        # The step is made without it.
        await group.conducting.until(lambda: one.ledger.round == 2)
        count(one, 1)
        await group.conducting.commit()
        assert one.ledger.version == Version(2, 2) and late.ledger.version == NOTHING

    loopback.run(work())


async def hang(channel: Channel) -> None:
    await asyncio.sleep(30.0)


def test_new_weights_are_told_of_when_they_are_there(
    loopback: Loopback, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> tuple[str, str, float]:
        (one,) = await group.start(1)
        apply = one.part.apply

        def slowly(*arguments: Any) -> None:
            time.sleep(0.8)
            apply(*arguments)

        monkeypatch.setattr(one.part, "apply", slowly)
        await group.conducting.begin(0)
        count(one, 0)
        commit = asyncio.create_task(group.conducting.commit())
        await group.conducting.until(lambda: one.ledger.version == Version(1, 1))
        began = time.monotonic()
        # A pass that is admitted from now on is computed on the new weights.
        loop = asyncio.get_running_loop()
        queued = loop.run_in_executor(group.living[0].executor, one.part.digest)
        await asyncio.sleep(0.1)
        statuses = [to_status(m) for _, m in group.conducting.heard if isinstance(m, StatusMessage)]
        assert statuses[-1].version == FIRST
        digest = await queued
        await commit
        return digest, one.part.digest(), time.monotonic() - began

    queued, final, seconds = loopback.run(work())
    assert queued == final == expected_digest([(0,)]) and seconds > 0.5


def test_weights_that_the_ledger_names_are_applied_though_the_plan_is_over(
    loopback: Loopback, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may fetch them still, by the new version."""

    async def work() -> str:
        (one,) = await group.start(1)
        executor, going_on = group.living[0].executor, threading.Event()
        settle = gathering.Gathering.settle

        async def and_then_a_pass(self: gathering.Gathering, seconds: float) -> None:
            await settle(self, seconds)
            executor.submit(going_on.wait, 10.0)

        monkeypatch.setattr(gathering.Gathering, "settle", and_then_a_pass)
        await group.conducting.begin(0)
        count(one, 0)
        commit = asyncio.create_task(group.conducting.commit())
        await group.conducting.until(lambda: one.ledger.version == Version(1, 1))
        over = FeedMessage(step=3, ids={}, groups=[], is_over=True)
        await group.conducting.channels[one.name].send(over)
        await asyncio.wait_for(group.living[0].task, 5.0)
        going_on.set()
        commit.cancel()
        return await asyncio.get_running_loop().run_in_executor(executor, one.part.digest)

    assert loopback.run(work()) == expected_digest([(0,)])


def test_a_broken_stream_is_opened_again_and_everything_is_kept(
    loopback: Loopback, group: Group
) -> None:
    async def work() -> None:
        one, two = await group.start(2)
        await group.conducting.begin(0, 1)
        count(one, 0)
        count(two, 1)
        one.number = 7
        for channel in group.conducting.channels.values():
            channel.abort()
        group.conducting.channels.clear()
        await group.conducting.until(lambda: len(group.conducting.channels) == 2)
        again = {e.name: e for e in group.conducting.enlisted[2:]}
        assert again[one.name] == Enlist(
            plan=RECORD.plan, name=one.name, is_trainer=False, group=0, number=7
        )
        await group.conducting.commit()
        claims = {one.name: (0,), two.name: (1,)}
        assert await digests(group) == {expected_digest(by_name(claims))}

    loopback.run(work())


def test_a_conductor_that_is_silent_for_long_is_dialled_again(
    loopback: Loopback, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its machine is gone: nobody ends the stream."""
    monkeypatch.setattr(enlisting, "CONDUCTOR_LOST_SECONDS", 0.5)

    async def work() -> None:
        (one,) = await group.start(1)
        await group.conducting.until(lambda: len(group.conducting.enlisted) > 1)
        assert group.conducting.enlisted[1].name == one.name

    loopback.run(work())


@pytest.mark.parametrize("way", ["stop", "feed", "not training"])
def test_a_member_s_life_ends(loopback: Loopback, group: Group, way: str) -> None:
    async def work() -> list[FeedMessage]:
        (one,) = await group.start(1)
        feeds: list[FeedMessage] = []
        one.on_feed = feeds.append
        if way == "stop":
            group.living[0].stop.set()
        elif way == "feed":
            over = FeedMessage(step=3, ids={}, groups=[], is_over=True)
            await group.conducting.channels[one.name].send(over)
        else:
            group.conducting.is_over = True
            group.conducting.channels[one.name].abort()
        await asyncio.wait_for(group.living[0].task, 5.0)
        return feeds

    assert len(loopback.run(work())) == (way == "feed")


def test_a_failure_in_the_computing_thread_ends_the_life(loopback: Loopback, group: Group) -> None:
    async def work() -> None:
        (one,) = await group.start(1)
        await group.conducting.begin(0)
        (id_,) = group.conducting.group.ids
        one.count(Call(id_, FIRST, 1, 0), [])  # counted, and nothing is accumulated
        with pytest.raises(ValueError, match="zip"):
            await asyncio.wait_for(group.living[0].task, 5.0)

    loopback.run(work())
