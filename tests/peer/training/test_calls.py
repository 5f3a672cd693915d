"""Passes that go wrong at a real peer: whose fault it was, and who is asked next."""

from __future__ import annotations

import asyncio
import math

import pytest
import torch

from seshu_swarm.errors import (
    DeadlineError,
    PeerError,
    PeerLostError,
    ProtocolError,
    RefusalError,
    UsageError,
)
from seshu_swarm.peer.training import calls
from seshu_swarm.peer.training.calls import Calls, Pass
from seshu_swarm.pipeline.messages import FIRST, Call, MicrobatchId, Withdrawal
from seshu_swarm.pipeline.protocol.fields import of_version
from seshu_swarm.pipeline.protocol.passes import (
    PASSES,
    AskStagePass,
    PassRequest,
    StagePassed,
    WithdrawPass,
)
from seshu_swarm.pipeline.protocol.steps import FeedMessage, GroupFeed
from seshu_swarm.pipeline.step import Kind, Task
from seshu_swarm.pipeline.tensors import Packed, bytes_of, pack, unpack
from seshu_swarm.streams.channel import Channel, refusal
from seshu_swarm.streams.protocol import Refusal
from tests.loopback import Loopback
from tests.peer.training.conducting import Peer
from tests.peer.training.plans import plan_of

D_MODEL = 32
SHAPE = (2, 8, D_MODEL)
ID = MicrobatchId("Trainer#00000001", 3)
CALL = Call(ID, FIRST, 5, 2)
FORWARD, BACKWARD = Task(Kind.FORWARD, 0, ID), Task(Kind.BACKWARD, 0, ID)


def numbers(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*(shape or SHAPE), generator=torch.Generator().manual_seed(seed))


def packed(seed: int, *shape: int) -> Packed:
    return pack(numbers(seed, *shape), "float32")


class World:
    """A trainer's calls to two replicas: one on a real peer that `answer`s as a test says, the other on
    a peer that is nowhere."""

    def __init__(self, loopback: Loopback) -> None:
        self.loopback = loopback
        self.peer, self.trainer = Peer(loopback.join("replica")), loopback.join("trainer")
        self.gone = loopback.identity("nobody").peer_id + "#00000001"
        self.replica = self.peer.new_name()
        self.heard: list[AskStagePass | WithdrawPass] = []
        self.complaints: list[tuple[str, str]] = []
        self.answers: list[StagePassed | Refusal | float | None] = []

    def fresh(
        self, *answers: StagePassed | Refusal | float | None, wire_type: str = "float32"
    ) -> Calls:
        """`answers` in turn: a float is a pause without an answer, None ends the stream."""
        self.heard.clear()
        self.complaints.clear()
        self.answers = list(answers)
        self.loopback.run(self.peer.serve(PASSES, self._serve))
        made = Calls(self.trainer, plan_of(num_blocks=4, wire_type=wire_type), d_model=D_MODEL)
        made.complain = lambda name, reason: self.complaints.append((name, reason))
        made.update(feed(self.replica))
        return made

    def ask(
        self,
        asking: Calls,
        task: Task = FORWARD,
        *,
        replica: str | None = None,
        wire: str = "float32",
    ) -> Packed:
        is_back = task.kind is Kind.BACKWARD
        hidden, gradient = pack(numbers(1), wire), pack(numbers(2), wire) if is_back else None
        call = CALL if is_back else None
        asked = Pass(task, replica or self.replica, FIRST, call, hidden, gradient)
        return self.loopback.run(asking.ask(asked))

    async def _serve(self, channel: Channel) -> None:
        first = await channel.receive(PassRequest, seconds=5.0, what="a pass")
        self.heard.append(first.request)
        while self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Refusal):
                raise refusal(answer, "says the test")
            if isinstance(answer, float):
                await asyncio.sleep(answer)
                return
            if answer is None:
                channel.abort()
                return
            await channel.send(answer)
            if not answer.is_wanting:
                return
            self.heard.append(await channel.receive(AskStagePass, seconds=5.0, what="it again"))


