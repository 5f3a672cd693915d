"""Packages: one digest pins every byte; what anyone sends as a manifest is read strictly."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm import packages
from seshu_swarm.errors import DigestError, PackageError, ResourceError
from seshu_swarm.packages import FileEntry, Manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.bin").write_bytes(b"abc")
    (tmp_path / "sub" / "b.txt").write_bytes("अ".encode())
    (tmp_path / "README.md").write_text("not in the manifest")
    return tmp_path


def seal(folder: Path) -> str:
    return packages.seal(folder, "test", ["sub/b.txt", "a.bin"], {"parent": None, "name": "अ"})


def test_the_digest_is_sha256_of_the_manifest_which_holds_those_of_the_files(folder: Path) -> None:
    digest = seal(folder)
    data = (folder / packages.MANIFEST).read_bytes()
    assert digest == hashlib.sha256(data).hexdigest()
    table = json.loads(data)
    assert table["files"]["a.bin"] == {
        "size_bytes": 3,
        "sha256": hashlib.sha256(b"abc").hexdigest(),
    }
    manifest = packages.verify(folder, digest)
    assert manifest.digest == digest and manifest.size_bytes == 6
    assert manifest.about == {"parent": None, "name": "अ"}


def test_the_same_files_give_the_same_digest_and_any_other_byte_another(folder: Path) -> None:
    digest = seal(folder)
    (folder / "README.md").write_text("amended")
    assert seal(folder) == digest
    (folder / "a.bin").write_bytes(b"abd")
    with pytest.raises(DigestError, match=r"a\.bin was changed"):
        packages.verify(folder, digest)
    assert seal(folder) != digest


def test_only_the_named_files_are_verified(folder: Path) -> None:
    digest = seal(folder)
    (folder / "a.bin").write_bytes(b"ab")
    packages.verify(folder, digest, ["sub/b.txt"])
    with pytest.raises(PackageError, match="missing or cut short"):
        packages.verify(folder, digest)
    (folder / "a.bin").unlink()
    with pytest.raises(PackageError, match="missing or cut short"):
        packages.verify(folder, digest)


def test_another_manifest_than_the_announced_one_is_refused(folder: Path) -> None:
    digest = seal(folder)
    with pytest.raises(DigestError, match="was announced"):
        packages.read_manifest(folder, "0" * 64)
    (folder / packages.MANIFEST).unlink()
    with pytest.raises(PackageError, match=r"has no readable manifest.json"):
        packages.verify(folder, digest)


ENTRY: dict[str, Any] = {"size_bytes": 1, "sha256": "ab" * 32}


def manifest_bytes(**fields: Any) -> bytes:
    """Written as `Manifest.to_bytes` writes it, whatever it says."""
    table = {"kind": "test", "files": {"a": ENTRY}, "about": {}} | fields
    return json.dumps(table, sort_keys=True, indent=1, ensure_ascii=False).encode(
        errors="surrogatepass"
    )


def test_a_manifest_as_it_is_written() -> None:
    manifest = packages.parse_manifest(manifest_bytes())
    assert manifest == Manifest("test", {"a": FileEntry(1, "ab" * 32)}, {})


@pytest.mark.parametrize(
    "name",
    [
        *("/etc/passwd", "../up", "a/../../b", "a/..", "./a", "a//b", "a/", "", ".", ".."),
        *("a\\b", "a\0b", "a\nb", packages.MANIFEST, "x" * 201, "अ" * 90, "\ud800"),
    ],
)
def test_names_that_could_leave_the_folder_or_the_disks_rules_are_refused(name: str) -> None:
    with pytest.raises(PackageError):
        packages.parse_manifest(manifest_bytes(files={name: ENTRY}))
    escaped = json.dumps({"kind": "test", "files": {name: ENTRY}, "about": {}}).encode()
    with pytest.raises(PackageError):
        packages.parse_manifest(escaped)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": 3},
        {"about": []},
        {"about": {"loss": float("nan")}},
        {"about": {"text": "\ud800"}},
        {"files": []},
        {"files": {"a": {}}},
        {"files": {"a": {**ENTRY, "size_bytes": -1}}},
        {"files": {"a": {**ENTRY, "size_bytes": 1.0}}},
        {"files": {"a": {**ENTRY, "size_bytes": True}}},
        {"files": {"a": {**ENTRY, "sha256": "AB" * 32}}},
        {"files": {"a": {**ENTRY, "sha256": None}}},
        {"files": {"a": {**ENTRY, "mode": 0o777}}},
        {"files": {f"f{n}": ENTRY for n in range(packages.MAX_FILES + 1)}},
        {"extra": 1},
    ],
)
def test_a_malformed_manifest_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(PackageError):
        packages.parse_manifest(manifest_bytes(**fields))


@pytest.mark.parametrize(
    "names",
    [
        ["a", "a/b"],
        ["a/b", "a/b/c/d", "z"],
        [f"{packages.MANIFEST}/x"],
        ["a", "a.partial"],
        ["a.partial/b"],
    ],
)
def test_names_that_cannot_lie_together_are_refused(names: list[str]) -> None:
    with pytest.raises(PackageError, match=r"file name 'a|file name 'manifest.json/x"):
        packages.parse_manifest(manifest_bytes(files=dict.fromkeys(names, ENTRY)))
    near = dict.fromkeys(["a", "a.b/c", "ab/a", f"sub/{packages.MANIFEST}"], ENTRY)
    assert len(packages.parse_manifest(manifest_bytes(files=near)).files) == 4


def test_a_manifest_has_one_form_only() -> None:
    data = manifest_bytes()
    for other in (data + b"\n", data.replace(b"\n", b""), data.replace(b'"a"', b'"\\u0061"')):
        assert json.loads(other) == json.loads(data)
        with pytest.raises(PackageError, match="canonical"):
            packages.parse_manifest(other)


def test_a_manifest_is_bounded() -> None:
    with pytest.raises(PackageError, match="at most 1048576"):
        packages.parse_manifest(b" " * (packages.MAX_MANIFEST_BYTES + 1))
    for depth in (300, 990, 100_000):
        with pytest.raises(PackageError):
            packages.parse_manifest(
                manifest_bytes(about={"x": 0}).replace(b"0\n", b"[" * depth + b"]" * depth + b"\n")
            )


@given(st.binary(max_size=200))
def test_garbage_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(PackageError):
        packages.parse_manifest(data)


def test_a_file_is_written_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    packages.write_whole(path, b"one")
    packages.write_whole(path, b"two")
    assert path.read_bytes() == b"two" and list(path.parent.iterdir()) == [path]


def test_a_folder_that_is_there_already_is_complete(tmp_path: Path) -> None:
    for name in ("partial", "again"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
        packages.publish_folder(tmp_path / name, tmp_path / "final")
    assert [p.name for p in tmp_path.iterdir()] == ["final"]
    assert (tmp_path / "final" / "file").read_text() == "partial"


def test_a_place_that_cannot_be_written_is_said_as_such(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResourceError, match="cannot use"):
        packages.write_whole(tmp_path / "file" / "below" / "x", b"data")
