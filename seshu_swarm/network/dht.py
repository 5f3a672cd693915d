"""This peer in the swarm: the DHT, and streams to other peers.

The only file that touches hivemind's DHT. A `DHTNode` lives in the peer's own event loop, so a
peer is one process beside the daemon. Announcing and looking up records go through the strict
validator of `signing`; every wait has a deadline.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from hivemind.dht.node import DHTNode
from hivemind.dht.protocol import ValidationError as PeerTimeError
from hivemind.p2p import P2P, PeerID
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError

from seshu_swarm import WIRE_VERSION
from seshu_swarm.errors import (
    FingerprintError,
    PeerLostError,
    UnreachableError,
    WireVersionError,
)
from seshu_swarm.network import dial_back, reach, relaying
from seshu_swarm.network.daemon import (
    Listen,
    check_port,
    refused_by_peers,
    start_daemon,
    unreachable,
)
from seshu_swarm.network.identity import Identity
from seshu_swarm.network.line import Line
from seshu_swarm.network.link import Link
from seshu_swarm.network.reach import Reach
from seshu_swarm.network.signing import SignedRecordValidator
from seshu_swarm.records import encoding as record_bytes
from seshu_swarm.records import kinds as records
from seshu_swarm.records import uids
from seshu_swarm.streams import channel, frames
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.protocol import Hello

logger = logging.getLogger(__name__)

LOOKUP_SECONDS = 10.0
DIAL_SECONDS = 10.0
RUN_RECORD_SECONDS = 10.0

R = TypeVar("R", bound=records.Record)


@dataclass(frozen=True)
class Found(Generic[R]):
    """A record and the peer that signed it."""

    record: R
    owner: str
    expiration_time: float


class Swarm:
    """A joined peer. Made by `Swarm.join`; ended by `leave`."""

    def __init__(
        self, run_id: str, p2p: P2P, node: DHTNode, validator: SignedRecordValidator
    ) -> None:
        self.run_id = run_id
        self.peer_id = str(p2p.peer_id)
        self._p2p, self._node, self._validator = p2p, node, validator
        self._last_expiration: dict[str, float] = {}
        self._sequence = 0
        self.line = Line(run_id)
        self.reach = Reach(reach.Kind.UNKNOWN)
        self.relay: relaying.Relay | None = None
        self._leaving: list[Callable[[], Awaitable[None]]] = []

    @classmethod
    async def join(
        cls, identity: Identity, *, run_id: str, initial_peers: Iterable[str], listen: Listen
    ) -> Self:
        """Start the daemon and enter the DHT. Raises JoinError or ResourceError in <= 20 s."""
        peers = [str(peer) for peer in initial_peers]
        check_port(listen)
        p2p = await start_daemon(identity, peers, listen)
        found = await reach.find(p2p, run_id, peers, listen)
        if found.relays:
            # A place before the address is known: who dials in vain does not try again for seconds.
            await reach.Kept(p2p, found.relays).reserve()
            await p2p.shutdown()
            p2p = await start_daemon(identity, peers, listen, relays=found.relays)
        validator = SignedRecordValidator(identity)
        try:
            # Records of others are not kept where others must come through a relay.
            node = await DHTNode.create(
                p2p=p2p,
                initial_peers=peers,
                record_validator=validator,
                client_mode=bool(found.relays),
            )
        except PeerTimeError as error:
            await p2p.shutdown()
            raise refused_by_peers(peers, error) from None
        except RuntimeError as error:
            await p2p.shutdown()
            raise unreachable(peers, str(error)) from None
        swarm = cls(run_id, p2p, node, validator)
        await swarm._be_reached(found)
        return swarm

    async def _be_reached(self, found: Reach) -> None:
        """Help others to be reached; a peer that needs help itself takes it."""
        self.reach = found
        await self.serve(dial_back.DIAL_BACK, dial_back.DialBack(self._p2p).answer)
        if not found.relays:
            self.relay = relaying.Relay(self._p2p)
            await self.relay.serve()
            return
        kept = reach.Kept(self._p2p, found.relays)
        await kept.reserve()
        logger.info("%s", found.sentence)
        keeping = asyncio.create_task(kept.keep())

        async def end() -> None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

        self.on_leave(end)

    def on_leave(self, close: Callable[[], Awaitable[None]]) -> None:
        """What lives on this swarm's streams is closed before them."""
        self._leaving.append(close)

    async def leave(self) -> None:
        while self._leaving:
            await self._leaving.pop()()
        await self._node.shutdown()
        await self._p2p.shutdown()

    async def addresses(self) -> list[str]:
        """Multiaddrs at which others reach this peer, with its id."""
        return [str(address) for address in await self._p2p.get_visible_maddrs(latest=True)]

    async def neighbours(self) -> list[str]:
        """Multiaddrs of the peers this one is connected to."""
        return [
            f"{address}/p2p/{peer.peer_id}"
            for peer in await self._p2p.list_peers()
            for address in peer.addrs[:1]
        ]

    async def announce(self, record: records.Record) -> bool:
        """Store a record under its key until its time is up; whether the peer asked last took it."""
        self._sequence = max(self._sequence + 1, int(time.time() * 1000))
        signed = record.model_copy(update={"sequence": self._sequence})
        # The DHT refuses a store whose expiration does not grow.
        expiration = max(
            time.time() + record.ttl_seconds, self._last_expiration.get(record.key, 0.0) + 1e-3
        )
        self._last_expiration[record.key] = expiration
        storing = self._node.store(
            record.key, record_bytes.to_bytes(signed), expiration, subkey=self.peer_id
        )
        return bool(await frames.within(LOOKUP_SECONDS, storing, f"the DHT to store {record.key}"))

    async def lookup(self, keys: Iterable[str], kind: type[R]) -> list[Found[R]]:
        """All live records of `kind` under the keys, one per owner and key."""
        wanted = list(keys)
        getting = self._node.get_many(wanted, sufficient_expiration_time=float("inf"))
        got = await frames.within(LOOKUP_SECONDS, getting, f"the DHT to find {wanted[0]}")
        found = []
        for value in got.values():
            subkeys = value.value.items() if value and isinstance(value.value, dict) else ()
            for owner, entry in subkeys:
                record: records.Record = record_bytes.from_bytes(entry.value)
                if isinstance(record, kind) and record.run_id == self.run_id:
                    found.append(Found(record, owner, entry.expiration_time))
        return found

    async def spans(self, num_blocks: int) -> list[Found[records.SpanRecord]]:
        """What each peer hosts now: a peer that moved has a record under its old blocks too."""
        found = await self.lookup(uids.span_keys(self.run_id, num_blocks), records.SpanRecord)
        latest: dict[str, Found[records.SpanRecord]] = {}
        for one in sorted(found, key=lambda f: f.record.sequence):
            latest[one.owner] = one
        return list(latest.values())

    async def run_record(self, link: Link) -> Found[records.RunRecord]:
        """The coordinator's record as the link names it. Raises JoinError."""
        deadline = time.monotonic() + RUN_RECORD_SECONDS
        while time.monotonic() < deadline:
            if found := await self.current_run(link):
                return found
            await asyncio.sleep(0.3)
        raise await self._no_run(link)

    async def current_run(self, link: Link) -> Found[records.RunRecord] | None:
        """One look for the newest run record signed by the link's key. Raises ForkError."""
        found = await self.lookup([uids.run_key(self.run_id)], records.RunRecord)
        # `signing` refuses a run record that names another key than the one that signed it.
        own = [f for f in found if f.record.coordinator == link.fingerprint]
        newest = max(own, key=lambda f: f.record.sequence, default=None)
        if newest is not None:
            self.line.follow(newest.record)
        return newest

    async def _no_run(self, link: Link) -> Exception:
        found = await self.lookup([uids.run_key(self.run_id)], records.RunRecord)
        if found:
            keys = ", ".join(sorted({f.record.coordinator for f in found}))
            return FingerprintError(
                f"run {link.run_id!r} is signed by key {keys}",
                rule=f"the join link names key {link.fingerprint}",
                way_out="ask the maintainer for a new link; do not join a run you cannot verify",
            )
        if self._validator.foreign_versions:
            return WireVersionError(
                "WIRE_VERSION_MISMATCH: the swarm's records have another wire version",
                rule=f"this program speaks version {WIRE_VERSION}",
                way_out="upgrade the older side: pip install --upgrade seshu-swarm",
            )
        return UnreachableError(
            f"the swarm answered but knows no run {link.run_id!r}",
            rule=f"its coordinator announces it; waited {RUN_RECORD_SECONDS:g} s",
            way_out="check that the coordinator runs and that the link is the newest",
        )

    async def store_again(self, found: Found[records.RunRecord]) -> bool:
        """Store another owner's run record again, as it was signed: newcomers may hold the key."""
        key, data = found.record.key, record_bytes.to_bytes(found.record)
        storing = self._node.store(key, data, found.expiration_time, subkey=found.owner)
        return bool(await frames.within(LOOKUP_SECONDS, storing, f"the DHT to store {key}"))

    async def serve(self, name: str, handler: channel.Handler) -> None:
        await self._p2p.add_binary_stream_handler(name, channel.serve(self.run_id, handler))

    async def open(self, peer_id: str, name: str, *, seconds: float = DIAL_SECONDS) -> Channel:
        """A greeted stream to a peer. Raises PeerLostError or DeadlineError."""
        dialling = self._p2p.call_binary_stream_handler(PeerID.from_base58(peer_id), name)
        try:
            _, reader, writer = await frames.within(seconds, dialling, f"peer …{peer_id[-6:]}")
        except (P2PDaemonError, OSError, asyncio.IncompleteReadError) as error:
            raise PeerLostError(f"cannot reach peer …{peer_id[-6:]}: {error}") from None
        stream = Channel(reader, writer, peer_id)
        try:
            await stream.send(Hello(run_id=self.run_id))
        except PeerLostError:
            stream.close()
            raise
        return stream
