"""HubStore against a small Hub on 127.0.0.1, in a child process."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from seshu_swarm import packages
from seshu_swarm.errors import UsageError
from seshu_swarm.packages import MANIFEST
from seshu_swarm.stores import references
from seshu_swarm.stores.hub import ATTEMPTS
from tests.stores.hub_child import DEADLINE_SECONDS, REPOSITORY, Child, hub_and_child
from tests.stores.hub_server import TOKEN, HubServer

pytestmark = pytest.mark.swarm

SMALL = {"adapter_config.json": b'{"r": 8}', "adapter_model.safetensors": b"weights" * 5000}
CARD = b"---\nlicence: apache-2.0\n---\nA card.\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubServer, Child]]:
    with hub_and_child(tmp_path_factory.mktemp("hub")) as both:
        yield both


@pytest.fixture
def hub(served: tuple[HubServer, Child]) -> HubServer:
    served[0].forget()
    return served[0]


@pytest.fixture
def child(served: tuple[HubServer, Child]) -> Child:
    return served[1]


def make_package(folder: Path, files: dict[str, bytes]) -> str:
    """A sealed package with a card beside it; its digest."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "README.md").write_bytes(CARD)
    return packages.seal(folder, "adapter", files, {})


def pushed(child: Child, folder: Path, files: dict[str, bytes]) -> str:
    answer = child.push(folder, make_package(folder, files))
    assert "error" not in answer, answer
    return str(answer["reference"])


