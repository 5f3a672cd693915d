"""Names that leave a folder: in an adapter's manifest, in a repository's, in its tree, as links."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from seshu_swarm.adapters.rules import TENSOR_FILE
from seshu_swarm.packages import MANIFEST, FileEntry, Manifest
from tests.adapters.samples import write_adapter
from tests.attacks.refusing import refused
from tests.stores.hub_child import Child, hub_and_child
from tests.stores.hub_server import HubServer

OUTSIDE = (
    "../outside",
    "../../.ssh/authorized_keys",
    "/etc/passwd",
    "a/../../outside",
    "./adapter_config.json",
    "a//b",
    "..\\outside",
    "C:\\outside",
    "name\0",
    "name\n",
    "",
    ".",
    "manifest.json",
)


def add_file(folder: Path, name: str) -> None:
    """Name one more file in a sealed manifest, in canonical form: it is the name that is refused."""
    path = folder / MANIFEST
    table = json.loads(path.read_bytes())
    table["files"][name] = {"size_bytes": 1, "sha256": "0" * 64}
    path.write_text(json.dumps(table, sort_keys=True, indent=1, ensure_ascii=False))


@pytest.mark.parametrize("name", OUTSIDE, ids=repr)
def test_a_manifest_that_names_a_place_outside_is_refused(tmp_path: Path, name: str) -> None:
    write_adapter(tmp_path)
    add_file(tmp_path, name)
    assert refused(tmp_path) == "BAD_MANIFEST"


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapter")
    path = tmp_path / "adapter" / TENSOR_FILE
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert refused(tmp_path / "adapter") == "NOT_A_FILE"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubServer, Child]]:
    with hub_and_child(tmp_path_factory.mktemp("hub")) as both:
        yield both


def fetched(hub: tuple[HubServer, Child], files: dict[str, bytes], into: Path) -> dict[str, object]:
    """What the Hub store says of a repository with these files, its manifest pinned."""
    server, child = hub
    manifest = Manifest("adapter", {n: _entry(d) for n, d in files.items() if n[:1] != "!"}, {})
    data = manifest.to_bytes()
    commit = server.add(
        "mallory/adapter", {n.strip("!"): d for n, d in files.items()} | {MANIFEST: data}
    )
    reference = f"hf://mallory/adapter@{commit}#sha256={manifest.digest}"
    return dict(child.fetch(reference, into))


def _entry(data: bytes) -> FileEntry:
    return FileEntry(len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.swarm
@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside"])
def test_a_repository_whose_manifest_names_a_place_outside_is_refused(
    hub: tuple[HubServer, Child], tmp_path: Path, name: str
) -> None:
    answer = fetched(hub, {name: b"owned", "weights": b"1"}, tmp_path / "into")
    assert answer["error"] == "PackageError" and name in str(answer["text"])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.swarm
def test_what_a_repository_s_tree_holds_beside_the_manifest_stays_there(
    hub: tuple[HubServer, Child], tmp_path: Path
) -> None:
    """A name with `!` lies in the tree and not in the manifest."""
    files = {"weights": b"1", "!../outside": b"owned", "!/outside": b"owned", "!more": b"2"}
    answer = fetched(hub, files, tmp_path / "into")
    assert "error" not in answer
    found = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {"into/weights", f"into/{MANIFEST}"}