def feed(*replicas: str) -> FeedMessage:
    group = GroupFeed(version=of_version(FIRST), round=1, missing={}, replicas=list(replicas))
    return FeedMessage(step=0, ids={}, groups=[group, group])


@pytest.fixture(scope="module")
def world(loopback: Loopback) -> World:
    return World(loopback)


def is_there(asking: Calls) -> bool:
    """Whether the replica would be asked again."""
    try:
        asking.choose(FORWARD)
    except PeerLostError:
        return False
    return True


def test_backward_sends_its_input_only_to_whom_it_is_wanting(world: World) -> None:
    asking = world.fresh(StagePassed(values=packed(7), compute_seconds=0.001))
    assert unpack(world.ask(asking, BACKWARD), SHAPE, "float32").equal(numbers(7))
    [first] = world.heard
    assert isinstance(first, AskStagePass)
    assert (first.hidden, first.gradient, first.call) == (None, packed(2), CALL)

    asking = world.fresh(StagePassed(is_wanting=True), StagePassed(values=packed(7)))
    assert unpack(world.ask(asking, BACKWARD), SHAPE, "float32").equal(numbers(7))
    first, again = world.heard
    assert isinstance(first, AskStagePass)
    assert isinstance(again, AskStagePass)
    assert first.hidden is None
    assert again == first.model_copy(update={"hidden": packed(1)})
    asking = world.fresh(StagePassed(values=packed(7)))
    world.ask(asking, FORWARD)
    [forward] = world.heard
    assert isinstance(forward, AskStagePass)
    assert (forward.hidden, forward.gradient, forward.round) == (packed(1), None, -1)


@pytest.mark.parametrize("wire_type", ["int8", "bfloat16", "float32"])
def test_bytes_and_seconds_of_passes_are_counted(world: World, wire_type: str) -> None:
    values = pack(numbers(7), wire_type)
    told = StagePassed(values=values, compute_seconds=1e-4, wait_seconds=1e-5)
    asking = world.fresh(told, wire_type=wire_type)
    world.ask(asking, BACKWARD, wire=wire_type)
    meter, payload = asking.meter, bytes_of(math.prod(SHAPE), wire_type)
    assert meter.num_passes == 1
    # One gradient there and one back, and less than a kibibyte of names and greetings.
    assert payload < meter.sent_bytes < payload + 1_024
    assert payload < meter.received_bytes < payload + 1_024
    assert meter.compute_seconds == pytest.approx(1e-4)
    assert meter.wait_seconds == pytest.approx(1e-5)
    assert meter.network_seconds > 0
    assert meter.serialise_seconds > 0


def test_what_a_replica_tells_is_believed_as_far_as_it_fits(world: World) -> None:
    asking = world.fresh(StagePassed(values=packed(7), compute_seconds=1e9, wait_seconds=1e9))
    world.ask(asking)
    meter = asking.meter
    assert 0 < meter.compute_seconds < 5.0
    assert (meter.wait_seconds, meter.network_seconds) == (0.0, 0.0)


@pytest.mark.parametrize(
    "name", ["WRONG_VERSION", "WRONG_ROUND", "SEALED", "NOT_IN_STEP", "WITHDRAWN"]
)
def test_a_stage_elsewhere_in_its_step_is_nobody_s_fault(world: World, name: str) -> None:
    asking = world.fresh(Refusal[name])
    with pytest.raises(RefusalError, match=name):
        world.ask(asking)
    assert is_there(asking)
    assert world.complaints == []


BROKEN = packed(7) | {"data": b"\xff" * len(packed(7)["data"])}


