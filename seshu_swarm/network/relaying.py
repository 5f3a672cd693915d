"""Relaying: carry bytes between two peers that cannot dial one another, and reserve at such a relay.

What is carried is encrypted between the two ends; a relay sees who speaks to whom and how much. The
p2p daemon has a relay of its own, but which of its two limits holds is a race that 128 KiB in two
minutes mostly wins; so this one takes its place, with bounds on numbers and none on bytes.
Knows no records and no roles.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from hivemind.p2p import P2P, PeerID
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError
from hivemind.utils.multiaddr import Multiaddr

from seshu_swarm.errors import PeerError, PeerLostError, ProtocolError, RefusalError
from seshu_swarm.network import circuits
from seshu_swarm.network.circuits import Circuit, Hop, Status
from seshu_swarm.streams import frames

logger = logging.getLogger(__name__)

# Reserved again long before.
RESERVATION_SECONDS = 300.0
MAX_RESERVATIONS = 256
# Of all peers together, and of one peer at either end.
MAX_CIRCUITS, MAX_CIRCUITS_OF_PEER = 512, 64
ASK_SECONDS = 10.0
PIECE_BYTES = 1 << 16

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Relay:
    """The relay of one peer. A peer is connected only if it reserved a place before.

    `allow_upload` is asked for every piece that is carried, and may be set at any time: what the owner
    of this machine gives others in a day is carried too.
    """

    def __init__(self, p2p: P2P) -> None:
        self._p2p = p2p
        self.allow_upload: Callable[[int], bool] = lambda num_bytes: True
        self._reserved: dict[str, float] = {}
        self._circuits: Counter[str] = Counter()

    async def serve(self) -> None:
        await self._p2p.add_binary_stream_handler(circuits.HOP, self._answer)

    async def _answer(
        self, info: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        source = str(info.peer_id)
        try:
            asked = circuits.read_hop(await read_message(reader))
            if asked.kind == Hop.RESERVE:
                await _say(writer, self._reserve(source))
            elif asked.kind == Hop.CONNECT:
                await self._connect(source, asked, (reader, writer))
            else:
                await _say(writer, circuits.hop_status(Status.UNEXPECTED_MESSAGE))
        except ProtocolError as error:
            logger.debug("peer …%s asked this relay badly: %s", source[-6:], error)
            with contextlib.suppress(PeerError):  # it may be gone
                await _say(writer, circuits.hop_status(Status.MALFORMED_MESSAGE))
        except (PeerError, ConnectionError) as error:
            logger.debug("a circuit of peer …%s ended: %s", source[-6:], error)
        finally:
            writer.close()

    def _reserve(self, peer: str) -> bytes:
        now = time.time()
        self._reserved = {p: until for p, until in self._reserved.items() if until > now}
        if peer not in self._reserved and len(self._reserved) >= MAX_RESERVATIONS:
            return circuits.hop_status(Status.RESERVATION_REFUSED)
        self._reserved[peer] = now + RESERVATION_SECONDS
        return circuits.reserved(self._reserved[peer])

    async def _connect(self, source: str, asked: Circuit, near: Stream) -> None:
        refusal = self._refusal(source, asked.peer)
        if refusal is not None:
            await _say(near[1], circuits.hop_status(refusal))
            return
        self._circuits.update((source, asked.peer))
        try:
            far = await self._reach(source, asked.peer)
            if far is None:
                await _say(near[1], circuits.hop_status(Status.CONNECTION_FAILED))
                return
            await _say(near[1], circuits.hop_status(Status.OK))
            await carry(near, far, lambda num_bytes: self.allow_upload(num_bytes))
        finally:
            self._circuits.subtract((source, asked.peer))
            self._circuits += Counter()  # forgets who has none

    def _refusal(self, source: str, target: str) -> Status | None:
        if not target:
            return Status.MALFORMED_MESSAGE
        if self._reserved.get(target, 0.0) < time.time():
            return Status.NO_RESERVATION
        is_full = self._circuits.total() >= 2 * MAX_CIRCUITS
        if is_full or max(self._circuits[source], self._circuits[target]) >= MAX_CIRCUITS_OF_PEER:
            return Status.RESOURCE_LIMIT_EXCEEDED
        return None

    async def _reach(self, source: str, target: str) -> Stream | None:
        """A stream to the target that has said yes to `source`; None where it has not."""
        try:
            reader, writer = await _open(self._p2p, target, circuits.STOP)
        except PeerError as error:
            logger.debug("no circuit to peer …%s: %s", target[-6:], error)
            return None
        if await _says_yes(reader, writer, source):
            return reader, writer
        writer.close()
        return None


async def _says_yes(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: str
) -> bool:
    """Whether who was asked lets `source` in; a silent or broken answer is a no."""
    try:
        await _say(writer, circuits.stop_connect(source))
        return circuits.read_stop(await read_message(reader)).status == Status.OK
    except PeerError as error:
        logger.debug("no circuit from peer …%s: %s", source[-6:], error)
        return False


async def connect(p2p: P2P, address: str) -> None:
    """Be connected to the peer at a multiaddr that ends in its id: the daemon forgets addresses of peers
    that were away for minutes. Raises PeerError."""
    place, _, peer = address.rpartition("/p2p/")
    dialling = p2p._client.connect(PeerID.from_base58(peer), [Multiaddr(place)])
    try:
        await frames.within(ASK_SECONDS, dialling, f"peer …{peer[-6:]}")
    except (P2PDaemonError, OSError, asyncio.IncompleteReadError) as error:
        raise PeerLostError(f"cannot reach peer …{peer[-6:]}: {error}") from None


async def reserve(p2p: P2P, relay: str) -> None:
    """Ask the peer `relay` to connect others to this one. Raises PeerError."""
    reader, writer = await _open(p2p, relay, circuits.HOP)
    try:
        await _say(writer, circuits.reserve())
        answer = circuits.read_hop(await read_message(reader))
    finally:
        writer.close()
    if answer.status != Status.OK:
        raise RefusalError(
            "RESOURCE_LIMIT_EXCEEDED",
            f"peer …{relay[-6:]} relays for no one else (status {answer.status})",
            rule=f"a relay has places for {MAX_RESERVATIONS} peers",
        )


async def carry(near: Stream, far: Stream, allow: Callable[[int], bool]) -> None:
    """Bytes in both directions until either side ends or no more are allowed; then both are closed."""
    tasks = [
        asyncio.create_task(_pump(near[0], far[1], allow)),
        asyncio.create_task(_pump(far[0], near[1], allow)),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _, writer in (near, far):
            writer.close()


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, allow: Callable[[int], bool]
) -> None:
    while (data := await reader.read(PIECE_BYTES)) and allow(len(data)):
        writer.write(data)
        await writer.drain()


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """The next message. Raises ProtocolError, PeerLostError or DeadlineError."""
    reading = _read_message(reader)
    body: bytes = await frames.within(ASK_SECONDS, reading, "a message about a circuit")
    return body


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    try:
        head = await reader.readexactly(1)
        while head[-1] >= 0x80 and len(head) < 3:
            head += await reader.readexactly(1)
        length, _ = circuits.read_varint(head, 0)
        if length > circuits.MAX_MESSAGE_BYTES:
            raise ProtocolError(
                f"a circuit message of {length} bytes",
                rule=f"at most {circuits.MAX_MESSAGE_BYTES}",
            )
        return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        raise PeerLostError("the stream ended within a message about a circuit") from None


async def _open(p2p: P2P, peer: str, name: str) -> Stream:
    dialling = p2p.call_binary_stream_handler(PeerID.from_base58(peer), name)
    try:
        _, reader, writer = await frames.within(ASK_SECONDS, dialling, f"peer …{peer[-6:]}")
    except (P2PDaemonError, OSError, asyncio.IncompleteReadError) as error:
        raise PeerLostError(f"cannot reach peer …{peer[-6:]}: {error}") from None
    return reader, writer


async def _say(writer: asyncio.StreamWriter, message: bytes) -> None:
    try:
        writer.write(message)
        await writer.drain()
    except (ConnectionError, RuntimeError) as error:
        raise PeerLostError(f"the stream of a circuit is closed: {error}") from None
