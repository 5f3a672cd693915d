"""The stream PASSES on real sockets: honest passes are counted once, hostile ones by name not at all."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from seshu_swarm import checkpoints
from seshu_swarm.errors import RefusalError
from seshu_swarm.mamba.span_module import SpanModule
from seshu_swarm.network.dht import Swarm
from seshu_swarm.peer.guest import Limits
from seshu_swarm.peer.training.stage_service import MAX_PASSES_OF_ONE, StageService
from seshu_swarm.peer.training.weights import TrainedPart
from seshu_swarm.pipeline.ledger import StageLedger
from seshu_swarm.pipeline.messages import FIRST, Call, MicrobatchId, Open, Phase, Seal, Version
from seshu_swarm.pipeline.protocol.fields import of_version
from seshu_swarm.pipeline.protocol.passes import PASSES, StagePassed
from seshu_swarm.pipeline.tensors import pack, unpack
from seshu_swarm.records.kinds import TrainingRecord
from seshu_swarm.spans import Span
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.frames import FrameKind
from tests.conftest import TinyCheckpoint
from tests.loopback import RUN_ID, Loopback
from tests.spans import make_guest

torch.set_num_threads(1)

PLAN, OTHER_PLAN = "00112233aabbccdd", "f" * 16
SHAPE = (2, 7, 32)
SPAN = Span(2, 4)
STAGE, ROUND = 1, 4
SECONDS = 20.0


def training(base: str, **fields: Any) -> TrainingRecord:
    facts: dict[str, Any] = {
        "run_id": RUN_ID,
        "plan": PLAN,
        "base": base,
        "boundaries": (0, 2, 4),
        "batch_size": SHAPE[0],
        "length": SHAPE[1] + 1,
        "num_microbatches": 4,
        "num_steps": 10,
        "learning_rate": 1e-3,
        "warmup_fraction": 0.0,
        "final_fraction": 0.1,
        "weight_decay": 0.1,
        "clip": 1.0,
        "wire_type": "float32",
        "state": "open",
    }
    return TrainingRecord(**(facts | fields))


class Replica:
    """A stage's books, weights and service behind a real peer; counting as a member counts."""

    group = STAGE

    def __init__(self, tiny: TinyCheckpoint, folder: Path, **settings: Any) -> None:
        record = training(tiny.revision, **settings.pop("plan", {}))
        module = checkpoints.load_span(tiny.folder, SPAN)
        self.part = TrainedPart(module, record)
        self.ledger = StageLedger("replica#00000000")
        self.executor = ThreadPoolExecutor(1)
        self.service = StageService(
            self,
            record,
            module=module,
            parameters=self.part.parameters,
            guest=make_guest(folder, settings.pop("limits", None)),
            computing=self.executor,
        )

    def count(self, call: Call, gradients: Sequence[Tensor]) -> None:
        if self.ledger.count(call):
            self.executor.submit(self.part.accumulate, gradients)

    @property
    def summed(self) -> Tensor:
        return self.executor.submit(self.part.summed).result(SECONDS)

    def lists(self, ids: Sequence[MicrobatchId]) -> None:
        self.ledger.obey(Open(FIRST, ROUND, frozenset(ids), keeps=False))

    @property
    def claim(self) -> frozenset[MicrobatchId]:
        """What it would claim if it were sealed now."""
        phase, self.ledger.phase = self.ledger.phase, Phase.SEALED
        try:
            return self.ledger.status.claim
        finally:
            self.ledger.phase = phase


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    loop = Loopback(tmp_path_factory.mktemp("passes"))
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def place(loopback: Loopback) -> Place:
    return Place(loopback)


