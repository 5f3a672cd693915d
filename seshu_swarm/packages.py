"""A package: a folder whose `manifest.json` names every file with its size and digest.

Checkpoints, adapters and data catalogues are packages. The digest of a package is the SHA-256 of
its manifest, so that one number pins every byte; files that the manifest does not name (a model
card) may change without changing it. Knows nothing of what the files mean.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from seshu_swarm.errors import DigestError, PackageError, from_os_error

MANIFEST = "manifest.json"
# What is not whole yet lies beside its place under this ending.
PARTIAL = ".partial"
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILES = 10_000


@dataclass(frozen=True)
class FileEntry:
    size_bytes: int
    digest: str


@dataclass(frozen=True)
class Manifest:
    """`kind` says what the package is; `about` carries its own small facts (JSON values)."""

    kind: str
    files: dict[str, FileEntry]
    about: dict[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Canonical JSON: the same package gives the same bytes, hence the same digest."""
        files = {n: {"size_bytes": e.size_bytes, "sha256": e.digest} for n, e in self.files.items()}
        table = {"kind": self.kind, "files": files, "about": self.about}
        text = json.dumps(table, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8")

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.files.values())


def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest that may come from anyone. Raises PackageError."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise PackageError(f"manifest of {len(data)} bytes", rule=f"at most {MAX_MANIFEST_BYTES}")
    try:
        table = json.loads(data)
        files = {n: FileEntry(e["size_bytes"], e["sha256"]) for n, e in table["files"].items()}
        manifest = Manifest(table["kind"], files, table["about"])
        is_canonical = manifest.to_bytes() == data
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PackageError(f"manifest is not readable: {error!r}") from None
    if not is_canonical:
        raise PackageError("manifest is not in canonical form", rule="one package, one digest")
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    if not isinstance(manifest.kind, str) or not isinstance(manifest.about, dict):
        raise PackageError("manifest without kind or facts", rule="kind is text, about is a table")
    if len(manifest.files) > MAX_FILES:
        raise PackageError(
            f"manifest names {len(manifest.files)} files", rule=f"at most {MAX_FILES}"
        )
    for name, entry in manifest.files.items():
        check_name(name)
        _check_place(name, manifest)
        if not (
            type(entry.size_bytes) is int and entry.size_bytes >= 0 and is_digest(entry.digest)
        ):
            raise PackageError(f"manifest entry {name!r} is malformed: {entry}")


def _check_place(name: str, manifest: Manifest) -> None:
    """Refuse names that cannot lie in one folder together: none of them could ever be whole."""
    path = PurePosixPath(name)
    folders = {str(parent) for parent in path.parents}
    if clash := sorted(f for f in folders if f == MANIFEST or f in manifest.files):
        raise PackageError(
            f"file name {name!r}", rule=f"{clash[0]!r} is a file, so nothing lies below it"
        )
    if any(part.endswith(PARTIAL) for part in path.parts):
        raise PackageError(
            f"file name {name!r}", rule=f"names with {PARTIAL} are those of broken transfers"
        )


def check_name(name: str) -> None:
    """Refuse names that could leave the package's folder."""
    path = PurePosixPath(name)
    # ASCII: what cannot be a file's name here, or is too long as bytes, must not reach the disk.
    unsafe = path.is_absolute() or ".." in path.parts or "\\" in name or not _is_plain(name)
    if unsafe or name != str(path) or name in ("", ".", MANIFEST) or len(name) > 200:
        raise PackageError(f"file name {name!r}", rule="a plain relative path inside the package")


def _is_plain(name: str) -> bool:
    return name.isascii() and name.isprintable()


def is_digest(text: object) -> bool:
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")


def digest_of(path: Path) -> str:
    """SHA-256 of a file, lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path, kind: str, names: Iterable[str], about: dict[str, Any]) -> str:
    """Write the manifest of the named files of `folder`; the folder's digest is returned."""
    files = {
        n: FileEntry((folder / n).stat().st_size, digest_of(folder / n)) for n in sorted(names)
    }
    manifest = Manifest(kind, files, about)
    _check(manifest)
    write_whole(folder / MANIFEST, manifest.to_bytes())
    return manifest.digest


def read_manifest(folder: Path, digest: str | None = None) -> Manifest:
    """The manifest of a folder, checked against `digest` where one is given."""
    try:
        data = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise PackageError(
            f"{folder} has no readable {MANIFEST} ({error.strerror})",
            rule="every checkpoint and adapter carries one",
        ) from None
    found = hashlib.sha256(data).hexdigest()
    if digest is not None and found != digest:
        raise DigestError(f"{folder} has digest {found}", rule=f"{digest} was announced")
    return parse_manifest(data)


def verify(folder: Path, digest: str | None = None, names: Iterable[str] | None = None) -> Manifest:
    """Check the named files (all of them by default) against the manifest. Raises PackageError."""
    manifest = read_manifest(folder, digest)
    for name in manifest.files if names is None else names:
        entry, path = manifest.files[name], folder / name
        if not path.is_file() or path.stat().st_size != entry.size_bytes:
            raise PackageError(f"{path} is missing or cut short", rule=f"{entry.size_bytes} bytes")
        if digest_of(path) != entry.digest:
            raise DigestError(f"{path} was changed", rule=f"its SHA-256 is {entry.digest}")
    return manifest


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old bytes or the new ones, never half of them."""
    partial = path.with_name(path.name + PARTIAL)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        # Where the disk refuses to write it may refuse to delete; the first error is the one to say.
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise from_os_error(error, str(path)) from error


def publish_folder(partial: Path, final: Path) -> None:
    """Move a finished folder into place; a folder with that name is complete by definition."""
    if final.exists():
        shutil.rmtree(partial)
        return
    try:
        os.replace(partial, final)
    except OSError as error:
        raise from_os_error(error, str(final)) from error
