"""Decisions, readings, the line of revisions and the held-out sets: there again after a kill."""

from __future__ import annotations

import hashlib
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from seshu_swarm.coordinator.rounds.states import RoundState
from seshu_swarm.coordinator.state import database as database_module
from seshu_swarm.coordinator.state.database import Database
from seshu_swarm.coordinator.state.decisions import Decisions
from seshu_swarm.coordinator.state.hold_outs import HoldOuts, Role, SetState
from seshu_swarm.coordinator.state.ledger import Judgement, Ledger
from seshu_swarm.coordinator.state.lineage import Kind, Lineage
from seshu_swarm.coordinator.state.readings import Readings
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.data.holdout import Holdout, read_holdout
from seshu_swarm.data.text import Document, Row
from seshu_swarm.errors import PackageError, RoundError, UsageError

A, B, C, D = ("aa" * 32, "bb" * 32, "cc" * 32, "dd" * 32)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "ledger.sqlite")


def reopened(tmp_path: Path) -> Database:
    return Database(tmp_path / "ledger.sqlite")


def test_the_first_decision_of_a_phase_stays(database: Database, tmp_path: Path) -> None:
    decisions = Decisions(database)
    assert decisions.of(1, "selecting") is None
    first = {"ids": {"x": A}, "gain": 0.25, "none": None, "words": ["हाँ"]}
    assert decisions.note(1, "selecting", first) == first
    assert decisions.note(1, "selecting", {"ids": {}}) == first
    assert Decisions(reopened(tmp_path)).of(1, "selecting") == first
    assert decisions.of(2, "selecting") is None and decisions.of(1, "gating") is None
    with pytest.raises(ValueError, match="JSON compliant"):
        decisions.note(1, "gating", {"bound": float("nan")})


def test_a_reading_is_counted_once_whoever_makes_it(database: Database, tmp_path: Path) -> None:
    readings = Readings(database)
    assert [readings.note("gate-1", f"round {n}") for n in (1, 2, 2, 3, 1)] == [1, 2, 2, 3, 1]
    assert (readings.count("gate-1"), readings.count("gate-2")) == (3, 0)
    assert Readings(reopened(tmp_path)).note("gate-1", "round 9") == 4
    assert readings.note("gate-2", "round 9") == 1


def test_the_line_grows_at_its_head_only(database: Database, tmp_path: Path) -> None:
    line = Lineage(database)
    assert line.head() is None
    line.add(A, parent=None, kind=Kind.BASE)
    line.add(B, parent=A, kind=Kind.ROUND, round_=1)
    line.add(B, parent=A, kind=Kind.ROUND, round_=1)
    with pytest.raises(UsageError, match="each revision has one successor"):
        line.add(C, parent=A, kind=Kind.ROUND, round_=2)
    line.add(C, parent=B, kind=Kind.PRETRAINING)
    line.add(D, parent=C, kind=Kind.ROUND, round_=2)
    found = Lineage(reopened(tmp_path))
    assert [r.revision for r in found.all()] == [A, B, C, D]
    assert [r.revision for r in found.since_boundary()] == [C, D]
    head = found.head()
    assert head is not None and (head.parent, head.kind, head.round) == (C, Kind.ROUND, 2)
    line.withdraw(D, "revoked")
    assert [r.withdrawn for r in found.all()] == ["", "", "", "revoked"]


def test_a_round_ends_with_its_verdicts_and_the_head_or_not_at_all(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    Lineage(ledger.database).add(A, parent=None, kind=Kind.BASE)
    current = ledger.begin_round(parent=A, seed=1, closes_at=0.0)
    ledger.add_adapter(C, round_number=1, owner="donor", record=b"")
    judged = [Judgement(C, "accepted", "MERGED: better with it", "+0.010", "keep going")]
    with pytest.raises(RoundError):
        ledger.end_round(current, RoundState.PUBLISHED, judgements=judged, revision=B)
    for state in list(RoundState)[1:6]:
        ledger.move_round(1, state)
    found = ledger.adapter(C)
    assert found is not None and (found.state, ledger.fact("revision")) == ("pending", A)
    ledger.end_round(current, RoundState.PUBLISHED, judgements=judged, revision=B)
    found, head = ledger.adapter(C), Lineage(ledger.database).head()
    assert found is not None and (found.state, found.gain) == ("accepted", "+0.010")
    assert head is not None and (head.revision, head.parent, head.round) == (B, A, 1)
    assert (ledger.fact("revision"), ledger.round(1).revision) == (B, B)


def some(text: str) -> Holdout:
    row, document = Row("", "", text, "hi"), Document(text * 3, "hi", "d")
    return Holdout({"hi": (row,)}, {"hi": (document,)})


def test_sets_are_committed_to_and_give_way(tmp_path: Path, database: Database) -> None:
    run = RunFolder(tmp_path)
    sets = HoldOuts(run, database)
    with pytest.raises(RoundError, match=r"every gate set.*reveal --draw"):
        sets.in_use(Role.GATE)
    first = sets.add(Role.GATE, some("एक"))
    second = sets.add(Role.GATE, some("दो"))
    assert (first.name, first.state) == ("gate-1", SetState.IN_USE)
    assert (second.name, second.state) == ("gate-2", SetState.RESERVE)
    assert stat.S_IMODE(run.hold_outs.stat().st_mode) == 0o700
    digests = sorted(item.digest for item in some("एक").items())
    lines = "\n".join([first.salt, *digests])
    assert first.commitment == hashlib.sha256(lines.encode()).hexdigest()
    assert read_holdout(sets.path("gate-2")).rows == some("दो").rows
    assert sets.retire("gate-1") == second
    assert sets.in_use(Role.GATE).name == "gate-2" and sets.retire("gate-2") is None
    with pytest.raises(RoundError):
        HoldOuts(run, reopened(tmp_path)).in_use(Role.GATE)
    assert sets.add(Role.GATE, some("तीन")).state is SetState.IN_USE
    for text in ("चार", "पाँच"):
        sets.add(Role.GATE, some(text))
    # One in reserve goes without touching the one in use.
    assert sets.retire("gate-4") is None and sets.in_use(Role.GATE).name == "gate-3"
    assert [str(found.state) for found in sets.all()] == [
        *("retired", "retired", "in use", "retired", "reserve"),
    ]


def test_a_ledger_that_cannot_be_used_is_said_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.sqlite"
    kept = Ledger(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UsageError, match=r"locked by another program.*close what reads"):
            kept.set_fact("a", 1)
    kept.set_fact("a", 1)
    with pytest.raises(sqlite3.IntegrityError), kept.database.open() as connection:
        connection.execute("INSERT INTO facts VALUES ('a', '2')")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="cannot be opened or written"):
        Ledger(tmp_path / "folder")
    for file in tmp_path.glob("ledger.sqlite-*"):
        file.unlink()
    path.write_bytes(b"no database, but long enough to be read as one" * 100)
    with pytest.raises(PackageError, match=r"is damaged.*restore the newest backup"):
        kept.fact("a")