@pytest.mark.parametrize(
    "answer",
    [
        StagePassed(values=BROKEN),
        StagePassed(values=packed(7, 2, 9, D_MODEL)),
        StagePassed(values=pack(numbers(7), "int8")),
        StagePassed(values={"dtype": "float32"}),
        StagePassed(),
        Refusal.MALFORMED,
        Refusal.INTERNAL,
    ],
    ids=["NaN", "shape", "type", "cut", "nothing", "malformed", "internal"],
)
def test_what_cannot_be_used_is_avoided_and_complained_of_once(
    world: World, answer: StagePassed | Refusal
) -> None:
    asking = world.fresh(answer, answer)
    for _ in range(2):
        with pytest.raises((ProtocolError, RefusalError)):
            world.ask(asking)
    assert not is_there(asking)
    asking.update(feed(world.replica))  # named again, and avoided still
    assert not is_there(asking)
    [(name, reason)] = world.complaints
    assert name == world.replica
    assert 0 < len(reason) <= 300
    assert asking.meter.num_passes == 0
    assert asking.meter.wait_seconds > 0


def test_two_wishes_for_the_input_are_one_too_many(world: World) -> None:
    wanting = StagePassed(is_wanting=True)
    asking = world.fresh(wanting, wanting)
    with pytest.raises(ProtocolError, match="without values"):
        world.ask(asking, BACKWARD)
    assert not is_there(asking)


def test_whoever_is_gone_is_avoided_without_a_complaint(world: World) -> None:
    asking = world.fresh(None)
    with pytest.raises(PeerLostError):
        world.ask(asking)
    assert not is_there(asking)
    asking = world.fresh()
    asking.update(feed(world.replica, world.gone))
    with pytest.raises(PeerError):
        world.ask(asking, replica=world.gone)
    assert {asking.choose(FORWARD) for _ in range(4)} == {world.replica}
    assert world.complaints == []


def test_a_missed_deadline_makes_slow_and_is_no_fault(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = world.fresh(StagePassed(values=packed(7)), 5.0)
    world.ask(asking)
    before = asking.seconds(FORWARD, world.replica)
    assert 0 < before < 5.0
    monkeypatch.setattr(calls, "LEAST_SECONDS", 0.2)
    monkeypatch.setattr(calls, "PATIENCE", 0.0)
    with pytest.raises(DeadlineError, match=r"0\.2 s"):
        world.ask(asking)
    assert asking.seconds(FORWARD, world.replica) == pytest.approx(2 * before)
    assert is_there(asking)
    assert world.complaints == []


def test_backward_is_waited_for_longer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unmeasured replica's guess is a second; backward is 2.5 times the work."""
    monkeypatch.setattr(calls, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(calls, "PATIENCE", 0.1)
    for task, limit in ((FORWARD, r"0\.1 s"), (BACKWARD, r"0\.25 s")):
        asking = world.fresh(5.0)
        with pytest.raises(DeadlineError, match=limit):
            world.ask(asking, task)


def test_a_busy_replica_counts_as_slow(world: World) -> None:
    asking = world.fresh(StagePassed(values=packed(7)), Refusal.RATE_LIMITED)
    world.ask(asking)
    before = asking.seconds(FORWARD, world.replica)
    with pytest.raises(RefusalError, match="RATE_LIMITED"):
        world.ask(asking)
    assert asking.seconds(FORWARD, world.replica) == pytest.approx(2 * before)
    assert is_there(asking)
    assert world.complaints == []


def test_a_withdrawal_arrives_and_nothing_depends_on_it(world: World) -> None:
    asking = world.fresh()
    withdrawal = Withdrawal(ID, 5, 2)
    world.loopback.run(asking.withdraw(0, world.gone, withdrawal))

    async def scene() -> None:
        await asking.withdraw(0, world.replica, withdrawal)
        while not world.heard:
            await asyncio.sleep(0.01)

    world.loopback.run(scene())
    [told] = world.heard
    assert isinstance(told, WithdrawPass)
    assert told.withdrawal == withdrawal


def test_a_plan_whose_passes_fit_into_no_message_is_refused(world: World) -> None:
    plan = plan_of(num_blocks=4, batch_size=64, length=1_024)
    with pytest.raises(UsageError, match="messages of"):
        Calls(world.trainer, plan, d_model=512)
    Calls(world.trainer, plan_of(num_blocks=4, batch_size=4, length=1_024), d_model=512)
