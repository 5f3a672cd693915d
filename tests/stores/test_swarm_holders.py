"""Several holders, each a process of its own: one is killed in the middle of a file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seshu_swarm import packages
from seshu_swarm.errors import PeerLostError
from seshu_swarm.network.dht import Swarm
from seshu_swarm.stores.asking import SHORT
from seshu_swarm.stores.references import Reference
from seshu_swarm.stores.swarm import SwarmStore
from seshu_swarm.streams.protocol import CHUNK_BYTES
from tests.loopback import Loopback

pytestmark = pytest.mark.swarm

SIZE_BYTES = 10 * CHUNK_BYTES + 12_345


class HoldingChild:
    """The process and what it says; `kill` is kill -9 of it and its daemon."""

    def __init__(self, folder: Path, root: Path, address: str, stall_after: int) -> None:
        arguments = [str(folder), str(root), address, str(stall_after)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stores.holding_child", *arguments],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            text=True,
            start_new_session=True,
        )
        self.heard: list[dict[str, Any]] = []
        self.peer_id = str(self.wait_for("peer_id")["peer_id"])

    def wait_for(self, key: str) -> dict[str, Any]:
        """The next line with that key; those before it are kept in `heard`."""
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            said: dict[str, Any] = json.loads(line)
            self.heard.append(said)
            if key in said:
                return said
        raise AssertionError(f"the holder ended without {key}")

    def requests(self, name: str) -> list[int]:
        """First bytes that were asked for; ends the process."""
        self.kill()
        assert self._process.stdout is not None
        self.heard += [json.loads(line) for line in self._process.stdout]
        return [said["offset"] for said in self.heard if said.get("name") == name]

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    def close(self) -> None:
        self.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture(scope="module")
def fetcher(loopback: Loopback) -> Swarm:
    return loopback.join("fetcher")


@pytest.fixture(scope="module")
def data() -> bytes:
    return random.Random(7).randbytes(SIZE_BYTES)


@pytest.fixture
def start(
    loopback: Loopback, fetcher: Swarm, tmp_path: Path
) -> Iterator[Callable[..., HoldingChild]]:
    children: list[HoldingChild] = []

    def one(root: Path, *, stall_after: int = 1 << 40) -> HoldingChild:
        folder = tmp_path / f"key-{len(children)}"

        async def starting() -> HoldingChild:
            address = (await fetcher.addresses())[0]
            # In a thread: the fetcher, whom it joins, answers meanwhile.
            return await asyncio.to_thread(HoldingChild, folder, root, address, stall_after)

        children.append(loopback.run(starting()))
        return children[-1]

    yield one
    for child in children:
        child.close()


def package_in(root: Path, data: bytes) -> str:
    fresh = root / "fresh"
    fresh.mkdir(parents=True)
    (fresh / "big.bin").write_bytes(data)
    digest = packages.seal(fresh, "checkpoint", ["big.bin"], {})
    fresh.rename(root / digest)
    return digest


async def written(into: Path, num_bytes: int) -> None:
    """Until all that was given lies on the disk: what is under way dies with its giver."""
    while (into / "big.bin.partial").stat().st_size < num_bytes:
        await asyncio.sleep(0.01)


def test_another_holder_goes_on_at_the_byte_where_one_was_killed(
    loopback: Loopback,
    fetcher: Swarm,
    start: Callable[..., HoldingChild],
    tmp_path: Path,
    data: bytes,
) -> None:
    digest = package_in(tmp_path / "held", data)
    dying = start(tmp_path / "held", stall_after=4 * CHUNK_BYTES)
    second = start(tmp_path / "held")
    into = tmp_path / "into"

    async def story() -> float:
        # The stranger is asked before the hint: the dying one gives the first half.
        store = SwarmStore(fetcher, [second.peer_id])
        fetching = asyncio.create_task(store.fetch(Reference.of_swarm(digest), into))
        await asyncio.to_thread(dying.wait_for, "stalls")
        await written(into, 4 * CHUNK_BYTES)
        began = time.monotonic()
        await asyncio.to_thread(dying.kill)
        await fetching
        return time.monotonic() - began

    # Not a time-out that tells: the connection ends with the process.
    assert loopback.run(story()) < SHORT.silent_seconds
    packages.verify(into, digest)
    assert (into / "big.bin").read_bytes() == data
    assert dying.requests("big.bin") == [0]
    assert second.requests("big.bin") == [4 * CHUNK_BYTES]
    assert {p.name for p in into.iterdir()} == {"big.bin", packages.MANIFEST}


def test_what_a_killed_holder_gave_outlives_the_fetch_and_serves_the_next_one(
    loopback: Loopback,
    fetcher: Swarm,
    start: Callable[..., HoldingChild],
    tmp_path: Path,
    data: bytes,
) -> None:
    digest = package_in(tmp_path / "held", data[::-1])
    only = start(tmp_path / "held", stall_after=3 * CHUNK_BYTES)
    into = tmp_path / "into"

    async def lost() -> None:
        fetching = asyncio.create_task(SwarmStore(fetcher).fetch(Reference.of_swarm(digest), into))
        await asyncio.to_thread(only.wait_for, "stalls")
        await written(into, 3 * CHUNK_BYTES)
        await asyncio.to_thread(only.kill)
        with pytest.raises(PeerLostError, match="goes on where it stopped"):
            await fetching

    loopback.run(lost())
    assert (into / "big.bin.partial").stat().st_size == 3 * CHUNK_BYTES
    later = start(tmp_path / "held")
    loopback.run(SwarmStore(fetcher, [later.peer_id]).fetch(Reference.of_swarm(digest), into))
    packages.verify(into, digest)
    assert later.requests("big.bin") == [3 * CHUNK_BYTES]
