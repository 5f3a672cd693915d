"""Many donors behind one node of the DHT: each signs with a key of its own, and stores as donors do.

A thousand donors are a thousand processes elsewhere. What they leave in the DHT is the same when a
node stores for many of them: a record under its key, a subkey for each owner, the owner's signature.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import msgpack
from cryptography.hazmat.primitives import serialization
from hivemind.dht.node import DHTNode
from hivemind.dht.validation import DHTRecord
from hivemind.p2p import P2P
from hivemind.utils.crypto import RSAPrivateKey

from seshu_swarm.network.identity import Identity, load_or_create, peer_id_of
from seshu_swarm.network.signing import SignedRecordValidator
from seshu_swarm.records import encoding as record_bytes
from seshu_swarm.records.kinds import AdapterRecord

STORES_AT_ONCE = 16
STORE_SECONDS = 60.0


def new_donor() -> Identity:
    """A key that is kept nowhere: this donor comes once."""
    private = RSAPrivateKey()
    shown = serialization.load_ssh_public_key(private.get_public_key().to_bytes())
    der = shown.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return Identity(Path(), der, peer_id_of(der), private)


def record_of_donor(number: int, *, run_id: str, base_revision: str) -> AdapterRecord:
    """What the donor of this number announces."""
    digest = hashlib.sha256(f"adapter {number}".encode()).hexdigest()
    return AdapterRecord(
        run_id=run_id,
        reference=f"swarm://sha256/{digest}",
        digest=digest,
        base_revision=base_revision,
        rank=8,
        language="hi",
        num_rows=1_000,
        licence="CC0-1.0",
        round_index=1,
    )


class CrowdValidator(SignedRecordValidator):
    """Signs in the name of the donor whose subkey it is; refuses what any peer refuses."""

    def __init__(self, node: Identity, donors: Sequence[Identity]) -> None:
        super().__init__(node)
        self._signers = {msgpack.packb(d.peer_id): SignedRecordValidator(d) for d in donors}

    def sign_value(self, record: DHTRecord) -> bytes:
        return self._signers[record.subkey].sign_value(record)


class Crowd:
    """A node of the DHT on loopback, and its donors."""

    def __init__(self, p2p: P2P, node: DHTNode, donors: Sequence[Identity]) -> None:
        self._p2p, self._node, self._donors = p2p, node, donors

    @classmethod
    async def join(cls, folder: Path, peers: Sequence[str], donors: Sequence[Identity]) -> Self:
        me = load_or_create(folder)
        p2p = await P2P.create(
            initial_peers=list(peers),
            host_maddrs=["/ip4/127.0.0.1/tcp/0"],
            identity_path=str(me.path),
            check_if_identity_free=False,
            nat_port_map=False,
            auto_nat=False,
        )
        validator = CrowdValidator(me, donors)
        node = await DHTNode.create(p2p=p2p, initial_peers=list(peers), record_validator=validator)
        return cls(p2p, node, donors)

    async def announce(self, made: Sequence[AdapterRecord]) -> int:
        """Each donor stores its record; how many were taken by the node asked last."""
        at_once = asyncio.Semaphore(STORES_AT_ONCE)

        async def store(donor: Identity, record: AdapterRecord) -> bool:
            async with at_once, asyncio.timeout(STORE_SECONDS):
                data, expires = record_bytes.to_bytes(record), time.time() + record.ttl_seconds
                stored = await self._node.store(record.key, data, expires, subkey=donor.peer_id)
                return bool(stored)

        pairs = zip(self._donors, made, strict=True)
        return sum(await asyncio.gather(*(store(donor, record) for donor, record in pairs)))

    async def leave(self) -> None:
        await self._node.shutdown()
        await self._p2p.shutdown()
