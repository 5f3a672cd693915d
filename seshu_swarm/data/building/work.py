"""The folder of unfinished work: OUT/.work/{spools,settled,packed}, for one recipe and its inputs.

`key` is the digest of everything the output follows from. Work with another key is of no use and
is removed. Knows no tasks.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from seshu_swarm.errors import UsageError, from_os_error
from seshu_swarm.packages import MANIFEST, read_manifest, write_whole

FOLDER, KEY = ".work", "key"


@dataclass(frozen=True)
class Work:
    """`out` holds the finished catalogue; the rest is gone once that is whole."""

    out: Path

    @property
    def folder(self) -> Path:
        return self.out / FOLDER

    @property
    def spools(self) -> Path:
        return self.folder / "spools"

    @property
    def settled(self) -> Path:
        return self.folder / "settled"

    @property
    def packed(self) -> Path:
        return self.folder / "packed"

    def finished(self, key: str) -> str | None:
        """The digest of the catalogue, if `out` holds the one of this key already.

        Raises UsageError where it holds anything else than a catalogue or unfinished work.
        """
        if (self.out / MANIFEST).exists():
            manifest = read_manifest(self.out)
            if manifest.about.get("key") == key:
                self.end()
                return manifest.digest
            raise UsageError(
                f"{self.out} holds the catalogue of another recipe, or of other inputs",
                rule="a catalogue is never changed",
                way_out="choose a new folder with --out",
            )
        others = self.out.is_dir() and any(path.name != FOLDER for path in self.out.iterdir())
        if others and not (self.folder / KEY).exists():
            raise UsageError(
                f"{self.out} holds other files",
                rule="a catalogue has a folder of its own",
                way_out="choose a new folder with --out",
            )
        return None

    def begin(self, key: str) -> bool:
        """Make the folders, keeping work of this key; whether there was any. Raises ResourceError."""
        try:
            path = self.folder / KEY
            is_ours = path.exists() and path.read_text() == key
            if not is_ours and self.folder.exists():
                shutil.rmtree(self.folder)
            for folder in (self.spools, self.settled, self.packed):
                folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, key.encode())
        except OSError as error:
            raise from_os_error(error, str(self.out)) from error
        return is_ours

    def end(self) -> None:
        """Remove what the catalogue no longer needs."""
        shutil.rmtree(self.folder, ignore_errors=True)