class Place:
    """One peer that serves whichever replica a test brings, and two that ask."""

    def __init__(self, loopback: Loopback) -> None:
        self.run = loopback.run
        self.host, self.trainer, self.stranger = map(loopback.join, ("host", "trainer", "stranger"))
        self.replica: Replica | None = None
        self.run(self.host.serve(PASSES, self._serve))

    async def _serve(self, channel: Channel) -> None:
        assert self.replica is not None
        await self.replica.service.serve(channel)

    @property
    def name(self) -> str:
        return f"{self.trainer.peer_id}#0a0b0c0d"

    def id(self, number: int) -> MicrobatchId:
        return MicrobatchId(self.name, number)

    def bring(self, tiny: TinyCheckpoint, folder: Path, **settings: Any) -> Replica:
        self.replica = Replica(tiny, folder, **settings)
        self.replica.lists([self.id(number) for number in range(3)])
        return self.replica

    def body(self, number: int = 0, **other: Any) -> dict[str, Any]:
        body = {
            "plan": PLAN,
            "stage": STAGE,
            "trainer": self.name,
            "number": number,
            "version": of_version(FIRST),
        }
        return body | other

    async def asking(self, *bodies: Any, sender: Swarm | None = None) -> StagePassed:
        """Send bodies as they are; each after the first when the one before was answered."""
        stream = await (sender or self.trainer).open(self.host.peer_id, PASSES)
        try:
            for body in bodies:
                await stream._write(FrameKind.MESSAGE, body)
                passed = await stream.receive(StagePassed, seconds=SECONDS, what="a pass")
            return passed
        finally:
            stream.close()

    def ask(self, *bodies: Any, sender: Swarm | None = None) -> StagePassed:
        first, *others = bodies
        return self.run(self.asking({"request": first}, *others, sender=sender))

    def forward(self, number: int = 0, **other: Any) -> StagePassed:
        return self.ask(self.body(number, **({"hidden": pack(HIDDEN, "float32")} | other)))

    def backward(self, number: int = 0, **other: Any) -> StagePassed:
        return self.ask(self.back(number, **other))

    def back(self, number: int = 0, **other: Any) -> dict[str, Any]:
        given = {"gradient": pack(GRADIENT, "float32"), "round": ROUND}
        return self.body(number, **(given | other))


_random = torch.Generator().manual_seed(11)
HIDDEN = torch.randn(*SHAPE, generator=_random)
GRADIENT = torch.randn(*SHAPE, generator=_random)


def reference(tiny: TinyCheckpoint) -> tuple[Tensor, Tensor, Tensor]:
    """Output, gradient by the input, and the flat one by the weights in the order of their names."""
    module: SpanModule = checkpoints.load_span(tiny.folder, SPAN).requires_grad_()
    before = HIDDEN.clone().requires_grad_()
    after, _ = module(before)
    weights = [tensor for _, tensor in sorted(module.checkpoint_tensors().items())]
    first, *others = torch.autograd.grad(after, [before, *weights], GRADIENT)
    return after.detach(), first, torch.cat([gradient.flatten() for gradient in others])


def values_of(passed: StagePassed) -> Tensor:
    return unpack(passed.values, SHAPE, "float32")


def test_forward_and_backward_are_autograd_and_counted(
    place: Place, tiny: TinyCheckpoint, tmp_path: Path
) -> None:
    replica = place.bring(tiny, tmp_path)
    output, by_input, by_weights = reference(tiny)
    passed = place.forward()
    torch.testing.assert_close(values_of(passed), output)
    assert passed.compute_seconds > 0
    assert not replica.claim
    torch.testing.assert_close(values_of(place.backward()), by_input)
    torch.testing.assert_close(replica.summed, by_weights)
    assert replica.claim == {place.id(0)}
    assert (replica.service.num_forward, replica.service.num_counted) == (1, 1)


def test_what_is_not_kept_is_asked_for_on_the_same_stream(
    place: Place, tiny: TinyCheckpoint, tmp_path: Path
) -> None:
    replica = place.bring(tiny, tmp_path)
    _, by_input, by_weights = reference(tiny)
    assert place.backward(1).is_wanting
    assert not replica.claim
    again = place.back(1, hidden=pack(HIDDEN, "float32"))
    passed = place.ask(place.back(1), again)
    torch.testing.assert_close(values_of(passed), by_input)
    torch.testing.assert_close(replica.summed, by_weights)
    at_once = place.backward(2, hidden=pack(HIDDEN, "float32"))
    torch.testing.assert_close(values_of(at_once), by_input)
    assert replica.claim == {place.id(1), place.id(2)}


