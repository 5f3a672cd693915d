"""The coordinator's dashboard says what its ledger, its reports and the swarm's records say."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from pathlib import Path

import pytest

from seshu_swarm.coordinator.rounds.states import RoundState
from seshu_swarm.coordinator.state.ledger import Judgement
from seshu_swarm.coordinator.web.books import Books
from seshu_swarm.coordinator.web.watching import FACT, Watch, seen
from seshu_swarm.dashboard.pages import Pages
from seshu_swarm.dashboard.snapshot import Snapshot
from seshu_swarm.network.link import Link
from tests.coordinator.released_run import OWNER, Released
from tests.loopback import Loopback
from tests.samples import span_record


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    """Two published rounds, one that came to nothing, and one under way."""
    found = Released.opened(tmp_path_factory.mktemp("web") / "run")
    found.publish(seed=1)
    found.abort()
    found.publish(seed=2)
    found.begin()
    found.hand_in("ef" * 32)
    return found


@pytest.fixture(scope="module")
def snapshot(released: Released) -> Snapshot:
    return asyncio.run(Books(released.run, released.ledger).snapshot())


def test_the_snapshot_is_what_the_database_and_the_reports_say(
    released: Released, snapshot: Snapshot
) -> None:
    with sqlite3.connect(released.run.ledger) as ledger:
        states = ledger.execute("SELECT number, state, reason FROM rounds").fetchall()
        counts = dict(ledger.execute("SELECT round, COUNT(*) FROM adapters GROUP BY round"))
        line = ledger.execute("SELECT revision FROM revisions ORDER BY rowid DESC").fetchall()
        (head,) = ledger.execute("SELECT value FROM facts WHERE name = 'revision'").fetchone()
    assert [(r.number, r.state, r.reason) for r in snapshot.rounds] == states
    assert [r.num_adapters for r in snapshot.rounds] == [counts.get(n, 0) for n, *_ in states]
    assert [(one.revision,) for one in snapshot.checkpoints] == line
    assert snapshot.run.revision == json.loads(head) and snapshot.run.round_state == "open"
    for one in (snapshot.rounds[0], snapshot.rounds[2]):
        report = json.loads((released.run.reports / f"round-{one.number:04d}.json").read_bytes())
        assert [c.language for c in one.changes] == list(report["languages"])
        for change, told in zip(one.changes, report["languages"].values(), strict=True):
            assert (change.before, change.after) == (told["before"], told["after"])
            assert (change.low, change.high) == (told["change"]["low"], told["change"]["high"])
        assert [v.is_accepted for v in one.verdicts] == [a["accepted"] for a in report["adapters"]]
    for checkpoint in snapshot.checkpoints:
        folder = released.run.package(checkpoint.revision)
        assert {f.name for f in checkpoint.files} <= {p.name for p in folder.iterdir()}
        assert all((folder / f.name).stat().st_size == f.size_bytes for f in checkpoint.files)


def test_donors_count_for_what_ended_and_for_what_was_merged(snapshot: Snapshot) -> None:
    (donor,) = snapshot.donors
    # Two rounds with one merged and one refused each; the open round counts for nothing.
    assert (donor.peer_id, donor.num_adapters, donor.num_accepted) == (OWNER, 4, 2)
    assert donor.credit == pytest.approx(-0.04) and donor.last_round == 3
    assert snapshot.rounds[-1].verdicts == () and snapshot.peers is None


def test_what_donors_wrote_is_text_on_the_page(snapshot: Snapshot) -> None:
    page = Pages.of(snapshot).round(1)
    assert page is not None
    text = page.data.decode()
    assert "&lt;script&gt;large" in text and "<script>large" not in text
    assert OWNER not in text and OWNER not in Pages.of(snapshot).whole().data.decode()


def test_a_revoked_or_half_removed_checkpoint_is_not_given_out(tmp_path: Path) -> None:
    run = Released.opened(tmp_path / "run")
    first, second = run.publish(seed=3), run.publish(seed=4)
    third = run.publish(seed=5)
    (run.run.package(first) / "model-block-00000.safetensors").unlink()
    with sqlite3.connect(run.run.ledger) as ledger:
        ledger.execute("UPDATE revisions SET withdrawn = 'it harms' WHERE revision = ?", (second,))
    pages = Pages.of(Books(run.run, run.ledger).read())
    assert pages.find(third) and not pages.find(first) and not pages.find(second)
    assert b"it harms" in pages.whole().data
    # A report that was cut off hides no page.
    books = Books(run.run, run.ledger)
    assert books.read().rounds[0].changes
    run.run.report(3).write_text("{")
    assert books.read().rounds[0].changes


def test_a_round_s_verdicts_show_once_it_ended(tmp_path: Path) -> None:
    run = Released.opened(tmp_path / "run")
    number = run.begin()
    run.hand_in("ab" * 32)
    told = Judgement("ab" * 32, "accepted", "MERGED: better", "+0.012 bits per byte", "")
    run.ledger.judge(**vars(told))
    assert Books(run.run, run.ledger).read().donors == ()
    run.ledger.move_round(number, RoundState.ABORTED, reason="void")
    (donor,) = Books(run.run, run.ledger).read().donors
    assert donor.credit == pytest.approx(0.012)


def test_the_swarm_is_noted_as_it_was_last_seen(loopback: Loopback, tmp_path: Path) -> None:
    coordinator, host = loopback.join("web-coordinator"), loopback.join("web-host")
    run = Released.opened(tmp_path / "run")

    async def link() -> Link:
        return Link(loopback.run_id, "ab" * 32, ("/ip4/127.0.0.1/tcp/1/p2p/Qm",))

    watch = Watch(coordinator, run.ledger, 4, link)
    loopback.run(host.announce(span_record(0, 2, num_sessions=3, paused="on battery")))
    loopback.run(watch.look())
    found = seen(run.ledger)
    assert found is not None and found.link == str(loopback.run(link()))
    (peer,) = found.peers
    assert (peer.peer_id, peer.start, peer.end) == (host.peer_id, 0, 2)
    assert (peer.num_sessions, peer.state) == (3, "on battery")
    assert 0 <= time.time() - peer.heard_at < 10
    loopback.run(loopback.leave(host))
    with sqlite3.connect(run.run.ledger) as ledger:
        # As if it had gone ten minutes ago: it is remembered; after half an hour it is not.
        old = {**run.ledger.fact(FACT), "at": 0}
        old["peers"] = [
            {**old["peers"][0], "peer_id": name, "heard_at": time.time() - age}
            for name, age in (("recent", 600), ("gone", 1_800))
        ]
        ledger.execute("UPDATE facts SET value = ? WHERE name = ?", (json.dumps(old), FACT))
    loopback.run(watch.look())
    known = seen(run.ledger)
    assert known is not None and {p.peer_id for p in known.peers} == {host.peer_id, "recent"}
