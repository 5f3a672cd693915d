"""The file store: folders of this machine, verified like any other source."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from seshu_swarm import packages
from seshu_swarm.errors import AdapterError, DigestError, PackageError, SeshuError
from seshu_swarm.stores.file import FileStore
from seshu_swarm.stores.limits import only_an_adapter
from seshu_swarm.stores.references import Reference


@pytest.fixture
def package(tmp_path: Path) -> tuple[Path, str]:
    folder = tmp_path / "package"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"a" * 1_000)
    (folder / "sub" / "b.bin").write_bytes(b"b")
    return folder, packages.seal(folder, "adapter", ["a.bin", "sub/b.bin"], {})


def test_what_was_pushed_is_fetched_whole(package: tuple[Path, str], tmp_path: Path) -> None:
    folder, digest = package
    store = FileStore(tmp_path / "store")
    reference = asyncio.run(store.push(folder, digest))
    assert reference == Reference.of_folder(tmp_path / "store" / digest, digest)
    manifest = asyncio.run(store.fetch(reference, tmp_path / "into"))
    assert manifest == packages.verify(tmp_path / "into", digest)
    assert (tmp_path / "into" / "sub" / "b.bin").read_bytes() == b"b"


def test_only_the_named_files_are_fetched(package: tuple[Path, str], tmp_path: Path) -> None:
    reference = Reference.of_folder(*package)
    asyncio.run(FileStore(tmp_path).fetch(reference, tmp_path / "into", ["sub/b.bin"]))
    found = {p.name for p in (tmp_path / "into").rglob("*") if p.is_file()}
    assert found == {"b.bin", packages.MANIFEST}
    with pytest.raises(PackageError, match=r"no file 'c.bin'"):
        asyncio.run(FileStore(tmp_path).fetch(reference, tmp_path / "into", ["c.bin"]))


def test_a_changed_file_does_not_arrive(package: tuple[Path, str], tmp_path: Path) -> None:
    folder, digest = package
    (folder / "a.bin").write_bytes(b"A" * 1_000)
    with pytest.raises(DigestError, match=r"a.bin arrived with"):
        asyncio.run(FileStore(tmp_path).fetch(Reference.of_folder(folder, digest), tmp_path / "x"))
    assert not list((tmp_path / "x").rglob("a.bin*"))
    with pytest.raises(DigestError):
        asyncio.run(FileStore(tmp_path / "store").push(folder, digest))


def test_a_missing_file_or_folder_is_said(package: tuple[Path, str], tmp_path: Path) -> None:
    folder, digest = package
    (folder / "a.bin").unlink()
    with pytest.raises(SeshuError, match="No such file"):
        asyncio.run(FileStore(tmp_path).fetch(Reference.of_folder(folder, digest), tmp_path / "x"))
    nowhere = Reference.of_folder(tmp_path / "nowhere", digest)
    with pytest.raises(PackageError, match=r"has no readable manifest.json"):
        asyncio.run(FileStore(tmp_path).fetch(nowhere, tmp_path / "y"))


def test_what_is_not_admitted_leaves_nothing(package: tuple[Path, str], tmp_path: Path) -> None:
    store = FileStore(tmp_path, admit=only_an_adapter)
    with pytest.raises(AdapterError, match=r"EXTRA_FILE.*a\.bin"):
        asyncio.run(store.fetch(Reference.of_folder(*package), tmp_path / "into"))
    assert not (tmp_path / "into").exists()


def test_a_file_of_another_size_is_not_even_copied(
    package: tuple[Path, str], tmp_path: Path
) -> None:
    folder, digest = package
    with (folder / "a.bin").open("wb") as file:
        file.truncate(1 << 40)  # a hole: no disk could take the copy
    with pytest.raises(DigestError, match="1099511627776 bytes; a file of 1000 bytes"):
        asyncio.run(FileStore(tmp_path).fetch(Reference.of_folder(folder, digest), tmp_path / "x"))
    assert not list((tmp_path / "x").rglob("*.partial"))
