"""What every store does, and what they share: partial files, digests, resuming, locks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

from seshu_swarm import packages
from seshu_swarm.errors import DigestError, PackageError
from seshu_swarm.packages import PARTIAL, FileEntry, Manifest
from seshu_swarm.stores.references import Reference

# A giver that keeps just below every time-out must not hold a transfer for ever.
MIN_BYTES_PER_SECOND = 10_000

# A lock lives as long as someone holds it or waits for it.
_LOCKS: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()


class Store(Protocol):
    """Fetch files of a package by reference, or push a package."""

    async def fetch(
        self, reference: Reference, into: Path, names: Iterable[str] | None = None
    ) -> Manifest:
        """Bring the named files (all by default) into `into`. Raises PackageError, PeerError."""
        ...

    async def push(self, folder: Path, digest: str) -> Reference:
        """Publish a whole package. Raises PackageError, PeerError."""
        ...


def alone_in(folder: Path) -> asyncio.Lock:
    """One fetch of this process at a time into a folder: two would write one partial file."""
    lock = _LOCKS.get(folder.resolve())
    if lock is None:
        lock = _LOCKS[folder.resolve()] = asyncio.Lock()
    return lock


def missing(folder: Path, manifest: Manifest, names: Iterable[str] | None) -> list[str]:
    """Names that are not yet whole in `folder`. Files are moved into place only when verified."""
    wanted = list(manifest.files if names is None else names)
    unknown = sorted(set(wanted) - set(manifest.files))
    if unknown:
        raise PackageError(
            f"package has no file {unknown[0]!r}", rule="the manifest names all files"
        )
    return [n for n in wanted if not _is_whole(folder / n, manifest.files[n])]


def _is_whole(path: Path, entry: FileEntry) -> bool:
    return path.is_file() and path.stat().st_size == entry.size_bytes


def deadline_of(num_bytes: int, *, silent_seconds: float) -> float:
    """Most seconds that a transfer may take in all, where one silence may take `silent_seconds`."""
    return silent_seconds + num_bytes / MIN_BYTES_PER_SECOND


def partial_of(path: Path) -> Path:
    return path.with_name(path.name + PARTIAL)


def drop_partials(folder: Path) -> None:
    """Delete what was begun and will not be gone on with."""
    # What cannot be deleted now is no reason to fail: it is bounded, and settled by nobody.
    with contextlib.suppress(OSError):
        for partial in folder.rglob("*" + PARTIAL):
            partial.unlink(missing_ok=True)


async def settle(partial: Path, path: Path, entry: FileEntry) -> None:
    """Move a fetched file into place if it is what the manifest says; else delete it.

    In a thread: hashing a shard takes longer than other streams of the loop can wait.
    """
    await asyncio.to_thread(_settle, partial, path, entry)


def _settle(partial: Path, path: Path, entry: FileEntry) -> None:
    found = packages.digest_of(partial)
    if partial.stat().st_size != entry.size_bytes or found != entry.digest:
        partial.unlink()
        raise DigestError(
            f"{path.name} arrived with SHA-256 {found}", rule=f"{entry.digest} expected"
        )
    partial.replace(path)
