"""A donor at home, in a process of its own: leaves a package with a host and fetches it again.

    python -m tests.nat_visitor LINK STATE_DIR HOST FOLDER DIGEST

Prints one JSON object: how others reach it, how long each way took, and what it fetched.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from seshu_swarm import packages
from seshu_swarm.program.config import JoinConfig
from seshu_swarm.run import joining
from seshu_swarm.stores.references import Reference
from seshu_swarm.stores.swarm import SwarmStore


async def visit(link: str, state_dir: Path, host: str, folder: Path, digest: str) -> None:
    joined = await joining.join(JoinConfig(join=link, state_dir=str(state_dir)))
    try:
        store = SwarmStore(joined.swarm, [host])
        began = time.monotonic()
        await store.push(folder, digest)
        pushed = time.monotonic()
        await store.fetch(Reference.of_swarm(digest), state_dir / "again")
        fetched = time.monotonic()
        packages.verify(state_dir / "again", digest)
        facts = {
            "event": "visited",
            "reach": joined.swarm.reach.kind,
            "addresses": await joined.swarm.addresses(),
            "push_seconds": pushed - began,
            "fetch_seconds": fetched - pushed,
        }
    finally:
        await joined.swarm.leave()
    print(json.dumps(facts), flush=True)


def main() -> None:
    link, state_dir, host, folder, digest = sys.argv[1:6]
    asyncio.run(visit(link, Path(state_dir), host, Path(folder), digest))


if __name__ == "__main__":
    main()
