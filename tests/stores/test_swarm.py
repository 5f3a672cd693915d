"""The swarm store between real peers: from whom it comes does not matter, what comes does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from seshu_swarm import packages
from seshu_swarm.channel import Channel, Handler
from seshu_swarm.dht import Swarm
from seshu_swarm.errors import PackageError, PeerLostError, RefusalError
from seshu_swarm.packages import MANIFEST, Manifest
from seshu_swarm.protocol import (
    BLOBS,
    CHUNK_BYTES,
    BlobRequest,
    Chunk,
    FetchFile,
    OfferPackage,
    WantFiles,
)
from seshu_swarm.records import ProviderRecord
from seshu_swarm.references import Reference
from seshu_swarm.stores.holder import Holder, HolderPolicy
from seshu_swarm.stores.swarm import SwarmStore
from tests.loopback import RUN_ID, Loopback

BIG = bytes(range(256)) * (CHUNK_BYTES * 5 // 2 // 256)  # two chunks and a half


@dataclass
class Member:
    """A peer with a holder, and what it was asked to do."""

    swarm: Swarm
    root: Path
    uploads: list[int] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    max_upload_bytes: int = 1 << 40

    def allow(self, num_bytes: int) -> bool:
        if num_bytes > self.max_upload_bytes:
            return False
        self.uploads.append(num_bytes)
        return True

    @property
    def holder(self) -> Holder:
        policy = HolderPolicy(
            takes_adapters=True, max_adapter_bytes=4 << 20, max_bytes_per_peer=6 << 20
        )
        return Holder(
            self.root, policy=policy, allow_upload=self.allow, on_stored=self.stored.append
        )


HANDLERS: dict[str, Handler] = {}  # peer id → what it does with a stream at present


@pytest.fixture(scope="module")
def swarms(loopback: Loopback) -> list[Swarm]:
    swarms = [loopback.join(name) for name in ("first", "second", "fetcher")]
    for swarm in swarms[:2]:
        loopback.run(swarm.serve(BLOBS, at_present(swarm.peer_id)))
    return swarms


def at_present(peer_id: str) -> Handler:
    """hivemind adds a handler once; what it does changes from test to test."""

    async def handle(channel: Channel) -> None:
        await HANDLERS[peer_id](channel)

    return handle


@pytest.fixture
def members(swarms: list[Swarm], tmp_path: Path) -> list[Member]:
    """Two fresh holders."""
    found = [Member(swarm, tmp_path / f"holder-{n}") for n, swarm in enumerate(swarms[:2])]
    HANDLERS.update({member.swarm.peer_id: member.holder.serve for member in found})
    return found


def make(folder: Path, seed: bytes = b"", *, kind: str = "adapter", big: bytes = BIG) -> Manifest:
    (folder / "sub").mkdir(parents=True)
    (folder / "big.bin").write_bytes(big + seed)
    (folder / "sub" / "small.txt").write_text("नमस्ते")
    (folder / "empty").write_bytes(b"")
    names = ["big.bin", "sub/small.txt", "empty"]
    return packages.read_manifest(folder, packages.seal(folder, kind, names, {}))


def hold(loopback: Loopback, member: Member, seed: bytes) -> str:
    """A member holds a package and says so."""
    manifest = make(member.root / "new", seed)
    (member.root / "new").rename(member.root / manifest.digest)
    record = ProviderRecord(run_id=RUN_ID, digest=manifest.digest)
    assert loopback.run(member.swarm.announce(record))
    return manifest.digest


def fetch(
    loopback: Loopback, swarm: Swarm, digest: str, into: Path, names: list[str] | None = None
) -> Manifest:
    return loopback.run(SwarmStore(swarm).fetch(Reference.of_swarm(digest), into, names))


def test_a_package_arrives_whole_from_two_holders(
    loopback: Loopback, swarms: list[Swarm], members: list[Member], tmp_path: Path
) -> None:
    digest = hold(loopback, members[0], b"two")
    assert hold(loopback, members[1], b"two") == digest
    # Either of them lacks a file of which the other has a copy.
    (members[0].root / digest / "sub" / "small.txt").unlink()
    (members[1].root / digest / "big.bin").unlink()
    manifest = fetch(loopback, swarms[2], digest, tmp_path / "into")
    assert packages.verify(tmp_path / "into", digest) == manifest
    assert (tmp_path / "into" / "big.bin").read_bytes() == BIG + b"two"
    assert members[0].uploads and members[1].uploads


def test_only_the_named_files_travel(
    loopback: Loopback, swarms: list[Swarm], members: list[Member], tmp_path: Path
) -> None:
    digest = hold(loopback, members[0], b"named")
    manifest = fetch(loopback, swarms[2], digest, tmp_path / "into", ["sub/small.txt"])
    entry = manifest.files["sub/small.txt"]
    assert sum(members[0].uploads) == len(manifest.to_bytes()) + entry.size_bytes
    with pytest.raises(PackageError, match="no file 'nowhere'"):
        fetch(loopback, swarms[2], digest, tmp_path / "into", ["nowhere"])


def test_a_transfer_goes_on_where_it_stopped(
    loopback: Loopback, swarms: list[Swarm], members: list[Member], tmp_path: Path
) -> None:
    digest = hold(loopback, members[0], b"resumed")
    into = tmp_path / "into"
    into.mkdir()
    (into / "big.bin.partial").write_bytes(BIG[: CHUNK_BYTES + 17])
    fetch(loopback, swarms[2], digest, into, ["big.bin"])
    assert (into / "big.bin").read_bytes() == BIG + b"resumed"
    size = len(BIG) + len(b"resumed")
    assert members[0].uploads[-1] == size - CHUNK_BYTES - 17
    # What is there is not asked for again.
    fetch(loopback, swarms[2], digest, into, ["big.bin"])
    assert len(members[0].uploads) == 2


@pytest.mark.parametrize("part", [b"", b"x" * 1_000, b"x" * (len(BIG) + 9_999)])
def test_a_partial_file_of_other_bytes_is_replaced(
    loopback: Loopback, swarms: list[Swarm], members: list[Member], tmp_path: Path, part: bytes
) -> None:
    digest = hold(loopback, members[0], b"poisoned")
    into = tmp_path / "into"
    into.mkdir()
    (into / "big.bin.partial").write_bytes(part)
    fetch(loopback, swarms[2], digest, into, ["big.bin"])
    assert (into / "big.bin").read_bytes() == BIG + b"poisoned"


Lie = Callable[[Channel, bytes], Awaitable[None]]


async def other_bytes(channel: Channel, truth: bytes) -> None:
    await channel.send(Chunk(data=b"\0" * len(truth)))


async def too_much(channel: Channel, truth: bytes) -> None:
    for _ in range(3):
        await channel.send(Chunk(data=truth))


async def too_little(channel: Channel, truth: bytes) -> None:
    await channel.send(Chunk(data=truth[:-1]))


async def half_of_other_bytes_then_gone(channel: Channel, truth: bytes) -> None:
    await channel.send(Chunk(data=b"\0" * 1_000))
    channel.close()


async def chunks_of_nothing(channel: Channel, truth: bytes) -> None:
    while True:
        await channel.send(Chunk(data=b""))


async def another_message(channel: Channel, truth: bytes) -> None:
    await channel.send(WantFiles(names=["big.bin"]))


@pytest.mark.parametrize(
    "lie",
    [
        other_bytes,
        too_much,
        too_little,
        half_of_other_bytes_then_gone,
        chunks_of_nothing,
        another_message,
    ],
    ids=lambda lie: lie.__name__,
)
@pytest.mark.parametrize("lies_about", ["big.bin", MANIFEST])
def test_a_lying_holder_is_passed_over_and_the_file_still_arrives(
    loopback: Loopback,
    swarms: list[Swarm],
    members: list[Member],
    tmp_path: Path,
    lie: Lie,
    lies_about: str,
) -> None:
    digest = hold(loopback, members[1], f"{lie.__name__} {lies_about}".encode())
    truth = (members[1].root / digest / lies_about).read_bytes()
    asked = []

    async def liar(channel: Channel) -> None:
        request = (await channel.receive(BlobRequest, seconds=5, what="a request")).request
        assert isinstance(request, FetchFile)
        asked.append(request.name)
        source = members[1].root / digest / request.name
        if request.name == lies_about:
            await lie(channel, truth)
        else:
            await channel.send(Chunk(data=source.read_bytes()))

    HANDLERS[members[0].swarm.peer_id] = liar
    # Announced holders are asked before the hint: the liar first, the honest one last.
    into = tmp_path / "into"
    store = SwarmStore(swarms[2], [members[1].swarm.peer_id])
    record = ProviderRecord(run_id=RUN_ID, digest=digest)
    assert loopback.run(members[0].swarm.announce(record))
    loopback.run(store.fetch(Reference.of_swarm(digest), into, ["big.bin"]))
    assert packages.digest_of(into / "big.bin") == packages.digest_of(
        members[1].root / digest / "big.bin"
    )
    assert lies_about in asked
    assert not list(into.rglob("*.partial"))


def test_the_files_of_a_package_come_from_all_who_hold_it(
    loopback: Loopback, swarms: list[Swarm], members: list[Member], tmp_path: Path
) -> None:
    sizes = {f"shard-{n}": 1_000 + n for n in range(8)}
    for member in members:
        fresh = member.root / "new"
        fresh.mkdir(parents=True)
        for name, size in sizes.items():
            (fresh / name).write_bytes(name.encode()[-1:] * size)
        digest = packages.seal(fresh, "adapter", sizes, {})
        fresh.rename(member.root / digest)
        assert loopback.run(member.swarm.announce(ProviderRecord(run_id=RUN_ID, digest=digest)))
    fetch(loopback, swarms[2], digest, tmp_path / "into")
    packages.verify(tmp_path / "into", digest)
    given = [[size for size in member.uploads if size in sizes.values()] for member in members]
    assert sorted(given[0] + given[1]) == sorted(sizes.values())
    assert len(given[0]) == len(given[1]) == 4


def test_a_file_that_nobody_has_ends_the_others_in_order(
    loopback: Loopback, swarms: list[Swarm], members: list[Member], tmp_path: Path
) -> None:
    digest = hold(loopback, members[0], b"in order")
    (members[0].root / digest / "sub" / "small.txt").unlink()
    with pytest.raises(PeerLostError, match=r"no provider gave sub/small.txt"):
        fetch(loopback, swarms[2], digest, tmp_path / "into")
    fetch(loopback, swarms[2], digest, tmp_path / "into", ["big.bin", "empty"])
    packages.verify(tmp_path / "into", digest, ["big.bin", "empty"])


def test_a_lie_behind_true_bytes_costs_those_and_no_more(
    loopback: Loopback, swarms: list[Swarm], members: list[Member], tmp_path: Path
) -> None:
    """Who lied, the one before or the one who went on, cannot be known: the file starts again."""
    digest = hold(loopback, members[1], b"behind true bytes")

    async def liar(channel: Channel) -> None:
        request = (await channel.receive(BlobRequest, seconds=5, what="a request")).request
        assert isinstance(request, FetchFile)
        size = (members[1].root / digest / request.name).stat().st_size - request.offset
        await channel.send(Chunk(data=b"\0" * min(size, CHUNK_BYTES)))

    HANDLERS[members[0].swarm.peer_id] = liar
    assert loopback.run(members[0].swarm.announce(ProviderRecord(run_id=RUN_ID, digest=digest)))
    into = tmp_path / "into"
    into.mkdir()
    (into / "big.bin.partial").write_bytes(BIG[: CHUNK_BYTES * 2])
    store = SwarmStore(swarms[2], [members[1].swarm.peer_id])
    loopback.run(store.fetch(Reference.of_swarm(digest), into, ["big.bin"]))
    assert (into / "big.bin").read_bytes() == BIG + b"behind true bytes"


def test_a_holder_that_drips_is_passed_over_and_what_it_gave_is_kept(
    loopback: Loopback,
    swarms: list[Swarm],
    members: list[Member],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digest = hold(loopback, members[1], b"dripped")
    truth = (members[1].root / digest / "big.bin").read_bytes()
    given = []

    async def dripping(channel: Channel) -> None:
        request = (await channel.receive(BlobRequest, seconds=5, what="a request")).request
        assert isinstance(request, FetchFile)
        if request.name == MANIFEST:
            return await channel.send(
                Chunk(data=(members[1].root / digest / MANIFEST).read_bytes())
            )
        for at in range(request.offset, len(truth)):
            await channel.send(Chunk(data=truth[at : at + 1]))
            given.append(at)
            await asyncio.sleep(0.02)

    HANDLERS[members[0].swarm.peer_id] = dripping
    assert loopback.run(members[0].swarm.announce(ProviderRecord(run_id=RUN_ID, digest=digest)))
    # No silence is longer than a chunk's time: only the whole file's deadline ends it.
    monkeypatch.setattr("seshu_swarm.stores.swarm.CHUNK_SECONDS", 1.0)
    monkeypatch.setattr("seshu_swarm.stores.base.MIN_BYTES_PER_SECOND", 1 << 30)
    store = SwarmStore(swarms[2], [members[1].swarm.peer_id])
    loopback.run(store.fetch(Reference.of_swarm(digest), tmp_path / "into", ["big.bin"]))
    assert (tmp_path / "into" / "big.bin").read_bytes() == truth
    assert len(given) > 5
    [rest] = [size for size in members[1].uploads if size > CHUNK_BYTES]
    assert len(truth) - len(given) - 1 <= rest < len(truth)


def test_nobody_to_fetch_from_is_said_with_the_way_out(
    loopback: Loopback, swarms: list[Swarm], members: list[Member], tmp_path: Path
) -> None:
    with pytest.raises(PeerLostError, match=r"no provider gave manifest.json.*none known"):
        fetch(loopback, swarms[2], "0" * 64, tmp_path / "into")
    digest = "1" * 64
    assert loopback.run(members[0].swarm.announce(ProviderRecord(run_id=RUN_ID, digest=digest)))
    with pytest.raises(PeerLostError, match=r"NOT_FOUND.*goes on where it stopped"):
        fetch(loopback, swarms[2], digest, tmp_path / "into")


def test_files_outside_the_package_are_not_given(
    loopback: Loopback, swarms: list[Swarm], members: list[Member]
) -> None:
    digest = hold(loopback, members[0], b"outside")
    (members[0].root / "secret").write_text("key")
    (members[0].root / digest / "unlisted").write_text("card")

    async def ask(name: str) -> None:
        stream = await swarms[2].open(members[0].swarm.peer_id, BLOBS)
        request = FetchFile(digest=digest, name=name, offset=0)
        await stream.send(BlobRequest(request=request))
        try:
            await stream.receive(Chunk, seconds=5, what="a file")
        finally:
            stream.close()

    for name in ("../secret", f"../{digest}/big.bin", "/etc/hostname", "unlisted", "sub", "big"):
        with pytest.raises(RefusalError, match="NOT_FOUND"):
            loopback.run(ask(name))
    assert members[0].uploads == []


def test_an_offset_behind_the_end_and_a_used_up_upload_are_refused(
    loopback: Loopback, swarms: list[Swarm], members: list[Member], tmp_path: Path
) -> None:
    digest = hold(loopback, members[0], b"offset")
    store = SwarmStore(swarms[2], [members[0].swarm.peer_id])

    async def ask(offset: int) -> None:
        stream = await store._ask(members[0].swarm.peer_id, digest, "sub/small.txt", offset)
        try:
            await stream.receive(Chunk, seconds=5, what="a file")
        finally:
            stream.close()

    loopback.run(ask(17))
    for offset in (19, 1 << 50):
        with pytest.raises(RefusalError, match="UPLOAD_LIMIT"):
            loopback.run(ask(offset))
    members[0].max_upload_bytes = 5_000
    with pytest.raises(PeerLostError, match="UPLOAD_LIMIT"):
        fetch(loopback, swarms[2], digest, tmp_path / "into", ["big.bin"])


def push(
    loopback: Loopback, swarm: Swarm, peers: list[Member], folder: Path, holders: int = 2
) -> Reference:
    manifest = packages.read_manifest(folder)
    ids = [peer.swarm.peer_id for peer in peers]
    return loopback.run(SwarmStore(swarm).push_to(ids, folder, manifest, holders=holders))


def test_a_pushed_package_lies_whole_with_its_holders(
    loopback: Loopback, swarms: list[Swarm], members: list[Member], tmp_path: Path
) -> None:
    manifest = make(tmp_path / "mine", b"pushed")
    reference = push(loopback, swarms[2], members, tmp_path / "mine")
    assert reference == Reference.of_swarm(manifest.digest)
    for member in members:
        assert member.stored == [manifest.digest]
        assert packages.verify(member.root / manifest.digest, manifest.digest) == manifest
    # Pushed again, nothing travels; and a holder gives it to others.
    push(loopback, swarms[2], members, tmp_path / "mine", holders=1)
    fetched = SwarmStore(members[1].swarm, [members[0].swarm.peer_id])
    loopback.run(fetched.fetch(reference, tmp_path / "again"))
    assert packages.verify(tmp_path / "again", manifest.digest) == manifest


def test_the_hints_take_what_is_pushed(
    loopback: Loopback, swarms: list[Swarm], members: list[Member], tmp_path: Path
) -> None:
    manifest = make(tmp_path / "mine", b"hinted")
    store = SwarmStore(swarms[2], [members[0].swarm.peer_id])
    loopback.run(store.push(tmp_path / "mine", manifest.digest))
    assert members[0].stored == [manifest.digest] and members[1].stored == []


@pytest.mark.parametrize(
    ("kind", "big", "said"),
    [
        ("checkpoint", b"", "I take in no packages of this kind"),
        ("adapter", b"x" * (5 << 20), "TOO_LARGE"),
    ],
)
def test_a_package_of_another_kind_or_size_is_refused(
    loopback: Loopback,
    swarms: list[Swarm],
    members: list[Member],
    tmp_path: Path,
    kind: str,
    big: bytes,
    said: str,
) -> None:
    make(tmp_path / "mine", kind=kind, big=big)
    with pytest.raises(PeerLostError, match=said):
        push(loopback, swarms[2], members, tmp_path / "mine")
    assert members[0].stored == [] and not members[0].root.exists()


def test_a_peers_budget_is_its_own_and_holds(
    loopback: Loopback, swarms: list[Swarm], members: list[Member], tmp_path: Path
) -> None:
    for number in range(3):
        make(tmp_path / str(number), bytes([number]))
    for number in range(2):  # 2.5 MB each, 6 MB allowed
        push(loopback, swarms[2], members[:1], tmp_path / str(number), holders=1)
    with pytest.raises(PeerLostError, match="TOO_LARGE"):
        push(loopback, swarms[2], members[:1], tmp_path / "2", holders=1)
    push(loopback, members[1].swarm, members[:1], tmp_path / "2", holders=1)
    assert len(members[0].stored) == 3


@pytest.mark.parametrize("data", [b"false byte", b"\0" * 11], ids=["other", "longer"])
def test_bytes_that_are_not_the_offered_ones_are_not_kept(
    loopback: Loopback, swarms: list[Swarm], members: list[Member], tmp_path: Path, data: bytes
) -> None:
    manifest = make(tmp_path / "mine", big=b"true bytes")

    async def offer() -> None:
        stream = await swarms[2].open(members[0].swarm.peer_id, BLOBS)
        offered = OfferPackage(manifest=manifest.to_bytes())
        await stream.send(BlobRequest(request=offered))
        want = await stream.receive(WantFiles, seconds=5, what="its wishes")
        assert set(want.names) == set(manifest.files)
        await stream.send(Chunk(data=data))
        try:
            await stream.receive_or_end(Chunk, seconds=5, what="its refusal")
        finally:
            stream.close()

    with pytest.raises(RefusalError, match=r"MALFORMED.*big.bin"):
        loopback.run(offer())
    assert members[0].stored == []
    assert not [p for p in members[0].root.rglob("*") if p.is_file()]


def test_a_manifest_that_could_leave_the_folder_is_refused(
    loopback: Loopback, swarms: list[Swarm], members: list[Member]
) -> None:
    entry = packages.FileEntry(3, "ab" * 32)
    manifest = Manifest("adapter", {"../../evil": entry}, {})

    async def offer(data: bytes) -> None:
        stream = await swarms[2].open(members[0].swarm.peer_id, BLOBS)
        await stream.send(BlobRequest(request=OfferPackage(manifest=data)))
        try:
            await stream.receive(WantFiles, seconds=5, what="its wishes")
        finally:
            stream.close()

    for data in (manifest.to_bytes(), b"{}", b"", b"\xff", b'{"files": ' * 1_000):
        with pytest.raises(RefusalError, match="MALFORMED"):
            loopback.run(offer(data))
