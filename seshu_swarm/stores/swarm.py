"""`swarm://`: packages from any peer that announced them; no account needed.

Fetching asks several holders at once, for each file one after another, goes on where a broken
transfer stopped, and believes nobody: the manifest must have the pinned digest and every file the
manifest's, and `admit` sees the manifest before any file is asked for. Pushing leaves the package
with peers that take it in (the coordinator and one other holder).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path

from seshu_swarm import packages
from seshu_swarm.errors import (
    DigestError,
    PeerError,
    PeerLostError,
    ProtocolError,
    from_os_error,
)
from seshu_swarm.network.dht import Swarm
from seshu_swarm.packages import MANIFEST, MAX_MANIFEST_BYTES, FileEntry, Manifest
from seshu_swarm.records import uids
from seshu_swarm.records.kinds import ProviderRecord
from seshu_swarm.stores import asking, receiving
from seshu_swarm.stores.asking import Patience, Providers
from seshu_swarm.stores.base import alone_in, missing, partial_of, settle
from seshu_swarm.stores.limits import Admit, anything
from seshu_swarm.stores.offering import offer
from seshu_swarm.stores.receiving import Wanted
from seshu_swarm.stores.references import Reference

logger = logging.getLogger(__name__)

MIN_HOLDERS = 2
# A home's upload is the narrow place: several holders give more than one.
FILES_AT_ONCE = 4


class SwarmStore:
    """`hints`: peers to ask early and to push to first, usually the coordinator.

    `admit` refuses manifests before any file is fetched. Strangers are asked with the patience
    `short` while somebody else is left to ask.
    """

    def __init__(
        self,
        swarm: Swarm,
        hints: Sequence[str] = (),
        *,
        admit: Admit = anything,
        short: Patience = asking.SHORT,
        long: Patience = asking.LONG,
    ) -> None:
        self._swarm, self._hints, self._admit = swarm, tuple(hints), admit
        self._short, self._long = short, long

    async def fetch(
        self, reference: Reference, into: Path, names: Iterable[str] | None = None
    ) -> Manifest:
        """Bring the named files (all by default) into `into`, from several holders at once.

        Raises PeerLostError when nobody gives a file (what was received is kept), PackageError,
        DiskFullError, ResourceError.
        """
        named = None if names is None else list(names)
        async with alone_in(into):
            manifest = self._kept(reference.digest, into)
            if manifest is not None and not missing(into, manifest, named):
                return manifest
            providers = await self._providers(reference.digest)
            if manifest is None:
                manifest = await self._manifest(reference.digest, into, providers)
            await self._files(providers, manifest, into, missing(into, manifest, named))
        return manifest

    def _kept(self, digest: str, into: Path) -> Manifest | None:
        if not (into / MANIFEST).is_file():
            return None
        manifest = packages.read_manifest(into, digest)
        self._admit(manifest)
        return manifest

    async def _providers(self, digest: str) -> Providers:
        """Who announced the package, and the hints; without ourselves."""
        keys = [uids.provider_key(self._swarm.run_id, digest)]
        found = await self._swarm.lookup(keys, ProviderRecord)
        known = {*self._hints, self._swarm.peer_id}
        strangers = [f.owner for f in found if f.owner not in known]
        hints = [peer for peer in self._hints if peer != self._swarm.peer_id]
        return Providers(strangers, hints, short=self._short, long=self._long)

    async def _manifest(self, digest: str, into: Path, providers: Providers) -> Manifest:
        what = f"{MANIFEST} of package {digest[:12]}"
        data = await providers.first_answer(partial(self._read_manifest, digest), what)
        manifest = packages.parse_manifest(data)
        self._admit(manifest)
        packages.write_whole(into / MANIFEST, data)
        return manifest

    async def _read_manifest(self, digest: str, peer: str, patience: Patience) -> bytes:
        data, wanted = b"", Wanted(digest, MANIFEST, 0, MAX_MANIFEST_BYTES)
        async with aclosing(receiving.chunks(self._swarm, peer, wanted, patience)) as chunks:
            async for chunk in chunks:
                data += chunk
        if hashlib.sha256(data).hexdigest() != digest:
            raise DigestError(f"peer …{peer[-6:]} sent another manifest")
        return data

    async def _files(
        self, providers: Providers, manifest: Manifest, into: Path, names: Sequence[str]
    ) -> None:
        free = asyncio.Semaphore(FILES_AT_ONCE)

        async def one(turn: int, name: str) -> None:
            entry = manifest.files[name]
            wanted = Wanted(manifest.digest, name, 0, entry.size_bytes)
            ask = partial(self._fetch_file, into / name, wanted, entry)
            async with free:
                what = f"{name} of package {manifest.digest[:12]}"
                await providers.first_answer(ask, what, turn=turn)

        await asking.all_of(one(turn, name) for turn, name in enumerate(names))

    async def _fetch_file(
        self, path: Path, whole: Wanted, entry: FileEntry, peer: str, patience: Patience
    ) -> None:
        part = partial_of(path)
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            resumed_bytes = part.stat().st_size if part.exists() else 0
            await self._append(part, whole, peer, patience)
            await settle(part, path, entry)
        except (ProtocolError, DigestError):
            part.unlink(missing_ok=True)
            if resumed_bytes == 0:
                raise
            # What another peer gave before may be what is wrong: once more, from the start.
            await self._fetch_file(path, whole, entry, peer, patience)
        except OSError as error:
            raise from_os_error(error, str(path)) from error

    async def _append(self, part: Path, whole: Wanted, peer: str, patience: Patience) -> None:
        """Go on with a partial file where it stops."""
        offset = part.stat().st_size if part.exists() else 0
        if offset > whole.most:
            raise DigestError(f"{part.name} is longer than {whole.most} bytes")
        wanted = replace(whole, offset=offset, most=whole.most - offset)
        with part.open("ab") as file:
            async with aclosing(receiving.chunks(self._swarm, peer, wanted, patience)) as chunks:
                async for data in chunks:
                    file.write(data)

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
