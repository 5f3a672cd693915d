"""`coordinator backup FILE`: what cannot be made again, in one .tar.gz that only its owner reads.

The ledger is copied by SQLite's online backup, first, so that everything it names is in the folder
already: `coordinator run` may go on meanwhile. The last member, `backup.json`, has size and digest
of all others and the packages that the run needs. Knows no restoring (`restore`).
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

from seshu_swarm import __version__
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.coordinator.upkeep.config import BackupConfig
from seshu_swarm.coordinator.upkeep.needed import needed_packages
from seshu_swarm.errors import UsageError, from_os_error
from seshu_swarm.packages import FileEntry, is_digest
from seshu_swarm.program import log

CONTENTS = "backup.json"
FORMAT = 1
PARTIAL = ".partial"


@dataclass(frozen=True)
class Contents:
    """`files` of the backup by their name in it; `needed`: digests of the run's packages."""

    format: int
    version: str
    run_id: str
    made_at: float
    files: dict[str, FileEntry]
    needed: tuple[str, ...]


def run(settings: BackupConfig) -> int:
    folder, file = RunFolder.of(settings.state_dir), Path(settings.file).expanduser()
    folder.must_exist()
    contents = write_backup(folder, file, with_packages=settings.packages)
    size_bytes = file.stat().st_size
    text = (
        f"backup of run {contents.run_id!r}: {file}, {len(contents.files)} files, {size_bytes} bytes\n"
        "It holds the run's key, salts and hold-outs: keep it where the originals would be safe.\n"
        "Never run both copies: two coordinators with one key sign two different rounds."
    )
    log.event("backup", text, file=str(file), num_files=len(contents.files), size_bytes=size_bytes)
    return 0


def write_backup(folder: RunFolder, file: Path, *, with_packages: bool) -> Contents:
    """Write the backup whole, mode 0600. Raises UsageError where the file exists, DiskFullError."""
    _check_place(folder, file)
    partial = file.with_name(file.name + PARTIAL)
    try:
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            contents = _write(folder, stream, with_packages=with_packages)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, file)
    except OSError as error:
        raise from_os_error(error, str(file)) from error
    finally:
        partial.unlink(missing_ok=True)
    return contents


def _check_place(folder: RunFolder, file: Path) -> None:
    if file.exists():
        raise UsageError(
            f"{file} exists already",
            rule="a backup never replaces another",
            way_out="name a new file, with the date for instance",
        )
    if file.resolve().is_relative_to(folder.path.resolve()):
        raise UsageError(
            f"{file} lies in the run's own folder",
            rule="a backup is for the day that folder is lost",
            way_out="write it to another disk or machine",
        )
    if not file.parent.is_dir():
        raise UsageError(f"there is no folder {file.parent}", way_out="make it first")


def _write(folder: RunFolder, stream: IO[bytes], *, with_packages: bool) -> Contents:
    files: dict[str, FileEntry] = {}
    with (
        tarfile.open(fileobj=stream, mode="w:gz") as tar,
        tempfile.TemporaryDirectory(prefix="seshu-backup-") as scratch,
    ):
        copy = RunFolder(Path(scratch))
        copy_ledger(folder.ledger, copy.ledger)
        files[copy.ledger.name] = _add(tar, copy.ledger, copy.ledger.name)
        for path in _paths(folder, with_packages=with_packages):
            name = path.relative_to(folder.path).as_posix()
            try:
                files[name] = _add(tar, path, name)
            except FileNotFoundError:
                continue  # a round's half of a file, moved into place meanwhile
        ledger = Ledger(copy.ledger)
        run_id = str(ledger.fact("run_id"))
        needed = needed_packages(ledger)
        contents = Contents(FORMAT, __version__, run_id, time.time(), files, needed)
        data = json.dumps(asdict(contents), indent=1, sort_keys=True).encode()
        tar.addfile(_header(CONTENTS, len(data)), BytesIO(data))
    return contents


def copy_ledger(source: Path, copy: Path) -> None:
    """A consistent copy of a ledger that others write to."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(copy)) as new:
        os.chmod(copy, 0o600)
        old.backup(new)
        # One plain file: whoever unpacks it has no write-ahead log to lose.
        new.execute("PRAGMA journal_mode=DELETE")


def _paths(folder: RunFolder, *, with_packages: bool) -> Iterator[Path]:
    """Files to copy, beside the ledger; the lock, what scorers work on, states of training through peers
    and what is half written stay out."""
    left_out = (folder.lock.name, folder.scoring.name, folder.training.name)
    for path in sorted(folder.path.rglob("*")):
        first, *rest = path.relative_to(folder.path).parts
        if not path.is_file() or path.is_symlink() or PARTIAL in path.name:
            continue
        if first in left_out or first.startswith(folder.ledger.name):
            continue
        if first == folder.packages.name and not (with_packages and is_digest(rest[0])):
            continue
        yield path


def _header(name: str, size_bytes: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size, header.mode, header.mtime = size_bytes, 0o600, int(time.time())
    return header


class _Hashed:
    """A file that is hashed while tarfile reads it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.sha256 = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.sha256.update(data)
        return data


def _add(tar: tarfile.TarFile, path: Path, name: str) -> FileEntry:
    # Opened once: a file that is replaced meanwhile is copied as it was, whole.
    with path.open("rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        hashed = _Hashed(file)
        tar.addfile(_header(name, size_bytes), hashed)
    return FileEntry(size_bytes, hashed.sha256.hexdigest())
