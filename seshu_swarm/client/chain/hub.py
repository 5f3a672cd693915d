"""Pieces of all sessions of this process, over one stream to and from each peer.

A session's control streams would do; but pieces that travel together cost the p2p daemons one message
instead of one for each session.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import ClassVar

from seshu_swarm.exchange import edges
from seshu_swarm.exchange.edges import Letter
from seshu_swarm.exchange.pushing import Pushes
from seshu_swarm.exchange.session_messages import BETWEEN_PARTS, PUSHES
from seshu_swarm.network.dht import Swarm
from seshu_swarm.streams.channel import IDLE_SECONDS, Channel
from seshu_swarm.streams.protocol import Message

logger = logging.getLogger(__name__)

# Whoever took no pushes is asked again after so long.
UNREACHABLE_SECONDS = 60.0

# A peer id and what its part says.
Listener = Callable[[str, Letter], None]


class Hub:
    """One for each swarm that this process has joined: `await Hub.of(swarm)`."""

    _hubs: ClassVar[dict[Swarm, Hub]] = {}  # of swarms that have not been left

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm
        self._pushes = Pushes(swarm, lost=self._lost, again=_nothing)
        self._unreachable: dict[str, float] = {}
        self._listeners: dict[bytes, Listener] = {}

    @classmethod
    async def of(cls, swarm: Swarm) -> Hub:
        hub = cls._hubs.get(swarm)
        if hub is None:
            hub = cls._hubs[swarm] = cls(swarm)
            swarm.on_leave(hub.close)
            await swarm.serve(PUSHES, hub.serve)
        return hub

    async def close(self) -> None:
        """With the swarm."""
        self._hubs.pop(self._swarm, None)
        await self._pushes.close()

    def listen(self, part_id: bytes, listener: Listener) -> None:
        """Hear what this part pushes, until `leave`."""
        self._listeners[part_id] = listener

    def leave(self, part_id: bytes) -> None:
        self._listeners.pop(part_id, None)

    def send(self, peer: str, message: Message) -> bool:
        """False where the peer takes no pushes: use the control stream."""
        if time.monotonic() < self._unreachable.get(peer, 0.0):
            return False
        self._pushes.send(peer, message)
        return True

    async def serve(self, channel: Channel) -> None:
        """What a peer pushes to this client; for parts that are unknown here it means nothing."""
        while message := await channel.receive_one_of(
            BETWEEN_PARTS, seconds=IDLE_SECONDS, what="pieces"
        ):
            for letter in edges.letters(message):
                listener = self._listeners.get(letter.sender)
                if listener is not None:
                    listener(channel.peer_id, letter)

    def _lost(self, peer: str) -> None:
        self._unreachable[peer] = time.monotonic() + UNREACHABLE_SECONDS


def _nothing(peer: str) -> None:
    """What was lost with a stream is asked for when a step is overdue."""
