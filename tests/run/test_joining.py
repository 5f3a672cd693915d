"""Into the swarm by a link, as every role does it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seshu_swarm.errors import FingerprintError, LinkError, UnreachableError, UsageError
from seshu_swarm.network.dht import Swarm
from seshu_swarm.network.link import Link
from seshu_swarm.program.config import JoinConfig
from seshu_swarm.run import joining
from seshu_swarm.run.joining import ADDRESSES_FILE, Joined, remember, remembered
from tests.loopback import RUN_ID, Loopback
from tests.samples import run_record


@pytest.fixture(scope="module")
def coordinator(loopback: Loopback) -> Swarm:
    swarm = loopback.join("coordinator")
    assert loopback.run(swarm.announce(run_record(loopback.identity("coordinator"))))
    return swarm


def link(loopback: Loopback, *, key: str = "", peers: tuple[str, ...] = ()) -> str:
    key = key or loopback.identity("coordinator").fingerprint
    return str(Link(RUN_ID, key, peers or tuple(loopback.addresses)))


def settings(text: str, state_dir: Path) -> JoinConfig:
    return JoinConfig(join=text, state_dir=str(state_dir), host="127.0.0.1")


def join(loopback: Loopback, text: str, state_dir: Path) -> Joined:
    return loopback.run(joining.join(settings(text, state_dir)))


def test_a_link_is_all_that_is_needed(
    loopback: Loopback, coordinator: Swarm, tmp_path: Path
) -> None:
    joined = join(loopback, link(loopback), tmp_path / "me")
    assert joined.coordinator == coordinator.peer_id
    assert joined.run.coordinator == loopback.identity("coordinator").fingerprint
    assert joined.package_folder("ab" * 32).is_relative_to(tmp_path / "me")
    known = remembered(tmp_path / "me", RUN_ID)
    assert any(address.endswith(coordinator.peer_id) for address in known)
    loopback.run(joined.swarm.leave())


def test_addresses_that_worked_before_help_when_the_links_peer_is_gone(
    loopback: Loopback, coordinator: Swarm, tmp_path: Path, free_port: int
) -> None:
    dead = f"/ip4/127.0.0.1/tcp/{free_port}/p2p/{loopback.identity('nobody').peer_id}"
    remember(tmp_path, RUN_ID, loopback.addresses)
    joined = join(loopback, link(loopback, peers=(dead,)), tmp_path)
    assert joined.coordinator == coordinator.peer_id
    loopback.run(joined.swarm.leave())


@pytest.mark.parametrize(
    ("text", "error"), [("", UsageError), ("seshu://", LinkError), ("hello", LinkError)]
)
def test_without_a_good_link_nothing_is_started_or_written(
    loopback: Loopback, tmp_path: Path, text: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match="copy the"):
        join(loopback, text, tmp_path / "me")
    assert not (tmp_path / "me").exists()


def test_a_link_with_another_key_leaves_nothing_running(
    loopback: Loopback, coordinator: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seshu_swarm.network.dht.RUN_RECORD_SECONDS", 0.3)
    left: list[str] = []
    leave = Swarm.leave

    async def noted(swarm: Swarm) -> None:
        left.append(swarm.peer_id)
        await leave(swarm)

    monkeypatch.setattr(Swarm, "leave", noted)
    with pytest.raises(FingerprintError):
        join(loopback, link(loopback, key="0" * 64), tmp_path / "me")
    assert len(left) == 1 and not (tmp_path / "me" / ADDRESSES_FILE).exists()


def test_a_swarm_that_is_gone_is_said(loopback: Loopback, tmp_path: Path, free_port: int) -> None:
    dead = f"/ip4/127.0.0.1/tcp/{free_port}/p2p/{loopback.identity('nobody').peer_id}"
    with pytest.raises(UnreachableError):
        join(loopback, link(loopback, peers=(dead,)), tmp_path / "me")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"test-run": 3}', '{"other": ["x"]}', "null"])
def test_a_broken_memory_of_addresses_is_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / ADDRESSES_FILE).write_text(text)
    assert remembered(tmp_path, RUN_ID) == []


def test_addresses_are_few_and_belong_to_a_run(tmp_path: Path) -> None:
    many = [f"/ip4/127.0.0.1/tcp/{port}" for port in range(40)]
    remember(tmp_path, RUN_ID, many)
    assert remembered(tmp_path, RUN_ID) == many[: joining.MAX_ADDRESSES]
    assert remembered(tmp_path, "other") == []
    assert list(json.loads((tmp_path / ADDRESSES_FILE).read_bytes())) == [RUN_ID]
