"""A stranger writes raw bytes to a serving peer: it refuses by name, at once, and serves on."""

from __future__ import annotations

import asyncio
import random
import struct
import time
from typing import Any

import msgpack
import psutil
import pytest

from seshu_swarm import WIRE_VERSION
from seshu_swarm.errors import PeerError, PeerLostError, RefusalError
from seshu_swarm.network.dht import Swarm
from seshu_swarm.streams import frames
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.frames import FrameKind
from seshu_swarm.streams.protocol import Hello
from tests.loopback import RUN_ID, Attacker, Loopback
from tests.messages import TALK, Facts, Question, answer_status

GREETING = frames.encode(FrameKind.MESSAGE, Hello(run_id=RUN_ID).model_dump())


@pytest.fixture(scope="module")
def server(loopback: Loopback) -> Swarm:
    server = loopback.join("server")
    loopback.run(server.serve(TALK, answer_status))
    return server


@pytest.fixture(scope="module")
def mallory(loopback: Loopback, server: Swarm) -> Attacker:
    return loopback.attacker("mallory")


async def say(mallory: Attacker, server: Swarm, data: bytes) -> None:
    reader, writer = await mallory.dial(server.peer_id, TALK)
    stream = Channel(reader, writer, server.peer_id)
    try:
        writer.write(data)
        await writer.drain()
        while await stream.receive_or_end(Facts, seconds=3, what="an answer"):
            continue
    finally:
        stream.close()


def frame(kind: int, body: Any) -> bytes:
    data: bytes = msgpack.packb(body)
    return struct.pack(">BI", kind, len(data)) + data


def hello(**fields: Any) -> bytes:
    return frame(1, {"wire_version": WIRE_VERSION, "run_id": RUN_ID} | fields)


MALFORMED = {
    "four gigabytes announced": struct.pack(">BI", 1, 0xFFFF_FFFF),
    "one byte over the cap": struct.pack(">BI", 1, frames.MAX_FRAME_BYTES + 1),
    "an unknown kind": struct.pack(">BI", 9, 1) + b"\xc0",
    "an array of four billion": struct.pack(">BI", 1, 5) + b"\xdd\xff\xff\xff\xff",
    "nesting": struct.pack(">BI", 1, 3_001) + b"\x91" * 3_000 + b"\xc0",
    "no msgpack": struct.pack(">BI", 1, 1) + b"\xc1",
    "a run id that is no text": hello(run_id=7),
    "a run id with a newline": hello(run_id=f"{RUN_ID}\n"),
    "an extra field": hello(admin=True),
    "another message after the greeting": GREETING + hello(),
    "nesting after the greeting": GREETING + frame(1, {"x": [[[[[[[]]]]]]]}),
    "http": b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_bytes_that_break_the_protocol_are_refused_at_once(
    loopback: Loopback, server: Swarm, mallory: Attacker, data: bytes
) -> None:
    began = time.monotonic()
    with pytest.raises(RefusalError) as caught:
        loopback.run(say(mallory, server, data))
    assert caught.value.name == "MALFORMED"
    assert time.monotonic() - began < 2.0


@pytest.mark.parametrize("body", [None, 1, [], {}, {"wire_version": [[[1]]]}])
def test_a_greeting_without_a_version_is_one_of_another_version(
    loopback: Loopback, server: Swarm, mallory: Attacker, body: Any
) -> None:
    with pytest.raises(RefusalError) as caught:
        loopback.run(say(mallory, server, frame(1, body)))
    assert caught.value.name == "WIRE_VERSION_MISMATCH"


def test_random_bytes_never_end_the_peer(
    loopback: Loopback, server: Swarm, mallory: Attacker
) -> None:
    rng = random.Random(0)

    async def shout() -> None:
        for number in range(60):
            _, writer = await mallory.dial(server.peer_id, TALK)
            writer.write((GREETING if number % 2 else b"") + rng.randbytes(rng.randrange(64)))
            await writer.drain()
            writer.close()

    loopback.run(shout())
    assert loopback.run(asks_politely(mallory, server)) == 3


async def asks_politely(mallory: Attacker, server: Swarm) -> int:
    reader, writer = await mallory.dial(server.peer_id, TALK)
    stream = Channel(reader, writer, server.peer_id)
    await stream.send(Hello(run_id=RUN_ID))
    answers, expected = 0, Facts(facts={"peer": str(mallory.p2p.peer_id)})
    for _ in range(3):
        await stream.send(Question())
        answers += await stream.receive(Facts, seconds=5, what="facts") == expected
    stream.close()
    return answers


def test_announced_bytes_take_no_memory_until_they_come(
    loopback: Loopback, server: Swarm, mallory: Attacker
) -> None:
    """Forty streams that each announce a frame of the largest size and then say nothing."""

    async def announce() -> list[asyncio.StreamWriter]:
        writers = []
        for _ in range(40):
            _, writer = await mallory.dial(server.peer_id, TALK)
            writer.write(struct.pack(">BI", 1, frames.MAX_FRAME_BYTES))
            await writer.drain()
            writers.append(writer)
        await asyncio.sleep(0.2)
        return writers

    before = psutil.Process().memory_info().rss
    writers = loopback.run(announce())
    grown = psutil.Process().memory_info().rss - before
    for writer in writers:
        writer.close()
    assert grown < 64 << 20, f"{grown} bytes for 40 announced frames of 32 MB"


def test_who_says_nothing_is_not_waited_for_forever(
    loopback: Loopback, server: Swarm, mallory: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seshu_swarm.streams.channel.HELLO_SECONDS", 0.2)
    with pytest.raises(PeerLostError):
        loopback.run(say(mallory, server, b""))


def test_a_refusal_from_a_stranger_ends_the_stream_quietly(
    loopback: Loopback, server: Swarm, mallory: Attacker, caplog: pytest.LogCaptureFixture
) -> None:
    data = GREETING + frame(2, {"name": "MEMORY_FULL", "detail": "x" * 10_000})
    with pytest.raises(PeerError):
        loopback.run(say(mallory, server, data))
    assert "Traceback" not in caplog.text
