"""Two peers behind routers of their own, who cannot dial one another, work together through a third."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from seshu_swarm import checkpoints, packages
from tests import namespaces
from tests.conftest import TinyCheckpoint
from tests.forked import NETWORK_NAMESPACE
from tests.namespaces import PUBLIC_ADDRESS, Village
from tests.swarms import Processes, RoleProcess, open_run

OBSTACLE = namespaces.obstacle()
pytestmark = [
    pytest.mark.swarm,
    pytest.mark.skipif(OBSTACLE is not None, reason=str(OBSTACLE)),
]

NUM_TOKENS = 40
PACKAGE_BYTES = 1_000_000


@pytest.fixture(scope="module")
def village() -> Iterator[Village]:
    with namespaces.village() as built:
        yield built


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Processes]:
    with Processes(tmp_path) as processes:
        yield processes


class Homes:
    """Starts roles inside namespaces."""

    def __init__(self, swarm: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
        self._swarm, self._patch = swarm, monkeypatch

    def start(self, namespace: str, module: str, *arguments: str) -> RoleProcess:
        with self._patch.context() as patch:
            patch.setenv(NETWORK_NAMESPACE, namespace)
            return self._swarm.start(module, *arguments)


def reaches(village: Village, source: str, address: str, port: int) -> bool:
    """Whether a TCP connection from one namespace to an address comes to stand."""
    program = f"""
import socket
try:
    socket.create_connection(({address!r}, {port}), 1.5).close()
    print("yes")
except OSError as error:
    print("no", error)
"""
    return village.run(source, program) == "yes"


def adapter_package(folder: Path) -> str:
    """Digest of a package as a donor would leave it."""
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(bytes(range(250)) * (PACKAGE_BYTES // 250))
    (folder / "adapter_config.json").write_text(json.dumps({"r": 8}))
    names = ["adapter_config.json", "adapter_model.safetensors"]
    return packages.seal(folder, "adapter", names, {})


def test_two_homes_exchange_steps_and_an_adapter_through_a_third(
    village: Village,
    swarm: Processes,
    tiny: TinyCheckpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    homes = Homes(swarm, monkeypatch)
    run = open_run(tiny.folder, tmp_path / "run")
    coordinator = homes.start(
        village.public,
        "seshu_swarm.coordinator",
        *("run", "--state-dir", str(run), "--host", PUBLIC_ADDRESS, "--round-seconds", "600"),
        *("--max-threads", "1"),
    )
    link = coordinator.ready()["link"]
    where = ("--join", link, "--port", "4100", "--state-dir")
    host = homes.start(
        village.first, "seshu_swarm.peer", "host", *where, str(tmp_path / "host"), "--blocks", "0:4"
    )
    host_id = host.ready()["peer_id"]

    assert not reaches(village, village.second, "11.0.1.1", 4100), "the homes must be apart"
    assert not reaches(village, village.public, "11.0.1.1", 4100), "the router must let nobody in"
    assert host.log.read_text().count("others cannot dial this peer") == 1

    folder = tmp_path / "adapter"
    digest = adapter_package(folder)
    visitor = homes.start(
        village.second,
        "tests.nat_visitor",
        *(link, str(tmp_path / "visitor"), host_id, str(folder), digest),
    )
    client = homes.start(
        village.second,
        "seshu_swarm.client",
        *("generate", "--join", link, "--state-dir", str(tmp_path / "client")),
        *("--prompt", "नमस्ते", "--ignore-end", "--max-new-tokens", str(NUM_TOKENS)),
    )
    facts = client.wait_for("generated", seconds=60)
    whole = checkpoints.load_whole(tiny.folder)
    expected = whole.generate_greedy(facts["prompt_ids"], max_new_tokens=NUM_TOKENS)
    assert facts["tokens"] == expected
    assert client.log.read_text().count("others cannot dial this peer") == 1

    visit = visitor.wait_for("visited", seconds=60)
    assert visit["reach"] == "relayed"
    assert all("/p2p-circuit/" in address for address in visit["addresses"])
    again = (tmp_path / "visitor" / "again" / "adapter_model.safetensors").read_bytes()
    assert again == (folder / "adapter_model.safetensors").read_bytes()
