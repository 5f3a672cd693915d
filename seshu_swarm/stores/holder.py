"""What this peer holds for others: gives out files of packages, and may take adapters in.

Packages lie in ROOT/DIGEST. Giving is limited by `allow_upload`; taking by kind, by size and by
budgets of a day, one for each peer and one for all, so that nobody can fill a stranger's disk.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from seshu_swarm import packages
from seshu_swarm.errors import (
    DeadlineError,
    DigestError,
    PackageError,
    from_os_error,
)
from seshu_swarm.packages import MANIFEST, Manifest
from seshu_swarm.stores.base import deadline_of, missing, settle
from seshu_swarm.stores.budget import Budget
from seshu_swarm.stores.limits import MAX_ADAPTER_BYTES
from seshu_swarm.streams.channel import Channel, refusal
from seshu_swarm.streams.protocol import (
    CHUNK_BYTES,
    BlobRequest,
    Chunk,
    FetchFile,
    OfferPackage,
    Refusal,
    Stored,
    WantFiles,
)

logger = logging.getLogger(__name__)

REQUEST_SECONDS = 30.0
MAX_BYTES_PER_PEER = 256 << 20
# A round of a thousand donors with adapters of 12 MB.
MAX_BYTES_OF_ALL = 16 << 30
# What a file takes of a disk, however short it is.
FILE_COST_BYTES = 4_096
# What a peer is sending: its name holds a random part, so a killed holder leaves it behind.
OFFERED = ".offered"


@dataclass(frozen=True)
class HolderPolicy:
    """`takes_adapters`: whether donors may leave adapters here. The budgets are those of a day."""

    takes_adapters: bool = False
    max_adapter_bytes: int = MAX_ADAPTER_BYTES
    max_bytes_per_peer: int = MAX_BYTES_PER_PEER
    max_bytes_of_all: int = MAX_BYTES_OF_ALL


class Holder:
    """Serves the stream BLOBS. `on_stored(digest)` is told of every package taken in."""

    def __init__(
        self,
        root: Path,
        *,
        policy: HolderPolicy,
        allow_upload: Callable[[int], bool],
        on_stored: Callable[[str], None],
    ) -> None:
        self._root, self._policy = root, policy
        self._allow_upload, self._on_stored = allow_upload, on_stored
        self._budget = Budget(
            peer_bytes=policy.max_bytes_per_peer, total_bytes=policy.max_bytes_of_all
        )
        for left_over in root.rglob("*" + OFFERED):
            left_over.unlink(missing_ok=True)

    async def serve(self, channel: Channel) -> None:
        """One request per stream: fetch a file, or offer a package."""
        asked = await channel.receive(BlobRequest, seconds=REQUEST_SECONDS, what="a request")
        match asked.request:
            case FetchFile() as fetch:
                await self._give(channel, fetch)
            case OfferPackage() as offer:
                await self._take(channel, offer)

    async def _give(self, channel: Channel, fetch: FetchFile) -> None:
        path = self._find(fetch.digest, fetch.name)
        size = path.stat().st_size - fetch.offset
        if size < 0 or not self._allow_upload(size):
            raise refusal(Refusal.UPLOAD_LIMIT, f"{size} bytes asked")
        with path.open("rb") as file:
            file.seek(fetch.offset)
            while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
                await channel.send(Chunk(data=data))

    def _find(self, digest: str, name: str) -> Path:
        folder = self._root / digest
        path = folder / name
        known = name == MANIFEST or (
            (folder / MANIFEST).is_file() and name in packages.read_manifest(folder).files
        )
        if not known or not path.is_file():
            raise refusal(Refusal.NOT_FOUND, f"{name} of {digest[:12]}")
        return path

    async def _take(self, channel: Channel, offer: OfferPackage) -> None:
        manifest = self._admit(offer)
        folder = self._root / manifest.digest
        names = missing(folder, manifest, None)
        costs = {name: manifest.files[name].size_bytes + FILE_COST_BYTES for name in names}
        if not (folder / MANIFEST).is_file():
            costs[MANIFEST] = len(offer.manifest) + FILE_COST_BYTES
        charge = self._budget.charge(channel.peer_id, sum(costs.values()), now=time.monotonic())
        try:
            await channel.send(WantFiles(names=names))
            for name in names:
                await self._receive(channel, folder / name, manifest, name)
                del costs[name]
            packages.write_whole(folder / MANIFEST, manifest.to_bytes())
            costs.clear()
        finally:
            # What did not arrive takes no room.
            self._budget.refund(charge, sum(costs.values()))
        self._on_stored(manifest.digest)
        await channel.send(Stored(digest=manifest.digest))

    def _admit(self, offer: OfferPackage) -> Manifest:
        try:
            manifest = packages.parse_manifest(offer.manifest)
        except PackageError as error:
            raise refusal(Refusal.MALFORMED, str(error)) from None
        if not self._policy.takes_adapters or manifest.kind != "adapter":
            raise refusal(Refusal.TOO_LARGE, "I take in no packages of this kind")
        if manifest.size_bytes > self._policy.max_adapter_bytes:
            raise refusal(Refusal.TOO_LARGE, f"{manifest.size_bytes} bytes; {self._policy}")
        return manifest

    async def _receive(self, channel: Channel, path: Path, manifest: Manifest, name: str) -> None:
        # Two peers may offer one package at once, and neither may wait for the other, which could
        # be slow on purpose: each writes a file of its own.
        entry, partial = (
            manifest.files[name],
            path.with_name(f"{path.name}.{token_hex(8)}{OFFERED}"),
        )
        received = 0
        ends_at = time.monotonic() + deadline_of(entry.size_bytes, silent_seconds=REQUEST_SECONDS)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                while received < entry.size_bytes:
                    chunk = await channel.receive(Chunk, seconds=REQUEST_SECONDS, what=name)
                    if time.monotonic() > ends_at:
                        raise DeadlineError(
                            f"{name} of peer …{channel.peer_id[-6:]} comes too slowly"
                        )
                    received += len(chunk.data)
                    if received > entry.size_bytes or not chunk.data:
                        raise refusal(Refusal.MALFORMED, f"{name} is longer than announced")
                    file.write(chunk.data)
            await settle(partial, path, entry)
        except DigestError as error:
            raise refusal(Refusal.MALFORMED, error.what) from None
        except OSError as error:
            raise from_os_error(error, str(path)) from error
        finally:
            partial.unlink(missing_ok=True)
