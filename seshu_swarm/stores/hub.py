"""`hf://`: packages as commits of a Hugging Face repository.

Files are streamed into the target folder's own partial files: nothing passes through the user's
Hugging Face cache, a broken transfer goes on where it stopped, and never more bytes are taken
than the manifest names. The repository's owner is not trusted: the manifest must have the pinned
digest and its sizes fit `max_bytes` before any file is fetched.

huggingface_hub is imported where it is used: it reads HF_ENDPOINT and its other switches when it
is imported, and the hosting path does without it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from pathlib import Path

from seshu_swarm import packages
from seshu_swarm.errors import (
    DigestError,
    PackageError,
    PeerLostError,
    SeshuError,
    from_os_error,
)
from seshu_swarm.packages import MANIFEST, MAX_MANIFEST_BYTES, FileEntry, Manifest
from seshu_swarm.stores.base import (
    MIN_BYTES_PER_SECOND,
    alone_in,
    deadline_of,
    missing,
    partial_of,
    settle,
)
from seshu_swarm.stores.limits import MAX_ADAPTER_BYTES, Admit, anything
from seshu_swarm.stores.references import Reference
from seshu_swarm.stores.repository import ANSWER_SECONDS, HubRepository, hub_error

logger = logging.getLogger(__name__)

ATTEMPTS = 3
PAUSE_SECONDS = 0.5
# As much as a holder takes in: what strangers refer us to on the Hub are adapters.
MAX_FETCH_BYTES = MAX_ADAPTER_BYTES
# The manifest does not name the model card, so that it may be amended; the Hub shows it.
CARD = "README.md"


class HubStore:
    """Pushes to `repository` (OWNER/NAME); fetches any commit that a reference names.

    `max_bytes` bounds what one fetch may take, `admit` refuses manifests before any file is
    fetched. `seconds` is how long the Hub may be silent.
    """

    def __init__(
        self,
        repository: str = "",
        token: str | None = None,
        *,
        max_bytes: int = MAX_FETCH_BYTES,
        seconds: float = ANSWER_SECONDS,
        admit: Admit = anything,
    ) -> None:
        self._repository, self._token, self._admit = repository, token, admit
        self._max_bytes, self._seconds = max_bytes, seconds

    async def fetch(
        self, reference: Reference, into: Path, names: Iterable[str] | None = None
    ) -> Manifest:
        """Bring the named files (all by default) into `into`.

        Raises DigestError, PackageError (the Hub says no, or too large), PeerLostError (the Hub
        cannot be reached; what was received is kept), DiskFullError, ResourceError.
        """
        async with alone_in(into):
            manifest = await self._manifest(reference, into)
            self._admit(manifest)
            wanted = missing(into, manifest, names)
            self._check_size(reference, sum(manifest.files[name].size_bytes for name in wanted))
            for name in wanted:
                await self._file(reference, into / name, name, manifest.files[name])
            packages.write_whole(into / MANIFEST, manifest.to_bytes())
        return manifest

    async def _manifest(self, reference: Reference, into: Path) -> Manifest:
        if (into / MANIFEST).is_file():
            return packages.read_manifest(into, reference.digest)
        data = b""
        answer = self._answer(reference, MANIFEST, offset=0, limit=MAX_MANIFEST_BYTES)
        seconds = deadline_of(MAX_MANIFEST_BYTES, silent_seconds=self._seconds)
        try:
            async with asyncio.timeout(seconds), aclosing(answer) as chunks:
                async for chunk in chunks:
                    data += chunk
        except TimeoutError:
            raise _too_slow(MANIFEST, len(data), seconds) from None
        found = hashlib.sha256(data).hexdigest()
        if found != reference.digest:
            raise DigestError(
                f"{MANIFEST} at {reference.place} has digest {found}",
                rule=f"{reference.digest} was announced",
            )
        return packages.parse_manifest(data)

    def _check_size(self, reference: Reference, size: int) -> None:
        if size > self._max_bytes:
            raise PackageError(
                f"{reference} asks for {size} bytes",
                rule=f"at most {self._max_bytes} bytes are fetched from the Hub at once",
                way_out="publish a smaller package, or fetch its files a few at a time",
            )

    async def _file(self, reference: Reference, path: Path, name: str, entry: FileEntry) -> None:
        """Resume what lies in the partial file; take a broken transfer up again."""
        partial = partial_of(path)
        for attempt in range(1, ATTEMPTS + 1):
            is_resumed = partial.exists()
            try:
                await self._append(reference, partial, name, entry)
                await settle(partial, path, entry)
                return
            except (PeerLostError, DigestError) as error:
                # Wrong bytes may be left from an earlier transfer, unless all of them are new.
                is_final = isinstance(error, DigestError) and not is_resumed
                if is_final or attempt == ATTEMPTS:
                    raise
                logger.debug("fetching %s, attempt %d: %s", name, attempt, error)
            except OSError as error:
                raise from_os_error(error, str(path)) from error
            await asyncio.sleep(PAUSE_SECONDS)

    async def _append(
        self, reference: Reference, partial: Path, name: str, entry: FileEntry
    ) -> None:
        partial.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("ab") as file:
            if file.tell() >= entry.size_bytes:
                # Whole already, or not of this file: settling tells.
                return
            offset = file.tell()
            seconds = deadline_of(entry.size_bytes - offset, silent_seconds=self._seconds)
            answer = self._answer(reference, name, offset=offset, limit=entry.size_bytes)
            try:
                async with asyncio.timeout(seconds), aclosing(answer) as chunks:
                    async for chunk in chunks:
                        file.write(chunk)
            except DigestError:
                partial.unlink()
                raise
            except TimeoutError:
                raise _too_slow(name, file.tell() - offset, seconds) from None

    async def _answer(
        self, reference: Reference, name: str, *, offset: int, limit: int
    ) -> AsyncGenerator[bytes, None]:
        """Bytes of a file from `offset` on; DigestError when it goes on past `limit` bytes."""
        from huggingface_hub import get_async_session, hf_hub_url

        # Documented there, but not exported in the way that mypy wants.
        from huggingface_hub.utils import (  # type: ignore[attr-defined]
            build_hf_headers,
            hf_raise_for_status,
        )

        repository, commit = reference.repository
        try:
            url = hf_hub_url(repository, name, revision=commit)
            headers = build_hf_headers(token=self._token)
            # Compressed bytes have other offsets.
            headers["Accept-Encoding"] = "identity"
            if offset:
                headers["Range"] = f"bytes={offset}-"
            async with (
                get_async_session() as client,
                client.stream("GET", url, headers=headers, timeout=self._seconds) as response,
            ):
                hf_raise_for_status(response)
                # 206: from the offset on; 200: the Range was ignored, all of it comes.
                position = offset if response.status_code == 206 else 0
                async for data in response.aiter_bytes():
                    position += len(data)
                    if position > limit:
                        raise DigestError(
                            f"{name} at {reference.place} goes on past {limit} bytes",
                            rule="no file is longer than was announced",
                        )
                    fresh = min(len(data), position - offset)
                    if fresh > 0:
                        yield data[-fresh:]
        except SeshuError:
            raise
        except Exception as error:
            raise hub_error(error, f"give {name} of {reference.place}") from error

    async def push(self, folder: Path, digest: str) -> Reference:
        """Publish a whole package as one commit. Raises PackageError, PeerLostError."""
        manifest = packages.verify(folder, digest)
        names = [MANIFEST, *manifest.files]
        if CARD not in manifest.files and (folder / CARD).is_file():
            names.append(CARD)
        return await asyncio.to_thread(self._push, folder, digest, names)

    def _push(self, folder: Path, digest: str, names: list[str]) -> Reference:
        repository = HubRepository(self._repository, self._token, seconds=self._seconds)
        repository.create()
        files = {name: folder / name for name in names}
        commit = repository.commit(files, f"Publish {digest[:12]}")
        return Reference("hf", f"{self._repository}@{commit}", digest)


def _too_slow(name: str, num_bytes: int, seconds: float) -> PeerLostError:
    return PeerLostError(
        f"the Hub gave {num_bytes} bytes of {name} in {seconds:.1f} s",
        rule=f"at least {MIN_BYTES_PER_SECOND} bytes per second",
        way_out="try again later; the transfer goes on where it stopped",
    )
