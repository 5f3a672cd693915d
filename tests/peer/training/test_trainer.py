"""Trainers and stages on real sockets against the whole model's autograd and one AdamW."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seshu_swarm import checkpoints
from seshu_swarm.errors import DataError
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.peer.training.calls import Calls
from seshu_swarm.peer.training.ends import EndsPasses
from seshu_swarm.peer.training.member import Member
from seshu_swarm.peer.training.own_step import StepTold
from seshu_swarm.peer.training.trainer import Trainer
from seshu_swarm.peer.training.weights import TrainedPart
from seshu_swarm.pipeline.messages import FIRST
from seshu_swarm.pipeline.protocol.groups import AVERAGES, STATES
from seshu_swarm.pipeline.protocol.passes import PassRequest, StagePassed
from seshu_swarm.pipeline.protocol.steps import STEPS
from seshu_swarm.pipeline.tensors import pack
from seshu_swarm.program.running import Stop
from seshu_swarm.records.kinds import TrainingRecord
from seshu_swarm.run.training_plan import schedule_of
from seshu_swarm.spans import Span
from seshu_swarm.streams.channel import Channel
from seshu_swarm.training.loop import Batch, batch_nats, make_optimiser
from tests.conftest import TinyCheckpoint
from tests.loopback import Loopback
from tests.peer.training.conducting import Conducting, Peer, Replica
from tests.peer.training.plans import plan_of

torch.set_num_threads(1)

ROWS, LENGTH = 2, 9
STAGES = (0, 2, 4)


class Peers:
    """As many as the test with the most of them needs."""

    def __init__(self, loopback: Loopback) -> None:
        self.loopback, self._peers = loopback, list[Peer]()

    async def first(self, count: int) -> list[Peer]:
        while len(self._peers) < count:
            name = f"peer-{len(self._peers)}"
            self._peers.append(Peer(await self.loopback.joining(name)))
        return self._peers[:count]


@pytest.fixture(scope="module")
def peers(loopback: Loopback) -> Peers:
    return Peers(loopback)


def data_of(seed: int) -> Callable[[int], Batch]:
    def batch(number: int) -> Batch:
        ids_BL = np.random.default_rng([seed, number]).integers(3, 250, (ROWS, LENGTH))
        return ids_BL, ids_BL

    return batch


class Lone:
    """A trainer on a peer of its own."""

    def __init__(
        self, peer: Peer, record: TrainingRecord, tiny: TinyCheckpoint, *, seed: int = 0
    ) -> None:
        self._peer, self._record, self._tiny = peer, record, tiny
        self.name = peer.new_name()
        self.data, self.stop = data_of(seed), Stop()
        self.executor = ThreadPoolExecutor(1)
        self.told: list[StepTold] = []
        self._living: list[asyncio.Task[None]] = []

    async def join(self, conductor: str, *, max_in_flight: int = 4) -> None:
        self.member = Member(
            self._peer.swarm,
            name=self.name,
            record=self._record,
            part_of=self._part_of,
            conductor=conductor,
            executor=self.executor,
        )
        await self.member.enlist(is_trainer=True, group=None)
        await self._peer.serve(AVERAGES, self.member.serve_averages)
        await self._peer.serve(STATES, self.member.serve_states)
        self.calls = Calls(self._peer.swarm, self._record, d_model=self._tiny.d_model)
        self.trainer = Trainer(
            self.member,
            self.calls,
            EndsPasses(self.member.part, batch_size=ROWS, length=LENGTH),
            self.data,
            executor=self.executor,
            max_in_flight=max_in_flight,
            on_step=self.told.append,
        )
        works = self.member.live(self.stop), self.trainer.live(self.stop)
        self._living = [asyncio.create_task(work) for work in works]

    async def _part_of(self, group: int) -> TrainedPart:
        return TrainedPart(checkpoints.load_ends(self._tiny.folder), self._record)

    async def until_over(self) -> None:
        await asyncio.gather(*self._living)

    async def leave(self) -> None:
        for task in self._living:
            task.cancel()
        await asyncio.gather(*self._living, return_exceptions=True)
        self.executor.shutdown()


class World:
    """A conductor, replicas of two stages of the tiny model, trainers; ended by `close`."""

    def __init__(self, peers: Peers, tiny: TinyCheckpoint, **plan: Any) -> None:
        facts = {"batch_size": ROWS, "length": LENGTH, "boundaries": STAGES, "base": tiny.revision}
        self.peers, self.tiny = peers, tiny
        self.record = plan_of(num_blocks=tiny.num_blocks, **(facts | plan))
        self.conductor, self.num_peers = "", 0
        self.replicas: list[Replica] = []
        self.trainers: list[Lone] = []

    async def start(
        self,
        *stages: int,
        per_trainer: int,
        num_steps: int = 1,
        num_trainers: int = 1,
        holds: bool = False,
        passes: Mapping[int, Callable[[Channel], Any]] | None = None,
    ) -> Conducting:
        """A replica for each of `stages`; the one with an index in `passes` answers so."""
        boss, *others = await self.peers.first(1 + len(stages) + num_trainers)
        self.conductor, self.num_peers = boss.peer_id, 1 + len(others)
        sizes = [stages.count(stage) for stage in range(self.record.num_stages)]
        work = Conducting(
            self.record,
            sizes=[*sizes, num_trainers],
            per_trainer=per_trainer,
            num_steps=num_steps,
        )
        work.is_holding = holds
        await boss.serve(STEPS, work.serve)
        for index, (stage, peer) in enumerate(zip(stages, others, strict=False)):
            replica = Replica(peer, self.record, self.tiny.folder, stage=stage)
            self.replicas.append(replica)
            await replica.join(boss.peer_id, passes=(passes or {}).get(index))
        for seed, peer in enumerate(others[len(stages) :]):
            await self.add(Lone(peer, self.record, self.tiny, seed=seed))
        return work

    async def add(self, trainer: Lone) -> Lone:
        self.trainers.append(trainer)
        await trainer.join(self.conductor)
        return trainer

    async def another(self) -> Peer:
        """Beyond those that have a part."""
        return (await self.peers.first(self.num_peers + 1))[-1]

    @property
    def everybody(self) -> list[Replica | Lone]:
        return [*self.replicas, *self.trainers]

    async def close(self) -> None:
        for one in self.everybody:
            await one.leave()


@pytest.fixture
def world_of(peers: Peers, tiny: TinyCheckpoint) -> Iterator[Callable[..., World]]:
    worlds: list[World] = []

    def make(**plan: Any) -> World:
        worlds.append(World(peers, tiny, **plan))
        return worlds[-1]

    yield make
    for world in worlds:
        peers.loopback.run(world.close())


def whole_gradients(model: WholeModel, batches: list[Batch]) -> dict[str, Tensor]:
    """By autograd through all at once: the sum over microbatches of nats / (B * K)."""
    model.zero_grad()
    for batch in batches:
        (batch_nats(model, batch) / (ROWS * (LENGTH - 1))).backward()
    return {n: p.grad for n, p in model.checkpoint_tensors().items() if p.grad is not None}


class Reference:
    """One process: each group's mean gradient, clipped by itself, and one AdamW for each."""

    def __init__(self, tiny: TinyCheckpoint, record: TrainingRecord) -> None:
        self.model, self._record = checkpoints.load_whole(tiny.folder).train(), record
        schedule = schedule_of(record)
        pairs = zip(record.boundaries, record.boundaries[1:], strict=False)
        spans = [self.model.span.part(Span(*pair)) for pair in pairs]
        self._groups = [*spans, self.model.ends]
        self._optimisers = [make_optimiser(group, schedule) for group in self._groups]
        self._num_steps = 0

    def step(self, batches: list[Batch]) -> float:
        """The mean loss of a token."""
        self.model.zero_grad()
        nats = 0.0
        for batch in batches:
            loss = batch_nats(self.model, batch)
            nats += float(loss.detach())
            (loss / (ROWS * (LENGTH - 1) * len(batches))).backward()
        self._num_steps += 1
        progress = self._num_steps / self._record.num_steps
        for group, optimiser in zip(self._groups, self._optimisers, strict=True):
            torch.nn.utils.clip_grad_norm_(group.parameters(), self._record.clip)
            for settings in optimiser.param_groups:
                settings["lr"] = schedule_of(self._record).learning_rate_at(progress)
            optimiser.step()
        return nats / (ROWS * (LENGTH - 1) * len(batches))

    def check(self, part: TrainedPart) -> None:
        """AdamW's first steps are nearly the gradient's sign, and a gradient of nearly 0 may have either:
        of the numbers that are further away there are few."""
        expected = self.model.checkpoint_tensors()
        found = part.module.checkpoint_tensors()  # type: ignore[operator]
        errors = torch.cat([(found[n] - expected[n]).detach().abs().flatten() for n in found])
        assert float((errors > 1e-5).float().mean()) < 1e-3
        assert float(errors.max()) < 2 * self._num_steps * self._record.learning_rate


