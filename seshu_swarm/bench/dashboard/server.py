"""The made-up run served from a folder, in a process of its own, as a coordinator serves it:
`python -m seshu_swarm.bench.dashboard.server PEERS ROUNDS SEED`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from seshu_swarm.bench.dashboard.folder import note_peers, write_folder
from seshu_swarm.bench.dashboard.world import snapshot
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.web.books import Books
from seshu_swarm.dashboard.board import Board
from seshu_swarm.dashboard.serving import listening, serve
from seshu_swarm.dashboard.snapshot import Snapshot
from seshu_swarm.program import log, running
from seshu_swarm.program.running import Stop

WATCH_SECONDS = 10.0


async def _serve(made: Snapshot, place: Path, stop: Stop) -> int:
    folder = write_folder(place, made)
    ledger = Ledger(folder.ledger)

    async def watch() -> None:
        # As in a swarm: everybody has signed anew since the last look.
        now = time.time()
        since = now - made.taken_at
        peers = tuple(replace(p, heard_at=p.heard_at + since) for p in made.peers or ())
        note_peers(ledger, replace(made, taken_at=now, peers=peers))

    async def follow(parent: int) -> None:
        while os.getppid() == parent:
            await asyncio.sleep(1.0)
        stop.set()

    beside = asyncio.gather(running.repeat(stop, WATCH_SECONDS, watch), follow(os.getppid()))
    with listening("127.0.0.1:0") as listener:
        await serve(Board(Books(folder, ledger)), listener, stop)
    beside.cancel()
    return 0


def main(arguments: list[str]) -> int:
    # `Children` asks for JSON lines after these.
    num_peers, num_rounds, seed = map(int, arguments[:3])
    log.configure("bench", "json", verbose=False)
    made = snapshot(num_peers=num_peers, num_rounds=num_rounds, now=time.time(), seed=seed)
    with tempfile.TemporaryDirectory() as place:
        return running.run(lambda stop: _serve(made, Path(place) / "run", stop))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