def test_a_repeat_is_answered_and_counted_once(
    place: Place, tiny: TinyCheckpoint, tmp_path: Path
) -> None:
    replica = place.bring(tiny, tmp_path)
    _, by_input, by_weights = reference(tiny)
    hidden = pack(HIDDEN, "float32")
    for attempt in range(3):
        passed = place.backward(hidden=hidden, attempt=attempt)
        torch.testing.assert_close(values_of(passed), by_input)
    replica.ledger.obey(Seal(FIRST, ROUND))
    torch.testing.assert_close(values_of(place.backward(hidden=hidden)), by_input)
    torch.testing.assert_close(replica.summed, by_weights)
    assert replica.service.num_counted == 1


def test_two_at_once_are_counted_once(place: Place, tiny: TinyCheckpoint, tmp_path: Path) -> None:
    replica = place.bring(tiny, tmp_path)
    body = {"request": place.back(hidden=pack(HIDDEN, "float32"))}

    async def both() -> tuple[StagePassed, StagePassed]:
        return await asyncio.gather(place.asking(body), place.asking(body))

    first, second = place.run(both())
    assert torch.equal(values_of(first), values_of(second))
    torch.testing.assert_close(replica.summed, reference(tiny)[2])
    assert replica.service.num_counted == 1


@pytest.mark.parametrize("wire_type", ["int8", "bfloat16"])
def test_numbers_travel_in_the_plan_s_type(
    wire_type: str, place: Place, tiny: TinyCheckpoint, tmp_path: Path
) -> None:
    place.bring(tiny, tmp_path, plan={"wire_type": wire_type})
    passed = place.forward(hidden=pack(HIDDEN, wire_type))
    found = unpack(passed.values, SHAPE, wire_type)
    output = reference(tiny)[0]
    assert float((found - output).abs().max()) < 0.02 * float(output.abs().max())


def numbers(value: float, *shape: int) -> dict[str, Any]:
    return pack(torch.full(shape or SHAPE, value), "float32")


MALFORMED: dict[str, dict[str, Any]] = {
    "no numbers": {"hidden": numbers(math.nan)},
    "infinity": {"hidden": numbers(math.inf)},
    "another width": {"hidden": numbers(1.0, 2, 7, 16)},
    "another length": {"hidden": numbers(1.0, 2, 8, 32)},
    "more rows": {"hidden": numbers(1.0, 3, 7, 32)},
    "another wire type": {"hidden": pack(HIDDEN, "int8")},
    "nothing": {},
    "a version that is none": {"hidden": numbers(1.0), "version": [0]},
    "a negative number": {"hidden": numbers(1.0), "number": -1},
    "a name that is none": {"hidden": numbers(1.0), "trainer": "trainer"},
    "something else": {"hidden": numbers(1.0), "other": 1},
    "a gradient of no numbers": {"gradient": numbers(math.nan), "hidden": numbers(1.0)},
    "a gradient of another shape": {"gradient": numbers(1.0, 2, 7, 16), "hidden": numbers(1.0)},
    "a gradient that overflows": {"gradient": numbers(3e38), "hidden": numbers(1.0)},
}


def refused(place: Place, *bodies: Any, sender: Swarm | None = None) -> RefusalError:
    with pytest.raises(RefusalError) as caught:
        place.ask(*bodies, sender=sender)
    return caught.value


