"""Checkpoints that fail on the way: disks without room, members that give nothing, or a byte now and then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from seshu_swarm.coordinator.conducting import checkpointing, collecting
from seshu_swarm.coordinator.conducting.checkpointing import (
    MAX_FAILURES,
    MAX_SILENCES,
    Checkpointing,
)
from seshu_swarm.coordinator.conducting.collecting import Wanted
from seshu_swarm.coordinator.conducting.course import Course
from seshu_swarm.coordinator.conducting.decided import Decided
from seshu_swarm.coordinator.conducting.deciding import Decider
from seshu_swarm.coordinator.conducting.plan import open_plan
from seshu_swarm.coordinator.conducting.service import StepsService
from seshu_swarm.coordinator.conducting.stored import StoredStates, group_file
from seshu_swarm.coordinator.config import RunConfig
from seshu_swarm.errors import DeadlineError, DiskFullError, PeerLostError
from seshu_swarm.network.dht import Swarm
from seshu_swarm.pipeline.messages import FIRST, Phase, Status
from seshu_swarm.pipeline.protocol.converting import of_status
from seshu_swarm.pipeline.protocol.groups import STATES, AskGroupState, GroupState
from seshu_swarm.pipeline.protocol.steps import STEPS, Enlist, Enlisted
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.protocol import Chunk
from tests.coordinator.conducted import Clock, nothing_done
from tests.coordinator.runs import Run, opened
from tests.loopback import Loopback

torch.set_num_threads(1)

NUM_STEPS = 10


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return opened(tmp_path_factory.mktemp("fresh") / "run", steps=0)


@pytest.fixture
def loopback(tmp_path: Path) -> Iterator[Loopback]:
    peers = Loopback(tmp_path / "peers")
    yield peers
    peers.close()


class FailingDecider(Decider):
    """Its first decisions meet what a disk or a foreign library may do; those after them are real."""

    failures: list[Exception]

    def _decide(self, step: int) -> Decided:
        if self.failures:
            raise self.failures.pop(0)
        return super()._decide(step)


class Plan:
    """An open plan at its last step, and a member's worth of everything around its checkpoints."""

    def __init__(self, run: Run, swarm: Swarm | None = None) -> None:
        settings = RunConfig(state_dir=str(run.folder.path), stages=1, train_steps=NUM_STEPS)
        record = open_plan(run.folder, run.ledger, settings)
        assert record is not None
        self.record, self.clock, self.num_published = record, Clock(), 0
        self.course = Course(record, nothing_done(1), round_=0, clock=self.clock)
        folder = run.folder.training_of(record.plan)
        self.stored = StoredStates(folder, record, run.folder.package(record.base))
        self.decider = FailingDecider(run.folder, run.ledger, record, self.stored)
        self.decider.failures = []
        self.checkpointing = Checkpointing(
            swarm,  # type: ignore[arg-type]
            self.course,
            self.stored,
            self.decider,
            every=1,
            published=self._published,
        )

    async def _published(self) -> None:
        self.num_published += 1
        raise DeadlineError("the swarm is away")

    def keep(self, step: int) -> None:
        arriving = self.stored.begin(step)
        for group in range(self.stored.num_groups):
            _, path = self.stored.newest(group)
            group_file(arriving, group).write_bytes(path.read_bytes())
        self.stored.finish(step, self.decider.about(step, 1_000, []))

    async def take_up(self, times: int) -> None:
        """As the driver does, for so many pauses."""
        for _ in range(times):
            self.checkpointing.take_up()
            while self.checkpointing.is_busy:
                await asyncio.sleep(0.01)
            self.clock.now += checkpointing.DECIDE_AGAIN_SECONDS


