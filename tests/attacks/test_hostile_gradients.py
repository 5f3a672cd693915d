"""A stranger asks for passes that no client would ask for: named refusals, and honest ones go on."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from seshu_swarm import checkpoints
from seshu_swarm.errors import RefusalError
from seshu_swarm.exchange.gradients import (
    GRADIENTS,
    MAX_PASSES_OF_ONE,
    AskPass,
    PassAdmitted,
    Propagate,
    Propagated,
)
from seshu_swarm.network.dht import Swarm
from seshu_swarm.peer import gradients as service_module
from seshu_swarm.peer.gradients import MAX_PASSES, GradientService
from seshu_swarm.peer.guest import Limits
from seshu_swarm.spans import Span
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.frames import FrameKind
from seshu_swarm.streams.wire import pack_tensor, unpack_tensor
from tests.conftest import TinyCheckpoint
from tests.online import Online
from tests.spans import Host, make_guest

torch.set_num_threads(1)

SPAN = Span(1, 4)
GOOD = torch.ones(2, 3, 32)


@pytest.fixture(scope="module")
def online(tiny: TinyCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Online]:
    swarm = Online(tmp_path_factory.mktemp("online"), tiny)
    swarm.host("host", SPAN)
    yield swarm
    swarm.close()


@pytest.fixture(scope="module")
def mallory(online: Online) -> Swarm:
    return online.join("mallory")


def question(online: Online, **other: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is asked and what is given: good, with something else in it."""
    tensors: dict[str, Any] = {"hidden": pack_tensor(GOOD), "gradient": None}
    given = tensors | {name: other.pop(name) for name in list(other) if name in tensors}
    asked: dict[str, Any] = {
        "revision": online.tiny.revision,
        "start": SPAN.start,
        "end": SPAN.end,
        "lengths": [3, 2],
        "is_backward": given["gradient"] is not None,
    }
    return asked | other, given


async def ask(mallory: Swarm, host: Host, bodies: Sequence[Any]) -> Propagated:
    """Send bodies as they are, whatever they are."""
    stream = await mallory.open(host.swarm.peer_id, GRADIENTS)
    try:
        await stream._write(FrameKind.MESSAGE, bodies[0])
        await stream.receive(PassAdmitted, seconds=10.0, what="a place")
        await stream._write(FrameKind.MESSAGE, bodies[1])
        return await stream.receive(Propagated, seconds=10.0, what="an answer")
    finally:
        stream.close()


def refused(
    online: Online, mallory: Swarm, body: Sequence[Any], host: str = "host"
) -> RefusalError:
    with pytest.raises(RefusalError) as caught:
        online.run(ask(mallory, online.hosts[host], body))
    return caught.value


@pytest.fixture(scope="module")
def honest(online: Online) -> Swarm:
    return online.join("honest")


def is_served(online: Online, honest: Swarm) -> bool:
    """Whether another client gets the right numbers."""
    whole = checkpoints.load_whole(online.tiny.folder).eval()
    with torch.no_grad():
        expected, _ = whole.span.part(SPAN)(GOOD)
    body = question(online, lengths=[3, 3])
    found = online.run(ask(honest, online.hosts["host"], body))
    return torch.allclose(unpack_tensor(found.values, (2, 3, 32)), expected, atol=1e-5)


def packed(**other: Any) -> dict[str, Any]:
    return pack_tensor(GOOD) | other


NAN, HUGE = torch.full((2, 3, 32), math.nan), torch.full((2, 3, 32), 3.4e38)

MALFORMED: dict[str, dict[str, Any]] = {
    "no numbers": {"hidden": pack_tensor(NAN)},
    "infinite": {"hidden": pack_tensor(torch.full((2, 3, 32), math.inf))},
    "a gradient of no numbers": {"gradient": pack_tensor(NAN)},
    "numbers that overflow": {"gradient": pack_tensor(HUGE)},
    "a gradient that was not asked for": {"gradient": pack_tensor(GOOD), "is_backward": False},
    "no gradient": {"is_backward": True},
    "another width": {"hidden": pack_tensor(torch.ones(2, 3, 16))},
    "a wider gradient": {"gradient": pack_tensor(torch.ones(2, 3, 64))},
    "more rows than lengths": {"hidden": pack_tensor(torch.ones(3, 3, 32))},
    "longer than the longest": {"hidden": pack_tensor(torch.ones(2, 4, 32))},
    "fewer bytes than the shape": {"hidden": packed(data=b"\0" * 8)},
    "an unknown type": {"hidden": packed(dtype="float128")},
    "a shape of four billion": {"hidden": packed(shape=[2, 3, 1 << 32])},
    "a negative shape": {"hidden": packed(shape=[-2, -3, 32])},
    "no lengths": {"lengths": []},
    "a row without tokens": {"lengths": [3, 0]},
    "a negative length": {"lengths": [3, -1]},
    "a length bomb": {"lengths": [1 << 62, 1]},
    "a million lengths": {"lengths": [1] * 60_000},
    "a length that is true": {"lengths": [3, True]},
    "a length in words": {"lengths": ["3", "2"]},
    "lengths that are no list": {"lengths": {"3": 2}},
    "an extra field": {"admin": True},
    "a revision that is none": {"revision": "newest"},
    "a block below zero": {"start": -1},
    "hidden that is no tensor": {"hidden": {"x": 1}},
}


