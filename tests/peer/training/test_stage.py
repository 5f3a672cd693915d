"""A stage's replica beside a real hosting peer: enlisted, trained by one step, told that it is over."""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seshu_swarm import checkpoints
from seshu_swarm.errors import RefusalError, UsageError
from seshu_swarm.exchange.gradients import GRADIENTS, AskPass, PassAdmitted, Propagate, Propagated
from seshu_swarm.exchange.group_states import fetch_state
from seshu_swarm.mamba.span_module import SpanModule
from seshu_swarm.peer import status
from seshu_swarm.peer.config import HostConfig
from seshu_swarm.peer.guest import Guest, Limits
from seshu_swarm.peer.served import bytes_to_host
from seshu_swarm.peer.training import holding
from seshu_swarm.peer.training import stage as stage_module
from seshu_swarm.peer.training.holding import hold, stage_asked
from seshu_swarm.peer.training.stage import spans_of
from seshu_swarm.peer.training.stage_service import bytes_of_pass
from seshu_swarm.peer.training.weights import TrainedPart
from seshu_swarm.pipeline.messages import (
    FIRST,
    Commit,
    MicrobatchId,
    Open,
    Order,
    Phase,
    Seal,
    Version,
)
from seshu_swarm.pipeline.messages import Status as MemberStatus
from seshu_swarm.pipeline.protocol.converting import of_order, to_status
from seshu_swarm.pipeline.protocol.fields import of_version
from seshu_swarm.pipeline.protocol.groups import AskGroupState
from seshu_swarm.pipeline.protocol.passes import PASSES, AskStagePass, PassRequest, StagePassed
from seshu_swarm.pipeline.protocol.steps import STEPS, Enlist, Enlisted, StatusMessage
from seshu_swarm.pipeline.tensors import pack, unpack
from seshu_swarm.program.running import Stop
from seshu_swarm.records.kinds import TrainingRecord
from seshu_swarm.run.joining import Joined, join
from seshu_swarm.run.training_plan import find_training
from seshu_swarm.spans import Span
from seshu_swarm.streams.channel import Channel, refusal
from seshu_swarm.streams.protocol import Refusal
from seshu_swarm.streams.wire import pack_tensor, unpack_tensor
from tests.client.rolls import Rolling
from tests.conftest import TinyCheckpoint
from tests.peer.training.plans import plan_of

torch.set_num_threads(1)

SECONDS = 20.0
SHAPE = (2, 8, 32)
ROUND = 3
SECOND = Version(1, ROUND)
_random = torch.Generator().manual_seed(4)
HIDDEN = torch.randn(*SHAPE, generator=_random)
GRADIENT = torch.randn(*SHAPE, generator=_random)