@pytest.mark.parametrize("wrong", MALFORMED)
def test_what_is_malformed_is_refused_and_not_counted(
    wrong: str, place: Place, tiny: TinyCheckpoint, tmp_path: Path
) -> None:
    replica = place.bring(tiny, tmp_path)
    body = place.body(**({"round": ROUND} | MALFORMED[wrong]))
    assert refused(place, body).name == "MALFORMED"
    assert not replica.claim
    assert not replica.summed.any()
    # An honest one goes on.
    place.backward(hidden=pack(HIDDEN, "float32"))
    assert replica.claim == {place.id(0)}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another plan": ({"plan": OTHER_PLAN}, "NOT_TRAINING"),
    "another stage": ({"stage": 0}, "SPAN_MOVED"),
    "the ends": ({"stage": 2}, "SPAN_MOVED"),
    "older weights": ({"version": [-1, -1]}, "WRONG_VERSION"),
    "newer weights": ({"version": [1, 5]}, "WRONG_VERSION"),
    "an older round": ({"round": ROUND - 1}, "WRONG_ROUND"),
    "a later round": ({"round": ROUND + 1}, "WRONG_ROUND"),
    "an id outside the list": ({"number": 3}, "NOT_IN_STEP"),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_what_is_not_of_this_moment_is_refused_by_name(
    wrong: str, place: Place, tiny: TinyCheckpoint, tmp_path: Path
) -> None:
    replica = place.bring(tiny, tmp_path)
    fields, name = REFUSED[wrong]
    body = place.back(hidden=pack(HIDDEN, "float32")) | fields
    assert refused(place, body).name == name
    if name in ("NOT_TRAINING", "SPAN_MOVED", "WRONG_VERSION"):
        assert refused(place, body | {"gradient": None}).name == name
    assert not replica.claim
    assert not replica.summed.any()


def test_a_stranger_s_word_for_a_trainer_is_refused(
    place: Place, tiny: TinyCheckpoint, tmp_path: Path
) -> None:
    replica = place.bring(tiny, tmp_path)
    body = place.back(hidden=pack(HIDDEN, "float32"))
    withdrawal = place.body(round=ROUND, attempt=9)
    del withdrawal["version"]
    for sent in (body, place.body(hidden=pack(HIDDEN, "float32")), withdrawal):
        assert refused(place, sent, sender=place.stranger).name == "NOT_OWNER"
    assert not replica.claim
    place.ask(body)  # not withdrawn
    assert replica.claim == {place.id(0)}


def test_sealed_and_withdrawn(place: Place, tiny: TinyCheckpoint, tmp_path: Path) -> None:
    replica = place.bring(tiny, tmp_path)
    body = place.back(hidden=pack(HIDDEN, "float32"), attempt=2)
    withdrawal = place.body(round=ROUND, attempt=2)
    del withdrawal["version"]

    async def withdraw() -> None:
        stream = await place.trainer.open(place.host.peer_id, PASSES)
        await stream._write(FrameKind.MESSAGE, {"request": withdrawal})
        assert await stream.receive_or_end(StagePassed, seconds=SECONDS, what="the end") is None
        stream.close()

    place.run(withdraw())
    assert refused(place, body).name == "WITHDRAWN"
    place.ask(body | {"attempt": 3})
    replica.ledger.obey(Seal(FIRST, ROUND))
    assert refused(place, body | {"number": 1}).name == "SEALED"
    assert replica.claim == {place.id(0)}


def test_another_pass_instead_of_the_input_is_refused(
    place: Place, tiny: TinyCheckpoint, tmp_path: Path
) -> None:
    replica = place.bring(tiny, tmp_path)
    hidden = pack(HIDDEN, "float32")
    for other in (
        place.back(1, hidden=hidden),
        place.back(hidden=hidden, attempt=7),
        place.back(hidden=hidden, gradient=numbers(1.0)),
        place.back(),
    ):
        assert refused(place, place.back(), other).name == "MALFORMED"
    assert not replica.claim


def test_a_round_that_ends_meanwhile_takes_nothing_more(
    place: Place, tiny: TinyCheckpoint, tmp_path: Path
) -> None:
    replica = place.bring(tiny, tmp_path)

    def seal(*_: object) -> None:
        replica.ledger.obey(Seal(FIRST, ROUND))

    list(replica.part.module.modules())[-1].register_full_backward_hook(seal)
    body = place.back(hidden=pack(HIDDEN, "float32"))
    assert refused(place, body).name == "SEALED"
    assert not replica.claim
    assert not replica.summed.any()


def test_new_weights_meanwhile_end_a_pass(
    place: Place, tiny: TinyCheckpoint, tmp_path: Path
) -> None:
    replica = place.bring(tiny, tmp_path)

    def move_on(*_: object) -> None:
        replica.ledger.downloaded(Version(1, 9))

    next(iter(replica.part.module.blocks)).register_forward_hook(move_on)  # type: ignore[arg-type]
    assert refused(place, place.body(hidden=pack(HIDDEN, "float32"))).name == "WRONG_VERSION"