def summed(part: TrainedPart) -> dict[str, Tensor]:
    named = part.module.checkpoint_tensors()  # type: ignore[operator]
    sizes = [p.numel() for p in part.parameters]
    parts = zip(sorted(named), part.summed().split(sizes), strict=True)
    return {name: flat.view_as(named[name]) for name, flat in parts}


def num_counted(replica: Replica) -> int:
    assert replica.service is not None
    return replica.service.num_counted


def total(parts: list[TrainedPart]) -> dict[str, Tensor]:
    sums: dict[str, Tensor] = {}
    for part in parts:
        for name, tensor in summed(part).items():
            sums[name] = sums[name] + tensor if name in sums else tensor
    return sums


@pytest.mark.parametrize("num_trainers", [1, 2])
def test_a_step_through_two_stages_gives_the_whole_model_s_gradients(
    world_of: Callable[..., World], tiny: TinyCheckpoint, num_trainers: int
) -> None:
    world = world_of()

    async def scene() -> None:
        work = await world.start(0, 1, per_trainer=5, num_trainers=num_trainers, holds=True)
        await work.until(lambda: work.is_fed)
        batches = [t.data(number) for t in world.trainers for number in range(5)]
        model = checkpoints.load_whole(tiny.folder)
        expected = whole_gradients(model, batches)
        members = [one.member for one in world.everybody]
        found = total([member.part for member in members])
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-6, msg=name)
        told = work.fed[world.trainers[0].name]
        assert told.tokens == 5 * ROWS * (LENGTH - 1)
        nats = [float(batch_nats(model, world.trainers[0].data(n)).detach()) for n in range(5)]
        assert told.nats == pytest.approx(sum(nats), rel=1e-5)
        assert told.asked == [{replica.name: [0, 1, 2, 3, 4]} for replica in world.replicas]
        await work.seal()
        for trainer in world.trainers:
            await trainer.until_over()
        reference = Reference(tiny, world.record)
        loss = reference.step(batches)
        for member in members:
            assert member.ledger.version.step == 1
            reference.check(member.part)
        steps = [trainer.told for trainer in world.trainers]
        assert [(s.step, s.num_microbatches) for [s] in steps] == [(0, len(batches))] * len(steps)
        assert np.mean([s.loss for [s] in steps]) == pytest.approx(loss, rel=1e-5)

    world.peers.loopback.run(scene())


