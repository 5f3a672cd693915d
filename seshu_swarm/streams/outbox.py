"""Sending without waiting: messages queue up and leave together.

What waits is written in one piece, so that messages of many sessions share a system call. Small urgent
messages overtake bulky ones. A full outbox means that the other side does not read: that is its end.
"""

from __future__ import annotations

import asyncio
from collections import deque

from seshu_swarm.errors import PeerLostError
from seshu_swarm.streams import frames
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.frames import FrameKind
from seshu_swarm.streams.protocol import Message

MAX_WAITING_BYTES = 64 << 20
BULK_AT_ONCE_BYTES = 64 << 10


class Outbox:
    """`put` at any time; `run` writes until `close` or the stream's end."""

    def __init__(self, stream: Channel) -> None:
        self.stream = stream
        self.is_closed = False
        self._urgent: deque[bytes] = deque()
        self._bulk: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()

    def put(self, message: Message, *, is_bulk: bool = False) -> None:
        """Raises PeerLostError when the other side has stopped reading; nothing after the end."""
        if self.is_closed:
            return
        data = frames.encode(FrameKind.MESSAGE, message.model_dump())
        self._waiting_bytes += len(data)
        if self._waiting_bytes > MAX_WAITING_BYTES:
            self.close()
            self.stream.abort()
            raise PeerLostError(f"{self.stream} does not read: {self._waiting_bytes} bytes wait")
        (self._bulk if is_bulk else self._urgent).append(data)
        self._wake.set()

    def end(self) -> None:
        """The final frame, behind all that waits."""
        self._bulk.append(frames.encode(FrameKind.FINAL, None))
        self._waiting_bytes += len(self._bulk[-1])
        self._wake.set()

    async def run(self) -> None:
        """Raises PeerLostError when the stream breaks."""
        try:
            while not self.is_closed:
                await self._wake.wait()
                self._wake.clear()
                while (self._urgent or self._bulk) and not self.is_closed:
                    data = b"".join(self._next())
                    self._waiting_bytes -= len(data)
                    await self.stream.write(data)
        finally:
            self.close()

    def _next(self) -> list[bytes]:
        """Everything urgent; else some of the bulk, so that what is urgent need not wait for long."""
        if self._urgent:
            taken = list(self._urgent)
            self._urgent.clear()
            return taken
        taken, size = [], 0
        while self._bulk and size < BULK_AT_ONCE_BYTES:
            taken.append(self._bulk.popleft())
            size += len(taken[-1])
        return taken

    def close(self) -> None:
        self.is_closed = True
        self._wake.set()
