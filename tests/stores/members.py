"""Peers with holders for the tests of the swarm store, and packages for them to hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from seshu_swarm import packages
from seshu_swarm.network.dht import Swarm
from seshu_swarm.packages import Manifest
from seshu_swarm.records.kinds import ProviderRecord
from seshu_swarm.stores.holder import Holder, HolderPolicy
from seshu_swarm.stores.references import Reference
from seshu_swarm.stores.swarm import SwarmStore
from seshu_swarm.streams.channel import Channel, Handler
from seshu_swarm.streams.protocol import CHUNK_BYTES
from tests.loopback import RUN_ID, Loopback

BIG = bytes(range(256)) * (CHUNK_BYTES * 5 // 2 // 256)  # two chunks and a half


@dataclass
class Member:
    """A peer with a holder, and what it was asked to do."""

    swarm: Swarm
    root: Path
    uploads: list[int] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    max_upload_bytes: int = 1 << 40

    def allow(self, num_bytes: int) -> bool:
        if num_bytes > self.max_upload_bytes:
            return False
        self.uploads.append(num_bytes)
        return True

    @property
    def holder(self) -> Holder:
        policy = HolderPolicy(
            takes_adapters=True, max_adapter_bytes=4 << 20, max_bytes_per_peer=6 << 20
        )
        return Holder(
            self.root, policy=policy, allow_upload=self.allow, on_stored=self.stored.append
        )


HANDLERS: dict[str, Handler] = {}  # peer id → what it does with a stream at present


def at_present(peer_id: str) -> Handler:
    """hivemind adds a handler once; what it does changes from test to test."""

    async def handle(channel: Channel) -> None:
        await HANDLERS[peer_id](channel)

    return handle


def make(folder: Path, seed: bytes = b"", *, kind: str = "adapter", big: bytes = BIG) -> Manifest:
    (folder / "sub").mkdir(parents=True)
    (folder / "big.bin").write_bytes(big + seed)
    (folder / "sub" / "small.txt").write_text("नमस्ते")
    (folder / "empty").write_bytes(b"")
    names = ["big.bin", "sub/small.txt", "empty"]
    return packages.read_manifest(folder, packages.seal(folder, kind, names, {}))


def hold(loopback: Loopback, member: Member, seed: bytes) -> str:
    """A member holds a package and says so."""
    manifest = make(member.root / "new", seed)
    (member.root / "new").rename(member.root / manifest.digest)
    record = ProviderRecord(run_id=RUN_ID, digest=manifest.digest)
    assert loopback.run(member.swarm.announce(record))
    return manifest.digest


def fetch(
    loopback: Loopback, swarm: Swarm, digest: str, into: Path, names: list[str] | None = None
) -> Manifest:
    return loopback.run(SwarmStore(swarm).fetch(Reference.of_swarm(digest), into, names))