def test_one_trainer_has_so_many_passes_in_hand(
    place: Place, tiny: TinyCheckpoint, tmp_path: Path
) -> None:
    replica = place.bring(tiny, tmp_path)

    async def many() -> list[str]:
        streams = []
        for _ in range(MAX_PASSES_OF_ONE):
            stream = await place.trainer.open(place.host.peer_id, PASSES)
            await stream._write(FrameKind.MESSAGE, {"request": place.back(2)})
            passed = await stream.receive(StagePassed, seconds=SECONDS, what="a wish")
            assert passed.is_wanting  # and now it waits for the input
            streams.append(stream)
        try:
            await place.asking({"request": place.back(1)})
        except RefusalError as error:
            return [error.name]
        finally:
            for stream in streams:
                stream.close()
        return []

    assert place.run(many()) == ["RATE_LIMITED"]
    assert not replica.claim


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (Limits(hours=(1, 2)), "PAUSED"),
        (Limits(max_upload_bytes=10), "UPLOAD_LIMIT"),
        (Limits(max_memory_bytes=1), "MEMORY_FULL"),
    ],
    ids=["paused", "upload", "memory"],
)
def test_the_owner_s_limits(
    limits: Limits, name: str, place: Place, tiny: TinyCheckpoint, tmp_path: Path
) -> None:
    replica = place.bring(tiny, tmp_path, limits=limits)
    hidden = pack(HIDDEN, "float32")
    assert refused(place, place.body(hidden=hidden)).name == name
    assert refused(place, place.back(hidden=hidden)).name == name
    assert not replica.claim


def test_a_replica_that_leaves_takes_none(
    place: Place, tiny: TinyCheckpoint, tmp_path: Path
) -> None:
    replica = place.bring(tiny, tmp_path)
    replica.service.is_draining = True
    assert refused(place, place.back(hidden=pack(HIDDEN, "float32"))).name == "DRAINING"


def test_a_pass_that_the_owner_s_stop_cuts_off_is_nobody_s_fault(
    place: Place, tiny: TinyCheckpoint, tmp_path: Path
) -> None:
    """INTERNAL would be a complaint, and the peer would be avoided when it comes back."""
    replica = place.bring(tiny, tmp_path)

    def stop(*_: object) -> None:
        replica.service.is_draining = True
        replica.executor.shutdown(wait=False)

    next(iter(replica.part.module.blocks)).register_forward_hook(stop)  # type: ignore[arg-type]
    assert refused(place, place.body(hidden=pack(HIDDEN, "float32"))).name == "DRAINING"


def test_what_is_kept_does_not_keep_out_who_comes_back_for_it(
    place: Place, tiny: TinyCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is room for a pass, or for what one leaves."""
    replica = place.bring(tiny, tmp_path)
    service = replica.service
    room = 120_000
    monkeypatch.setattr(service._guest, "free_bytes", lambda: room - service.passes.kept_bytes)
    place.forward()
    assert service.passes.kept_bytes > room / 2
    hidden = pack(HIDDEN, "float32")
    passed = place.ask(place.back(), place.back(hidden=hidden))
    torch.testing.assert_close(values_of(passed), reference(tiny)[1])
    assert replica.claim == {place.id(0)}


def test_a_trainer_that_goes_away_is_not_counted(
    place: Place, tiny: TinyCheckpoint, tmp_path: Path
) -> None:
    replica = place.bring(tiny, tmp_path)
    going_on = threading.Event()
    replica.executor.submit(going_on.wait, SECONDS)

    async def leave() -> None:
        stream = await place.trainer.open(place.host.peer_id, PASSES)
        body = place.back(hidden=pack(HIDDEN, "float32"))
        await stream._write(FrameKind.MESSAGE, {"request": body})
        while not replica.service._in_hand:
            await asyncio.sleep(0.01)
        stream.close()
        while replica.service._in_hand:
            await asyncio.sleep(0.01)
        going_on.set()

    place.run(leave())
    assert not replica.summed.any()
    assert not replica.claim
