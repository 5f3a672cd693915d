"""Reasons of refusals are published with the verdicts: no peer, address or folder is in them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from seshu_swarm import packages
from seshu_swarm.coordinator.rounds.fetching import fetch_all
from seshu_swarm.coordinator.rounds.gather import NO_HOLDER, Refused
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.errors import PeerLostError
from seshu_swarm.network.dht import Swarm
from seshu_swarm.records import encoding as record_bytes
from seshu_swarm.records.kinds import AdapterRecord, ProviderRecord
from seshu_swarm.stores.limits import only_an_adapter
from seshu_swarm.stores.references import Reference
from seshu_swarm.stores.swarm import SwarmStore
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.protocol import BLOBS, BlobRequest, Chunk, FetchFile
from tests.loopback import RUN_ID, Loopback, signed_value, soon
from tests.stores.members import HANDLERS, Member, at_present

TENSORS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def swarms(loopback: Loopback) -> list[Swarm]:
    """A holder and the coordinator."""
    swarms = [loopback.join(name) for name in ("holder", "coordinator")]
    loopback.run(swarms[0].serve(BLOBS, at_present(swarms[0].peer_id)))
    return swarms


@pytest.fixture
def holder(swarms: list[Swarm], tmp_path: Path) -> Member:
    member = Member(swarms[0], tmp_path / "holder")
    HANDLERS[member.swarm.peer_id] = member.holder.serve
    return member


def held(loopback: Loopback, holder: Member, data: bytes) -> str:
    fresh = holder.root / "new"
    fresh.mkdir(parents=True)
    (fresh / TENSORS).write_bytes(data)
    digest = packages.seal(fresh, "adapter", [TENSORS], {})
    fresh.rename(holder.root / digest)
    assert loopback.run(holder.swarm.announce(ProviderRecord(run_id=RUN_ID, digest=digest)))
    return digest


def gathered(loopback: Loopback, coordinator: Swarm, digest: str, folder: Path) -> Refused | None:
    """What the coordinator has to say of one adapter whose files go to `folder`."""
    state = loopback.folder / digest
    state.mkdir()
    ledger = Ledger(state / "ledger.sqlite")
    current = ledger.begin_round(parent="ee" * 32, seed=1, closes_at=time.time())
    record = AdapterRecord(
        run_id=RUN_ID,
        reference=f"swarm://sha256/{digest}",
        digest=digest,
        base_revision="ee" * 32,
        rank=8,
        language="hi",
        num_rows=100,
        licence="CC-BY-4.0",
        round_index=1,
    )
    data = record_bytes.to_bytes(record)
    ledger.add_adapter(digest, round_number=current.number, owner="donor", record=data)
    fetching = fetch_all(
        ledger,
        current.number,
        folder_of=lambda digest: folder,
        store_of=lambda scheme: SwarmStore(coordinator, admit=only_an_adapter),
        seconds=120.0,
    )
    return loopback.run(fetching).get(digest)


def test_a_peer_that_cannot_be_reached_is_not_named(
    loopback: Loopback, swarms: list[Swarm], tmp_path: Path
) -> None:
    digest, nowhere, expires = "12" * 32, loopback.identity("nowhere"), soon()
    record = ProviderRecord(run_id=RUN_ID, digest=digest)
    value = signed_value(nowhere, record, expires=expires)
    mallory = loopback.attacker("mallory")
    stored = mallory.store(swarms[1].peer_id, record.key, value, expires, nowhere.peer_id)
    assert loopback.run(stored)
    with pytest.raises(PeerLostError, match=nowhere.peer_id[-6:]):
        loopback.run(SwarmStore(swarms[1]).fetch(Reference.of_swarm(digest), tmp_path / "log"))
    refused = gathered(loopback, swarms[1], digest, tmp_path / "run" / "adapter")
    assert refused and refused.reason == NO_HOLDER
    assert nowhere.peer_id[-6:] not in refused.reason + refused.next_step


def test_a_folder_that_cannot_be_written_is_not_named(
    loopback: Loopback, swarms: list[Swarm], holder: Member, tmp_path: Path
) -> None:
    digest = held(loopback, holder, b"unwritable")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "file").write_bytes(b"")
    refused = gathered(loopback, swarms[1], digest, tmp_path / "run" / "file" / "adapter")
    assert refused and refused.reason == NO_HOLDER and str(tmp_path) not in refused.next_step


def test_a_folder_with_another_manifest_is_not_named(
    loopback: Loopback, swarms: list[Swarm], holder: Member, tmp_path: Path
) -> None:
    digest = held(loopback, holder, b"another")
    folder = tmp_path / "run" / "adapter"
    packages.write_whole(folder / packages.MANIFEST, b"{}")
    refused = gathered(loopback, swarms[1], digest, folder)
    assert refused and refused.reason.startswith("the package has digest 44136fa355b3")
    assert str(tmp_path) not in refused.reason + refused.next_step


def test_a_half_of_a_file_is_not_kept_for_a_refused_adapter(
    loopback: Loopback, swarms: list[Swarm], holder: Member, tmp_path: Path
) -> None:
    digest = held(loopback, holder, b"half" * 1_000)

    async def half(channel: Channel) -> None:
        request = (await channel.receive(BlobRequest, seconds=5, what="a request")).request
        assert isinstance(request, FetchFile)
        data = (holder.root / digest / request.name).read_bytes()
        if request.name != TENSORS:
            return await channel.send(Chunk(data=data))
        if request.offset == 0:
            await channel.send(Chunk(data=data[:2_000]))
        channel.close()

    HANDLERS[holder.swarm.peer_id] = half
    folder = tmp_path / "run" / "adapter"
    with pytest.raises(PeerLostError):
        loopback.run(SwarmStore(swarms[1]).fetch(Reference.of_swarm(digest), folder))
    assert [path.stat().st_size for path in folder.glob("*.partial")] == [2_000]
    refused = gathered(loopback, swarms[1], digest, folder)
    assert refused and refused.reason == NO_HOLDER
    assert not list(folder.glob("*.partial"))
