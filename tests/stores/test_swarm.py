"""The swarm store between real peers: from whom it comes does not matter, what comes does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from seshu_swarm import packages
from seshu_swarm.errors import PackageError, PeerLostError
from seshu_swarm.network.dht import Found, Swarm
from seshu_swarm.records.kinds import ProviderRecord
from seshu_swarm.stores.references import Reference
from seshu_swarm.stores.swarm import SwarmStore
from seshu_swarm.streams.protocol import (
    CHUNK_BYTES,
)
from tests.loopback import RUN_ID, Loopback
from tests.stores.members import BIG, Member, fetch, hold


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


def test_nobody_to_fetch_from_is_said_with_the_way_out(
    loopback: Loopback, swarms: list[Swarm], members: list[Member], tmp_path: Path
) -> None:
    with pytest.raises(PeerLostError, match=r"no provider gave manifest.json.*none known"):
        fetch(loopback, swarms[2], "0" * 64, tmp_path / "into")
    digest = "1" * 64
    assert loopback.run(members[0].swarm.announce(ProviderRecord(run_id=RUN_ID, digest=digest)))
    with pytest.raises(PeerLostError, match=r"NOT_FOUND.*goes on where it stopped"):
        fetch(loopback, swarms[2], digest, tmp_path / "into")


def test_what_is_all_here_asks_nobody(
    loopback: Loopback,
    swarms: list[Swarm],
    members: list[Member],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digest = hold(loopback, members[0], b"all here")
    manifest = fetch(loopback, swarms[2], digest, tmp_path / "into", ["big.bin"])
    looked_up: list[object] = []
    real = swarms[2].lookup

    async def lookup(keys: list[str], kind: type[ProviderRecord]) -> list[Found[ProviderRecord]]:
        looked_up.append(keys)
        return await real(keys, kind)

    monkeypatch.setattr(swarms[2], "lookup", lookup)
    assert fetch(loopback, swarms[2], digest, tmp_path / "into", ["big.bin"]) == manifest
    assert looked_up == [] and len(members[0].uploads) == 2
    fetch(loopback, swarms[2], digest, tmp_path / "into")
    assert len(looked_up) == 1


def test_two_fetches_of_one_package_at_once_share_what_comes(
    loopback: Loopback, swarms: list[Swarm], members: list[Member], tmp_path: Path
) -> None:
    digest = hold(loopback, members[0], b"at once")
    into = tmp_path / "into"

    async def both() -> None:
        stores = [SwarmStore(swarms[2]) for _ in range(3)]
        await asyncio.gather(*(s.fetch(Reference.of_swarm(digest), into) for s in stores))

    loopback.run(both())
    packages.verify(into, digest)
    # The manifest and each file travelled once.
    assert len(members[0].uploads) == 4
    assert not list(into.rglob("*.partial"))
