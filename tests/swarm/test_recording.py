"""`coordinator record` for real: killed on the way, taken up, finished, and simulated on."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from seshu_swarm.coordinator.research.recording.notes import NOTES_FILE
from seshu_swarm.coordinator.state.ledger import Ledger
from tests.swarms import Processes, RoleProcess

pytestmark = pytest.mark.swarm

COORDINATOR = (sys.executable, "-m", "seshu_swarm.coordinator")
SMALL = ("--adapters", "4", "--languages", "hi,ta", "--hold-out-rows", "120", "--d-model", "32")
SECONDS = 280


def record(processes: Processes, out: Path) -> RoleProcess:
    flags = ("--out", str(out), *SMALL, "--pretrain-seconds", "8")
    return processes.start("seshu_swarm.coordinator", "record", *flags)


def handed_in(out: Path) -> list[str]:
    """Digests of the adapters that are noted as handed in."""
    try:
        members = json.loads((out / NOTES_FILE).read_bytes())["members"]
    except FileNotFoundError:
        return []
    return [facts["digest"] for facts in members.values() if facts["digest"]]


def switch_off(pid: int) -> None:
    """As a machine is: the process and all that it started."""
    family = [psutil.Process(pid)]
    family += family[0].children(recursive=True)
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # it had just ended by itself
            one.kill()
    psutil.wait_procs(family[1:], timeout=10)


def test_a_killed_recording_goes_on_and_can_be_simulated_on(tmp_path: Path) -> None:
    out = tmp_path / "set"
    with Processes(tmp_path / "logs") as processes:
        began = record(processes, out)
        # It tells its progress while donors come and go.
        began.wait_for("progress", seconds=SECONDS, matching=lambda event: bool(handed_in(out)))
        switch_off(began.process.pid)
        before = handed_in(out)
        again = record(processes, out)
        assert again.wait(seconds=SECONDS) == 0, again.tail()
    ledger = Ledger(out / "ledger.sqlite")
    digests = {adapter.digest for adapter in ledger.adapters(1)}
    assert len(digests) == 4 and digests == set(handed_in(out)) and digests > set(before)
    assert len(ledger.rounds()) == 1
    card = (out / "README.md").read_text()
    assert all(digest[:12] in card for digest in digests) and "4 adapters with verdicts" in card
    left = {path.name for path in out.iterdir()}
    whole = {"README.md", NOTES_FILE, "hold-outs", "ledger.sqlite", "packages", "rounds"}
    assert whole <= left <= whole | {"curves.json", "curves.png"}, "what is private has gone"
    for path in (*out.rglob("*.json"), *out.rglob("*.md")):
        assert str(tmp_path) not in path.read_text(), f"{path} names this machine's folder"
    policy = tmp_path / "default.py"
    policy.write_text("def policy(round):\n    return round.default()\n")
    report = tmp_path / "report.json"
    flags = ("--state-dir", str(out), "--policy", str(policy), "--report", str(report))
    subprocess.run([*COORDINATOR, "simulate", *flags], check=True, timeout=SECONDS)
    recorded, mine = json.loads(report.read_bytes())["rows"]
    assert recorded["mixture"] == mine["mixture"] and recorded["published"] == mine["published"]