class Conductor:
    """The other end of STEPS, as far as one replica needs it: says what a test says."""

    def __init__(self, group: int) -> None:
        self.group, self.is_over = group, False
        self.left = asyncio.Event()
        self.enlists: list[Enlist] = []
        self.statuses: list[MemberStatus] = []
        self._channel: Channel | None = None

    async def serve(self, channel: Channel) -> None:
        self.enlists.append(await channel.receive(Enlist, seconds=SECONDS, what="a member"))
        if self.is_over:
            raise refusal(Refusal.NOT_TRAINING, "it is over")
        await channel.send(Enlisted(group=self.group, version=of_version(FIRST)))
        self._channel = channel
        while message := await channel.receive_one_of(
            {"status": StatusMessage}, seconds=SECONDS, what="a status"
        ):
            assert isinstance(message, StatusMessage)
            self.statuses.append(to_status(message))
        self.left.set()

    async def order(self, order: Order, wanted: Callable[[MemberStatus], bool]) -> None:
        """Say it, and wait until a status shows it."""
        assert self._channel is not None
        await self._channel.send(of_order(order))
        await self.until(wanted)

    async def until(self, wanted: Callable[[MemberStatus], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not (self.statuses and wanted(self.statuses[-1])):
                await asyncio.sleep(0.01)

    def end(self) -> None:
        assert self._channel is not None
        self.is_over = True
        self._channel.close()


class Pretraining(Rolling):
    """A run with an open plan of two stages, a conductor, and one peer that holds."""

    def __init__(self, folder: Path, tiny: TinyCheckpoint) -> None:
        super().__init__(folder, tiny)
        self.record = plan_of(num_blocks=4, boundaries=(0, 1, 4), base=tiny.revision)
        self.conductor = Conductor(group=1)
        self.run(self._coordinator.serve(STEPS, self.conductor.serve))
        self.run(self._announce_plan(self.record))
        self.stop = Stop()
        self.trainer = self.join("trainer")
        self.joined: Joined | None = None
        self._holding: asyncio.Task[None] | None = None

    async def _announce_plan(self, record: TrainingRecord) -> None:
        assert await self._coordinator.announce(record)

    def hold(self, kind: type[Guest] = Guest, **settings: Any) -> None:
        """A peer with these settings, until it is ready."""
        config = HostConfig(
            join=self.link,
            state_dir=str(self.folder / "peer"),
            host="127.0.0.1",
            poll_seconds=0.1,
            **settings,
        )
        self.run(self._hold(config, kind))

    async def _hold(self, config: HostConfig, kind: type[Guest]) -> None:
        self.joined = joined = await join(config)
        guest = kind(Limits(), joined.state_dir)
        record = await find_training(joined)
        assert record is not None and record.plan == self.record.plan
        self._holding = asyncio.create_task(hold(joined, config, guest, self.stop, record))
        async with asyncio.timeout(SECONDS):
            while not (joined.state_dir / status.STATUS_FILE).exists():
                if self._holding.done():
                    self._holding.result()
                await asyncio.sleep(0.01)

    @property
    def peer_id(self) -> str:
        assert self.joined is not None
        return self.joined.swarm.peer_id

    def status(self) -> dict[str, Any]:
        assert self.joined is not None
        facts: dict[str, Any] = json.loads(
            (self.joined.state_dir / status.STATUS_FILE).read_bytes()
        )
        return facts

    async def status_with(self, **wanted: Any) -> None:
        async with asyncio.timeout(SECONDS):
            while not self.status().items() >= wanted.items():
                await asyncio.sleep(0.02)

    @property
    def id(self) -> MicrobatchId:
        return MicrobatchId(f"{self.trainer.peer_id}#00000001", 0)

    async def ask(self, version: Version, **tensors: Tensor) -> Tensor:
        stream = await self.trainer.open(self.peer_id, PASSES)
        asked = AskStagePass(
            plan=self.record.plan,
            stage=1,
            trainer=self.id.trainer,
            number=self.id.number,
            version=of_version(version),
            round=ROUND,
            hidden=pack(tensors["hidden"], "float32") if "hidden" in tensors else None,
            gradient=pack(tensors["gradient"], "float32") if "gradient" in tensors else None,
        )
        try:
            await stream.send(PassRequest(request=asked))
            passed = await stream.receive(StagePassed, seconds=SECONDS, what="a pass")
            return unpack(passed.values, SHAPE, "float32")
        finally:
            stream.close()

    async def served(self, revision: str) -> Tensor:
        """What clients get from the blocks that are hosted."""
        stream = await self.trainer.open(self.peer_id, GRADIENTS)
        try:
            asked = AskPass(revision=revision, start=1, end=4, lengths=[8, 8])
            await stream.send(asked)
            await stream.receive(PassAdmitted, seconds=SECONDS, what="a place")
            await stream.send(Propagate(hidden=pack_tensor(HIDDEN)))
            answer = await stream.receive(Propagated, seconds=SECONDS, what="an answer")
            return unpack_tensor(answer.values, SHAPE)
        finally:
            stream.close()

    async def states(self) -> dict[str, Tensor]:
        asked = AskGroupState(plan=self.record.plan, group=1, version=of_version(SECOND))
        return await fetch_state(self.trainer, self.peer_id, asked, most_bytes=1 << 30)

    def close(self) -> None:
        async def ended() -> None:
            self.stop.set()
            if self._holding is not None:
                await self._holding
            if self.joined is not None:
                await self.joined.swarm.leave()

        self.run(ended())
        super().close()


@pytest.fixture
def run(tmp_path: Path, tiny: TinyCheckpoint) -> Iterator[Pretraining]:
    swarm = Pretraining(tmp_path, tiny)
    yield swarm
    swarm.close()


def reference(tiny: TinyCheckpoint) -> SpanModule:
    return checkpoints.load_span(tiny.folder, Span(1, 4))


def forward(module: SpanModule) -> Tensor:
    with torch.no_grad():
        output: Tensor = module(HIDDEN)[0]
    return output


def stepped(tiny: TinyCheckpoint, record: TrainingRecord) -> SpanModule:
    """The stage after one step by the gradient of one microbatch, in one process."""
    module = reference(tiny)
    part = TrainedPart(module, record)
    output, _ = module(HIDDEN)
    gradients = torch.autograd.grad(output, part.parameters, GRADIENT)
    part.apply(torch.cat([gradient.flatten() for gradient in gradients]), FIRST)
    return module


async def one_step(run: Pretraining) -> Tensor:
    """The gradient by the stage's input, when the weights are the second."""
    conductor = run.conductor
    ids = frozenset({run.id})
    await conductor.order(Open(FIRST, ROUND, ids, keeps=False), lambda s: s.round == ROUND)
    await run.ask(FIRST, hidden=HIDDEN)
    by_input = await run.ask(FIRST, gradient=GRADIENT)
    await conductor.order(Seal(FIRST, ROUND), lambda s: s.phase is Phase.SEALED)
    assert conductor.statuses[-1].claim == ids
    me = conductor.enlists[0].name
    await conductor.order(Commit(FIRST, ROUND, ((me, 1),)), lambda s: s.version == SECOND)
    return by_input


def test_a_replica_trains_one_thing_and_serves_another(
    run: Pretraining, tiny: TinyCheckpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    run.hold()
    assert run.conductor.enlists[0].group is None  # the conductor chose
    assert run.status()["blocks"] == "1:4"
    before = forward(reference(tiny))
    torch.testing.assert_close(run.run(run.ask(FIRST, hidden=HIDDEN)), before)
    run.run(one_step(run))
    after = forward(stepped(tiny, run.record))
    assert float((after - before).abs().max()) > 1e-3
    trained = run.run(run.ask(SECOND, hidden=HIDDEN))
    torch.testing.assert_close(trained, after, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(run.run(run.served(tiny.revision)), before)
    run.run(run.status_with(role="stage", stage=1, step=1, microbatches=1, blocks="1:4"))
    assert "stage 1: training blocks 1:4" in capsys.readouterr().out


def test_when_the_plan_is_over_it_goes_on_hosting(run: Pretraining, tiny: TinyCheckpoint) -> None:
    run.hold(blocks="1:4")
    assert run.conductor.enlists[0].group == 1
    run.run(one_step(run))
    run.conductor.end()
    run.run(run.status_with(role="host", blocks="1:4"))
    assert len(run.conductor.enlists) > 1
    with pytest.raises(RefusalError) as caught:
        run.run(run.ask(SECOND, hidden=HIDDEN))
    assert caught.value.name == "NOT_TRAINING"
    # The last weights can still be fetched.
    states, module = run.run(run.states()), stepped(tiny, run.record)
    for name, tensor in module.checkpoint_tensors().items():
        torch.testing.assert_close(states[name], tensor.detach(), rtol=1e-4, atol=1e-5)
    served = run.run(run.served(tiny.revision))
    torch.testing.assert_close(served, forward(reference(tiny)))


def test_weights_are_let_go_of_when_nobody_needs_them_any_more(
    run: Pretraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a process that has settled, and so collects none of the cycles that it was born with."""
    parts = list[weakref.ref[object]]()

    class Watched(TrainedPart):
        def __init__(self, module: nn.Module, record: TrainingRecord) -> None:
            super().__init__(module, record)
            parts.append(weakref.ref(self))
            parts.append(weakref.ref(self.parameters[0]))

    monkeypatch.setattr(stage_module, "TrainedPart", Watched)
    monkeypatch.setattr(holding, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(holding, "KEPT_SECONDS", 0.2)
    run.hold(blocks="1:4")
    run.run(one_step(run))
    run.conductor.end()

    async def gone() -> None:
        async with asyncio.timeout(SECONDS):
            while any(part() is not None for part in parts):
                await asyncio.sleep(0.05)

    run.run(gone())
    run.run(run.status_with(role="host", blocks="1:4"))


def test_a_plan_that_is_opened_later_is_found(
    run: Pretraining, monkeypatch: pytest.MonkeyPatch, tiny: TinyCheckpoint
) -> None:
    """The last weights of the one before are let go of then; what is hosted stays."""
    monkeypatch.setattr(holding, "LOOK_SECONDS", 0.1)
    run.hold()
    run.run(one_step(run))
    run.conductor.end()
    run.run(run.status_with(role="host", blocks="1:4"))
    later = run.record.model_copy(
        update={"plan": "f" * 16, "sequence": run.record.sequence + 1, "boundaries": (0, 2, 4)}
    )
    run.conductor.is_over = False
    run.run(run._announce_plan(later))
    run.run(run.status_with(role="stage", stage=1, step=0, blocks="1:4"))
    assert run.conductor.enlists[-1].plan == later.plan
    with pytest.raises(RefusalError) as caught:
        run.run(run.states())
    assert caught.value.name == "NOT_TRAINING"
    torch.testing.assert_close(run.run(run.served(tiny.revision)), forward(reference(tiny)))


def test_training_that_fails_here_leaves_what_is_hosted(
    run: Pretraining,
    tiny: TinyCheckpoint,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Failing(TrainedPart):
        def apply(self, average: Tensor, version: Version) -> None:
            raise MemoryError("no room for two moments")

    monkeypatch.setattr(stage_module, "TrainedPart", Failing)
    run.hold(blocks="1:4")
    with pytest.raises(TimeoutError):
        run.run(asyncio.wait_for(one_step(run), 3.0))
    run.run(run.status_with(role="host", blocks="1:4"))
    assert "training failed: no room for two moments" in capsys.readouterr().out
    served = run.run(run.served(tiny.revision))
    torch.testing.assert_close(served, forward(reference(tiny)))


class Spent(Guest):
    """Its day's upload is used up by the first state that it gives, until the day is over."""

    is_tomorrow = False

    @property
    def uploaded_bytes(self) -> int:
        return 0 if self.is_tomorrow else 1

    def allow_upload(self, num_bytes: int) -> bool:
        return self.is_tomorrow or num_bytes < 50_000


def test_states_count_against_the_day_s_upload(
    run: Pretraining, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_module, "REPORT_SECONDS", 0.1)
    monkeypatch.setattr(holding, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(Spent, "is_tomorrow", False)
    run.hold(Spent, blocks="1:4")
    run.run(one_step(run))
    run.run(run.status_with(role="stage"))
    run.run(run.states())
    run.run(run.status_with(role="host"))
    assert "hosting only until tomorrow: UPLOAD_LIMIT" in capsys.readouterr().out
    assert len(run.conductor.enlists) == 1
    monkeypatch.setattr(Spent, "is_tomorrow", True)
    run.run(run.status_with(role="stage", step=0))
    assert len(run.conductor.enlists) == 2


class Cramped(Guest):
    """Room to host the stage, not to train it; the meter of the tests' process could not tell."""

    def free_bytes(self) -> int:
        return 500_000


def test_who_cannot_hold_a_stage_says_so_before_loading_and_hosts(
    run: Pretraining,
    tiny: TinyCheckpoint,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[object] = []
    monkeypatch.setattr(stage_module, "TrainedPart", loaded.append)
    run.hold(Cramped, blocks="1:4")
    said = capsys.readouterr().out
    assert "hosting only, without a stage: training blocks 1:4 needs" in said
    assert not loaded
    run.run(run.conductor.left.wait())  # it is not left to find out
    run.run(run.status_with(role="host", blocks="1:4"))
    torch.testing.assert_close(run.run(run.served(tiny.revision)), forward(reference(tiny)))


class Tight(Guest):
    """Room for the training alone, as it will be, and not for the blocks that are hosted beside."""

    room_bytes = 0

    def free_bytes(self) -> int:
        return self.room_bytes


def test_what_is_hosted_beside_a_stage_needs_room_too(
    run: Pretraining,
    tiny: TinyCheckpoint,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    span, shape = Span(1, 4), checkpoints.read_shape(tiny.folder)
    # Weights, their gradients, two moments, and two flat copies while they are averaged.
    room = 6 * bytes_to_host(tiny.folder, span) + bytes_of_pass(shape, span, run.record)
    monkeypatch.setattr(Tight, "room_bytes", room)
    run.hold(Tight, blocks="1:4")
    assert "hosting only, without a stage" in capsys.readouterr().out


def test_blocks_are_a_stage_s(tiny: TinyCheckpoint) -> None:
    record = plan_of(num_blocks=4, boundaries=(0, 1, 3, 4), base=tiny.revision)
    assert spans_of(record) == [Span(0, 1), Span(1, 3), Span(3, 4)]
    assert stage_asked(None, record) is None
    assert [stage_asked(str(span), record) for span in spans_of(record)] == [0, 1, 2]
    for wrong in ("0:2", "1:4", "2:3"):
        with pytest.raises(UsageError, match=r"0:1, 1:3, 3:4"):
            stage_asked(wrong, record)
