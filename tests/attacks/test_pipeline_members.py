"""Hostile members of pipelined training by real processes: dropped, avoided by name, and the run goes on.

After each attack the accounts are whole: every microbatch is in the weights of every stage once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from seshu_swarm.errors import PeerError, RefusalError
from seshu_swarm.pipeline.messages import MicrobatchId, Phase, Status, Version
from seshu_swarm.pipeline.protocol.fields import of_version, peer_of, to_ids, to_version
from seshu_swarm.pipeline.protocol.groups import AVERAGES, GiveShard
from seshu_swarm.pipeline.protocol.passes import AskStagePass, PassRequest, StagePassed
from seshu_swarm.pipeline.protocol.steps import CONDUCTOR_SECONDS, Enlist, FeedMessage, OrderMessage
from seshu_swarm.pipeline.tensors import Packed, pack
from seshu_swarm.program.config import JoinConfig
from seshu_swarm.records import uids
from seshu_swarm.records.kinds import TrainingRecord
from seshu_swarm.run.joining import join
from seshu_swarm.run.training_plan import find_training
from seshu_swarm.streams import wire
from seshu_swarm.streams.channel import Channel
from tests.attacks.intruding import Intruders, Puppet, ask_pass, enlist
from tests.peer.training.conducting import Peer, Replica
from tests.swarms import Processes, RoleProcess
from tests.trainings import D_MODEL, TrainedRun, name_of, name_of_trainer, open_random

pytestmark = pytest.mark.swarm

OTHER_PLAN = "f" * 16
SECONDS = 60.0
# The weights may change between the look at them and the question.
TRIES = 50
# Who is heard is answered in milliseconds.
UNHEARD_SECONDS = 3.0


@dataclass
class Siege:
    """A run with one honest replica of each stage and two trainers, and who comes to harm it."""

    run: TrainedRun
    intruders: Intruders
    plan: TrainingRecord
    conductor: str

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.plan.batch_size, self.plan.length - 1, D_MODEL

    def honest(self, stage: int) -> str:
        return name_of(self.run.replicas[stage][0])

    def begin(self, work: Any) -> Future[Any]:
        """Beside what the test does."""
        return asyncio.run_coroutine_threadsafe(work, self.intruders.loop)

    def avoided(self, name: str) -> str:
        """Why the conductor sent a member away."""
        said = self.run.coordinator.wait_for(
            "avoided", seconds=SECONDS, matching=lambda e: e["member"] == name
        )
        return str(said["reason"])

    def goes_on(self, *hostile: str) -> None:
        """With whole accounts, in which nobody hostile has anything."""
        accounts = self.run.until_made(3)
        self.run.check()
        for group in range(3):
            assert not accounts.by_member(group).keys() & set(hostile)


@pytest.fixture(scope="module")
def siege(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("siege")
    opened = open_random(folder / "run")
    with Processes(folder / "swarm") as swarm:
        run = TrainedRun(opened, swarm, "--train-steps", "100000", "--checkpoint-steps", "100000")
        members: list[RoleProcess] = [run.replica(0), run.replica(1)]
        for _ in range(2):
            run.trainer()
        assert all(name_of(one) for one in members)
        assert all(name_of_trainer(one) for one in run.trainers)
        run.until_made(1)
        intruders = Intruders(folder / "intruders", run.link)
        conductor = run.coordinator.ready()["peer_id"]
        yield Siege(run, intruders, run.accounts().plan, conductor)
        intruders.close()


def zeros(siege: Siege) -> Packed:
    return pack(torch.zeros(siege.shape), "int8")


def not_finite(siege: Siege) -> Packed:
    packed = zeros(siege)
    count = packed["scales"]["shape"][0]
    return packed | {"scales": wire.pack_tensor(torch.full((count,), float("nan")))}


def shorter(siege: Siege) -> Packed:
    rows, length, width = siege.shape
    return pack(torch.zeros(rows, length - 1, width), "int8")


def wider(siege: Siege) -> Packed:
    rows, length, width = siege.shape
    return pack(torch.zeros(rows, length, 2 * width), "int8")


def in_another_type(siege: Siege) -> Packed:
    return pack(torch.zeros(siege.shape), "float32")


async def a_replica(siege: Siege, stage: int, answer: Callable[[Siege], Packed] | None) -> Replica:
    """One that obeys orders and holds true weights; what it answers trainers is its own affair."""

    async def passes(channel: Channel) -> None:
        await channel.receive(PassRequest, seconds=5.0, what="a pass")
        assert answer is not None
        await channel.send(StagePassed(values=answer(siege)))

    peer = Peer(await siege.intruders.joining(f"replica-{len(siege.intruders._swarms)}"))
    base = siege.run.run.package(siege.plan.base)
    replica = Replica(peer, siege.plan, base, stage=stage)
    await replica.join(siege.conductor, passes=passes if answer else None)
    return replica


@pytest.mark.parametrize("answer", [not_finite, shorter, wider, in_another_type])
def test_a_stage_that_answers_what_cannot_be_is_avoided(
    siege: Siege, answer: Callable[[Siege], Packed]
) -> None:
    replica = siege.intruders.run(a_replica(siege, 0, answer))
    reason = siege.avoided(replica.name)
    siege.intruders.run(replica.leave())
    assert "complaints" in reason
    siege.goes_on(replica.name)


def test_a_stage_whose_gradients_are_no_numbers_fails_no_second_average_for_long(
    siege: Siege,
) -> None:
    """It serves passes as it should, and spoils what the group averages."""

    async def spoiling() -> Replica:
        replica = await a_replica(siege, 1, None)
        bad = torch.full_like(replica.member.part.summed(), float("nan"))
        replica.member.part.summed = lambda: bad  # type: ignore[method-assign]
        return replica

    replica = siege.intruders.run(spoiling())
    reason = siege.avoided(replica.name)
    siege.intruders.run(replica.leave())
    assert "NaN" in reason or "averages" in reason
    siege.goes_on(replica.name)


class Claimant(Puppet):
    """Says that it has the newest weights, follows each round, and claims whatever is in the list."""

    def obey(self, order: OrderMessage) -> None:
        version = to_version(order.version)
        if order.kind == "join":
            self.began(version)
        elif order.kind == "open":
            self.status, self.listed = Status(version, order.round, Phase.OPEN), to_ids(order.ids)
        elif order.kind == "seal":
            self.status = Status(version, order.round, Phase.SEALED, self.listed)


def test_a_stage_that_claims_what_it_was_never_asked_is_avoided(siege: Siege) -> None:
    puppet = Claimant(siege.intruders.another(), siege.plan, group=0)
    living = siege.begin(puppet.live(siege.conductor))
    assert "never asked to count" in siege.avoided(puppet.name)
    living.result(SECONDS)
    # Under another name, too.
    again = Enlist(plan=siege.plan.plan, name=puppet.peer.new_name(), is_trainer=False)
    assert refusal_of(siege, enlist(puppet.peer, siege.conductor, again)) == "AVOIDED"
    siege.goes_on(puppet.name)


class Ahead(Puppet):
    def began(self, version: Version) -> None:
        self.status = Status(Version(version.step + 50, 1 << 40), 1 << 40, Phase.OPEN)


def test_a_stage_that_is_ahead_of_all_is_avoided(siege: Siege) -> None:
    puppet = Ahead(siege.intruders.another(), siege.plan, group=1)
    living = siege.begin(puppet.live(siege.conductor))
    assert "where the newest are" in siege.avoided(puppet.name)
    living.result(SECONDS)
    assert isinstance(puppet.end, RefusalError)
    siege.goes_on(puppet.name)


class Stale(Puppet):
    """Says for ever that it has the weights of an older step, and that it has counted."""

    def began(self, version: Version) -> None:
        older = Version(version.step - 1, max(0, version.round - 1))
        claim = frozenset({MicrobatchId(self.name, 0)})
        self.status = Status(older, older.round, Phase.SEALED, claim)


def test_a_stage_with_stale_gradients_takes_no_part(siege: Siege) -> None:
    """In no average: neither by the conductor, nor by a shard that it gives by itself."""
    puppet = Stale(siege.intruders.another(), siege.plan, group=0)
    living = siege.begin(puppet.live(siege.conductor))
    siege.run.until_made(2)
    names = {siege.intruders.run(give_shard(siege, puppet)) for _ in range(3)}
    assert names == {"WRONG_VERSION"}
    siege.goes_on(puppet.name)
    siege.intruders.run(until_fed(puppet))  # all members hear of the conductor now and then
    orders = {m.kind for m in puppet.heard if isinstance(m, OrderMessage)}
    assert orders <= {"join"}
    siege.intruders.loop.call_soon_threadsafe(living.cancel)


async def until_fed(puppet: Puppet) -> None:
    async with asyncio.timeout(3 * CONDUCTOR_SECONDS):
        while not any(isinstance(message, FeedMessage) for message in puppet.heard):
            await asyncio.sleep(0.1)


async def give_shard(siege: Siege, puppet: Puppet) -> str:
    """To the honest replica; the name of its refusal."""
    status, channel = (
        puppet.status,
        await puppet.peer.swarm.open(peer_of(siege.honest(0)), AVERAGES),
    )
    given = GiveShard(
        plan=siege.plan.plan,
        group=0,
        version=of_version(status.version),
        round=status.round,
        sender=puppet.name,
        weight=1,
        num_bytes=4,
    )
    await channel.send(given)
    with pytest.raises(RefusalError) as caught:
        await channel.receive(StagePassed, seconds=10.0, what="a refusal")
    channel.close()
    return str(caught.value.name)


def refusal_of(siege: Siege, work: Any) -> str:
    with pytest.raises(RefusalError) as caught:
        siege.intruders.run(work)
    return str(caught.value.name)


def test_who_is_of_another_plan_or_takes_another_s_name_is_refused(siege: Siege) -> None:
    peer = siege.intruders.another()
    own = Enlist(plan=OTHER_PLAN, name=peer.new_name(), is_trainer=False)
    assert refusal_of(siege, enlist(peer, siege.conductor, own)) == "NOT_TRAINING"
    other = Enlist(plan=siege.plan.plan, name=siege.honest(0), is_trainer=False, group=0)
    assert refusal_of(siege, enlist(peer, siege.conductor, other)) == "NOT_OWNER"
    siege.goes_on()


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "no numbers": ("MALFORMED", {"hidden": not_finite}),
    "shorter": ("MALFORMED", {"hidden": shorter}),
    "another plan": ("NOT_TRAINING", {"plan": OTHER_PLAN}),
    "another stage": ("SPAN_MOVED", {"stage": 1}),
    "old weights": ("WRONG_VERSION", {"version": [0, 0]}),
    "not in the step": ("NOT_IN_STEP", {"gradient": zeros}),
}


def test_a_trainer_that_sends_what_cannot_be_is_refused(siege: Siege) -> None:
    peer = siege.intruders.another()
    for what, (name, other) in REFUSED.items():
        found = set[str]()
        for _ in range(TRIES):
            found.update(refusals(siege, peer, other, count=1))
            if name in found:
                break
        assert name in found, what
        assert found <= {name, "WRONG_VERSION", "WRONG_ROUND"}, what
    siege.goes_on()


def refusals(siege: Siege, peer: Peer, other: dict[str, Any], *, count: int) -> list[str]:
    """Of so many passes at once; "" for those that are answered."""
    books = siege.run.accounts().books
    asked: dict[str, Any] = {
        "plan": siege.plan.plan,
        "stage": 0,
        "trainer": peer.new_name(),
        "number": 0,
        "version": books["versions"][0],
        "round": books["versions"][0][1] + 1,
        "hidden": zeros,
    }
    filled = {k: v(siege) if callable(v) else v for k, v in (asked | other).items()}
    replica = peer_of(siege.honest(0))

    async def one() -> str:
        try:
            await ask_pass(peer, replica, AskStagePass(**filled))
        except RefusalError as error:
            return error.name
        return ""

    async def ask_all() -> list[str]:
        return list(await asyncio.gather(*(one() for _ in range(count))))

    return siege.intruders.run(ask_all())


def test_a_flood_of_passes_is_limited_and_others_are_served(siege: Siege) -> None:
    peer, found = siege.intruders.another(), set[str]()
    for _ in range(TRIES):
        found.update(refusals(siege, peer, {}, count=64))
        if "RATE_LIMITED" in found:
            break
    assert "RATE_LIMITED" in found
    assert found <= {"", "RATE_LIMITED", "WRONG_VERSION"}
    siege.goes_on()


class Thief(Claimant):
    """A trainer that claims for the ends what others feed, too."""


def test_a_trainer_that_claims_what_others_feed_is_avoided(siege: Siege) -> None:
    puppet = Thief(siege.intruders.another(), siege.plan, is_trainer=True)
    living = siege.begin(puppet.live(siege.conductor))
    assert "never asked to count" in siege.avoided(puppet.name)
    living.result(SECONDS)
    siege.goes_on(puppet.name)


class Silent(Claimant):
    """A trainer that counts its own for the ends, says that it fed the stages, and serves nobody."""

    def obey(self, order: OrderMessage) -> None:
        super().obey(order)
        own = frozenset(id_ for id_ in self.status.claim if id_.trainer == self.name)
        self.status = replace(self.status, claim=own)


def test_a_trainer_that_says_it_fed_and_takes_no_part_is_avoided(siege: Siege) -> None:
    """For its lack of microbatches, or for the averages that fail by it: whichever is seen first."""
    puppet = Silent(siege.intruders.another(), siege.plan, is_trainer=True)
    living = siege.begin(puppet.live(siege.conductor))
    reason = siege.avoided(puppet.name)
    assert any(word in reason for word in ("rounds", "not reached", "averages"))
    living.result(SECONDS)
    siege.goes_on(puppet.name)


def test_a_plan_that_a_stranger_announces_is_not_believed(siege: Siege) -> None:
    peer = siege.intruders.another()
    false = siege.plan.model_copy(update={"plan": OTHER_PLAN, "sequence": 1 << 40})
    joining = JoinConfig(
        join=siege.run.link, state_dir=str(siege.intruders.folder / "joining"), host="127.0.0.1"
    )

    async def scene() -> str:
        assert await peer.swarm.announce(false)
        joined = await join(joining)
        try:
            found = await find_training(joined)
            everybody = await joined.swarm.lookup(
                [uids.training_key(joined.swarm.run_id)], TrainingRecord
            )
        finally:
            await joined.swarm.leave()
        assert joined.run.round_state == "training through peers"
        assert OTHER_PLAN in {one.record.plan for one in everybody}
        assert found is not None
        return found.plan

    assert siege.intruders.run(scene()) == siege.plan.plan


def test_a_stranger_gives_no_orders(siege: Siege) -> None:
    """Members listen to the stream that they opened themselves, and to no other."""
    peer = siege.intruders.another()
    for stage in (0, 1):
        replica = peer_of(siege.honest(stage))
        asked = Enlist(plan=siege.plan.plan, name=peer.new_name(), is_trainer=False)
        with pytest.raises(PeerError):
            siege.intruders.run(enlist(peer, replica, asked, seconds=UNHEARD_SECONDS))
    siege.goes_on()
