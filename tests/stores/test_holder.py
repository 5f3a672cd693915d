"""The giving side: what a holder gives, what it takes in, and what it refuses."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from seshu_swarm import packages
from seshu_swarm.errors import PeerLostError, RefusalError
from seshu_swarm.network.dht import Swarm
from seshu_swarm.packages import Manifest
from seshu_swarm.stores import receiving
from seshu_swarm.stores.holder import Holder, HolderPolicy
from seshu_swarm.stores.receiving import Wanted
from seshu_swarm.stores.references import Reference
from seshu_swarm.stores.swarm import SwarmStore
from seshu_swarm.streams.protocol import (
    BLOBS,
    BlobRequest,
    Chunk,
    FetchFile,
    OfferPackage,
    WantFiles,
)
from tests.loopback import Loopback
from tests.stores.members import Member, fetch, hold, make


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

    async def ask(offset: int) -> None:
        wanted = Wanted(digest, "sub/small.txt", offset, 1)
        stream = await receiving.open_file(
            swarms[2], members[0].swarm.peer_id, wanted, dial_seconds=5
        )
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


def test_only_what_is_wanted_and_arrives_is_charged(
    loopback: Loopback, swarms: list[Swarm], members: list[Member], tmp_path: Path
) -> None:
    """Each of these would use up the 6 MB of a peer, were tries or copies charged."""
    manifest = make(tmp_path / "mine", b"again")

    async def broken() -> None:
        stream = await swarms[2].open(members[0].swarm.peer_id, BLOBS)
        await stream.send(BlobRequest(request=OfferPackage(manifest=manifest.to_bytes())))
        await stream.receive(WantFiles, seconds=5, what="its wishes")
        await stream.send(Chunk(data=b"\0" * 100))
        stream.close()

    for _ in range(5):
        loopback.run(broken())
    loopback.run(asyncio.sleep(0.2))
    for _ in range(5):
        push(loopback, swarms[2], members[:1], tmp_path / "mine", holders=1)
    make(tmp_path / "another", b"another")
    push(loopback, swarms[2], members[:1], tmp_path / "another", holders=1)
    assert len(set(members[0].stored)) == 2
    assert not list(members[0].root.rglob("*.offered"))


def test_two_peers_offer_one_package_at_once_and_a_slow_one_holds_up_nobody(
    loopback: Loopback, swarms: list[Swarm], members: list[Member], tmp_path: Path
) -> None:
    manifest = make(tmp_path / "mine", b"at once")

    async def story() -> None:
        slow = await members[1].swarm.open(members[0].swarm.peer_id, BLOBS)
        await slow.send(BlobRequest(request=OfferPackage(manifest=manifest.to_bytes())))
        await slow.receive(WantFiles, seconds=5, what="its wishes")
        await slow.send(Chunk(data=b"\0" * 1_000))
        stores = [SwarmStore(swarms[2], [members[0].swarm.peer_id]) for _ in range(2)]
        await asyncio.gather(*(s.push(tmp_path / "mine", manifest.digest) for s in stores))
        slow.close()

    loopback.run(story())
    packages.verify(members[0].root / manifest.digest, manifest.digest)


def test_what_a_killed_holder_was_taking_in_is_swept(tmp_path: Path) -> None:
    left_over = tmp_path / "digest" / "sub" / "big.bin.0011223344556677.offered"
    left_over.parent.mkdir(parents=True)
    left_over.write_bytes(b"half")
    Holder(
        tmp_path,
        policy=HolderPolicy(),
        allow_upload=lambda num_bytes: True,
        on_stored=lambda digest: None,
    )
    assert not left_over.exists()
