"""Pieces of all sessions of this process, over one stream to and from each peer.

A session's control streams would do; but pieces that travel together cost the p2p daemons one message
instead of one for each session.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ClassVar
from weakref import WeakKeyDictionary

from seshu_swarm.channel import IDLE_SECONDS, Channel
from seshu_swarm.dht import Swarm
from seshu_swarm.protocol import Message
from seshu_swarm.pushing import Pushes
from seshu_swarm.session_messages import BETWEEN_PARTS, PUSHES

logger = logging.getLogger(__name__)

# A peer id and what its part says.
Listener = Callable[[str, Message], None]


class Hub:
    """One for each swarm that this process has joined: `await Hub.of(swarm)`."""

    _hubs: ClassVar[WeakKeyDictionary[Swarm, Hub]] = WeakKeyDictionary()

    def __init__(self, swarm: Swarm) -> None:
        self._pushes = Pushes(swarm, lost=self._lost, again=_nothing)
        self._unreachable: set[str] = set()
        self._listeners: dict[bytes, Listener] = {}

    @classmethod
    async def of(cls, swarm: Swarm) -> Hub:
        hub = cls._hubs.get(swarm)
        if hub is None:
            hub = cls._hubs[swarm] = cls(swarm)
            await swarm.serve(PUSHES, hub.serve)
        return hub

    def listen(self, part_id: bytes, listener: Listener) -> None:
        """Hear what this part pushes, until `leave`."""
        self._listeners[part_id] = listener

    def leave(self, part_id: bytes) -> None:
        self._listeners.pop(part_id, None)

    def send(self, peer: str, message: Message) -> bool:
        """False where the peer takes no pushes: use the control stream."""
        if peer in self._unreachable:
            return False
        self._pushes.send(peer, message)
        return True

    async def serve(self, channel: Channel) -> None:
        """What a peer pushes to this client; for parts that are unknown here it means nothing."""
        while message := await channel.receive_one_of(
            BETWEEN_PARTS, seconds=IDLE_SECONDS, what="pieces"
        ):
            listener = self._listeners.get(message.sender)  # type: ignore[attr-defined]
            if listener is not None:
                listener(channel.peer_id, message)

    def _lost(self, peer: str) -> None:
        self._unreachable.add(peer)


def _nothing(peer: str) -> None:
    """What was lost with a stream is asked for when a step is overdue."""
