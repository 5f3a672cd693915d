"""The made-up run served in a process of its own: `python -m seshu_swarm.bench.dashboard.server`."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from seshu_swarm import log, running
from seshu_swarm.bench.dashboard.world import snapshot
from seshu_swarm.dashboard.board import Board
from seshu_swarm.dashboard.serving import listening, serve
from seshu_swarm.dashboard.snapshot import Snapshot
from seshu_swarm.running import Stop


class World:
    """A source whose peers were heard of a moment ago, whenever it is asked."""

    def __init__(self, num_peers: int, num_rounds: int, seed: int) -> None:
        self._began_at = time.time()
        self._made = snapshot(
            num_peers=num_peers, num_rounds=num_rounds, now=self._began_at, seed=seed
        )

    async def snapshot(self) -> Snapshot:
        now = time.time()
        # As in a swarm: each peer signs anew every ten seconds, so that the map changes each time.
        since = now - self._began_at
        peers = tuple(
            replace(peer, heard_at=peer.heard_at + 10 * ((since + k % 10) // 10))
            for k, peer in enumerate(self._made.peers or ())
        )
        return replace(self._made, taken_at=now, peers=peers)

    def file(self, revision: str, name: str) -> Path | None:
        return None


async def _serve(world: World, stop: Stop) -> int:
    watching = asyncio.create_task(_end_with(os.getppid(), stop))
    with listening("127.0.0.1:0") as listener:
        await serve(Board(world), listener, stop)
    watching.cancel()
    return 0


async def _end_with(parent: int, stop: Stop) -> None:
    while os.getppid() == parent:
        await asyncio.sleep(1.0)
    stop.set()


def main(arguments: list[str]) -> int:
    # `Children` asks for JSON lines after these.
    num_peers, num_rounds, seed = map(int, arguments[:3])
    log.configure("bench", "json", verbose=False)
    world = World(num_peers, num_rounds, seed)
    return running.run(lambda stop: _serve(world, stop))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
