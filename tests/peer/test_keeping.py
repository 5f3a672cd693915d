"""Adapters that a host keeps for donors: found again, announced, dropped oldest first."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from seshu_swarm import packages
from seshu_swarm.packages import MANIFEST
from seshu_swarm.peer.keeping import MAX_ANNOUNCED, Keeper, Kept, kept_in, to_drop
from seshu_swarm.records import uids
from seshu_swarm.records.kinds import ProviderRecord
from tests.loopback import RUN_ID, Loopback

DAY_SECONDS = 86_400.0


def leave(root: Path, text: str, *, kind: str = "adapter", age_seconds: float = 0.0) -> str:
    """A package as a holder leaves it, `age_seconds` ago; its digest."""
    folder = root / "new"
    folder.mkdir(parents=True)
    (folder / "weights").write_text(text)
    digest = packages.seal(folder, kind, ["weights"], {})
    then = time.time() - age_seconds
    os.utime(folder / MANIFEST, (then, then))
    folder.rename(root / digest)
    return digest


def test_too_old_ones_and_the_oldest_beyond_the_budget_are_dropped() -> None:
    now, week = 1e9, 7 * DAY_SECONDS
    kept = [Kept(name, 40, now - age) for name, age in (("b", 2.0), ("a", 1.0), ("c", 3.0))]
    old = Kept("old", 1, now - week - 1)
    assert to_drop([old, *kept], now=now) == [old]
    assert [one.digest for one in to_drop(kept, now=now, max_bytes=80)] == ["c"]
    assert [one.digest for one in to_drop(kept, now=now, max_bytes=79)] == ["b", "c"]
    assert not to_drop([Kept("edge", 1, now - week)], now=now)


def test_only_whole_adapters_are_kept_ones(tmp_path: Path) -> None:
    adapter = leave(tmp_path, "x")
    leave(tmp_path, "y", kind="checkpoint")
    (tmp_path / "half").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / MANIFEST).write_text("{")
    assert [one.digest for one in kept_in(tmp_path)] == [adapter]
    assert kept_in(tmp_path / "absent") == []


@pytest.fixture
def loopback(tmp_path: Path) -> Iterator[Loopback]:
    found = Loopback(tmp_path / "peers")
    yield found
    found.close()


def test_a_host_that_starts_again_announces_what_it_keeps_and_drops_the_old(
    loopback: Loopback, tmp_path: Path
) -> None:
    root = tmp_path / "packages"
    old, base = leave(root, "old", age_seconds=8 * DAY_SECONDS), leave(root, "b", kind="checkpoint")
    kept = leave(root, "kept", age_seconds=6 * DAY_SECONDS)
    host, reader = loopback.join("host"), loopback.join("reader")
    keeper = Keeper(root, host)

    async def story() -> dict[str, list[str]]:
        await keeper.tidy()
        keeper.add("5" * 64)
        await keeper.announce()
        keys = {name: uids.provider_key(RUN_ID, name) for name in (old, base, kept, "5" * 64)}
        return {
            name: [one.owner for one in await reader.lookup([key], ProviderRecord)]
            for name, key in keys.items()
        }

    found = loopback.run(story())
    assert found == {old: [], base: [], kept: [host.peer_id], "5" * 64: [host.peer_id]}
    assert not (root / old).exists()
    assert (root / base).is_dir() and (root / kept / "weights").is_file()


def test_a_host_announces_no_more_than_it_can(loopback: Loopback, tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, loopback.join("host"))
    for number in range(MAX_ANNOUNCED + 5):
        keeper.add(f"{number:064x}")
    assert len(keeper.announced) == MAX_ANNOUNCED
