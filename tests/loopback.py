"""Real peers of one run on 127.0.0.1, in one event loop of this process.

Also the other side: a plain hivemind node without our validator, as an attacker would run it.
The loop turns only inside `run`; whatever was begun before goes on there.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgpack
import psutil
from hivemind.dht.node import DHTNode
from hivemind.dht.routing import DHTID
from hivemind.p2p import P2P, PeerID

from seshu_swarm.network import identity
from seshu_swarm.network.daemon import Listen
from seshu_swarm.network.dht import Swarm
from seshu_swarm.network.identity import Identity
from seshu_swarm.records import encoding as record_bytes
from seshu_swarm.records.kinds import Record

RUN_ID = "test-run"
T = TypeVar("T")


class Loopback:
    """Swarms that know each other; `close` ends all of them and their daemons."""

    def __init__(self, folder: Path, run_id: str = RUN_ID) -> None:
        self.folder, self.run_id = folder, run_id
        self.loop = asyncio.new_event_loop()
        self._addresses: list[str] = []
        self._swarms: list[Swarm] = []
        self._attackers: list[Attacker] = []

    def run(self, work: Coroutine[Any, Any, T], *, seconds: float = 60.0) -> T:
        async def limited() -> T:
            async with asyncio.timeout(seconds):
                return await work

        return self.loop.run_until_complete(limited())

    @property
    def addresses(self) -> list[str]:
        """Where the first peer can be reached."""
        return list(self._addresses)

    def identity(self, name: str) -> Identity:
        return identity.load_or_create(self.folder / name)

    def join(self, name: str, *, run_id: str | None = None) -> Swarm:
        """A new peer with a key of its own; the first one starts the swarm."""
        return self.run(self.joining(name, run_id=run_id))

    async def joining(self, name: str, *, run_id: str | None = None) -> Swarm:
        swarm = await Swarm.join(
            self.identity(name),
            run_id=run_id or self.run_id,
            initial_peers=self._addresses,
            listen=Listen("127.0.0.1", 0),
        )
        self._swarms.append(swarm)
        self._addresses = self._addresses or await swarm.addresses()
        return swarm

    def attacker(self, name: str) -> Attacker:
        """A plain node with a key of its own."""
        mallory = self.run(Attacker.join(self.identity(name), self._addresses))
        self._attackers.append(mallory)
        return mallory

    async def leave(self, swarm: Swarm) -> None:
        """End a peer before the others."""
        self._swarms.remove(swarm)
        await swarm.leave()

    def close(self) -> None:
        for swarm in self._swarms:
            self.run(swarm.leave())
        for attacker in self._attackers:
            self.run(attacker.leave())
        self.loop.run_until_complete(_cancel_the_rest())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        gc.collect()  # what hivemind forgot to close is closed while its loop is there
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()
        _end_daemons()


def _end_daemons() -> None:
    """Those that are left; processes that the test started otherwise are its own affair."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.name() == "p2pd":
                child.kill()


class Attacker:
    """Speaks to the DHT and to streams directly; signs with its own key, or not at all."""

    def __init__(self, me: Identity, p2p: P2P, node: DHTNode) -> None:
        self.me, self.p2p, self.node = me, p2p, node

    @classmethod
    async def join(cls, me: Identity, addresses: list[str]) -> Attacker:
        p2p = await P2P.create(
            initial_peers=addresses,
            host_maddrs=["/ip4/127.0.0.1/tcp/0"],
            identity_path=str(me.path),
            nat_port_map=False,
            auto_nat=False,
        )
        return cls(me, p2p, await DHTNode.create(p2p=p2p, initial_peers=addresses))

    async def leave(self) -> None:
        await self.node.shutdown()
        await self.p2p.shutdown()

    async def store(self, victim: str, key: str, value: bytes, expires: float, owner: str) -> bool:
        """Ask `victim` directly to store raw bytes under the owner's subkey; its answer."""
        answer = await self.node.protocol.call_store(
            PeerID.from_base58(victim),
            [DHTID.generate(source=key)],
            [value],
            [expires],
            subkeys=[owner],
        )
        return bool(answer and answer[0])

    async def ask(self, victim: str, key: str) -> dict[str, tuple[bytes, float]]:
        """What `victim` has under the key, as it lies there: owner → signed value, expiration."""
        key_id = DHTID.generate(source=key)
        answer = await self.node.protocol.call_find(PeerID.from_base58(victim), [key_id])
        found = answer[key_id][0] if answer else None
        return {o: tuple(entry) for o, entry in found.value.items()} if found else {}

    def keep(self, key: str, value: bytes, expires: float, owner: str) -> None:
        """Hold raw bytes for those who ask this node."""
        storage = self.node.protocol.storage
        storage.store_subkey(DHTID.generate(source=key), owner, value, expires)

    async def dial(
        self, victim: str, name: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A raw stream, without a greeting."""
        peer = PeerID.from_base58(victim)
        _, reader, writer = await self.p2p.call_binary_stream_handler(peer, name)
        return reader, writer


async def _cancel_the_rest() -> None:
    """Handlers that wait for a word, and hivemind's own tasks."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def signed_value(me: Identity, record: Record, *, expires: float, **other: Any) -> bytes:
    """A value as its owner stores it. `key`, `owner`, `payload`, `public_key`: something false."""
    payload = other.get("payload", record_bytes.to_bytes(record))
    packed = msgpack.packb(payload)
    key = DHTID.generate(source=other.get("key", record.key)).to_bytes()
    owner = msgpack.packb(other.get("owner", me.peer_id))
    signature = me.sign(msgpack.packb([key, owner, packed, expires]))
    public_key: bytes = other.get("public_key", me.public_key)
    return bytes(packed + public_key + signature)


def soon(seconds: float = 20.0) -> float:
    """An expiration time."""
    return time.time() + seconds