@pytest.mark.parametrize("other", MALFORMED.values(), ids=MALFORMED)
def test_malformed_questions(online: Online, mallory: Swarm, other: dict[str, Any]) -> None:
    assert refused(online, mallory, question(online, **other)).name == "MALFORMED"


@pytest.mark.parametrize("body", [None, 1, [], {}, "x", {"request": {}}], ids=str)
def test_no_question_at_all(online: Online, mallory: Swarm, body: Any) -> None:
    asked, given = question(online)
    assert refused(online, mallory, [body, given]).name == "MALFORMED"
    assert refused(online, mallory, [asked, body]).name == "MALFORMED"


OUT_OF_PLACE: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown revision": ({"revision": "ab" * 32}, "REVISION_MISMATCH"),
    "blocks before the span": ({"start": 0}, "SPAN_MOVED"),
    "blocks after the span": ({"end": 5}, "SPAN_MOVED"),
    "blocks backwards": ({"start": 3, "end": 2}, "SPAN_MOVED"),
    "no blocks": ({"start": 2, "end": 2}, "SPAN_MOVED"),
    "more tokens than a pass": ({"lengths": [4_096, 1]}, "TOO_LARGE"),
    "more rows than a pass": ({"lengths": [2] * 4_096}, "TOO_LARGE"),
}


@pytest.mark.parametrize(("other", "name"), OUT_OF_PLACE.values(), ids=OUT_OF_PLACE)
def test_what_is_not_to_be_had_here(
    online: Online, mallory: Swarm, other: dict[str, Any], name: str
) -> None:
    assert refused(online, mallory, question(online, **other)).name == name


def test_after_all_that_others_are_served(online: Online, honest: Swarm) -> None:
    assert is_served(online, honest)


LIMITS: dict[str, tuple[Limits, str]] = {
    "memory": (Limits(max_memory_bytes=1), "MEMORY_FULL"),
    "upload": (Limits(max_upload_bytes=8), "UPLOAD_LIMIT"),
    "hours": (Limits(hours=(1, 2)), "PAUSED"),
}


@pytest.mark.parametrize("what", LIMITS)
def test_the_owner_s_limits_hold(online: Online, mallory: Swarm, what: str) -> None:
    limits, name = LIMITS[what]
    guest = make_guest(online.folder / what, limits)
    online.host(what, SPAN, guest=guest)
    assert refused(online, mallory, question(online), what).name == name


