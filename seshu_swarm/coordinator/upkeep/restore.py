"""`coordinator restore FILE`: a run folder from its backup, checked before it takes its place.

The file may have been in strangers' hands: names that would leave the folder, links and devices
are refused, and every byte is held against the digests in `backup.json`. That says the copy is
whole, not that nobody has read it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import zlib
from pathlib import Path
from typing import Any

from seshu_swarm.coordinator.conducting.kept import drop_open_plan
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.coordinator.upkeep.backup import CONTENTS, FORMAT, Contents
from seshu_swarm.coordinator.upkeep.config import RestoreConfig
from seshu_swarm.errors import DigestError, PackageError, UsageError, from_os_error
from seshu_swarm.packages import FileEntry, check_name, is_digest
from seshu_swarm.program import log

CHUNK_BYTES = 1 << 20
MAX_CONTENTS_BYTES = 64 << 20


def run(settings: RestoreConfig) -> int:
    folder = RunFolder.of(settings.state_dir)
    final = RunFolder(folder.path.resolve())
    contents = restore_backup(Path(settings.file).expanduser(), folder)
    missing = [digest for digest in contents.needed if not folder.package(digest).is_dir()]
    lines = [
        f"restored run {contents.run_id!r} into {folder.path}: {len(contents.files)} files",
        "Never run both copies: two coordinators with one key sign two different rounds.",
    ]
    if missing:
        lines += [f"These packages are needed and missing in {folder.packages}:"]
        lines += [f"  {digest}" for digest in missing]
        lines += ["Copy them from the old machine or from a peer that holds them, before `run`."]
    if plan := drop_open_plan(Ledger(final.ledger)):
        lines += [
            f"Plan {plan.plan} of training through peers is not taken up: its members may be ahead.",
            "`run --stages` makes another one, from the head.",
        ]
    log.event("restored", "\n".join(lines), run_id=contents.run_id, missing=missing)
    return 0


def restore_backup(file: Path, folder: RunFolder) -> Contents:
    """Unpack into `folder`, which appears whole or not at all.

    Raises UsageError where the folder is not empty or another restore left its half, PackageError for a file that is no backup or is
    cut short, DigestError for changed bytes.
    """
    if folder.path.exists() and any(folder.path.iterdir()):
        raise UsageError(
            f"{folder.path} is not empty",
            rule="a backup is restored into a folder of its own",
            way_out="choose another --state-dir, or move that one away",
        )
    # Resolved: "." has no name to make another of, and a link's target is what the run lies in.
    final = folder.path.resolve()
    partial = final.with_name(f"{final.name}.partial")
    _make(partial)
    try:
        contents = _unpack(file, partial)
        if final.exists():
            final.rmdir()
        os.replace(partial, final)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise PackageError(
            f"{file} cannot be read as a backup: {error}",
            rule="one .tar.gz, as `coordinator backup` writes it",
            way_out="copy it again, or take an older backup",
        ) from None
    except OSError as error:
        raise from_os_error(error, str(error.filename or file)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return contents


def _make(partial: Path) -> None:
    """Raises UsageError where it is there already: nobody says that it is ours to remove."""
    try:
        partial.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise UsageError(
            f"{partial} is there already",
            rule="a backup is unpacked there before it takes its place",
            way_out="an earlier restore was killed, or works now: remove it once none does",
        ) from None
    except OSError as error:
        raise from_os_error(error, str(partial)) from error


def _unpack(file: Path, folder: Path) -> Contents:
    found: dict[str, FileEntry] = {}
    contents: Contents | None = None
    with tarfile.open(file, mode="r:gz") as tar:
        for member in tar:
            check_name(member.name)
            if not member.isreg() or member.name in found or contents is not None:
                raise PackageError(
                    f"{file}: {member.name!r} is no plain file, or comes twice, or after {CONTENTS}",
                    rule=f"plain files, each once, {CONTENTS} last",
                    way_out="take another backup",
                )
            if member.name == CONTENTS:
                contents = _contents_of(tar, member)
            else:
                found[member.name] = _write(tar, member, folder / member.name)
    if contents is None:
        raise PackageError(f"{file} has no {CONTENTS}", rule="every backup ends with it")
    _check(file, found, contents.files)
    return contents


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> FileEntry:
    source = tar.extractfile(member)
    if source is None:
        raise PackageError(f"{member.name!r} has no bytes")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    sha256, size_bytes = hashlib.sha256(), 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with source, os.fdopen(descriptor, "wb") as target:
        while data := source.read(CHUNK_BYTES):
            sha256.update(data)
            size_bytes += len(data)
            target.write(data)
    return FileEntry(size_bytes, sha256.hexdigest())


def _contents_of(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Contents:
    source = tar.extractfile(member)
    data = source.read(MAX_CONTENTS_BYTES) if source else b""
    try:
        table: dict[str, Any] = json.loads(data)
        files = {
            str(name): FileEntry(int(entry["size_bytes"]), str(entry["digest"]))
            for name, entry in table["files"].items()
        }
        needed = tuple(digest for digest in table["needed"] if is_digest(digest))
        contents = Contents(
            int(table["format"]), str(table["version"]), str(table["run_id"]),
            float(table["made_at"]), files, needed,
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PackageError(f"{CONTENTS} is not readable: {error!r}"[:300]) from None
    if contents.format != FORMAT:
        raise PackageError(
            f"a backup of format {contents.format}",
            rule=f"this version reads format {FORMAT}",
            way_out=f"restore it with version {contents.version}",
        )
    return contents


def _check(file: Path, found: dict[str, FileEntry], named: dict[str, FileEntry]) -> None:
    for name in sorted(found.keys() ^ named.keys()):
        where = CONTENTS if name in named else "the archive"
        raise PackageError(f"{file}: {name!r} is only in {where}", rule="both name the same files")
    for name, entry in named.items():
        if found[name] != entry:
            raise DigestError(
                f"{file}: {name!r} was changed",
                rule=f"its SHA-256 is {entry.digest}",
                way_out="take another backup",
            )
