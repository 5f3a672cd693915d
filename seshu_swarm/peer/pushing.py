"""What this peer sends to other peers: one stream to each, shared by all sessions.

Everything goes one way: what comes back from there comes over that peer's own stream. A stream that
breaks is opened once more, and both ends of its edges compare positions; a peer that cannot be reached
at all is reported.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from seshu_swarm.channel import Channel
from seshu_swarm.dht import Swarm
from seshu_swarm.errors import PeerError, PeerLostError
from seshu_swarm.outbox import Outbox
from seshu_swarm.protocol import Message
from seshu_swarm.session_messages import PUSHES

logger = logging.getLogger(__name__)

DIAL_SECONDS = 3.0
FOREVER_SECONDS = 10_000_000.0


class Pushes:
    """`send(peer, message)` at any time. `lost(peer)` is called when a peer cannot be reached,
    `again(peer)` when a broken stream stands again."""

    def __init__(
        self, swarm: Swarm, *, lost: Callable[[str], None], again: Callable[[str], None]
    ) -> None:
        self._swarm, self._lost, self._again = swarm, lost, again
        self._waiting: dict[str, list[Message]] = {}
        self._outboxes: dict[str, Outbox] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def send(self, peer: str, message: Message) -> None:
        outbox = self._outboxes.get(peer)
        if outbox is not None and not outbox.is_closed:
            outbox.put(message)
            return
        self._waiting.setdefault(peer, []).append(message)
        if peer not in self._tasks or self._tasks[peer].done():
            self._tasks[peer] = asyncio.create_task(self._run(peer))

    async def _run(self, peer: str) -> None:
        """Until the peer is out of reach: a stream, and after it broke another one."""
        has_stood = False
        while True:
            try:
                stream = await self._swarm.open(peer, PUSHES, seconds=DIAL_SECONDS)
            except PeerError as error:
                logger.info("cannot push to peer …%s: %s", peer[-6:], error)
                self._waiting.pop(peer, None)
                self._lost(peer)
                return
            outbox = self._outboxes[peer] = Outbox(stream)
            for message in self._waiting.pop(peer, []):
                outbox.put(message)
            if has_stood:
                self._again(peer)
            has_stood = True
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(outbox.run())
                    both.create_task(_watch(stream))
            except* PeerError as errors:
                logger.debug("push stream to …%s broke: %s", peer[-6:], errors.exceptions[0])
            finally:
                stream.close()

    async def close(self) -> None:
        """Stop sending; what waits is lost."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


async def _watch(stream: Channel) -> None:
    """Nothing comes back on this stream but its end, which writing alone would notice too late."""
    await stream.receive_one_of({}, seconds=FOREVER_SECONDS, what="the end")
    raise PeerLostError(f"{stream} ended the stream")