def test_who_says_nothing_holds_his_own_places_only(
    online: Online, mallory: Swarm, honest: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow loris: silent streams take a client's own places, and those for a moment."""
    monkeypatch.setattr(service_module, "GIVE_SECONDS", 1.0)
    victim = online.hosts["host"].swarm.peer_id

    async def silent() -> list[Channel]:
        streams = [await mallory.open(victim, GRADIENTS) for _ in range(MAX_PASSES_OF_ONE)]
        for stream in streams:
            await stream.send(AskPass.model_validate(question(online)[0]))
            await stream.receive(PassAdmitted, seconds=5.0, what="a place")
        return streams

    streams = online.run(silent())
    assert refused(online, mallory, question(online)).name == "RATE_LIMITED"
    assert is_served(online, honest)
    online.run(asyncio.sleep(1.2))
    assert online.run(ask(mallory, online.hosts["host"], question(online)))
    for stream in streams:
        online.loop.call_soon_threadsafe(stream.close)


def test_all_places_taken_is_said_by_name(online: Online, mallory: Swarm, honest: Swarm) -> None:
    service = online.gradients["host"]
    crowd = {f"somebody {number}": 1 for number in range(MAX_PASSES)}
    service._passes.update(crowd)
    try:
        assert refused(online, mallory, question(online)).name == "RATE_LIMITED"
    finally:
        for name in crowd:
            del service._passes[name]
    assert is_served(online, honest)


class CountingExecutor:
    """Runs nothing before it is told to, and counts."""

    def __init__(self, online: Online) -> None:
        self.go, self.started = threading.Event(), 0
        self._real = online._computing

    def submit(self, work: Any, *arguments: Any) -> Any:
        self.started += 1

        def later() -> Any:
            self.go.wait(10.0)
            return work(*arguments)

        return self._real.submit(later)


def test_a_client_that_vanishes_stops_its_pass(online: Online, mallory: Swarm) -> None:
    """At the next block: one is computed of three."""
    guest = make_guest(online.folder / "waiting")
    waiting = online.host("waiting", SPAN, guest=guest)
    executor = CountingExecutor(online)
    service = GradientService(waiting.service._served.get, guest, executor)  # type: ignore[arg-type]
    online.run(waiting.swarm._p2p.remove_binary_stream_handler(GRADIENTS))
    online.run(waiting.swarm.serve(GRADIENTS, service.serve))

    async def vanish() -> None:
        stream = await mallory.open(waiting.swarm.peer_id, GRADIENTS)
        asked, given = question(online)
        await stream.send(AskPass.model_validate(asked))
        await stream.send(Propagate.model_validate(given))
        while not executor.started:
            await asyncio.sleep(0.01)
        stream.close()
        while service._passes:
            await asyncio.sleep(0.01)

    try:
        online.run(vanish(), seconds=5.0)
    finally:
        executor.go.set()
    online.run(asyncio.sleep(0.1))
    assert executor.started == 1
    assert service.num_answered == 0


def test_memory_that_was_promised_is_not_promised_again(online: Online, mallory: Swarm) -> None:
    limited = make_guest(online.folder / "narrow", Limits(max_memory_bytes=1 << 50))
    free = limited.free_bytes()
    online.host("narrow", SPAN, guest=limited)
    service = online.gradients["narrow"]
    with service._admitted("somebody", free - (1 << 20)):
        assert refused(online, mallory, question(online, lengths=[500, 2]), "narrow").name == (
            "MEMORY_FULL"
        )
    assert online.run(ask(mallory, online.hosts["narrow"], question(online)))


def test_padding_with_any_numbers_changes_nothing(online: Online, mallory: Swarm) -> None:
    """What lies after a row's end reaches neither values nor gradients."""
    noisy, zero = GOOD.clone(), GOOD.clone()
    noisy[1, 2], zero[1, 2] = 7.0, 0.0
    for gradient in (None, pack_tensor(noisy)):
        quiet_gradient = None if gradient is None else pack_tensor(zero)
        bodies = [
            question(online, hidden=pack_tensor(noisy), gradient=gradient),
            question(online, hidden=pack_tensor(zero), gradient=quiet_gradient),
        ]
        found = [online.run(ask(mallory, online.hosts["host"], body)).values for body in bodies]
        assert found[0] == found[1]


PEAK = """
import sys, torch
from seshu_swarm.exchange.gradients import AskPass
from seshu_swarm.mamba.block import MambaBlock
from seshu_swarm.mamba.kernels.choose import PLAIN, kernels_for, using
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.peer.gradients import _backward, bytes_of_pass
torch.set_num_threads(1)
shape = MambaShape(d_model=256, num_blocks=1)
block = MambaBlock(shape).eval().requires_grad_(False)
hidden_BLM = torch.randn(1, 4_096, 256)
asked = AskPass(revision="0" * 64, start=0, end=1, lengths=[4_096], is_backward=True)
def peak():
    with open("/proc/self/status") as facts:
        return 1024 * next(int(line.split()[1]) for line in facts if line.startswith("VmHWM"))
with using(PLAIN if sys.argv[1] == "plain" else kernels_for(hidden_BLM)):
    _backward(block, hidden_BLM[:, :16], hidden_BLM[:, :16], None)
    before = peak()
    _backward(block, hidden_BLM, hidden_BLM, None)
print(peak() - before, bytes_of_pass(shape, asked))
"""


@pytest.mark.parametrize("kernels", ["plain", "fastest"])
def test_the_largest_pass_takes_no_more_memory_than_was_asked_of_the_owner(kernels: str) -> None:
    command = [sys.executable, "-c", PEAK, kernels]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    taken, allowed = map(int, done.stdout.split())
    assert allowed / 4 < taken < allowed
