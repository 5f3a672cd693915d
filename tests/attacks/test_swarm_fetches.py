"""Strangers who are asked for a package: manifests without end, and crowds of false providers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from seshu_swarm import packages
from seshu_swarm.errors import PackageError, PeerLostError
from seshu_swarm.network.dht import Swarm
from seshu_swarm.packages import FileEntry, Manifest
from seshu_swarm.records import uids
from seshu_swarm.records.kinds import ProviderRecord
from seshu_swarm.stores.asking import MAX_STRANGERS, Patience
from seshu_swarm.stores.limits import only_an_adapter
from seshu_swarm.stores.references import Reference
from seshu_swarm.stores.swarm import SwarmStore
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.protocol import BLOBS
from tests.loopback import RUN_ID, Loopback, signed_value, soon
from tests.stores.members import HANDLERS, Member, at_present

NUM_FAKES = 3
NUM_PHANTOMS = 12
TENSORS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
SHORT = Patience(dial_seconds=5.0, silent_seconds=1.0, bytes_per_second=100_000)
LONG = Patience(dial_seconds=5.0, silent_seconds=2.0, bytes_per_second=10_000)


@pytest.fixture(scope="module")
def swarms(loopback: Loopback) -> list[Swarm]:
    """The honest holder first, the fetcher last, false providers between them."""
    swarms = [loopback.join(f"swarm-{n}") for n in range(NUM_FAKES + 2)]
    for swarm in swarms[:-1]:
        loopback.run(swarm.serve(BLOBS, at_present(swarm.peer_id)))
    return swarms


@pytest.fixture
def honest(swarms: list[Swarm], tmp_path: Path) -> Member:
    member = Member(swarms[0], tmp_path / "honest")
    HANDLERS[member.swarm.peer_id] = member.holder.serve
    return member


def announce(loopback: Loopback, swarm: Swarm, digest: str) -> None:
    assert loopback.run(swarm.announce(ProviderRecord(run_id=RUN_ID, digest=digest)))


def adapter_in(root: Path, seed: bytes) -> str:
    fresh = root / "new"
    fresh.mkdir(parents=True)
    (fresh / TENSORS).write_bytes(seed * 1_000)
    (fresh / CONFIG).write_bytes(b"{}")
    digest = packages.seal(fresh, "adapter", [TENSORS, CONFIG], {})
    fresh.rename(root / digest)
    return digest


ENTRY = FileEntry(10, "ab" * 32)


@pytest.mark.parametrize(
    ("manifest", "name"),
    [
        (Manifest("adapter", {TENSORS: FileEntry(1 << 40, "ab" * 32)}), "FILE_TOO_LARGE"),
        (Manifest("adapter", {TENSORS: ENTRY, CONFIG: FileEntry(64 << 20, "ab" * 32)}), "TOO_LA"),
        (Manifest("checkpoint", {TENSORS: ENTRY}), "BAD_MANIFEST"),
        (Manifest("adapter", {f"f{n}": ENTRY for n in range(5_000)}), "EXTRA_FILE"),
        (Manifest("adapter", {TENSORS: ENTRY, "../" + CONFIG: ENTRY}), "file name"),
        (Manifest("adapter", {TENSORS: ENTRY, f"{TENSORS}/x": ENTRY}), "nothing lies below"),
    ],
    ids=["a terabyte", "a byte too much", "kind", "five thousand files", "outside", "below a file"],
)
def test_a_manifest_beyond_the_limits_is_refused_before_any_file(
    loopback: Loopback,
    swarms: list[Swarm],
    honest: Member,
    tmp_path: Path,
    manifest: Manifest,
    name: str,
) -> None:
    held = honest.root / manifest.digest
    packages.write_whole(held / packages.MANIFEST, manifest.to_bytes())
    announce(loopback, honest.swarm, manifest.digest)
    into = tmp_path / "into"
    store = SwarmStore(swarms[-1], admit=only_an_adapter)
    with pytest.raises(PackageError, match=name):
        loopback.run(store.fetch(Reference.of_swarm(manifest.digest), into))
    # A stream that breaks while peers dial each other is asked for again: the manifest, no file.
    assert set(honest.uploads) == {len(manifest.to_bytes())}
    assert not into.exists()
    # Nor when its manifest lies here from before there were limits.
    packages.write_whole(into / packages.MANIFEST, manifest.to_bytes())
    with pytest.raises(PackageError, match=name):
        loopback.run(store.fetch(Reference.of_swarm(manifest.digest), into))
    assert len(honest.uploads) == 1 and len(list(into.iterdir())) == 1


def test_what_is_within_the_limits_arrives(
    loopback: Loopback, swarms: list[Swarm], honest: Member, tmp_path: Path
) -> None:
    digest = adapter_in(honest.root, b"within")
    announce(loopback, honest.swarm, digest)
    store = SwarmStore(swarms[-1], admit=only_an_adapter)
    loopback.run(store.fetch(Reference.of_swarm(digest), tmp_path / "into"))
    packages.verify(tmp_path / "into", digest)


def fake_all(loopback: Loopback, swarms: list[Swarm], digest: str) -> list[str]:
    """False providers that take the question and say nothing; who was asked, in order."""
    asked: list[str] = []

    for swarm in swarms[1:-1]:

        async def silent(channel: Channel, peer_id: str = swarm.peer_id) -> None:
            asked.append(peer_id)
            await asyncio.sleep(30)

        HANDLERS[swarm.peer_id] = silent
        announce(loopback, swarm, digest)
    return asked


def haunt(loopback: Loopback, victim: Swarm, digest: str) -> None:
    """Announcements of peers that are nowhere, each signed with a key of its own."""
    mallory, expires = loopback.attacker("mallory"), soon()
    for number in range(NUM_PHANTOMS):
        me = loopback.identity(f"phantom-{number}")
        record = ProviderRecord(run_id=RUN_ID, digest=digest)
        value = signed_value(me, record, expires=expires)
        assert loopback.run(mallory.store(victim.peer_id, record.key, value, expires, me.peer_id))


def test_a_crowd_of_false_providers_costs_a_fetch_one_short_wait_for_each_file(
    loopback: Loopback, swarms: list[Swarm], honest: Member, tmp_path: Path
) -> None:
    fetcher = swarms[-1]
    digest = adapter_in(honest.root, b"crowd")
    asked = fake_all(loopback, swarms, digest)
    haunt(loopback, fetcher, digest)
    keys = [uids.provider_key(RUN_ID, digest)]
    announced = loopback.run(fetcher.lookup(keys, ProviderRecord))
    assert len(announced) == NUM_FAKES + NUM_PHANTOMS > MAX_STRANGERS
    store = SwarmStore(fetcher, [honest.swarm.peer_id], short=SHORT, long=LONG)
    loopback.run(store.fetch(Reference.of_swarm(digest), tmp_path / "into"))
    packages.verify(tmp_path / "into", digest)
    assert len(asked) <= 3
    assert len(honest.uploads) == 3


def test_silent_providers_do_not_hide_an_honest_one_that_nobody_knows(
    loopback: Loopback, swarms: list[Swarm], honest: Member, tmp_path: Path
) -> None:
    digest = adapter_in(honest.root, b"unknown")
    asked = fake_all(loopback, swarms, digest)
    announce(loopback, honest.swarm, digest)
    store = SwarmStore(swarms[-1], short=SHORT, long=LONG)
    loopback.run(store.fetch(Reference.of_swarm(digest), tmp_path / "into"))
    packages.verify(tmp_path / "into", digest)
    # For the manifest each of them once; for the two files those that had not failed yet.
    assert len(asked) <= NUM_FAKES * 3


def test_a_package_that_only_false_providers_have_ends_in_time(
    loopback: Loopback, swarms: list[Swarm], honest: Member, tmp_path: Path
) -> None:
    digest = "ab" * 32
    asked = fake_all(loopback, swarms, digest)
    with pytest.raises(PeerLostError, match="no provider gave"):
        loopback.run(
            SwarmStore(swarms[-1], short=SHORT, long=LONG).fetch(
                Reference.of_swarm(digest), tmp_path / "into"
            )
        )
    # Once shortly and once patiently, except for the last one.
    assert NUM_FAKES <= len(asked) <= 2 * NUM_FAKES - 1
    assert not (tmp_path / "into").exists()
