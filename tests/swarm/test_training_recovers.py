"""Training through peers: the coordinator is killed, and so is the only replica of a stage; it ends as planned."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from seshu_swarm import packages
from tests.coordinator.runs import opened
from tests.swarms import Fault, Processes, RoleProcess, inject

NUM_STEPS = 24
SETTINGS = {
    "--stages": "2",
    "--train-steps": str(NUM_STEPS),
    "--checkpoint-steps": "8",
    # So many that a step takes a while: the stage is killed long before the last one.
    "--microbatches": "16",
    "--train-batch-size": "2",
    "--train-length": "64",
    "--train-learning-rate": "0.01",
    "--max-threads": "1",
}
FLAGS = [part for pair in SETTINGS.items() for part in pair]


def books(run: Path) -> dict[str, object]:
    with sqlite3.connect(run / "ledger.sqlite") as connection:
        row = connection.execute("SELECT value FROM facts WHERE name = 'training-books'").fetchone()
    found: dict[str, object] = json.loads(row[0])
    return found


def wait_for_step(coordinator: RoleProcess, step: int) -> None:
    coordinator.wait_for("training", seconds=90.0, matching=lambda event: event["step"] >= step)


@pytest.mark.swarm
def test_a_plan_outlives_its_coordinator_and_a_stage(tmp_path: Path) -> None:
    run = opened(tmp_path / "run", steps=0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with Processes(tmp_path / "logs") as swarm:

        def coordinate() -> RoleProcess:
            return swarm.coordinator(run.folder.path, "--port", port, *FLAGS)

        first = coordinate()
        link = first.ready()["link"]
        hosts = [swarm.host(link, blocks, "--max-threads", "1") for blocks in ("0:1", "1:2")]
        where = ("--join", link, "--state-dir", str(tmp_path / "trainer"), "--host", "127.0.0.1")
        swarm.start("seshu_swarm.peer", "train", *where, "--max-threads", "1")
        wait_for_step(first, 1)
        inject(first, Fault.KILL)
        killed_at = books(run.folder.path)

        second = coordinate()
        opened_again = second.wait_for("training-open", seconds=60.0)
        assert opened_again["plan"] == killed_at["plan"]
        wait_for_step(second, 10)
        # Nobody has the weights of stage 0 any more: those of a checkpoint take their place.
        inject(hosts[0], Fault.KILL)
        swarm.host(link, "0:1", "--max-threads", "1")
        restored = second.wait_for("restored", seconds=90.0)
        assert restored["group"] == 0 and restored["step"] >= 8
        second.wait_for("training-over", seconds=120.0)
        last = second.wait_for(
            "checkpoint", seconds=1.0, matching=lambda event: event["step"] == NUM_STEPS
        )
        second.wait_for("round-open", seconds=30.0)
        assert books(run.folder.path)["num_starts"] == 2
        steps = Counter(e["step"] for e in second.events if e["event"] == "checkpoint")
        assert max(steps.values()) == 1
    published = [e for e in (*first.events, *second.events) if e.get("state") == "published"]
    assert published and run.head == published[-1]["revision"]
    assert packages.verify(run.folder.package(run.head), run.head).about["method"] == "pipeline"
    assert last["state"] in ("published", "passed over", "failed")
