"""Real peers on loopback: announce, look up, the run's record, and every way not to get in."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hivemind.dht.routing import DHTID

from seshu_swarm import WIRE_VERSION
from seshu_swarm.errors import (
    ClockError,
    FingerprintError,
    ForkError,
    PeerLostError,
    PortTakenError,
    UnreachableError,
    WireVersionError,
)
from seshu_swarm.network.daemon import Listen
from seshu_swarm.network.dht import Swarm
from seshu_swarm.network.link import Link
from seshu_swarm.records.kinds import ProviderRecord, RunRecord, SpanRecord
from seshu_swarm.records.uids import provider_key, run_key, span_keys
from seshu_swarm.streams.protocol import BLOBS
from tests.loopback import RUN_ID, Loopback, signed_value, soon
from tests.samples import DIGEST, OTHER, provider_record, run_record, span_record


@pytest.fixture(scope="module")
def peers(loopback: Loopback) -> list[Swarm]:
    return [loopback.join(name) for name in ("coordinator", "host", "client")]


def link_to(loopback: Loopback, name: str = "coordinator", run_id: str = RUN_ID) -> Link:
    return Link(run_id, loopback.identity(name).fingerprint, tuple(loopback.addresses))


def test_the_peer_is_its_key_and_says_where_it_is(loopback: Loopback, peers: list[Swarm]) -> None:
    host = peers[1]
    assert host.peer_id == loopback.identity("host").peer_id
    addresses = loopback.run(host.addresses())
    assert all(a.startswith("/ip4/127.0.0.1/tcp/") for a in addresses)
    assert all(a.endswith(f"/p2p/{host.peer_id}") for a in addresses)
    neighbours = loopback.run(host.neighbours())
    assert any(a.endswith(peers[0].peer_id) for a in neighbours)


def test_what_one_announces_all_find_with_its_owner(loopback: Loopback, peers: list[Swarm]) -> None:
    coordinator, host, client = peers
    assert loopback.run(coordinator.announce(span_record(0, 2)))
    assert loopback.run(host.announce(span_record(0, 3)))
    assert loopback.run(host.announce(span_record(1, 3)))
    found = loopback.run(client.lookup(span_keys(RUN_ID, 4), SpanRecord))
    assert {(f.owner, f.record.start, f.record.end) for f in found} == {
        (coordinator.peer_id, 0, 2),
        (host.peer_id, 0, 3),
        (host.peer_id, 1, 3),
    }
    assert all(25 < f.expiration_time - time.time() <= 30 for f in found)


def test_a_peer_that_moved_is_where_it_said_last(loopback: Loopback, peers: list[Swarm]) -> None:
    _, host, client = peers
    for start, end in ((0, 2), (2, 4), (1, 3)):
        assert loopback.run(host.announce(span_record(start, end)))
    found = loopback.run(client.spans(4))
    mine = [f.record for f in found if f.owner == host.peer_id]
    assert [(record.start, record.end) for record in mine] == [(1, 3)]


def test_a_newer_word_of_one_owner_replaces_the_older(
    loopback: Loopback, peers: list[Swarm]
) -> None:
    _, host, client = peers
    key = provider_key(RUN_ID, OTHER)
    sequences = []
    for _ in range(3):
        # At once: the expiration must grow although the clock has hardly moved.
        assert loopback.run(host.announce(provider_record(OTHER)))
        [found] = loopback.run(client.lookup([key], ProviderRecord))
        sequences.append(found.record.sequence)
    assert sequences == sorted(set(sequences))


def test_nothing_is_found_where_nothing_was_announced(
    loopback: Loopback, peers: list[Swarm]
) -> None:
    assert loopback.run(peers[2].lookup([provider_key(RUN_ID, "0" * 64)], ProviderRecord)) == []


def test_records_of_another_kind_or_run_are_not_returned(
    loopback: Loopback, peers: list[Swarm]
) -> None:
    host, client = peers[1:]
    assert loopback.run(host.announce(provider_record(run_id="other-run")))
    assert loopback.run(host.announce(provider_record()))
    other = provider_key("other-run", DIGEST)
    assert loopback.run(client.lookup([other], ProviderRecord)) == []
    assert loopback.run(client.lookup([provider_key(RUN_ID, DIGEST)], SpanRecord)) == []
    assert len(loopback.run(client.lookup([provider_key(RUN_ID, DIGEST)], ProviderRecord))) == 1


def test_the_run_is_the_one_that_the_links_key_signed(
    loopback: Loopback, peers: list[Swarm]
) -> None:
    coordinator, host, client = peers
    for round_index in (1, 2):
        record = run_record(loopback.identity("coordinator"), round_index=round_index)
        assert loopback.run(coordinator.announce(record))
    # The host signs a record of its own under the same key: the link decides.
    assert loopback.run(host.announce(run_record(loopback.identity("host"), round_index=9)))
    found = loopback.run(client.run_record(link_to(loopback)))
    assert (found.owner, found.record.round_index) == (coordinator.peer_id, 2)


def test_anothers_run_record_is_stored_again_with_its_signature(
    loopback: Loopback, peers: list[Swarm]
) -> None:
    coordinator, host, _ = peers
    late = loopback.join("late")
    record = run_record(loopback.identity("coordinator"), round_index=3)
    assert loopback.run(coordinator.announce(record))
    found = loopback.run(host.current_run(link_to(loopback)))
    assert found is not None
    late._node.protocol.storage.clear()
    # Its answer is that of one of the peers, and the others have the record already.
    loopback.run(host.store_again(found))
    # The newcomer took it: what its own storage holds has passed its validator. Its neighbours
    # may still be handing it their older records of other keys.
    stored = late._node.protocol.storage.get(DHTID.generate(found.record.key))
    assert stored is not None
    assert stored.value.get(found.owner).expiration_time == found.expiration_time
    assert loopback.run(late.current_run(link_to(loopback))) == found
    loopback.run(loopback.leave(late))


def test_a_reader_that_sees_two_successors_of_one_revision_stops_and_names_both(
    loopback: Loopback, peers: list[Swarm]
) -> None:
    coordinator, owner = peers[0], loopback.identity("coordinator")
    reader = loopback.join("reader of a fork")
    parent, first, second = ("11" * 32, "22" * 32, "33" * 32)
    for revision in (first, first):
        assert loopback.run(coordinator.announce(run_record(owner, parent=parent, revision=first)))
        found = loopback.run(reader.current_run(link_to(loopback)))
        assert found is not None and found.record.revision == revision
    # The same key signs another successor: a second coordinator, or a backup that was started.
    assert loopback.run(coordinator.announce(run_record(owner, parent=parent, revision=second)))
    with pytest.raises(ForkError, match=f"{first[:12]} and {second[:12]}"):
        loopback.run(reader.current_run(link_to(loopback)))
    # Whoever comes later has seen only one of them, and cannot know.
    late = loopback.join("late reader")
    assert loopback.run(late.current_run(link_to(loopback))) is not None
    assert loopback.run(coordinator.announce(run_record(owner)))


def test_a_changed_run_record_cannot_be_stored_again(
    loopback: Loopback, peers: list[Swarm]
) -> None:
    coordinator, host, client = peers
    record = run_record(loopback.identity("coordinator"), round_index=4)
    assert loopback.run(coordinator.announce(record))
    found = loopback.run(host.current_run(link_to(loopback)))
    assert found is not None
    forged = found.record.model_copy(update={"revision": OTHER})
    changed = type(found)(forged, found.owner, found.expiration_time + 1)
    assert not loopback.run(host.store_again(changed))
    seen = loopback.run(client.current_run(link_to(loopback)))
    assert seen is not None and seen.record.revision == DIGEST


def test_a_run_signed_by_another_key_is_not_joined(
    loopback: Loopback, peers: list[Swarm], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seshu_swarm.network.dht.RUN_RECORD_SECONDS", 0.5)
    assert loopback.run(peers[0].announce(run_record(loopback.identity("coordinator"))))
    with pytest.raises(FingerprintError, match="do not join a run you cannot verify") as caught:
        loopback.run(peers[2].run_record(link_to(loopback, "client")))
    assert loopback.identity("coordinator").fingerprint in str(caught.value)


def test_a_run_that_nobody_announces_is_named(
    loopback: Loopback, peers: list[Swarm], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seshu_swarm.network.dht.RUN_RECORD_SECONDS", 0.5)
    stranger = loopback.join("stranger", run_id="nobodys-run")
    wanted = link_to(loopback, run_id="nobodys-run")
    with pytest.raises(UnreachableError, match="knows no run 'nobodys-run'"):
        loopback.run(stranger.run_record(wanted))
    loopback.run(loopback.leave(stranger))


def test_records_of_another_wire_version_are_the_reason_given(
    loopback: Loopback, peers: list[Swarm], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seshu_swarm.network.dht.RUN_RECORD_SECONDS", 0.5)
    newer = loopback.attacker("newer")
    me = newer.me
    record = run_record(me, run_id="newer-run")
    payload = record.model_copy(update={"wire_version": WIRE_VERSION + 1})
    expires = soon()
    newer.keep(
        run_key("newer-run"), signed_value(me, payload, expires=expires), expires, me.peer_id
    )
    reader = loopback.join("reader", run_id="newer-run")
    with pytest.raises(WireVersionError, match="pip install --upgrade"):
        loopback.run(reader.run_record(Link("newer-run", me.fingerprint, ())))
    loopback.run(loopback.leave(reader))


def joining(loopback: Loopback, *, peers: list[str], listen: Listen | None = None) -> Swarm:
    work = Swarm.join(
        loopback.identity("outsider"),
        run_id=RUN_ID,
        initial_peers=peers,
        listen=listen or Listen("127.0.0.1", 0),
    )
    return loopback.run(work)


def test_an_address_where_nobody_listens_is_named_in_time(
    loopback: Loopback, free_port: int
) -> None:
    peer_id = loopback.identity("nobody").peer_id
    address = f"/ip4/127.0.0.1/tcp/{free_port}/p2p/{peer_id}"
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="no peer of the join link answered") as caught:
        joining(loopback, peers=[address])
    assert time.monotonic() - began < 10.0
    assert address in str(caught.value)


def test_one_living_address_among_dead_ones_is_enough(
    loopback: Loopback, peers: list[Swarm], free_port: int
) -> None:
    dead = f"/ip4/127.0.0.1/tcp/{free_port}/p2p/{loopback.identity('nobody').peer_id}"
    swarm = joining(loopback, peers=[dead, *loopback.addresses])
    loopback.run(swarm.leave())


def test_a_taken_port_is_named(loopback: Loopback) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"127.0.0.1:{port}.*choose another --port"):
            joining(loopback, peers=[], listen=Listen("127.0.0.1", port))


def test_a_port_taken_by_another_peer_is_named_too(loopback: Loopback, peers: list[Swarm]) -> None:
    port = int(loopback.addresses[0].split("/")[4])
    with pytest.raises(PortTakenError):
        joining(loopback, peers=[], listen=Listen("127.0.0.1", port))


def test_a_free_port_is_listened_on(loopback: Loopback, free_port: int) -> None:
    swarm = joining(loopback, peers=[], listen=Listen("127.0.0.1", free_port))
    assert f"/tcp/{free_port}/" in loopback.run(swarm.addresses())[0]
    loopback.run(swarm.leave())


def test_a_peer_that_left_cannot_be_opened(loopback: Loopback, peers: list[Swarm]) -> None:
    gone = loopback.join("gone")
    loopback.run(loopback.leave(gone))
    with pytest.raises(PeerLostError, match=f"peer …{gone.peer_id[-6:]}"):
        loopback.run(peers[2].open(gone.peer_id, BLOBS))


def test_a_peer_that_does_not_serve_a_stream_is_lost_for_it(
    loopback: Loopback, peers: list[Swarm]
) -> None:
    with pytest.raises(PeerLostError):
        loopback.run(peers[2].open(peers[0].peer_id, "seshu/nothing"))


WRONG_CLOCK = """
import sys, time
true_time = time.time
time.time = lambda: true_time() + 10.0  # before hivemind takes its reference to the clock
import asyncio
from pathlib import Path
from seshu_swarm.network import identity
from seshu_swarm.network.daemon import Listen
from seshu_swarm.network.dht import Swarm
from seshu_swarm.errors import SeshuError

