"""Conversations between real peers: an explicit end, named refusals, and everything in between."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from seshu_swarm import WIRE_VERSION
from seshu_swarm.errors import (
    DeadlineError,
    PackageError,
    PeerLostError,
    ProtocolError,
    RefusalError,
    SeshuError,
)
from seshu_swarm.network.dht import Swarm
from seshu_swarm.streams import frames
from seshu_swarm.streams.channel import Channel, refusal
from seshu_swarm.streams.frames import FrameKind
from seshu_swarm.streams.protocol import Chunk, Hello, Refusal
from tests.loopback import RUN_ID, Attacker, Loopback
from tests.messages import TALK, Facts, Question, answer_status

SILENT = "seshu/test-silent"
Handler = Callable[[Channel], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def server(loopback: Loopback) -> Swarm:
    server = loopback.join("server")
    loopback.run(server.serve(TALK, answer_status))
    return server


@pytest.fixture(scope="module")
def client(loopback: Loopback, server: Swarm) -> Swarm:
    return loopback.join("client")


@pytest.fixture(scope="module")
def attacker(loopback: Loopback, server: Swarm) -> Attacker:
    return loopback.attacker("attacker")


def test_a_conversation_ends_as_agreed(loopback: Loopback, server: Swarm, client: Swarm) -> None:
    async def talk() -> list[dict[str, Any] | None]:
        stream = await client.open(server.peer_id, TALK)
        facts: list[dict[str, Any] | None] = []
        for _ in range(3):
            await stream.send(Question())
            facts.append((await stream.receive(Facts, seconds=5, what="facts")).facts)
        await stream.finish()
        end = await stream.receive_or_end(Facts, seconds=5, what="the end")
        facts.append(end.facts if end else None)
        stream.close()
        assert stream.sent_bytes > 0
        return facts

    # libp2p has authenticated who speaks: the server knows the client by its key.
    assert loopback.run(talk()) == [{"peer": client.peer_id}] * 3 + [None]


def test_streams_do_not_mix(loopback: Loopback, server: Swarm, client: Swarm) -> None:
    async def talk(times: int) -> int:
        stream = await client.open(server.peer_id, TALK)
        for _ in range(times):
            await stream.send(Question())
            await stream.receive(Facts, seconds=5, what="facts")
        await stream.finish()
        assert await stream.receive_or_end(Facts, seconds=5, what="the end") is None
        stream.close()
        return times

    async def all_at_once() -> list[int]:
        return await asyncio.gather(*(talk(times) for times in range(1, 9)))

    assert loopback.run(all_at_once()) == list(range(1, 9))


def outcome(loopback: Loopback, server: Swarm, client: Swarm, handler: Handler) -> SeshuError:
    """What the client gets to know when the other side does `handler`."""

    async def ask() -> None:
        name = f"seshu/test-{time.monotonic_ns()}"
        await server.serve(name, handler)
        stream = await client.open(server.peer_id, name)
        try:
            await stream.receive(Facts, seconds=2, what="facts")
        finally:
            stream.close()

    with pytest.raises(SeshuError) as caught:
        loopback.run(ask())
    return caught.value


async def says_no(channel: Channel) -> None:
    raise refusal(Refusal.MEMORY_FULL, "64 sessions are open")


async def says_nothing(channel: Channel) -> None:
    await asyncio.sleep(30)


async def hangs_up(channel: Channel) -> None:
    channel.close()


async def ends_too_early(channel: Channel) -> None:
    return


async def sends_another_message(channel: Channel) -> None:
    await channel.send(Chunk(data=b"?"))


async def fails_by_name(channel: Channel) -> None:
    raise PackageError("/home/donor/secret/path is gone")


async def fails_by_accident(channel: Channel) -> None:
    raise KeyError("a bug")


def test_a_refusal_arrives_with_its_name_sentence_and_detail(
    loopback: Loopback, server: Swarm, client: Swarm
) -> None:
    error = outcome(loopback, server, client, says_no)
    assert isinstance(error, RefusalError) and error.name == "MEMORY_FULL"
    assert error.rule == "64 sessions are open" and Refusal.MEMORY_FULL.value in error.what


@pytest.mark.parametrize("handler", [hangs_up, ends_too_early], ids=lambda h: h.__name__)
def test_an_end_before_the_answer_is_a_lost_peer(
    loopback: Loopback, server: Swarm, client: Swarm, handler: Handler
) -> None:
    assert isinstance(outcome(loopback, server, client, handler), PeerLostError)


def test_silence_has_a_deadline_that_names_what_was_waited_for(
    loopback: Loopback, server: Swarm, client: Swarm
) -> None:
    error = outcome(loopback, server, client, says_nothing)
    assert isinstance(error, DeadlineError)
    assert f"facts from peer …{server.peer_id[-6:]}" in str(error)


def test_another_message_than_the_expected_one_breaks_the_protocol(
    loopback: Loopback, server: Swarm, client: Swarm
) -> None:
    error = outcome(loopback, server, client, sends_another_message)
    assert isinstance(error, ProtocolError)


@pytest.mark.parametrize("handler", [fails_by_name, fails_by_accident], ids=lambda h: h.__name__)
def test_what_fails_inside_is_told_by_name_and_nothing_of_it_leaks(
    loopback: Loopback,
    server: Swarm,
    client: Swarm,
    handler: Handler,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "seshu_swarm.streams.channel"):
        error = outcome(loopback, server, client, handler)
    assert isinstance(error, RefusalError) and error.name == "INTERNAL"
    assert "secret" not in str(error) and "bug" not in str(error)
    assert "while serving" in caplog.text


def test_a_stream_of_another_run_is_refused(
    loopback: Loopback, server: Swarm, client: Swarm
) -> None:
    async def ask() -> None:
        stranger = await loopback.joining("stranger", run_id="another-run")
        stream = await stranger.open(server.peer_id, TALK)
        try:
            await stream.receive(Facts, seconds=5, what="facts")
        finally:
            stream.close()
            await loopback.leave(stranger)

    with pytest.raises(RefusalError, match=f"RUN_UNKNOWN.*this is {RUN_ID}"):
        loopback.run(ask())


def greeting(**fields: Any) -> bytes:
    return frames.encode(FrameKind.MESSAGE, Hello(run_id=RUN_ID).model_dump() | fields)


async def say(attacker: Attacker, server: Swarm, *data: bytes) -> None:
    """Write raw bytes, then read what comes back as an honest channel would."""
    reader, writer = await attacker.dial(server.peer_id, TALK)
    stream = Channel(reader, writer, server.peer_id)
    try:
        for piece in data:
            writer.write(piece)
        await writer.drain()
        while await stream.receive_or_end(Facts, seconds=5, what="an answer"):
            continue
    finally:
        stream.close()


def test_another_wire_version_is_refused_with_the_line_that_helps(
    loopback: Loopback, server: Swarm, attacker: Attacker
) -> None:
    with pytest.raises(RefusalError) as caught:
        loopback.run(say(attacker, server, greeting(wire_version=WIRE_VERSION + 1, codec="new")))
    assert caught.value.name == "WIRE_VERSION_MISMATCH"
    assert "pip install --upgrade seshu-swarm" in str(caught.value)
    assert f"speaks wire version {WIRE_VERSION + 1}" in str(caught.value)


def test_an_unknown_refusal_is_not_believed(
    loopback: Loopback, server: Swarm, client: Swarm
) -> None:
    async def invents(channel: Channel) -> None:
        await channel._write(FrameKind.REFUSAL, {"name": "GIVE_ME_MONEY", "detail": "now"})
        await asyncio.sleep(1)

    error = outcome(loopback, server, client, invents)
    assert isinstance(error, ProtocolError) and "without a known name" in str(error)


def test_a_raw_stream_that_ends_without_a_final_frame_is_a_lost_peer(
    loopback: Loopback, client: Swarm, attacker: Attacker
) -> None:
    async def cut(info: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await frames.FrameReader(reader).read(1 << 16)  # the greeting
        # Half an answer, then the end: to hivemind's own reader this looks like a normal end.
        writer.write(frames.encode(FrameKind.MESSAGE, {"facts": {}}) + b"\x01\x00")
        await writer.drain()
        writer.close()

    async def ask() -> None:
        await attacker.p2p.add_binary_stream_handler(SILENT, cut)
        stream = await client.open(attacker.me.peer_id, SILENT)
        try:
            await stream.receive(Facts, seconds=5, what="facts")
            await stream.receive_or_end(Facts, seconds=5, what="the end")
        finally:
            stream.close()

    with pytest.raises(PeerLostError, match="without its final frame"):
        loopback.run(ask())


def test_a_refusal_reaches_a_peer_that_is_still_sending(
    loopback: Loopback, server: Swarm, client: Swarm
) -> None:
    name = "seshu/test-refusing"

    async def refuse(channel: Channel) -> None:
        raise refusal(Refusal.TOO_LARGE, "no room")

    async def send_on() -> str:
        stream = await client.open(server.peer_id, name)
        try:
            for _ in range(8):
                await stream.send(Chunk(data=bytes(1 << 20)))
            await stream.receive(Chunk, seconds=10, what="an answer")
        except RefusalError as error:
            return error.name
        finally:
            stream.close()
        return "none"

    async def talk() -> list[str]:
        await server.serve(name, refuse)
        return [await send_on() for _ in range(5)]

    assert loopback.run(talk()) == ["TOO_LARGE"] * 5
