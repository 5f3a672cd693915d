"""A holder in a process of its own, for tests that kill it.

    python -m tests.stores.holding_child KEY_FOLDER ROOT ADDRESS STALL_AFTER_BYTES

It holds every package in ROOT, announces them, and prints one JSON object a line: its peer id, each
request for a file, and that it stalls: after so many bytes of one file it gives no more.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, cast

from seshu_swarm.network import identity
from seshu_swarm.network.daemon import Listen
from seshu_swarm.network.dht import Swarm
from seshu_swarm.records.kinds import ProviderRecord
from seshu_swarm.stores.holder import Holder, HolderPolicy
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.protocol import BLOBS, Chunk
from tests.loopback import RUN_ID


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


class Watched:
    """A channel that says what it is asked, and stands still after so many bytes."""

    def __init__(self, channel: Channel, stall_after: int) -> None:
        self._channel, self._left = channel, stall_after
        self.peer_id = channel.peer_id

    async def receive(self, *args: Any, **kwargs: Any) -> Any:
        asked = await self._channel.receive(*args, **kwargs)
        say(name=asked.request.name, offset=asked.request.offset)
        return asked

    async def send(self, message: Chunk) -> None:
        self._left -= len(message.data)
        if self._left < 0:
            say(stalls=True)
            await asyncio.sleep(3_600)
        await self._channel.send(message)


async def main(key: Path, root: Path, address: str, stall_after: int) -> None:
    swarm = await Swarm.join(
        identity.load_or_create(key),
        run_id=RUN_ID,
        initial_peers=[address],
        listen=Listen("127.0.0.1", 0),
    )
    holder = Holder(
        root,
        policy=HolderPolicy(),
        allow_upload=lambda num_bytes: True,
        on_stored=lambda digest: None,
    )

    async def serve(channel: Channel) -> None:
        await holder.serve(cast(Channel, Watched(channel, stall_after)))

    await swarm.serve(BLOBS, serve)
    for package in root.iterdir():
        await swarm.announce(ProviderRecord(run_id=RUN_ID, digest=package.name))
    say(peer_id=swarm.peer_id)
    await asyncio.sleep(3_600)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
