"""Circuits through a relay: messages against protobuf itself, refusals, and bytes through a real one."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)
from hivemind.p2p import P2P, PeerID
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm.errors import PeerError, PeerLostError, ProtocolError
from seshu_swarm.network import circuits, dial_back, reach, relaying
from seshu_swarm.network.circuits import Hop, Status
from seshu_swarm.network.daemon import Listen, start_daemon
from seshu_swarm.network.dht import Swarm
from seshu_swarm.network.dial_back import Tried
from seshu_swarm.network.reach import Kind
from tests.loopback import RUN_ID, Loopback

ECHO = "test/echo"
# What libp2p's own relay cuts off at: 128 KiB of one circuit.
MORE_BYTES = 3 << 17
PEER = "QmXQGo6M88bK6j3KiDGXuEnyqb2osSJ1PDL7XSCrM5Aq2w"

F = descriptor_pb2.FieldDescriptorProto


def reference(name: str) -> Any:
    """A message class of the specification's pb/circuit.proto, made by protobuf."""
    file = descriptor_pb2.FileDescriptorProto(name="circuit.proto", syntax="proto2")
    fields: dict[str, list[tuple[int, str, int, str]]] = {
        "Peer": [(1, "id", F.TYPE_BYTES, "")],
        "Reservation": [(1, "expire", F.TYPE_UINT64, "")],
        "Hop": [
            (1, "type", F.TYPE_UINT32, ""),
            (2, "peer", F.TYPE_MESSAGE, ".Peer"),
            (3, "reservation", F.TYPE_MESSAGE, ".Reservation"),
            (5, "status", F.TYPE_UINT32, ""),
        ],
        "Stop": [
            (1, "type", F.TYPE_UINT32, ""),
            (2, "peer", F.TYPE_MESSAGE, ".Peer"),
            (4, "status", F.TYPE_UINT32, ""),
        ],
    }
    for message, rows in fields.items():
        made = file.message_type.add(name=message)
        for number, field, kind, type_name in rows:
            one = made.field.add(name=field, number=number, type=kind, label=F.LABEL_OPTIONAL)
            if type_name:
                one.type_name = type_name
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def body_of(message: bytes) -> bytes:
    length, at = circuits.read_varint(message, 0)
    assert len(message) == at + length
    return message[at:]


def test_messages_are_those_of_the_specification() -> None:
    hop, stop = reference("Hop"), reference("Stop")
    assert hop.FromString(body_of(circuits.reserve())).type == 0
    yes = hop.FromString(body_of(circuits.reserved(1_800_000_000.5)))
    assert (yes.type, yes.status, yes.reservation.expire) == (2, 100, 1_800_000_000)
    no = hop.FromString(body_of(circuits.hop_status(Status.NO_RESERVATION)))
    assert (no.type, no.status) == (2, 204)
    called = stop.FromString(body_of(circuits.stop_connect(PEER)))
    assert (called.type, called.peer.id) == (0, PeerID.from_base58(PEER).to_bytes())

    asked = hop(type=1, peer={"id": PeerID.from_base58(PEER).to_bytes()})
    assert circuits.read_hop(asked.SerializeToString()) == circuits.Circuit(1, PEER)
    answered = stop(type=1, status=100)
    assert circuits.read_stop(answered.SerializeToString()) == circuits.Circuit(1, "", 100)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(body: bytes) -> None:
    for read in (circuits.read_hop, circuits.read_stop):
        try:
            read(body)
        except ProtocolError:
            continue


async def ask(p2p: P2P, relay: str, message: bytes) -> int:
    """The status that a relay answers with."""
    _, reader, writer = await p2p.call_binary_stream_handler(
        PeerID.from_base58(relay), circuits.HOP
    )
    writer.write(message)
    answer = circuits.read_hop(await relaying.read_message(reader))
    writer.close()
    return answer.status


def test_a_relay_says_no_by_its_number(loopback: Loopback) -> None:
    relay, peer = loopback.join("relay"), loopback.join("asker")
    answers = [_connect_to(peer), b"\x02\x08\x02", b"\x03\x08\x01\x0f", b"\x02\x08\x01"]
    told = [loopback.run(ask(peer._p2p, relay.peer_id, message)) for message in answers]
    assert told == [
        Status.NO_RESERVATION,
        Status.UNEXPECTED_MESSAGE,
        Status.MALFORMED_MESSAGE,
        Status.MALFORMED_MESSAGE,
    ]