async def main():
    me = identity.load_or_create(Path(sys.argv[1]))
    listen = Listen("127.0.0.1", 0)
    try:
        await Swarm.join(me, run_id="test-run", initial_peers=sys.argv[2:], listen=listen)
    except SeshuError as error:
        print(type(error).__name__, error)

asyncio.run(main())
"""


@pytest.mark.swarm
def test_a_clock_that_is_off_is_named(
    loopback: Loopback, peers: list[Swarm], tmp_path: Path
) -> None:
    async def late_child() -> tuple[bytes, bytes]:
        # The loop must turn meanwhile: it is this process that answers the child.
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WRONG_CLOCK, str(tmp_path), *loopback.addresses),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        return await child.communicate()

    said, log = loopback.run(late_child())
    assert said.startswith(ClockError.__name__.encode()), log.decode()
    assert b"at most 3 s" in said and b"timedatectl set-ntp true" in said


def test_the_signed_value_of_the_attackers_kit_is_what_owners_store(
    loopback: Loopback, peers: list[Swarm]
) -> None:
    """Otherwise the attacks that build on it would be refused for another reason."""
    newcomer = loopback.attacker("honest")
    record, expires = run_record(newcomer.me), soon()
    value = signed_value(newcomer.me, record, expires=expires)
    stored = newcomer.store(peers[1].peer_id, record.key, value, expires, newcomer.me.peer_id)
    assert loopback.run(stored)
    found = loopback.run(peers[1].lookup([record.key], RunRecord))
    assert newcomer.me.peer_id in {f.owner for f in found}
