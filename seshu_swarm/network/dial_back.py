"""Whether others can dial this peer: a peer that knows is asked to try.

Who is asked opens a TCP connection to the address that it sees the question come from, and to no other,
at the ports named, and waits for the greeting of libp2p there; so nobody can have a third party
dialled. Knows no relays.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Annotated

from hivemind.p2p import P2P, PeerID
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError
from hivemind.utils.multiaddr import Multiaddr
from pydantic import Field

from seshu_swarm.errors import PeerLostError
from seshu_swarm.streams import channel, frames
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.protocol import Hello, Message

DIAL_BACK = "seshu/dial-back"

# A lost SYN is sent again after one second.
DIAL_SECONDS = 3.0
ASK_SECONDS = 10.0
MAX_PORTS = 4
# Each costs a socket of the peer that is asked.
MAX_DIALS = 16
GREETING = b"\x13/multistream/1.0.0\n"


class TryPorts(Message):
    """No ports: answer at once, to measure the round trip."""

    ports: Annotated[list[Annotated[int, Field(ge=1, le=65_535)]], Field(max_length=MAX_PORTS)]


class Tried(Message):
    """Where the question came from, and which of its ports answered as libp2p does."""

    address: Annotated[str, Field(max_length=64)]
    reached: Annotated[list[int], Field(max_length=MAX_PORTS)]


class DialBack:
    """Answers the stream DIAL_BACK of one peer."""

    def __init__(self, p2p: P2P) -> None:
        self._p2p = p2p
        self._room = asyncio.Semaphore(MAX_DIALS)

    async def answer(self, stream: Channel) -> None:
        while asked := await stream.receive_or_end(
            TryPorts, seconds=ASK_SECONDS, what="ports to try"
        ):
            address = await self._address_of(stream.peer_id) if asked.ports else ""
            reached: list[int] = []
            if address:
                answers = await asyncio.gather(*(self._dial(address, p) for p in asked.ports))
                reached = [
                    port for port, is_there in zip(asked.ports, answers, strict=True) if is_there
                ]
            await stream.send(Tried(address=address, reached=reached))

    async def _address_of(self, peer: str) -> str:
        """The address that a peer's direct connection comes from; empty where it has none."""
        for known in await self._p2p.list_peers():
            if str(known.peer_id) == peer:
                for address in known.addrs:
                    if "p2p-circuit" not in str(address) and (found := host_of(address)):
                        return found
        return ""

    async def _dial(self, address: str, port: int) -> bool:
        async with self._room:
            return await is_libp2p(address, port, seconds=DIAL_SECONDS)


async def is_libp2p(address: str, port: int, *, seconds: float) -> bool:
    """Whether something there greets as libp2p does."""
    writer = None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(address, port)
            return await reader.readexactly(len(GREETING)) == GREETING
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
    finally:
        if writer is not None:
            writer.close()


async def ask(p2p: P2P, run_id: str, peer: str, ports: list[int]) -> tuple[Tried, float]:
    """What `peer` found, and the seconds of a round trip to it. Raises PeerError."""
    dialling = p2p.call_binary_stream_handler(PeerID.from_base58(peer), DIAL_BACK)
    try:
        _, reader, writer = await frames.within(ASK_SECONDS, dialling, f"peer …{peer[-6:]}")
    except (P2PDaemonError, OSError, asyncio.IncompleteReadError) as error:
        raise PeerLostError(f"peer …{peer[-6:]} dials nobody back: {error}") from None
    stream = channel.Channel(reader, writer, peer)
    try:
        await stream.send(Hello(run_id=run_id))
        await stream.send(TryPorts(ports=ports[:MAX_PORTS]))
        tried = await stream.receive(Tried, seconds=ASK_SECONDS, what="a dial back")
        began = time.perf_counter()
        await stream.send(TryPorts(ports=[]))
        await stream.receive(Tried, seconds=ASK_SECONDS, what="an answer at once")
        round_trip_seconds = time.perf_counter() - began
        await stream.finish()
        return tried, round_trip_seconds
    finally:
        stream.close()


def host_of(address: Multiaddr) -> str:
    """The IP address in a multiaddr; empty where it has none."""
    for name in ("ip4", "ip6"):
        with contextlib.suppress(ValueError, KeyError, LookupError):
            return str(address[name])
    return ""


def ports_of(addresses: list[Multiaddr]) -> list[int]:
    """The TCP ports in multiaddrs, each once."""
    ports: dict[int, None] = {}
    for address in addresses:
        with contextlib.suppress(ValueError, KeyError, LookupError):
            ports[int(address["tcp"])] = None
    return list(ports)
