"""`file://`: packages in folders of this machine (or of a shared disk)."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from seshu_swarm import packages
from seshu_swarm.errors import from_os_error
from seshu_swarm.packages import MANIFEST, Manifest
from seshu_swarm.references import Reference
from seshu_swarm.stores.base import missing, partial_of, settle


class FileStore:
    """Pushes into `root`/DIGEST; fetches from whatever folder a reference names."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def fetch(
        self, reference: Reference, into: Path, names: Iterable[str] | None = None
    ) -> Manifest:
        source = Path(reference.place)
        manifest = packages.read_manifest(source, reference.digest)
        try:
            for name in missing(into, manifest, names):
                partial = partial_of(into / name)
                partial.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, partial)
                settle(partial, into / name, manifest.files[name])
        except OSError as error:
            raise from_os_error(error, str(into)) from error
        packages.write_whole(into / MANIFEST, manifest.to_bytes())
        return manifest

    async def push(self, folder: Path, digest: str) -> Reference:
        packages.verify(folder, digest)
        kept = self._root / digest
        reference = Reference.of_folder(kept, digest)
        await self.fetch(Reference.of_folder(folder, digest), kept)
        return reference