def test_a_full_disk_is_waited_for_however_long(fresh: Run, tmp_path: Path) -> None:
    plan = Plan(fresh.copy(tmp_path / "run"))
    plan.keep(NUM_STEPS)
    plan.decider.failures = [DiskFullError("no room") for _ in range(2 * MAX_FAILURES)]
    asyncio.run(plan.take_up(2 * MAX_FAILURES))
    assert not plan.checkpointing.is_over and plan.decider.decided() == []
    asyncio.run(plan.take_up(1))
    assert plan.checkpointing.is_over
    assert [one.state for one in plan.decider.decided()] == ["passed over"]


def test_a_failure_that_nobody_foresaw_is_named_and_does_not_keep_a_plan_open(
    fresh: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = Plan(fresh.copy(tmp_path / "run"))
    plan.keep(NUM_STEPS)
    plan.decider.failures = [KeyError("weird")] * MAX_FAILURES
    asyncio.run(plan.take_up(1))
    assert "put off: KeyError('weird')" in capsys.readouterr().out
    assert not plan.checkpointing.is_over
    asyncio.run(plan.take_up(MAX_FAILURES))
    assert plan.checkpointing.is_over
    assert [one.state for one in plan.decider.decided()] == ["broken"]


def test_who_drips_a_state_is_given_up(loopback: Loopback, tmp_path: Path) -> None:
    me, member = loopback.join("me"), loopback.join("member")

    async def drip(channel: Channel) -> None:
        await channel.receive(AskGroupState, seconds=5.0, what="a wish")
        await channel.send(GroupState(num_bytes=10_000, sha256="0" * 64))
        while True:
            await channel.send(Chunk(data=b"x"))
            await asyncio.sleep(0.05)

    async def fetch() -> float:
        await member.serve(STATES, drip)
        wanted = Wanted(0, FIRST, [f"{member.peer_id}#00000000"], 20_000)
        (arriving,) = await collecting.ask_all(me, "0" * 16, [wanted])
        began = time.monotonic()
        with pytest.raises(DeadlineError):
            await collecting.fetch(arriving, tmp_path / "state")
        return time.monotonic() - began

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collecting, "CHUNK_SECONDS", 1.0)
        assert loopback.run(fetch(), seconds=20.0) < 3.0


def test_who_never_gives_its_state_is_sent_away(
    fresh: Run, loopback: Loopback, tmp_path: Path
) -> None:
    """Else the last checkpoint is asked for for ever, where nobody else has those weights."""
    me, member = loopback.join("me"), loopback.join("member")
    plan = Plan(fresh.copy(tmp_path / "run"), me)
    name = f"{member.peer_id}#00000000"
    asked = Enlist(plan=plan.record.plan, name=name, is_trainer=False, group=0)
    one = plan.course.enlist(asked, member.peer_id)
    plan.course.hear(one, of_status(Status(FIRST, 0, Phase.OPEN)))

    async def take() -> None:
        for _ in range(MAX_SILENCES):
            assert name in plan.course.roster
            assert plan.checkpointing.is_due(NUM_STEPS)
            assert not await plan.checkpointing.take(NUM_STEPS, 0, [])
            assert not plan.checkpointing.is_due(NUM_STEPS), "a moment is left between two tries"
            plan.clock.now += checkpointing.ASK_AGAIN_SECONDS

    loopback.run(take())
    assert name not in plan.course.roster


def test_who_enlists_while_the_end_is_told_is_hung_up_on(
    fresh: Run, loopback: Loopback, tmp_path: Path
) -> None:
    me, member = loopback.join("me"), loopback.join("member")
    plan, service = Plan(fresh.copy(tmp_path / "run"), me), StepsService()
    service.course = plan.course

    async def enlist() -> object:
        await me.serve(STEPS, service.serve)
        channel = await member.open(me.peer_id, STEPS)
        name = f"{member.peer_id}#00000000"
        await channel.send(Enlist(plan=plan.record.plan, name=name, is_trainer=True))
        await channel.receive(Enlisted, seconds=5.0, what="a place")
        service.close()
        try:
            return await channel.receive_one_of({}, seconds=5.0, what="an end")
        except PeerLostError:
            return None
        finally:
            channel.close()

    assert loopback.run(enlist()) is None
