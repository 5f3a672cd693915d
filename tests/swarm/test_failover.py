"""A conversation outlives the peers that carry it: real processes, real faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from seshu_swarm import checkpoints
from tests.conftest import TinyCheckpoint
from tests.swarms import Event, Fault, Processes, RoleProcess, inject, open_run

pytestmark = pytest.mark.swarm

NUM_TOKENS = 600
TOKENS_BEFORE_THE_FAULT = 20


@pytest.fixture(scope="module")
def run_folder(tiny: TinyCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_run(tiny.folder, tmp_path_factory.mktemp("run") / "run")


@pytest.fixture
def swarm(run_folder: Path, tmp_path: Path) -> Iterator[Processes]:
    with Processes(tmp_path) as processes:
        yield processes


def start(swarm: Processes, run_folder: Path, spans: list[str]) -> tuple[str, list[RoleProcess]]:
    coordinator = swarm.coordinator(run_folder, "--round-seconds", "600")
    link = coordinator.ready()["link"]
    hosts = [swarm.host(link, blocks) for blocks in spans]
    for host in hosts:
        host.ready()
    return link, hosts


def generate(swarm: Processes, link: str, *flags: str) -> RoleProcess:
    where = ("--join", link, "--state-dir", str(swarm.folder / "client"), "--host", "127.0.0.1")
    wanted = ("--prompt", "नमस्ते", "--ignore-end", "--max-new-tokens", str(NUM_TOKENS))
    return swarm.start("seshu_swarm.client", "generate", *where, *wanted, *flags)


def serving(client: RoleProcess, hosts: list[RoleProcess], hop: int) -> RoleProcess:
    """The host that carries a hop of the running generation."""
    token: Event = client.wait_for(
        "token", seconds=30, matching=lambda event: event["count"] >= TOKENS_BEFORE_THE_FAULT
    )
    return next(h for h in hosts if h.ready()["peer_id"] == token["peers"][hop])


def expected(tiny: TinyCheckpoint, facts: Event) -> list[int]:
    whole = checkpoints.load_whole(tiny.folder)
    return whole.generate_greedy(facts["prompt_ids"], max_new_tokens=NUM_TOKENS)


@pytest.mark.parametrize("fault", [Fault.KILL, Fault.PAUSE, Fault.TERMINATE])
def test_losing_one_of_two_equal_hosts_changes_no_token(
    fault: Fault, swarm: Processes, run_folder: Path, tiny: TinyCheckpoint
) -> None:
    link, hosts = start(swarm, run_folder, ["0:2", "2:4", "2:4"])
    client = generate(swarm, link, "--step-seconds", "2")
    inject(serving(client, hosts, 1), fault)
    facts = client.wait_for("generated", seconds=60)
    assert len(facts["recoveries"]) >= 1, "the fault came after the last token"
    assert facts["tokens"] == expected(tiny, facts)


def test_losing_the_only_host_of_a_block_is_named(swarm: Processes, run_folder: Path) -> None:
    link, hosts = start(swarm, run_folder, ["0:2", "2:4"])
    client = generate(swarm, link)
    inject(serving(client, hosts, 1), Fault.KILL)
    assert client.wait(seconds=60) == 61
    assert "no reachable peer hosts block 2" in client.tail()
    assert "Traceback" not in client.tail()


def test_a_peer_alone_does_what_is_lacking(swarm: Processes, run_folder: Path) -> None:
    """Hosts while blocks are thin; trains once every block has two peers."""
    link, _ = start(swarm, run_folder, ["0:4"])
    where = ("--join", link, "--host", "127.0.0.1", "--max-seconds", "4", "--max-threads", "1")
    second = swarm.start("seshu_swarm.peer", *where, "--state-dir", str(swarm.folder / "second"))
    assert second.wait_for("role", seconds=30)["role"] == "host"
    assert second.ready()["blocks"] == "0:4"
    third = swarm.start("seshu_swarm.peer", *where, "--state-dir", str(swarm.folder / "third"))
    assert third.wait_for("role", seconds=30)["role"] == "finetune"
    assert third.wait_for("rows", seconds=30)["language"] == "hi"
    assert third.wait_for("handed-in", seconds=60)["reference"].startswith("swarm://sha256/")
