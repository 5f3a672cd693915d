"""Killed with -9 in every state and taken up again, a round ends with the same digest."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from seshu_swarm.coordinator.rounds.states import RoundState
from seshu_swarm.coordinator.state.decisions import Decisions
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.readings import Readings
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import EXIT_INTERRUPTED
from tests.coordinator import small_runs
from tests.swarms import Fault, Processes, RoleProcess, inject

pytestmark = pytest.mark.swarm

SECONDS = 90.0
POINTS = ("gathering", "checking", "selecting", "gating", "verifying: merged", "verifying", "end")
STATES = ("gathering", "checking", "selecting", "gating", "verifying", "verifying", "verifying")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = small_runs.open_run(tmp_path_factory.mktemp("run"), ["hi", "ta"])
    small_runs.begin_round(run)
    for language in ("hi", "ta"):
        small_runs.hand_in(run, language)
    return run


def coordinate(processes: Processes, run: RunFolder, point: str) -> RoleProcess:
    where = ("--state-dir", str(run.path), "--host", "127.0.0.1")
    flags = ("run", *where, "--rounds", "1", "--max-threads", "1")
    return processes.start("tests.coordinator.killed_run", point, *flags)


def until_it_ends(processes: Processes, run: RunFolder) -> None:
    """Hold the round to its end, then stop the coordinator as its owner would."""
    process = coordinate(processes, run, "never")
    process.wait_for("round", seconds=SECONDS)
    inject(process, Fault.TERMINATE)
    # A second to end in order, on a busy machine less than it takes.
    assert process.wait(seconds=SECONDS) in (0, EXIT_INTERRUPTED)


def test_a_round_killed_in_every_state_ends_with_the_same_digest(
    prepared: RunFolder, tmp_path: Path
) -> None:
    calm, killed = (RunFolder(tmp_path / name) for name in ("calm", "killed"))
    for run in (calm, killed):
        shutil.copytree(prepared.path, run.path)
    ledger = Ledger(killed.ledger)
    with Processes(tmp_path / "logs") as processes:
        until_it_ends(processes, calm)
        assert Ledger(calm.ledger).round(1).state is RoundState.PUBLISHED
        for point, state in zip(POINTS, STATES, strict=True):
            process = coordinate(processes, killed, point)
            assert process.wait(seconds=SECONDS) == -signal.SIGKILL
            inject(process, Fault.KILL)  # its daemon is left
            now = ledger.round(1)
            assert now.state == state and ledger.fact("revision") == now.parent
            assert Decisions(ledger.database).of(1, point) is None
        until_it_ends(processes, killed)
    assert ledger.round(1).state is RoundState.PUBLISHED
    assert ledger.fact("revision") == Ledger(calm.ledger).fact("revision")
    ours, theirs = small_runs.report_of(killed), small_runs.report_of(calm)
    for report in (ours, theirs):
        del report["checkpoint"]
    assert ours == theirs
    # The gate was read by two processes, and paid for once.
    assert Readings(ledger.database).count("gate-1") == 1
