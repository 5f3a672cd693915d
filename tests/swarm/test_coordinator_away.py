"""The coordinator is killed: hosts serve on, users come and go, and the round is taken up again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import TinyCheckpoint
from tests.swarm.test_failover import expected, generate
from tests.swarms import Fault, Processes, RoleProcess, inject, open_run

pytestmark = pytest.mark.swarm


@pytest.fixture
def run_folder(tiny: TinyCheckpoint, tmp_path: Path) -> Path:
    return open_run(tiny.folder, tmp_path / "run")


def donate(swarm: Processes, link: str) -> RoleProcess:
    where = ("--join", link, "--host", "127.0.0.1", "--state-dir", str(swarm.folder / "donor"))
    brief = ("--language", "hi", "--max-seconds", "6", "--max-threads", "1")
    return swarm.start("seshu_swarm.peer", "finetune", *where, *brief)


def test_a_killed_coordinator_leaves_a_swarm_and_comes_back(
    tiny: TinyCheckpoint, run_folder: Path, tmp_path: Path, free_port: int
) -> None:
    with Processes(tmp_path / "swarm") as swarm:
        flags = ("--close-after", "1", "--rounds", "1", "--port", str(free_port))
        coordinator = swarm.coordinator(run_folder, *flags)
        link = coordinator.ready()["link"]
        hosts = [swarm.host(link, "0:4"), swarm.host(link, "0:4")]
        for host in hosts:
            host.ready()
        # Once in the swarm, a client remembers more addresses than the link names.
        assert generate(swarm, link).wait(seconds=60) == 0
        donor = donate(swarm, link)
        coordinator.wait_for("phase", seconds=90, matching=lambda e: e["phase"] == "selecting")
        inject(coordinator, Fault.KILL)
        coordinator.wait(seconds=5)

        client = generate(swarm, link)
        facts = client.wait_for("generated", seconds=60)
        assert facts["tokens"] == expected(tiny, facts)

        again = swarm.coordinator(run_folder, *flags)
        assert again.ready()["link"].split("&")[0] == link.split("&")[0]
        outcome = again.wait_for("round", seconds=120)
        assert outcome["round"] == 1 and len(outcome["adapters"]) == 1
        verdict = donor.wait_for("verdict", seconds=60)
        assert verdict["state"] == ("accepted" if outcome["state"] == "published" else "rejected")
