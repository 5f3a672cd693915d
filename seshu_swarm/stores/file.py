"""`file://`: packages in folders of this machine (or of a shared disk)."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable
from pathlib import Path

from seshu_swarm import packages
from seshu_swarm.errors import DigestError, from_os_error
from seshu_swarm.packages import MANIFEST, FileEntry, Manifest
from seshu_swarm.stores.base import alone_in, missing, partial_of, settle
from seshu_swarm.stores.limits import Admit, anything
from seshu_swarm.stores.references import Reference


class FileStore:
    """Pushes into `root`/DIGEST; fetches from whatever folder a reference names.

    `admit` refuses manifests before any file is copied.
    """

    def __init__(self, root: Path, *, admit: Admit = anything) -> None:
        self._root, self._admit = root, admit

    async def fetch(
        self, reference: Reference, into: Path, names: Iterable[str] | None = None
    ) -> Manifest:
        source = Path(reference.place)
        manifest = packages.read_manifest(source, reference.digest)
        self._admit(manifest)
        async with alone_in(into):
            try:
                for name in missing(into, manifest, names):
                    await self._copy(source / name, into / name, manifest.files[name])
            except OSError as error:
                raise from_os_error(error, str(into)) from error
            packages.write_whole(into / MANIFEST, manifest.to_bytes())
        return manifest

    async def _copy(self, source: Path, path: Path, entry: FileEntry) -> None:
        # A folder that a stranger's reference names may hold more than its manifest says.
        if (found_bytes := source.stat().st_size) != entry.size_bytes or not source.is_file():
            raise DigestError(
                f"{source.name} has {found_bytes} bytes", rule=f"a file of {entry.size_bytes} bytes"
            )
        partial = partial_of(path)
        partial.parent.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(shutil.copyfile, source, partial)
        await settle(partial, path, entry)

    async def push(self, folder: Path, digest: str) -> Reference:
        packages.verify(folder, digest)
        kept = self._root / digest
        reference = Reference.of_folder(kept, digest)
        await self.fetch(Reference.of_folder(folder, digest), kept)
        return reference
