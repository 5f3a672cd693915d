"""What anyone with the link sees: signed records, and the ledger that the coordinator itself signed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from seshu_swarm import packages
from seshu_swarm.client.dashboard import RETRY_SECONDS, Signed
from seshu_swarm.coordinator.web.books import Books
from seshu_swarm.coordinator.web.publishing import FACT, KEPT, Publisher, seal
from seshu_swarm.dashboard.public import (
    FILE,
    KIND,
    MAX_BYTES,
    ledger_of,
    only_a_ledger,
    read_ledger,
)
from seshu_swarm.dashboard.snapshot import Snapshot
from seshu_swarm.errors import PackageError
from seshu_swarm.network.dht import Swarm
from seshu_swarm.network.link import Link
from seshu_swarm.packages import FileEntry, Manifest
from seshu_swarm.records.kinds import LedgerRecord
from seshu_swarm.run.joining import Joined
from seshu_swarm.stores.holder import Holder, HolderPolicy
from seshu_swarm.streams.protocol import BLOBS
from tests.coordinator.released_run import Released
from tests.loopback import Loopback
from tests.samples import run_record, span_record


def serve_packages(loopback: Loopback, swarm: Swarm, folder: Path) -> None:
    holder = Holder(
        folder,
        policy=HolderPolicy(),
        allow_upload=lambda num_bytes: True,
        on_stored=lambda digest: None,
    )
    loopback.run(swarm.serve(BLOBS, holder.serve))


def test_the_link_alone_shows_what_the_maintainer_sees(loopback: Loopback, tmp_path: Path) -> None:
    run = Released.opened(tmp_path / "run")
    run.publish(seed=1)
    run.abort()
    coordinator, host = loopback.join("signing"), loopback.join("hosting")
    reader, liar = loopback.join("reading"), loopback.join("lying")
    serve_packages(loopback, coordinator, run.run.packages)
    me = loopback.identity("signing")
    loopback.run(coordinator.announce(run_record(me, num_blocks=2)))
    loopback.run(host.announce(span_record(0, 2, num_sessions=1)))
    loopback.run(Publisher(coordinator, run.run, run.ledger).publish())
    # Another member's word on the ledger is nobody's.
    loopback.run(liar.announce(LedgerRecord(run_id=loopback.run_id, digest="cd" * 32)))
    link = Link(loopback.run_id, me.fingerprint, tuple(loopback.addresses[:1]))
    found = loopback.run(reader.run_record(link))
    now = [found.expiration_time - 86_400]
    source = Signed(Joined(reader, link, found, tmp_path / "reader"), clock=lambda: now[0])

    seen: Snapshot = loopback.run(source.snapshot())
    books = Books(run.run, run.ledger).read()
    assert seen.rounds == books.rounds and seen.donors == books.donors
    assert seen.checkpoints == tuple(replace(one, files=()) for one in books.checkpoints)
    assert [(p.peer_id, p.start, p.end) for p in seen.peers or ()] == [(host.peer_id, 0, 2)]
    assert seen.run.link == str(link) and seen.run.num_blocks == 2
    assert not list((tmp_path / "reader").rglob(FILE))

    # What comes later is seen later; while the coordinator's packages are gone, the last one stays.
    run.abort()
    digest = seal(run.run, run.ledger, Books(run.run, run.ledger))
    packages_gone = run.run.package(digest).rename(tmp_path / "gone")
    loopback.run(coordinator.announce(LedgerRecord(run_id=loopback.run_id, digest=digest)))
    assert len(loopback.run(source.snapshot()).rounds) == 2
    packages_gone.rename(run.run.package(digest))
    now[0] += RETRY_SECONDS + 1
    assert len(loopback.run(source.snapshot()).rounds) == 3


def test_ledgers_do_not_pile_up(tmp_path: Path) -> None:
    run = Released.opened(tmp_path / "run")
    books = Books(run.run, run.ledger)
    digests = [seal(run.run, run.ledger, books)]
    assert seal(run.run, run.ledger, books) == digests[0]
    # As after a restore, whose backup has no packages of this kind.
    shutil.rmtree(run.run.package(digests[0]))
    assert seal(run.run, run.ledger, books) == digests[0]
    assert read_ledger(run.run.package(digests[0])).rounds == ()
    for _ in range(3):
        run.abort()
        digests.append(seal(run.run, run.ledger, books))
    assert run.ledger.fact(FACT) == digests[-KEPT:]
    kinds = [packages.read_manifest(p).kind for p in run.run.packages.iterdir() if p.is_dir()]
    assert kinds.count(KIND) == KEPT


def test_a_ledger_is_bounded_and_strict(tmp_path: Path) -> None:
    run = Released.opened(tmp_path / "run")
    run.publish(seed=1)
    books = Books(run.run, run.ledger).read()
    (tmp_path / FILE).write_bytes(ledger_of(books))
    assert read_ledger(tmp_path).rounds == books.rounds
    wordy = replace(books.rounds[0].verdicts[0], reason="r" * 2_000)
    many = replace(books.rounds[0], verdicts=(wordy,) * 100)
    crowded = replace(books, rounds=tuple(replace(many, number=k) for k in range(100)))
    data = ledger_of(crowded)
    assert len(data) <= MAX_BYTES
    (tmp_path / FILE).write_bytes(data)
    kept = [len(one.verdicts) for one in read_ledger(tmp_path).rounds]
    assert kept == [0] * 90 + [100] * 10
    for bad in (b"{", b"[]", b'{"rounds": 1}', b"x" * (MAX_BYTES + 2)):
        (tmp_path / FILE).write_bytes(bad)
        with pytest.raises(PackageError):
            read_ledger(tmp_path)
    entry = FileEntry(10, "ab" * 32)
    only_a_ledger(Manifest(KIND, {FILE: entry}))
    for manifest in (
        Manifest("checkpoint", {FILE: entry}),
        Manifest(KIND, {FILE: entry, "more": entry}),
        Manifest(KIND, {FILE: FileEntry(MAX_BYTES + 1, "ab" * 32)}),
    ):
        with pytest.raises(PackageError):
            only_a_ledger(manifest)
