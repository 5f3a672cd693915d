"""Benches of a whole swarm, tiny: real processes, real faults, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = [pytest.mark.swarm, pytest.mark.alone]

BENCH = [sys.executable, "-m", "seshu_swarm", "bench"]
TINY = """
from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.swarm import failover, hops, live, sessions
from seshu_swarm.bench.swarm.failover import Fault
from seshu_swarm.bench.swarm.playing import play
import json

def told(settings, measure):
    outcome = play(BenchConfig(name="tiny", **settings), measure, num_steps=4)
    print(json.dumps({"results": outcome.results, "rows": outcome.rows}))
"""


def tiny(script: str) -> dict[str, Any]:
    """What a bench of a few tokens tells, in a process of its own."""
    command = [sys.executable, "-c", TINY + script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_two_hops_on_links_like_home() -> None:
    """A token goes three ways of 25 ms; halves of floats take half the bytes."""
    found = tiny("told({'links': 'home', 'tokens': 12}, lambda s: hops.measure(s, (2,)))")
    (row,) = found["rows"]
    assert 65 <= row["token_ms_p50"] <= 150
    assert 0 < row["compute_ms_p50"] < 10
    assert row["hop_overhead_ms_p50"] == pytest.approx(row["token_ms_p50"] / 2, rel=0.1)
    half, full = (found["results"][f"wire_bytes_per_token_per_hop{s}"] for s in ("", "_float32"))
    assert 2 * 64 < half <= 2 * 64 + 200
    assert full - half == pytest.approx(2 * 64, abs=8)  # a token of 64 floats
    # In a star the client feeds both hops, and a token goes four ways.
    assert row["star_client_bytes_per_token"] > 1.5 * row["client_bytes_per_token"]
    assert row["star_token_ms_p50"] >= 85


def test_a_kill_and_a_silence() -> None:
    faults = "[(Fault.KILL, 64), (Fault.SILENCE, 64)]"
    settings = "{'kills': 1, 'churn_seconds': 0.0, 'drains': 0, 'rolls': 0}"
    found = tiny(f"told({settings}, lambda s: failover.measure(s, ('0:3', '3:6'), {faults}))")
    rows = [row for row in found["rows"] if "stall_ms" in row]
    assert [row["fault"] for row in rows] == ["kill", "silence"]
    assert all(row["failovers"] >= 1 and row["identical"] for row in rows)
    assert found["results"]["tokens_identical"] is True
    # Nobody can know of a silence at once; of an end one hears.
    assert found["results"]["stall_silent_ms_p50"] > max(100, rows[0]["stall_ms"])


@pytest.fixture(scope="module")
def moved() -> dict[str, Any]:
    """One host leaves, one chooses other blocks, then comes a new revision."""
    settings = "{'churn_seconds': 0.0, 'drains': 2, 'rolls': 1}"
    return tiny(
        "live.SESSION_TOKENS = 600\n"
        f"told({settings}, lambda s: failover.measure(s, ('0:3', '3:6'), []))"
    )


def test_hosts_leave_and_move_under_live_sessions(moved: dict[str, Any]) -> None:
    drain, rebalance = (row for row in moved["rows"] if "move" in row)
    assert (drain["move"], drain["before"]) == ("drain", drain["after"])
    assert rebalance["move"] == "rebalance" and rebalance["before"] != rebalance["after"]
    assert drain["is_done"] and rebalance["is_done"]
    results = moved["results"]
    assert results["sessions_handed_over"] > 0 < results["failovers_under_moves"]
    assert results["tokens_under_moves"] > 20 <= results["sessions_under_moves"]
    assert results["sessions_failed_under_moves"] == results["wrong_tokens_under_moves"] == 0


def test_a_new_revision_under_live_sessions(moved: dict[str, Any]) -> None:
    """Those that speak keep their weights and their hosts; those that come have the new ones."""
    (roll,) = (row for row in moved["rows"] if "pinned" in row)
    old, new = (row for row in moved["rows"] if row.get("during") == "rolls")
    assert roll["pinned"] > 0 and roll["revision"] == new["revision"] != old["revision"]
    assert roll["switched_seconds"] < roll["retired_seconds"]
    for row in (old, new):
        assert row["sessions"] > 0 < row["tokens"]
        assert row["failed"] == row["wrong_tokens"] == 0


def test_eight_sessions_and_a_peer_at_rest() -> None:
    found = tiny("told({'tokens': 20}, lambda s: sessions.measure(s, (sessions.NANO,)))")
    loads = [row for row in found["rows"] if "sessions" in row]
    assert [(row["clients"], row["sessions"]) for row in loads] == [(1, 1), (1, 8), (2, 8)]
    # One session has one token under way: its rate is that of its tokens.
    assert loads[0]["tokens_per_second"] * loads[0]["token_ms_p50"] < 1_300
    assert found["results"]["throughput_8_sessions_of_1_client_vs_1_nano"] > 1
    assert 100 < found["results"]["idle_peer_pss_mb"] < 1_000
    assert 0.5 < found["results"]["ready_seconds"] < 60


def test_ctrl_c_ends_every_process(tmp_path: Path) -> None:
    flags = ["hops", "--log-format", "json"]
    with subprocess.Popen(
        [*BENCH, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        me = psutil.Process(process.pid)
        until = time.monotonic() + 60
        while not any(
            "peer" in child.cmdline() or "host" in child.cmdline() for child in family(me)
        ):
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.1)
        children = family(me)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=15)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(children, timeout=3)
    assert not alive
    assert list(tmp_path.iterdir()) == []


def family(process: psutil.Process) -> list[psutil.Process]:
    """Descendants that can still be asked."""
    found = []
    for child in process.children(recursive=True):
        try:
            if child.cmdline():
                found.append(child)
        except psutil.Error:
            continue
    return found