def test_many_steps_with_two_replicas_stay_with_one_process(
    world_of: Callable[..., World], tiny: TinyCheckpoint
) -> None:
    world = world_of(num_steps=4)

    async def scene() -> None:
        await world.start(0, 0, 1, per_trainer=4, num_steps=4)
        [trainer] = world.trainers
        await trainer.until_over()
        reference = Reference(tiny, world.record)
        losses = [
            reference.step([trainer.data(n) for n in range(4 * step, 4 * step + 4)])
            for step in range(4)
        ]
        assert [told.loss for told in trainer.told] == pytest.approx(losses, abs=1e-4)
        for one in world.everybody:
            reference.check(one.member.part)
        twins = world.replicas[:2]
        assert twins[0].member.part.digest() == twins[1].member.part.digest()
        assert all(num_counted(one) for one in twins)
        meter = trainer.calls.meter
        assert meter.num_passes == 4 * 4 * 2 * 2
        payload = 4 * ROWS * (LENGTH - 1) * tiny.d_model
        assert meter.sent_bytes > meter.num_passes * payload
        assert 0 < meter.compute_seconds < meter.compute_seconds + meter.network_seconds

    world.peers.loopback.run(scene())


def test_what_a_lost_replica_had_counted_is_counted_again_and_once(
    world_of: Callable[..., World], tiny: TinyCheckpoint
) -> None:
    world = world_of()

    async def scene() -> None:
        work = await world.start(0, 0, 1, per_trainer=6, holds=True)
        await work.until(lambda: work.is_fed)
        other, doomed = sorted(world.replicas[:2], key=num_counted)
        assert num_counted(other) + num_counted(doomed) == 6
        await doomed.leave()
        await work.lose(doomed.name)
        await work.seal()
        [trainer] = world.trainers
        await trainer.until_over()
        reference = Reference(tiny, world.record)
        reference.step([trainer.data(n) for n in range(6)])
        for one in world.everybody:
            if one is not doomed:
                assert one.member.ledger.version.step == 1
                reference.check(one.member.part)
        assert num_counted(other) == 6

    world.peers.loopback.run(scene())