@pytest.mark.parametrize("said", [b"", b"\x03\x08\x01\x0f", b"\x02\x08\x01"])
def test_a_guest_that_answers_wrongly_is_not_connected_to(loopback: Loopback, said: bytes) -> None:
    """Who asked hears so at once, and not that its own question was wrong."""
    relay, guest, asker = (loopback.join(f"{name}-{len(said)}") for name in ("r", "g", "a"))

    async def answer(info: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await relaying.read_message(reader)
        writer.write(said)
        writer.close()

    async def work() -> int:
        await guest._p2p.add_binary_stream_handler(circuits.STOP, answer)
        await relaying.reserve(guest._p2p, relay.peer_id)
        return await ask(asker._p2p, relay.peer_id, _connect_to(guest))

    assert loopback.run(work()) == Status.CONNECTION_FAILED


def _connect_to(swarm: Swarm) -> bytes:
    raw: bytes = PeerID.from_base58(swarm.peer_id).to_bytes()
    named = bytes([0x12, len(raw) + 2, 0x0A, len(raw)]) + raw
    return bytes([len(named) + 2, 8, Hop.CONNECT]) + named


async def echo(info: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def echoed(p2p: P2P, peer: str, num_bytes: int) -> bytes:
    _, reader, writer = await p2p.call_binary_stream_handler(PeerID.from_base58(peer), ECHO)
    writing = asyncio.create_task(_write(writer, bytes(num_bytes)))
    data: bytes = await reader.readexactly(num_bytes)
    await writing
    writer.close()
    return data


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def until_known(p2p: P2P, peer: str) -> None:
    """A daemon that has just started says that it knows nobody, and nothing tells when it does."""
    async with asyncio.timeout(20.0):
        while True:
            try:
                assert await echoed(p2p, peer, 1) == b"\0"
                return
            except P2PDaemonError:
                await asyncio.sleep(0.2)


def test_bytes_go_through_a_relay(loopback: Loopback) -> None:
    """The peer behind it announces nothing but the way through the relay."""
    relay = loopback.join("relay-2")
    way = loopback.run(relay.addresses())[0]

    async def work() -> None:
        listen = Listen("127.0.0.1", 0)
        behind = await start_daemon(loopback.identity("behind"), [way], listen, relays=[way])
        await behind.add_binary_stream_handler(ECHO, echo)
        await relaying.reserve(behind, relay.peer_id)
        asker = await start_daemon(loopback.identity("asks"), [way], listen)
        try:
            await until_known(asker, str(behind.peer_id))
            assert await echoed(asker, str(behind.peer_id), MORE_BYTES) == bytes(MORE_BYTES)
            known = {str(p.peer_id): p.addrs for p in await asker.list_peers()}
            assert "p2p-circuit" in str(known[str(behind.peer_id)][0])
            # Each byte is carried there and back; a piece beyond the owner's limit ends the circuit.
            assert relay.relay is not None
            left = [MORE_BYTES]

            def allow(num_bytes: int) -> bool:
                left[0] -= num_bytes
                return left[0] >= 0

            relay.relay.allow_upload = allow
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await echoed(asker, str(behind.peer_id), MORE_BYTES)
            assert left[0] < 0
        finally:
            await asker.shutdown()
            await behind.shutdown()

    loopback.run(work())


def test_a_relay_that_was_started_anew_gets_its_guests_back(
    loopback: Loopback, free_port: int
) -> None:
    """It has forgotten all places, and has the address it had."""
    listen = Listen("127.0.0.1", free_port)
    me = loopback.identity("restarted")

    async def work() -> list[str]:
        first = await start_daemon(me, [], listen)
        await relaying.Relay(first).serve()
        way = f"{listen.multiaddr}/p2p/{me.peer_id}"
        guest = await start_daemon(loopback.identity("guest"), [way], Listen("127.0.0.1", 0))
        try:
            kept = reach.Kept(guest, (way,))
            await kept.reserve()
            await first.shutdown()
            await kept.reserve()  # nobody answers, and nothing is raised
            again = await start_daemon(me, [], listen)
            try:
                relay = relaying.Relay(again)
                await relay.serve()
                await until_reserved(kept, relay)
                return list(relay._reserved)
            finally:
                await again.shutdown()
        finally:
            await guest.shutdown()

    assert loopback.run(work()) == [loopback.identity("guest").peer_id]


async def until_reserved(kept: reach.Kept, relay: relaying.Relay) -> None:
    """A dial in vain is not repeated for some seconds."""
    deadline = time.monotonic() + 15.0
    while not relay._reserved and time.monotonic() < deadline:
        await kept.reserve()
        await asyncio.sleep(0.3)


def test_a_peer_is_dialled_back_at_its_own_address_and_found_or_not(
    loopback: Loopback, free_port: int
) -> None:
    knows, asks = loopback.join("knows"), loopback.join("wonders")
    port = int(loopback.run(asks.addresses())[0].split("/")[4])
    asking = dial_back.ask(asks._p2p, RUN_ID, knows.peer_id, [port, free_port])
    tried, seconds = loopback.run(asking)
    assert (tried.address, tried.reached) == ("127.0.0.1", [port])
    assert 0 < seconds < 1


def test_who_is_told_what() -> None:
    peers = ["/ip4/11.0.0.1/tcp/1/p2p/A", "/ip4/11.0.0.2/tcp/1/p2p/B"]
    no, yes = Tried(address="12.0.0.1", reached=[]), Tried(address="12.0.0.1", reached=[7])
    lost: PeerError = PeerLostError("gone")
    assert reach.judge(peers, [7], [(no, 0.1), (yes, 0.2)]).kind is Kind.DIRECT
    assert reach.judge(peers, [7], [lost, lost]).kind is Kind.UNKNOWN
    relayed = reach.judge(peers, [7], [lost, (no, 0.04)])
    assert (relayed.kind, relayed.relays) == (Kind.RELAYED, (peers[1],))
    assert "12.0.0.1:7 from 1 peer" in relayed.sentence
    assert "1 relay, 40 ms away" in relayed.sentence and "at least 80 ms" in relayed.sentence


def test_who_is_not_asked() -> None:
    there = ["/ip4/11.0.0.1/tcp/1/p2p/A"]
    assert reach.is_asked(Listen(), there)
    assert not reach.is_asked(Listen(), [])
    assert not reach.is_asked(Listen("127.0.0.1"), there)
    assert not reach.is_asked(Listen(announce="/ip4/12.0.0.1/tcp/7"), there)
