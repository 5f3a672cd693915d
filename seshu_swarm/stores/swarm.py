"""`swarm://`: packages from any peer that announced them; no account needed.

Fetching asks several holders at once, for each file one after another, goes on where a broken
transfer stopped, and believes nobody: the manifest must have the pinned digest and every file the manifest's. Pushing leaves
the package with peers that take it in (the coordinator and one other holder).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from seshu_swarm import packages, uids
from seshu_swarm.channel import Channel
from seshu_swarm.dht import Swarm
from seshu_swarm.errors import (
    DeadlineError,
    DigestError,
    PeerError,
    PeerLostError,
    ProtocolError,
    from_os_error,
)
from seshu_swarm.packages import MANIFEST, MAX_MANIFEST_BYTES, FileEntry, Manifest
from seshu_swarm.protocol import (
    BLOBS,
    BlobRequest,
    Chunk,
    FetchFile,
)
from seshu_swarm.records import ProviderRecord
from seshu_swarm.references import Reference
from seshu_swarm.stores.base import MIN_BYTES_PER_SECOND, deadline_of, missing, partial_of, settle
from seshu_swarm.stores.offering import offer

logger = logging.getLogger(__name__)

CHUNK_SECONDS = 20.0
RETRY_SECONDS = (0.0, 0.3, 1.5)
MIN_HOLDERS = 2
# A home's upload is the narrow place: several holders give more than one.
FILES_AT_ONCE = 4

Answer = TypeVar("Answer")


class SwarmStore:
    """`hints`: peers to ask first and to push to first, usually the coordinator."""

    def __init__(self, swarm: Swarm, hints: Sequence[str] = ()) -> None:
        self._swarm, self._hints = swarm, tuple(hints)

    async def fetch(
        self, reference: Reference, into: Path, names: Iterable[str] | None = None
    ) -> Manifest:
        """Bring the named files (all by default) into `into`, from several holders at once.

        Raises PeerLostError when nobody gives a file (what was received is kept), PackageError,
        DiskFullError, ResourceError.
        """
        others = await self._holders(reference.digest)
        manifest = await self._manifest(reference.digest, into, self._in_turn(others, 0))
        free = asyncio.Semaphore(FILES_AT_ONCE)

        async def one(turn: int, name: str) -> None:
            ask = partial(
                self._fetch_file,
                digest=manifest.digest,
                path=into / name,
                name=name,
                manifest=manifest,
            )
            async with free:
                what = f"{name} of package {manifest.digest[:12]}"
                await first_answer(self._in_turn(others, turn), ask, what)

        wanted = missing(into, manifest, names)
        await all_of(one(turn, name) for turn, name in enumerate(wanted))
        return manifest

    async def _holders(self, digest: str) -> list[str]:
        """Who announced the package, without those who are hints, and without ourselves."""
        keys = [uids.provider_key(self._swarm.run_id, digest)]
        found = await self._swarm.lookup(keys, ProviderRecord)
        known = {*self._hints, self._swarm.peer_id}
        return sorted(f.owner for f in found if f.owner not in known)

    def _in_turn(self, others: Sequence[str], turn: int) -> list[str]:
        """Another holder first for each file and for each of us, so that the load is spread."""
        own = int.from_bytes(hashlib.sha256(self._swarm.peer_id.encode()).digest()[:4])
        first = (own + turn) % len(others) if others else 0
        # Hints last: the coordinator is the hint of everybody.
        peers = [*others[first:], *others[:first], *self._hints]
        return [peer for peer in peers if peer != self._swarm.peer_id]

    async def _manifest(self, digest: str, into: Path, providers: list[str]) -> Manifest:
        if (into / MANIFEST).is_file():
            return packages.read_manifest(into, digest)

        async def ask(peer: str) -> bytes:
            data = await self._read_small(peer, digest)
            if hashlib.sha256(data).hexdigest() != digest:
                raise DigestError(f"peer …{peer[-6:]} sent another manifest")
            return data

        data = await first_answer(providers, ask, f"{MANIFEST} of package {digest[:12]}")
        manifest = packages.parse_manifest(data)
        packages.write_whole(into / MANIFEST, data)
        return manifest

    async def _read_small(self, peer: str, digest: str) -> bytes:
        data = b""
        chunks = self._chunks(peer, digest, MANIFEST, 0, most=MAX_MANIFEST_BYTES)
        async with aclosing(chunks):
            async for chunk in chunks:
                data += chunk
        return data

    async def _fetch_file(
        self, peer: str, *, digest: str, path: Path, name: str, manifest: Manifest
    ) -> None:
        entry, part = manifest.files[name], partial_of(path)
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            resumed_bytes = part.stat().st_size if part.exists() else 0
            await self._append(peer, digest, name, part, entry)
            settle(part, path, entry)
        except (ProtocolError, DigestError):
            part.unlink(missing_ok=True)
            if resumed_bytes == 0:
                raise
            # What another peer gave before may be what is wrong: once more, from the start.
            await self._fetch_file(peer, digest=digest, path=path, name=name, manifest=manifest)
        except OSError as error:
            raise from_os_error(error, str(path)) from error

    async def _append(
        self, peer: str, digest: str, name: str, partial: Path, entry: FileEntry
    ) -> None:
        """Go on with a partial file where it stops."""
        offset = partial.stat().st_size if partial.exists() else 0
        if offset > entry.size_bytes:
            raise DigestError(f"{partial} is longer than {entry.size_bytes} bytes")
        chunks = self._chunks(peer, digest, name, offset, most=entry.size_bytes - offset)
        with partial.open("ab") as file:
            async with aclosing(chunks):
                async for data in chunks:
                    file.write(data)

    async def _chunks(
        self, peer: str, digest: str, name: str, offset: int, *, most: int
    ) -> AsyncGenerator[bytes, None]:
        """Bytes of a file from `offset` on, at most `most` of them, and none of them too slowly."""
        what, received = f"{name} of {digest[:12]}", 0
        ends_at = time.monotonic() + deadline_of(most, silent_seconds=CHUNK_SECONDS)
        stream = await self._ask(peer, digest, name, offset)
        try:
            while chunk := await stream.receive_or_end(Chunk, seconds=CHUNK_SECONDS, what=what):
                received += len(chunk.data)
                if received > most or not chunk.data:
                    raise ProtocolError(
                        f"{what} is longer than {offset + most} bytes, or stands still"
                    )
                if time.monotonic() > ends_at:
                    raise DeadlineError(
                        f"…{peer[-6:]} gave {received} bytes of {what} in all its time",
                        rule=f"at least {MIN_BYTES_PER_SECOND} bytes per second",
                    )
                yield chunk.data
        finally:
            stream.close()

    async def _ask(self, peer: str, digest: str, name: str, offset: int) -> Channel:
        stream = await self._swarm.open(peer, BLOBS)
        await stream.send(BlobRequest(request=FetchFile(digest=digest, name=name, offset=offset)))
        return stream

    async def push(self, folder: Path, digest: str) -> Reference:
        """Leave the package with its holders. Raises PeerError when nobody takes it."""
        manifest = packages.verify(folder, digest)
        return await self.push_to(self._hints, folder, manifest, holders=1)

    async def push_to(
        self, peers: Sequence[str], folder: Path, manifest: Manifest, *, holders: int = MIN_HOLDERS
    ) -> Reference:
        """Leave the package with `holders` of the peers, trying them in order."""
        failures, stored = [], 0
        for peer in peers:
            if stored == holders:
                break
            try:
                await offer(self._swarm, peer, folder, manifest)
                stored += 1
            except PeerError as error:
                failures.append(str(error))
        if stored == 0:
            raise PeerLostError(
                f"nobody took package {manifest.digest[:12]}: {'; '.join(failures) or 'no peer'}",
                rule="the coordinator or another holder must keep it before it is announced",
                way_out="try again when the coordinator is back, or use --store hub",
            )
        return Reference.of_swarm(manifest.digest)


async def all_of(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do all of them at once; where one fails, the others are ended first."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def first_answer(
    peers: Sequence[str], ask: Callable[[str], Awaitable[Answer]], what: str
) -> Answer:
    """Ask one peer after another; those whose stream broke are asked again after a while.

    libp2p resets streams when it drops the second of two connections that two peers opened to
    each other at once, which happens just when a peer joins. Raises PeerLostError.
    """
    failures, left = [], list(peers)
    for wait_seconds in RETRY_SECONDS:
        await asyncio.sleep(wait_seconds)
        for peer in list(left):
            try:
                return await ask(peer)
            except PeerLostError as error:
                failures.append(str(error))
            except (PeerError, DigestError) as error:
                logger.debug("%s: %s", what, error)
                failures.append(str(error))
                left.remove(peer)
    raise PeerLostError(
        f"no provider gave {what}: {'; '.join(failures) or 'none known'}",
        rule="at least one peer that holds it must be reachable",
        way_out="try again in a minute; the transfer goes on where it stopped",
    )