def test_a_replica_that_answers_nan_is_avoided_and_the_run_goes_on(
    world_of: Callable[..., World], tiny: TinyCheckpoint
) -> None:
    world = world_of(num_steps=2)
    lies = 0

    async def lie(channel: Channel) -> None:
        nonlocal lies
        lies += 1
        await channel.receive(PassRequest, seconds=5.0, what="a pass")
        values = pack(torch.full((ROWS, LENGTH - 1, tiny.d_model), math.nan), "float32")
        await channel.send(StagePassed(values=values))

    async def scene() -> None:
        work = await world.start(0, 0, 1, per_trainer=6, num_steps=2, passes={0: lie})
        [trainer], liar = world.trainers, world.replicas[0]
        await trainer.until_over()
        reference = Reference(tiny, world.record)
        for step in range(2):
            reference.step([trainer.data(n) for n in range(6 * step, 6 * step + 6)])
        for one in world.everybody:  # the liar takes part in averages with nothing
            reference.check(one.member.part)
        [complaint] = work.complaints
        assert complaint.name == liar.name
        assert "NaN" in complaint.reason
        assert 0 < lies <= 4  # as many as were in flight, then none

    world.peers.loopback.run(scene())


def test_a_trainer_without_a_microbatch_holds_nobody_up(
    world_of: Callable[..., World], tiny: TinyCheckpoint
) -> None:
    world = world_of()

    async def scene() -> None:
        work = await world.start(0, 1, per_trainer=2, holds=True)
        await work.until(lambda: work.is_fed)
        late = await world.add(Lone(await world.another(), world.record, tiny, seed=9))
        await work.seal()
        await late.until_over()
        assert [(told.step, math.isnan(told.loss)) for told in late.told] == [(0, True)]
        assert late.member.ledger.version >= FIRST

    world.peers.loopback.run(scene())


def test_data_that_cannot_be_read_ends_the_trainer_by_name(
    world_of: Callable[..., World], tiny: TinyCheckpoint
) -> None:
    world = world_of()

    def broken(number: int) -> Batch:
        if number:
            raise DataError("a page is missing")
        return data_of(0)(0)

    async def scene() -> None:
        work = await world.start(0, 1, per_trainer=2, num_trainers=0)
        work.sizes = [1, 1, 1]
        trainer = Lone(await world.another(), world.record, tiny)
        trainer.data = broken
        await world.add(trainer)
        await trainer.until_over()

    with pytest.raises(DataError, match="a page is missing"):
        world.peers.loopback.run(scene())
