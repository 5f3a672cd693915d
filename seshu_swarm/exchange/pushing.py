"""What this peer sends to other peers: one stream to each, shared by all sessions.

Everything goes one way: what comes back from there comes over that peer's own stream. A stream that
breaks is opened once more, and both ends of its edges compare positions; a peer that cannot be reached
at all is reported.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from seshu_swarm.errors import PeerError, PeerLostError
from seshu_swarm.exchange import edges
from seshu_swarm.exchange.session_messages import PUSHES
from seshu_swarm.network.dht import Swarm
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.outbox import Outbox
from seshu_swarm.streams.protocol import Message

logger = logging.getLogger(__name__)

DIAL_SECONDS = 3.0
# A peer that ended so many streams within a second takes none.
MAX_AT_ONCE = 5
FOREVER_SECONDS = 10_000_000.0


class Pushes:
    """`send(peer, message)` at any time. `lost(peer)` is called when a peer cannot be reached,
    `again(peer)` when a broken stream stands again."""

    def __init__(
        self, swarm: Swarm, *, lost: Callable[[str], None], again: Callable[[str], None]
    ) -> None:
        self._swarm, self._lost, self._again = swarm, lost, again
        self._leaving: dict[str, list[Message]] = {}
        self._waiting: dict[str, list[Message]] = {}
        self._outboxes: dict[str, Outbox] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._is_closed = False

    def send(self, peer: str, message: Message) -> None:
        """What is sent in one turn of the event loop leaves together; nothing after `close`."""
        if self._is_closed:
            return
        if not self._leaving:
            asyncio.get_running_loop().call_soon(self._leave)
        self._leaving.setdefault(peer, []).append(message)

    def _leave(self) -> None:
        leaving, self._leaving = self._leaving, {}
        if self._is_closed:
            return
        for peer, messages in leaving.items():
            for message in edges.together(messages):
                self._put(peer, message)

    def _put(self, peer: str, message: Message) -> None:
        outbox = self._outboxes.get(peer)
        if outbox is not None and not outbox.is_closed:
            try:
                outbox.put(message)
            except PeerLostError as error:
                logger.info("%s", error)  # what is lost is sent again over the next stream
            return
        self._waiting.setdefault(peer, []).append(message)
        if peer not in self._tasks or self._tasks[peer].done():
            self._tasks[peer] = asyncio.create_task(self._run(peer))

    async def _run(self, peer: str) -> None:
        """Until the peer is out of reach, or ends every stream at once: a stream, and after it broke
        another one."""
        opened_at: list[float] = []
        while not _ends_at_once(opened_at):
            try:
                stream = await self._swarm.open(peer, PUSHES, seconds=DIAL_SECONDS)
            except (PeerError, ValueError) as error:
                logger.info("cannot push to peer …%s: %s", peer[-6:], error)
                break
            outbox = self._outboxes[peer] = Outbox(stream)
            for message in self._waiting.pop(peer, []):
                self._put(peer, message)
            if opened_at:
                self._again(peer)
            opened_at = [*opened_at, time.monotonic()][-MAX_AT_ONCE:]
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(outbox.run())
                    both.create_task(_watch(stream))
            except* PeerError as errors:
                logger.debug("push stream to …%s broke: %s", peer[-6:], errors.exceptions[0])
            finally:
                stream.close()
        self._waiting.pop(peer, None)
        self._outboxes.pop(peer, None)
        del self._tasks[peer]
        self._lost(peer)

    async def close(self) -> None:
        """Stop sending; what waits is lost."""
        self._is_closed = True
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


def _ends_at_once(opened_at: list[float]) -> bool:
    return len(opened_at) == MAX_AT_ONCE and time.monotonic() - opened_at[0] < 1.0


async def _watch(stream: Channel) -> None:
    """Nothing comes back on this stream but its end, which writing alone would notice too late."""
    await stream.receive_one_of({}, seconds=FOREVER_SECONDS, what="the end")
    raise PeerLostError(f"{stream} ended the stream")