def names_in(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def size_of(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def random_bytes(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def test_a_pushed_package_comes_back_byte_for_byte(
    hub: HubServer, child: Child, tmp_path: Path
) -> None:
    digest = make_package(tmp_path / "own", SMALL)
    (tmp_path / "own" / "notes.txt").write_text("not of the package")
    reference = child.push(tmp_path / "own", digest)["reference"]
    commit = hub.repositories[REPOSITORY].head
    assert references.parse(reference).repository == (REPOSITORY, commit)
    assert set(hub.repositories[REPOSITORY].commits[commit]) == {
        ".gitattributes",
        "README.md",
        MANIFEST,
        *SMALL,
    }
    assert child.fetch(reference, tmp_path / "copy")["digest"] == digest
    packages.verify(tmp_path / "copy", digest)
    assert names_in(tmp_path / "copy") == {MANIFEST, *SMALL}
    for name, data in SMALL.items():
        assert (tmp_path / "copy" / name).read_bytes() == data


def test_stock_tools_read_what_was_pushed(hub: HubServer, child: Child, tmp_path: Path) -> None:
    reference = pushed(child, tmp_path / "own", SMALL)
    hub.heard.clear()
    found = child.call("snapshot", reference=reference, into=str(tmp_path / "copy"))["folder"]
    for name, data in {**SMALL, "README.md": CARD}.items():
        assert (Path(found) / name).read_bytes() == data
    # Five entries, two a page.
    assert sum("/tree/" in h.path for h in hub.heard) == 3


def test_only_the_named_files_are_downloaded(hub: HubServer, child: Child, tmp_path: Path) -> None:
    reference = pushed(child, tmp_path / "own", SMALL)
    hub.forget()
    into = tmp_path / "copy"
    child.fetch(reference, into, names=["adapter_config.json"])
    assert hub.downloads() == [(MANIFEST, 0), ("adapter_config.json", 0)]
    assert names_in(into) == {MANIFEST, "adapter_config.json"}
    child.fetch(reference, into)
    assert hub.downloads()[2:] == [("adapter_model.safetensors", 0)]


def test_pushing_the_same_package_again_gives_the_same_reference(
    hub: HubServer, child: Child, tmp_path: Path
) -> None:
    digest = make_package(tmp_path / "own", SMALL)
    first = child.push(tmp_path / "own", digest)["reference"]
    assert child.push(tmp_path / "own", digest)["reference"] == first
    other = pushed(child, tmp_path / "other", {"adapter_config.json": b"{}"})
    assert other != first
    # The older commit is still what it was.
    child.fetch(first, tmp_path / "copy")
    assert (tmp_path / "copy" / "adapter_config.json").read_bytes() == b'{"r": 8}'


def test_a_large_file_goes_by_lfs_and_leaves_no_second_copy(
    hub: HubServer, child: Child, tmp_path: Path
) -> None:
    weights = random_bytes(12 << 20, seed=1)
    reference = pushed(child, tmp_path / "own", {"adapter_model.safetensors": weights})
    blob = hub.repositories[REPOSITORY].tree("main")
    assert blob is not None and blob["adapter_model.safetensors"].is_lfs
    assert [h.path for h in hub.heard if h.method == "PUT"] == [
        f"/lfs/{hashlib.sha256(weights).hexdigest()}"
    ]
    hub.heard.clear()
    child.fetch(reference, tmp_path / "copy", token=TOKEN)
    assert (tmp_path / "copy" / "adapter_model.safetensors").read_bytes() == weights
    assert size_of(tmp_path / "copy") < len(weights) + 4096
    assert size_of(child.cache) < 4096
    # The token goes to the Hub, not on to the other origin that a redirect names.
    tokens = {h.path.startswith("/cdn/"): h.has_token for h in hub.heard}
    assert tokens == {False: True, True: False}


def test_a_branch_is_no_reference() -> None:
    with pytest.raises(UsageError, match="a commit of 40 hex digits"):
        references.parse(f"hf://{REPOSITORY}@main#sha256={'0' * 64}")


def test_a_branch_that_is_named_like_a_commit_cannot_move_what_was_pinned(
    hub: HubServer, child: Child, tmp_path: Path
) -> None:
    reference = pushed(child, tmp_path / "own", SMALL)
    digest, name = references.parse(reference).digest, "0123456789abcdef" * 2 + "01234567"
    repository = hub.repositories[REPOSITORY]
    repository.names[name] = repository.head
    moving = f"hf://{REPOSITORY}@{name}#sha256={digest}"
    assert "error" not in child.fetch(moving, tmp_path / "before")
    other = pushed(child, tmp_path / "other", {"adapter_config.json": b"{}"})
    repository.names[name] = references.parse(other).repository[1]
    answer = child.fetch(moving, tmp_path / "after")
    assert answer["error"] == "DigestError" and f"{digest} was announced" in answer["text"]
    assert not (tmp_path / "after").exists()


@pytest.mark.parametrize(
    ("served_bytes", "said"),
    [
        (b"WEIGHTS" * 5000, "arrived with SHA-256"),
        (b"weights" * 4999, "arrived with SHA-256"),
        (b"weights" * 500_000, "goes on past 35000 bytes"),
    ],
    ids=["changed", "shorter", "longer"],
)
def test_other_bytes_are_refused_and_not_kept(
    hub: HubServer, child: Child, tmp_path: Path, served_bytes: bytes, said: str
) -> None:
    reference = pushed(child, tmp_path / "own", SMALL)
    hub.faults.other_bytes["adapter_model.safetensors"] = served_bytes
    answer = child.fetch(reference, tmp_path / "copy")
    assert answer["error"] == "DigestError" and said in answer["text"], answer
    assert names_in(tmp_path / "copy") == {"adapter_config.json"}
    hub.forget()
    child.fetch(reference, tmp_path / "copy")
    packages.verify(tmp_path / "copy", references.parse(reference).digest)


def test_another_manifest_is_refused_before_any_file(
    hub: HubServer, child: Child, tmp_path: Path
) -> None:
    reference = pushed(child, tmp_path / "own", SMALL)
    hub.forget()
    endless = b" " * (packages.MAX_MANIFEST_BYTES + 1)
    for data, said in ((b"{}", "was announced"), (endless, "goes on past 1048576 bytes")):
        hub.faults.other_bytes[MANIFEST] = data
        answer = child.fetch(reference, tmp_path / "copy")
        assert answer["error"] == "DigestError" and said in answer["text"], answer
    assert {name for name, _ in hub.downloads()} == {MANIFEST}
    assert not (tmp_path / "copy").exists()


def test_a_package_above_the_limit_is_refused_before_any_file(
    hub: HubServer, child: Child, tmp_path: Path
) -> None:
    reference = pushed(child, tmp_path / "own", SMALL)
    hub.forget()
    size = sum(map(len, SMALL.values()))
    answer = child.fetch(reference, tmp_path / "copy", max_bytes=size - 1)
    assert answer["error"] == "PackageError"
    assert f"{size} bytes" in answer["text"] and f"at most {size - 1}" in answer["text"]
    assert hub.downloads() == [(MANIFEST, 0)]
    assert "error" not in child.fetch(reference, tmp_path / "copy", max_bytes=size)


def test_a_manifest_that_is_no_package_is_refused_though_it_is_pinned(
    hub: HubServer, child: Child, tmp_path: Path
) -> None:
    manifest = b'{"kind": "adapter", "files": {"../out": {}}, "about": {}}'
    commit = hub.add("donor/byhand", {MANIFEST: manifest})
    digest = hashlib.sha256(manifest).hexdigest()
    answer = child.fetch(f"hf://donor/byhand@{commit}#sha256={digest}", tmp_path / "copy")
    assert answer["error"] == "PackageError", answer
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("token", [None, "hf_wrong"])
def test_a_push_without_a_good_token_names_the_way_out(
    hub: HubServer, child: Child, tmp_path: Path, token: str | None
) -> None:
    digest = make_package(tmp_path / "own", SMALL)
    answer = child.push(tmp_path / "own", digest, token)
    assert answer["error"] == "PackageError"
    assert "HTTP 401, Invalid username or password." in answer["text"]
    assert "hf auth login" in answer["text"] and "--store swarm" in answer["text"]
    assert "\n" not in answer["text"]


@pytest.mark.parametrize("place", [f"nobody/nothing@{'0' * 40}", f"../..@{'0' * 40}"])
def test_a_repository_that_is_not_there(
    hub: HubServer, child: Child, tmp_path: Path, place: str
) -> None:
    answer = child.fetch(f"hf://{place}#sha256={'0' * 64}", tmp_path / "copy")
    assert answer["error"] == "PackageError", answer
    assert not (tmp_path / "copy").exists()


def test_a_private_repository_opens_to_its_owners_token_alone(
    hub: HubServer, child: Child, tmp_path: Path
) -> None:
    reference = pushed(child, tmp_path / "own", SMALL)
    hub.repositories[REPOSITORY].access = "private"
    try:
        answer = child.fetch(reference, tmp_path / "copy")
        assert answer["error"] == "PackageError" and "HTTP 401" in answer["text"], answer
        assert not (tmp_path / "copy").exists()
        assert "error" not in child.fetch(reference, tmp_path / "copy", token=TOKEN)
    finally:
        hub.repositories[REPOSITORY].access = "public"


def test_a_gated_repository_is_said_to_be_one(hub: HubServer, child: Child, tmp_path: Path) -> None:
    reference = pushed(child, tmp_path / "own", SMALL)
    hub.repositories[REPOSITORY].access = "gated"
    try:
        answer = child.fetch(reference, tmp_path / "copy", token=TOKEN)
    finally:
        hub.repositories[REPOSITORY].access = "public"
    assert answer["error"] == "PackageError"
    assert "HTTP 403, Access to this model is restricted" in answer["text"]


def test_a_hub_that_drips_is_given_up_and_what_it_gave_is_kept(
    hub: HubServer, child: Child, tmp_path: Path
) -> None:
    """Each byte comes before any socket times out: only a deadline on the whole file ends it."""
    reference = pushed(child, tmp_path / "own", {"w.safetensors": b"w" * 4_000})
    child.fetch(reference, tmp_path / "copy", names=[])
    hub.faults.drip_seconds = 0.01
    answer = child.fetch(reference, tmp_path / "copy", seconds=0.3)
    assert answer["error"] == "PeerLostError", answer
    assert "bytes of w.safetensors in 0." in answer["text"] and "per second" in answer["text"]
    assert answer["seconds"] < 6.0
    kept = (tmp_path / "copy" / "w.safetensors.partial").stat().st_size
    assert 0 < kept < 4_000
    hub.forget()
    assert "error" not in child.fetch(reference, tmp_path / "copy")
    assert hub.downloads() == [("w.safetensors", kept)]


def test_a_push_upon_another_commit_names_both(
    hub: HubServer, child: Child, tmp_path: Path
) -> None:
    first = references.parse(pushed(child, tmp_path / "one", SMALL)).repository[1]
    second = references.parse(pushed(child, tmp_path / "two", {"a.txt": b"a"})).repository[1]
    (tmp_path / "b.txt").write_text("b")
    answer = child.call("commit", file=str(tmp_path / "b.txt"), parent=first, token=TOKEN)
    assert answer["error"] == "ForkError", answer
    assert first in answer["text"] and second in answer["text"]
    assert hub.repositories[REPOSITORY].head == second
    answer = child.call("commit", file=str(tmp_path / "b.txt"), parent=second, token=TOKEN)
    assert hub.repositories[REPOSITORY].head == answer["commit"] != second


def test_an_unreachable_hub_is_an_error_in_time(tmp_path: Path, free_port: int) -> None:
    digest = make_package(tmp_path / "own", SMALL)
    lonely = Child(f"http://127.0.0.1:{free_port}", tmp_path)
    try:
        fetched = lonely.fetch(f"hf://{REPOSITORY}@{'0' * 40}#sha256={digest}", tmp_path / "copy")
        sent = lonely.push(tmp_path / "own", digest)
    finally:
        lonely.close()
    for answer in (fetched, sent):
        assert answer["error"] == "PeerLostError", answer
        assert "ConnectError" in answer["text"] and "try again later" in answer["text"]
        assert answer["seconds"] < DEADLINE_SECONDS / 4


def test_a_silent_hub_is_an_error_in_time(hub: HubServer, child: Child, tmp_path: Path) -> None:
    reference = pushed(child, tmp_path / "own", SMALL)
    hub.faults.silent_seconds = 5.0
    fetched = child.fetch(reference, tmp_path / "copy", seconds=0.2)
    sent = child.push(tmp_path / "own", references.parse(reference).digest, seconds=0.2)
    for answer in (fetched, sent):
        assert answer["error"] == "PeerLostError", answer
        assert "ReadTimeout" in answer["text"]
        assert answer["seconds"] < 2.0


def test_a_hub_in_trouble_is_asked_again_later(
    hub: HubServer, child: Child, tmp_path: Path
) -> None:
    reference = pushed(child, tmp_path / "own", SMALL)
    hub.faults.status = 503
    answer = child.fetch(reference, tmp_path / "copy")
    assert answer["error"] == "PeerLostError" and "503" in answer["text"]


def test_a_broken_download_goes_on_where_it_stopped(
    hub: HubServer, child: Child, tmp_path: Path
) -> None:
    weights = random_bytes(2 << 20, seed=2)
    reference = pushed(child, tmp_path / "own", {"w.safetensors": weights})
    hub.forget()
    hub.faults.cut_after["w.safetensors"] = 700_000
    hub.faults.cuts_left = 1
    assert "error" not in child.fetch(reference, tmp_path / "copy")
    assert hub.downloads() == [(MANIFEST, 0), ("w.safetensors", 0), ("w.safetensors", 700_000)]
    assert (tmp_path / "copy" / "w.safetensors").read_bytes() == weights


def test_what_was_received_outlives_a_lost_fetch(
    hub: HubServer, child: Child, tmp_path: Path
) -> None:
    weights = random_bytes(2 << 20, seed=3)
    reference = pushed(child, tmp_path / "own", {"w.safetensors": weights})
    hub.forget()
    hub.faults.cut_after["w.safetensors"] = 300_000
    hub.faults.cuts_left = ATTEMPTS
    assert child.fetch(reference, tmp_path / "copy")["error"] == "PeerLostError"
    kept = ATTEMPTS * 300_000
    assert (tmp_path / "copy" / "w.safetensors.partial").stat().st_size == kept
    assert names_in(tmp_path / "copy") == {"w.safetensors.partial"}
    hub.heard.clear()
    assert "error" not in child.fetch(reference, tmp_path / "copy")
    assert hub.downloads() == [(MANIFEST, 0), ("w.safetensors", kept)]
    assert (tmp_path / "copy" / "w.safetensors").read_bytes() == weights


def test_a_server_that_ignores_ranges_does_no_harm(
    hub: HubServer, child: Child, tmp_path: Path
) -> None:
    weights = random_bytes(1 << 20, seed=4)
    reference = pushed(child, tmp_path / "own", {"w.safetensors": weights})
    hub.faults.ignores_ranges = True
    hub.faults.cut_after["w.safetensors"] = 300_001
    # The last attempt must do with what the first one left, or there is no further one.
    hub.faults.cuts_left = ATTEMPTS - 1
    assert "error" not in child.fetch(reference, tmp_path / "copy")
    assert (tmp_path / "copy" / "w.safetensors").read_bytes() == weights


@pytest.mark.parametrize("stale", [b"another file", b"x" * (2 << 20)], ids=["short", "long"])
def test_stale_bytes_of_an_earlier_transfer_are_replaced(
    hub: HubServer, child: Child, tmp_path: Path, stale: bytes
) -> None:
    weights = random_bytes(1 << 20, seed=5)
    reference = pushed(child, tmp_path / "own", {"sub/w.safetensors": weights, "empty.txt": b""})
    (tmp_path / "copy" / "sub").mkdir(parents=True)
    (tmp_path / "copy" / "sub" / "w.safetensors.partial").write_bytes(stale)
    assert "error" not in child.fetch(reference, tmp_path / "copy")
    packages.verify(tmp_path / "copy", references.parse(reference).digest)
    assert names_in(tmp_path / "copy") == {MANIFEST, "sub/w.safetensors", "empty.txt"}
