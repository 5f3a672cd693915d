"""The ledger: written before acted upon, and there again after a kill."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from seshu_swarm.coordinator.rounds.states import RoundState
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import RoundError, UsageError

PARENT, DIGEST, OTHER = "aa" * 32, "bb" * 32, "cc" * 32


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def reopened(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def test_facts_keep_their_kinds_and_the_newest_value(ledger: Ledger, tmp_path: Path) -> None:
    assert ledger.fact("languages") is None
    for value in ("hi", ["hi", "ta"], {"n": 1}, 2.5, None, "हिन्दी"):
        ledger.set_fact("languages", value)
        assert reopened(tmp_path).fact("languages") == value


def test_rounds_are_numbered_from_one_and_survive(ledger: Ledger, tmp_path: Path) -> None:
    before = time.time()
    first = ledger.begin_round(parent=PARENT, seed=(1 << 48) - 1, closes_at=before + 60)
    assert (first.number, first.state, first.parent) == (1, RoundState.OPEN, PARENT)
    assert before <= first.opened_at <= time.time() and first.closes_at == before + 60
    second = ledger.begin_round(parent=OTHER, seed=0, closes_at=0.0)
    assert reopened(tmp_path).rounds() == [first, second] and second.number == 2
    with pytest.raises(UsageError, match="there was no round 3"):
        ledger.round(3)


def test_a_round_moves_only_as_rounds_may(ledger: Ledger) -> None:
    number = ledger.begin_round(parent=PARENT, seed=1, closes_at=0.0).number
    for state in list(RoundState)[1:6]:
        ledger.move_round(number, state)
        assert ledger.round(number).state is state
    ledger.move_round(number, RoundState.PUBLISHED, revision=OTHER)
    assert ledger.round(number).revision == OTHER
    with pytest.raises(RoundError):
        ledger.move_round(number, RoundState.ABORTED, reason="too late")
    assert ledger.round(number).state is RoundState.PUBLISHED


def test_an_aborted_round_keeps_its_reason(ledger: Ledger) -> None:
    number = ledger.begin_round(parent=PARENT, seed=1, closes_at=0.0).number
    ledger.move_round(number, RoundState.ABORTED, reason="nothing helped")
    assert ledger.round(number).reason == "nothing helped"


def test_an_adapter_is_noted_once_a_round(ledger: Ledger) -> None:
    assert ledger.add_adapter(DIGEST, round_number=1, owner="me", record=b"\x00\xff")
    assert not ledger.add_adapter(DIGEST, round_number=1, owner="thief", record=b"")
    found = ledger.adapter(DIGEST)
    assert found is not None
    assert (found.round, found.owner, found.record) == (1, "me", b"\x00\xff")
    assert (found.state, found.reason, found.gain, found.next_step) == ("pending", "", "", "")
    assert ledger.adapter(OTHER) is None


def test_a_verdict_is_of_the_latest_round(ledger: Ledger) -> None:
    ledger.add_adapter(DIGEST, round_number=1, owner="me", record=b"")
    ledger.judge(DIGEST, state="rejected", reason="NOT_PUBLISHED", gain="", next_step="wait")
    ledger.add_adapter(DIGEST, round_number=2, owner="me", record=b"")
    ledger.judge(DIGEST, state="accepted", reason="MERGED", gain="+0.010", next_step="")
    assert [a.state for n in (1, 2) for a in ledger.adapters(n)] == ["rejected", "accepted"]
    found = ledger.adapter(DIGEST)
    assert found is not None and (found.round, found.state) == (2, "accepted")


def test_adapters_come_by_digest_not_by_author_or_time(ledger: Ledger) -> None:
    digests = [f"{n * 7919 % 256:02x}" * 32 for n in range(20)]
    for number, digest in enumerate(digests):
        ledger.add_adapter(digest, round_number=1, owner=f"peer-{number}", record=b"")
    ledger.add_adapter("ff" * 32, round_number=2, owner="later", record=b"")
    assert [a.digest for a in ledger.adapters(1)] == sorted(digests)
    assert len(ledger.adapters(2)) == 1 and ledger.adapters(3) == []


def test_a_verdict_is_kept_with_what_to_do_next(ledger: Ledger, tmp_path: Path) -> None:
    ledger.add_adapter(DIGEST, round_number=1, owner="me", record=b"")
    ledger.judge(DIGEST, state="rejected", reason="NO_GAIN", gain="+0.01", next_step="more rows")
    found = reopened(tmp_path).adapter(DIGEST)
    assert found is not None
    verdict = (found.state, found.reason, found.gain, found.next_step)
    assert verdict == ("rejected", "NO_GAIN", "+0.01", "more rows")


KILLED = """
import os, sys
from pathlib import Path
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.rounds.states import RoundState
ledger = Ledger(Path(sys.argv[1]))
number = ledger.begin_round(parent="a" * 64, seed=7, closes_at=1.0).number
for state in (RoundState.GATHERING, RoundState.CHECKING):
    ledger.move_round(number, state)
os.kill(os.getpid(), 9)
"""


def test_what_was_written_is_there_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, timeout=60)
    assert done.returncode == -9
    [found] = Ledger(path).rounds()
    assert (found.state, found.seed) == (RoundState.CHECKING, 7)


def test_threads_write_side_by_side(ledger: Ledger) -> None:
    def write(start: int) -> None:
        for number in range(start, start + 20):
            ledger.add_adapter(f"{number:064x}", round_number=1, owner="x", record=b"")

    threads = [threading.Thread(target=write, args=(20 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger.adapters(1)) == 80


def test_the_ledger_is_a_plain_database_that_others_can_read(
    ledger: Ledger, tmp_path: Path
) -> None:
    ledger.set_fact("run_id", "demo")
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("SELECT * FROM facts").fetchall() == [("run_id", '"demo"')]
    connection.close()


def test_a_folder_without_a_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{tmp_path} holds no run.*coordinator open"):
        RunFolder(tmp_path).must_exist()
    with pytest.raises(UsageError, match="cannot open the ledger"):
        Ledger(tmp_path / "nowhere" / "ledger.sqlite")


def test_one_coordinator_per_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    held = folder.hold()
    script = (
        "import sys; from pathlib import Path\n"
        "from seshu_swarm.coordinator.state.run_folder import RunFolder\n"
        "from seshu_swarm.errors import UsageError\n"
        "try: RunFolder(Path(sys.argv[1])).hold()\n"
        "except UsageError as error: print(error)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "another coordinator command works on" in said and "stop the other one first" in said
    held.close()
    folder.hold().close()


def test_names_of_a_run_lie_inside_its_folder(tmp_path: Path) -> None:
    folder = RunFolder.of(str(tmp_path))
    names = [folder.ledger, folder.packages, folder.hold_outs, folder.lock, folder.report(3)]
    assert all(os.path.commonpath([tmp_path, path]) == str(tmp_path) for path in names)
    # What the swarm may fetch lies apart from what it must never see.
    assert not folder.hold_outs.is_relative_to(folder.packages)
    assert folder.package(DIGEST).parent == folder.packages
